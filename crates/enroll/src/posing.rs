//! Where the frames to learn from are posed.

use std::time::Duration;

use face::FaceModel;
use rayon::prelude::*;
use track::{Aligned, Effort, Exposure, Unknowns, align};
use types::{Code, Feature, FeatureError, LEARNED_DIMS};

use crate::clock::Clock;
use crate::observing::Seen;

/// Before this share of the training the field is too vague to align anything with.
const FROM: f32 = 0.12;
/// A frame is aligned again when its turn comes and this share of the training has passed.
const STALE_AFTER: f32 = 0.14;
/// Most of the time since [`FROM`] that alignment may take, where time is what is budgeted.
const SHARE: f32 = 0.15;
/// A frame's turn comes again, so one step is enough.
const EFFORT: Effort = Effort { rounds: 1, steps: 1 };

/// Pose and torso of every frame: as measured at first, then moved to where the field says.
///
/// A frame is aligned just before it is learned from, so none is aligned in vain, and short
/// trainings align what they can afford.
pub(crate) struct Posing<'a> {
    seen: &'a [Seen],
    /// Where each frame was put last, and after which share of the training.
    aligned: Vec<Option<(Aligned, f32)>>,
    /// Whether to keep to [`SHARE`]: training by steps does the same on every machine.
    is_timed: bool,
    begun: Option<Duration>,
    spent: Duration,
}

impl<'a> Posing<'a> {
    /// As measured.
    pub(crate) fn new(seen: &'a [Seen], is_timed: bool) -> Self {
        let aligned = vec![None; seen.len()];
        Self { seen, aligned, is_timed, begun: None, spent: Duration::ZERO }
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
        let aligned: Result<Vec<(usize, Aligned)>, FeatureError> = due
            .par_iter()
            .map(|&(_, (&at, code))| {
                let seen = &self.seen[at];
                let measured = seen.observation.feature(code)?;
                let start = self.feature(at, code)?;
                let light = self.aligned[at].map_or(Exposure::SAME, |(a, _)| a.exposure);
                let aligned =
                    align(model, &seen.frame, &measured, &start, light, Unknowns::Place, EFFORT);
                Ok((at, aligned))
            })
            .collect();
        for (at, aligned) in aligned? {
            self.aligned[at] = Some((aligned, progress));
        }
        self.spent += clock.elapsed().saturating_sub(before);
        Ok(())
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
