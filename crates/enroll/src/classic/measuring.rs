//! How like the person the classic field looks, on frames that it was never shown.

use std::path::Path;

use capture::ClipWriter;
use face::{ClassicModel, psnr_db, ssim};
use types::Frame;

use super::learning::Measured;
use super::ray_pass::draw_classic;
use crate::clock::Clock;
use crate::observing::Seen;

/// Means over the frames kept back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassicQuality {
    pub(crate) psnr_db: f64,
    pub(crate) ssim: f64,
    /// Median time of drawing one.
    pub(crate) draw_seconds: f64,
}

/// Draws every frame kept back from what was measured in it, and compares.
pub(crate) fn measure(
    model: &ClassicModel,
    seen: &[Seen],
    measured: &[Measured],
    pictures: Option<&Path>,
    clock: &mut Clock<'_>,
) -> anyhow::Result<ClassicQuality> {
    let mut writer = match (pictures, seen) {
        (Some(path), [first, .., last]) => {
            Some(ClipWriter::create(path, rate(first, last, seen.len()))?)
        }
        _ => None,
    };
    let n_frames = seen.len();
    let (mut psnr_sum, mut ssim_sum, mut times) = (0.0, 0.0, Vec::new());
    for (index, (seen, measured)) in seen.iter().zip(measured).enumerate() {
        let begun = clock.elapsed();
        let side = seen.frame.width();
        let picture = draw_classic(model, &model.frame(&measured.pose, &measured.code), side);
        times.push(clock.elapsed().saturating_sub(begun));
        let levels = picture.as_flattened().iter().map(|v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8);
        let picture = Frame::new(side, side, seen.frame.time(), levels.collect::<Vec<u8>>())?;
        psnr_sum += psnr_db(&picture, &seen.frame);
        ssim_sum += ssim(&picture, &seen.frame);
        if let Some(writer) = &mut writer {
            writer.push(&picture)?;
        }
        let share = index as f32 / n_frames.max(1) as f32;
        clock.report("measuring", share, index as u64, None)?;
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

/// Frames a second of the source, from the times of its first and last frame.
fn rate(first: &Seen, last: &Seen, n: usize) -> u32 {
    let span = last.frame.time().saturating_since(first.frame.time()).as_secs_f32();
    ((n - 1) as f32 / span.max(1e-3)).round().max(1.0) as u32
}
