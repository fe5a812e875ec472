use std::io::{Cursor, Write as _};
use std::path::Path;

use anyhow::Context;
use track::Tracker;
use types::{LANDMARKS, Landmarks};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::callbacks::Progress;
use crate::clip::ClipReader;

/// Most frames of one archive: seven hours of video. Beyond 4 GB another format would be needed.
const MAX_FRAMES: usize = 700_000;

/// Name of the array in the archive.
const ARRAY: &str = "landmarks.npy";

/// Landmarks of every frame of a clip.
#[derive(Clone, Debug, Default)]
pub struct ClipLandmarks {
    /// For each frame the landmarks in pixels of its centered square; `None` where no face was
    /// found.
    frames: Vec<Option<Landmarks>>,
}

impl ClipLandmarks {
    /// Tracks a face through a clip.
    ///
    /// # Errors
    /// If the clip cannot be read, is endless, or has more than 700,000 frames.
    pub fn track(clip: &Path, progress: Progress<'_>) -> anyhow::Result<Self> {
        let mut tracker = Tracker::builtin().context("cannot use the built-in tracker")?;
        let mut reader = ClipReader::open(clip)?;
        anyhow::ensure!(!reader.is_endless(), "the actor has no end");
        let mut frames = Vec::new();
        while let Some((index, frame)) = reader.next()? {
            anyhow::ensure!(frames.len() < MAX_FRAMES, "the clip is too long for one archive");
            frames.push(tracker.track(&frame));
            progress("track", reader.fraction(None), &format!("frame {index}"));
        }
        Ok(Self { frames })
    }

    /// Returns whether a file begins like an archive that [`ClipLandmarks::to_npz`] has made.
    pub fn is_archive(start: &[u8]) -> bool {
        // A local file header of a ZIP archive has 30 bytes before the name.
        start.starts_with(b"PK\x03\x04")
            && start.get(30..).is_some_and(|name| name.starts_with(ARRAY.as_bytes()))
    }

    /// Returns the number of frames of the clip.
    pub fn n_frames(&self) -> usize {
        self.frames.len()
    }

    /// Returns the number of frames in which a face was found.
    pub fn n_found(&self) -> usize {
        self.frames.iter().flatten().count()
    }

    /// Encodes the landmarks as a `NumPy` archive (`.npz`) with one uncompressed array,
    /// `landmarks.npy`: float32, `[frames, 478, 3]`, NaN where no face was found. The last axis is
    /// `x, y, z` in pixels of the square frame, as in [`types::Landmarks`].
    ///
    /// # Errors
    /// Never for fewer than 4 GB.
    ///
    /// # Source
    /// `NumPy`'s format version 1.0 (`numpy.lib.format`).
    pub fn to_npz(&self) -> anyhow::Result<Vec<u8>> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        archive.start_file(ARRAY, stored)?;
        archive.write_all(&npy_header(self.frames.len()))?;
        for frame in &self.frames {
            let numbers: Vec<u8> = match frame {
                Some(landmarks) => {
                    landmarks.points.as_flattened().iter().flat_map(|v| v.to_le_bytes()).collect()
                }
                None => f32::NAN.to_le_bytes().repeat(LANDMARKS * 3),
            };
            archive.write_all(&numbers)?;
        }
        Ok(archive.finish()?.into_inner())
    }
}

/// Builds the header of an array of float32, `[n_frames, 478, 3]`.
fn npy_header(n_frames: usize) -> Vec<u8> {
    let mut text = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({n_frames}, {LANDMARKS}, 3), }}"
    );
    // Magic, version and length take ten bytes; the header is padded to a multiple of 64 bytes and
    // ends with a newline.
    while (text.len() + 11) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((text.len() as u16).to_le_bytes());
    header.extend(text.as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn an_archive_holds_shape_and_numbers() {
        let found = Landmarks::exact(vec![[1.5; 3]; LANDMARKS]);
        let clip = ClipLandmarks { frames: vec![Some(found), None] };
        assert_eq!((clip.n_frames(), clip.n_found()), (2, 1));
        let bytes = clip.to_npz().unwrap();
        assert!(ClipLandmarks::is_archive(&bytes) && !ClipLandmarks::is_archive(&bytes[4..]));
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let mut npy = Vec::new();
        archive.by_name("landmarks.npy").unwrap().read_to_end(&mut npy).unwrap();
        let text = String::from_utf8_lossy(&npy[..128]).into_owned();
        assert!(text.contains("'shape': (2, 478, 3)") && text.ends_with('\n'), "{text}");
        let numbers: Vec<f32> =
            npy[128..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(numbers.len(), 2 * LANDMARKS * 3);
        assert!(numbers[..LANDMARKS * 3].iter().all(|v| *v == 1.5));
        assert!(numbers[LANDMARKS * 3..].iter().all(|v| v.is_nan()));
    }
}
