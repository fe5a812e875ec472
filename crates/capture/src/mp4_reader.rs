//! Index of MP4 files: the part of ISO/IEC 14496-12 that clips use.
//!
//! Parses the index (`moov`) into tracks; samples are read from the file one at a time. Every count
//! and offset is checked against the bytes present.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use crate::color::ColorMatrix;

/// Largest index accepted, bytes: 24 h of video at 60 fps need about 100 MB.
const MAX_INDEX_BYTES: u64 = 256 << 20;
/// Largest compressed picture accepted, bytes: an intra 8K frame is well below it.
const MAX_SAMPLE_BYTES: u32 = 128 << 20;

/// Why a file has no usable index.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("not an MP4 file")]
    NotMp4,
    #[error("the file ends before its index")]
    Truncated,
    #[error("the index contradicts itself")]
    Malformed,
    #[error("the file is fragmented")]
    Fragmented,
}

/// Location and time of one compressed picture or sound packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Mp4Sample {
    pub(crate) offset: u64,
    pub(crate) size: u32,
    /// Presentation time in units of the track, before the edit list.
    pub(crate) shown_at: i64,
}

/// Codec of a track.
#[derive(Clone, Debug)]
pub(crate) enum Coding {
    /// H.264: the `avcC` box, and the color matrix of the `colr` box if present.
    Avc { avcc: Vec<u8>, matrix: Option<ColorMatrix> },
    /// AAC with its `AudioSpecificConfig`.
    Aac { specific_config: Vec<u8> },
    /// Anything else.
    Other,
}

/// Video or sound track with its samples in decoding order.
#[derive(Clone, Debug)]
pub(crate) struct Mp4Track {
    pub(crate) is_video: bool,
    /// Time scale.
    pub(crate) units_per_second: u32,
    /// Start of the presentation by the edit list, in units of the track.
    pub(crate) edit_start: i64,
    pub(crate) coding: Coding,
    pub(crate) samples: Vec<Mp4Sample>,
}

/// Reads the video and sound tracks of a file.
pub(crate) fn read_tracks(file: &mut File) -> Result<Vec<Mp4Track>, IndexError> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut at = 0_u64;
    let mut first = true;
    let mut truncated = false;
    // A box may claim to end anywhere, so `at` can be close to the largest number.
    while length.saturating_sub(at) >= 8 {
        file.seek(SeekFrom::Start(at))?;
        let mut header = [0; 16];
        file.read_exact(&mut header[..8])?;
        let kind = [header[4], header[5], header[6], header[7]];
        let mut header_size = 8;
        let mut size = u64::from(u32::from_be_bytes([header[0], header[1], header[2], header[3]]));
        if size == 1 && at + 16 <= length {
            file.read_exact(&mut header[8..])?;
            size = header[8..16].iter().fold(0, |sum, b| sum << 8 | u64::from(*b));
            header_size = 16;
        } else if size == 0 {
            size = length - at;
        }
        let known = matches!(&kind, b"ftyp" | b"moov" | b"mdat" | b"free" | b"skip" | b"wide");
        if first && !(known || matches!(&kind, b"styp" | b"sidx" | b"uuid" | b"pdin")) {
            return Err(IndexError::NotMp4);
        }
        if size < header_size {
            return Err(if first { IndexError::NotMp4 } else { IndexError::Malformed });
        }
        first = false;
        let end = at.saturating_add(size);
        truncated |= end > length;
        if &kind == b"moov" {
            if end > length {
                return Err(IndexError::Truncated);
            }
            if size > MAX_INDEX_BYTES {
                return Err(IndexError::Malformed);
            }
            let mut moov = vec![0; (size - header_size) as usize];
            file.read_exact(&mut moov)?;
            return parse_index(&moov, length);
        }
        at = end;
    }
    Err(if first {
        IndexError::NotMp4
    } else if truncated || at < length {
        IndexError::Truncated
    } else {
        IndexError::Malformed
    })
}

/// Reads one sample into `bytes`; returns `false` if the file ends before the sample does.
pub(crate) fn read_sample(
    file: &mut File,
    sample: Mp4Sample,
    bytes: &mut Vec<u8>,
) -> Result<bool, io::Error> {
    bytes.clear();
    if sample.size > MAX_SAMPLE_BYTES {
        return Ok(false);
    }
    file.seek(SeekFrom::Start(sample.offset))?;
    let got = file.take(u64::from(sample.size)).read_to_end(bytes)?;
    Ok(got == sample.size as usize)
}

fn parse_index(moov: &[u8], file_length: u64) -> Result<Vec<Mp4Track>, IndexError> {
    let mut tracks = Vec::new();
    let mut fragmented = false;
    for (kind, body) in Boxes(moov) {
        match &kind {
            b"trak" => tracks.extend(parse_track(body, file_length)?),
            b"mvex" => fragmented = true,
            _ => {}
        }
    }
    if fragmented && tracks.iter().all(|t| t.samples.is_empty()) {
        return Err(IndexError::Fragmented);
    }
    Ok(tracks)
}

/// Parses a track; `None` if it is neither video nor sound.
fn parse_track(trak: &[u8], file_length: u64) -> Result<Option<Mp4Track>, IndexError> {
    let bad = || IndexError::Malformed;
    let mdia = child(trak, *b"mdia").ok_or_else(bad)?;
    let handler = child(mdia, *b"hdlr").and_then(|b| b.get(8..12)).ok_or_else(bad)?;
    let is_video = match handler {
        b"vide" => true,
        b"soun" => false,
        _ => return Ok(None),
    };
    let mdhd = child(mdia, *b"mdhd").ok_or_else(bad)?;
    let at = if mdhd.first() == Some(&1) { 20 } else { 12 };
    let units_per_second = ByteReader(mdhd.get(at..).ok_or_else(bad)?).u32().ok_or_else(bad)?;
    if units_per_second == 0 {
        return Err(bad());
    }
    let stbl = child(mdia, *b"minf").and_then(|b| child(b, *b"stbl")).ok_or_else(bad)?;
    let stsd = child(stbl, *b"stsd").and_then(|b| b.get(8..)).ok_or_else(bad)?;
    let (kind, entry) = Boxes(stsd).next().ok_or_else(bad)?;
    let coding = match &kind {
        b"avc1" | b"avc3" => parse_avc(entry).unwrap_or(Coding::Other),
        b"mp4a" => parse_aac(entry).unwrap_or(Coding::Other),
        _ => Coding::Other,
    };
    let edit_start =
        child(trak, *b"edts").and_then(|b| child(b, *b"elst")).and_then(first_edit).unwrap_or(0);
    let samples = parse_samples(stbl, file_length).ok_or_else(bad)?;
    Ok(Some(Mp4Track { is_video, units_per_second, edit_start, coding, samples }))
}

/// Returns the media time of the first edit that is not empty.
fn first_edit(elst: &[u8]) -> Option<i64> {
    let wide = *elst.first()? == 1;
    let mut reader = ByteReader(elst.get(4..)?);
    for _ in 0..reader.u32()? {
        let start = if wide {
            reader.u64()?;
            reader.u64()? as i64
        } else {
            reader.u32()?;
            i64::from(reader.u32()? as i32)
        };
        reader.u32()?;
        if start >= 0 {
            return Some(start);
        }
    }
    None
}

fn parse_avc(entry: &[u8]) -> Option<Coding> {
    let children = entry.get(78..)?;
    let avcc = child(children, *b"avcC")?.to_vec();
    let matrix = child(children, *b"colr").and_then(|b| {
        matches!(b.get(..4)?, b"nclx" | b"nclc").then_some(())?;
        ColorMatrix::from_h264(u16::from_be_bytes([*b.get(8)?, *b.get(9)?]))
    });
    Some(Coding::Avc { avcc, matrix })
}

fn parse_aac(entry: &[u8]) -> Option<Coding> {
    let version = u16::from_be_bytes([*entry.get(8)?, *entry.get(9)?]);
    // QuickTime's version 1 adds 16 bytes before the child boxes.
    let children = entry.get(if version == 1 { 44 } else { 28 }..)?;
    let esds = child(children, *b"esds")?.get(4..)?;
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

fn parse_samples(stbl: &[u8], file_length: u64) -> Option<Vec<Mp4Sample>> {
    let mut sizes = ByteReader(child(stbl, *b"stsz")?.get(4..)?);
    let (fixed_size, n_samples) = (sizes.u32()?, sizes.u32()? as usize);
    let most = if fixed_size == 0 {
        sizes.0.len() / 4
    } else {
        (file_length / u64::from(fixed_size)) as usize
    };
    if n_samples > most {
        return None;
    }
    let chunks: Vec<u64> = match child(stbl, *b"stco") {
        Some(stco) => stco.get(8..)?.chunks_exact(4).map(be).collect(),
        None => child(stbl, *b"co64")?.get(8..)?.chunks_exact(8).map(be).collect(),
    };
    let runs: Vec<(u64, u64)> = child(stbl, *b"stsc")?
        .get(8..)?
        .chunks_exact(12)
        .map(|b| (be(&b[..4]), be(&b[4..8])))
        .collect();

    let mut samples = Vec::with_capacity(n_samples);
    let mut run = 0;
    'chunks: for (chunk_idx, chunk) in chunks.iter().enumerate() {
        while runs.get(run + 1).is_some_and(|r| r.0 <= chunk_idx as u64 + 1) {
            run += 1;
        }
        let mut offset = *chunk;
        for _ in 0..runs.get(run)?.1 {
            if samples.len() == n_samples {
                break 'chunks;
            }
            let size = if fixed_size == 0 { sizes.u32()? } else { fixed_size };
            samples.push(Mp4Sample { offset, size, shown_at: 0 });
            offset = offset.checked_add(u64::from(size))?;
        }
    }
    if samples.len() != n_samples {
        return None;
    }

    let mut time = 0_i64;
    let mut at = 0;
    for run in child(stbl, *b"stts")?.get(8..)?.chunks_exact(8) {
        let (count, step) = (be(&run[..4]) as usize, be(&run[4..]) as i64);
        for sample in samples.iter_mut().skip(at).take(count) {
            sample.shown_at = time;
            time = time.checked_add(step)?;
        }
        at = at.saturating_add(count);
    }
    if at < n_samples {
        return None;
    }
    if let Some(ctts) = child(stbl, *b"ctts") {
        let mut at = 0;
        for run in ctts.get(8..)?.chunks_exact(8) {
            // Version 0 is unsigned by the standard, but many writers store negative numbers in it.
            let (count, shift) = (be(&run[..4]) as usize, i64::from(be(&run[4..]) as i32));
            for sample in samples.iter_mut().skip(at).take(count) {
                sample.shown_at += shift;
            }
            at = at.saturating_add(count);
        }
    }
    Some(samples)
}

/// Reads a big-endian number.
fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, b| sum << 8 | u64::from(*b))
}

/// Iterator over the boxes in a slice; it ends at the first one that does not fit.
struct Boxes<'a>(&'a [u8]);

impl<'a> Iterator for Boxes<'a> {
    type Item = ([u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = ByteReader(self.0);
        let size = u64::from(reader.u32()?);
        let kind = reader.u32()?.to_be_bytes();
        let (size, header) = match size {
            0 => (self.0.len() as u64, 8),
            1 => (reader.u64()?, 16),
            size => (size, 8),
        };
        let size = usize::try_from(size).ok()?;
        let body = self.0.get(header..size)?;
        self.0 = &self.0[size..];
        Some((kind, body))
    }
}

fn child(bytes: &[u8], kind: [u8; 4]) -> Option<&[u8]> {
    Boxes(bytes).find(|(k, _)| *k == kind).map(|(_, body)| body)
}

/// Cursor that reads big-endian numbers from the front of a slice.
struct ByteReader<'a>(&'a [u8]);

impl ByteReader<'_> {
    fn skip(&mut self, n: usize) -> Option<()> {
        self.0 = self.0.get(n..)?;
        Some(())
    }

    fn u8(&mut self) -> Option<u8> {
        let value = *self.0.first()?;
        self.skip(1)?;
        Some(value)
    }

    fn u32(&mut self) -> Option<u32> {
        let value = be(self.0.get(..4)?) as u32;
        self.skip(4)?;
        Some(value)
    }

    fn u64(&mut self) -> Option<u64> {
        let value = be(self.0.get(..8)?);
        self.skip(8)?;
        Some(value)
    }
}
