//! Refinement of pose, torso and exposure of each training frame against the field.

use std::time::Duration;

use face::FaceModel;
use rayon::prelude::*;
use track::{Aligned, Exposure, Unknowns};
use types::{Code, Feature, FeatureError, HeadPose, LEARNED_DIMS, POSE_DIMS, TORSO_DIMS};

use crate::clock::BudgetClock;
use crate::observations::ObservedFrame;

/// Share of the training before which the field is too blurred to align frames with it.
const FROM: f32 = 0.12;
/// Share of the training after which a chosen frame is refined again.
const STALE_AFTER: f32 = 0.14;
/// Largest share of the time since [`FROM`] that refinement may take under a time limit.
const TIME_SHARE: f32 = 0.15;
/// Numbers of a frame in a checkpoint: whether and when it was refined, trust, pose, torso track,
/// exposure.
const STATE_LEN: usize = 3 + POSE_DIMS + TORSO_DIMS + 6;

/// Pose, torso track and exposure of every training frame: first as measured, later refined until the
/// rendered field matches the frame.
///
/// A frame is refined just before it is used in a step, so that short trainings refine only as many
/// frames as they use.
pub(crate) struct PoseRefinement<'a> {
    frames: &'a [ObservedFrame],
    /// Result of each frame's last refinement, and the share of the training at that time.
    aligned: Vec<Option<(Aligned, f32)>>,
    /// Mean exposure of the refined frames.
    mean_exposure: Exposure,
    /// Whether [`TIME_SHARE`] applies. It does not when the budget counts steps, so that the result is
    /// the same on every machine.
    is_timed: bool,
    begun: Option<Duration>,
    spent: Duration,
}

impl<'a> PoseRefinement<'a> {
    /// Starts with the measured poses. `is_timed` limits the time spent on refinement.
    pub(crate) fn new(frames: &'a [ObservedFrame], is_timed: bool) -> Self {
        let aligned = vec![None; frames.len()];
        Self {
            frames,
            aligned,
            mean_exposure: Exposure::SAME,
            is_timed,
            begun: None,
            spent: Duration::ZERO,
        }
    }

    /// Returns the whole state as numbers, for [`PoseRefinement::restore`].
    pub(crate) fn state(&self) -> Vec<f32> {
        let rows = self.aligned.iter().flat_map(|frame| {
            let mut row = [0.0; STATE_LEN];
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

    /// Restores the state of an interrupted training of the same frames.
    ///
    /// # Errors
    /// If the state belongs to another number of frames.
    pub(crate) fn restore(&mut self, state: &[f32]) -> anyhow::Result<()> {
        let (rows, rest) = state.as_chunks::<STATE_LEN>();
        anyhow::ensure!(
            rows.len() == self.aligned.len() && rest.is_empty(),
            "the refined poses belong to another enrollment"
        );
        for (at, row) in rows.iter().enumerate().filter(|(_, row)| row[0] > 0.0) {
            let (mut pose, mut torso) = ([0.0; POSE_DIMS], [0.0; TORSO_DIMS]);
            pose.copy_from_slice(&row[3..9]);
            torso.copy_from_slice(&row[9..15]);
            let mut exposure = Exposure::SAME;
            exposure.gain.copy_from_slice(&row[15..18]);
            exposure.offset.copy_from_slice(&row[18..]);
            let feature = Feature {
                time: self.frames[at].frame.time(),
                pose: HeadPose::from_array(pose)?,
                code: Code::from_parts(&[0.0; LEARNED_DIMS], &torso)?,
            };
            self.aligned[at] = Some((Aligned { feature, exposure, trust: row[2] }, row[1]));
        }
        self.mean_exposure = self.compute_mean_exposure();
        Ok(())
    }

    /// Returns whether frames may be refined now.
    pub(crate) fn may_refine(&mut self, progress: f32, clock: &BudgetClock<'_>) -> bool {
        if progress < FROM {
            return false;
        }
        let begun = *self.begun.get_or_insert(clock.elapsed());
        !self.is_timed || self.spent <= clock.elapsed().saturating_sub(begun).mul_f32(TIME_SHARE)
    }

    /// Refines those of the `chosen` frames that were not refined recently by one step.
    ///
    /// `codes` are the learned codes of the chosen frames.
    ///
    /// # Errors
    /// If a code is not finite or out of range.
    pub(crate) fn refine(
        &mut self,
        model: &FaceModel,
        chosen: &[usize],
        codes: &[[f32; LEARNED_DIMS]],
        progress: f32,
        clock: &BudgetClock<'_>,
    ) -> Result<(), FeatureError> {
        let before = clock.elapsed();
        let is_stale = |&(n, (at, _)): &(usize, (&usize, _))| {
            // A frame may be chosen twice in one step.
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
                let frame = &self.frames[at];
                let measured = frame.observation.feature(code)?;
                let start = self.feature(at, code)?;
                let exposure = self.aligned[at].map_or(Exposure::SAME, |(a, _)| a.exposure);
                // One step is enough, because frames are refined several times.
                let unknowns = Unknowns::PoseAndTorso;
                let aligned =
                    Aligned::step(model, &frame.frame, &measured, &start, exposure, unknowns);
                Ok((at, aligned))
            })
            .collect();
        for (at, aligned) in aligned? {
            self.aligned[at] = Some((aligned, progress));
        }
        self.mean_exposure = self.compute_mean_exposure();
        self.spent += clock.elapsed().saturating_sub(before);
        Ok(())
    }

    fn compute_mean_exposure(&self) -> Exposure {
        let believed = self.aligned.iter().flatten().filter(|(aligned, _)| aligned.is_valid());
        let exposures: Vec<&Exposure> = believed.map(|(aligned, _)| &aligned.exposure).collect();
        if exposures.is_empty() {
            return Exposure::SAME;
        }
        let n = exposures.len() as f32;
        Exposure {
            gain: std::array::from_fn(|c| exposures.iter().map(|e| e.gain[c]).sum::<f32>() / n),
            offset: std::array::from_fn(|c| exposures.iter().map(|e| e.offset[c]).sum::<f32>() / n),
        }
    }

    /// Returns the exposure of a frame relative to the mean exposure of the refined frames: its colors
    /// are `gain * color + offset` of colors at the mean exposure. [`Exposure::SAME`] for a frame whose
    /// refinement is not trusted.
    ///
    /// It is relative, so that the field keeps the exposure of its clip and a call needs no correction.
    pub(crate) fn exposure(&self, at: usize) -> Exposure {
        let Some((aligned, _)) = self.aligned[at].filter(|(aligned, _)| aligned.is_valid()) else {
            return Exposure::SAME;
        };
        let (frame, mean) = (aligned.exposure, self.mean_exposure);
        let gain = std::array::from_fn(|c| frame.gain[c] / mean.gain[c]);
        let offset = std::array::from_fn(|c| frame.offset[c] - gain[c] * mean.offset[c]);
        Exposure { gain, offset }
    }

    /// Returns the feature of training frame `at` with this learned code.
    ///
    /// # Errors
    /// If the code is not finite or out of range.
    pub(crate) fn feature(
        &self,
        at: usize,
        code: &[f32; LEARNED_DIMS],
    ) -> Result<Feature, FeatureError> {
        let measured = self.frames[at].observation.feature(code)?;
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
    use types::{Expression, Landmarks, MediaTime, SquareFrame};

    fn frames(n: u64) -> Vec<ObservedFrame> {
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
                let frame = SquareFrame::new(2, time, vec![0; 12]).unwrap();
                ObservedFrame { frame, observation, window: Vec::new() }
            })
            .collect()
    }

    #[test]
    fn a_saved_state_restores_poses_and_exposures() {
        let seen = frames(4);
        let mut poses = PoseRefinement::new(&seen, false);
        let feature = Feature {
            time: seen[1].frame.time(),
            pose: HeadPose::new(Vec3::X * 0.1, Vec3::new(0.1, 0.2, 1.2)).unwrap(),
            code: Code::from_parts(&[0.0; LEARNED_DIMS], &[0.01; TORSO_DIMS]).unwrap(),
        };
        // The last frame is not trusted: perhaps a hand covers the face.
        for (at, gain, offset, trust) in
            [(1, 1.2, 0.02, 0.9), (2, 1.0, 0.08, 0.8), (3, 5.0, 1.0, 0.1)]
        {
            let exposure = Exposure { gain: [gain; 3], offset: [offset; 3] };
            poses.aligned[at] = Some((Aligned { feature, exposure, trust }, 0.4));
        }
        poses.mean_exposure = poses.compute_mean_exposure();
        let mut again = PoseRefinement::new(&seen, false);
        again.restore(&poses.state()).unwrap();
        let code = [0.5; LEARNED_DIMS];
        for at in 0..4 {
            assert_eq!(again.feature(at, &code), poses.feature(at, &code), "frame {at}");
            assert_eq!(again.exposure(at), poses.exposure(at), "frame {at}");
        }
        // A color of 0.4 in the field, seen in frame 1, is converted to the mean exposure of both frames.
        let relative = again.exposure(1);
        let converted = (1.2 * 0.4 + 0.02 - relative.offset[0]) / relative.gain[0];
        assert!((converted - (1.1 * 0.4 + 0.05)).abs() < 1e-5, "{converted}");
        for other in [0, 3] {
            assert_eq!(again.exposure(other), Exposure::SAME);
        }
        assert_eq!(again.feature(1, &code).unwrap().pose, feature.pose);
        assert!(PoseRefinement::new(&frames(2), false).restore(&poses.state()).is_err());
    }
}
