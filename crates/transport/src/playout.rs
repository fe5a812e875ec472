use std::collections::VecDeque;
use std::time::{Duration, Instant};
use types::{Feature, MediaTime};

use crate::concealment::{Concealment, MAX_CONCEALMENT};

/// Features kept, at most: ten seconds at 25 a second.
const KEPT: usize = 256;
/// Arrivals the delay is chosen from.
const OBSERVED: usize = 100;
/// Transit times are the least of the last two windows this long, so clock drift is followed.
const TRANSIT_WINDOW: f64 = 5.0;
/// Added to the observed need, for what was not observed.
const MARGIN: f64 = 0.004;
/// The playout delay stays below this, whatever the network does.
const MAX_DELAY: f64 = 0.5;
/// The delay grows by at most this share of the time that passes, and shrinks by the other.
const GROWTH: f64 = 0.25;
const SHRINKAGE: f64 = 0.05;

/// How the feature to show came about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shown {
    /// It was received, or lies between two that were.
    Received,
    /// Invented from those before; at most 400 ms.
    Extrapolated,
    /// Nothing to go by: the last one, again. The face freezes.
    Held,
}

/// Holds decoded features until they are due, and says what the face does now.
///
/// The playout delay follows what arrives: it is the 95th percentile of what would have been
/// needed lately for the *next* feature to be there whenever one is shown, so a packet rate, jitter
/// and clock drift all find their way into it. It changes slowly, as slow motion nobody sees.
#[derive(Debug, Default)]
pub struct Playout {
    features: VecDeque<Feature>,
    concealment: Concealment,
    origin: Option<Instant>,
    /// Least of `arrival - media time`, seconds, in the window that runs and the one before.
    transit: f64,
    previous_transit: f64,
    window_end: f64,
    /// Delays that would have been needed, seconds, latest last.
    needed: VecDeque<f64>,
    delay: f64,
    /// When `delay` was last moved.
    moved: f64,
}

impl Playout {
    /// A playout with nothing to play.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a decoded feature that arrived at `now`. One that is not newer than all before it is
    /// dropped.
    pub fn push(&mut self, now: Instant, feature: Feature) {
        let last = self.features.back().map(|f| f.time);
        if last.is_some_and(|last| feature.time <= last) {
            return;
        }
        let arrival = self.seconds(now);
        let offset = arrival - feature.time.as_secs_f64();
        if self.features.is_empty() {
            (self.transit, self.previous_transit) = (offset, offset);
            self.window_end = arrival + TRANSIT_WINDOW;
            self.moved = arrival;
        } else if arrival >= self.window_end {
            self.previous_transit = self.transit;
            self.transit = offset;
            self.window_end = arrival + TRANSIT_WINDOW;
        }
        self.transit = self.transit.min(offset);
        let passed = last.map_or(0.0, |last| feature.time.saturating_since(last).as_secs_f64());
        self.concealment.learn(&feature, passed);
        if let Some(last) = last {
            let gap = feature.time.saturating_since(last);
            // Across a camera switched off, or an outage, there is nothing to learn.
            if gap < Duration::from_millis(300) {
                let needed = arrival - self.base() - last.as_secs_f64();
                self.needed.push_back(needed.min(MAX_DELAY));
                if self.needed.len() > OBSERVED {
                    self.needed.pop_front();
                }
                if self.needed.len() == 1 {
                    self.delay = self.target();
                }
            }
        }
        self.features.push_back(feature);
        if self.features.len() > KEPT {
            self.features.pop_front();
        }
    }

    /// What to show at `now`, and how it came about. Call with times that do not go back.
    pub fn at(&mut self, now: Instant) -> Option<(Feature, Shown)> {
        let now = self.origin.map(|origin| now.saturating_duration_since(origin).as_secs_f64())?;
        self.follow(now);
        let due = (now - self.base() - self.delay).max(0.0);
        let due = MediaTime::from_micros((due * 1e6) as u64);
        // The one before what is due stays, and one more to know how the face was moving.
        while self.features.len() > 3 && self.features[2].time <= due {
            self.features.pop_front();
        }
        let after = self.features.iter().position(|feature| feature.time >= due);
        match after {
            Some(0) => self.features.front().map(|first| (*first, Shown::Received)),
            Some(i) => {
                let (before, after) = (&self.features[i - 1], &self.features[i]);
                Some((Feature::between(before, after, due), Shown::Received))
            }
            None => self.beyond(due),
        }
    }

    /// How long features are held beyond the fastest transit seen.
    pub fn delay(&self) -> Duration {
        Duration::from_secs_f64(self.delay.max(0.0))
    }

    /// Media time of the newest feature.
    pub fn newest(&self) -> Option<MediaTime> {
        self.features.back().map(|feature| feature.time)
    }

    /// The feature at `due`, after the newest.
    fn beyond(&self, due: MediaTime) -> Option<(Feature, Shown)> {
        let newest = self.features.back()?;
        let past = due.saturating_since(newest.time).as_secs_f64();
        let shown = if past > MAX_CONCEALMENT { Shown::Held } else { Shown::Extrapolated };
        let before = self.features.iter().rev().nth(1);
        Some((self.concealment.beyond(before, newest, due), shown))
    }

    /// Moves the delay towards what is needed.
    fn follow(&mut self, now: f64) {
        let passed = (now - self.moved).clamp(0.0, 0.1);
        self.moved = now;
        let wanted = self.target() - self.delay;
        self.delay += wanted.clamp(-SHRINKAGE * passed, GROWTH * passed);
    }

    /// 95th percentile of the delays needed lately, seconds.
    fn target(&self) -> f64 {
        let mut sorted: Vec<f64> = self.needed.iter().copied().collect();
        if sorted.is_empty() {
            return 0.0;
        }
        sorted.sort_by(f64::total_cmp);
        (sorted[(sorted.len() - 1) * 95 / 100] + MARGIN).clamp(0.0, MAX_DELAY)
    }

    fn base(&self) -> f64 {
        self.transit.min(self.previous_transit)
    }

    fn seconds(&mut self, now: Instant) -> f64 {
        let origin = *self.origin.get_or_insert(now);
        now.saturating_duration_since(origin).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{CODE_DIMS, Code, HeadPose};

    fn feature(ms: u64) -> Feature {
        let mut code = [0.0; CODE_DIMS];
        code[0] = ms as f32 / 1000.0;
        let translation = glam::Vec3::new(0.0, 0.0, 0.6);
        Feature {
            time: MediaTime::from_micros(ms * 1000),
            pose: HeadPose::new(glam::Vec3::ZERO, translation).unwrap(),
            code: Code::new(code).unwrap(),
        }
    }

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    /// Plays features at 25 fps that take `transit(i)` ms; gives what is shown each 10 ms.
    fn play(n: u64, end_ms: u64, transit: impl Fn(u64) -> Option<u64>) -> Vec<(u64, f32, Shown)> {
        let start = Instant::now();
        let mut playout = Playout::new();
        let mut arrivals: Vec<(u64, u64)> =
            (0..n).filter_map(|i| Some((i * 40 + transit(i)?, i * 40))).collect();
        arrivals.sort_unstable();
        let mut arrivals = arrivals.into_iter().peekable();
        let mut shown = Vec::new();
        for now in (0..end_ms).step_by(10) {
            while let Some((arrival, ms)) = arrivals.next_if(|(arrival, _)| *arrival <= now) {
                playout.push(at(start, arrival), feature(ms));
            }
            if let Some((feature, how)) = playout.at(at(start, now)) {
                shown.push((now, feature.code.as_array()[0] * 1000.0, how));
            }
        }
        shown
    }

    #[test]
    fn a_steady_stream_moves_steadily_one_frame_behind() {
        let shown = play(100, 4000, |_| Some(20));
        for (now, ms, how) in shown.iter().filter(|(now, ..)| *now > 1000) {
            assert_eq!(*how, Shown::Received, "at {now} ms");
            let behind = *now as f32 - ms;
            assert!((60.0..=70.0).contains(&behind), "at {now} ms {behind} ms behind");
        }
    }

    #[test]
    fn jitter_is_bought_off_with_delay_and_the_face_never_goes_back() {
        let shown = play(250, 10_000, |i| Some(20 + (i * 7919) % 50));
        let late: Vec<_> = shown.iter().filter(|(now, ..)| *now > 4000).collect();
        let received = late.iter().filter(|(.., how)| *how == Shown::Received).count();
        assert!(received * 100 >= late.len() * 94, "{received} of {}", late.len());
        // An extrapolated face may step back a little when the truth arrives.
        assert!(shown.windows(2).all(|pair| pair[1].1 >= pair[0].1 - 15.0));
    }

    #[test]
    fn an_outage_is_bridged_for_400_ms_then_held_then_over_at_once() {
        let shown = play(200, 8000, |i| (!(100..120).contains(&i)).then_some(20));
        let shown: Vec<_> = shown.into_iter().filter(|(now, ..)| *now > 1000).collect();
        let held: Vec<u64> =
            shown.iter().filter(|(.., how)| *how == Shown::Held).map(|(now, ..)| *now).collect();
        let extrapolated = shown.iter().filter(|(.., how)| *how == Shown::Extrapolated).count();
        // 840 ms without a feature, 40 to 60 of them covered by the delay, 400 by concealment.
        assert!((38..=44).contains(&extrapolated), "{extrapolated}");
        let held_ms = (held.last().unwrap() - held.first().unwrap()) + 10;
        assert!((340..=400).contains(&held_ms), "{held_ms} ms");
        assert_eq!(shown.iter().rfind(|(now, ..)| *now == 6000).unwrap().2, Shown::Received);
    }

    #[test]
    fn a_sender_clock_that_runs_slow_does_not_add_delay() {
        // 0.1 %: after a minute the transit seems 60 ms longer.
        let shown = play(1500, 60_000, |i| Some(20 + i * 40 / 1000));
        let (now, ms, _) = shown.last().unwrap();
        let behind = *now as f32 - ms - 60.0;
        assert!(behind < 85.0, "{behind} ms behind");
    }

    #[test]
    fn nothing_in_nothing_out() {
        assert_eq!(Playout::new().at(Instant::now()), None);
    }
}
