//! Pictures in files: a folder of them as a clip, single ones, PNG output.

use std::cmp::Ordering;
use std::fs;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use image::codecs::png::PngEncoder;
use image::error::LimitErrorKind;
use image::metadata::Orientation;
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError, ImageFormat,
    ImageReader, Limits,
};
use types::{Frame, MAX_FRAME_SIDE, MediaTime};

use crate::errors::{ReadError, WriteError};
use crate::files::read_file;
use crate::files::write_file;

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

/// Formats that are read. Of an animated one the first picture is read.
const FORMATS: [ImageFormat; 6] = [
    ImageFormat::Png,
    ImageFormat::Jpeg,
    ImageFormat::WebP,
    ImageFormat::Bmp,
    ImageFormat::Gif,
    ImageFormat::Tiff,
];
/// Extensions of pictures in formats that are not read. In a folder they are an error, so that no picture is
/// missing without a word.
const UNREAD: [&str; 18] = [
    "heic", "heif", "avif", "jxl", "jp2", "dng", "cr2", "nef", "arw", "tga", "ppm", "pgm", "pbm",
    "pnm", "psd", "svg", "exr", "hdr",
];
/// Extensions of clips, which a folder may hold instead of pictures.
const CLIPS: [&str; 9] = ["mp4", "mov", "m4v", "mkv", "webm", "avi", "y4m", "ts", "3gp"];

/// Pictures of a folder, in the natural order of their names: 2 before 10.
pub(crate) struct Pictures {
    paths: Vec<PathBuf>,
    /// A clip of the folder, if it has one.
    clip: Option<PathBuf>,
    n_read: usize,
}

impl Pictures {
    /// Lists the pictures of a folder, without hidden files.
    pub(crate) fn in_folder(folder: &Path) -> io::Result<Self> {
        let mut paths = Vec::new();
        let mut clips = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let is_hidden = path.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
            // A folder, or a pipe, which would wait for somebody who writes into it.
            let is_other = path.metadata().is_ok_and(|about| !about.is_file());
            if is_hidden || is_other {
                continue;
            }
            if paths.len() == MAX_PICTURES {
                return Err(io::Error::other("it holds more than a million pictures"));
            }
            let is_read = ImageFormat::from_path(&path).is_ok_and(|f| FORMATS.contains(&f));
            if is_read || has_extension(&path, &UNREAD) {
                paths.push(path);
            } else if has_extension(&path, &CLIPS) {
                clips.push(path);
            }
        }
        paths.sort_by(|a, b| natural_order(a, b));
        Ok(Self { paths, clip: clips.into_iter().min(), n_read: 0 })
    }

    /// Returns a clip that the folder holds too.
    pub(crate) fn clip(&self) -> Option<&Path> {
        self.clip.as_deref()
    }

    pub(crate) fn n_frames(&self) -> u64 {
        self.paths.len() as u64
    }

    /// Continues with the picture of this index.
    pub(crate) fn seek(&mut self, index: u64) {
        self.n_read = usize::try_from(index).unwrap_or(usize::MAX);
    }

    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        let Some(path) = self.paths.get(self.n_read) else { return Ok(None) };
        let time = MediaTime::of_frame(self.n_read as u64, PICTURES_FPS);
        self.n_read += 1;
        Ok(Some(read_picture(path)?.at(time)))
    }
}

/// Orders names as people do: 2 before 10, without regard to case.
fn natural_order(a: &Path, b: &Path) -> Ordering {
    let [lower_a, lower_b] = [a, b].map(|path| path.to_string_lossy().to_lowercase());
    alphanumeric_sort::compare_str(lower_a, lower_b).then_with(|| a.cmp(b))
}

fn has_extension(path: &Path, of: &[&str]) -> bool {
    path.extension().is_some_and(|extension| of.iter().any(|e| extension.eq_ignore_ascii_case(e)))
}

/// Reads a PNG, JPEG, WebP, BMP, GIF or TIFF picture as a frame with media time zero.
///
/// It is turned as its EXIF data says. What is transparent shows black.
///
/// # Errors
/// [`ReadError::Io`] if the file cannot be read, [`ReadError::PictureFormat`] for HEIC and other formats of
/// photographs, [`ReadError::Picture`] if it is damaged or not a picture, or too large: more than 8192
/// pixels a side, 50 million pixels, or 64 MiB on disk. Its header is enough to find that out.
pub fn read_picture(path: &Path) -> Result<Frame, ReadError> {
    let wrong = |source| ReadError::Picture { path: path.to_owned(), source };
    let bytes = read_file(path, MAX_FILE_BYTES)?;
    if let Some(format) = unread_format(path, &bytes) {
        return Err(ReadError::PictureFormat { path: path.to_owned(), format });
    }
    let mut reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format()?;
    let is_tiff = reader.format() == Some(ImageFormat::Tiff);
    if reader.format() == Some(ImageFormat::Jpeg) && !has_end(&bytes) {
        // The decoder fills what is missing with gray.
        return Err(wrong(ImageError::IoError(io::ErrorKind::UnexpectedEof.into())));
    }
    reader.limits(limits());
    let mut decoder = reader.into_decoder().map_err(wrong)?;
    let (width, height) = decoder.dimensions();
    let is_large = u64::from(width) * u64::from(height) > MAX_PIXELS;
    if is_large || decoder.total_bytes() > MAX_DECODED_BYTES {
        return Err(wrong(ImageError::Limits(LimitErrorKind::InsufficientMemory.into())));
    }
    // EXIF data has the structure of a TIFF file, which says itself how it is to be turned.
    let of_tiff = if is_tiff { Orientation::from_exif_chunk(&bytes) } else { None };
    let of_exif = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(wrong)?;
    picture.apply_orientation(of_tiff.unwrap_or(of_exif));
    let (width, height) = (picture.width(), picture.height());
    let rgb = if picture.color().has_alpha() {
        let rgba = picture.into_rgba8();
        let over_black =
            |p: &[u8]| [0, 1, 2].map(|c| (u16::from(p[c]) * u16::from(p[3]) / 255) as u8);
        rgba.chunks_exact(4).flat_map(over_black).collect()
    } else {
        picture.into_rgb8().into_raw()
    };
    Ok(Frame::new(width, height, MediaTime::ZERO, rgb)?)
}

/// Returns whether a JPEG file has the marker of its end (ITU-T T.81, table B.1) behind its first scan. In
/// the data of a scan no other marker looks like it.
fn has_end(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    const END_OF_IMAGE: u8 = 0xd9;
    let mut rest = bytes.get(2..).unwrap_or_default();
    // Segments before the scan may contain a whole picture of their own: a thumbnail.
    while let [0xff, marker, high, low, ..] = *rest {
        if marker == START_OF_SCAN {
            return rest.windows(2).any(|pair| pair == [0xff, END_OF_IMAGE]);
        }
        let n_bytes =
            if marker == 0xff { 1 } else { 2 + usize::from(u16::from_be_bytes([high, low])) };
        rest = rest.get(n_bytes..).unwrap_or_default();
    }
    false
}

/// Returns the name of a format of pictures that is not read, by the first bytes or else the name of a file.
fn unread_format(path: &Path, bytes: &[u8]) -> Option<String> {
    if bytes.get(4..8) == Some(b"ftyp") {
        match bytes.get(8..12)? {
            b"avif" | b"avis" => return Some("AVIF".to_owned()),
            b"heic" | b"heix" | b"heim" | b"heis" | b"mif1" | b"msf1" => {
                return Some("HEIC".to_owned());
            }
            // A clip.
            _ => {}
        }
    }
    let is_known = image::guess_format(bytes).is_ok_and(|format| FORMATS.contains(&format));
    let extension = path.extension()?.to_str()?.to_ascii_uppercase();
    (!is_known && has_extension(path, &UNREAD)).then_some(extension)
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
    use image::codecs::bmp::BmpEncoder;
    use image::codecs::gif::GifEncoder;
    use image::codecs::jpeg::JpegEncoder;
    use image::codecs::png::PngEncoder;
    use image::codecs::tiff::TiffEncoder;
    use image::codecs::webp::WebPEncoder;
    use image::{DynamicImage, ImageBuffer, Luma, LumaA, Rgb, RgbImage, Rgba, RgbaImage};

    use super::*;
    use crate::test_clips::{Folder, all_frames, read};
    use crate::{OpenError, Source, SourceSpec};

    /// Encodes a picture in the format of an extension, with EXIF data if there is any.
    fn encode(picture: &DynamicImage, extension: &str, exif: &[u8]) -> Vec<u8> {
        fn write(picture: &DynamicImage, mut encoder: impl ImageEncoder, exif: &[u8]) {
            if !exif.is_empty() {
                encoder.set_exif_metadata(exif.to_vec()).unwrap();
            }
            picture.write_with_encoder(encoder).unwrap();
        }
        let mut out = Cursor::new(Vec::new());
        match extension {
            "png" => write(picture, PngEncoder::new(&mut out), exif),
            "jpg" => write(picture, JpegEncoder::new_with_quality(&mut out, 98), exif),
            "webp" => write(picture, WebPEncoder::new_lossless(&mut out), exif),
            "bmp" => write(picture, BmpEncoder::new(&mut out), exif),
            "tif" => write(picture, TiffEncoder::new(&mut out), exif),
            _ => GifEncoder::new(&mut out)
                .encode_frame(image::Frame::new(picture.to_rgba8()))
                .unwrap(),
        }
        out.into_inner()
    }

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

    /// EXIF data that holds an orientation alone.
    fn exif(orientation: u8) -> Vec<u8> {
        let entry = [0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0];
        [&b"II*\0\x08\0\0\0\x01\0"[..], &entry, &[0; 4]].concat()
    }

    /// Picture of 48 x 32 pixels: red at the left, then green at the top and blue at the bottom.
    fn three_colors() -> RgbImage {
        RgbImage::from_fn(48, 32, |x, y| match (x < 16, y < 16) {
            (true, _) => Rgb([230, 20, 20]),
            (false, true) => Rgb([20, 230, 20]),
            (false, false) => Rgb([20, 20, 230]),
        })
    }

    /// Returns the strongest component of a pixel.
    fn hue(frame: &Frame, x: u32, y: u32) -> char {
        let pixel = frame.rgb_at(x, y);
        let strongest = (0..3).max_by_key(|c| pixel[*c]).unwrap();
        ['r', 'g', 'b'][strongest]
    }

    #[test]
    fn photographs_are_turned_as_their_exif_data_says() {
        let folder = Folder::new("exif");
        let picture = DynamicImage::from(three_colors());
        // What is at the left, top and bottom of the upright picture comes from the 8 orientations.
        for (orientation, size, corners) in [
            (1, (48, 32), "rgrb"),
            (2, (48, 32), "grbr"),
            (3, (48, 32), "brgr"),
            (4, (48, 32), "rbrg"),
            (5, (32, 48), "rrgb"),
            (6, (32, 48), "rrbg"),
            (7, (32, 48), "bgrr"),
            (8, (32, 48), "gbrr"),
        ] {
            for extension in ["jpg", "png", "webp"] {
                let bytes = encode(&picture, extension, &exif(orientation));
                let path = folder.join(&format!("{orientation}.{extension}"));
                fs::write(&path, bytes).unwrap();
                let frame = read_picture(&path).unwrap();
                assert_eq!((frame.width(), frame.height()), size, "{}", path.display());
                let (right, bottom) = (size.0 - 4, size.1 - 4);
                let found: String = [(3, 3), (right, 3), (3, bottom), (right, bottom)]
                    .map(|(x, y)| hue(&frame, x, y))
                    .into_iter()
                    .collect();
                assert_eq!(found, corners, "{}", path.display());
            }
        }
    }

    #[test]
    fn a_folder_is_read_in_natural_order_without_its_hidden_files() {
        let folder = Folder::new("natural");
        for (name, value) in [
            ("frame1.PNG", 10),
            ("Frame2.png", 20),
            ("frame10.PNG", 30),
            ("FRAME11.png", 40),
            ("Frame 3.png", 5),
        ] {
            let gray = RgbImage::from_pixel(16, 16, Rgb([value; 3]));
            gray.save(folder.join(name)).unwrap();
        }
        for other in [".frame1.png", "._frame2.png", "Thumbs.db", ".DS_Store", "notes.txt"] {
            fs::write(folder.join(other), b"other").unwrap();
        }
        fs::create_dir(folder.join("frame4.png")).unwrap();
        let frames = all_frames(&mut read(&folder.0)).unwrap();
        let values: Vec<u8> = frames.iter().map(|f| f.rgb()[0]).collect();
        assert_eq!(values, [5, 10, 20, 30, 40]);
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_in_a_folder_is_not_waited_for() {
        let folder = Folder::new("folder-pipe");
        let picture = DynamicImage::from(RgbImage::from_pixel(16, 16, Rgb([7; 3])));
        fs::write(folder.join("1.png"), encode(&picture, "png", &[])).unwrap();
        let pipe = folder.join("2.png");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert_eq!(all_frames(&mut read(&folder.0)).unwrap().len(), 1);
    }

    #[test]
    fn every_format_and_kind_of_pixel_becomes_the_same_colors() {
        let folder = Folder::new("formats");
        let color = [200, 100, 50];
        let rgb = DynamicImage::from(RgbImage::from_pixel(16, 16, Rgb(color)));
        let wide = Rgb(color.map(|c| u16::from(c) * 257));
        let half = RgbaImage::from_pixel(16, 16, Rgba([255, 255, 255, 128]));
        let read = |name: &str, picture: &DynamicImage, extension: &str| {
            fs::write(folder.join(name), encode(picture, extension, &[])).unwrap();
            read_picture(&folder.join(name)).unwrap().rgb_at(8, 8)
        };
        for extension in ["png", "jpg", "webp", "bmp", "gif", "tif"] {
            let got = read(&format!("rgb.{extension}"), &rgb, extension);
            // JPEG rounds.
            assert!((0..3).all(|c| got[c].abs_diff(color[c]) <= 2), "{extension}: {got:?}");
        }
        let sixteen = DynamicImage::ImageRgb16(ImageBuffer::from_pixel(16, 16, wide));
        assert_eq!(read("16.png", &sixteen, "png"), color);
        let gray = DynamicImage::ImageLuma8(ImageBuffer::from_pixel(16, 16, Luma([77])));
        assert_eq!(read("gray.png", &gray, "png"), [77; 3]);
        let faint = DynamicImage::ImageLumaA16(ImageBuffer::from_pixel(16, 16, LumaA([65535, 0])));
        assert_eq!(read("faint.png", &faint, "png"), [0; 3]);
        assert_eq!(read("half.png", &half.into(), "png"), [128; 3]);
        // The name does not matter.
        assert_eq!(read("really.jpg", &rgb, "png"), color);
    }

    #[test]
    fn a_photograph_that_is_cut_short_is_not_filled_with_gray() {
        let folder = Folder::new("cut-photograph");
        let mut jpeg = Vec::new();
        let samples: Vec<u8> = (0..64 * 64 * 3).map(|i| (i * 7 % 251) as u8).collect();
        image::codecs::jpeg::JpegEncoder::new(&mut jpeg)
            .encode(&samples, 64, 64, image::ExtendedColorType::Rgb8)
            .unwrap();
        let path = folder.join("photo.jpg");
        fs::write(&path, &jpeg[..jpeg.len() * 9 / 10]).unwrap();
        let error = read_picture(&path).unwrap_err().to_string();
        assert!(error.contains("photo.jpg"), "{error}");
        // What a camera appends is no damage.
        fs::write(&path, [&jpeg[..], b"trailer"].concat()).unwrap();
        read_picture(&path).unwrap();
    }

    #[test]
    fn a_picture_that_cannot_be_read_and_a_folder_without_pictures_name_themselves() {
        let folder = Folder::new("unreadable");
        let error_of = |path: &Path| read_picture(path).unwrap_err().to_string();
        for (name, bytes, want) in [
            ("photo.HEIC", &b"\0\0\0\x18ftypheic\0\0\0\0"[..], "HEIC pictures"),
            ("photo.jpg", b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC pictures"),
            ("raw.DNG", b"camera", "DNG pictures"),
            ("drawn.ppm", b"P6 1 1 255\nrgb", "PPM pictures"),
            ("film.jpg", b"\0\0\0\x18ftypisom\0\0\0\0", "not a picture"),
            ("photo.png", b"\x89PNG\r\n\x1a\n", "not a picture"),
            ("text.jpg", b"text", "not a picture"),
        ] {
            let path = folder.join(name);
            fs::write(&path, bytes).unwrap();
            let error = error_of(&path);
            assert!(error.contains(want) && error.contains(name), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
            // In a folder too, where it is not left out.
            let result = all_frames(&mut crate::test_clips::read(&folder.0));
            let (n_read, error) = result.unwrap_err();
            assert!(n_read == 0 && error.to_string().contains(name), "{error}");
            fs::remove_file(path).unwrap();
        }
        let open = || Source::open(&SourceSpec::Clip(folder.0.clone())).err().unwrap();
        assert!(matches!(open(), OpenError::NoPictures { clip: None, .. }));
        fs::write(folder.join("me.mp4"), b"clip").unwrap();
        let error = open().to_string();
        assert!(error.contains("me.mp4"), "{error}");
    }
}
