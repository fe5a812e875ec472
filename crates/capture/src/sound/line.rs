//! Decoded pieces of sound, put at their times.

use std::collections::VecDeque;
use std::time::Duration;

use types::{MediaTime, Sound};

use crate::SOUND_SAMPLES;
use crate::resample::Resampler;

/// How far the time of a piece may be from the end of the one before it and still follow without a gap: times in
/// some containers are rounded to a millisecond, and recorders in browsers are less exact than that.
const MAX_JITTER: Duration = Duration::from_millis(15);
/// Most silence that is put in at a time, seconds.
const SILENCE_PER_S: u32 = 10;

/// Piece of mono sound.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Piece {
    /// Time of its first sample, in samples of its rate; negative before the start of the clip.
    pub(crate) at: i64,
    pub(crate) samples: Vec<f32>,
}

/// Turns pieces of sound, each with its time, into blocks of 20 ms at 48 kHz without gaps.
///
/// Gaps become silence, and what overlaps is left out. The first block is the one in which the first piece begins.
pub(crate) struct SoundLine {
    rate: u32,
    resampler: Resampler,
    /// Time up to which there is sound, in samples of `rate`; `None` before the first piece.
    end: Option<i64>,
    /// Silence to be put in before `waiting`, samples.
    n_silent: i64,
    waiting: Vec<f32>,
    ready: VecDeque<f32>,
    /// Samples at 48 kHz that were taken from the resampler.
    n_ready: i64,
    /// Number of the first block, and of those returned.
    first_block: i64,
    n_blocks: i64,
}

impl SoundLine {
    /// Makes a line for pieces of `rate` samples per second.
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            rate,
            resampler: Resampler::new(rate, Sound::RATE),
            end: None,
            n_silent: 0,
            waiting: Vec::new(),
            ready: VecDeque::new(),
            n_ready: 0,
            first_block: 0,
            n_blocks: 0,
        }
    }

    /// Returns the time up to which there is sound, in samples; 0 before the first piece.
    pub(crate) fn end(&self) -> i64 {
        self.end.unwrap_or(0)
    }

    /// Adds a piece. All blocks that were complete before have to be taken.
    pub(crate) fn push(&mut self, piece: Piece) {
        let Piece { mut at, mut samples } = piece;
        let jitter = (MAX_JITTER.as_secs_f64() * f64::from(self.rate)) as i64;
        let is_first = self.end.is_none();
        if is_first {
            self.first_block = (i128::from(at.max(0)) * 50 / i128::from(self.rate)) as i64;
        }
        let end = self.end.unwrap_or_else(|| self.start());
        self.end = Some(end);
        if !is_first && at.saturating_sub(end).abs() <= jitter {
            at = end;
        }
        let n_early = end.saturating_sub(at).clamp(0, samples.len() as i64) as usize;
        samples.drain(..n_early);
        if !samples.is_empty() {
            self.n_silent = at.saturating_sub(end).max(0);
            self.end = Some(end.saturating_add(self.n_silent).saturating_add(samples.len() as i64));
            self.waiting = samples;
        }
    }

    /// Returns the next block; `None` if another piece is needed for it.
    pub(crate) fn next(&mut self) -> Option<Sound> {
        while self.ready.len() < SOUND_SAMPLES {
            let most = i64::from(self.rate / SILENCE_PER_S).max(1);
            let silent = self.n_silent.min(most);
            self.n_silent -= silent;
            let samples = if silent > 0 {
                vec![0.0; silent as usize]
            } else {
                std::mem::take(&mut self.waiting)
            };
            if samples.is_empty() {
                return None;
            }
            self.convert(&samples);
        }
        Some(self.block())
    }

    /// Returns the next block after the last piece, of which the last one is padded with silence.
    pub(crate) fn next_to_end(&mut self) -> Option<Sound> {
        if let Some(sound) = self.next() {
            return Some(sound);
        }
        // What is still in the filter of the resampler comes out behind silence.
        let end = self.end?;
        let n_due =
            i128::from(end - self.start()) * i128::from(Sound::RATE) / i128::from(self.rate);
        let n_left = n_due as i64 - self.n_ready;
        if n_left > 0 {
            self.convert(&vec![0.0; self.rate as usize / 25]);
            let n_more = (self.n_ready - n_due as i64).max(0) as usize;
            self.ready.truncate(self.ready.len().saturating_sub(n_more));
            self.n_ready = n_due as i64;
        }
        self.end = None;
        if self.ready.is_empty() {
            return None;
        }
        let n_padded = self.ready.len().next_multiple_of(SOUND_SAMPLES);
        self.ready.resize(n_padded, 0.0);
        Some(self.block())
    }

    /// Returns the time of the first block, in samples of `rate`.
    fn start(&self) -> i64 {
        (i128::from(self.first_block) * i128::from(self.rate) / 50) as i64
    }

    fn convert(&mut self, samples: &[f32]) {
        let mut out = Vec::new();
        self.resampler.push(samples, &mut out);
        self.n_ready += out.len() as i64;
        self.ready.extend(out);
    }

    fn block(&mut self) -> Sound {
        let number = (self.first_block + self.n_blocks) as u64;
        self.n_blocks += 1;
        let samples = self.ready.drain(..SOUND_SAMPLES).map(|s| s.clamp(-1.0, 1.0)).collect();
        Sound { time: MediaTime::from_micros(20_000 * number), samples }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts pieces of ones at their times and returns, for each block, its time in milliseconds and how many of
    /// its samples are sound.
    fn blocks(rate: u32, pieces: &[(i64, usize)]) -> Vec<(u64, usize)> {
        let mut line = SoundLine::new(rate);
        let mut sounds = Vec::new();
        for (at, n) in pieces {
            line.push(Piece { at: *at, samples: vec![1.0; *n] });
            sounds.extend(std::iter::from_fn(|| line.next()));
        }
        sounds.extend(std::iter::from_fn(|| line.next_to_end()));
        let n_loud = |sound: &Sound| sound.samples.iter().filter(|s| **s > 0.5).count();
        assert!(sounds.iter().all(|sound| sound.samples.len() == 960));
        sounds.iter().map(|sound| (sound.time.as_micros() / 1000, n_loud(sound))).collect()
    }

    #[test]
    fn pieces_stand_at_their_times_with_silence_between_them() {
        for (pieces, want) in [
            (&[(0, 960), (960, 960)][..], &[(0, 960), (20, 960)][..]),
            // Late, in the middle of a block, and with a gap.
            (&[(2400, 480), (4800, 960)], &[(40, 480), (60, 0), (80, 0), (100, 960)]),
            // What comes before the start of the clip, or twice, is not heard.
            (&[(-960, 1920)], &[(0, 960)]),
            (&[(0, 1920), (960, 960), (1920, 960)], &[(0, 960), (20, 960), (40, 960)]),
            // The last block is padded.
            (&[(0, 1000)], &[(0, 960), (20, 40)]),
            (&[], &[]),
        ] {
            assert_eq!(blocks(48_000, pieces), want, "{pieces:?}");
        }
    }

    #[test]
    fn times_that_are_a_little_off_make_no_gaps() {
        let jitter = [0, 500, -600, 300, -700, 0];
        let pieces: Vec<_> =
            (0..).map(|i| i * 960).zip(jitter).map(|(at, by)| (at + by, 960)).collect();
        let want: Vec<_> = (0..6).map(|i| (20 * i, 960)).collect();
        assert_eq!(blocks(48_000, &pieces), want);
    }

    #[test]
    fn nothing_is_lost_at_the_end_of_sound_of_another_rate() {
        for rate in [11_025, 16_000, 44_100] {
            let blocks = blocks(rate, &[(0, rate as usize / 2)]);
            let n_loud: usize = blocks.iter().map(|(_, n)| n).sum();
            // The filter blurs the two edges by a sample or two.
            assert!(n_loud.abs_diff(24_000) <= 4 && blocks.len() == 25, "{rate}: {n_loud}");
        }
    }

    #[test]
    fn a_gap_of_a_year_costs_no_memory() {
        let mut line = SoundLine::new(48_000);
        line.push(Piece { at: 0, samples: vec![1.0; 960] });
        assert!(line.next().is_some() && line.next().is_none());
        line.push(Piece { at: 48_000 * 86_400 * 365, samples: vec![1.0; 960] });
        for i in 1..1000 {
            let sound = line.next().expect("silence");
            assert_eq!(sound.time, MediaTime::from_micros(20_000 * i));
        }
        line.push(Piece { at: i64::MAX, samples: vec![1.0; 1] });
        line.push(Piece { at: i64::MIN, samples: vec![1.0; 1] });
    }
}
