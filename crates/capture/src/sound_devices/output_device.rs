//! Speaker of the system, followed wherever it goes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::change::{DeviceChange, SoundDevice, SoundError};
use super::device_host::{OutputHost, find_name};
use super::follower::{Follower, Wanted};
use super::output_line::OutputLine;
use super::paced_speaker::PacedSpeaker;
use super::waker::Waker;
use super::{BLOCK, BLOCK_SAMPLES};

/// How long an open device may take nothing before sound is paced by the clock in its place.
const MAX_STALL: Duration = Duration::from_millis(200);

/// Speaker of the system, or the pace of one while there is none.
pub(super) struct OutputDevice {
    follower: Follower<OutputLine>,
    output: Output,
    waker: Waker,
    changes: VecDeque<DeviceChange>,
}

impl OutputDevice {
    /// Opens a speaker by its name, or the default one.
    pub(super) fn open(name: Option<&str>) -> Result<Self, SoundError> {
        let device = SoundDevice::Speaker;
        let wanted = match name {
            None => Wanted::Default,
            Some(name) => Wanted::Named(find_name(device, name)?),
        };
        let waker = Waker::default();
        let host_waker = waker.clone();
        let connect = move || OutputHost::connect(host_waker);
        let follower = Follower::start(device, wanted, connect)?;
        Ok(Self { follower, output: Output::new(), waker, changes: VecDeque::new() })
    }

    /// Returns how long it takes at most until another block is wanted.
    pub(super) fn room_in(&mut self, now: Instant) -> Duration {
        while let Some(news) = self.follower.take_news() {
            self.output.replace(news.line);
            self.changes.push_back(news.change);
        }
        self.output.room_in(now)
    }

    /// Waits for the device.
    pub(super) fn wait(&self, timeout: Duration) {
        self.waker.wait(timeout);
    }

    pub(super) fn play(&mut self, now: Instant, samples: &[f32; BLOCK_SAMPLES]) {
        self.output.play(now, samples);
    }

    pub(super) fn queued(&self, now: Instant) -> Duration {
        self.output.queued(now)
    }

    pub(super) fn n_gaps(&self) -> u64 {
        self.output.n_gaps()
    }

    pub(super) fn take_change(&mut self) -> Option<DeviceChange> {
        self.changes.pop_front()
    }
}

/// One device after another, and the clock between them.
struct Output {
    line: Option<OutputLine>,
    clock: PacedSpeaker,
    /// When the device last had room.
    moved: Option<Instant>,
    is_stalled: bool,
    /// Gaps of devices that are gone.
    n_gaps: u64,
}

impl Output {
    fn new() -> Self {
        Self {
            line: None,
            clock: PacedSpeaker::silent(),
            moved: None,
            is_stalled: false,
            n_gaps: 0,
        }
    }

    fn replace(&mut self, line: Option<OutputLine>) {
        self.n_gaps = self.n_gaps();
        self.line = line;
        (self.moved, self.is_stalled) = (None, false);
    }

    fn room_in(&mut self, now: Instant) -> Duration {
        let Some(line) = &mut self.line else { return self.clock.room_in(now) };
        if line.has_room() {
            (self.moved, self.is_stalled) = (Some(now), false);
            return Duration::ZERO;
        }
        let moved = *self.moved.get_or_insert(now);
        self.is_stalled = now.saturating_duration_since(moved) >= MAX_STALL;
        if self.is_stalled { self.clock.room_in(now) } else { BLOCK }
    }

    fn play(&mut self, now: Instant, samples: &[f32; BLOCK_SAMPLES]) {
        match &mut self.line {
            Some(line) if !self.is_stalled => line.play(samples),
            _ => self.clock.play(now, samples),
        }
    }

    fn queued(&self, now: Instant) -> Duration {
        match &self.line {
            Some(line) if !self.is_stalled => line.queued(),
            _ => self.clock.queued(now),
        }
    }

    fn n_gaps(&self) -> u64 {
        self.n_gaps + self.line.as_ref().map_or(0, OutputLine::n_gaps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sound_devices::output_line::{OutputFeed, output_line};
    use crate::test_clips::moment;

    const LOUD: [f32; BLOCK_SAMPLES] = [0.5; BLOCK_SAMPLES];

    /// Plays for some blocks as a call does, and returns how many blocks were taken.
    fn play(
        output: &mut Output,
        feed: &mut Option<OutputFeed>,
        start: Instant,
        n_blocks: u32,
    ) -> u32 {
        let mut n_taken = 0;
        for i in 0..n_blocks {
            let now = start + BLOCK * i;
            if let Some(feed) = feed {
                feed.fill(&mut [0.0_f32; BLOCK_SAMPLES], Duration::ZERO);
            }
            while output.room_in(now).is_zero() {
                output.play(now, &LOUD);
                n_taken += 1;
            }
        }
        n_taken
    }

    #[test]
    fn sound_is_taken_at_one_pace_with_a_device_without_one_and_while_it_stalls() {
        let mut output = Output::new();
        let zero = moment();
        let mut no_feed = None;
        let n_alone = play(&mut output, &mut no_feed, zero, 100);
        assert!((100..=102).contains(&n_alone), "{n_alone}");

        let (feed, line) = output_line(48_000, 1, Waker::default());
        output.replace(Some(line));
        let mut feed = Some(feed);
        let n_played = play(&mut output, &mut feed, zero + BLOCK * 100, 100);
        assert!((100..=103).contains(&n_played), "{n_played}");
        assert_eq!(output.n_gaps(), 0);

        // The device is not asked for 200 ms, and then the clock takes over.
        let n_stalled = play(&mut output, &mut no_feed, zero + BLOCK * 200, 100);
        assert!((79..=83).contains(&n_stalled), "{n_stalled}");
        let n_again = play(&mut output, &mut feed, zero + BLOCK * 300, 100);
        assert!((99..=103).contains(&n_again), "{n_again}");

        output.replace(None);
        let n_after = play(&mut output, &mut no_feed, zero + BLOCK * 400, 100);
        assert!((100..=103).contains(&n_after), "{n_after}");
    }
}
