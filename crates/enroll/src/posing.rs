//! Where the frames to learn from are posed.

use std::time::Duration;

use face::FaceModel;
use rayon::prelude::*;
use track::{Aligned, Exposure, Unknowns, align_step};
use types::{Code, Feature, FeatureError, HeadPose, LEARNED_DIMS, POSE_DIMS, TORSO_DIMS};

use crate::clock::Clock;
use crate::observing::Seen;

/// Before this share of the training the field is too vague to align anything with.
const FROM: f32 = 0.12;
/// A frame is aligned again when its turn comes and this share of the training has passed.
const STALE_AFTER: f32 = 0.14;
/// Most of the time since [`FROM`] that alignment may take, where time is what is budgeted.
const SHARE: f32 = 0.15;
/// Numbers of a frame in a checkpoint: whether and when it was aligned, trust, pose, torso, exposure.
const ROW: usize = 3 + POSE_DIMS + TORSO_DIMS + 6;

/// Pose and torso of every frame: as measured at first, then moved to where the field says.
///
/// A frame is aligned just before it is learned from, so none is aligned in vain, and short
/// trainings align what they can afford.
pub(crate) struct Posing<'a> {
    seen: &'a [Seen],
    /// Where each frame was put last, and after which share of the training.
    aligned: Vec<Option<(Aligned, f32)>>,
    /// Mean exposure of those.
    light: Exposure,
    /// Whether to keep to [`SHARE`]: training by steps does the same on every machine.
    is_timed: bool,
    begun: Option<Duration>,
    spent: Duration,
}

impl<'a> Posing<'a> {
    /// As measured.
    pub(crate) fn new(seen: &'a [Seen], is_timed: bool) -> Self {
        let aligned = vec![None; seen.len()];
        Self { seen, aligned, light: Exposure::SAME, is_timed, begun: None, spent: Duration::ZERO }
    }

    /// Where the frames are, for [`Posing::restore`].
    pub(crate) fn numbers(&self) -> Vec<f32> {
        let rows = self.aligned.iter().flat_map(|frame| {
            let mut row = [0.0; ROW];
            if let Some((Aligned { feature, exposure, trust }, then)) = frame {
                row[..3].copy_from_slice(&[1.0, *then, *trust]);
                row[3..9].copy_from_slice(&feature.pose.to_array());
                row[9..15].copy_from_slice(&feature.code.torso());
                row[15..18].copy_from_slice(&exposure.gain);
                row[18..].copy_from_slice(&exposure.offset);
            }
            row
        });
        rows.collect()
    }

    /// Takes up where an interrupted training of the same frames was.
    ///
    /// # Errors
    /// If the numbers are those of other frames.
    pub(crate) fn restore(&mut self, numbers: &[f32]) -> anyhow::Result<()> {
        let (rows, rest) = numbers.as_chunks::<ROW>();
        anyhow::ensure!(
            rows.len() == self.aligned.len() && rest.is_empty(),
            "the poses of another enrollment"
        );
        for (at, row) in rows.iter().enumerate().filter(|(_, row)| row[0] > 0.0) {
            let (mut pose, mut torso) = ([0.0; POSE_DIMS], [0.0; TORSO_DIMS]);
            pose.copy_from_slice(&row[3..9]);
            torso.copy_from_slice(&row[9..15]);
            let mut exposure = Exposure::SAME;
            exposure.gain.copy_from_slice(&row[15..18]);
            exposure.offset.copy_from_slice(&row[18..]);
            let feature = Feature {
                time: self.seen[at].frame.time(),
                pose: HeadPose::from_array(pose)?,
                code: Code::from_parts(&[0.0; LEARNED_DIMS], &torso)?,
            };
            self.aligned[at] = Some((Aligned { feature, exposure, trust: row[2] }, row[1]));
        }
        self.light = self.mean_exposure();
        Ok(())
    }

    /// Whether frames may be aligned now.
    pub(crate) fn may_align(&mut self, progress: f32, clock: &Clock<'_>) -> bool {
        if progress < FROM {
            return false;
        }
        let begun = *self.begun.get_or_insert(clock.elapsed());
        !self.is_timed || self.spent <= clock.elapsed().saturating_sub(begun).mul_f32(SHARE)
    }

    /// Moves those of the `chosen` frames that were not moved lately one step towards the field,
    /// from where they were put last; `codes` are those of the chosen frames.
    pub(crate) fn align(
        &mut self,
        model: &FaceModel,
        chosen: &[usize],
        codes: &[[f32; LEARNED_DIMS]],
        progress: f32,
        clock: &Clock<'_>,
    ) -> Result<(), FeatureError> {
        let before = clock.elapsed();
        let is_stale = |&(n, (at, _)): &(usize, (&usize, _))| {
            // The same frame may be chosen twice.
            !chosen[..n].contains(at)
                && self.aligned[*at].is_none_or(|(_, then)| progress >= then + STALE_AFTER)
        };
        let due: Vec<_> = chosen.iter().zip(codes).enumerate().filter(is_stale).collect();
        if due.is_empty() {
            return Ok(());
        }
        let aligned: Result<Vec<(usize, Aligned)>, FeatureError> = due
            .par_iter()
            .map(|&(_, (&at, code))| {
                let seen = &self.seen[at];
                let measured = seen.observation.feature(code)?;
                let start = self.feature(at, code)?;
                let light = self.aligned[at].map_or(Exposure::SAME, |(a, _)| a.exposure);
                // One step is enough: each frame is aligned again later.
                let unknowns = Unknowns::PoseAndTorso;
                let aligned = align_step(model, &seen.frame, &measured, &start, light, unknowns);
                Ok((at, aligned))
            })
            .collect();
        for (at, aligned) in aligned? {
            self.aligned[at] = Some((aligned, progress));
        }
        self.light = self.mean_exposure();
        self.spent += clock.elapsed().saturating_sub(before);
        Ok(())
    }

    fn mean_exposure(&self) -> Exposure {
        let believed = self.aligned.iter().flatten().filter(|(aligned, _)| aligned.is_believed());
        let lights: Vec<&Exposure> = believed.map(|(aligned, _)| &aligned.exposure).collect();
        if lights.is_empty() {
            return Exposure::SAME;
        }
        let n = lights.len() as f32;
        Exposure {
            gain: std::array::from_fn(|c| lights.iter().map(|e| e.gain[c]).sum::<f32>() / n),
            offset: std::array::from_fn(|c| lights.iter().map(|e| e.offset[c]).sum::<f32>() / n),
        }
    }

    /// How the light of a frame differs from that of all that were aligned: its colors are
    /// `gain * color + offset` of those in their mean light. None where it was not believed.
    ///
    /// Only from their mean: the face keeps the light of its clip, and a call needs no exposure.
    pub(crate) fn exposure(&self, at: usize) -> Exposure {
        let Some((aligned, _)) = self.aligned[at].filter(|(aligned, _)| aligned.is_believed())
        else {
            return Exposure::SAME;
        };
        let (frame, mean) = (aligned.exposure, self.light);
        let gain = std::array::from_fn(|c| frame.gain[c] / mean.gain[c]);
        let offset = std::array::from_fn(|c| frame.offset[c] - gain[c] * mean.offset[c]);
        Exposure { gain, offset }
    }

    /// Frame `at`'s feature with this learned code.
    pub(crate) fn feature(
        &self,
        at: usize,
        code: &[f32; LEARNED_DIMS],
    ) -> Result<Feature, FeatureError> {
        let measured = self.seen[at].observation.feature(code)?;
        self.aligned[at].map_or(Ok(measured), |(aligned, _)| {
            let code = Code::from_parts(code, &aligned.feature.code.torso())?;
            Ok(Feature { pose: aligned.feature.pose, code, ..measured })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glam::Vec3;
    use track::Observation;
    use types::{Expression, Frame, Landmarks, MediaTime};

    fn frames(n: u64) -> Vec<Seen> {
        (0..n)
            .map(|i| {
                let time = MediaTime::of_frame(i, 25);
                let pose = HeadPose::new(Vec3::ZERO, Vec3::Z).unwrap();
                let (torso, landmarks) = ([0.0; TORSO_DIMS], Landmarks::exact(vec![]));
                let expression = Expression::NEUTRAL;
                let observation = Observation {
                    time,
                    pose,
                    expression,
                    torso,
                    torso_correlation: 1.0,
                    landmarks,
                };
                let frame = Frame::new(2, 2, time, vec![0; 12]).unwrap();
                Seen { frame, observation, window: Vec::new() }
            })
            .collect()
    }

    #[test]
    fn a_checkpoint_holds_where_frames_were_put_and_in_what_light() {
        let seen = frames(4);
        let mut posing = Posing::new(&seen, false);
        let feature = Feature {
            time: seen[1].frame.time(),
            pose: HeadPose::new(Vec3::X * 0.1, Vec3::new(0.1, 0.2, 1.2)).unwrap(),
            code: Code::from_parts(&[0.0; LEARNED_DIMS], &[0.01; TORSO_DIMS]).unwrap(),
        };
        // The last shows a hand, say, and its light is that of the hand.
        for (at, gain, offset, trust) in
            [(1, 1.2, 0.02, 0.9), (2, 1.0, 0.08, 0.8), (3, 5.0, 1.0, 0.1)]
        {
            let exposure = Exposure { gain: [gain; 3], offset: [offset; 3] };
            posing.aligned[at] = Some((Aligned { feature, exposure, trust }, 0.4));
        }
        posing.light = posing.mean_exposure();
        let mut again = Posing::new(&seen, false);
        again.restore(&posing.numbers()).unwrap();
        let code = [0.5; LEARNED_DIMS];
        for at in 0..4 {
            assert_eq!(again.feature(at, &code), posing.feature(at, &code), "frame {at}");
            assert_eq!(again.exposure(at), posing.exposure(at), "frame {at}");
        }
        // A color of the field, in the first frame's light, comes back in the mean light of both.
        let relative = again.exposure(1);
        let seen = (1.2 * 0.4 + 0.02 - relative.offset[0]) / relative.gain[0];
        assert!((seen - (1.1 * 0.4 + 0.05)).abs() < 1e-5, "{seen}");
        for other in [0, 3] {
            assert_eq!(again.exposure(other), Exposure::SAME);
        }
        assert_eq!(again.feature(1, &code).unwrap().pose, feature.pose);
        assert!(Posing::new(&frames(2), false).restore(&posing.numbers()).is_err());
    }
}
