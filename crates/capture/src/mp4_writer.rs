//! Muxing of H.264 pictures into an MP4 file (ISO/IEC 14496-12 and -15): one track, constant rate.

use std::io::{self, BufWriter, IntoInnerError, Seek, SeekFrom, Write};

use crate::atomic::AtomicFile;

/// Duration of a frame in units of the track's time scale.
const FRAME_UNITS: u32 = 512;

/// Unfinished MP4 file: pictures are appended as they come, the index by [`Mp4Writer::finish`].
pub(crate) struct Mp4Writer {
    out: BufWriter<AtomicFile>,
    width: u16,
    height: u16,
    fps: u32,
    sequence_set: Vec<u8>,
    picture_set: Vec<u8>,
    sizes: Vec<u32>,
    keys: Vec<u32>,
    /// Offset of the 64-bit size of the `mdat` box, bytes.
    media_size_at: u64,
}

impl Mp4Writer {
    /// Starts a file of pictures of `width` by `height` pixels at `fps` frames per second.
    pub(crate) fn new(file: AtomicFile, width: u16, height: u16, fps: u32) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(1 << 18, file);
        out.write_all(&boxed(*b"ftyp", |b| b.extend(b"isom\0\0\x02\0isomiso2avc1mp41")))?;
        let media_size_at = out.stream_position()? + 8;
        // A size of 1 means that the actual size follows in 64 bits.
        out.write_all(&[0, 0, 0, 1])?;
        out.write_all(b"mdat")?;
        out.write_all(&[0; 8])?;
        Ok(Self {
            out,
            width,
            height,
            fps,
            sequence_set: Vec::new(),
            picture_set: Vec::new(),
            sizes: Vec::new(),
            keys: Vec::new(),
            media_size_at,
        })
    }

    /// Appends a picture given as NAL units without start codes. Parameter sets go into the index.
    pub(crate) fn push<'a>(&mut self, nals: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
        let mut size = 0;
        let mut is_key = false;
        for nal in nals {
            match nal.first().map(|header| header & 31) {
                Some(7) => nal.clone_into(&mut self.sequence_set),
                Some(8) => nal.clone_into(&mut self.picture_set),
                Some(kind) => {
                    is_key |= kind == 5;
                    let length = u32::try_from(nal.len()).map_err(io::Error::other)?;
                    self.out.write_all(&length.to_be_bytes())?;
                    self.out.write_all(nal)?;
                    size += 4 + length;
                }
                None => {}
            }
        }
        self.sizes.push(size);
        if is_key {
            self.keys.push(self.sizes.len() as u32);
        }
        Ok(())
    }

    /// Writes the index and commits the file.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let end = self.out.stream_position()?;
        let media_size = end - self.media_size_at + 8;
        let index = self.index();
        self.out.write_all(&index)?;
        self.out.seek(SeekFrom::Start(self.media_size_at))?;
        self.out.write_all(&media_size.to_be_bytes())?;
        self.out.into_inner().map_err(IntoInnerError::into_error)?.commit()
    }

    fn index(&self) -> Vec<u8> {
        let n_frames = self.sizes.len() as u32;
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
                        b.extend(b"VideoHandler\0");
                    }));
                    mdia.extend(boxed(*b"minf", |minf| {
                        minf.extend(boxed(*b"vmhd", |b| words(b, &[1, 0, 0])));
                        minf.extend(boxed(*b"dinf", |dinf| {
                            dinf.extend(boxed(*b"dref", |b| {
                                words(b, &[0, 1]);
                                b.extend(boxed(*b"url ", |b| words(b, &[1])));
                            }));
                        }));
                        minf.extend(boxed(*b"stbl", |stbl| self.sample_table(stbl)));
                    }));
                }));
            }));
        })
    }

    fn sample_table(&self, stbl: &mut Vec<u8>) {
        let n_frames = self.sizes.len() as u32;
        stbl.extend(boxed(*b"stsd", |b| {
            words(b, &[0, 1]);
            b.extend(boxed(*b"avc1", |avc1| self.sample_entry(avc1)));
        }));
        stbl.extend(boxed(*b"stts", |b| words(b, &[0, 1, n_frames, FRAME_UNITS])));
        stbl.extend(boxed(*b"stss", |b| {
            words(b, &[0, self.keys.len() as u32]);
            words(b, &self.keys);
        }));
        // All pictures are consecutive in one chunk.
        stbl.extend(boxed(*b"stsc", |b| words(b, &[0, 1, 1, n_frames, 1])));
        stbl.extend(boxed(*b"stsz", |b| {
            words(b, &[0, 0, n_frames]);
            words(b, &self.sizes);
        }));
        let start = (self.media_size_at + 8) as u32;
        stbl.extend(boxed(*b"stco", |b| words(b, &[0, 1, start])));
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
