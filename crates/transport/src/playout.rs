use std::collections::VecDeque;
use std::time::{Duration, Instant};
use types::{FEATURE_DIMS, Feature, FeatureTimeline, MediaTime};

use crate::concealment::{Concealment, MAX_CONCEALMENT};

/// What was invented glides over this long into what was received after all.
const LANDING: f64 = 0.200;
/// Features kept, at most: ten seconds at 25 a second.
const KEPT: usize = 256;
/// Arrivals the delay is chosen from; each counts this share of the one after it, so that a slow
/// start is forgotten within seconds.
const OBSERVED: usize = 200;
const REMEMBERED: f64 = 0.98;
/// Transit times are the least of the last two windows this long, so clock drift is followed.
const TRANSIT_WINDOW: f64 = 5.0;
/// Added to the observed need, for what was not observed.
const MARGIN: f64 = 0.004;
/// The playout delay stays below this, whatever the network does.
const MAX_DELAY: f64 = 0.5;
/// The face is shown later by at most this share of the time that passes, and earlier by the other.
const GROWTH: f64 = 0.25;
const SHRINKAGE: f64 = 0.05;

/// How the feature to show came about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shown {
    /// It was received, or lies between two that were; or it glides there after a gap.
    Received,
    /// Invented from those before; at most 400 ms.
    Extrapolated,
    /// Nothing to go by: the last one, again. The face freezes.
    Held,
}

/// Holds decoded features until they are due, and says what the face does now.
///
/// The playout delay follows what arrives: it is the 95th percentile of what would have been
/// needed lately for the *next* unit to be there whenever one is shown, so a packet rate, jitter
/// and clock drift all find their way into it. It changes slowly, as slow motion nobody sees.
///
/// The face never jumps, but for the tenth of a step by which a unit puts the one before it right: between
/// features it moves on straight lines (the head on an arc), past the
/// newest it goes on and comes to rest, and when features come again it glides to them.
#[derive(Debug)]
pub struct Playout {
    timeline: FeatureTimeline,
    concealment: Concealment,
    origin: Option<Instant>,
    /// Least of `arrival - media time`, seconds, in the window that runs and the one before.
    transit: f64,
    previous_transit: f64,
    window_end: f64,
    /// Delays that would have been needed, seconds, latest last.
    needed: VecDeque<f64>,
    /// What is due is what was captured this long ago, seconds: transit, clock offset and delay.
    lag: f64,
    /// When `lag` was last moved.
    moved: f64,
    /// Set while what is shown is invented: the newest feature it was invented from.
    invented_from: Option<MediaTime>,
    landing: Option<Landing>,
}

/// How far what is shown is from what is due, after something was invented that was not so.
#[derive(Clone, Copy, Debug)]
struct Landing {
    started: f64,
    /// `shown = turn * due`.
    turn: glam::Quat,
    /// `shown = due + offset` for what is no rotation.
    offset: [f32; FEATURE_DIMS],
}

impl Default for Playout {
    fn default() -> Self {
        Self::new()
    }
}

impl Playout {
    /// A playout with nothing to play.
    pub fn new() -> Self {
        Self {
            timeline: FeatureTimeline::with_capacity(KEPT),
            concealment: Concealment::default(),
            origin: None,
            transit: 0.0,
            previous_transit: 0.0,
            window_end: 0.0,
            needed: VecDeque::new(),
            lag: 0.0,
            moved: 0.0,
            invented_from: None,
            landing: None,
        }
    }

    /// Takes what a unit that arrived at `now` tells, in order: features on the way to it, and its own.
    /// What is not newer than all before it is dropped, but for a first one of the newest's time,
    /// which takes its place while that is not due.
    pub fn push(&mut self, now: Instant, told: &[Feature]) {
        let Some((feature, way)) = told.split_last() else { return };
        let last = self.newest();
        if last.is_some_and(|last| feature.time <= last) {
            return;
        }
        let arrival = self.seconds(now);
        let offset = arrival - feature.time.as_secs_f64();
        if self.timeline.is_empty() {
            (self.transit, self.previous_transit) = (offset, offset);
            self.window_end = arrival + TRANSIT_WINDOW;
            self.moved = arrival;
            self.lag = offset;
        } else if arrival >= self.window_end {
            self.previous_transit = self.transit;
            self.transit = offset;
            self.window_end = arrival + TRANSIT_WINDOW;
        }
        self.transit = self.transit.min(offset);
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
                    self.lag = self.base() + self.target();
                }
            }
        }
        // Also where nobody looks, as in a recording: the delay is told in the statistics.
        self.follow(arrival);
        let way = way.iter().filter(|on_the_way| on_the_way.time < feature.time);
        let due = arrival - self.lag;
        for feature in way.chain([feature]) {
            let newest = self.newest();
            if newest == Some(feature.time) && feature.time.as_secs_f64() <= due {
                // Already shown.
                continue;
            }
            if self.timeline.push(*feature) {
                let passed =
                    newest.map_or(Duration::ZERO, |newest| feature.time.saturating_since(newest));
                self.concealment.learn(feature, passed.as_secs_f64());
            }
        }
    }

    /// What to show at `now`, and how it came about. Call with times that do not go back.
    pub fn at(&mut self, now: Instant) -> Option<(Feature, Shown)> {
        let now = self.origin.map(|origin| now.saturating_duration_since(origin).as_secs_f64())?;
        self.follow(now);
        let due = MediaTime::from_micros(((now - self.lag).max(0.0) * 1e6) as u64);
        let newest = self.newest()?;
        let (feature, shown) = self.without_landing(self.timeline.len(), due)?;
        if let Some(from) = self.invented_from
            && from < newest
        {
            let n_known = self.timeline.iter().take_while(|feature| feature.time <= from).count();
            if let Some((expected, _)) = self.without_landing(n_known, due) {
                self.landing = Some(Landing::new(now, &self.landed(expected, now), &feature));
            }
        }
        self.invented_from = (shown != Shown::Received).then_some(newest);
        // The one before what is due stays, and one more to know how the face was moving.
        self.timeline.remove_before(due, 2);
        Some((self.landed(feature, now), shown))
    }

    /// How long features are held beyond the fastest transit seen.
    pub fn delay(&self) -> Duration {
        Duration::from_secs_f64((self.lag - self.base()).max(0.0))
    }

    /// Media time of the newest feature.
    pub fn newest(&self) -> Option<MediaTime> {
        self.timeline.newest_time()
    }

    /// The feature at `due`, if only the `n` oldest were here.
    fn without_landing(&self, n: usize, due: MediaTime) -> Option<(Feature, Shown)> {
        let known = self.timeline.iter().take(n);
        let first = *known.clone().next()?;
        if due <= first.time {
            return Some((first, Shown::Received));
        }
        let mut pairs = known.clone().zip(known.clone().skip(1));
        match pairs.find(|(_, after)| after.time >= due) {
            Some((before, after)) => Some((Feature::between(before, after, due), Shown::Received)),
            None => self.beyond(known.rev(), due),
        }
    }

    /// The feature at `due`, after the first of `newest_first`.
    fn beyond<'a>(
        &self,
        mut newest_first: impl Iterator<Item = &'a Feature>,
        due: MediaTime,
    ) -> Option<(Feature, Shown)> {
        let newest = newest_first.next()?;
        let past = due.saturating_since(newest.time).as_secs_f64();
        let shown = if past > MAX_CONCEALMENT { Shown::Held } else { Shown::Extrapolated };
        Some((self.concealment.beyond(newest_first.next(), newest, due), shown))
    }

    /// `feature` at `now`, moved by what is left of the landing.
    fn landed(&self, feature: Feature, now: f64) -> Feature {
        self.landing.and_then(|landing| landing.at(&feature, now)).unwrap_or(feature)
    }

    /// Moves the lag towards what is needed.
    fn follow(&mut self, now: f64) {
        let passed = (now - self.moved).clamp(0.0, 0.1);
        self.moved = self.moved.max(now);
        let wanted = self.base() + self.target() - self.lag;
        self.lag += wanted.clamp(-SHRINKAGE * passed, GROWTH * passed);
    }

    /// 95th percentile of the delays needed lately, seconds, the latest counting most.
    fn target(&self) -> f64 {
        let counts = std::iter::successors(Some(1.0), |count| Some(count * REMEMBERED));
        let mut sorted: Vec<(f64, f64)> = self.needed.iter().rev().copied().zip(counts).collect();
        sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut left = 0.05 * sorted.iter().map(|(_, count)| count).sum::<f64>();
        let enough = sorted.iter().find(|(_, count)| {
            left -= count;
            left < 0.0
        });
        enough.map_or(0.0, |(needed, _)| (needed + MARGIN).clamp(0.0, MAX_DELAY))
    }

    fn base(&self) -> f64 {
        self.transit.min(self.previous_transit)
    }

    fn seconds(&mut self, now: Instant) -> f64 {
        let origin = *self.origin.get_or_insert(now);
        now.saturating_duration_since(origin).as_secs_f64()
    }
}

impl Landing {
    /// From what is shown to what is due.
    fn new(started: f64, shown: &Feature, due: &Feature) -> Self {
        let mut offset = shown.to_array();
        for (o, d) in offset.iter_mut().zip(due.to_array()) {
            *o -= d;
        }
        Self { started, turn: shown.pose.quat() * due.pose.quat().inverse(), offset }
    }

    /// What is shown at `now` for what is due; `None` once it has landed.
    fn at(&self, due: &Feature, now: f64) -> Option<Feature> {
        let passed = ((now - self.started) / LANDING) as f32;
        if passed >= 1.0 {
            return None;
        }
        // Without a jerk at either end.
        let left = 1.0 - passed * passed * (3.0 - 2.0 * passed);
        let turned = glam::Quat::IDENTITY.slerp(self.turn, left) * due.pose.quat();
        let mut values = due.to_array();
        for (value, offset) in values.iter_mut().zip(self.offset) {
            *value += offset * left;
        }
        values[..3].copy_from_slice(&turned.to_scaled_axis().to_array());
        Feature::from_array(due.time, &values).ok()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's time has to begin somewhere")]
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
                playout.push(at(start, arrival), &[feature(ms)]);
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
    fn the_way_to_a_unit_is_gone_as_the_unit_tells() {
        let start = Instant::now();
        let (mut playout, mut behind) = (Playout::new(), Vec::new());
        for now in (0..4000).step_by(10) {
            // Half-way, at 40 ms, the face is where a straight way would have it 20 ms later.
            if now % 80 == 0 {
                let bend = Feature {
                    time: MediaTime::from_micros(1000 * (now + 40)),
                    ..feature(now + 60)
                };
                playout.push(at(start, now + 80), &[bend, feature(now + 80)]);
            }
            if let Some((feature, Shown::Received)) = playout.at(at(start, now + 80))
                && now > 1000
            {
                let due = feature.time.as_secs_f64() as f32 * 1000.0;
                behind.push((due % 80.0, feature.code.as_array()[0] * 1000.0 - due));
            }
        }
        assert!(behind.len() > 250, "{}", behind.len());
        for (phase, ahead) in behind {
            let want = 20.0 * (1.0 - (phase - 40.0).abs() / 40.0);
            assert!((ahead - want).abs() < 0.1, "{ahead} ms ahead {phase} ms after a unit");
        }
    }

    #[test]
    fn a_unit_puts_the_one_before_it_right() {
        let start = Instant::now();
        let (mut playout, mut behind) = (Playout::new(), Vec::new());
        // What was said to be at a time is where the face was 20 ms earlier.
        let said =
            |ms: u64, late: u64| Feature { time: feature(ms).time, ..feature(ms + 20 - late) };
        for now in (80..4000).step_by(10) {
            if now % 80 == 0 {
                playout.push(at(start, now), &[said(now - 80, 0), said(now, 20)]);
            }
            if let Some((feature, Shown::Received)) = playout.at(at(start, now))
                && now > 1000
            {
                let due = feature.time.as_secs_f64() as f32 * 1000.0;
                behind.push((due % 80.0, feature.code.as_array()[0] * 1000.0 - due));
            }
        }
        assert!(behind.len() > 250, "{}", behind.len());
        // The next unit is here a little before its turn.
        for (phase, ahead) in behind.into_iter().filter(|(phase, _)| *phase < 75.0) {
            let want = 20.0 * (1.0 - phase / 80.0);
            assert!((ahead - want).abs() < 0.1, "{ahead} ms ahead {phase} ms after a unit");
        }
        // Too late: what is shown already stays.
        let newest = playout.newest().unwrap();
        playout.at(at(start, 5000));
        let ms = newest.as_micros() / 1000;
        playout.push(at(start, 5000), &[said(ms, 0), said(ms + 80, 20)]);
        let there = playout.timeline.iter().find(|feature| feature.time == newest);
        assert_eq!(there, Some(&said(ms, 20)));
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
    fn a_slow_start_is_forgotten_within_seconds() {
        let shown = play(200, 8000, |i| Some(if i < 10 { 180 } else { 20 }));
        let behind = |at: u64| {
            let (now, ms, _) = shown.iter().rfind(|(now, ..)| *now <= at).unwrap();
            *now as f32 - ms
        };
        assert!(behind(1500) > 150.0, "{} ms", behind(1500));
        assert!(behind(7000) < 80.0, "{} ms", behind(7000));
    }

    #[test]
    fn the_delay_follows_where_nobody_looks() {
        let start = Instant::now();
        let mut playout = Playout::new();
        for i in 0..200 {
            let transit = if i < 3 { 250 } else { 20 };
            playout.push(at(start, i * 80 + transit), &[feature(i * 80)]);
        }
        assert!(playout.delay() < Duration::from_millis(120), "{:?}", playout.delay());
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

    /// A head that turns by `angle(s)` radians about a slanted axis.
    fn turned(ms: u64, angle: impl Fn(f32) -> f32) -> Feature {
        let axis = glam::Vec3::new(0.6, 0.8, 0.0) * angle(ms as f32 / 1000.0);
        let pose = HeadPose::new(axis, glam::Vec3::new(0.0, 0.0, 0.6)).unwrap();
        Feature { pose, ..feature(ms) }
    }

    #[test]
    fn a_steady_movement_is_steady_at_any_feature_and_display_rate() {
        for (fps, hz) in [(8, 60), (8, 120), (12, 60), (25, 60), (25, 120)] {
            let start = Instant::now();
            let mut playout = Playout::new();
            let mut shown: Vec<Feature> = Vec::new();
            let mut n_pushed = 0;
            for beat in 0..4 * hz {
                let now = start + Duration::from_secs(beat) / hz as u32;
                while n_pushed * 1000 / fps + 30 <= beat * 1000 / hz {
                    let ms = n_pushed * 1000 / fps;
                    playout.push(at(start, ms + 30), &[turned(ms, |s| s)]);
                    n_pushed += 1;
                }
                if let Some((feature, how)) = playout.at(now)
                    && beat > 2 * hz
                {
                    assert_eq!(how, Shown::Received, "{fps} features at {hz} Hz");
                    shown.push(feature);
                }
            }
            let want = 1.0 / hz as f32;
            for pair in shown.windows(2) {
                let turn = pair[0].pose.quat().angle_between(pair[1].pose.quat());
                let code = pair[1].code.as_array()[0] - pair[0].code.as_array()[0];
                // Angles of small turns are good to half a thousandth of a radian in f32.
                assert!((turn - want).abs() < 1e-3, "{turn} rad at {fps}, {hz}, not {want}");
                assert!((code - want).abs() < 2e-5, "{code} at {fps}, {hz}, not {want}");
            }
        }
    }

    #[test]
    fn after_an_outage_the_face_glides_to_where_it_is_due() {
        let shown = play(200, 8000, |i| (!(100..110).contains(&i)).then_some(20));
        let shown: Vec<_> = shown.into_iter().filter(|(now, ..)| *now > 1000).collect();
        let step = shown.windows(2).map(|pair| pair[1].1 - pair[0].1).fold(0.0, f32::max);
        // Coming to rest has taken the number back towards its mean, 2.5 s ago: a jump would be over
        // 1500. The glide makes it up in 200 ms, one and a half times as fast in the middle as on
        // average.
        assert!(step < 140.0, "{step} ms of movement in 10 ms");
        let landed = shown.iter().filter(|(now, ..)| *now > 4420 + 70 + 210);
        for (now, ms, _) in landed {
            let behind = *now as f32 - ms;
            assert!((55.0..=80.0).contains(&behind), "at {now} ms {behind} ms behind");
        }
    }

    #[test]
    fn a_head_that_turned_back_unseen_is_not_thrown_around() {
        let start = Instant::now();
        let mut playout = Playout::new();
        // To 0.5 rad in one second, then an outage in which it turns back to zero.
        let angle = |s: f32| if s < 1.0 { 0.5 * s } else { (0.5 - (s - 1.0)).max(0.0) };
        let mut arrivals = (0..100).map(|i| i * 40).filter(|ms| !(1000..1600).contains(ms));
        let mut next = arrivals.next();
        let mut shown = Vec::new();
        for now in (0..3000).step_by(10) {
            while let Some(ms) = next.filter(|ms| ms + 20 <= now) {
                playout.push(at(start, ms + 20), &[turned(ms, angle)]);
                next = arrivals.next();
            }
            shown.extend(playout.at(at(start, now)).map(|(feature, _)| feature.pose.quat()));
        }
        let steps: Vec<_> = shown.windows(2).map(|pair| pair[0].angle_between(pair[1])).collect();
        let most = steps.iter().copied().fold(0.0, f32::max);
        // Half a radian within 200 ms; at once it would be all of it.
        assert!(most < 0.05, "{most} rad in 10 ms");
        let last = shown[shown.len() - 1].angle_between(glam::Quat::IDENTITY);
        assert!(last < 2e-3, "it comes to rest, {last} rad away");
    }

    #[test]
    fn a_faster_path_is_followed_in_quick_motion_nobody_sees() {
        let shown = play(500, 20_000, |i| Some(if i < 100 { 100 } else { 40 }));
        let shown: Vec<_> = shown.into_iter().filter(|(now, ..)| *now > 1000).collect();
        for pair in shown.windows(2) {
            let step = pair[1].1 - pair[0].1;
            assert!((9.4..=10.6).contains(&step), "{step} ms in 10 ms at {} ms", pair[1].0);
        }
        let (now, ms, _) = shown[shown.len() - 1];
        assert!((80.0..=90.0).contains(&(now as f32 - ms)), "the way is 60 ms shorter");
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
