//! Tracks of MP4 files with their samples.

use crate::color::ColorMatrix;

/// Most samples of a track: 24 h of video at 60 fps have 5 million. An index of a few hundred bytes
/// can name any number of samples of the same size.
pub(crate) const MAX_SAMPLES: usize = 6_000_000;

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
    pub(crate) id: u32,
    pub(crate) is_video: bool,
    /// Time scale.
    pub(crate) units_per_second: u32,
    /// Start of the presentation by the edit list, in units of the track.
    pub(crate) edit_start: i64,
    pub(crate) coding: Coding,
    pub(crate) samples: Vec<Mp4Sample>,
    pub(crate) fragments: FragmentState,
}

/// Defaults of a track's fragments (`trex`), and how far the fragments have come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FragmentState {
    /// Duration of a sample, in units of the track.
    pub(crate) duration: u32,
    /// Size of a sample, bytes.
    pub(crate) size: u32,
    /// Decoding time after the last sample, in units of the track.
    pub(crate) end: i64,
}

impl FragmentState {
    /// State after the samples of the index, which last `end` units of the track.
    pub(crate) fn after(end: i64) -> Self {
        Self { end, ..Self::default() }
    }
}
