//! What is said and heard in a call, as one sound.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use types::{MediaTime, Sound};

use super::{BLOCK, Block};

/// How long a block that is heard waits for what is said at the same time. A microphone is late by its
/// buffer, a speaker is given sound ahead of time.
const WAIT: Duration = Duration::from_millis(400);
/// How far apart blocks may be to be mixed.
const TOLERANCE: Duration = Duration::from_millis(30);
/// Blocks kept until they are taken: one minute.
const MAX_MIXED: usize = 6000;
/// Blocks that are said and wait for a block that is heard.
const MAX_SAID: usize = 100;
/// Greatest deviation of media time that is passed over instead of leaving a gap. It is that of a sound
/// that is played faster or slower for a while.
const MAX_DEVIATION: Duration = Duration::from_millis(60);

/// Mixer of both sides of a call, for a recording on the media clock of the peer. Keeps nothing until it is
/// first asked.
#[derive(Debug, Default)]
pub(crate) struct Mixer {
    is_wanted: bool,
    said: VecDeque<(Instant, Block)>,
    heard: VecDeque<(Instant, MediaTime, Block)>,
    mixed: VecDeque<Sound>,
    /// Media time after the newest mixed block.
    end: Option<MediaTime>,
}

impl Mixer {
    /// Takes our own sound, captured at `captured`.
    pub(crate) fn said(&mut self, captured: Instant, block: &Block) {
        if !self.is_wanted {
            return;
        }
        if self.said.len() == MAX_SAID {
            self.said.pop_front();
        }
        self.said.push_back((captured, *block));
    }

    /// Takes the sound that is heard at `at`, for which the peer's clock shows `time`.
    pub(crate) fn heard(&mut self, at: Instant, time: MediaTime, block: &Block) {
        if !self.is_wanted {
            return;
        }
        self.heard.push_back((at, time, *block));
        while let Some((first, time, mut block)) =
            self.heard.pop_front_if(|(first, ..)| at.saturating_duration_since(*first) >= WAIT)
        {
            while self.said.pop_front_if(|(said, _)| *said + TOLERANCE < first).is_some() {}
            if let Some((_, said)) = self.said.pop_front_if(|(said, _)| *said <= first + TOLERANCE)
            {
                for (sample, said) in block.iter_mut().zip(said) {
                    *sample = (*sample + said).clamp(-1.0, 1.0);
                }
            }
            self.push(time, &block);
        }
    }

    fn push(&mut self, time: MediaTime, block: &Block) {
        let is_next = |end: &MediaTime| {
            end.saturating_since(time).max(time.saturating_since(*end)) <= MAX_DEVIATION
        };
        let time = self.end.filter(is_next).unwrap_or(time);
        self.end = Some(time + BLOCK);
        if self.mixed.len() == MAX_MIXED {
            self.mixed.pop_front();
        }
        self.mixed.push_back(Sound { time, samples: block.to_vec() });
    }

    /// Removes and returns what was mixed since the last call, oldest first.
    pub(crate) fn take(&mut self) -> Vec<Sound> {
        self.is_wanted = true;
        self.mixed.drain(..).collect()
    }

    /// Drops what the peer said, which has left.
    pub(crate) fn forget_peer(&mut self) {
        *self = Self { is_wanted: self.is_wanted, ..Self::default() };
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
mod tests {
    use super::*;
    use crate::sound::BLOCK_SAMPLES;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Hears 0.25 for a second. What is said meanwhile, 0.5, is `late` by this much. Returns the media
    /// times in milliseconds and the values of the blocks.
    fn mix(late: u64, time: impl Fn(u64) -> u64) -> Vec<(u64, f32)> {
        let (start, mut mixer) = (Instant::now(), Mixer::default());
        assert!(mixer.take().is_empty());
        for now in (0..1000).step_by(10) {
            mixer.heard(
                start + ms(now + 30),
                MediaTime::from_micros(1000 * time(now)),
                &[0.25; BLOCK_SAMPLES],
            );
            if let Some(captured) = now.checked_sub(late) {
                mixer.said(start + ms(captured), &[0.5; BLOCK_SAMPLES]);
            }
        }
        let mixed = mixer.take().into_iter();
        mixed.map(|sound| (sound.time.as_micros() / 1000, sound.samples[0])).collect()
    }

    #[test]
    fn what_is_said_and_heard_at_one_moment_becomes_one_sound() {
        let mixed = mix(70, |now| now + 5000);
        assert!(mixed.iter().map(|(ms, _)| *ms).eq((5000..5000 + 600).step_by(10)), "{mixed:?}");
        assert!(mixed[1..].iter().all(|(_, value)| *value == 0.75), "{mixed:?}");
    }

    #[test]
    fn sound_that_is_said_too_late_is_left_out() {
        let mixed = mix(600, |now| now + 5000);
        assert!(mixed.iter().all(|(_, value)| *value == 0.25), "{mixed:?}");
    }

    #[test]
    fn a_faster_playback_leaves_no_gap_and_a_jump_of_the_clock_does() {
        let stretched = mix(70, |now| now + now / 50);
        assert!(stretched.windows(2).all(|pair| pair[1].0 == pair[0].0 + 10), "{stretched:?}");
        let jumped = mix(70, |now| if now < 300 { now } else { now + 500 });
        let gaps: Vec<_> = jumped.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert_eq!(gaps.iter().filter(|gap| **gap != 10).collect::<Vec<_>>(), [&510]);
    }

    #[test]
    fn nothing_is_kept_before_somebody_asks() {
        let mut mixer = Mixer::default();
        let now = Instant::now();
        for i in 0..100 {
            mixer.heard(now + ms(10 * i), MediaTime::ZERO, &[0.5; BLOCK_SAMPLES]);
        }
        assert!(mixer.take().is_empty());
    }
}
