//! Options and report of a baseline training.

use std::path::PathBuf;

use enroll::{Ablation, EnrollOptions};

use crate::sizes::ClassicSizes;

/// Options of a baseline training.
#[derive(Clone, Debug)]
pub struct ClassicOptions {
    /// Source, output file, side, held-out split, seed and ablations, as for an enrollment.
    ///
    /// With [`Ablation::Embedding`] the code holds all 79 expression coefficients instead of 24
    /// learned numbers. The budget covers reading, tracking and training, but not the evaluation.
    /// `resume` and `preset` have no effect.
    pub enroll: EnrollOptions,
    /// Sizes of the networks. Code length, background side, pose statistics and torso distance are
    /// overwritten by those of the person.
    pub sizes: ClassicSizes,
    /// Clip to write with the rendered held-out frames.
    pub pictures: Option<PathBuf>,
}

impl ClassicOptions {
    /// Options with the small network sizes and no clip of rendered frames.
    pub fn new(enroll: EnrollOptions) -> Self {
        Self { enroll, sizes: ClassicSizes::small(), pictures: None }
    }

    /// Returns whether a part of the method is used, that is, not left out.
    pub(crate) fn uses(&self, part: Ablation) -> bool {
        !self.enroll.without.contains(&part)
    }
}

/// Result of a baseline training.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ClassicReport {
    /// Mean PSNR of the held-out frames in dB (RGB, whole picture), rendered from measured features
    /// without quantization or refinement. NaN if no frame was held out.
    pub psnr_db: f64,
    /// Mean SSIM of the same pictures, -1..=1.
    pub ssim: f64,
    /// Number of training frames.
    pub n_train: usize,
    /// Number of held-out frames.
    pub n_heldout: usize,
    /// Number of training steps.
    pub steps: u32,
    /// Time for reading and tracking, in seconds.
    pub tracking_seconds: f64,
    /// Time for training, in seconds.
    pub training_seconds: f64,
    /// Training rays per second.
    pub rays_per_second: f64,
    /// Median time to render a frame at the training side on the CPU, in seconds. Rays are
    /// evaluated in batches by matrix products, as in training.
    pub draw_seconds: f64,
    /// Multiply-adds for such a frame.
    pub multiply_adds: u64,
    /// Number of parameters of the field.
    pub parameters: usize,
    /// Size of the file in bytes.
    pub bytes: usize,
}
