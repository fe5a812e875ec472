//! Microphone of the system, followed wherever it goes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::change::{DeviceChange, SoundDevice, SoundError};
use super::device_host::{InputHost, find_name};
use super::follower::{Follower, Wanted};
use super::input_line::InputLine;
use super::sound_block::SoundBlock;
use super::waker::Waker;
use super::{BLOCK, BLOCK_SAMPLES};

/// Most that is held for the reader. Beyond it the oldest is dropped.
const MAX_HELD_BLOCKS: usize = 20;
/// How long an open device may say nothing before there is silence in its place.
const MAX_STALL: Duration = Duration::from_millis(200);
/// Largest difference between the times of a device and the count of its samples that is smoothed.
const MAX_DRIFT: Duration = Duration::from_millis(40);
/// Share of that difference which each block corrects.
const DRIFT_DIVISOR: u32 = 64;

/// Microphone of the system, or silence while there is none.
pub(super) struct InputDevice {
    follower: Follower<InputLine>,
    feed: InputFeed,
    waker: Waker,
    changes: VecDeque<DeviceChange>,
}

impl InputDevice {
    /// Opens a microphone by its name, or the default one.
    pub(super) fn open(name: Option<&str>) -> Result<Self, SoundError> {
        let device = SoundDevice::Microphone;
        let wanted = match name {
            None => Wanted::Default,
            Some(name) => Wanted::Named(find_name(device, name)?),
        };
        let waker = Waker::default();
        let host_waker = waker.clone();
        let connect = move || InputHost::connect(host_waker);
        let follower = Follower::start(device, wanted, connect)?;
        Ok(Self { follower, feed: InputFeed::default(), waker, changes: VecDeque::new() })
    }

    /// Returns the next block, or how long it takes at most until there is one.
    pub(super) fn next_block(&mut self, now: Instant) -> Result<SoundBlock, Duration> {
        while let Some(news) = self.follower.take_news() {
            self.feed.replace(news.line);
            self.changes.push_back(news.change);
        }
        self.feed.next_block(now)
    }

    /// Waits for the device.
    pub(super) fn wait(&self, timeout: Duration) {
        self.waker.wait(timeout);
    }

    /// Returns how many blocks were dropped because they were not read in time.
    pub(super) fn n_dropped(&self) -> u64 {
        self.feed.n_dropped
    }

    pub(super) fn take_change(&mut self) -> Option<DeviceChange> {
        self.changes.pop_front()
    }
}

/// Sound of one device after another, without gaps.
#[derive(Default)]
struct InputFeed {
    line: Option<InputLine>,
    /// Whether there was sound from `line`.
    is_flowing: bool,
    /// When the next block was, or will be, captured.
    next: Option<Instant>,
    n_dropped: u64,
}

impl InputFeed {
    fn replace(&mut self, line: Option<InputLine>) {
        (self.line, self.is_flowing) = (line, false);
    }

    fn next_block(&mut self, now: Instant) -> Result<SoundBlock, Duration> {
        let next = *self.next.get_or_insert(now);
        if let Some(line) = &mut self.line {
            let mut n_ready = line.read();
            while n_ready > MAX_HELD_BLOCKS * BLOCK_SAMPLES {
                line.take::<BLOCK_SAMPLES>();
                n_ready -= BLOCK_SAMPLES;
                self.n_dropped += 1;
            }
            while n_ready >= BLOCK_SAMPLES {
                let captured = smoothed(next, line.captured().unwrap_or(next));
                let samples = line.take::<BLOCK_SAMPLES>();
                n_ready -= BLOCK_SAMPLES;
                // There was silence in its place already. The first sound of a device is from before it
                // was opened: that is no loss.
                if captured + BLOCK <= next {
                    self.n_dropped += u64::from(self.is_flowing);
                    continue;
                }
                (self.next, self.is_flowing) = (Some(captured + BLOCK), true);
                return Ok(SoundBlock { captured, samples });
            }
        }
        let patience = if self.line.is_some() { MAX_STALL } else { Duration::ZERO };
        let due = next + BLOCK + patience;
        if now < due {
            return Err(due - now);
        }
        self.next = Some(next + BLOCK);
        Ok(SoundBlock { captured: next, samples: [0.0; BLOCK_SAMPLES] })
    }
}

/// Follows the times of a device, which are uneven, with a steady clock.
fn smoothed(expected: Instant, measured: Instant) -> Instant {
    let late = measured.saturating_duration_since(expected);
    let early = expected.saturating_duration_since(measured);
    if late > MAX_DRIFT || early > MAX_DRIFT {
        return measured;
    }
    let early = early / DRIFT_DIVISOR;
    expected.checked_sub(early).unwrap_or(expected) + late / DRIFT_DIVISOR
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sound_devices::input_line::input_line;
    use crate::test_clips::moment;

    const MILLISECOND: Duration = Duration::from_millis(1);
    const LOUD: [f32; BLOCK_SAMPLES] = [0.5; BLOCK_SAMPLES];

    fn is_loud(block: &SoundBlock) -> bool {
        block.samples[0] > 0.4
    }

    #[test]
    fn without_a_device_there_is_silence_at_the_pace_of_one() {
        let mut feed = InputFeed::default();
        let zero = moment();
        assert_eq!(feed.next_block(zero), Err(BLOCK));
        for i in 0..5 {
            assert_eq!(feed.next_block(zero + BLOCK * i + 9 * MILLISECOND), Err(MILLISECOND));
            let block = feed.next_block(zero + BLOCK * (i + 1)).unwrap();
            assert_eq!((block.captured, is_loud(&block)), (zero + BLOCK * i, false));
        }
    }

    #[test]
    fn a_device_that_comes_and_goes_leaves_no_gap_in_time() {
        let mut feed = InputFeed::default();
        let zero = moment();
        assert!(feed.next_block(zero).is_err());
        let mut blocks = Vec::new();
        let mut writer = None;
        for i in 0..90 {
            let now = zero + BLOCK * (i + 1);
            match i {
                30 => {
                    let (end, line) = input_line(48_000, 1, Waker::default());
                    feed.replace(Some(line));
                    writer = Some(end);
                }
                60 => {
                    feed.replace(None);
                    writer = None;
                }
                _ => {}
            }
            if let Some(writer) = &mut writer {
                writer.write(&LOUD, zero + BLOCK * i);
            }
            while let Ok(block) = feed.next_block(now) {
                blocks.push(block);
            }
        }
        assert_eq!(blocks.len(), 90);
        for (i, block) in blocks.iter().enumerate() {
            let want = zero + BLOCK * i as u32;
            assert_eq!(block.captured, want, "{i}");
            assert_eq!(is_loud(block), (30..60).contains(&i), "{i}");
        }
        assert_eq!(feed.n_dropped, 0);
    }

    #[test]
    fn what_a_device_of_high_latency_had_before_it_was_opened_is_no_loss() {
        let mut feed = InputFeed::default();
        let zero = moment();
        assert!(feed.next_block(zero).is_err());
        for i in 1..=10 {
            feed.next_block(zero + BLOCK * i).unwrap();
        }
        let (mut writer, line) = input_line(48_000, 1, Waker::default());
        feed.replace(Some(line));
        for i in 4..11 {
            writer.write(&LOUD, zero + BLOCK * i);
        }
        assert!(is_loud(&feed.next_block(zero + BLOCK * 11).unwrap()));
        assert_eq!(feed.n_dropped, 0);
    }

    #[test]
    fn a_device_that_stalls_becomes_silence_and_its_late_sound_is_dropped() {
        let (mut writer, line) = input_line(48_000, 1, Waker::default());
        let mut feed = InputFeed { line: Some(line), ..InputFeed::default() };
        let zero = moment();
        assert!(feed.next_block(zero).is_err());
        writer.write(&LOUD, zero);
        assert!(is_loud(&feed.next_block(zero + BLOCK).unwrap()));
        // Nothing for 400 ms, of which 200 ms are waited.
        let now = zero + BLOCK * 41;
        let silent: Vec<SoundBlock> = std::iter::from_fn(|| feed.next_block(now).ok()).collect();
        assert_eq!(silent.len(), 20);
        assert!(silent.iter().all(|block| !is_loud(block)));
        // Then everything at once, of which the first half is too late.
        for i in 1..41 {
            writer.write(&LOUD, zero + BLOCK * i);
        }
        let late: Vec<SoundBlock> = std::iter::from_fn(|| feed.next_block(now).ok()).collect();
        assert_eq!(late.len(), 20);
        assert!(late.iter().all(is_loud));
        assert_eq!(late[0].captured, zero + BLOCK * 21);
        assert_eq!(feed.n_dropped, 20);
    }

    #[test]
    fn uneven_times_of_a_device_become_a_steady_clock_that_follows_its_drift() {
        let (mut writer, line) = input_line(48_000, 1, Waker::default());
        let mut feed = InputFeed { line: Some(line), ..InputFeed::default() };
        let zero = moment();
        assert!(feed.next_block(zero).is_err());
        let mut last: Option<Instant> = None;
        // The clock of the device is 0.1 % slow, and its times are up to 8 ms late.
        for i in 0..3000_u32 {
            let captured = zero + Duration::from_micros(u64::from(i) * 10_010);
            let jitter = Duration::from_micros(u64::from(i * 7919 % 8000));
            writer.write(&LOUD, captured + jitter);
            let block = feed.next_block(captured + 2 * BLOCK).unwrap();
            if let Some(last) = last {
                let step = block.captured - last;
                assert!(step.abs_diff(BLOCK) < Duration::from_micros(200), "{i}: {step:?}");
            }
            if i > 200 {
                let late = block.captured - captured;
                assert!(late > MILLISECOND && late < 7 * MILLISECOND, "{i}: {late:?}");
            }
            last = Some(block.captured);
        }
    }
}
