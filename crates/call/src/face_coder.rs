//! Tracker and encoder as one: frames in, access units out, no more work than a frame is worth.

use codec::{AccessUnit, Encoder};
use track::{PersonTracker, RefinementBudget};
use types::{Feature, Frame, MediaTime, UnitNumber};

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
    pub(crate) id: UnitNumber,
    pub(crate) unit: AccessUnit,
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

    /// Tracks a frame and encodes the unit that ends with it, if one is due.
    ///
    /// A frame that becomes a unit, as the last one does, is refined with the full budget; a frame
    /// whose intermediate feature is encoded gets `budget`; any other is only followed.
    pub(crate) fn take(&mut self, frame: &Frame, is_last: bool, budget: RefinementBudget) -> Taken {
        let is_due = is_last || self.encoder.wants(frame.time());
        let budget = match budget {
            _ if is_due => RefinementBudget::Full,
            _ if !self.encoder.wants_between(frame.time()) => RefinementBudget::None,
            budget => budget,
        };
        let tracked = self.tracker.track(frame, budget);
        let unit = tracked.feature().and_then(|feature| code(&mut self.encoder, &feature, is_due));
        Taken { found: tracked.has_face(), unit }
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
