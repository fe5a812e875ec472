//! Muxing of H.264 pictures into an MP4 file (ISO/IEC 14496-12 and -15): one track, constant rate.
//!
//! While it grows, the file consists of movie fragments (section 8.8), so that every second of it can
//! be played whatever happens next. At the end an index of all pictures is appended, and 16 reserved
//! bytes at the start become the header of one `mdat` box around all fragments. Players then see an
//! ordinary file:
//!
//! ```text
//! growing:   ftyp  free  moov  moof mdat  moof mdat ...
//! complete:  ftyp  mdat [moov  moof mdat  moof mdat ...]  moov
//! ```

use std::io;

use crate::errors::WriteError;
use crate::files::HANDLER_NAME;
use crate::files::PartFile;

/// Duration of a frame in units of the track's time scale.
const FRAME_UNITS: u32 = 512;
/// Size of the `free` box that becomes the header of an `mdat` box with a 64-bit size, bytes.
const RESERVED_BYTES: u64 = 16;
/// Sample flags (section 8.8.3.1): a picture that depends on no other; one that does.
const KEY_PICTURE: u32 = 0x0200_0000;
const DELTA_PICTURE: u32 = 0x0101_0000;

/// Unfinished MP4 file, to which pictures are appended.
pub(crate) struct Mp4Writer {
    file: PartFile,
    width: u16,
    height: u16,
    fps: u32,
    sequence_set: Vec<u8>,
    picture_set: Vec<u8>,
    /// The `free` box, once it is written.
    reserved_at: Option<u64>,
    /// Size in bytes of every picture in the file, and of those in `pending`.
    sizes: Vec<u32>,
    /// Numbers of the key pictures, from 1.
    keys: Vec<u32>,
    fragments: Vec<Fragment>,
    /// Pictures for the next fragment.
    pending: Vec<u8>,
    /// Number of pictures before `pending`.
    n_written: usize,
}

/// Pictures that are consecutive in the file.
struct Fragment {
    offset: u64,
    n_pictures: u32,
}

impl Mp4Writer {
    /// Starts a file of pictures of `width` by `height` pixels at `fps` frames per second.
    pub(crate) fn new(file: PartFile, width: u16, height: u16, fps: u32) -> Self {
        Self {
            file,
            width,
            height,
            fps,
            sequence_set: Vec::new(),
            picture_set: Vec::new(),
            reserved_at: None,
            sizes: Vec::new(),
            keys: Vec::new(),
            fragments: Vec::new(),
            pending: Vec::new(),
            n_written: 0,
        }
    }

    /// Appends a picture given as NAL units without start codes. Parameter sets go into the index.
    ///
    /// # Errors
    /// If the previous second cannot be written. All pictures before it are in the file.
    pub(crate) fn push<'a>(&mut self, nals: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
        let mut picture = Vec::new();
        let mut is_key = false;
        for nal in nals {
            match nal.first().map(|header| header & 31) {
                Some(7) => nal.clone_into(&mut self.sequence_set),
                Some(8) => nal.clone_into(&mut self.picture_set),
                Some(kind) => {
                    is_key |= kind == 5;
                    let length = u32::try_from(nal.len()).map_err(io::Error::other)?;
                    picture.extend(length.to_be_bytes());
                    picture.extend(nal);
                }
                None => {}
            }
        }
        let n_pending = self.sizes.len() - self.n_written;
        if n_pending > 0 && (is_key || n_pending >= self.fps as usize) {
            self.write_fragment()?;
        }
        self.sizes.push(u32::try_from(picture.len()).map_err(io::Error::other)?);
        if is_key {
            self.keys.push(self.sizes.len() as u32);
        }
        self.pending.extend(picture);
        Ok(())
    }

    /// Returns whether no picture has reached the file.
    pub(crate) fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    /// Removes the file.
    pub(crate) fn discard(self) {
        self.file.discard();
    }

    /// Writes the last pictures and the index, and commits the file.
    ///
    /// # Errors
    /// The inner error says why the last pictures are missing in a file that is to be kept as it is;
    /// the outer one why there is no file under the final name, or no file at all
    /// ([`WriteError::NothingRecorded`]).
    pub(crate) fn finish(mut self) -> Result<io::Result<()>, WriteError> {
        let last = self.write_fragment();
        if self.file.keeps_what_there_is()
            && self.is_empty()
            && let Err(error) = last
        {
            let error = self.file.error(error);
            self.file.discard();
            return Err(match error {
                WriteError::Io { path, source } => WriteError::NothingRecorded { path, source },
                other => other,
            });
        }
        if !self.file.keeps_what_there_is() || self.reserved_at.is_none() {
            last.and_then(|()| self.write_index()).map_err(|error| self.file.error(error))?;
            self.file.commit()?;
            return Ok(Ok(()));
        }
        // Without an index the file can still be played.
        let _ = self.write_index();
        self.file.commit()?;
        Ok(last)
    }

    /// Writes the pending pictures as a movie fragment. If that fails, they are dropped.
    fn write_fragment(&mut self) -> io::Result<()> {
        let written = self.try_write_fragment();
        if written.is_err() {
            self.sizes.truncate(self.n_written);
            self.keys.retain(|key| *key as usize <= self.n_written);
        }
        self.n_written = self.sizes.len();
        self.pending.clear();
        written
    }

    fn try_write_fragment(&mut self) -> io::Result<()> {
        let n_pictures = self.sizes.len() - self.n_written;
        if n_pictures == 0 {
            return Ok(());
        }
        if self.reserved_at.is_none() {
            let mut start = boxed(*b"ftyp", |b| b.extend(b"isom\0\0\x02\0isomiso2iso6avc1mp41"));
            let reserved_at = start.len() as u64;
            start.extend(boxed(*b"free", |b| b.extend([0; RESERVED_BYTES as usize - 8])));
            start.extend(self.index(true));
            self.file.append(&start)?;
            self.reserved_at = Some(reserved_at);
        }
        let mut piece = self.fragment_index();
        let size = u32::try_from(8 + self.pending.len()).map_err(io::Error::other)?;
        words(&mut piece, &[size]);
        piece.extend(b"mdat");
        let offset = self.file.length() + piece.len() as u64;
        piece.extend(&self.pending);
        self.file.append(&piece)?;
        self.fragments.push(Fragment { offset, n_pictures: n_pictures as u32 });
        self.file.sync()
    }

    /// Returns the `moof` box of the pending pictures.
    fn fragment_index(&self) -> Vec<u8> {
        let sizes = &self.sizes[self.n_written..];
        let is_key = self.keys.contains(&(self.n_written as u32 + 1));
        let build = |data_offset: u32| {
            boxed(*b"moof", |moof| {
                let number = self.fragments.len() as u32 + 1;
                moof.extend(boxed(*b"mfhd", |b| words(b, &[0, number])));
                moof.extend(boxed(*b"traf", |traf| {
                    // Offsets count from the moof box; default duration and flags; track 1.
                    traf.extend(boxed(*b"tfhd", |b| {
                        words(b, &[0x2_0028, 1, FRAME_UNITS, DELTA_PICTURE]);
                    }));
                    traf.extend(boxed(*b"tfdt", |b| {
                        words(b, &[0x0100_0000]);
                        let time = self.n_written as u64 * u64::from(FRAME_UNITS);
                        b.extend(time.to_be_bytes());
                    }));
                    // Data offset, flags of the first picture, sizes.
                    traf.extend(boxed(*b"trun", |b| {
                        let first = if is_key { KEY_PICTURE } else { DELTA_PICTURE };
                        words(b, &[0x205, sizes.len() as u32, data_offset, first]);
                        words(b, sizes);
                    }));
                }));
            })
        };
        // The pictures follow the header of the mdat box.
        build(build(0).len() as u32 + 8)
    }

    /// Appends the index of all pictures and hides the fragments in one `mdat` box.
    fn write_index(&mut self) -> io::Result<()> {
        let Some(reserved_at) = self.reserved_at else { return Ok(()) };
        let media_size = self.file.length() - reserved_at;
        let index = self.index(false);
        self.file.append(&index)?;
        // The index is on the disk before it counts.
        self.file.sync()?;
        // A size of 1 means that the actual size follows in 64 bits.
        let mut header = b"\0\0\0\x01mdat".to_vec();
        header.extend(media_size.to_be_bytes());
        self.file.overwrite(reserved_at, &header)
    }

    /// Returns the `moov` box: of a fragmented file, or with all pictures.
    fn index(&self, is_fragmented: bool) -> Vec<u8> {
        let n_frames = if is_fragmented { 0 } else { self.sizes.len() as u32 };
        let timescale = self.fps * FRAME_UNITS;
        let duration = n_frames * FRAME_UNITS;
        boxed(*b"moov", |moov| {
            moov.extend(boxed(*b"mvhd", |b| {
                // Version, created, modified; rate 1.0, volume 1.0.
                words(b, &[0, 0, 0, timescale, duration, 0x10000, 0x0100_0000, 0, 0]);
                matrix(b);
                words(b, &[0, 0, 0, 0, 0, 0, 2]);
            }));
            moov.extend(boxed(*b"trak", |trak| {
                trak.extend(boxed(*b"tkhd", |b| {
                    // Enabled, in movie and preview; track 1.
                    words(b, &[7, 0, 0, 1, 0, duration, 0, 0, 0, 0]);
                    matrix(b);
                    words(b, &[u32::from(self.width) << 16, u32::from(self.height) << 16]);
                }));
                trak.extend(boxed(*b"mdia", |mdia| {
                    mdia.extend(boxed(*b"mdhd", |b| {
                        // Language "und", five bits per letter.
                        words(b, &[0, 0, 0, timescale, duration, 0x55C4_0000]);
                    }));
                    mdia.extend(boxed(*b"hdlr", |b| {
                        words(b, &[0, 0]);
                        b.extend(b"vide");
                        words(b, &[0, 0, 0]);
                        b.extend(HANDLER_NAME);
                    }));
                    mdia.extend(boxed(*b"minf", |minf| {
                        minf.extend(boxed(*b"vmhd", |b| words(b, &[1, 0, 0])));
                        minf.extend(boxed(*b"dinf", |dinf| {
                            dinf.extend(boxed(*b"dref", |b| {
                                words(b, &[0, 1]);
                                b.extend(boxed(*b"url ", |b| words(b, &[1])));
                            }));
                        }));
                        minf.extend(boxed(*b"stbl", |stbl| {
                            self.sample_table(stbl, is_fragmented);
                        }));
                    }));
                }));
            }));
            if is_fragmented {
                // Track 1, sample description 1; fragments give the rest.
                moov.extend(boxed(*b"mvex", |mvex| {
                    mvex.extend(boxed(*b"trex", |b| words(b, &[0, 1, 1, FRAME_UNITS, 0, 0])));
                }));
            }
        })
    }

    fn sample_table(&self, stbl: &mut Vec<u8>, is_fragmented: bool) {
        stbl.extend(boxed(*b"stsd", |b| {
            words(b, &[0, 1]);
            b.extend(boxed(*b"avc1", |avc1| self.sample_entry(avc1)));
        }));
        if is_fragmented {
            stbl.extend(boxed(*b"stts", |b| words(b, &[0, 0])));
            stbl.extend(boxed(*b"stsc", |b| words(b, &[0, 0])));
            stbl.extend(boxed(*b"stsz", |b| words(b, &[0, 0, 0])));
            stbl.extend(boxed(*b"stco", |b| words(b, &[0, 0])));
            return;
        }
        let n_frames = self.sizes.len() as u32;
        stbl.extend(boxed(*b"stts", |b| words(b, &[0, 1, n_frames, FRAME_UNITS])));
        stbl.extend(boxed(*b"stss", |b| {
            words(b, &[0, self.keys.len() as u32]);
            words(b, &self.keys);
        }));
        // The pictures of a fragment are a chunk.
        let n_chunks = self.fragments.len() as u32;
        stbl.extend(boxed(*b"stsc", |b| {
            words(b, &[0, n_chunks]);
            for (i, fragment) in (1..).zip(&self.fragments) {
                words(b, &[i, fragment.n_pictures, 1]);
            }
        }));
        stbl.extend(boxed(*b"stsz", |b| {
            words(b, &[0, 0, n_frames]);
            words(b, &self.sizes);
        }));
        let offsets: Result<Vec<u32>, _> =
            self.fragments.iter().map(|fragment| u32::try_from(fragment.offset)).collect();
        stbl.extend(match offsets {
            Ok(offsets) => boxed(*b"stco", |b| {
                words(b, &[0, n_chunks]);
                words(b, &offsets);
            }),
            Err(_) => boxed(*b"co64", |b| {
                words(b, &[0, n_chunks]);
                b.extend(self.fragments.iter().flat_map(|fragment| fragment.offset.to_be_bytes()));
            }),
        });
    }

    fn sample_entry(&self, avc1: &mut Vec<u8>) {
        // Reserved, data reference 1, reserved.
        words(avc1, &[0, 1, 0, 0, 0, 0]);
        avc1.extend(self.width.to_be_bytes());
        avc1.extend(self.height.to_be_bytes());
        // 72 dpi, one frame per sample, no compressor name, depth 24, no color table.
        words(avc1, &[0x0048_0000, 0x0048_0000, 0]);
        avc1.extend([0, 1]);
        avc1.extend([0; 32]);
        avc1.extend([0, 24, 0xFF, 0xFF]);
        avc1.extend(boxed(*b"avcC", |b| {
            let set = &self.sequence_set;
            b.push(1);
            b.extend(set.get(1..4).unwrap_or(&[66, 0, 30]));
            // Four length bytes, one sequence parameter set.
            b.extend([0xFF, 0xE1]);
            b.extend((set.len() as u16).to_be_bytes());
            b.extend(set);
            b.push(1);
            b.extend((self.picture_set.len() as u16).to_be_bytes());
            b.extend(&self.picture_set);
            if set.get(1) == Some(&100) {
                // High profile: 4:2:0, 8 bit, no extensions.
                b.extend([0xFD, 0xF8, 0xF8, 0]);
            }
        }));
        // Primaries, transfer and matrix of BT.601, limited range.
        avc1.extend(boxed(*b"colr", |b| b.extend(b"nclx\0\x06\0\x06\0\x06\0")));
    }
}

/// Builds a box: its size, its four-letter type, its body.
fn boxed(kind: [u8; 4], body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(kind);
    body(&mut bytes);
    let size = (bytes.len() as u32).to_be_bytes();
    bytes[..4].copy_from_slice(&size);
    bytes
}

fn words(bytes: &mut Vec<u8>, words: &[u32]) {
    bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
}

/// Appends the identity transformation matrix.
fn matrix(bytes: &mut Vec<u8>) {
    words(bytes, &[0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x4000_0000]);
}
