//! The classic field trained and measured as our own is: the same frames, tracker, embedder and
//! held-out part.
//!
//! See [`face::ClassicModel`] for what it is, and docs/MODEL.md, "The classic field".

mod learning;
mod measuring;
mod net;
mod product;
mod ray_pass;

use std::path::PathBuf;

use anyhow::ensure;
use face::{ClassicModel, ClassicSizes};

use crate::checkpoint::{can_write, write_whole};
use crate::clock::Clock;
use crate::observing::observe;
use crate::options::{EnrollOptions, Part, Progress};
use crate::recording::record;

/// How a classic field is trained.
#[derive(Clone, Debug)]
pub struct ClassicOptions {
    /// Source, output, side, holdout, seed and parts left out as for an enrollment; without the
    /// embedding the expression code is the 79 coefficients. The budget is that of reading,
    /// tracking and training; measuring comes after it. There is nothing to resume.
    pub enroll: EnrollOptions,
    /// Sizes of the networks; what depends on the person is filled in.
    pub sizes: ClassicSizes,
    /// Where the pictures of the held-out frames go, if anywhere.
    pub pictures: Option<PathBuf>,
}

impl ClassicOptions {
    /// The usual training.
    pub fn new(enroll: EnrollOptions) -> Self {
        Self { enroll, sizes: ClassicSizes::small(), pictures: None }
    }

    fn has(&self, part: Part) -> bool {
        !self.enroll.without.contains(&part)
    }
}

/// What a training gave.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ClassicReport {
    /// Mean PSNR of the frames kept back, RGB, whole picture; features as measured, neither
    /// quantized nor refined. NaN if none was kept back.
    pub psnr_db: f64,
    /// Mean SSIM of the same pictures.
    pub ssim: f64,
    /// Frames learned from.
    pub n_train: usize,
    /// Frames kept back and measured.
    pub n_heldout: usize,
    /// Training steps.
    pub steps: u32,
    /// Time of reading and tracking, seconds.
    pub tracking_seconds: f64,
    /// Time of training.
    pub training_seconds: f64,
    /// Rays learned from in a second of training.
    pub rays_per_second: f64,
    /// Median time to draw a frame of the learned side with the training's matrix products.
    pub draw_seconds: f64,
    /// Multiply-adds of such a frame.
    pub multiply_adds: u64,
    /// Numbers of the field.
    pub parameters: usize,
    /// Bytes of its file.
    pub bytes: usize,
}

/// Trains a classic field, writes `options.enroll.out`, and measures it on the frames kept back.
///
/// # Errors
/// If the source cannot be read or shows too little of a face, sizes are out of bounds, or the
/// disk is full.
pub fn train_classic(
    options: &ClassicOptions,
    on_progress: &mut dyn FnMut(&Progress) -> bool,
) -> anyhow::Result<ClassicReport> {
    can_write(&options.enroll.out)?;
    ensure!(
        (64..=512).contains(&options.enroll.side),
        "the size must be 64 to 512 pixels, not {}",
        options.enroll.side
    );
    let mut clock = Clock::new(options.enroll.budget, on_progress);
    let recording = record(&options.enroll, &mut clock)?;
    let seen = observe(recording, options.enroll.holdout, &mut clock)?;
    let tracked = clock.elapsed();
    let learned = learning::learn(options, &seen, &mut clock)?;
    let trained = clock.elapsed().saturating_sub(tracked);

    let bytes = learned.model.to_bytes();
    write_whole(&options.enroll.out, &bytes)?;
    // What is measured is what the file holds.
    let model = ClassicModel::parse(&bytes)?;
    let frames = learning::features(&seen.held_out, learned.embedding.as_ref())?;
    let quality = measuring::measure(
        &model,
        &seen.held_out,
        &frames,
        options.pictures.as_deref(),
        &mut clock,
    )?;
    Ok(ClassicReport {
        psnr_db: quality.psnr_db,
        ssim: quality.ssim,
        n_train: seen.train.len(),
        n_heldout: seen.held_out.len(),
        steps: learned.steps,
        tracking_seconds: tracked.as_secs_f64(),
        training_seconds: trained.as_secs_f64(),
        rays_per_second: learned.rays as f64 / trained.as_secs_f64().max(1e-9),
        draw_seconds: quality.draw_seconds,
        multiply_adds: model.sizes().multiply_adds(seen.side),
        parameters: model.params().len(),
        bytes: bytes.len(),
    })
}
