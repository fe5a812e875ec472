//! The way from our thread to that of a speaker.
//!
//! The feed runs in the thread of the device: it neither waits nor allocates.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use cpal::{FromSample, Sample};
use rtrb::{Consumer, Producer, RingBuffer};
use types::Sound;

use super::BLOCK_SAMPLES;
use super::waker::Waker;
use crate::resample::Resampler;

/// Parts of a second that fit between the two threads.
const HELD_PER_S: u32 = 2;
/// Blocks of 10 ms that are held beside what the device takes at a time, at first and at most. A gap
/// adds one.
const MIN_SLACK: u32 = 1;
const MAX_SLACK: u32 = 5;

/// What the two threads know of each other.
#[derive(Default)]
struct Shared {
    /// Samples that the device has taken at a time.
    period: AtomicU32,
    /// Time from taking a sample until it is heard, microseconds.
    latency_us: AtomicU64,
    n_gaps: AtomicU64,
}

/// End of the device's thread.
pub(super) struct OutputFeed {
    samples: Consumer<f32>,
    n_channels: usize,
    /// Whether there was something to play the last time.
    is_playing: bool,
    shared: Arc<Shared>,
    waker: Waker,
}

/// Our end, which converts from 48 kHz.
pub(super) struct OutputLine {
    samples: Producer<f32>,
    rate: u32,
    resampler: Resampler,
    converted: Vec<f32>,
    slack: u32,
    /// Gaps for which `slack` was made larger.
    n_gaps: u64,
    shared: Arc<Shared>,
}

/// Makes both ends for a device with interleaved channels.
pub(super) fn output_line(rate: u32, n_channels: u16, waker: Waker) -> (OutputFeed, OutputLine) {
    let rate = rate.max(100);
    let (samples, consumer) = RingBuffer::new((rate / HELD_PER_S) as usize);
    let shared = Arc::new(Shared::default());
    let feed = OutputFeed {
        samples: consumer,
        n_channels: usize::from(n_channels.max(1)),
        is_playing: false,
        shared: Arc::clone(&shared),
        waker,
    };
    let line = OutputLine {
        samples,
        rate,
        resampler: Resampler::new(Sound::RATE, rate),
        converted: Vec::new(),
        slack: MIN_SLACK,
        n_gaps: 0,
        shared,
    };
    (feed, line)
}

impl OutputFeed {
    /// Fills all channels with the next samples, and with silence if there are not enough. `latency`
    /// is the time until the first of them is heard.
    pub(super) fn fill<T: Sample + FromSample<f32>>(&mut self, data: &mut [T], latency: Duration) {
        let n_frames = data.len() / self.n_channels;
        let n = n_frames.min(self.samples.slots());
        let mut frames = data.chunks_exact_mut(self.n_channels);
        if let Ok(chunk) = self.samples.read_chunk(n) {
            for (sample, channels) in chunk.into_iter().zip(frames.by_ref()) {
                channels.fill(T::from_sample(sample));
            }
        }
        for channels in frames {
            channels.fill(T::from_sample(0.0));
        }
        if self.is_playing && n < n_frames {
            self.shared.n_gaps.fetch_add(1, Ordering::Relaxed);
        }
        self.is_playing = n == n_frames;
        self.shared.period.store(n_frames as u32, Ordering::Relaxed);
        self.shared.latency_us.store(latency.as_micros() as u64, Ordering::Relaxed);
        self.waker.wake();
    }
}

impl OutputLine {
    /// Returns whether another block is wanted.
    pub(super) fn has_room(&mut self) -> bool {
        let n_gaps = self.n_gaps();
        if n_gaps > self.n_gaps {
            self.n_gaps = n_gaps;
            self.slack = (self.slack + 1).min(MAX_SLACK);
        }
        let wanted = self.shared.period.load(Ordering::Relaxed) + self.slack * self.rate / 100;
        (self.n_held() as u32) < wanted.min(self.rate / HELD_PER_S)
    }

    /// Appends a block. What does not fit is dropped.
    pub(super) fn play(&mut self, samples: &[f32; BLOCK_SAMPLES]) {
        self.converted.clear();
        self.resampler.push(samples, &mut self.converted);
        let _ = self.samples.push_partial_slice(&self.converted);
    }

    /// Returns how long it takes until what is given now is heard.
    pub(super) fn queued(&self) -> Duration {
        let held = Duration::from_secs(1) * self.n_held() as u32 / self.rate;
        held + Duration::from_micros(self.shared.latency_us.load(Ordering::Relaxed))
    }

    /// Returns how many times there was nothing to play.
    pub(super) fn n_gaps(&self) -> u64 {
        self.shared.n_gaps.load(Ordering::Relaxed)
    }

    fn n_held(&self) -> usize {
        self.samples.buffer().capacity() - self.samples.slots()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOUD: [f32; BLOCK_SAMPLES] = [0.5; BLOCK_SAMPLES];

    #[test]
    fn every_rate_and_number_of_channels_is_filled() {
        for rate in [8_000, 16_000, 44_100, 48_000, 96_000, 192_000] {
            for n_channels in 1..=8_u16 {
                let (mut feed, mut line) = output_line(rate, n_channels, Waker::default());
                for _ in 0..10 {
                    line.play(&LOUD);
                }
                let mut data = vec![i16::MIN; rate as usize / 10 * usize::from(n_channels)];
                feed.fill(&mut data, Duration::ZERO);
                let case = format!("{rate} Hz, {n_channels} channels");
                let middle = data.len() / 4..data.len() * 3 / 4;
                let is_half = |s: &i16| (i32::from(*s) - 16_384).abs() < 200;
                assert!(data[middle].iter().all(is_half), "{case}");
                // Up to 6 ms are in the filter of the converter.
                let n_loud = data.iter().filter(|s| is_half(s)).count() / usize::from(n_channels);
                assert!(n_loud * 1000 / rate as usize >= 93, "{case}: {n_loud}");
                assert!(!data.contains(&i16::MIN), "{case}");
            }
        }
    }

    #[test]
    fn as_much_is_wanted_as_the_device_takes_and_a_block() {
        let (mut feed, mut line) = output_line(48_000, 2, Waker::default());
        let mut data = [0.0_f32; 2 * 960];
        feed.fill(&mut data, Duration::from_millis(15));
        let mut n_blocks = 0;
        while line.has_room() {
            line.play(&LOUD);
            n_blocks += 1;
        }
        assert_eq!(n_blocks, 3);
        assert_eq!(line.queued(), Duration::from_millis(30 + 15));
        feed.fill(&mut data, Duration::from_millis(15));
        assert!(line.has_room());
        assert_eq!(line.n_gaps(), 0, "silence before the first sound is no gap");
    }

    #[test]
    fn each_gap_makes_the_queue_longer_up_to_a_bound() {
        let (mut feed, mut line) = output_line(48_000, 1, Waker::default());
        let mut most = Vec::new();
        for _ in 0..8 {
            let mut n_blocks = 0;
            while line.has_room() {
                line.play(&LOUD);
                n_blocks += 1;
            }
            most.push(n_blocks);
            for _ in 0..=n_blocks + 1 {
                feed.fill(&mut [0.0_f32; BLOCK_SAMPLES], Duration::ZERO);
            }
        }
        // The first time, nothing is known of the device.
        assert_eq!(most, [1, 3, 4, 5, 6, 6, 6, 6]);
        assert_eq!(line.n_gaps(), 8);
    }

    #[test]
    fn what_does_not_fit_is_dropped() {
        let (_feed, mut line) = output_line(48_000, 1, Waker::default());
        for _ in 0..100 {
            line.play(&LOUD);
        }
        assert_eq!(line.queued(), Duration::from_millis(500));
        assert!(!line.has_room());
    }
}
