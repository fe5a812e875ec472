use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{BLOCK_SAMPLES, Block};

/// Largest deviation from a steady stream that is passed over.
const MAX_DEVIATION: Duration = Duration::from_millis(5);

/// Cuts sound of any length into blocks.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    samples: VecDeque<f32>,
    /// When the first of the samples was captured.
    captured: Option<Instant>,
}

impl Blocks {
    /// Appends sound that was captured from `captured` on. After a gap, what is left of the sound before
    /// it is dropped.
    pub(super) fn push(&mut self, captured: Instant, samples: &[f32]) {
        let expected = self.captured.map(|first| first + duration(self.samples.len()));
        let is_next = expected.is_some_and(|expected| {
            let early = expected.saturating_duration_since(captured);
            early.max(captured.saturating_duration_since(expected)) <= MAX_DEVIATION
        });
        if !is_next {
            self.samples.clear();
            self.captured = Some(captured);
        }
        self.samples.extend(samples);
    }

    /// Removes and returns the oldest block, and when its first sample was captured.
    pub(super) fn pop(&mut self) -> Option<(Instant, Block)> {
        let captured = self.captured?;
        if self.samples.len() < BLOCK_SAMPLES {
            return None;
        }
        self.captured = Some(captured + duration(BLOCK_SAMPLES));
        let mut block = [0.0; BLOCK_SAMPLES];
        for (to, from) in block.iter_mut().zip(self.samples.drain(..BLOCK_SAMPLES)) {
            *to = from;
        }
        Some((captured, block))
    }
}

fn duration(n_samples: usize) -> Duration {
    Duration::from_nanos(n_samples as u64 * 1_000_000_000 / u64::from(types::Sound::RATE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_is_cut_into_blocks_of_ten_milliseconds_and_starts_over_after_a_gap() {
        #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut blocks = Blocks::default();
        blocks.push(at(0), &[1.0; 700]);
        // Two milliseconds early, then half a second late.
        blocks.push(at(12), &[2.0; 300]);
        let (captured, block) = blocks.pop().unwrap();
        assert_eq!((captured, block[0], block[479]), (at(0), 1.0, 1.0));
        let (captured, block) = blocks.pop().unwrap();
        assert_eq!((captured, block[219], block[220]), (at(10), 1.0, 2.0));
        assert!(blocks.pop().is_none());
        blocks.push(at(500), &[3.0; 480]);
        let (captured, block) = blocks.pop().unwrap();
        assert_eq!((captured, block[0]), (at(500), 3.0));
        assert!(blocks.pop().is_none());
    }
}
