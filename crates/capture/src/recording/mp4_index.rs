//! Boxes that describe the tracks of a recording: the index of an MP4 file, and that of a fragment
//! (ISO/IEC 14496-12 and -15; "Encapsulation of Opus in ISO Base Media File Format").

use crate::files::HANDLER_NAME;
use crate::recording::mp4_track::{Mp4TrackWriter, TrackKind};

/// Duration of a picture in units of its track's time scale.
const PICTURE_UNITS: u32 = 512;
/// Duration of a packet of sound in units of its track's time scale: samples in 20 ms.
const PACKET_UNITS: u32 = crate::SOUND_SAMPLES as u32;
/// Sample flags (section 8.8.3.1): a sample that depends on no other; one that does.
const KEY_SAMPLE: u32 = 0x0200_0000;
const DELTA_SAMPLE: u32 = 0x0101_0000;
/// Packets of sound that are decoded before the first one that is heard: 80 ms.
const SOUND_ROLL: i16 = -4;

impl TrackKind {
    /// Time scale of the track.
    fn units_per_second(&self) -> u32 {
        match self {
            Self::Pictures { fps, .. } => fps * PICTURE_UNITS,
            Self::Sound { .. } => types::Sound::RATE,
        }
    }

    /// Duration of each sample.
    fn sample_units(&self) -> u32 {
        match self {
            Self::Pictures { .. } => PICTURE_UNITS,
            Self::Sound { .. } => PACKET_UNITS,
        }
    }

    fn default_flags(&self) -> u32 {
        match self {
            Self::Pictures { .. } => DELTA_SAMPLE,
            Self::Sound { .. } => KEY_SAMPLE,
        }
    }
}

/// Returns the `moov` box: of a file whose samples follow in fragments, or with all samples. The first
/// track gives the time scale.
pub(super) fn movie(tracks: &[Mp4TrackWriter], is_fragmented: bool) -> Vec<u8> {
    let scale = tracks.first().map_or(1, |track| track.kind.units_per_second());
    boxed(*b"moov", |moov| {
        let durations =
            tracks.iter().map(|track| movie_units(track.n_listed(is_fragmented), track, scale));
        let duration = durations.max().unwrap_or(0);
        moov.extend(boxed(*b"mvhd", |b| {
            // Version, created, modified; rate 1.0, volume 1.0.
            words(b, &[0, 0, 0, scale, duration, 0x10000, 0x0100_0000, 0, 0]);
            matrix(b);
            words(b, &[0, 0, 0, 0, 0, 0, tracks.len() as u32 + 1]);
        }));
        for (id, track) in (1..).zip(tracks) {
            moov.extend(trak(id, track, is_fragmented, scale));
        }
        if is_fragmented {
            moov.extend(boxed(*b"mvex", |mvex| {
                for (id, track) in (1..).zip(tracks) {
                    // Sample description 1; fragments give the rest.
                    let units = track.kind.sample_units();
                    mvex.extend(boxed(*b"trex", |b| words(b, &[0, id, 1, units, 0, 0])));
                }
            }));
        }
    })
}

/// Returns the `moof` box of the pending samples of all tracks, which follow it in the same order in
/// one `mdat` box. Fragments are numbered from 1.
pub(super) fn fragment(number: u32, tracks: &[Mp4TrackWriter]) -> Vec<u8> {
    let build = |mut data_offset: u32| {
        boxed(*b"moof", |moof| {
            moof.extend(boxed(*b"mfhd", |b| words(b, &[0, number])));
            for (id, track) in (1..).zip(tracks).filter(|(_, track)| track.n_pending() > 0) {
                moof.extend(traf(id, track, data_offset));
                data_offset += track.pending.len() as u32;
            }
        })
    };
    // The samples follow the header of the mdat box.
    build(build(0).len() as u32 + 8)
}

fn traf(id: u32, track: &Mp4TrackWriter, data_offset: u32) -> Vec<u8> {
    let units = track.kind.sample_units();
    let sizes = &track.sizes[track.n_written..];
    boxed(*b"traf", |traf| {
        // Offsets count from the moof box; default duration and flags.
        traf.extend(boxed(*b"tfhd", |b| {
            words(b, &[0x2_0028, id, units, track.kind.default_flags()]);
        }));
        traf.extend(boxed(*b"tfdt", |b| {
            words(b, &[0x0100_0000]);
            b.extend((track.n_written as u64 * u64::from(units)).to_be_bytes());
        }));
        // Data offset, flags of the first sample, sizes.
        traf.extend(boxed(*b"trun", |b| {
            let first = if track.begins_with_key() { KEY_SAMPLE } else { DELTA_SAMPLE };
            words(b, &[0x205, sizes.len() as u32, data_offset, first]);
            words(b, sizes);
        }));
        if let TrackKind::Sound { .. } = track.kind {
            traf.extend(roll_group(sizes.len() as u32));
        }
    })
}

/// Converts a number of samples of a track to units of the movie.
fn movie_units(n_samples: u64, track: &Mp4TrackWriter, scale: u32) -> u32 {
    let units = n_samples * u64::from(track.kind.sample_units());
    (units * u64::from(scale) / u64::from(track.kind.units_per_second().max(1))) as u32
}

fn trak(id: u32, track: &Mp4TrackWriter, is_fragmented: bool, scale: u32) -> Vec<u8> {
    let n_samples = track.n_listed(is_fragmented);
    let duration = movie_units(n_samples, track, scale);
    let (volume, size) = match &track.kind {
        TrackKind::Pictures { width, height, .. } => (0, [*width, *height]),
        TrackKind::Sound { .. } => (0x0100_0000, [0, 0]),
    };
    boxed(*b"trak", |trak| {
        trak.extend(boxed(*b"tkhd", |b| {
            // Enabled, in movie and preview.
            words(b, &[7, 0, 0, id, 0, duration, 0, 0, 0, volume]);
            matrix(b);
            words(b, &size.map(|side| u32::from(side) << 16));
        }));
        if let TrackKind::Sound { pre_skip } = &track.kind {
            // What the encoder puts before the first sample is not heard. In a fragmented file, an edit
            // without a duration lasts until the end.
            trak.extend(boxed(*b"edts", |b| {
                b.extend(boxed(*b"elst", |b| {
                    words(b, &[0, 1, duration, u32::from(*pre_skip), 0x10000]);
                }));
            }));
        }
        trak.extend(boxed(*b"mdia", |mdia| {
            let units = (n_samples * u64::from(track.kind.sample_units())) as u32;
            mdia.extend(boxed(*b"mdhd", |b| {
                // Language "und", five bits per letter.
                words(b, &[0, 0, 0, track.kind.units_per_second(), units, 0x55C4_0000]);
            }));
            let (handler, header) = match &track.kind {
                TrackKind::Pictures { .. } => (b"vide", boxed(*b"vmhd", |b| words(b, &[1, 0, 0]))),
                TrackKind::Sound { .. } => (b"soun", boxed(*b"smhd", |b| words(b, &[0, 0]))),
            };
            mdia.extend(boxed(*b"hdlr", |b| {
                words(b, &[0, 0]);
                b.extend(handler);
                words(b, &[0, 0, 0]);
                b.extend(HANDLER_NAME);
            }));
            mdia.extend(boxed(*b"minf", |minf| {
                minf.extend(header);
                minf.extend(boxed(*b"dinf", |dinf| {
                    dinf.extend(boxed(*b"dref", |b| {
                        words(b, &[0, 1]);
                        b.extend(boxed(*b"url ", |b| words(b, &[1])));
                    }));
                }));
                minf.extend(boxed(*b"stbl", |stbl| sample_table(stbl, track, is_fragmented)));
            }));
        }));
    })
}

fn sample_table(stbl: &mut Vec<u8>, track: &Mp4TrackWriter, is_fragmented: bool) {
    stbl.extend(boxed(*b"stsd", |b| {
        words(b, &[0, 1]);
        b.extend(match &track.kind {
            TrackKind::Pictures { .. } => boxed(*b"avc1", |b| picture_entry(b, &track.kind)),
            TrackKind::Sound { pre_skip } => boxed(*b"Opus", |b| sound_entry(b, *pre_skip)),
        });
    }));
    if let TrackKind::Sound { .. } = track.kind {
        stbl.extend(boxed(*b"sgpd", |b| {
            words(b, &[0x0100_0000]);
            b.extend(b"roll");
            // Length of an entry, number of entries.
            words(b, &[2, 1]);
            b.extend(SOUND_ROLL.to_be_bytes());
        }));
    }
    if is_fragmented {
        stbl.extend(boxed(*b"stts", |b| words(b, &[0, 0])));
        stbl.extend(boxed(*b"stsc", |b| words(b, &[0, 0])));
        stbl.extend(boxed(*b"stsz", |b| words(b, &[0, 0, 0])));
        stbl.extend(boxed(*b"stco", |b| words(b, &[0, 0])));
        return;
    }
    let n_samples = track.sizes.len() as u32;
    if let TrackKind::Sound { .. } = track.kind {
        stbl.extend(roll_group(n_samples));
    }
    stbl.extend(boxed(*b"stts", |b| words(b, &[0, 1, n_samples, track.kind.sample_units()])));
    if let Some(keys) = &track.keys {
        stbl.extend(boxed(*b"stss", |b| {
            words(b, &[0, keys.len() as u32]);
            words(b, keys);
        }));
    }
    // The samples of a fragment are a chunk.
    let n_chunks = track.chunks.len() as u32;
    stbl.extend(boxed(*b"stsc", |b| {
        words(b, &[0, n_chunks]);
        for (i, chunk) in (1..).zip(&track.chunks) {
            words(b, &[i, chunk.n_samples, 1]);
        }
    }));
    stbl.extend(boxed(*b"stsz", |b| {
        words(b, &[0, 0, n_samples]);
        words(b, &track.sizes);
    }));
    let offsets: Result<Vec<u32>, _> =
        track.chunks.iter().map(|chunk| u32::try_from(chunk.offset)).collect();
    stbl.extend(match offsets {
        Ok(offsets) => boxed(*b"stco", |b| {
            words(b, &[0, n_chunks]);
            words(b, &offsets);
        }),
        Err(_) => boxed(*b"co64", |b| {
            words(b, &[0, n_chunks]);
            b.extend(track.chunks.iter().flat_map(|chunk| chunk.offset.to_be_bytes()));
        }),
    });
}

/// Says that the samples need the packets before them, as `sgpd` describes.
fn roll_group(n_samples: u32) -> Vec<u8> {
    boxed(*b"sbgp", |b| {
        words(b, &[0]);
        b.extend(b"roll");
        words(b, &[1, n_samples, 1]);
    })
}

fn picture_entry(avc1: &mut Vec<u8>, kind: &TrackKind) {
    let TrackKind::Pictures { width, height, sequence_set, picture_set, .. } = kind else { return };
    // Reserved, data reference 1, reserved.
    words(avc1, &[0, 1, 0, 0, 0, 0]);
    avc1.extend(width.to_be_bytes());
    avc1.extend(height.to_be_bytes());
    // 72 dpi, one frame per sample, no compressor name, depth 24, no color table.
    words(avc1, &[0x0048_0000, 0x0048_0000, 0]);
    avc1.extend([0, 1]);
    avc1.extend([0; 32]);
    avc1.extend([0, 24, 0xFF, 0xFF]);
    avc1.extend(boxed(*b"avcC", |b| {
        b.push(1);
        b.extend(sequence_set.get(1..4).unwrap_or(&[66, 0, 30]));
        // Four length bytes, one sequence parameter set.
        b.extend([0xFF, 0xE1]);
        b.extend((sequence_set.len() as u16).to_be_bytes());
        b.extend(sequence_set);
        b.push(1);
        b.extend((picture_set.len() as u16).to_be_bytes());
        b.extend(picture_set);
        if sequence_set.get(1) == Some(&100) {
            // High profile: 4:2:0, 8 bit, no extensions.
            b.extend([0xFD, 0xF8, 0xF8, 0]);
        }
    }));
    // Primaries, transfer and matrix of BT.601, limited range.
    avc1.extend(boxed(*b"colr", |b| b.extend(b"nclx\0\x06\0\x06\0\x06\0")));
}

fn sound_entry(opus: &mut Vec<u8>, pre_skip: u16) {
    // Reserved, data reference 1, reserved; one channel, 16 bits; the rate as 16.16.
    words(opus, &[0, 1, 0, 0, 0x0001_0010, 0, types::Sound::RATE << 16]);
    opus.extend(boxed(*b"dOps", |b| {
        // Version, channels.
        b.extend([0, 1]);
        b.extend(pre_skip.to_be_bytes());
        words(b, &[types::Sound::RATE]);
        // Gain, mapping of channels.
        b.extend([0, 0, 0]);
    }));
}

/// Builds a box: its size, its four-letter type, its body.
pub(super) fn boxed(kind: [u8; 4], body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(kind);
    body(&mut bytes);
    let size = (bytes.len() as u32).to_be_bytes();
    bytes[..4].copy_from_slice(&size);
    bytes
}

pub(super) fn words(bytes: &mut Vec<u8>, words: &[u32]) {
    bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
}

/// Appends the identity transformation matrix.
fn matrix(bytes: &mut Vec<u8>) {
    words(bytes, &[0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x4000_0000]);
}
