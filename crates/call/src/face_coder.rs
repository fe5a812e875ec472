//! Tracker and encoder as one: frames in, access units out, no more work than a frame is worth.

use codec::{AccessUnit, Encoder, UnitId};
use track::{Care, PersonTracker};
use types::{Feature, Frame, MediaTime};

/// What became of a frame.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Whether there was a face in it.
    pub(crate) found: bool,
    /// The unit made of it, if one was due.
    pub(crate) unit: Option<Coded>,
}

/// One feature, coded.
#[derive(Debug)]
pub(crate) struct Coded {
    pub(crate) time: MediaTime,
    pub(crate) id: UnitId,
    pub(crate) unit: AccessUnit,
}

/// What there is time for, from little to much: frames that units are made of are always refined with
/// all care.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Leisure {
    /// Frames between them are followed only.
    Scant,
    /// They are refined in haste.
    Fair,
    /// All are refined with all care.
    Ample,
}

/// The sender's chain from a frame to bytes; the call and `feathercall encode` share it.
pub(crate) struct FaceCoder {
    tracker: PersonTracker,
    encoder: Encoder,
}

impl FaceCoder {
    pub(crate) fn new(tracker: PersonTracker, encoder: Encoder) -> Self {
        Self { tracker, encoder }
    }

    pub(crate) fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    /// Codes a frame that is due, or the last there is; with leisure refines one that a unit bends
    /// its way around; follows the face through any other.
    pub(crate) fn take(&mut self, frame: &Frame, is_last: bool, leisure: Leisure) -> Taken {
        let is_due = is_last || self.encoder.wants(frame.time());
        let care = match leisure {
            _ if is_due => Care::Full,
            _ if !self.encoder.wants_between(frame.time()) => return self.follow(frame),
            Leisure::Ample => Care::Full,
            Leisure::Fair => Care::Hasty,
            Leisure::Scant => return self.follow(frame),
        };
        let feature = self.tracker.track(frame, care);
        let unit = feature.and_then(|feature| code(&mut self.encoder, &feature, is_due));
        Taken { found: feature.is_some(), unit }
    }

    fn follow(&mut self, frame: &Frame) -> Taken {
        Taken { found: self.tracker.follow(frame), unit: None }
    }
}

/// Codes what was tracked before: a unit if one is due, else what the way to the next needs.
pub(crate) fn code(encoder: &mut Encoder, feature: &Feature, is_due: bool) -> Option<Coded> {
    if !is_due {
        encoder.push_between(feature);
        return None;
    }
    let unit = encoder.encode(feature);
    let id = encoder.reconstruction()?.id;
    Some(Coded { time: feature.time, id, unit })
}
