#![expect(clippy::disallowed_methods, reason = "this module measures durations")]

use std::time::{Duration, Instant};

use capture::{Source, SourceSpec};
use codec::{Decoder, EncodedUnit, Encoder};
use face::FaceFile;
use serde::Serialize;
use track::RefinementBudget;
use types::{Feature, MediaTime, SquareFrame};

use crate::clip::sender_of;

/// Number of the actor's frames that speed is measured on: four seconds.
const N_FRAMES: usize = 100;

/// Duration of one operation over many runs; serializes to one JSON line of `bench --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchRow {
    /// Name of the operation.
    pub what: String,
    /// Implementation: `cpu`, or the name of the graphics adapter.
    pub path: String,
    /// Side of the picture, pixels; `None` if the operation has none.
    pub resolution: Option<u32>,
    /// Median duration, milliseconds.
    pub ms_median: f64,
    /// 95th percentile of the duration, milliseconds.
    pub ms_p95: f64,
    /// Number of runs.
    pub runs: usize,
    /// Work in the picture, if one was rendered.
    #[serde(flatten)]
    pub picture: Option<PictureRow>,
}

/// Work in one picture, and how fast a machine does it.
///
/// One GFLOP is 10⁹ operations as [`face::Work`] counts them; a multiply-add counts as two.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PictureRow {
    /// Samples per ray.
    pub samples_per_ray: u32,
    /// Median duration by the adapter's timestamps, milliseconds; `None` without timestamps.
    pub gpu_ms_median: Option<f64>,
    /// Work by the definition of the field, GFLOP.
    pub gflop: f64,
    /// Data of the field that the definition reads and writes, 10⁶ bytes.
    pub mb: f64,
    /// Work over duration: by the adapter's timestamps, or else the median.
    pub gflop_per_s: f64,
    /// Peak rate of the same implementation when it does nothing but multiply-adds, GFLOP/s.
    pub fma_gflop_per_s: f64,
    /// Peak rate at which the same implementation reads an array as large as a folded field, 10⁹
    /// bytes/s; `None` on a GPU.
    pub read_gb_per_s: Option<f64>,
    /// `gflop_per_s` over `fma_gflop_per_s`. It can exceed 1, since renderers skip invisible work.
    pub share_of_fma: f64,
    /// Share of the rays that cross the head box, 0..=1.
    pub rays_in_box: f64,
    /// Share of the rays that hit the head, 0..=1.
    pub rays_on_head: f64,
    /// Work by stage.
    pub stages: Vec<StageRow>,
}

/// Work in one stage of a picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageRow {
    /// `fold`, `rays`, `march`, `samples`, `shade` or `backdrop`; see [`face::PictureWork`].
    pub stage: String,
    /// Work, GFLOP.
    pub gflop: f64,
    /// Data read and written, 10⁶ bytes.
    pub mb: f64,
}

impl PictureRow {
    /// Relates the work of a picture with `rays` to its duration, `ms_median` or, if known,
    /// `gpu_ms_median`, and to the peak rates of the path, `fma_gflop_per_s` and `read_gb_per_s`.
    pub fn new(
        sizes: &face::Sizes,
        rays: &face::Rays,
        samples_per_ray: u32,
        (ms_median, gpu_ms_median): (f64, Option<f64>),
        (fma_gflop_per_s, read_gb_per_s): (f64, Option<f64>),
    ) -> Self {
        let work = face::PictureWork::new(sizes, rays, samples_per_ray);
        let (giga, mega) = (|flops: u64| flops as f64 * 1e-9, |bytes: u64| bytes as f64 * 1e-6);
        let total = work.total();
        let gflop_per_s = giga(total.flops) / (gpu_ms_median.unwrap_or(ms_median) * 1e-3);
        let share = |part: u64| part as f64 / rays.all.max(1) as f64;
        Self {
            samples_per_ray,
            gpu_ms_median,
            gflop: giga(total.flops),
            mb: mega(total.bytes),
            gflop_per_s,
            fma_gflop_per_s,
            read_gb_per_s,
            share_of_fma: gflop_per_s / fma_gflop_per_s,
            rays_in_box: share(rays.in_box),
            rays_on_head: share(rays.on_head),
            stages: work
                .stages()
                .map(|(stage, work)| StageRow {
                    stage: stage.to_owned(),
                    gflop: giga(work.flops),
                    mb: mega(work.bytes),
                })
                .into(),
        }
    }
}

impl BenchRow {
    /// Summarizes the durations of the runs; zeros if there are none. Sorts `times`.
    pub fn new(what: &str, path: &str, resolution: Option<u32>, times: &mut [Duration]) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            let index = (share * times.len() as f64) as usize;
            times.get(index.min(times.len().saturating_sub(1))).map_or(0.0, Duration::as_secs_f64)
        };
        Self {
            what: what.to_owned(),
            path: path.to_owned(),
            resolution,
            ms_median: at(0.5) * 1000.0,
            ms_p95: at(0.95) * 1000.0,
            runs: times.len(),
            picture: None,
        }
    }
}

/// Tracks the first `n` frames of the actor with a face's tracker and returns the features found.
///
/// # Errors
/// If the face file has no sender part, or no face is found.
pub fn actor_features(face: &FaceFile, n: usize) -> anyhow::Result<Vec<Feature>> {
    let (mut tracker, _) = sender_of(face)?;
    let features: Vec<_> = actor_frames(n)?
        .iter()
        .filter_map(|frame| tracker.track(frame, RefinementBudget::Full).feature())
        .collect();
    anyhow::ensure!(!features.is_empty(), "the tracker found no face in the actor's frames");
    Ok(features)
}

/// Measures the tracker on the actor's frames: one row for each [`RefinementBudget`], and one for
/// the first frame, in which the face is searched for.
///
/// # Errors
/// If the face file has no sender part.
pub fn bench_track(face: &FaceFile) -> anyhow::Result<Vec<BenchRow>> {
    let frames = actor_frames(N_FRAMES)?;
    let side = frames.first().map(SquareFrame::side);
    let mut rows = Vec::new();
    for (what, budget) in [
        ("track", RefinementBudget::Full),
        ("track-hasty", RefinementBudget::Reduced),
        ("track-follow", RefinementBudget::None),
    ] {
        let (mut tracker, _) = sender_of(face)?;
        let mut times: Vec<_> =
            frames.iter().map(|frame| timed(|| tracker.track(frame, budget))).collect();
        // The first frame is searched for a face as a whole, which a call does once.
        let mut first: Vec<_> = times.drain(..times.len().min(1)).collect();
        rows.push(BenchRow::new(what, "cpu", side, &mut times));
        if budget == RefinementBudget::Full {
            rows.push(BenchRow::new("track-first", "cpu", side, &mut first));
        }
    }
    Ok(rows)
}

/// Measures encoder and decoder on the tracked features of the actor.
///
/// # Errors
/// If the face file has no sender part, or no face is found.
pub fn bench_codec(face: &FaceFile) -> anyhow::Result<Vec<BenchRow>> {
    let features = actor_features(face, N_FRAMES)?;
    let (_, profile) = sender_of(face)?;
    let mut encoder = Encoder::new(profile.clone());
    let mut decoder = Decoder::new(profile);
    let (mut encode, mut decode) = (Vec::new(), Vec::new());
    let n_ticks = features.len() / 2;
    for i in 0..2000 {
        // At the normal rate every other feature becomes a unit.
        let pair = [0, 1].map(|j| {
            let index = i * 2 + j;
            let time = MediaTime::of_frame(index as u64, 25);
            Feature { time, ..features[index % (n_ticks * 2)] }
        });
        let mut unit = None;
        encode.push(timed(|| {
            encoder.push(&pair[0], false);
            unit = encoder.push(&pair[1], true);
        }));
        let Some(EncodedUnit { number, unit, .. }) = unit else { continue };
        let mut is_decoded = false;
        decode.push(timed(|| is_decoded = decoder.decode(number, &unit).is_ok()));
        if is_decoded {
            encoder.acknowledge(number);
        }
    }
    Ok(vec![
        BenchRow::new("encode-unit", "cpu", None, &mut encode),
        BenchRow::new("decode-unit", "cpu", None, &mut decode),
    ])
}

fn actor_frames(n: usize) -> anyhow::Result<Vec<SquareFrame>> {
    let mut source = Source::open(&SourceSpec::Actor)?;
    let mut frames = Vec::with_capacity(n);
    while frames.len() < n
        && let Some(frame) = source.next_frame()?
    {
        frames.push(frame);
    }
    Ok(frames)
}

/// Returns the duration of `work`.
fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let started = Instant::now();
    std::hint::black_box(work());
    started.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_95th_percentile_are_read_from_sorted_times() {
        let mut times: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        let row = BenchRow::new("a", "b", None, &mut times);
        assert!((row.ms_median - 51.0).abs() < 1e-9 && (row.ms_p95 - 96.0).abs() < 1e-9);
        assert_eq!(BenchRow::new("a", "b", None, &mut []).runs, 0);
    }

    #[test]
    fn the_rate_of_a_picture_is_its_work_over_the_adapters_time() {
        let sizes = face::Sizes::tiny();
        let rays = face::Rays { all: 100, in_box: 50, on_head: 25 };
        let whole = PictureRow::new(&sizes, &rays, 6, (2.0, None), (10.0, None));
        let gpu = PictureRow::new(&sizes, &rays, 6, (2.0, Some(0.5)), (10.0, None));
        assert!((gpu.gflop_per_s / whole.gflop_per_s - 4.0).abs() < 1e-9);
        assert!((whole.gflop_per_s - whole.gflop / 2e-3).abs() < 1e-9);
        assert!((whole.share_of_fma - whole.gflop_per_s / 10.0).abs() < 1e-9);
        assert!((whole.rays_in_box - 0.5).abs() < 1e-9 && (gpu.rays_on_head - 0.25).abs() < 1e-9);
        let stages: f64 = whole.stages.iter().map(|stage| stage.gflop).sum();
        assert!((stages - whole.gflop).abs() < 1e-9);
    }

    #[test]
    fn a_row_without_a_picture_has_only_the_fields_of_a_duration() {
        let row = serde_json::to_value(BenchRow::new("encode", "cpu", None, &mut [])).unwrap();
        let names: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["ms_median", "ms_p95", "path", "resolution", "runs", "what"]);
    }
}
