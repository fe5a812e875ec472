//! The sender's chain from a frame to an access unit: tracker and encoder.

use codec::{EncodedUnit, Encoder, FramePlan};
use track::{PersonTracker, RefinementBudget};
use types::SquareFrame;

/// Tracker and encoder, shared by a call and `feathercall encode`.
pub(crate) struct FaceEncoder {
    tracker: PersonTracker,
    encoder: Encoder,
}

/// Result of encoding one frame.
#[derive(Debug)]
pub(crate) struct EncodedFrame {
    pub(crate) face_found: bool,
    /// The unit that the frame completed, if any.
    pub(crate) unit: Option<EncodedUnit>,
}

impl FaceEncoder {
    pub(crate) fn new(tracker: PersonTracker, encoder: Encoder) -> Self {
        Self { tracker, encoder }
    }

    pub(crate) fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    /// Tracks a frame and encodes its feature.
    ///
    /// A frame that becomes a unit is always refined fully. `intermediate_budget` applies to the
    /// frames between units that the encoder codes midpoints of; all others are only followed.
    pub(crate) fn encode(
        &mut self,
        frame: &SquareFrame,
        is_last: bool,
        intermediate_budget: RefinementBudget,
    ) -> EncodedFrame {
        let budget = match self.encoder.plan(frame.time(), is_last) {
            FramePlan::Unit => RefinementBudget::Full,
            FramePlan::Intermediate => intermediate_budget,
            FramePlan::Skip => RefinementBudget::None,
        };
        let tracked = self.tracker.track(frame, budget);
        let unit = tracked.feature().and_then(|feature| self.encoder.push(&feature, is_last));
        EncodedFrame { face_found: tracked.has_face(), unit }
    }
}
