//! Which moments of a call a recording shows: all of them, without long pauses.

use std::collections::VecDeque;
use std::time::Instant;

use types::MediaTime;

/// Longest pause that is recorded as a still picture, microseconds; longer ones are cut out.
const MAX_STILL_US: u64 = 10_000_000;
/// How far a still picture may make a recording longer than the time it took, microseconds. A jump
/// of media time that would exceed it is cut out.
const MAX_AHEAD_US: u64 = 2_000_000;
/// Longest pause that is recorded in any case, microseconds: features that waited for the face come
/// all at once.
const SHORT_STILL_US: u64 = 1_000_000;
/// How much longer a recording may be than the time it took, microseconds. More than a minute of sound and two of
/// features never waits, so this is a clock that runs ahead.
const MAX_WAITED_US: u64 = 120_000_000;
/// Most cuts that are remembered for sound that comes late.
const MAX_CUTS: usize = 64;

/// Media times of the pictures of a recording, at a constant rate.
pub(crate) struct RecordingTimeline {
    fps: u32,
    /// When the first feature or sound came.
    started: Instant,
    first: MediaTime,
    next: MediaTime,
    n_pictures: u64,
    /// Media time from which on the recording continues after a cut, and its picture then. Begins with that
    /// of the first picture.
    cuts: VecDeque<(MediaTime, u64)>,
}

impl RecordingTimeline {
    /// Starts a recording with the moment `first`, of which is known at `now`.
    pub(crate) fn new(fps: u32, first: MediaTime, now: Instant) -> Self {
        let cuts = VecDeque::from([(first, 0)]);
        Self { fps, started: now, first, next: first, n_pictures: 0, cuts }
    }

    /// Returns the media time of the first picture.
    pub(crate) fn first(&self) -> MediaTime {
        self.first
    }

    /// Returns the media time of the next picture.
    pub(crate) fn next(&self) -> MediaTime {
        self.next
    }

    /// Returns the number of pictures so far.
    pub(crate) fn n_pictures(&self) -> u64 {
        self.n_pictures
    }

    /// Prepares for the pictures before `until`, of which is known at `now`: a long pause is cut out, and
    /// so is one that would make the recording much longer than the time that it took.
    pub(crate) fn reach(&mut self, until: MediaTime, now: Instant) {
        let pause = until.as_micros().saturating_sub(self.next.as_micros());
        let took = now.saturating_duration_since(self.started).as_micros() as u64;
        let recorded = MediaTime::of_frame(self.n_pictures, self.fps).as_micros();
        let ahead = recorded.saturating_add(pause).saturating_sub(took + took / 20);
        let is_jump = pause > SHORT_STILL_US && ahead > MAX_AHEAD_US;
        if pause > MAX_STILL_US || is_jump || ahead > MAX_WAITED_US {
            self.next = until;
            self.cuts.push_back((until, self.n_pictures));
            if self.cuts.len() > MAX_CUTS {
                self.cuts.pop_front();
            }
        }
    }

    /// Notes that the picture of [`RecordingTimeline::next`] was made.
    pub(crate) fn advance(&mut self) {
        let step = MediaTime::of_frame(1, self.fps).as_micros();
        self.next = MediaTime::from_micros(self.next.as_micros().saturating_add(step));
        self.n_pictures += 1;
    }

    /// Returns when the recording shows the moment `time`, counted from its first picture; `None` if that
    /// lies before it, or was cut out.
    pub(crate) fn position(&self, time: MediaTime) -> Option<MediaTime> {
        let cut_idx = self.cuts.partition_point(|(from, _)| *from <= time).checked_sub(1)?;
        let start = |(_, picture): &(MediaTime, u64)| MediaTime::of_frame(*picture, self.fps);
        let cut = self.cuts.get(cut_idx)?;
        let position = start(cut) + time.saturating_since(cut.0);
        let is_cut_out = self.cuts.get(cut_idx + 1).is_some_and(|next| position >= start(next));
        (!is_cut_out).then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn seconds(s: f64) -> MediaTime {
        MediaTime::from_micros((s * 1e6) as u64)
    }

    #[test]
    fn a_pause_is_cut_out_of_pictures_and_sound_alike() {
        let started = Instant::now();
        let mut timeline = RecordingTimeline::new(25, seconds(5.0), started);
        for _ in 0..50 {
            timeline.advance();
        }
        timeline.reach(seconds(20.0), started + Duration::from_secs(15));
        assert_eq!(timeline.next(), seconds(20.0));
        timeline.advance();
        for (media, want) in [
            (4.9, None),
            (5.0, Some(0.0)),
            (6.5, Some(1.5)),
            (7.5, None),
            (19.9, None),
            (20.0, Some(2.0)),
            (21.25, Some(3.25)),
        ] {
            assert_eq!(timeline.position(seconds(media)), want.map(seconds), "{media} s");
        }
    }

    #[test]
    fn a_short_pause_stays() {
        let started = Instant::now();
        let mut timeline = RecordingTimeline::new(25, seconds(0.0), started);
        timeline.reach(seconds(8.0), started + Duration::from_secs(8));
        assert_eq!((timeline.next(), timeline.n_pictures()), (seconds(0.0), 0));
        assert_eq!(timeline.first(), seconds(0.0));
        // The same in no time makes the recording too long.
        timeline.reach(seconds(8.0), started);
        assert_eq!(timeline.next(), seconds(8.0));
    }

    #[test]
    fn a_clock_that_runs_ahead_makes_no_long_recording() {
        let started = Instant::now();
        let mut timeline = RecordingTimeline::new(25, seconds(0.0), started);
        // Half an hour in twenty seconds, a little at a time.
        for i in 1..=2000_u32 {
            let until = seconds(0.9 * f64::from(i));
            timeline.reach(until, started + i * Duration::from_millis(10));
            while timeline.next() < until {
                timeline.advance();
            }
        }
        let recorded = timeline.n_pictures() / 25;
        assert!((100..=141).contains(&recorded), "{recorded} s");
    }
}
