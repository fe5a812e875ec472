//! `sound.wav`: the sound of a recording in a folder of pictures.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};

use types::Sound;

use crate::files::{PartFolder, SOUND_NAME};
use crate::sound::wav_header;

/// WAV file, mono at 48 kHz with 16 bits, that can be read at any time up to the last second.
pub(super) struct WavFile {
    file: File,
    n_samples: u32,
}

impl WavFile {
    /// Creates the file in a folder that is being recorded.
    pub(super) fn create(folder: &PartFolder) -> io::Result<Self> {
        let mut file = folder.create_file(SOUND_NAME)?;
        file.write_all(&wav_header(0))?;
        Ok(Self { file, n_samples: 0 })
    }

    /// Appends 20 ms.
    pub(super) fn push(&mut self, block: &[f32]) -> io::Result<()> {
        let levels = block.iter().map(|s| (s.clamp(-1.0, 1.0) * 32767.0).round() as i16);
        let bytes: Vec<u8> = levels.flat_map(i16::to_le_bytes).collect();
        self.file.write_all(&bytes)?;
        let second = self.n_samples / Sound::RATE;
        self.n_samples = self.n_samples.saturating_add(block.len() as u32);
        if self.n_samples / Sound::RATE == second { Ok(()) } else { self.update() }
    }

    /// Brings the lengths in the header up to date.
    pub(super) fn update(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&wav_header(self.n_samples))?;
        self.file.seek(SeekFrom::End(0))?;
        Ok(())
    }
}
