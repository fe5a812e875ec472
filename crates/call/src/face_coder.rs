//! Tracker and encoder as one: frames in, access units out, no more work than a frame is worth.

use codec::{EncodedUnit, Encoder, FramePlan};
use track::{PersonTracker, RefinementBudget};
use types::SquareFrame;

/// What became of a frame.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Whether there was a face in it.
    pub(crate) found: bool,
    /// The unit made of it, if one was due.
    pub(crate) unit: Option<Box<EncodedUnit>>,
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
    pub(crate) fn take(
        &mut self,
        frame: &SquareFrame,
        is_last: bool,
        budget: RefinementBudget,
    ) -> Taken {
        let budget = match self.encoder.plan(frame.time(), is_last) {
            FramePlan::Unit => RefinementBudget::Full,
            FramePlan::Intermediate => budget,
            FramePlan::Skip => RefinementBudget::None,
        };
        let tracked = self.tracker.track(frame, budget);
        let unit = tracked
            .feature()
            .and_then(|feature| self.encoder.push(&feature, is_last))
            .map(Box::new);
        Taken { found: tracked.has_face(), unit }
    }
}
