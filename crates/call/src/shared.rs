use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use face::FaceModel;
use transport::Playout;
use types::{Feature, FeatureTimeline, SquareFrame};

use crate::event::End;
use crate::settings::{LocalMedia, SoundLevels};
use crate::sound::Mixer;
use crate::stats::Stats;

/// Decoded features kept for a recording that takes them late: over five minutes at 25 per second.
const MAX_RECEIVED: usize = 8192;
/// Peers that have left whose features are kept until they are taken.
const MAX_LEFT: usize = 4;

/// State that the driver publishes for the holder of the [`Call`](crate::Call). Each lock is held
/// for microseconds, and never two at once.
pub(crate) struct Shared {
    pub(crate) playout: Mutex<Playout>,
    pub(crate) received: Mutex<Received>,
    /// What was said and heard, for a recording.
    pub(crate) mixer: Mutex<Mixer>,
    /// The peer's face with the layers read so far.
    pub(crate) model: Mutex<Option<Arc<FaceModel>>>,
    /// The newest frame of our source.
    pub(crate) preview: Mutex<Option<SquareFrame>>,
    pub(crate) media: Mutex<LocalMedia>,
    pub(crate) sound: Mutex<SoundState>,
    pub(crate) stats: Mutex<Stats>,
    /// How the call ended. It does not travel in the queue of events, which may be full.
    pub(crate) end: Mutex<Option<End>>,
}

impl Shared {
    /// Creates the state of a call that has just begun.
    pub(crate) fn new(media: LocalMedia) -> Self {
        Self {
            playout: Mutex::default(),
            received: Mutex::default(),
            mixer: Mutex::default(),
            model: Mutex::default(),
            preview: Mutex::default(),
            media: Mutex::new(media),
            sound: Mutex::default(),
            stats: Mutex::default(),
            end: Mutex::default(),
        }
    }
}

/// What is known about the sound of both ends now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SoundState {
    pub(crate) levels: SoundLevels,
    /// Age of our sound when it is encoded.
    pub(crate) microphone_delay: Duration,
    /// Blocks of our sound that were lost because the machine was too busy to take them.
    pub(crate) n_dropped: u64,
}

/// Features decoded and not yet taken.
pub(crate) struct Received {
    /// Those of peers that have left, in the order in which they came.
    left: VecDeque<FeatureTimeline>,
    now: FeatureTimeline,
}

impl Default for Received {
    fn default() -> Self {
        Self { left: VecDeque::new(), now: FeatureTimeline::with_capacity(MAX_RECEIVED) }
    }
}

impl Received {
    pub(crate) fn extend(&mut self, features: Vec<Feature>) {
        self.now.extend(features);
    }

    /// Keeps the features of a peer that has left apart from those of the next one. If those of
    /// [`MAX_LEFT`] peers before it wait to be taken, they are dropped.
    pub(crate) fn end_peer(&mut self) {
        let now = std::mem::replace(&mut self.now, FeatureTimeline::with_capacity(MAX_RECEIVED));
        if self.left.len() < MAX_LEFT {
            self.left.push_back(now);
        }
    }

    /// Removes and returns all features of the peer that came first, and whether it has left.
    pub(crate) fn take(&mut self) -> (Vec<Feature>, bool) {
        match self.left.pop_front() {
            Some(mut left) => (left.drain(), true),
            None => (self.now.drain(), false),
        }
    }
}

/// Locks a mutex. A thread that panicked leaves a value that is still usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use types::{Code, HeadPose, MediaTime};

    use super::*;

    fn feature(ms: u64) -> Feature {
        let time = MediaTime::from_micros(ms * 1000);
        let pose = HeadPose::from_array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0]).unwrap();
        Feature { time, pose, code: Code::NEUTRAL }
    }

    #[test]
    fn features_of_two_peers_are_never_taken_for_those_of_one() {
        let mut received = Received::default();
        let n_peers = 2 * MAX_LEFT as u64;
        // Nobody has taken anything while one peer after the other has come and left.
        for peer in 0..n_peers {
            received.extend(vec![feature(peer), feature(peer + 1000)]);
            received.end_peer();
        }
        received.extend(vec![feature(n_peers)]);
        for peer in 0..MAX_LEFT as u64 {
            assert_eq!(received.take(), (vec![feature(peer), feature(peer + 1000)], true));
        }
        assert_eq!(received.take(), (vec![feature(n_peers)], false), "those between are dropped");
        assert_eq!(received.take(), (vec![], false));
    }
}
