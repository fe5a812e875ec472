//! Evaluation of a face on held-out frames.

use std::time::Duration;

use anyhow::Context;
use codec::{Decoder, EncodedUnit, Encoder, Profile};
use face::{DEFAULT_SAMPLES, FaceModel, psnr_db, render_cpu, ssim};
use track::{PhotometricRefiner, RefinementBudget};
use types::{Feature, FeatureTimeline, SquareFrame};

use crate::clock::BudgetClock;
use crate::progress::Stage;
use crate::warnings::Warning;

/// Held-out frame with its measured feature.
pub(crate) struct HeldOut<'a> {
    pub(crate) frame: &'a SquareFrame,
    pub(crate) measured: Feature,
}

/// Mean quality over the evaluated frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quality {
    pub(crate) psnr_db: f64,
    pub(crate) ssim: f64,
    /// Number of evaluated frames.
    pub(crate) n_frames: usize,
}

/// Compares held-out frames with what a peer would see: rendered from the packed face and from features
/// that passed the codec.
///
/// Frames are taken in an order that covers the recording evenly at any time, so that the frames
/// evaluated before `deadline` (time since the start of the enrollment) are representative. At least
/// one frame is evaluated.
///
/// # Errors
/// If the progress callback asks to stop or a feature cannot be decoded.
pub(crate) fn evaluate(
    model: &FaceModel,
    profile: &Profile,
    frames: &[HeldOut<'_>],
    deadline: Option<Duration>,
    clock: &mut BudgetClock<'_>,
) -> anyhow::Result<Quality> {
    let decoded = decoded_features(model, profile, frames)?;
    let (mut psnr_sum, mut ssim_sum, mut n) = (0.0, 0.0, 0);
    for (count, at) in even_order(frames.len()).into_iter().enumerate() {
        if n > 0 && deadline.is_some_and(|d| clock.elapsed() >= d) {
            break;
        }
        let frame = frames[at].frame;
        let picture = render(model, &decoded[at], frame.side())?;
        psnr_sum += psnr_db(&picture, frame);
        ssim_sum += ssim(&picture, frame);
        n += 1;
        clock.report(Stage::Measuring, count as f32 / frames.len() as f32, n as u64, None)?;
    }
    Ok(Quality { psnr_db: psnr_sum / n as f64, ssim: ssim_sum / n as f64, n_frames: n })
}

/// Held-out PSNR in dB that the worst of the good recordings reaches after [`USUAL_STEPS`] steps, and what
/// is missing for each halving of the steps below.
const USUAL_DB: f64 = 30.0;
const USUAL_STEPS: f64 = 2500.0;
const DB_PER_HALVING: f64 = 1.5;
/// Held-out PSNR in dB below which a result is bad after any number of steps.
const LEAST_DB: f64 = 23.0;

/// Returns a warning if the held-out PSNR is below what a good recording gives after as many steps.
///
/// docs/ENROLLMENT.md names the measurements.
pub(crate) fn poor_result(psnr_db: f64, steps: u32) -> Option<Warning> {
    let halvings = (USUAL_STEPS / f64::from(steps.max(1))).log2().max(0.0);
    let usual_db = (USUAL_DB - DB_PER_HALVING * halvings).max(LEAST_DB);
    (psnr_db < usual_db)
        .then_some(Warning::PoorResult { psnr_db: psnr_db as f32, usual_db: usual_db as f32 })
}

/// Most and least frames on which the packing loss is measured.
const MAX_LOSS_FRAMES: usize = 24;
const MIN_LOSS_FRAMES: usize = 8;

/// Measures the packing loss in dB: mean PSNR of frames rendered from the `trained` field minus that of
/// frames rendered from the `packed` field.
///
/// Features are not quantized, and refined against the field that renders them. `None` if fewer than 8
/// frames are evaluated before `deadline`.
///
/// # Errors
/// If the progress callback asks to stop.
pub(crate) fn packing_loss(
    trained: &FaceModel,
    packed: &FaceModel,
    frames: &[HeldOut<'_>],
    deadline: Option<Duration>,
    clock: &mut BudgetClock<'_>,
) -> anyhow::Result<Option<f64>> {
    let mut refiners = [trained, packed].map(|model| PhotometricRefiner::new(model.clone()));
    let (mut loss, mut n) = (0.0, 0);
    for at in even_order(frames.len()).into_iter().take(MAX_LOSS_FRAMES) {
        clock.report(Stage::Measuring, 1.0, n as u64, None)?;
        if deadline.is_some_and(|deadline| clock.elapsed() >= deadline) {
            break;
        }
        let HeldOut { frame, measured } = &frames[at];
        for ((model, refiner), sign) in
            [trained, packed].into_iter().zip(&mut refiners).zip([1.0, -1.0])
        {
            // Consecutive iterations evaluate distant frames.
            refiner.reset();
            let feature = refiner.refine(frame, measured, RefinementBudget::Full);
            let picture = render(model, &feature, frame.side())?;
            loss += sign * psnr_db(&picture, frame);
        }
        n += 1;
    }
    Ok((n >= MIN_LOSS_FRAMES).then(|| loss / n as f64))
}

/// Refines, encodes and decodes the features of the held-out frames as in a call, in which some frames
/// become access units and the others intermediate features. Returns one feature for each frame.
fn decoded_features(
    model: &FaceModel,
    profile: &Profile,
    frames: &[HeldOut<'_>],
) -> anyhow::Result<Vec<Feature>> {
    let mut refiner = PhotometricRefiner::new(model.clone());
    let mut encoder = Encoder::new(profile.clone());
    let mut decoder = Decoder::new(profile.clone());
    let mut timeline = FeatureTimeline::new();
    for (i, held_out) in frames.iter().enumerate() {
        let feature = refiner.refine(held_out.frame, &held_out.measured, RefinementBudget::Full);
        let unit = encoder.push(&feature, i + 1 == frames.len());
        if let Some(EncodedUnit { number, time, unit, .. }) = unit {
            let decoded = decoder
                .decode(number, &unit)
                .context("a unit that was just encoded must decode")?;
            encoder.acknowledge(number);
            timeline.extend(decoded.features(timeline.newest_time(), time));
        }
    }
    // The last frame is always a unit, so that every frame has a feature.
    Ok(frames.iter().filter_map(|held_out| timeline.at(held_out.measured.time)).collect())
}

/// Renders the picture of a feature at `side` by `side` pixels, as a peer sees it.
///
/// # Errors
/// If `side` is zero.
pub(crate) fn render(
    model: &FaceModel,
    feature: &Feature,
    side: u32,
) -> anyhow::Result<SquareFrame> {
    let picture = render_cpu(model, &model.frame_inputs(feature), side, DEFAULT_SAMPLES);
    Ok(SquareFrame::from_colors(side, feature.time, &picture)?)
}

/// Returns `0..n` in an order of which every prefix covers the range evenly (golden ratio sequence).
fn even_order(n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let place = |i: usize| (i as f64 * 0.618_033_988_75).fract();
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
    fn a_result_is_judged_by_the_steps_it_took() {
        // Rows of docs/RESULTS.md.
        for (psnr_db, steps) in [(33.84, 27_297), (32.25, 2904), (31.33, 4922), (35.53, 4153)] {
            assert_eq!(poor_result(psnr_db, steps), None, "{psnr_db} dB");
        }
        let poor = poor_result(21.74, 7202);
        assert_eq!(poor, Some(Warning::PoorResult { psnr_db: 21.74, usual_db: 30.0 }));
        assert_eq!(poor_result(27.0, 300), None);
        let hasty = poor_result(19.8, 12);
        assert_eq!(hasty, Some(Warning::PoorResult { psnr_db: 19.8, usual_db: 23.0 }));
        assert!(poor_result(27.0, 3000).is_some());
    }

    #[test]
    fn every_prefix_of_the_order_is_even_and_all_frames_occur_once() {
        let order = even_order(100);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        for quarter in 0..4 {
            let n = order[..12].iter().filter(|i| **i / 25 == quarter).count();
            assert!((2..=4).contains(&n), "{n} of the first twelve in quarter {quarter}");
        }
    }
}
