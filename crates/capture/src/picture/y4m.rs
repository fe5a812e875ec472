//! YUV4MPEG2 (`.y4m`): uncompressed frames, as defined by mjpegtools.

use std::io::{self, BufRead, Read as _, Write};

use types::{Frame, MAX_FRAME_SIDE, MediaTime};

use crate::errors::ReadError;
use crate::picture::color::{Chroma, PlaneBuffers, Planes};
use crate::picture::color_tags::{ColorSpace, ColorTags};
use crate::picture::geometry::{Geometry, pixel_aspect};

/// First bytes of every file.
pub(crate) const MAGIC: &[u8] = b"YUV4MPEG2 ";
/// Longest header line accepted, bytes; real ones are below 200.
const MAX_LINE: u64 = 4096;

/// Header line of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Y4mHeader {
    width: u32,
    height: u32,
    /// Frames per second as a fraction, both positive.
    rate: (u32, u32),
    /// Width and height of a pixel; zeros if unknown.
    pixel: (u32, u32),
    chroma: Chroma,
    full_range: bool,
    /// Bytes of the line including its newline.
    length: usize,
}

impl Y4mHeader {
    /// Parses a header line; `None` if it is malformed or names an unsupported format, such as more
    /// than 8 bits per sample.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line.strip_prefix(MAGIC)?).ok()?.trim_end();
        let (mut width, mut height) = (0, 0);
        let (mut rate, mut pixel) = ((25, 1), (0, 0));
        let mut chroma = Chroma::HalfCenter;
        let mut full_range = false;
        for word in text.split(' ').filter(|w| !w.is_empty()) {
            let (key, value) = (word.as_bytes()[0], word.get(1..)?);
            match key {
                b'W' => width = value.parse().ok()?,
                b'H' => height = value.parse().ok()?,
                b'F' => rate = parse_ratio(value)?,
                b'A' => pixel = parse_ratio(value)?,
                b'C' => {
                    chroma = match value {
                        "420" | "420jpeg" => Chroma::HalfCenter,
                        "420mpeg2" | "420paldv" => Chroma::HalfLeft,
                        "422" => Chroma::HalfWidth,
                        "444" => Chroma::Full,
                        "mono" => Chroma::Mono,
                        _ => return None,
                    }
                }
                b'X' => full_range |= value == "COLORRANGE=FULL",
                _ => {}
            }
        }
        if rate.0 == 0 || rate.1 == 0 {
            // Some writers use 0:0 for "unknown".
            rate = (25, 1);
        }
        let sides = 1..=MAX_FRAME_SIDE;
        (sides.contains(&width) && sides.contains(&height)).then_some(Self {
            width,
            height,
            rate,
            pixel,
            chroma,
            full_range,
            length: line.len(),
        })
    }

    /// Returns the color space: the header gives the range alone.
    fn color(&self) -> ColorSpace {
        let tags = ColorTags { full_range: Some(self.full_range), ..ColorTags::default() };
        tags.space(self.width, self.height)
    }

    /// Returns how the pictures are shown: the header gives the aspect ratio of pixels alone.
    fn geometry(&self) -> Geometry {
        let (width, height) = self.pixel;
        Geometry { pixel_aspect: pixel_aspect(width, height), ..Geometry::default() }
    }

    /// Returns the bytes of the luma plane and of one chroma plane.
    fn plane_bytes(&self) -> (usize, usize) {
        let (width, height) = (self.width as usize, self.height as usize);
        let (columns, rows) = self.chroma.size(width, height);
        (width * height, columns * rows)
    }

    /// Returns the number of frames in a file of `file_length` bytes, counting an incomplete last one.
    pub(crate) fn n_frames(&self, file_length: u64) -> u64 {
        let (luma, chroma) = self.plane_bytes();
        let frame = (b"FRAME\n".len() + luma + 2 * chroma) as u64;
        file_length.saturating_sub(self.length as u64).div_ceil(frame)
    }
}

/// Reader of frames from a file or a pipe.
pub(crate) struct Y4mReader<R> {
    input: R,
    header: Y4mHeader,
    /// Number of frames, if known.
    n_frames: Option<u64>,
    n_read: u64,
    bytes: Vec<u8>,
}

impl<R: BufRead> Y4mReader<R> {
    /// Reads the header; `None` if it is missing or unsupported. `length` is the file's length in
    /// bytes, `None` for a pipe.
    pub(crate) fn new(mut input: R, length: Option<u64>) -> io::Result<Option<Self>> {
        let mut line = Vec::new();
        read_line(&mut input, &mut line)?;
        Ok(Y4mHeader::parse(&line).map(|header| Self {
            input,
            header,
            n_frames: length.map(|length| header.n_frames(length)),
            n_read: 0,
            bytes: Vec::new(),
        }))
    }

    pub(crate) fn fps(&self) -> u32 {
        let (n, d) = self.header.rate;
        ((u64::from(n) + u64::from(d) / 2) / u64::from(d)).clamp(1, 1000) as u32
    }

    pub(crate) fn n_frames(&self) -> Option<u64> {
        self.n_frames
    }

    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        let mut line = Vec::new();
        read_line(&mut self.input, &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        let at = self.n_read + 1;
        let truncated = ReadError::Truncated { at, of: self.n_frames.unwrap_or(at).max(at) };
        if !line.ends_with(b"\n") && line.len() < MAX_LINE as usize {
            return Err(truncated);
        }
        if !line.starts_with(b"FRAME") {
            return Err(ReadError::Corrupt { at });
        }
        let header = self.header;
        let (luma, chroma) = header.plane_bytes();
        // The buffer grows with the bytes that are there, not with the size that the header claims.
        self.bytes.clear();
        let want = luma + 2 * chroma;
        let got = self.input.by_ref().take(want as u64).read_to_end(&mut self.bytes)?;
        if got < want {
            return Err(truncated);
        }
        let (y, uv) = self.bytes.split_at(luma);
        let (u, v) = uv.split_at(chroma);
        let (width, height) = (header.width as usize, header.height as usize);
        let planes = Planes {
            width,
            height,
            chroma: header.chroma,
            color: header.color(),
            depth: 8,
            y,
            u,
            v,
            y_stride: width,
            uv_stride: header.chroma.size(width, height).0,
        };
        let (n, d) = header.rate;
        let micros = u128::from(self.n_read) * 1_000_000 * u128::from(d) / u128::from(n);
        let time = MediaTime::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        self.n_read = at;
        let frame = Frame::new(header.width, header.height, time, planes.to_rgb())?;
        Ok(Some(header.geometry().apply(frame)?))
    }
}

/// Parses two numbers with a colon between them.
fn parse_ratio(text: &str) -> Option<(u32, u32)> {
    let (a, b) = text.split_once(':')?;
    Some((a.parse().ok()?, b.parse().ok()?))
}

fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<()> {
    io::Read::take(input, MAX_LINE).read_until(b'\n', line)?;
    Ok(())
}

/// Writes the header of a file with full chroma and limited range.
pub(crate) fn write_header(
    out: &mut impl Write,
    width: u32,
    height: u32,
    fps: u32,
) -> io::Result<()> {
    writeln!(out, "YUV4MPEG2 W{width} H{height} F{fps}:1 Ip A1:1 C444 XCOLORRANGE=LIMITED")
}

/// Writes one frame with full chroma, by the matrix that readers take at its size.
pub(crate) fn write_frame(out: &mut impl Write, frame: &Frame) -> io::Result<()> {
    let matrix = ColorTags::default().space(frame.width(), frame.height()).matrix;
    let size = (frame.width() as usize, frame.height() as usize);
    let planes = PlaneBuffers::from_rgb(frame.rgb(), size, Chroma::Full, matrix);
    out.write_all(b"FRAME\n")?;
    [planes.y, planes.u, planes.v].iter().try_for_each(|plane| out.write_all(plane))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_of_common_writers_are_parsed() {
        let header = |width, height, rate, chroma, full_range| {
            Some((width, height, rate, chroma, full_range))
        };
        for (line, want) in [
            ("W4 H2 F25:1 Ip A1:1 C420jpeg", header(4, 2, (25, 1), Chroma::HalfCenter, false)),
            ("W5 H3 F30000:1001 C420mpeg2", header(5, 3, (30000, 1001), Chroma::HalfLeft, false)),
            ("W4 H2 F0:0 C444 XCOLORRANGE=FULL", header(4, 2, (25, 1), Chroma::Full, true)),
            ("H2 W4", header(4, 2, (25, 1), Chroma::HalfCenter, false)),
            ("W4 H2 C420p10", None),
            ("W0 H2", None),
            ("W4", None),
            ("W99999 H99999", None),
        ] {
            let parsed = Y4mHeader::parse(format!("YUV4MPEG2 {line}\n").as_bytes());
            let got = parsed.map(|h| (h.width, h.height, h.rate, h.chroma, h.full_range));
            assert_eq!(got, want, "{line}");
        }
    }

    #[test]
    fn colors_of_small_and_large_pictures_survive_the_file() {
        for side in [64, 720] {
            let rgb = [200, 60, 20].repeat(side as usize * side as usize);
            let frame = Frame::new(side, side, MediaTime::ZERO, rgb).expect("a square");
            let mut file = Vec::new();
            write_header(&mut file, side, side, 25).expect("memory");
            write_frame(&mut file, &frame).expect("memory");
            let mut reader = Y4mReader::new(&file[..], None).expect("memory").expect("header");
            let back = reader.next_frame().expect("whole").expect("frame");
            for (got, want) in back.rgb_at(5, 5).into_iter().zip([200_u8, 60, 20]) {
                assert!(got.abs_diff(want) <= 2, "{side} pixels: {:?}", back.rgb_at(5, 5));
            }
        }
    }

    #[test]
    fn wide_pixels_are_stretched() {
        for (ratio, size) in [
            ("A4:3", Some((8, 3))),
            ("A1:2", Some((6, 6))),
            ("A1:1", Some((6, 3))),
            ("A0:0", Some((6, 3))),
            ("A4", None),
        ] {
            let mut file = format!("YUV4MPEG2 W6 H3 F25:1 {ratio} C444\nFRAME\n").into_bytes();
            file.extend([128; 6 * 3 * 3]);
            let reader = Y4mReader::new(&file[..], None).expect("memory");
            let frame = reader.map(|mut reader| reader.next_frame().expect("whole").expect("one"));
            assert_eq!(frame.map(|frame| (frame.width(), frame.height())), size, "{ratio}");
        }
    }

    #[test]
    fn a_truncated_file_yields_its_complete_frames_then_an_error() {
        let frame = Frame::new(3, 3, MediaTime::ZERO, vec![77; 27]).expect("3x3");
        let mut file = Vec::new();
        write_header(&mut file, 3, 3, 25).expect("memory");
        for _ in 0..3 {
            write_frame(&mut file, &frame).expect("memory");
        }
        file.truncate(file.len() - 1);
        let length = Some(file.len() as u64);
        let mut reader = Y4mReader::new(&file[..], length).expect("memory").expect("header");
        assert_eq!((reader.n_frames(), reader.fps()), (Some(3), 25));
        for time in [0, 40_000] {
            let frame = reader.next_frame().expect("whole").expect("frame");
            assert_eq!(frame.time(), MediaTime::from_micros(time));
        }
        assert!(matches!(reader.next_frame(), Err(ReadError::Truncated { at: 3, of: 3 })));
    }

    #[test]
    fn a_header_alone_reserves_no_picture() {
        let file = b"YUV4MPEG2 W8192 H8192 F25:1 C444\nFRAME\n12345";
        let length = Some(file.len() as u64);
        let mut reader = Y4mReader::new(&file[..], length).expect("memory").expect("header");
        assert!(matches!(reader.next_frame(), Err(ReadError::Truncated { at: 1, of: 1 })));
        assert!(reader.bytes.capacity() < 1 << 16, "{} bytes", reader.bytes.capacity());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(tail: Vec<u8>, with_header: bool) {
            let mut file = if with_header { b"YUV4MPEG2 W4 H4 C420\n".to_vec() } else { MAGIC.to_vec() };
            file.extend(tail);
            if let Ok(Some(mut reader)) = Y4mReader::new(&file[..], None) {
                while let Ok(Some(_)) = reader.next_frame() {}
            }
        }

        #[test]
        fn no_header_makes_the_parser_panic(words in "[WHFCX0-9:a-z= ]{0,60}") {
            let _ = Y4mHeader::parse(format!("YUV4MPEG2 {words}").as_bytes());
        }
    }
}
