//! Index of MP4 files: the part of ISO/IEC 14496-12 that clips use.
//!
//! Parses the index (`moov`, and `moof` in a fragmented file) into tracks; samples are read from the
//! file one at a time. Every count and offset is checked against the bytes present.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use crate::color::ColorMatrix;
use crate::mp4_boxes::{Boxes, ByteReader, be, child};
use crate::mp4_fragments::{parse_defaults, parse_fragment};
use crate::mp4_track::{Coding, FragmentState, MAX_SAMPLES, Mp4Sample, Mp4Track};

/// Largest index accepted, bytes: 24 h of video at 60 fps need about 100 MB.
const MAX_INDEX_BYTES: u64 = 128 << 20;
/// Largest compressed picture accepted, bytes: an intra 8K frame is well below it.
const MAX_SAMPLE_BYTES: u32 = 128 << 20;
/// Most boxes of a fragmented file: a week of fragments of a second.
const MAX_BOXES: u32 = 1 << 21;

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
}

/// Reads the video and sound tracks of a file.
pub(crate) fn read_tracks(file: &mut File) -> Result<Vec<Mp4Track>, IndexError> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut at = 0_u64;
    let mut truncated = false;
    // The tracks of a fragmented file, once its first index has been read.
    let mut fragmented: Option<Vec<Mp4Track>> = None;
    let mut index_bytes = 0;
    for box_idx in 0..MAX_BOXES {
        let Some(found) = read_header(file, at, length)? else { break };
        if box_idx == 0 && !found.begins_file() {
            return Err(IndexError::NotMp4);
        }
        truncated |= found.end > length;
        let is_index = match &found.kind {
            b"moov" => fragmented.is_none(),
            b"moof" => fragmented.is_some(),
            _ => false,
        };
        if is_index && found.end <= length {
            index_bytes += found.end - found.body;
            if index_bytes > MAX_INDEX_BYTES {
                return Err(IndexError::Malformed);
            }
            file.seek(SeekFrom::Start(found.body))?;
            let mut index = vec![0; (found.end - found.body) as usize];
            file.read_exact(&mut index)?;
            if let Some(tracks) = &mut fragmented {
                if parse_fragment(&index, at, length, tracks).is_none() {
                    break;
                }
            } else {
                let mut tracks = parse_index(&index, length)?;
                let Some(mvex) = child(&index, *b"mvex") else { return Ok(tracks) };
                parse_defaults(mvex, &mut tracks);
                fragmented = Some(tracks);
            }
        } else if is_index && fragmented.is_none() {
            return Err(IndexError::Truncated);
        }
        at = found.end;
    }
    match fragmented {
        Some(tracks) => Ok(tracks),
        None if at == 0 => Err(IndexError::NotMp4),
        None if truncated || at < length => Err(IndexError::Truncated),
        None => Err(IndexError::Malformed),
    }
}

/// Header of a box, with offsets in the file.
struct BoxHeader {
    kind: [u8; 4],
    body: u64,
    end: u64,
}

impl BoxHeader {
    /// Returns whether MP4 files begin with such a box.
    fn begins_file(&self) -> bool {
        matches!(
            &self.kind,
            b"ftyp"
                | b"moov"
                | b"mdat"
                | b"free"
                | b"skip"
                | b"wide"
                | b"styp"
                | b"sidx"
                | b"uuid"
                | b"pdin"
        )
    }
}

/// Reads the header of the box at `at`; `None` at the end of the file.
fn read_header(file: &mut File, at: u64, length: u64) -> Result<Option<BoxHeader>, IndexError> {
    // A box may claim to end anywhere, so `at` can be close to the largest number.
    if length.saturating_sub(at) < 8 {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(at))?;
    let mut header = [0; 16];
    file.read_exact(&mut header[..8])?;
    let kind = [header[4], header[5], header[6], header[7]];
    let mut header_size = 8;
    let mut size = be(&header[..4]);
    if size == 1 && at + 16 <= length {
        file.read_exact(&mut header[8..])?;
        size = be(&header[8..]);
        header_size = 16;
    } else if size == 0 {
        size = length - at;
    }
    if size < header_size {
        return Err(if at == 0 { IndexError::NotMp4 } else { IndexError::Malformed });
    }
    Ok(Some(BoxHeader { kind, body: at + header_size, end: at.saturating_add(size) }))
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
    let mut tracks: Vec<Mp4Track> = Vec::new();
    for (_, body) in Boxes(moov).filter(|(kind, _)| kind == b"trak") {
        if let Some(track) = parse_track(body, file_length, &tracks)? {
            tracks.push(track);
        }
    }
    Ok(tracks)
}

/// Parses a track; `None` if it is neither video nor sound, or if `before` has one of its kind,
/// because clips show their first one.
fn parse_track(
    trak: &[u8],
    file_length: u64,
    before: &[Mp4Track],
) -> Result<Option<Mp4Track>, IndexError> {
    let bad = || IndexError::Malformed;
    let mdia = child(trak, *b"mdia").ok_or_else(bad)?;
    let handler = child(mdia, *b"hdlr").and_then(|b| b.get(8..12)).ok_or_else(bad)?;
    let is_video = match handler {
        b"vide" => true,
        b"soun" => false,
        _ => return Ok(None),
    };
    if before.iter().any(|track| track.is_video == is_video) {
        return Ok(None);
    }
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
    // A track of uncompressed sound, which is not played, has a sample for each 20 microseconds.
    let samples = match coding {
        Coding::Other if !is_video => Vec::new(),
        _ => parse_samples(stbl, file_length).ok_or_else(bad)?,
    };
    let id = child(trak, *b"tkhd").and_then(track_id).unwrap_or(0);
    let duration = child(stbl, *b"stts").and_then(duration_of).ok_or_else(bad)?;
    let fragments = FragmentState::after(duration);
    Ok(Some(Mp4Track { id, is_video, units_per_second, edit_start, coding, samples, fragments }))
}

/// Returns the number of a track, by which fragments refer to it.
fn track_id(tkhd: &[u8]) -> Option<u32> {
    let at = if *tkhd.first()? == 1 { 20 } else { 12 };
    ByteReader(tkhd.get(at..)?).u32()
}

/// Returns the duration of all samples that an `stts` box lists, in units of the track.
fn duration_of(stts: &[u8]) -> Option<i64> {
    let mut runs = stts.get(8..)?.chunks_exact(8);
    runs.try_fold(0_i64, |sum, run| {
        sum.checked_add((be(&run[..4]) * be(&run[4..])).try_into().ok()?)
    })
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
    if n_samples > most.min(MAX_SAMPLES) {
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

    let mut samples = Vec::new();
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
