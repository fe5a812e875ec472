//! Tracks of MP4 files with their samples.

use crate::mp4::edit_list::Edit;
use crate::picture::ColorTags;
use crate::picture::Geometry;

/// Most samples of a track: 24 h of video at 60 fps have 5 million. An index of a few hundred bytes
/// can name any number of samples of the same size.
pub(crate) const MAX_SAMPLES: usize = 6_000_000;

/// Location and time of one compressed picture or sound packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Mp4Sample {
    pub(crate) offset: u64,
    pub(crate) size: u32,
    /// Whether decoding can begin here.
    pub(crate) is_key: bool,
    /// Presentation time in units of the track, before the edit list.
    pub(crate) shown_at: i64,
}

/// Codec of a track.
#[derive(Clone, Debug)]
pub(crate) enum Coding {
    /// H.264: the `avcC` box.
    Avc { avcc: Vec<u8> },
    /// AAC with its `AudioSpecificConfig`.
    Aac { specific_config: Vec<u8> },
    /// Opus with one or two channels and without a gain.
    Opus,
    /// Anything else: the name of the sample entry.
    Other { name: [u8; 4] },
    /// Samples refer to more than one sample description.
    Several,
}

/// How the samples of a track end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum TrackEnding {
    /// With the last one.
    #[default]
    Whole,
    /// Before, because the file ends there, or is damaged.
    Early,
}

/// How the pictures of a video track are to be shown, as the container says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Presentation {
    pub(crate) geometry: Geometry,
    pub(crate) color: ColorTags,
}

/// Video or sound track with its samples in decoding order.
#[derive(Clone, Debug)]
pub(crate) struct Mp4Track {
    pub(crate) id: u32,
    pub(crate) is_video: bool,
    /// Time scale.
    pub(crate) units_per_second: u32,
    /// Parts that are played, in that order; all of it if there is no edit list.
    pub(crate) edits: Vec<Edit>,
    pub(crate) has_edit_list: bool,
    /// Whether samples follow in fragments.
    pub(crate) is_fragmented: bool,
    pub(crate) coding: Coding,
    pub(crate) presentation: Presentation,
    pub(crate) samples: Vec<Mp4Sample>,
    /// Decoding time after the last sample, in units of the track.
    pub(crate) end: i64,
    pub(crate) ending: TrackEnding,
}

impl Mp4Track {
    /// Returns whether the samples are of use: those of sound in another codec are not read.
    pub(crate) fn has_samples(&self) -> bool {
        self.is_video || !matches!(self.coding, Coding::Other { .. })
    }
}
