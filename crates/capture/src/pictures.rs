//! Pictures in files: a folder of them as a clip, single ones, PNG output.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder as _, ImageError, ImageReader};
use types::{Frame, MediaTime};

use crate::atomic::write_file;
use crate::errors::{ReadError, WriteError};

/// Frame rate of a folder of pictures, frames per second; the files carry none.
pub(crate) const PICTURES_FPS: u32 = 25;

/// PNG and JPEG pictures of a folder, in the order of their names.
pub(crate) struct Pictures {
    paths: Vec<PathBuf>,
    n_read: usize,
}

impl Pictures {
    /// Lists the pictures of a folder.
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

/// Reads a PNG or JPEG picture as a frame with media time zero. Transparency is dropped.
///
/// # Errors
/// [`ReadError::Io`] if the file cannot be read, [`ReadError::Picture`] if it is not a picture of
/// these formats, [`ReadError::Frame`] if it is larger than 8K.
pub fn read_picture(path: &Path) -> Result<Frame, ReadError> {
    let picture = ImageReader::open(path)?
        .with_guessed_format()?
        .decode()
        .map_err(|source| ReadError::Picture { path: path.to_owned(), source })?
        .into_rgb8();
    Ok(Frame::new(picture.width(), picture.height(), MediaTime::ZERO, picture.into_raw())?)
}

/// Writes a frame as a PNG file, atomically as [`write_file`] does.
///
/// # Errors
/// [`WriteError::Io`] if the file cannot be written, [`WriteError::Picture`] if encoding fails.
pub fn write_picture(path: &Path, frame: &Frame) -> Result<(), WriteError> {
    let png = encode_png(frame)
        .map_err(|source| WriteError::Picture { path: path.to_owned(), source })?;
    write_file(path, &png)
}

/// Encodes a frame as the bytes of a PNG file.
pub(crate) fn encode_png(frame: &Frame) -> Result<Vec<u8>, ImageError> {
    let mut png = Vec::new();
    PngEncoder::new(&mut png).write_image(
        frame.rgb(),
        frame.width(),
        frame.height(),
        ExtendedColorType::Rgb8,
    )?;
    Ok(png)
}
