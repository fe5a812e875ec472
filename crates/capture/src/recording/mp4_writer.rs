//! Muxing of H.264 pictures and Opus packets into an MP4 file (ISO/IEC 14496-12 and -15): a track of
//! pictures at a constant rate, and perhaps one of sound.
//!
//! While it grows, the file consists of movie fragments (section 8.8), so that every second of it can
//! be played whatever happens next. At the end an index of all samples is appended, and 16 reserved
//! bytes at the start become the header of one `mdat` box around all fragments. Players then see an
//! ordinary file:
//!
//! ```text
//! growing:   ftyp  free  moov  moof mdat  moof mdat ...
//! complete:  ftyp  mdat [moov  moof mdat  moof mdat ...]  moov
//! ```

use std::io;

use crate::errors::WriteError;
use crate::files::PartFile;
use crate::recording::mp4_index::{boxed, fragment, movie, words};
use crate::recording::mp4_track::{Mp4TrackWriter, TrackKind};

/// Size of the `free` box that becomes the header of an `mdat` box with a 64-bit size, bytes.
const RESERVED_BYTES: u64 = 16;

/// Unfinished MP4 file, to which pictures and packets of sound are appended.
pub(crate) struct Mp4Writer {
    file: PartFile,
    fps: u32,
    /// Pictures, then sound if there is any.
    tracks: Vec<Mp4TrackWriter>,
    n_fragments: u32,
    /// The `free` box, once it is written.
    reserved_at: Option<u64>,
}

impl Mp4Writer {
    /// Starts a file of pictures of `width` by `height` pixels at `fps` frames per second.
    pub(crate) fn new(file: PartFile, width: u16, height: u16, fps: u32) -> Self {
        let (sequence_set, picture_set) = (Vec::new(), Vec::new());
        let pictures = TrackKind::Pictures { width, height, fps, sequence_set, picture_set };
        let tracks = vec![Mp4TrackWriter::new(pictures)];
        Self { file, fps, tracks, n_fragments: 0, reserved_at: None }
    }

    /// Adds a track of sound, before the first picture. `pre_skip` is the delay of the encoder, audio
    /// samples at 48 kHz.
    pub(crate) fn add_sound(&mut self, pre_skip: u16) {
        self.tracks.push(Mp4TrackWriter::new(TrackKind::Sound { pre_skip }));
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
                Some(kind @ (7 | 8)) => self.set_parameters(kind == 7, nal),
                Some(kind) => {
                    is_key |= kind == 5;
                    let length = u32::try_from(nal.len()).map_err(io::Error::other)?;
                    picture.extend(length.to_be_bytes());
                    picture.extend(nal);
                }
                None => {}
            }
        }
        let n_pending = self.pictures().n_pending();
        if n_pending > 0 && (is_key || n_pending >= self.fps as usize) {
            self.write_fragment()?;
        }
        self.tracks[0].push(&picture, is_key)
    }

    /// Appends a packet of 20 ms of sound, if the file has sound.
    ///
    /// # Errors
    /// Never: a packet is small.
    pub(crate) fn push_sound(&mut self, packet: &[u8]) -> io::Result<()> {
        match self.tracks.get_mut(1) {
            Some(track) => track.push(packet, true),
            None => Ok(()),
        }
    }

    /// Returns whether no picture has reached the file.
    pub(crate) fn is_empty(&self) -> bool {
        self.n_fragments == 0
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

    fn pictures(&self) -> &Mp4TrackWriter {
        &self.tracks[0]
    }

    fn set_parameters(&mut self, is_sequence: bool, nal: &[u8]) {
        if let TrackKind::Pictures { sequence_set, picture_set, .. } = &mut self.tracks[0].kind {
            nal.clone_into(if is_sequence { sequence_set } else { picture_set });
        }
    }

    /// Writes the pending samples as a movie fragment. If that fails, they are dropped.
    fn write_fragment(&mut self) -> io::Result<()> {
        let written = self.try_write_fragment();
        match written {
            Ok(mut offset) => {
                for track in &mut self.tracks {
                    let n_bytes = track.pending.len() as u64;
                    track.note_written(offset);
                    offset += n_bytes;
                }
                self.file.sync()
            }
            Err(error) => {
                self.tracks.iter_mut().for_each(Mp4TrackWriter::drop_pending);
                Err(error)
            }
        }
    }

    /// Returns the offset of the first sample.
    fn try_write_fragment(&mut self) -> io::Result<u64> {
        if self.tracks.iter().all(|track| track.n_pending() == 0) {
            return Ok(self.file.length());
        }
        if self.reserved_at.is_none() {
            let mut start = boxed(*b"ftyp", |b| b.extend(b"isom\0\0\x02\0isomiso2iso6avc1mp41"));
            let reserved_at = start.len() as u64;
            start.extend(boxed(*b"free", |b| b.extend([0; RESERVED_BYTES as usize - 8])));
            start.extend(movie(&self.tracks, true));
            self.file.append(&start)?;
            self.reserved_at = Some(reserved_at);
        }
        let mut piece = fragment(self.n_fragments + 1, &self.tracks);
        let n_bytes: usize = self.tracks.iter().map(|track| track.pending.len()).sum();
        words(&mut piece, &[u32::try_from(8 + n_bytes).map_err(io::Error::other)?]);
        piece.extend(b"mdat");
        let offset = self.file.length() + piece.len() as u64;
        self.tracks.iter().for_each(|track| piece.extend(&track.pending));
        self.file.append(&piece)?;
        self.n_fragments += 1;
        Ok(offset)
    }

    /// Appends the index of all samples and hides the fragments in one `mdat` box.
    fn write_index(&mut self) -> io::Result<()> {
        let Some(reserved_at) = self.reserved_at else { return Ok(()) };
        let media_size = self.file.length() - reserved_at;
        let index = movie(&self.tracks, false);
        self.file.append(&index)?;
        // The index is on the disk before it counts.
        self.file.sync()?;
        // A size of 1 means that the actual size follows in 64 bits.
        let mut header = b"\0\0\0\x01mdat".to_vec();
        header.extend(media_size.to_be_bytes());
        self.file.overwrite(reserved_at, &header)
    }
}
