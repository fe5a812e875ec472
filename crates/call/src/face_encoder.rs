//! The sender's chain from a frame to an access unit: tracker and encoder.

use codec::{EncodedUnit, Encoder, FramePlan};
use rayon::{ThreadPool, ThreadPoolBuilder};
use track::{PersonTracker, RefinementBudget};
use types::SquareFrame;

use crate::load_estimator::FrameBudget;

/// Tracker and encoder, shared by a call and `feathercall encode`.
pub(crate) struct FaceEncoder {
    tracker: PersonTracker,
    encoder: Encoder,
    /// For frames that are tracked on one thread; made when it is needed.
    one_thread: Option<ThreadPool>,
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
        Self { tracker, encoder, one_thread: None }
    }

    pub(crate) fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    /// Tracks a frame and encodes its feature.
    ///
    /// The budget between units applies to the frames that the encoder codes midpoints of; all others
    /// are only followed.
    pub(crate) fn encode(
        &mut self,
        frame: &SquareFrame,
        is_last: bool,
        budget: FrameBudget,
    ) -> EncodedFrame {
        let refinement = match self.encoder.plan(frame.time(), is_last) {
            FramePlan::Unit => budget.unit,
            FramePlan::Intermediate => budget.intermediate,
            FramePlan::Skip => RefinementBudget::None,
        };
        if budget.single_threaded && self.one_thread.is_none() {
            self.one_thread = ThreadPoolBuilder::new().num_threads(1).build().ok();
        }
        let tracker = &mut self.tracker;
        let tracked = match &self.one_thread {
            Some(pool) if budget.single_threaded => {
                pool.install(|| tracker.track(frame, refinement))
            }
            _ => tracker.track(frame, refinement),
        };
        let unit = tracked.feature().and_then(|feature| self.encoder.push(&feature, is_last));
        EncodedFrame { face_found: tracked.has_face(), unit }
    }
}
