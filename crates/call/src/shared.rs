use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use face::FaceModel;
use transport::Playout;
use types::{FeatureTimeline, SquareFrame};

use crate::event::End;
use crate::settings::LocalMedia;
use crate::stats::Stats;

/// Decoded features kept for a recording that takes them late: over five minutes at 25 per second.
const MAX_RECEIVED: usize = 8192;

/// State that the driver publishes for the holder of the [`Call`](crate::Call). Each lock is held
/// for microseconds, and never two at once.
pub(crate) struct Shared {
    pub(crate) playout: Mutex<Playout>,
    /// Features decoded and not yet taken.
    pub(crate) received: Mutex<FeatureTimeline>,
    /// The peer's face with the layers read so far.
    pub(crate) model: Mutex<Option<Arc<FaceModel>>>,
    /// The newest frame of our source.
    pub(crate) preview: Mutex<Option<SquareFrame>>,
    pub(crate) media: Mutex<LocalMedia>,
    pub(crate) stats: Mutex<Stats>,
    /// How the call ended. It does not travel in the queue of events, which may be full.
    pub(crate) end: Mutex<Option<End>>,
}

impl Shared {
    /// Creates the state of a call that has just begun.
    pub(crate) fn new(media: LocalMedia) -> Self {
        Self {
            playout: Mutex::default(),
            received: Mutex::new(FeatureTimeline::with_capacity(MAX_RECEIVED)),
            model: Mutex::default(),
            preview: Mutex::default(),
            media: Mutex::new(media),
            stats: Mutex::default(),
            end: Mutex::default(),
        }
    }
}

/// Locks a mutex. A thread that panicked leaves a value that is still usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
