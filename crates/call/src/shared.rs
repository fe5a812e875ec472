use std::sync::{Arc, Mutex};

use face::FaceModel;
use transport::Playout;
use types::{FeatureTimeline, SquareFrame};

use crate::Stats;

/// Decoded features kept for a recording that takes them later: over five minutes.
const RECORDED: usize = 8192;

/// What the session leaves for whoever holds the [`Call`](crate::Call). Each lock is held for
/// microseconds, and never two at once.
pub(crate) struct Shared {
    pub(crate) playout: Mutex<Playout>,
    pub(crate) received: Mutex<FeatureTimeline>,
    pub(crate) model: Mutex<Option<Arc<FaceModel>>>,
    pub(crate) preview: Mutex<Option<SquareFrame>>,
    pub(crate) stats: Mutex<Stats>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            playout: Mutex::default(),
            received: Mutex::new(FeatureTimeline::with_capacity(RECORDED)),
            model: Mutex::default(),
            preview: Mutex::default(),
            stats: Mutex::default(),
        }
    }
}
