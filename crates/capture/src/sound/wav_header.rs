//! The header of the WAV files that this program writes.

use types::Sound;

use crate::files::WAV_SOFTWARE;

/// Bytes per audio sample.
const SAMPLE_BYTES: u32 = 2;

/// Makes the header of a file with one channel at 48 kHz and 16 bits (RIFF, with the name of this program in a `LIST` chunk).
pub(crate) fn wav_header(n_samples: u32) -> Vec<u8> {
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
