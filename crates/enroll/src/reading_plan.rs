//! Which frames of a source are read when there is no time or memory for all of them.

use std::time::Duration;

use types::Landmarks;

use face_shape::{CHIN, FOREHEAD};

/// Length of a run, frames. Frames are read in runs of neighbors, because pose and code of a frame are
/// measured from those before it.
pub(crate) const RUN: u64 = 24;
/// Frames that are read however long it takes: a face cannot be solved from fewer.
const MIN_FRAMES: u64 = 2 * RUN;

/// Costs of reading so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadingCosts {
    /// Time spent on frames that were tracked and kept, and their number.
    pub(crate) tracking: (Duration, u64),
    /// Time spent on leaving frames out, and their number.
    pub(crate) skipping: (Duration, u64),
}

impl ReadingCosts {
    /// Takes leaving out a frame for half as expensive as tracking it, until more is known.
    pub(crate) fn assume_decoding(&mut self) {
        let (time, n_frames) = self.tracking;
        self.skipping = (time / 2, n_frames);
    }
}

/// Share of the time for passing frames if the end of the source cannot be reached.
const PASSING: f64 = 0.75;

/// Plan of the reading: how many frames to leave out between two runs, so that the runs cover the whole
/// source evenly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadingPlan {
    /// Length of the source, frames; `None` if unknown.
    pub(crate) n_frames: Option<u64>,
    /// Most frames that can be kept.
    pub(crate) capacity: u64,
}

impl ReadingPlan {
    /// Returns how many frames to leave out before the next run; `None` if nothing more is to be read.
    ///
    /// `passed` frames of the source have been read or left out. `left` is the time left for reading;
    /// `None` without a limit. A source of unknown length is taken to be four times as long as what has
    /// passed, so its runs move apart as it goes on. If there is not even time to pass the rest of the
    /// source, three quarters of the time are spent on passing frames and the end is not read.
    pub(crate) fn gap(
        &self,
        passed: u64,
        left: Option<Duration>,
        costs: &ReadingCosts,
    ) -> Option<u64> {
        let n_kept = costs.tracking.1;
        let mut ahead = match self.n_frames {
            Some(n) => n.saturating_sub(passed),
            None => 3 * passed.max(RUN),
        } as f64;
        let mut n_runs = (self.capacity.saturating_sub(n_kept) / RUN) as f64;
        if let Some(left) = left {
            let left = left.as_secs_f64();
            let per_frame = |(time, n): (Duration, u64)| time.as_secs_f64() / n.max(1) as f64;
            let (keep, skip) = (per_frame(costs.tracking), per_frame(costs.skipping));
            let run = RUN as f64 * (keep - skip).max(1e-6);
            let mut affordable = (left - ahead * skip) / run;
            if affordable < 1.0 && left > 0.0 && skip > 0.0 {
                ahead = ahead.min(PASSING * left / skip);
                affordable = (1.0 - PASSING) * left / run;
            }
            if n_kept < MIN_FRAMES {
                affordable = affordable.max(1.0);
            }
            n_runs = n_runs.min(affordable);
        }
        let n_runs = n_runs.floor();
        if n_runs < 1.0 || ahead < 1.0 {
            return None;
        }
        Some(((ahead - n_runs * RUN as f64) / n_runs).max(0.0) as u64)
    }
}

/// Poses and expressions that have been read, to choose frames that differ from them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variety {
    seen: Vec<Vec<[f32; 2]>>,
}

impl Variety {
    /// Adds a face.
    pub(crate) fn add(&mut self, landmarks: &Landmarks) {
        self.seen.push(normalized(landmarks));
    }

    /// Returns how much a face differs from the most similar one that was added: the root mean square
    /// distance of their landmarks, in face heights, with both faces in the same place.
    pub(crate) fn novelty(&self, landmarks: &Landmarks) -> f32 {
        let face = normalized(landmarks);
        let distance = |other: &Vec<[f32; 2]>| {
            let pairs = face.iter().zip(other);
            let sum: f32 = pairs.map(|(p, q)| (p[0] - q[0]).powi(2) + (p[1] - q[1]).powi(2)).sum();
            (sum / face.len() as f32).sqrt()
        };
        self.seen.iter().map(distance).fold(f32::MAX, f32::min)
    }
}

/// Returns landmarks around their mean, in face heights.
fn normalized(landmarks: &Landmarks) -> Vec<[f32; 2]> {
    let points = &landmarks.points;
    let [top, chin] = [FOREHEAD, CHIN].map(|i| points[i]);
    let height = (top[0] - chin[0]).hypot(top[1] - chin[1]).max(1e-3);
    let mean = [0, 1].map(|i| points.iter().map(|p| p[i]).sum::<f32>() / points.len() as f32);
    points.iter().map(|p| [0, 1].map(|i| (p[i] - mean[i]) / height)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Reads a source with these costs for each frame; returns the runs' starts and the time it took.
    fn read(
        plan: &ReadingPlan,
        length: u64,
        limit: Option<Duration>,
        keep: Duration,
        skip: Duration,
    ) -> (Vec<u64>, Duration) {
        let (mut costs, mut starts) = (ReadingCosts::default(), Vec::new());
        let (mut at, mut n_skipped) = (0, 0);
        loop {
            let n = RUN.min(length - at);
            starts.push(at);
            at += n;
            costs.tracking = (costs.tracking.0 + keep * n as u32, costs.tracking.1 + n);
            let spent = keep * costs.tracking.1 as u32 + skip * n_skipped as u32;
            let left = limit.map(|limit| limit.saturating_sub(spent));
            if costs.skipping.1 == 0 && skip > MS(0) {
                costs.assume_decoding();
            }
            let Some(gap) = plan.gap(at, left, &costs).filter(|_| at < length) else {
                return (starts, spent);
            };
            let gap = gap.min(length - at);
            at += gap;
            n_skipped += gap;
            costs.skipping = (costs.skipping.0 + skip * gap as u32, costs.skipping.1 + gap);
            if at == length {
                return (starts, spent + skip * gap as u32);
            }
        }
    }

    fn plan(n_frames: impl Into<Option<u64>>) -> ReadingPlan {
        ReadingPlan { n_frames: n_frames.into(), capacity: 5000 }
    }

    #[test]
    fn a_source_that_fits_is_read_whole() {
        let (starts, _) = read(&plan(1000), 1000, Some(MS(60_000)), MS(10), MS(0));
        assert_eq!(starts, (0..1000).step_by(RUN as usize).collect::<Vec<_>>());
        let (starts, _) = read(&plan(1000), 1000, None, MS(10), MS(10));
        assert_eq!(starts.len(), 42);
    }

    #[test]
    fn ten_minutes_are_covered_evenly_within_five_seconds() {
        for skip in [Duration::ZERO, Duration::from_micros(100)] {
            let (starts, spent) = read(&plan(15_000), 15_000, Some(MS(5000)), MS(12), skip);
            assert!(spent < MS(5400), "{spent:?}");
            assert!(starts.len() >= 10, "{starts:?}");
            let widest = starts.windows(2).map(|w| w[1] - w[0]).max().unwrap();
            assert!(widest < 2 * 15_000 / starts.len() as u64, "{starts:?}");
            assert!(15_000 - starts.last().unwrap() < 2 * widest, "{starts:?}");
        }
    }

    #[test]
    fn a_source_that_is_slow_to_pass_is_read_as_far_as_time_allows() {
        let (starts, spent) = read(&plan(15_000), 15_000, Some(MS(5000)), MS(12), MS(6));
        assert!(spent < MS(5400), "{spent:?}");
        assert!(starts.len() >= 4 && *starts.last().unwrap() > 300, "{starts:?}");
    }

    #[test]
    fn memory_bounds_the_frames_that_are_kept() {
        let (starts, _) = read(&plan(100_000), 100_000, None, MS(10), MS(0));
        assert!(starts.len() as u64 * RUN <= 5000 && starts.len() > 190, "{}", starts.len());
        assert!(*starts.last().unwrap() > 98_000, "{starts:?}");
    }

    #[test]
    fn a_source_of_unknown_length_is_read_to_its_end_with_growing_gaps() {
        let (starts, spent) = read(&plan(None), 8000, Some(MS(8000)), MS(12), MS(1));
        assert!(spent < MS(8400), "{spent:?}");
        assert!(*starts.last().unwrap() > 3000, "{starts:?}");
    }

    #[test]
    fn a_machine_that_is_too_slow_still_reads_a_few_frames() {
        let (starts, _) = read(&plan(1000), 1000, Some(MS(100)), MS(1000), MS(0));
        assert_eq!(starts.len() as u64 * RUN, MIN_FRAMES);
    }

    #[test]
    fn a_turned_head_is_newer_than_one_that_moved() {
        let face = |stretch: f32, shift: f32| {
            let point = |i: u32| {
                let [x, y] = [(i % 22) as f32, (i / 22) as f32];
                [x * stretch + shift, y + shift, 0.0]
            };
            Landmarks::exact((0..478).map(point).collect())
        };
        let mut variety = Variety::default();
        variety.add(&face(1.0, 0.0));
        assert!(variety.novelty(&face(1.0, 9.0)) < 1e-3);
        assert!(variety.novelty(&face(0.7, 0.0)) > 0.01);
    }
}
