//! A file, or nothing, in place of a speaker, at the pace of one.

use std::path::Path;
use std::time::{Duration, Instant};

use types::Sound;

use super::change::{DeviceChange, SoundError};
use super::wav_writer::WavWriter;
use super::{BLOCK, BLOCK_SAMPLES};
use crate::errors::WriteError;

/// Sound that is held before another block is wanted, as by a device with a buffer of two blocks.
const HELD: Duration = BLOCK;
/// Longest gap that is recorded as such, seconds. Time stands still during a longer one.
const MAX_GAP_S: u64 = 10;

/// Speaker that plays by the clock. Sound that comes too late is heard late, after a gap.
pub(super) struct PacedSpeaker {
    file: Option<WavWriter>,
    zero: Option<Instant>,
    /// Samples since `zero`, with the gaps.
    n_samples: u64,
    n_gaps: u64,
    change: Option<DeviceChange>,
}

impl PacedSpeaker {
    /// Makes a speaker that nobody hears.
    pub(super) fn silent() -> Self {
        Self { file: None, zero: None, n_samples: 0, n_gaps: 0, change: None }
    }

    /// Makes a speaker that is recorded.
    pub(super) fn to_file(path: &Path) -> Result<Self, SoundError> {
        // A pipe would wait for its reader, and sound waits for nobody.
        if path.metadata().is_ok_and(|about| !about.is_file()) {
            return Err(SoundError::NotAFile { path: path.to_owned() });
        }
        Ok(Self { file: Some(WavWriter::create(path)?), ..Self::silent() })
    }

    /// Returns how long it takes until another block is wanted.
    pub(super) fn room_in(&self, now: Instant) -> Duration {
        self.queued(now).saturating_sub(HELD)
    }

    /// Appends a block.
    pub(super) fn play(&mut self, now: Instant, samples: &[f32; BLOCK_SAMPLES]) {
        let zero = *self.zero.get_or_insert(now);
        let gap = now.saturating_duration_since(zero + duration(self.n_samples));
        let mut n_silent = (gap.as_secs_f64() * f64::from(Sound::RATE)) as u64;
        if n_silent > 0 {
            self.n_gaps += 1;
            let most = MAX_GAP_S * u64::from(Sound::RATE);
            if n_silent > most {
                self.zero = Some(zero + duration(n_silent - most));
                n_silent = most;
            }
        }
        self.n_samples += n_silent + BLOCK_SAMPLES as u64;
        let Some(file) = &mut self.file else { return };
        let silence = [0.0; BLOCK_SAMPLES];
        let mut written = Ok(());
        while n_silent > 0 && written.is_ok() {
            let n = n_silent.min(BLOCK_SAMPLES as u64);
            written = file.push(&silence[..n as usize]);
            n_silent -= n;
        }
        if let Err(error) = written.and_then(|()| file.push(samples)) {
            let (path, why) = (file.path().to_owned(), error.to_string());
            self.change = Some(DeviceChange::NotWritten { path, why });
            self.file = None;
        }
    }

    /// Returns how long it takes until what is given now is heard.
    pub(super) fn queued(&self, now: Instant) -> Duration {
        let end = self.zero.map(|zero| zero + duration(self.n_samples));
        end.map_or(Duration::ZERO, |end| end.saturating_duration_since(now))
    }

    /// Returns how many times there was nothing to play.
    pub(super) fn n_gaps(&self) -> u64 {
        self.n_gaps
    }

    /// Returns why nothing is recorded any more, once.
    pub(super) fn take_change(&mut self) -> Option<DeviceChange> {
        self.change.take()
    }

    /// Completes the file.
    pub(super) fn finish(&mut self) -> Result<(), WriteError> {
        self.file.take().map_or(Ok(()), WavWriter::finish)
    }
}

fn duration(n_samples: u64) -> Duration {
    Duration::from_nanos(n_samples * 1_000_000_000 / u64::from(Sound::RATE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sound::ClipSound;
    use crate::test_clips::{Folder, moment};

    const LOUD: [f32; BLOCK_SAMPLES] = [0.5; BLOCK_SAMPLES];

    /// Returns the samples of a file and how many of them, in order, are loud and silent.
    fn runs(path: &Path) -> Vec<(bool, usize)> {
        let mut sound = ClipSound::open(path).unwrap();
        let mut runs: Vec<(bool, usize)> = Vec::new();
        while let Some(sound) = sound.next_sound().unwrap() {
            for sample in sound.samples {
                match runs.last_mut() {
                    Some((is_loud, n)) if *is_loud == (sample > 0.4) => *n += 1,
                    _ => runs.push((sample > 0.4, 1)),
                }
            }
        }
        runs
    }

    #[test]
    fn it_takes_a_block_every_ten_milliseconds_and_holds_two() {
        let mut speaker = PacedSpeaker::silent();
        let zero = moment();
        for i in 0..100 {
            let now = zero + BLOCK * i;
            assert_eq!(speaker.room_in(now), Duration::ZERO);
            speaker.play(now, &LOUD);
            if i == 0 {
                assert_eq!(speaker.room_in(now), Duration::ZERO);
                speaker.play(now, &LOUD);
            }
            assert_eq!((speaker.room_in(now), speaker.queued(now)), (BLOCK, 2 * BLOCK));
        }
        assert_eq!(speaker.n_gaps(), 0);
    }

    #[test]
    fn a_late_block_is_heard_after_a_gap_that_is_in_the_file() {
        let folder = Folder::new("paced-speaker-gap");
        let path = folder.join("heard.wav");
        let mut speaker = PacedSpeaker::to_file(&path).unwrap();
        let zero = moment();
        // On time, 30 ms too late, and an hour too late.
        for ms in [0, 10, 50, 3_600_000] {
            speaker.play(zero + Duration::from_millis(ms), &LOUD);
        }
        assert_eq!(speaker.n_gaps(), 2);
        speaker.finish().unwrap();
        let rest = (false, 480);
        let gap = (false, 480_000);
        assert_eq!(runs(&path), [(true, 960), (false, 1440), (true, 480), gap, (true, 480), rest]);
        assert_eq!(folder.names(), ["heard.wav"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_in_place_of_a_speaker_file_is_refused() {
        let folder = Folder::new("speaker-pipe");
        let path = folder.join("pipe.wav");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let refused = PacedSpeaker::to_file(&path).err();
        assert!(matches!(refused, Some(SoundError::NotAFile { .. })), "{refused:?}");
    }

    #[test]
    fn what_was_heard_before_the_program_was_killed_can_be_played() {
        let folder = Folder::new("paced-speaker-killed");
        let path = folder.join("heard.wav");
        let mut speaker = PacedSpeaker::to_file(&path).unwrap();
        let zero = moment();
        for i in 0..250 {
            speaker.play(zero + BLOCK * i, &LOUD);
        }
        assert_eq!(folder.names(), ["heard.part.wav"]);
        assert_eq!(runs(&folder.join("heard.part.wav")), [(true, 96_000)], "two whole seconds");
        assert!(crate::is_own_clip(&folder.join("heard.part.wav")));
    }

    #[test]
    fn a_speaker_that_has_played_nothing_leaves_an_earlier_recording_as_it_is() {
        let folder = Folder::new("paced-speaker-unused");
        let path = folder.join("heard.wav");
        PacedSpeaker::to_file(&path).unwrap().finish().unwrap();
        assert_eq!(folder.names(), [""; 0]);
        let mut earlier = PacedSpeaker::to_file(&path).unwrap();
        let zero = moment();
        earlier.play(zero, &LOUD);
        earlier.play(zero, &LOUD);
        earlier.finish().unwrap();
        PacedSpeaker::to_file(&path).unwrap().finish().unwrap();
        assert_eq!(runs(&path), [(true, 960)]);
        assert_eq!(folder.names(), ["heard.wav"]);
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        let folder = Folder::new("paced-speaker-kind");
        let error = PacedSpeaker::to_file(&folder.join("heard.mp3")).err().unwrap().to_string();
        assert!(error.contains(".wav") && error.contains("heard.mp3"), "{error}");
        assert_eq!(folder.names(), [""; 0]);
    }
}
