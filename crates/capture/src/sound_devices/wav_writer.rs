//! WAV files of what was heard.

use std::io;
use std::path::{Path, PathBuf};

use types::Sound;

use super::change::SoundError;
use crate::errors::WriteError;
use crate::files::{PartFile, Unfinished, WAV_SOFTWARE};

/// Bytes per audio sample.
const SAMPLE_BYTES: u32 = 2;

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
        file.append(&header(0)).map_err(|error| file.error(error))?;
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
            self.file.overwrite(0, &header(self.n_samples))?;
        }
        Ok(())
    }

    /// Completes the file and moves it to its final path.
    pub(super) fn finish(mut self) -> Result<(), WriteError> {
        let header = header(self.n_samples);
        self.file.overwrite(0, &header).map_err(|error| self.file.error(error))?;
        self.file.commit()
    }
}

/// Makes the header of a file (RIFF, with the name of this program in a `LIST` chunk).
fn header(n_samples: u32) -> Vec<u8> {
    let n_data = n_samples.saturating_mul(SAMPLE_BYTES);
    let mut format = Vec::new();
    format.extend(1_u16.to_le_bytes()); // integers
    format.extend(1_u16.to_le_bytes()); // channels
    format.extend(Sound::RATE.to_le_bytes());
    format.extend((Sound::RATE * SAMPLE_BYTES).to_le_bytes());
    format.extend((SAMPLE_BYTES as u16).to_le_bytes());
    format.extend((SAMPLE_BYTES as u16 * 8).to_le_bytes());
    let mut header = b"WAVE".to_vec();
    for (name, contents) in [(b"fmt ", &format[..]), (b"LIST", WAV_SOFTWARE)] {
        header.extend(name);
        header.extend((contents.len() as u32).to_le_bytes());
        header.extend(contents);
    }
    header.extend(b"data");
    header.extend(n_data.to_le_bytes());
    let mut riff = b"RIFF".to_vec();
    riff.extend(n_data.saturating_add(header.len() as u32).to_le_bytes());
    riff.extend(header);
    riff
}
