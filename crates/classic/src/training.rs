//! Training and evaluation of a baseline field, from a clip to a file and a report.
//!
//! Frames, tracker, embedder and held-out split are those of an enrollment, so that the fields can be
//! compared.

use anyhow::ensure;
use capture::{check_writable, write_file};
use enroll::{BudgetClock, EnrollmentProgress, observe};

use crate::learning;
use crate::measuring;
use crate::model::ClassicModel;
use crate::options::{ClassicOptions, ClassicReport};

/// Trains a baseline field, writes it to `options.enroll.out` and evaluates it on held-out frames.
///
/// `on_progress` is called a few times a second and returns whether to go on. If it stops the
/// evaluation, the file has been written already.
///
/// # Errors
/// If the budget is too small, the source cannot be read or shows too few frames of a face, a size is out of range, the file
/// cannot be written, or the progress callback asks to stop.
pub fn train_classic(
    options: &ClassicOptions,
    on_progress: &mut dyn FnMut(&EnrollmentProgress) -> bool,
) -> anyhow::Result<ClassicReport> {
    options.enroll.budget.check()?;
    check_writable(&options.enroll.out)?;
    ensure!(
        (64..=512).contains(&options.enroll.side),
        "the side of the pictures must be 64 to 512 pixels, not {}",
        options.enroll.side
    );
    let mut clock = BudgetClock::new(options.enroll.budget, on_progress);
    let seen = observe(&options.enroll, &mut clock)?;
    let tracked = clock.elapsed();
    let learned = learning::learn(options, &seen, &mut clock)?;
    let trained = clock.elapsed().saturating_sub(tracked);

    let bytes = learned.model.to_bytes();
    write_file(&options.enroll.out, &bytes)?;
    // The evaluation uses the rounded parameters of the file.
    let model = ClassicModel::parse(&bytes)?;
    let frames = learning::measured_frames(&seen.held_out, learned.embedding.as_ref())?;
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
