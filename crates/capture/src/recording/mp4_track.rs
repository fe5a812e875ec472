//! Tracks of an MP4 file that is being written.

use std::io;

/// Track with its samples: pictures, or packets of sound.
pub(super) struct Mp4TrackWriter {
    pub(super) kind: TrackKind,
    /// Size in bytes of every sample in the file, and of those in `pending`.
    pub(super) sizes: Vec<u32>,
    /// Numbers of the samples with which decoding can begin, from 1; `None` if it can with each.
    pub(super) keys: Option<Vec<u32>>,
    pub(super) chunks: Vec<Chunk>,
    /// Samples for the next fragment.
    pub(super) pending: Vec<u8>,
    /// Number of samples before `pending`.
    pub(super) n_written: usize,
}

/// What the samples of a track are.
pub(super) enum TrackKind {
    /// H.264 pictures.
    Pictures { width: u16, height: u16, fps: u32, sequence_set: Vec<u8>, picture_set: Vec<u8> },
    /// Opus packets of 20 ms, one channel; audio samples at 48 kHz that the decoder gives before the first one.
    Sound { pre_skip: u16 },
}

/// Samples that are consecutive in the file.
pub(super) struct Chunk {
    pub(super) offset: u64,
    pub(super) n_samples: u32,
}

impl Mp4TrackWriter {
    /// Starts a track without samples.
    pub(super) fn new(kind: TrackKind) -> Self {
        let keys = matches!(kind, TrackKind::Pictures { .. }).then(Vec::new);
        let (sizes, chunks, pending) = (Vec::new(), Vec::new(), Vec::new());
        Self { kind, sizes, keys, chunks, pending, n_written: 0 }
    }

    /// Appends a sample to the next fragment.
    ///
    /// # Errors
    /// If it is larger than 4 GiB.
    pub(super) fn push(&mut self, sample: &[u8], is_key: bool) -> io::Result<()> {
        self.sizes.push(u32::try_from(sample.len()).map_err(io::Error::other)?);
        if is_key && let Some(keys) = &mut self.keys {
            keys.push(self.sizes.len() as u32);
        }
        self.pending.extend(sample);
        Ok(())
    }

    /// Returns the number of samples for the next fragment.
    pub(super) fn n_pending(&self) -> usize {
        self.sizes.len() - self.n_written
    }

    /// Returns whether decoding can begin with the first pending sample.
    pub(super) fn begins_with_key(&self) -> bool {
        let number = self.n_written as u32 + 1;
        self.keys.as_ref().is_none_or(|keys| keys.contains(&number))
    }

    /// Returns the number of samples that an index lists: that of a fragmented file lists none.
    pub(super) fn n_listed(&self, is_fragmented: bool) -> u64 {
        if is_fragmented { 0 } else { self.sizes.len() as u64 }
    }

    /// Notes that the pending samples were written at `offset`.
    pub(super) fn note_written(&mut self, offset: u64) {
        let n_samples = self.n_pending() as u32;
        if n_samples > 0 {
            self.chunks.push(Chunk { offset, n_samples });
        }
        self.n_written = self.sizes.len();
        self.pending.clear();
    }

    /// Forgets the pending samples.
    pub(super) fn drop_pending(&mut self) {
        self.sizes.truncate(self.n_written);
        if let Some(keys) = &mut self.keys {
            keys.retain(|key| *key as usize <= self.n_written);
        }
        self.pending.clear();
    }
}
