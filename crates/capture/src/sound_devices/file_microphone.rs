//! A file in place of a microphone, in real time.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::change::{DeviceChange, SoundError};
use super::sound_block::SoundBlock;
use super::{BLOCK, BLOCK_SAMPLES};
use crate::sound::ClipSound;

/// How late blocks may be read before some are dropped, as by a device.
const MAX_LATE: Duration = Duration::from_millis(200);

/// File that is played once. Time starts when the first block is asked for.
pub(super) struct FileMicrophone {
    path: PathBuf,
    /// `None` after the end.
    sound: Option<ClipSound>,
    samples: VecDeque<f32>,
    zero: Option<Instant>,
    n_blocks: u32,
    n_dropped: u64,
    is_cut_short: bool,
    change: Option<DeviceChange>,
}

impl FileMicrophone {
    /// Opens a file and reads its first sound.
    pub(super) fn open(path: &Path) -> Result<Self, SoundError> {
        let mut microphone = Self {
            path: path.to_owned(),
            sound: Some(ClipSound::open(path)?),
            samples: VecDeque::new(),
            zero: None,
            n_blocks: 0,
            n_dropped: 0,
            is_cut_short: false,
            change: None,
        };
        if let Some(sound) = &mut microphone.sound {
            let first = sound
                .next_sound()
                .map_err(|source| SoundError::Read { path: path.to_owned(), source })?;
            microphone.samples.extend(first.map(|sound| sound.samples).unwrap_or_default());
        }
        Ok(microphone)
    }

    /// Returns the next block, or how long it takes until it is complete.
    pub(super) fn next_block(&mut self, now: Instant) -> Result<SoundBlock, Duration> {
        let zero = *self.zero.get_or_insert(now);
        let due = zero + BLOCK * (self.n_blocks + 1);
        let early = due.saturating_duration_since(now);
        if !early.is_zero() {
            return Err(early);
        }
        let late = now.saturating_duration_since(due);
        if late > MAX_LATE {
            for _ in 0..late.as_millis() / BLOCK.as_millis() {
                self.read_block();
                self.n_dropped += 1;
            }
        }
        let captured = zero + BLOCK * self.n_blocks;
        Ok(SoundBlock { captured, samples: self.read_block() })
    }

    /// Returns how many blocks were dropped because they were not read in time.
    pub(super) fn n_dropped(&self) -> u64 {
        self.n_dropped
    }

    /// Returns that the file has ended, once.
    pub(super) fn take_change(&mut self) -> Option<DeviceChange> {
        self.change.take()
    }

    fn read_block(&mut self) -> [f32; BLOCK_SAMPLES] {
        self.n_blocks += 1;
        while self.samples.len() < BLOCK_SAMPLES
            && let Some(sound) = &mut self.sound
        {
            let path = self.path.clone();
            match sound.next_sound() {
                Ok(Some(sound)) => self.samples.extend(sound.samples),
                Ok(None) => {
                    self.sound = None;
                    if !self.is_cut_short {
                        self.change = Some(DeviceChange::Ended { path });
                    }
                }
                Err(error) => {
                    self.is_cut_short = true;
                    self.change = Some(DeviceChange::CutShort { path, why: error.to_string() });
                }
            }
        }
        std::array::from_fn(|_| self.samples.pop_front().unwrap_or(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sound_devices::wav_writer::WavWriter;
    use crate::test_clips::{Folder, moment};

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Microphone of a file with `n` samples, all of them 0.5.
    fn microphone(folder: &Folder, n: usize) -> FileMicrophone {
        let path = folder.join("voice.wav");
        let mut file = WavWriter::create(&path).unwrap();
        file.push(&vec![0.5; n]).unwrap();
        file.finish().unwrap();
        FileMicrophone::open(&path).unwrap()
    }

    #[test]
    fn a_file_is_played_once_and_then_there_is_silence() {
        let folder = Folder::new("file-microphone");
        let mut microphone = microphone(&folder, 1000);
        let zero = moment();
        assert_eq!(microphone.next_block(zero), Err(10 * MILLISECOND));
        assert_eq!(microphone.next_block(zero + 9 * MILLISECOND), Err(MILLISECOND));
        let mut n_loud = Vec::new();
        let mut changes = Vec::new();
        for i in 0..6 {
            let block = microphone.next_block(zero + BLOCK * (i + 1)).unwrap();
            assert_eq!(block.captured, zero + BLOCK * i);
            n_loud.push(block.samples.iter().filter(|s| **s > 0.4).count());
            changes.extend(microphone.take_change());
        }
        assert_eq!(n_loud, [480, 480, 40, 0, 0, 0]);
        assert_eq!(changes, [DeviceChange::Ended { path: folder.join("voice.wav") }]);
    }

    #[test]
    fn what_is_read_late_is_complete_up_to_200_ms_and_then_skipped() {
        let folder = Folder::new("file-microphone-late");
        let mut microphone = microphone(&folder, 48_000);
        let zero = moment();
        assert!(microphone.next_block(zero).is_err());
        for i in 0..20 {
            let block = microphone.next_block(zero + BLOCK * 20).unwrap();
            assert_eq!(block.captured, zero + BLOCK * i);
        }
        let block = microphone.next_block(zero + BLOCK * 51).unwrap();
        assert_eq!(block.captured, zero + BLOCK * 50);
        assert_eq!(microphone.n_dropped(), 30);
    }

    #[test]
    fn a_file_that_is_cut_short_is_played_as_far_as_it_goes() {
        let folder = Folder::new("file-microphone-cut");
        drop(microphone(&folder, 2000));
        let path = folder.join("voice.wav");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 2001]).unwrap();
        let mut microphone = FileMicrophone::open(&path).unwrap();
        let zero = moment();
        assert!(microphone.next_block(zero).is_err());
        let mut n_loud = 0;
        let mut changes = Vec::new();
        for i in 1..10 {
            let block = microphone.next_block(zero + BLOCK * i).unwrap();
            n_loud += block.samples.iter().filter(|s| **s > 0.4).count();
            changes.extend(microphone.take_change().map(|change| change.to_string()));
        }
        assert_eq!(n_loud, 999);
        assert_eq!(changes.len(), 1);
        assert!(
            changes[0].contains("cut short") && changes[0].contains("voice.wav"),
            "{changes:?}"
        );
    }

    #[test]
    fn what_is_no_sound_is_refused_with_its_name() {
        let folder = Folder::new("file-microphone-refused");
        std::fs::write(folder.join("notes.wav"), "these are my notes").unwrap();
        for (name, want) in
            [("missing.wav", "there is no file"), (".", "not a file"), ("notes.wav", "ffmpeg")]
        {
            let error = FileMicrophone::open(&folder.join(name)).err().unwrap().to_string();
            assert!(error.contains(want) && error.contains(name), "{error}");
        }
    }
}
