//! Sample descriptions of MP4 files: codecs, and how pictures are to be shown.

use crate::mp4::boxes::{Boxes, ByteReader, be, child};
use crate::mp4::track::{Coding, Presentation};
use crate::picture::ColorTags;
use crate::picture::{DisplayMatrix, Geometry, multiplied, pixel_aspect};

/// Most sample descriptions of a track.
const MAX_DESCRIPTIONS: usize = 1000;

/// Codec of a track and the body of its sample description.
pub(crate) struct SampleEntry<'a> {
    pub(crate) coding: Coding,
    body: &'a [u8],
}

/// Parses the sample descriptions in an `stsd` box and returns number `wanted`, from 1, or that of all
/// samples if there is none wanted, because they refer to several.
pub(crate) fn parse_entry(stsd: &[u8], wanted: Option<u32>) -> Option<SampleEntry<'_>> {
    let entries: Vec<_> = Boxes(stsd.get(8..)?).take(MAX_DESCRIPTIONS).collect();
    let (name, body) = match wanted {
        // A number that does not exist means the first one to players.
        Some(number) => entries.get((number as usize).wrapping_sub(1)).or(entries.first())?,
        None if entries.windows(2).all(|pair| pair[0] == pair[1]) => entries.first()?,
        None => return Some(SampleEntry { coding: Coding::Several, body: entries.first()?.1 }),
    };
    let other = Coding::Other { name: *name };
    let coding = match name {
        b"avc1" | b"avc3" => parse_avc(body).unwrap_or(other),
        b"mp4a" => parse_aac(body).unwrap_or(other),
        b"Opus" => parse_opus(body).unwrap_or(other),
        _ => other,
    };
    Some(SampleEntry { coding, body })
}

/// Header of a track.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrackHeader {
    pub(crate) id: u32,
    pub(crate) is_enabled: bool,
    matrix: Option<DisplayMatrix>,
    /// Size of the shown picture before it is turned, in 1/65536 pixels.
    size: (u32, u32),
}

impl TrackHeader {
    /// Parses a `tkhd` box; what is missing has its default.
    pub(crate) fn parse(tkhd: &[u8]) -> Self {
        // Version 1 has three numbers of 64 bits in place of 32.
        let wide = if tkhd.first() == Some(&1) { 12 } else { 0 };
        let number = |at: usize| tkhd.get(at..at + 4).map(|bytes| be(bytes) as u32);
        Self {
            id: number(if wide > 0 { 20 } else { 12 }).unwrap_or(0),
            is_enabled: tkhd.get(3).is_some_and(|flags| flags & 1 == 1),
            matrix: tkhd.get(40 + wide..).and_then(parse_matrix),
            size: (number(76 + wide).unwrap_or(0), number(80 + wide).unwrap_or(0)),
        }
    }
}

/// Reads the display matrix of an `mvhd` box.
pub(crate) fn movie_matrix(mvhd: &[u8]) -> Option<DisplayMatrix> {
    mvhd.get(if *mvhd.first()? == 1 { 48 } else { 36 }..).and_then(parse_matrix)
}

/// Parses `[a, b, u, c, d, ...]` of a matrix; `None` if it shows nothing.
fn parse_matrix(bytes: &[u8]) -> Option<DisplayMatrix> {
    let [a, b, _, c, d] = ByteReader(bytes).words()?;
    let matrix = [a, b, c, d].map(|number| f64::from(number as i32) / 65536.0);
    let [a, b, c, d] = matrix;
    (a * d != b * c).then_some(matrix)
}

impl SampleEntry<'_> {
    /// Returns how the pictures of a video track are shown. Turning the movie turns its tracks.
    ///
    /// The aspect ratio of pixels is that of the `pasp` box. Without one it is what stretches the picture
    /// to the size in the track header, as in ffmpeg.
    pub(crate) fn presentation(
        &self,
        header: TrackHeader,
        movie: Option<DisplayMatrix>,
    ) -> Presentation {
        let identity = [1.0, 0.0, 0.0, 1.0];
        let matrix = header.matrix.unwrap_or(identity);
        let mut geometry = Geometry::of_matrix(multiplied(matrix, movie.unwrap_or(identity)));
        let children = self.body.get(78..).unwrap_or_default();
        let declared = child(children, *b"pasp").and_then(|pasp| {
            let [width, height] = ByteReader(pasp).words()?;
            pixel_aspect(width, height)
        });
        geometry.pixel_aspect =
            declared.or(geometry.pixel_aspect).or_else(|| self.aspect_by_size(header));
        let color = child(children, *b"colr").and_then(parse_colr).unwrap_or_default();
        Presentation { geometry, color }
    }

    fn aspect_by_size(&self, header: TrackHeader) -> Option<f64> {
        let side = |at: usize| self.body.get(at..at + 2).map(|bytes| be(bytes) as u32);
        let (width, height) = (side(24)?, side(26)?);
        let (shown_width, shown_height) = (header.size.0 >> 16, header.size.1 >> 16);
        let is_stretched = (shown_width, shown_height) != (width, height);
        let shown = pixel_aspect(shown_width, shown_height).filter(|_| is_stretched)?;
        Some(shown / pixel_aspect(width, height)?)
    }
}

fn parse_colr(colr: &[u8]) -> Option<ColorTags> {
    let code = |at: usize| colr.get(at..at + 2).map(|bytes| be(bytes) as u8);
    let has_range = match colr.get(..4)? {
        b"nclx" => true,
        b"nclc" => false,
        _ => return None,
    };
    let full_range = colr.get(10).filter(|_| has_range).map(|flags| flags & 0x80 != 0);
    Some(ColorTags { primaries: code(4)?, transfer: code(6)?, matrix: code(8)?, full_range })
}

fn parse_avc(entry: &[u8]) -> Option<Coding> {
    let children = entry.get(78..)?;
    Some(Coding::Avc { avcc: child(children, *b"avcC")?.to_vec() })
}

/// Parses a sample description of Opus ("Encapsulation of Opus in ISO Base Media File Format").
fn parse_opus(entry: &[u8]) -> Option<Coding> {
    // Version, channels, delay of the encoder, rate before encoding, gain, mapping of channels.
    let [0, 1 | 2, _, _, _, _, _, _, 0, 0, 0, ..] = child(entry.get(28..)?, *b"dOps")? else {
        return None;
    };
    Some(Coding::Opus)
}

fn parse_aac(entry: &[u8]) -> Option<Coding> {
    let version = u16::from_be_bytes([*entry.get(8)?, *entry.get(9)?]);
    // QuickTime's versions add numbers before the child boxes, and a box around some of these.
    let start = match version {
        1 => 44,
        2 => 64,
        _ => 28,
    };
    let children = entry.get(start..)?;
    let esds = child(children, *b"esds")
        .or_else(|| child(child(children, *b"wave")?, *b"esds"))?
        .get(4..)?;
    // ES descriptor (3) > decoder config (4) > decoder specific info (5).
    let es = descriptor(esds, 3)?;
    let mut es_reader = ByteReader(es.get(2..)?);
    let flags = es_reader.u8()?;
    if flags & 0x80 != 0 {
        es_reader.skip(2)?;
    }
    if flags & 0x40 != 0 {
        let length = es_reader.u8()?;
        es_reader.skip(usize::from(length))?;
    }
    if flags & 0x20 != 0 {
        es_reader.skip(2)?;
    }
    let config = descriptor(es_reader.0, 4)?;
    if !matches!(config.first()?, 0x40 | 0x66..=0x68) {
        return None;
    }
    let specific_config = descriptor(config.get(13..)?, 5)?.to_vec();
    Some(Coding::Aac { specific_config })
}

/// Returns the body of an MPEG-4 descriptor with the given tag.
fn descriptor(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let mut reader = ByteReader(bytes);
    if reader.u8()? != tag {
        return None;
    }
    let mut length = 0_usize;
    for _ in 0..4 {
        let byte = reader.u8()?;
        length = length << 7 | usize::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(&reader.0[..length.min(reader.0.len())])
}
