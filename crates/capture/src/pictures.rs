//! A folder of pictures as a clip.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use types::{Frame, MediaTime};

use crate::errors::ReadError;

/// Pictures do not say how fast they follow one another.
pub(crate) const PICTURES_FPS: u32 = 25;

/// PNG and JPEG pictures in the order of their names.
pub(crate) struct Pictures {
    paths: Vec<PathBuf>,
    n_read: usize,
}

impl Pictures {
    /// Lists a folder.
    pub(crate) fn in_folder(folder: &Path) -> io::Result<Self> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
            if ["png", "jpg", "jpeg"].iter().any(|e| extension == *e) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(Self { paths, n_read: 0 })
    }

    pub(crate) fn n_frames(&self) -> u64 {
        self.paths.len() as u64
    }

    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        let Some(path) = self.paths.get(self.n_read) else { return Ok(None) };
        let time = MediaTime::of_frame(self.n_read as u64, PICTURES_FPS);
        self.n_read += 1;
        Ok(Some(read_picture(path)?.at(time)))
    }
}

/// A PNG or JPEG picture, at media time zero.
///
/// # Errors
/// If the file cannot be read or is no such picture.
pub fn read_picture(path: &Path) -> Result<Frame, ReadError> {
    let picture = image::ImageReader::open(path)?
        .with_guessed_format()?
        .decode()
        .map_err(|source| ReadError::Picture { path: path.to_owned(), source })?
        .into_rgb8();
    Ok(Frame::new(picture.width(), picture.height(), MediaTime::ZERO, picture.into_raw())?)
}
