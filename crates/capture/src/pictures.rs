//! Pictures in files: a folder of them as a clip, single ones, PNG output.

use std::fs;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use image::codecs::png::PngEncoder;
use image::error::LimitErrorKind;
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder as _, ImageEncoder as _, ImageError, ImageReader,
    Limits,
};
use types::{Frame, MAX_FRAME_SIDE, MediaTime};

use crate::atomic::write_file;
use crate::bounded_read::read_file;
use crate::errors::{ReadError, WriteError};

/// Frame rate of a folder of pictures, frames per second; the files carry none.
pub(crate) const PICTURES_FPS: u32 = 25;

/// Largest picture file that is read, bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Most pixels of a picture; cameras of telephones make 12 to 50 million.
const MAX_PIXELS: u64 = 50_000_000;
/// Largest decoded picture, bytes, of which there may be a second copy with other samples.
const MAX_DECODED_BYTES: u64 = 256 << 20;
/// Most pictures of a folder: eleven hours.
const MAX_PICTURES: usize = 1_000_000;

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
            if paths.len() == MAX_PICTURES {
                return Err(io::Error::other("it holds more than a million pictures"));
            }
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
/// these formats, or too large: more than 8192 pixels a side, 50 million pixels, or 64 MiB on disk.
/// Its header is enough to find that out.
pub fn read_picture(path: &Path) -> Result<Frame, ReadError> {
    let wrong = |source| ReadError::Picture { path: path.to_owned(), source };
    let mut reader =
        ImageReader::new(Cursor::new(read_file(path, MAX_FILE_BYTES)?)).with_guessed_format()?;
    reader.limits(limits());
    let decoder = reader.into_decoder().map_err(wrong)?;
    let (width, height) = decoder.dimensions();
    let is_large = u64::from(width) * u64::from(height) > MAX_PIXELS;
    if is_large || decoder.total_bytes() > MAX_DECODED_BYTES {
        return Err(wrong(ImageError::Limits(LimitErrorKind::InsufficientMemory.into())));
    }
    let picture = DynamicImage::from_decoder(decoder).map_err(wrong)?.into_rgb8();
    Ok(Frame::new(picture.width(), picture.height(), MediaTime::ZERO, picture.into_raw())?)
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_FRAME_SIDE);
    limits.max_image_height = Some(MAX_FRAME_SIDE);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    limits
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

#[cfg(test)]
mod tests {
    use image::codecs::png::PngEncoder;

    use super::*;
    use crate::test_clips::Folder;

    /// Writes a black PNG picture of 16-bit samples, which takes a few hundred times its length.
    fn write_black(path: &Path, width: u32, height: u32) {
        let mut png = Vec::new();
        let samples = vec![0; width as usize * height as usize * 2];
        PngEncoder::new(&mut png)
            .write_image(&samples, width, height, ExtendedColorType::L16)
            .unwrap();
        fs::write(path, png).unwrap();
    }

    #[test]
    fn a_picture_that_weighs_little_and_costs_much_is_refused_by_its_header() {
        let folder = Folder::new("large-pictures");
        for (width, height) in [(8193, 8), (8, 8193), (8192, 6200)] {
            let path = folder.join(&format!("{width}.png"));
            write_black(&path, width, height);
            // The header tells; the pixels may as well be missing.
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..60]).unwrap();
            let error = read_picture(&path).unwrap_err().to_string();
            assert!(error.contains("imit") || error.contains("large"), "{error}");
        }
        let path = folder.join("small.png");
        write_black(&path, 64, 48);
        let frame = read_picture(&path).unwrap();
        assert_eq!((frame.width(), frame.height()), (64, 48));
    }
}
