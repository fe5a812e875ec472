//! Evaluation of a baseline field on held-out frames.

use std::path::Path;

use capture::ClipWriter;
use enroll::{BudgetClock, ObservedFrame, Stage};
use face::{psnr_db, ssim};
use types::SquareFrame;

use crate::learning::MeasuredFrame;
use crate::model::ClassicModel;
use crate::ray_pass::draw_classic;

/// Mean quality over the held-out frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassicQuality {
    pub(crate) psnr_db: f64,
    pub(crate) ssim: f64,
    /// Median time to render a frame, in seconds.
    pub(crate) draw_seconds: f64,
}

/// Renders every held-out frame from its measured pose and code and compares the two.
///
/// Writes the rendered frames to the clip `pictures`, if given.
///
/// # Errors
/// If the clip cannot be written or the progress callback asks to stop.
pub(crate) fn measure(
    model: &ClassicModel,
    seen: &[ObservedFrame],
    measured: &[MeasuredFrame],
    pictures: Option<&Path>,
    clock: &mut BudgetClock<'_>,
) -> anyhow::Result<ClassicQuality> {
    let mut writer = match (pictures, seen) {
        (Some(path), [first, .., last]) => {
            Some(ClipWriter::create(path, frames_per_second(first, last, seen.len()))?)
        }
        _ => None,
    };
    let n_frames = seen.len();
    let (mut psnr_sum, mut ssim_sum, mut times) = (0.0, 0.0, Vec::new());
    for (index, (seen, measured)) in seen.iter().zip(measured).enumerate() {
        let begun = clock.elapsed();
        let side = seen.frame.side();
        let picture = draw_classic(model, &model.frame(&measured.pose, &measured.code), side);
        times.push(clock.elapsed().saturating_sub(begun));
        let picture = SquareFrame::from_colors(side, seen.frame.time(), &picture)?;
        psnr_sum += psnr_db(&picture, &seen.frame);
        ssim_sum += ssim(&picture, &seen.frame);
        if let Some(writer) = &mut writer {
            writer.push(&picture)?;
        }
        let share = index as f32 / n_frames.max(1) as f32;
        clock.report(Stage::Measuring, share, index as u64, None)?;
    }
    if let Some(writer) = writer {
        writer.finish()?;
    }
    times.sort_unstable();
    let n = times.len() as f64;
    let draw_seconds =
        times.get(times.len() / 2).map_or(f64::NAN, std::time::Duration::as_secs_f64);
    Ok(ClassicQuality { psnr_db: psnr_sum / n, ssim: ssim_sum / n, draw_seconds })
}

/// Returns the frame rate of `n` frames from the times of the first and the last.
fn frames_per_second(first: &ObservedFrame, last: &ObservedFrame, n: usize) -> u32 {
    let span = last.frame.time().saturating_since(first.frame.time()).as_secs_f32();
    ((n - 1) as f32 / span.max(1e-3)).round().max(1.0) as u32
}
