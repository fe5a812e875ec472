//! What the threads of a paced source hand to each other.

#![expect(clippy::disallowed_methods, reason = "this module paces sources by the wall clock")]

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use types::{MediaTime, Sound, SquareFrame};

use crate::errors::ReadError;

/// How long a clip waits for its sound before it starts, which may take another program.
const MAX_WAIT_FOR_SOUND: Duration = Duration::from_secs(5);

/// State that the threads of a paced source share.
#[derive(Default)]
pub(crate) struct Handoff {
    state: Mutex<HandoffState>,
    pub(crate) changed: Condvar,
}

/// What was released and not read yet, and where the source is.
#[derive(Default)]
pub(crate) struct HandoffState {
    pub(crate) frames: VecDeque<SquareFrame>,
    pub(crate) sounds: VecDeque<Sound>,
    pub(crate) error: Option<ReadError>,
    pub(crate) sound_error: Option<ReadError>,
    /// Media time of the first sound.
    pub(crate) first_sound: Option<MediaTime>,
    /// From when on a source that is not live may start.
    pub(crate) begun: Option<Instant>,
    /// When the source started, and the media time that was due then.
    pub(crate) start: Option<(Instant, MediaTime)>,
    /// Media time after the newest frame that was released.
    pub(crate) end: MediaTime,
    pub(crate) ended: bool,
    pub(crate) sound_ended: bool,
    pub(crate) stopped: bool,
}

impl Handoff {
    /// Locks the state.
    pub(crate) fn lock(&self) -> MutexGuard<'_, HandoffState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the media time that is due now; `None` before the first frame.
    pub(crate) fn media_time(&self) -> Option<MediaTime> {
        let start = self.lock().start;
        start.map(|(zero, first)| first + zero.elapsed())
    }

    /// Waits until `due`, or until the source is stopped.
    pub(crate) fn wait_until<'a>(
        &'a self,
        mut state: MutexGuard<'a, HandoffState>,
        due: Instant,
    ) -> MutexGuard<'a, HandoffState> {
        while !state.stopped {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    /// Waits until the first sound is decoded, or it is clear that there is none.
    pub(crate) fn wait_for_sound<'a>(
        &'a self,
        state: MutexGuard<'a, HandoffState>,
    ) -> MutexGuard<'a, HandoffState> {
        let waits = |s: &mut HandoffState| s.first_sound.is_none() && !s.sound_ended && !s.stopped;
        self.changed
            .wait_timeout_while(state, MAX_WAIT_FOR_SOUND, waits)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// Waits until the source may start, or is stopped.
    pub(crate) fn wait_for_begin<'a>(
        &'a self,
        state: MutexGuard<'a, HandoffState>,
    ) -> MutexGuard<'a, HandoffState> {
        let waits = |s: &mut HandoffState| s.begun.is_none() && !s.stopped;
        self.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner)
    }
}
