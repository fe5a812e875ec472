//! How like the person the face looks, on frames that it was never shown.

use std::time::Duration;

use anyhow::Context;
use codec::{Decoder, EncodedUnit, Encoder, Profile};
use face::{DEFAULT_SAMPLES, FaceModel, psnr_db, render_cpu, ssim};
use track::{PhotometricRefiner, RefinementBudget};
use types::{Feature, FeatureTimeline, Frame};

use crate::clock::Clock;

/// A frame kept back, and what was measured in it.
pub(crate) struct HeldOut<'a> {
    pub(crate) frame: &'a Frame,
    pub(crate) measured: Feature,
}

/// Means over the frames measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quality {
    pub(crate) psnr_db: f64,
    pub(crate) ssim: f64,
    pub(crate) n: usize,
}

/// Renders what a peer would see of each frame kept back, through the codec and the packed face.
///
/// Frames are taken in an order that spreads over them, so that what was measured when
/// `deadline` (time since the start) arrives stands for all. At least one is measured.
pub(crate) fn measure(
    model: &FaceModel,
    profile: &Profile,
    frames: &[HeldOut<'_>],
    deadline: Option<Duration>,
    clock: &mut Clock<'_>,
) -> anyhow::Result<Quality> {
    let decoded = through_codec(model, profile, frames)?;
    let (mut psnr_sum, mut ssim_sum, mut n) = (0.0, 0.0, 0);
    for (count, at) in spread(frames.len()).into_iter().enumerate() {
        if n > 0 && deadline.is_some_and(|d| clock.elapsed() >= d) {
            break;
        }
        let frame = frames[at].frame;
        let picture = draw(model, &decoded[at], frame.width())?;
        psnr_sum += psnr_db(&picture, frame);
        ssim_sum += ssim(&picture, frame);
        n += 1;
        clock.report("measuring", count as f32 / frames.len() as f32, n as u64, None)?;
    }
    Ok(Quality { psnr_db: psnr_sum / n as f64, ssim: ssim_sum / n as f64, n })
}

/// Frames that the loss of packing is measured on, and the fewest that say anything.
const LOSS_FRAMES: usize = 24;
const LEAST_LOSS_FRAMES: usize = 8;

/// What packing costs: mean PSNR of frames drawn from the field as it was `learned`, less that
/// drawn from the `packed` one, features not quantized, each refined against the field that draws.
///
/// `None` if the `deadline` comes before a few frames are measured.
pub(crate) fn packing_loss(
    learned: &FaceModel,
    packed: &FaceModel,
    frames: &[HeldOut<'_>],
    deadline: Option<Duration>,
    clock: &mut Clock<'_>,
) -> anyhow::Result<Option<f64>> {
    let mut refiners = [learned, packed].map(|model| PhotometricRefiner::new(model.clone()));
    let (mut loss, mut n) = (0.0, 0);
    for at in spread(frames.len()).into_iter().take(LOSS_FRAMES) {
        clock.report("measuring", 1.0, n as u64, None)?;
        if deadline.is_some_and(|deadline| clock.elapsed() >= deadline) {
            break;
        }
        let HeldOut { frame, measured } = &frames[at];
        for ((model, refiner), sign) in
            [learned, packed].into_iter().zip(&mut refiners).zip([1.0, -1.0])
        {
            // These frames do not follow one another.
            refiner.reset();
            let feature = refiner.refine(frame, measured, RefinementBudget::Full);
            loss += sign * psnr_db(&draw(model, &feature, frame.width())?, frame);
        }
        n += 1;
    }
    Ok((n >= LEAST_LOSS_FRAMES).then(|| loss / n as f64))
}

/// What a peer makes of the frames kept back: as in a call some become units, which tell of the ways
/// between them what they can.
fn through_codec(
    model: &FaceModel,
    profile: &Profile,
    frames: &[HeldOut<'_>],
) -> anyhow::Result<Vec<Feature>> {
    let mut refiner = PhotometricRefiner::new(model.clone());
    let mut encoder = Encoder::new(profile.clone());
    let mut decoder = Decoder::new(profile.clone());
    let mut shown = FeatureTimeline::new();
    for (i, held) in frames.iter().enumerate() {
        let feature = refiner.refine(held.frame, &held.measured, RefinementBudget::Full);
        let unit = encoder.push(&feature, i + 1 == frames.len());
        if let Some(EncodedUnit { number, time, unit, .. }) = unit {
            let decoded = decoder
                .decode(number, &unit)
                .context("a unit that was just encoded must decode")?;
            encoder.acknowledge(number);
            shown.extend(decoded.features(shown.newest_time(), time));
        }
    }
    // The last frame is a unit: where there is a frame, something is shown.
    Ok(frames.iter().filter_map(|held| shown.at(held.measured.time)).collect())
}

/// The picture of a feature, as a peer's screen shows it.
pub(crate) fn draw(model: &FaceModel, feature: &Feature, side: u32) -> anyhow::Result<Frame> {
    let picture = render_cpu(model, &model.frame_inputs(feature), side, DEFAULT_SAMPLES);
    let rgb: Vec<u8> = picture.as_flattened().iter().map(|v| (v * 255.0 + 0.5) as u8).collect();
    Ok(Frame::new(side, side, feature.time, rgb)?)
}

/// `0..n` in an order whose every beginning is spread over all of it (steps of the golden ratio).
fn spread(n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let place = |i: usize| (i as f64 * 0.618_033_988_75).fract();
    // Frame `order[k]` comes k-th, where k ranks its place on the golden spiral.
    let mut by_place: Vec<usize> = (0..n).collect();
    by_place.sort_by(|a, b| place(*a).total_cmp(&place(*b)));
    for (rank, &i) in by_place.iter().enumerate() {
        order[i] = rank;
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_beginning_of_the_order_is_spread_and_all_frames_come_once() {
        let order = spread(100);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        for quarter in 0..4 {
            let n = order[..12].iter().filter(|i| **i / 25 == quarter).count();
            assert!((2..=4).contains(&n), "{n} of the first twelve in quarter {quarter}");
        }
    }
}
