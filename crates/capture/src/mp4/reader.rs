//! Index of MP4 files: the part of ISO/IEC 14496-12 that clips use.
//!
//! Parses the index (`moov`, and `moof` in a fragmented file) into tracks; samples are read from the
//! file one at a time. Every count and offset is checked against the bytes present.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use crate::mp4::boxes::{Boxes, ByteReader, be, child};
use crate::mp4::edit_list::{Edit, EditScale, parse_edits};
use crate::mp4::entry::{TrackHeader, movie_matrix, parse_entry};
use crate::mp4::fragments::{FragmentedMovie, parse_defaults};
use crate::mp4::samples::{duration_of, parse_samples};
use crate::mp4::track::{Mp4Sample, Mp4Track, Presentation, TrackEnding};
use crate::picture::DisplayMatrix;

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

/// Reads the video and sound tracks of a file. Those of a fragmented file that is cut short, or damaged,
/// have the samples before that and end early; cut between two fragments, it is whole.
pub(crate) fn read_tracks(file: &mut File) -> Result<Vec<Mp4Track>, IndexError> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut at = 0_u64;
    let mut truncated = false;
    // Once the first index of a fragmented file has been read.
    let mut fragmented: Option<FragmentedMovie> = None;
    let mut index_bytes = 0;
    for box_idx in 0..MAX_BOXES {
        let found = match read_header(file, at, length) {
            Ok(Some(found)) => found,
            Ok(None) => break,
            Err(IndexError::Malformed) if fragmented.is_some() => break,
            Err(error) => return Err(error),
        };
        if box_idx == 0 && !found.begins_file() {
            return Err(IndexError::NotMp4);
        }
        if fragmented.is_some() && found.kind == [0; 4] {
            // A power cut may leave zeros at the end.
            break;
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
            if let Some(movie) = &mut fragmented {
                if movie.parse_fragment(&index, at, length).is_none() {
                    truncated = true;
                    break;
                }
            } else {
                let tracks = parse_index(&index, length)?;
                let Some(mvex) = child(&index, *b"mvex") else { return Ok(tracks) };
                fragmented = Some(FragmentedMovie { tracks, defaults: parse_defaults(mvex) });
            }
        } else if is_index && fragmented.is_none() {
            return Err(IndexError::Truncated);
        }
        at = found.end;
    }
    match fragmented {
        Some(mut movie) => {
            if truncated || at < length {
                movie.tracks.iter_mut().for_each(|track| track.ending = TrackEnding::Early);
            }
            Ok(movie.tracks)
        }
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

/// What the movie says about all its tracks.
struct Movie {
    units_per_second: u32,
    matrix: Option<DisplayMatrix>,
    is_fragmented: bool,
}

impl Movie {
    fn parse(moov: &[u8]) -> Self {
        let mvhd = child(moov, *b"mvhd").unwrap_or_default();
        Self {
            units_per_second: time_scale(mvhd).unwrap_or(0),
            matrix: movie_matrix(mvhd),
            is_fragmented: child(moov, *b"mvex").is_some(),
        }
    }
}

/// Reads the time scale of an `mvhd` or `mdhd` box.
fn time_scale(header: &[u8]) -> Option<u32> {
    let at = if header.first() == Some(&1) { 20 } else { 12 };
    ByteReader(header.get(at..)?).u32()
}

/// Parses the first video track and the first sound track. A track that is not enabled, such as a
/// picture of the chapter or a map of depths, counts only if there is no other of its kind.
fn parse_index(moov: &[u8], file_length: u64) -> Result<Vec<Mp4Track>, IndexError> {
    let movie = Movie::parse(moov);
    let traks: Vec<_> = Boxes(moov)
        .filter(|(kind, _)| kind == b"trak")
        .map(|(_, trak)| (trak, TrackHeader::parse(child(trak, *b"tkhd").unwrap_or_default())))
        .collect();
    let mut tracks = Vec::new();
    for handler in [*b"vide", *b"soun"] {
        let candidates = || traks.iter().filter(|(trak, _)| handler_of(trak) == Some(handler));
        let chosen = candidates().find(|(_, header)| header.is_enabled).or(candidates().next());
        let Some((trak, header)) = chosen else { continue };
        let is_video = handler == *b"vide";
        match parse_track(trak, *header, is_video, file_length, &movie) {
            Some(track) => tracks.push(track),
            None if is_video => return Err(IndexError::Malformed),
            None => {}
        }
    }
    Ok(tracks)
}

/// Returns what kind of media a track has.
fn handler_of(trak: &[u8]) -> Option<[u8; 4]> {
    let hdlr = child(child(trak, *b"mdia")?, *b"hdlr")?;
    hdlr.get(8..12)?.try_into().ok()
}

/// Parses a track; `None` if it contradicts itself.
fn parse_track(
    trak: &[u8],
    header: TrackHeader,
    is_video: bool,
    file_length: u64,
    movie: &Movie,
) -> Option<Mp4Track> {
    let mdia = child(trak, *b"mdia")?;
    let units_per_second = child(mdia, *b"mdhd").and_then(time_scale).filter(|units| *units > 0)?;
    let stbl = child(child(mdia, *b"minf")?, *b"stbl")?;
    let stsd = child(stbl, *b"stsd")?;
    let scale = EditScale {
        movie_units_per_second: movie.units_per_second,
        track_units_per_second: units_per_second,
        is_fragmented: movie.is_fragmented,
    };
    let elst = child(trak, *b"edts").and_then(|edts| child(edts, *b"elst"));
    let elst = elst.filter(|elst| elst.get(4..8) != Some(&[0; 4]));
    let edits = elst.map_or_else(|| Some(vec![Edit::WHOLE]), |elst| parse_edits(elst, scale))?;
    let mut track = Mp4Track {
        id: header.id,
        is_video,
        units_per_second,
        edits,
        has_edit_list: elst.is_some(),
        is_fragmented: movie.is_fragmented,
        coding: parse_entry(stsd, Some(1))?.coding,
        presentation: Presentation::default(),
        samples: Vec::new(),
        end: child(stbl, *b"stts").and_then(duration_of)?,
        ending: TrackEnding::Whole,
    };
    // Uncompressed sound, which is not played, has a sample for each 20 microseconds.
    if track.has_samples() {
        let table = parse_samples(stbl, file_length)?;
        let entry = parse_entry(stsd, table.description)?;
        if is_video {
            track.presentation = entry.presentation(header, movie.matrix);
        }
        track.coding = entry.coding;
        track.samples = table.samples;
    }
    Some(track)
}
