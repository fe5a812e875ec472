//! WAV files of what was heard.

use std::io;
use std::path::{Path, PathBuf};

use types::Sound;

use super::change::SoundError;
use crate::errors::WriteError;
use crate::files::{PartFile, Unfinished};
use crate::sound::wav_header;

/// Writer of a WAV file: mono, 48 kHz, 16 bits.
///
/// The file has a temporary name until it is complete. The lengths in its header are brought up to
/// date every second, so that it can be read after the program was killed.
pub(super) struct WavWriter {
    path: PathBuf,
    file: PartFile,
    n_samples: u32,
    bytes: Vec<u8>,
}

impl WavWriter {
    /// Creates the file.
    pub(super) fn create(path: &Path) -> Result<Self, SoundError> {
        let is_wav = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("wav"));
        if !is_wav {
            return Err(SoundError::NotWav { path: path.to_owned() });
        }
        let mut file = PartFile::create(path, Unfinished::Kept)?;
        file.append(&wav_header(0)).map_err(|error| file.error(error))?;
        Ok(Self { path: path.to_owned(), file, n_samples: 0, bytes: Vec::new() })
    }

    /// Returns the final path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends at most a second of sound.
    pub(super) fn push(&mut self, samples: &[f32]) -> io::Result<()> {
        self.bytes.clear();
        let levels = samples.iter().map(|s| (s.clamp(-1.0, 1.0) * 32767.0).round() as i16);
        self.bytes.extend(levels.flat_map(i16::to_le_bytes));
        self.file.append(&self.bytes)?;
        let second = self.n_samples / Sound::RATE;
        self.n_samples = self.n_samples.saturating_add(samples.len() as u32);
        if self.n_samples / Sound::RATE != second {
            self.file.overwrite(0, &wav_header(self.n_samples))?;
        }
        Ok(())
    }

    /// Completes the file and moves it to its final path. Without sound there is no file, and what is at
    /// the final path stays.
    pub(super) fn finish(mut self) -> Result<(), WriteError> {
        if self.n_samples == 0 {
            self.file.discard();
            return Ok(());
        }
        let header = wav_header(self.n_samples);
        self.file.overwrite(0, &header).map_err(|error| self.file.error(error))?;
        self.file.commit()
    }
}
