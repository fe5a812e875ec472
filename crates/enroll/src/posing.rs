//! Where the frames to learn from are posed.

use face::FaceModel;
use rayon::prelude::*;
use track::{Aligned, Exposure, Unknowns, align};
use types::{Code, Feature, FeatureError, LEARNED_DIMS};

use crate::observing::Seen;

/// Shares of the training after which all frames are aligned with the field as it then is, each
/// time by one step from where the last ended.
const ALIGN_AT: [f32; 6] = [0.12, 0.25, 0.4, 0.55, 0.7, 0.85];

/// Pose and torso of every frame: as measured at first, then moved to where the field says.
pub(crate) struct Posing<'a> {
    seen: &'a [Seen],
    /// Empty until the first alignment.
    aligned: Vec<Aligned>,
    done: usize,
}

impl<'a> Posing<'a> {
    /// As measured.
    pub(crate) fn new(seen: &'a [Seen]) -> Self {
        Self { seen, aligned: Vec::new(), done: 0 }
    }

    /// Whether the frames should be aligned again by now.
    pub(crate) fn is_due(&self, progress: f32) -> bool {
        ALIGN_AT.get(self.done).is_some_and(|at| progress >= *at)
    }

    /// One step of every frame towards the field; `codes` are those of the frames now.
    pub(crate) fn align(
        &mut self,
        model: &FaceModel,
        codes: &[[f32; LEARNED_DIMS]],
        progress: f32,
    ) -> Result<(), FeatureError> {
        let aligned: Result<Vec<Aligned>, FeatureError> = self
            .seen
            .par_iter()
            .zip(codes)
            .enumerate()
            .map(|(i, (seen, code))| {
                let measured = seen.observation.feature(code)?;
                let start = self.feature(i, code)?;
                let exposure = self.aligned.get(i).map_or(Exposure::SAME, |a| a.exposure);
                Ok(align(model, &seen.frame, &measured, &start, exposure, Unknowns::Place, 1))
            })
            .collect();
        self.aligned = aligned?;
        self.done = ALIGN_AT.iter().filter(|at| progress >= **at).count();
        Ok(())
    }

    /// Frame `i`'s feature with this learned code.
    pub(crate) fn feature(
        &self,
        i: usize,
        code: &[f32; LEARNED_DIMS],
    ) -> Result<Feature, FeatureError> {
        let measured = self.seen[i].observation.feature(code)?;
        self.aligned.get(i).map_or(Ok(measured), |aligned| {
            let code = Code::from_parts(code, &aligned.feature.code.torso())?;
            Ok(Feature { pose: aligned.feature.pose, code, ..measured })
        })
    }
}
