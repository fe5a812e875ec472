//! The way from the thread of a microphone to ours.
//!
//! The writer runs in the thread of the device: it neither waits nor allocates.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cpal::{FromSample, Sample};
use rtrb::{Consumer, Producer, RingBuffer};
use types::Sound;

use super::waker::Waker;
use crate::resample::Resampler;

/// Parts of a second that fit between the two threads.
const HELD_PER_S: u32 = 2;
/// Blocks of a device whose times fit between the two threads.
const MAX_MARKS: usize = 256;

/// When a sample was captured.
#[derive(Clone, Copy)]
struct Mark {
    /// Number of the sample.
    position: u64,
    captured: Instant,
}

/// End of the device's thread.
pub(super) struct InputWriter {
    samples: Producer<f32>,
    marks: Producer<Mark>,
    n_channels: usize,
    n_written: u64,
    waker: Waker,
}

/// Our end, which converts to 48 kHz.
pub(super) struct InputLine {
    samples: Consumer<f32>,
    marks: Consumer<Mark>,
    newest: Option<Mark>,
    rate: u32,
    resampler: Resampler,
    /// Samples on their way, before and after the conversion.
    captured: Vec<f32>,
    converted: Vec<f32>,
    /// Samples taken out so far, at 48 kHz.
    n_taken: u64,
    waiting: VecDeque<f32>,
}

/// Makes both ends for a device with interleaved channels.
pub(super) fn input_line(rate: u32, n_channels: u16, waker: Waker) -> (InputWriter, InputLine) {
    let (producer, samples) = RingBuffer::new((rate / HELD_PER_S).max(1) as usize);
    let (mark_producer, marks) = RingBuffer::new(MAX_MARKS);
    let writer = InputWriter {
        samples: producer,
        marks: mark_producer,
        n_channels: usize::from(n_channels.max(1)),
        n_written: 0,
        waker,
    };
    let line = InputLine {
        samples,
        marks,
        newest: None,
        rate: rate.max(1),
        resampler: Resampler::new(rate.max(1), Sound::RATE),
        captured: Vec::new(),
        converted: Vec::new(),
        n_taken: 0,
        waiting: VecDeque::new(),
    };
    (writer, line)
}

impl InputWriter {
    /// Passes on the mean of all channels. What does not fit is lost: nobody reads.
    pub(super) fn write<T: Sample>(&mut self, data: &[T], captured: Instant)
    where
        f32: FromSample<T>,
    {
        let share = 1.0 / self.n_channels as f32;
        let n = (data.len() / self.n_channels).min(self.samples.slots());
        if let Ok(chunk) = self.samples.write_chunk_uninit(n) {
            let _ = self.marks.push(Mark { position: self.n_written, captured });
            let frames = data.chunks_exact(self.n_channels);
            let mono = frames
                .map(|channels| share * channels.iter().map(|s| f32::from_sample(*s)).sum::<f32>());
            self.n_written += chunk.fill_from_iter(mono) as u64;
        }
        self.waker.wake();
    }
}

impl InputLine {
    /// Converts what was captured and returns how many samples are ready.
    pub(super) fn read(&mut self) -> usize {
        while let Ok(mark) = self.marks.pop() {
            self.newest = Some(mark);
        }
        if let Ok(chunk) = self.samples.read_chunk(self.samples.slots()) {
            self.captured.clear();
            let (first, second) = chunk.as_slices();
            for samples in [first, second] {
                // A broken driver must not silence the rest of the call.
                let samples = samples.iter().map(|s| if s.is_finite() { *s } else { 0.0 });
                self.captured.extend(samples);
            }
            chunk.commit_all();
            self.converted.clear();
            self.resampler.push(&self.captured, &mut self.converted);
            self.waiting.extend(&self.converted);
        }
        self.waiting.len()
    }

    /// Returns when the next sample was captured, as far as the times of the device tell.
    pub(super) fn captured(&self) -> Option<Instant> {
        let mark = self.newest?;
        let since_start = duration(self.n_taken, Sound::RATE);
        let of_mark = duration(mark.position, self.rate);
        let after = mark.captured + since_start.saturating_sub(of_mark);
        after.checked_sub(of_mark.saturating_sub(since_start))
    }

    /// Takes the next `N` samples; silence where there are none.
    pub(super) fn take<const N: usize>(&mut self) -> [f32; N] {
        self.n_taken += N as u64;
        std::array::from_fn(|_| self.waiting.pop_front().unwrap_or(0.0).clamp(-1.0, 1.0))
    }
}

fn duration(n_samples: u64, rate: u32) -> Duration {
    let nanos = u128::from(n_samples) * 1_000_000_000 / u128::from(rate);
    Duration::from_nanos(nanos as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clips::moment;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn every_rate_and_number_of_channels_becomes_mono_at_48_khz() {
        for rate in [8_000, 16_000, 44_100, 48_000, 96_000, 192_000] {
            for n_channels in 1..=8_u16 {
                let (mut writer, mut line) = input_line(rate, n_channels, Waker::default());
                let zero = moment();
                let mut samples = Vec::new();
                // The channels differ, and their mean is 0.25.
                let frame = |_| (0..n_channels).map(|c| if c % 2 == 0 { 0.5 } else { 0.0_f32 });
                let mean = f32::from(n_channels.div_ceil(2)) * 0.5 / f32::from(n_channels);
                for i in 0..10 {
                    let data: Vec<f32> = (0..rate / 100).flat_map(frame).collect();
                    writer.write(&data, zero + i * 10 * MILLISECOND);
                    while line.read() >= 48 {
                        samples.extend(line.take::<48>());
                    }
                }
                // Up to 6 ms are in the filter of the converter.
                let case = format!("{rate} Hz, {n_channels} channels");
                assert!((4_500..=4_800).contains(&samples.len()), "{case}: {}", samples.len());
                let middle = &samples[1_000..4_000];
                assert!(middle.iter().all(|s| (s - mean).abs() < 1e-3), "{case}");
            }
        }
    }

    #[test]
    fn integers_of_a_device_have_the_same_level() {
        let (mut writer, mut line) = input_line(48_000, 1, Waker::default());
        writer.write(&[i16::MIN, -16_384, 0, 16_384], moment());
        writer.write(&[0_u8, 64, 128, 192], moment());
        assert_eq!(line.read(), 8);
        assert_eq!(line.take::<8>(), [-1.0, -0.5, 0.0, 0.5, -1.0, -0.5, 0.0, 0.5]);
    }

    #[test]
    fn samples_have_the_times_of_the_device() {
        let (mut writer, mut line) = input_line(44_100, 2, Waker::default());
        assert_eq!(line.captured(), None);
        let zero = moment();
        for i in 0..20 {
            writer.write(&[0.0_f32; 882], zero + i * 10 * MILLISECOND);
        }
        assert!(line.read() > 8_000);
        for i in 0..15 {
            let captured = line.captured().unwrap();
            let want = zero + i * 10 * MILLISECOND;
            let off = captured.max(want) - captured.min(want);
            assert!(off < Duration::from_micros(1), "{i}: {off:?}");
            line.take::<480>();
        }
    }

    #[test]
    fn what_nobody_reads_is_lost_and_the_rest_keeps_its_time() {
        let (mut writer, mut line) = input_line(48_000, 1, Waker::default());
        let zero = moment();
        for i in 0..100 {
            writer.write(&[0.1_f32; 480], zero + i * 10 * MILLISECOND);
        }
        assert_eq!(line.read(), 24_000, "half a second");
        for _ in 0..50 {
            line.take::<480>();
        }
        writer.write(&[0.1_f32; 480], zero + 1_000 * MILLISECOND);
        assert_eq!(line.read(), 480);
        assert_eq!(line.captured(), Some(zero + 1_000 * MILLISECOND));
    }

    #[test]
    fn numbers_that_are_no_sound_are_silence() {
        let (mut writer, mut line) = input_line(48_000, 1, Waker::default());
        writer.write(&[f32::NAN, f32::INFINITY, 7.0], moment());
        line.read();
        assert_eq!(line.take::<4>(), [0.0, 0.0, 1.0, 0.0]);
    }
}
