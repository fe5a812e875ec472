use std::collections::VecDeque;
use std::time::{Duration, Instant};

use types::{FEATURE_DIMS, Feature, FeatureTimeline, MediaTime};

use crate::concealment::{Concealment, MAX_CONCEALMENT};

/// Duration of the transition from a concealed to a received feature, in seconds.
const TRANSITION: f64 = 0.200;
/// Largest number of features that are kept: ten seconds at 25 per second.
const CAPACITY: usize = 256;
/// Number of arrivals from which the playout delay is estimated.
const OBSERVED: usize = 200;
/// Weight of an arrival relative to the next one, so that a slow start is forgotten in seconds.
const OBSERVATION_DECAY: f64 = 0.98;
/// The transit time is the minimum over the current and the previous window of this length, in
/// seconds, so that it follows clock drift.
const TRANSIT_WINDOW: f64 = 5.0;
/// Safety margin of the playout delay, in seconds.
const MARGIN: f64 = 0.004;
/// Largest playout delay that the network calls for, in seconds.
const MAX_DELAY: f64 = 0.5;
/// Longest additional wait for sound, in seconds.
const MAX_HOLD: f64 = 0.5;
/// Largest change of the delay per second: slower and faster playout that is not noticed.
const MAX_GROWTH: f64 = 0.25;
const MAX_SHRINKAGE: f64 = 0.05;
/// Longest time between two features from which the delay is estimated.
const MAX_OBSERVED_GAP: Duration = Duration::from_millis(300);

/// How a played-out feature was obtained.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PlayoutSource {
    /// Received, or interpolated between two received features; after a gap, with a transition
    /// from the concealed feature.
    Interpolated,
    /// Extrapolated from the newest features, for at most 400 ms.
    Extrapolated,
    /// The last extrapolated feature, held: the face is frozen.
    Held,
}

/// Playout buffer: holds decoded features until they are due, and interpolates between them.
///
/// The playout delay adapts to the network. For each recent unit there is a smallest delay at which
/// the unit would have arrived before the previous feature was played out; the playout delay
/// follows the 95th percentile of these delays, up to 0.5 s. It thus covers packet rate, jitter and
/// clock drift. It changes slowly.
///
/// The played-out face moves continuously: by linear interpolation between features (slerp for the
/// rotation of the head), by loss concealment after the newest feature, and with a smooth
/// transition when features arrive again. Only a correction of the feature towards which the face
/// is moving causes a jump, of at most a tenth of a quantizer step.
#[derive(Debug)]
pub struct Playout {
    timeline: FeatureTimeline,
    concealment: Concealment,
    /// Time 0 of all seconds below.
    origin: Option<Instant>,
    /// Minimum of `arrival - media time`, in seconds, in the current window and in the previous
    /// one.
    transit: f64,
    previous_transit: f64,
    window_end: f64,
    /// Delays that would have been needed, in seconds, oldest first.
    needed: VecDeque<f64>,
    /// Current time minus the media time that is due, in seconds: transit, clock offset and delay.
    offset: f64,
    /// Least offset that lip sync asks for, in seconds.
    held_offset: Option<f64>,
    /// When `offset` was last adapted.
    adapted: f64,
    /// Time of the newest feature, if the last played-out feature was extrapolated from it.
    concealed_after: Option<MediaTime>,
    transition: Option<Transition>,
}

/// Transition from a concealed feature to the received ones.
#[derive(Clone, Copy, Debug)]
struct Transition {
    started: f64,
    /// Rotation from the due to the concealed head pose.
    rotation: glam::Quat,
    /// Difference of the concealed from the due feature; its rotation is not used.
    difference: [f32; FEATURE_DIMS],
}

impl Playout {
    /// Returns an empty playout buffer.
    pub fn new() -> Self {
        Self {
            timeline: FeatureTimeline::with_capacity(CAPACITY),
            concealment: Concealment::default(),
            origin: None,
            transit: 0.0,
            previous_transit: 0.0,
            window_end: 0.0,
            needed: VecDeque::new(),
            offset: 0.0,
            held_offset: None,
            adapted: 0.0,
            concealed_after: None,
            transition: None,
        }
    }

    /// Adds the features of a unit that arrived at `now`, oldest first: a correction of the newest
    /// feature so far, intermediate features, and the unit's own.
    ///
    /// A correction of a feature that is already played out is ignored, and so is a unit that is
    /// not newer than the last one.
    pub fn push(&mut self, now: Instant, features: &[Feature]) {
        let Some((own, earlier)) = features.split_last() else { return };
        let newest = self.newest();
        if newest.is_some_and(|newest| own.time <= newest) {
            return;
        }
        let arrival = self.seconds(now);
        self.observe(arrival, own.time, newest);
        // Also if nothing is played out, as in a recording: the delay is part of the statistics.
        self.adapt(arrival);
        let due = arrival - self.offset;
        for feature in earlier.iter().filter(|feature| feature.time < own.time).chain([own]) {
            let newest = self.newest();
            if newest == Some(feature.time) && feature.time.as_secs_f64() <= due {
                continue;
            }
            if self.timeline.push(*feature) {
                let gap =
                    newest.map_or(Duration::ZERO, |newest| feature.time.saturating_since(newest));
                self.concealment.update(feature, gap.as_secs_f64());
            }
        }
    }

    /// Returns the feature to show at `now`, and how it was obtained; `None` before the first unit.
    /// Call it with times that do not decrease.
    pub fn at(&mut self, now: Instant) -> Option<(Feature, PlayoutSource)> {
        let now = self.origin.map(|origin| now.saturating_duration_since(origin).as_secs_f64())?;
        self.adapt(now);
        let due = media_time(now - self.offset);
        let newest = self.newest()?;
        let (feature, source) = self.without_transition(self.timeline.len(), due)?;
        if let Some(last_known) = self.concealed_after
            && last_known < newest
        {
            let n_known =
                self.timeline.iter().take_while(|feature| feature.time <= last_known).count();
            if let Some((concealed, _)) = self.without_transition(n_known, due) {
                let concealed = self.with_transition(concealed, now);
                self.transition = Some(Transition::new(now, &concealed, &feature));
            }
        }
        self.concealed_after = (source != PlayoutSource::Interpolated).then_some(newest);
        // The feature before the due time, and one more to measure motion.
        self.timeline.remove_before(due, 2);
        Some((self.with_transition(feature, now), source))
    }

    /// Returns the playout delay: the time from the earliest possible arrival of a feature, at the
    /// shortest recent transit time, to its playout.
    pub fn delay(&self) -> Duration {
        Duration::from_secs_f64((self.offset - self.shortest_transit()).max(0.0))
    }

    /// Returns the media time that is shown at `now`; `None` before the first unit.
    pub fn due(&self, now: Instant) -> Option<MediaTime> {
        let origin = self.origin?;
        let now = now.saturating_duration_since(origin).as_secs_f64();
        Some(media_time(now - self.offset))
    }

    /// Returns the media time that could be shown at `now` if the face waited for the network alone and
    /// not for sound; `None` before the first unit.
    pub fn earliest_due(&self, now: Instant) -> Option<MediaTime> {
        let origin = self.origin?;
        let now = now.saturating_duration_since(origin).as_secs_f64();
        Some(media_time(now - self.shortest_transit() - self.target_delay()))
    }

    /// Makes the face wait for sound: at `now`, nothing later than `latest` should be shown. The playout
    /// delay follows slowly, and by at most half a second.
    pub fn hold(&mut self, now: Instant, latest: MediaTime) {
        self.held_offset = Some(self.seconds(now) - latest.as_secs_f64());
    }

    /// Ends [`Playout::hold`].
    pub fn release(&mut self) {
        self.held_offset = None;
    }

    /// Returns the media time of the newest feature.
    pub fn newest(&self) -> Option<MediaTime> {
        self.timeline.newest_time()
    }

    /// Updates the statistics of arrivals with a unit captured at `time`; `newest` is the time of
    /// the feature before it.
    fn observe(&mut self, arrival: f64, time: MediaTime, newest: Option<MediaTime>) {
        let transit = arrival - time.as_secs_f64();
        if self.timeline.is_empty() {
            (self.transit, self.previous_transit) = (transit, transit);
            self.window_end = arrival + TRANSIT_WINDOW;
            self.adapted = arrival;
            self.offset = transit;
        } else if arrival >= self.window_end {
            self.previous_transit = self.transit;
            self.transit = transit;
            self.window_end = arrival + TRANSIT_WINDOW;
        }
        self.transit = self.transit.min(transit);
        if let Some(newest) = newest
            && time.saturating_since(newest) < MAX_OBSERVED_GAP
        {
            let needed = arrival - self.shortest_transit() - newest.as_secs_f64();
            self.needed.push_back(needed.min(MAX_DELAY));
            if self.needed.len() > OBSERVED {
                self.needed.pop_front();
            }
            if self.needed.len() == 1 {
                self.offset = self.shortest_transit() + self.target_delay();
            }
        }
    }

    /// Returns the feature at `due` if only the `n` oldest had arrived.
    fn without_transition(&self, n: usize, due: MediaTime) -> Option<(Feature, PlayoutSource)> {
        let known = self.timeline.iter().take(n);
        let first = *known.clone().next()?;
        if due <= first.time {
            return Some((first, PlayoutSource::Interpolated));
        }
        let mut pairs = known.clone().zip(known.clone().skip(1));
        if let Some((before, after)) = pairs.find(|(_, after)| after.time >= due) {
            return Some((Feature::between(before, after, due), PlayoutSource::Interpolated));
        }
        let mut newest_first = known.rev();
        let newest = newest_first.next()?;
        let past = due.saturating_since(newest.time).as_secs_f64();
        let source =
            if past > MAX_CONCEALMENT { PlayoutSource::Held } else { PlayoutSource::Extrapolated };
        Some((self.concealment.extrapolate(newest_first.next(), newest, due), source))
    }

    /// Applies what is left of a transition to a feature.
    fn with_transition(&self, feature: Feature, now: f64) -> Feature {
        self.transition.and_then(|transition| transition.at(&feature, now)).unwrap_or(feature)
    }

    /// Moves the offset towards its target.
    fn adapt(&mut self, now: f64) {
        let passed = (now - self.adapted).clamp(0.0, 0.1);
        self.adapted = self.adapted.max(now);
        let earliest = self.shortest_transit() + self.target_delay();
        let held = self.held_offset.map_or(earliest, |held| held.min(earliest + MAX_HOLD));
        let missing = earliest.max(held) - self.offset;
        self.offset += missing.clamp(-MAX_SHRINKAGE * passed, MAX_GROWTH * passed);
    }

    /// Returns the weighted 95th percentile of the delays needed recently, plus the margin, in
    /// seconds.
    fn target_delay(&self) -> f64 {
        let weights = std::iter::successors(Some(1.0), |weight| Some(weight * OBSERVATION_DECAY));
        let mut sorted: Vec<(f64, f64)> = self.needed.iter().rev().copied().zip(weights).collect();
        sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut left = 0.05 * sorted.iter().map(|(_, weight)| weight).sum::<f64>();
        let enough = sorted.iter().find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        enough.map_or(0.0, |(needed, _)| (needed + MARGIN).clamp(0.0, MAX_DELAY))
    }

    fn shortest_transit(&self) -> f64 {
        self.transit.min(self.previous_transit)
    }

    fn seconds(&mut self, now: Instant) -> f64 {
        let origin = *self.origin.get_or_insert(now);
        now.saturating_duration_since(origin).as_secs_f64()
    }
}

/// Returns the media time of `seconds`; zero for negative ones.
fn media_time(seconds: f64) -> MediaTime {
    MediaTime::from_micros((seconds.max(0.0) * 1e6) as u64)
}

impl Default for Playout {
    fn default() -> Self {
        Self::new()
    }
}

impl Transition {
    fn new(started: f64, concealed: &Feature, due: &Feature) -> Self {
        let mut difference = concealed.to_array();
        for (value, due) in difference.iter_mut().zip(due.to_array()) {
            *value -= due;
        }
        let rotation = concealed.pose.quat() * due.pose.quat().inverse();
        Self { started, rotation, difference }
    }

    /// Returns the feature to show at `now` in place of `due`; `None` once the transition is over.
    fn at(&self, due: &Feature, now: f64) -> Option<Feature> {
        let passed = ((now - self.started) / TRANSITION) as f32;
        if passed >= 1.0 {
            return None;
        }
        // Smoothstep: without a jerk at either end.
        let left = 1.0 - passed * passed * (3.0 - 2.0 * passed);
        let rotation = glam::Quat::IDENTITY.slerp(self.rotation, left) * due.pose.quat();
        let mut values = due.to_array();
        for (value, difference) in values.iter_mut().zip(self.difference) {
            *value += difference * left;
        }
        values[..3].copy_from_slice(&rotation.to_scaled_axis().to_array());
        Feature::from_array(due.time, &values).ok()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some first instant")]
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

    /// Plays out `n` features at 25 fps, of which feature `i` takes `transit(i)` ms or is lost.
    /// Returns every 10 ms: the time, the media time shown, and the source.
    fn play(
        n: u64,
        end_ms: u64,
        transit: impl Fn(u64) -> Option<u64>,
    ) -> Vec<(u64, f32, PlayoutSource)> {
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
            if let Some((feature, source)) = playout.at(at(start, now)) {
                shown.push((now, feature.code.as_array()[0] * 1000.0, source));
            }
        }
        shown
    }

    #[test]
    fn a_steady_stream_is_played_out_one_frame_late() {
        let shown = play(100, 4000, |_| Some(20));
        for (now, ms, source) in shown.iter().filter(|(now, ..)| *now > 1000) {
            assert_eq!(*source, PlayoutSource::Interpolated, "at {now} ms");
            let behind = *now as f32 - ms;
            assert!((60.0..=70.0).contains(&behind), "at {now} ms {behind} ms behind");
        }
    }

    #[test]
    fn intermediate_features_are_played_out() {
        let start = Instant::now();
        let (mut playout, mut leads) = (Playout::new(), Vec::new());
        for now in (0..4000).step_by(10) {
            // Halfway between two units the face is 20 ms ahead of linear motion.
            if now % 80 == 0 {
                let halfway = Feature {
                    time: MediaTime::from_micros(1000 * (now + 40)),
                    ..feature(now + 60)
                };
                playout.push(at(start, now + 80), &[halfway, feature(now + 80)]);
            }
            if let Some((feature, PlayoutSource::Interpolated)) = playout.at(at(start, now + 80))
                && now > 1000
            {
                let due = feature.time.as_secs_f64() as f32 * 1000.0;
                leads.push((due % 80.0, feature.code.as_array()[0] * 1000.0 - due));
            }
        }
        assert!(leads.len() > 250, "{}", leads.len());
        for (phase, lead) in leads {
            let want = 20.0 * (1.0 - (phase - 40.0).abs() / 40.0);
            assert!((lead - want).abs() < 0.1, "{lead} ms ahead {phase} ms after a unit");
        }
    }

    #[test]
    fn a_unit_corrects_the_previous_feature_unless_it_is_already_played_out() {
        let start = Instant::now();
        let (mut playout, mut leads) = (Playout::new(), Vec::new());
        // A unit's own feature is right; its correction of the previous one is 20 ms ahead.
        let ahead = |ms: u64, lead: u64| Feature { time: feature(ms).time, ..feature(ms + lead) };
        for now in (80..4000).step_by(10) {
            if now % 80 == 0 {
                playout.push(at(start, now), &[ahead(now - 80, 20), ahead(now, 0)]);
            }
            if let Some((feature, PlayoutSource::Interpolated)) = playout.at(at(start, now))
                && now > 1000
            {
                let due = feature.time.as_secs_f64() as f32 * 1000.0;
                leads.push((due % 80.0, feature.code.as_array()[0] * 1000.0 - due));
            }
        }
        assert!(leads.len() > 250, "{}", leads.len());
        // The next unit arrives a little before it is due.
        for (phase, lead) in leads.into_iter().filter(|(phase, _)| *phase < 75.0) {
            let want = 20.0 * (1.0 - phase / 80.0);
            assert!((lead - want).abs() < 0.1, "{lead} ms ahead {phase} ms after a unit");
        }
        let newest = playout.newest().unwrap();
        playout.at(at(start, 5000));
        let ms = newest.as_micros() / 1000;
        playout.push(at(start, 5000), &[ahead(ms, 20), ahead(ms + 80, 0)]);
        let there = playout.timeline.iter().find(|feature| feature.time == newest);
        assert_eq!(there, Some(&ahead(ms, 0)), "the correction came too late");
    }

    #[test]
    fn the_delay_absorbs_jitter_and_the_face_never_moves_back() {
        let shown = play(250, 10_000, |i| Some(20 + (i * 7919) % 50));
        let late: Vec<_> = shown.iter().filter(|(now, ..)| *now > 4000).collect();
        let received =
            late.iter().filter(|(.., source)| *source == PlayoutSource::Interpolated).count();
        assert!(received * 100 >= late.len() * 94, "{received} of {}", late.len());
        // An extrapolated face may move back a little when the next feature arrives.
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
    fn the_delay_adapts_even_if_nothing_is_played_out() {
        let start = Instant::now();
        let mut playout = Playout::new();
        for i in 0..200 {
            let transit = if i < 3 { 250 } else { 20 };
            playout.push(at(start, i * 80 + transit), &[feature(i * 80)]);
        }
        assert!(playout.delay() < Duration::from_millis(120), "{:?}", playout.delay());
    }

    #[test]
    fn an_outage_is_concealed_for_400_ms_and_then_the_face_is_held() {
        let shown = play(200, 8000, |i| (!(100..120).contains(&i)).then_some(20));
        let shown: Vec<_> = shown.into_iter().filter(|(now, ..)| *now > 1000).collect();
        let held: Vec<u64> = shown
            .iter()
            .filter(|(.., source)| *source == PlayoutSource::Held)
            .map(|(now, ..)| *now)
            .collect();
        let extrapolated =
            shown.iter().filter(|(.., source)| *source == PlayoutSource::Extrapolated).count();
        // Of 840 ms without a feature, the delay covers 40 to 60 and concealment 400.
        assert!((38..=44).contains(&extrapolated), "{extrapolated}");
        let held_ms = (held.last().unwrap() - held.first().unwrap()) + 10;
        assert!((340..=400).contains(&held_ms), "{held_ms} ms");
        assert_eq!(
            shown.iter().rfind(|(now, ..)| *now == 6000).unwrap().2,
            PlayoutSource::Interpolated
        );
    }

    /// Returns a head that has turned by `angle(seconds)` radians about an oblique axis.
    fn turned(ms: u64, angle: impl Fn(f32) -> f32) -> Feature {
        let axis = glam::Vec3::new(0.6, 0.8, 0.0) * angle(ms as f32 / 1000.0);
        let pose = HeadPose::new(axis, glam::Vec3::new(0.0, 0.0, 0.6)).unwrap();
        Feature { pose, ..feature(ms) }
    }

    #[test]
    fn steady_motion_is_steady_at_any_unit_and_display_rate() {
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
                if let Some((feature, source)) = playout.at(now)
                    && beat > 2 * hz
                {
                    assert_eq!(source, PlayoutSource::Interpolated, "{fps} units/s at {hz} Hz");
                    shown.push(feature);
                }
            }
            let want = 1.0 / hz as f32;
            for pair in shown.windows(2) {
                let turn = pair[0].pose.quat().angle_between(pair[1].pose.quat());
                let code = pair[1].code.as_array()[0] - pair[0].code.as_array()[0];
                // In f32, small angles are accurate to half a milliradian.
                assert!((turn - want).abs() < 1e-3, "{turn} rad at {fps}, {hz}, not {want}");
                assert!((code - want).abs() < 2e-5, "{code} at {fps}, {hz}, not {want}");
            }
        }
    }

    #[test]
    fn after_an_outage_there_is_a_smooth_transition() {
        let shown = play(200, 8000, |i| (!(100..110).contains(&i)).then_some(20));
        let shown: Vec<_> = shown.into_iter().filter(|(now, ..)| *now > 1000).collect();
        let step = shown.windows(2).map(|pair| pair[1].1 - pair[0].1).fold(0.0, f32::max);
        // Concealment has moved the number towards its mean, that of 2.5 s ago: a jump would be
        // over 1500 ms. The transition takes 200 ms and is fastest in the middle, 1.5 times the
        // average.
        assert!(step < 140.0, "{step} ms of motion in 10 ms");
        let landed = shown.iter().filter(|(now, ..)| *now > 4420 + 70 + 210);
        for (now, ms, _) in landed {
            let behind = *now as f32 - ms;
            assert!((55.0..=80.0).contains(&behind), "at {now} ms {behind} ms behind");
        }
    }

    #[test]
    fn a_head_that_turned_back_during_an_outage_does_not_jump() {
        let start = Instant::now();
        let mut playout = Playout::new();
        // It turns to 0.5 rad in one second, and back to zero during the outage that follows.
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
        // Half a radian within 200 ms.
        assert!(most < 0.05, "{most} rad in 10 ms");
        let last = shown[shown.len() - 1].angle_between(glam::Quat::IDENTITY);
        assert!(last < 2e-3, "{last} rad from the final pose");
    }

    #[test]
    fn a_shorter_transit_is_followed_slowly() {
        let shown = play(500, 20_000, |i| Some(if i < 100 { 100 } else { 40 }));
        let shown: Vec<_> = shown.into_iter().filter(|(now, ..)| *now > 1000).collect();
        for pair in shown.windows(2) {
            let step = pair[1].1 - pair[0].1;
            assert!((9.4..=10.6).contains(&step), "{step} ms in 10 ms at {} ms", pair[1].0);
        }
        let (now, ms, _) = shown[shown.len() - 1];
        assert!((80.0..=90.0).contains(&(now as f32 - ms)), "the transit is 60 ms shorter");
    }

    #[test]
    fn a_slow_sender_clock_does_not_add_delay() {
        // 0.1 %: after a minute the transit seems 60 ms longer.
        let shown = play(1500, 60_000, |i| Some(20 + i * 40 / 1000));
        let (now, ms, _) = shown.last().unwrap();
        let behind = *now as f32 - ms - 60.0;
        assert!(behind < 85.0, "{behind} ms behind");
    }

    #[test]
    fn a_face_that_waits_for_sound_slows_down_and_catches_up_again() {
        let start = Instant::now();
        let mut playout = Playout::new();
        let mut shown: Vec<(u64, f32)> = Vec::new();
        for now in (0..24_000_u64).step_by(10) {
            if now % 40 == 0 {
                playout.push(at(start, now + 20), &[feature(now)]);
            }
            let now = now + 20;
            // Sound is 250 ms late for four seconds.
            match now {
                4000..8000 => {
                    let latest = MediaTime::from_micros((now - 250) * 1000);
                    playout.hold(at(start, now), latest);
                }
                _ => playout.release(),
            }
            let free = playout.earliest_due(at(start, now)).unwrap().as_micros() / 1000;
            if let Some((feature, source)) = playout.at(at(start, now)) {
                if now > 1000 {
                    assert_eq!(source, PlayoutSource::Interpolated, "at {now} ms");
                    assert!((60..=70).contains(&(now - free)), "{free} at {now} ms");
                }
                let due = playout.due(at(start, now)).unwrap();
                assert_eq!(due, feature.time);
                shown.push((now, feature.code.as_array()[0] * 1000.0));
            }
        }
        let behind = |at: u64| {
            let (now, ms) = shown.iter().rfind(|(now, _)| *now <= at).unwrap();
            *now as f32 - ms
        };
        assert!((60.0..=70.0).contains(&behind(3900)), "{} ms", behind(3900));
        assert!((249.0..=251.0).contains(&behind(7900)), "{} ms", behind(7900));
        assert!((60.0..=70.0).contains(&behind(23_900)), "{} ms", behind(23_900));
        let settled = shown.iter().skip_while(|(now, _)| *now < 1000).map(|(_, ms)| *ms);
        assert!(settled.is_sorted_by(|a, b| a < b), "the face moved back");
    }

    #[test]
    fn a_face_does_not_wait_for_sound_for_longer_than_half_a_second() {
        let start = Instant::now();
        let mut playout = Playout::new();
        for now in (0..8000).step_by(40) {
            playout.push(at(start, now + 20), &[feature(now)]);
            playout.hold(at(start, now + 20), MediaTime::ZERO);
            playout.at(at(start, now + 20));
        }
        let delay = playout.delay().as_millis();
        assert!((540..=550).contains(&delay), "{delay} ms");
    }

    #[test]
    fn an_empty_playout_shows_nothing() {
        assert_eq!(Playout::new().at(Instant::now()), None);
    }
}
