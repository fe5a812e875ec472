#![expect(clippy::disallowed_methods, reason = "this module measures how long things take")]

use std::time::{Duration, Instant};

use capture::{Source, SourceSpec};
use codec::{Decoder, Encoder, UnitId};
use face::FaceFile;
use serde::Serialize;
use types::{Feature, Frame};

use crate::clip::sender_of;

/// Frames of the actor that speeds are measured on: four seconds.
const N_FRAMES: usize = 100;

/// How long one thing took, over many runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchRow {
    /// What was done.
    pub what: String,
    /// By which code, or on which adapter.
    pub path: String,
    /// Side of the picture, pixels, where there is one.
    pub resolution: Option<u32>,
    /// Half of the runs took less.
    pub ms_median: f64,
    /// 19 of 20 runs took less.
    pub ms_p95: f64,
    /// Runs.
    pub runs: usize,
}

impl BenchRow {
    /// A row from the times of the runs, which are sorted; zeros if there are none.
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
        }
    }
}

/// What a face's tracker sees in the first `n` frames of the actor.
///
/// # Errors
/// If the face file cannot send.
pub fn actor_features(face: &FaceFile, n: usize) -> anyhow::Result<Vec<Feature>> {
    let (mut tracker, _) = sender_of(face)?;
    let features: Vec<_> =
        actor_frames(n)?.iter().filter_map(|frame| tracker.track(frame)).collect();
    anyhow::ensure!(!features.is_empty(), "the tracker found no face in the actor's frames");
    Ok(features)
}

/// Times the whole tracker on the actor's frames.
///
/// # Errors
/// If the face file cannot send.
pub fn bench_track(face: &FaceFile) -> anyhow::Result<Vec<BenchRow>> {
    let (mut tracker, _) = sender_of(face)?;
    let frames = actor_frames(N_FRAMES)?;
    let side = frames.first().map(Frame::width);
    let mut times: Vec<_> = frames.iter().map(|frame| timed(|| tracker.track(frame))).collect();
    // The first frame is searched as a whole; a call does that once.
    let mut first: Vec<_> = times.drain(..times.len().min(1)).collect();
    Ok(vec![
        BenchRow::new("track", "cpu", side, &mut times),
        BenchRow::new("track-first", "cpu", side, &mut first),
    ])
}

/// Times encoder and decoder on what the tracker sees of the actor.
///
/// # Errors
/// If the face file cannot send.
pub fn bench_codec(face: &FaceFile) -> anyhow::Result<Vec<BenchRow>> {
    let features = actor_features(face, N_FRAMES)?;
    let (_, profile) = sender_of(face)?;
    let mut encoder = Encoder::new(profile.clone());
    let mut decoder = Decoder::new(profile);
    let (mut encode, mut decode) = (Vec::new(), Vec::new());
    for (i, feature) in (0..).zip(features.iter().cycle().take(2000)) {
        let mut unit = None;
        encode.push(timed(|| unit = Some(encoder.encode(feature))));
        let Some(unit) = unit else { continue };
        let mut decoded = None;
        decode.push(timed(|| decoded = decoder.decode(UnitId::from_count(i), &unit).ok()));
        if let Some(decoded) = decoded {
            encoder.acknowledge(decoded.id);
        }
    }
    Ok(vec![
        BenchRow::new("encode", "cpu", None, &mut encode),
        BenchRow::new("decode", "cpu", None, &mut decode),
    ])
}

fn actor_frames(n: usize) -> anyhow::Result<Vec<Frame>> {
    let mut source = Source::open(&SourceSpec::Actor)?;
    let mut frames = Vec::with_capacity(n);
    while frames.len() < n
        && let Some(frame) = source.next_frame()?
    {
        frames.push(frame);
    }
    Ok(frames)
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let started = Instant::now();
    std::hint::black_box(work());
    started.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_the_95th_near_the_end() {
        let mut times: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        let row = BenchRow::new("a", "b", None, &mut times);
        assert!((row.ms_median - 51.0).abs() < 1e-9 && (row.ms_p95 - 96.0).abs() < 1e-9);
        assert_eq!(BenchRow::new("a", "b", None, &mut []).runs, 0);
    }
}
