use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use face::FaceModel;
use transport::Playout;
use types::{Feature, Frame};

use crate::Stats;

/// What the session leaves for whoever holds the [`Call`](crate::Call). Each lock is held for
/// microseconds, and never two at once.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) playout: Mutex<Playout>,
    pub(crate) received: Mutex<VecDeque<Feature>>,
    pub(crate) model: Mutex<Option<Arc<FaceModel>>>,
    pub(crate) preview: Mutex<Option<Frame>>,
    pub(crate) stats: Mutex<Stats>,
}
