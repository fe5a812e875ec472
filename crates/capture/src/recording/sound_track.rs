//! The sound of a segment, from its first picture on.

use std::collections::VecDeque;

use types::Sound;

use crate::sound::{Piece, SoundLine};

/// How late sound may come, in audio samples at 48 kHz: two seconds. What is missing then is silence.
const MAX_LATE: i64 = 2 * Sound::RATE as i64;

/// Turns sound, each piece with its time, into blocks of 20 ms without gaps.
pub(super) struct SoundTrack {
    line: SoundLine,
    blocks: VecDeque<Vec<f32>>,
}

impl SoundTrack {
    /// Starts with silence, as long as nothing else is there.
    pub(super) fn new() -> Self {
        let mut line = SoundLine::new(Sound::RATE);
        line.push(Piece { at: 0, samples: Vec::new() });
        Self { line, blocks: VecDeque::new() }
    }

    /// Adds sound that begins `at` audio samples at 48 kHz behind the start of the segment. What lies before the
    /// start, or is in the blocks already, is left out.
    pub(super) fn push(&mut self, at: i64, samples: Vec<f32>) {
        self.line.push(Piece { at, samples });
        self.take_blocks();
    }

    /// Makes silence of what is missing two seconds before `end`, in audio samples.
    pub(super) fn fill(&mut self, end: i64) {
        self.fill_to(end - MAX_LATE);
    }

    /// Makes silence of what is missing before `end`, in audio samples, and completes the last block.
    pub(super) fn finish(&mut self, end: i64) {
        self.fill_to(end);
        while let Some(block) = self.line.next_to_end() {
            self.blocks.push_back(block.samples);
        }
    }

    /// Returns the next block.
    pub(super) fn next_block(&mut self) -> Option<Vec<f32>> {
        self.blocks.pop_front()
    }

    fn fill_to(&mut self, end: i64) {
        let at = self.line.end();
        if at < end {
            self.push(at, vec![0.0; (end - at) as usize]);
        }
    }

    fn take_blocks(&mut self) {
        while let Some(block) = self.line.next() {
            self.blocks.push_back(block.samples);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loud(track: &mut SoundTrack) -> Vec<usize> {
        let blocks = std::iter::from_fn(|| track.next_block());
        blocks.map(|block| block.iter().filter(|s| **s > 0.5).count()).collect()
    }

    #[test]
    fn gaps_become_silence_once_they_are_two_seconds_old() {
        let mut track = SoundTrack::new();
        track.push(960, vec![1.0; 960]);
        assert_eq!(loud(&mut track), [0, 960]);
        track.fill(2 * 48_000 + 960);
        assert_eq!(loud(&mut track), [0; 0], "sound for the third block may still come");
        track.push(1920, vec![1.0; 480]);
        track.fill(2 * 48_000 + 3840);
        assert_eq!(loud(&mut track), [480, 0]);
        // Too late.
        track.push(2400, vec![1.0; 960]);
        assert_eq!(loud(&mut track), [0; 0]);
        track.finish(5000);
        assert_eq!(loud(&mut track), [0, 0]);
    }

    #[test]
    fn sound_before_the_start_is_left_out() {
        let mut track = SoundTrack::new();
        track.push(-960, vec![1.0; 1440]);
        track.finish(0);
        assert_eq!(loud(&mut track), [480]);
    }
}
