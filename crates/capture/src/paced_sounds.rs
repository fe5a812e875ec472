//! Sound of a source in real time.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use types::{MediaTime, Sound};

use crate::errors::ReadError;
use crate::handoff::{Handoff, HandoffState};
use crate::source::SourceSound;

/// Sounds held for a late reader: one second. When another becomes due, the oldest is dropped.
const MAX_SOUNDS: usize = 50;

/// Sound of a [`Paced`](crate::Paced) source.
pub struct PacedSounds {
    pub(crate) shared: Arc<Handoff>,
}

impl PacedSounds {
    /// Waits for sound and returns what became due since the last call, in order; `None` after the end, and
    /// once the [`Paced`](crate::Paced) was dropped. If more than one second became due, only the last second is returned.
    pub fn wait(&mut self) -> Option<Vec<Sound>> {
        let state = self.shared.lock();
        let waits = |s: &mut HandoffState| s.sounds.is_empty() && !s.sound_ended && !s.stopped;
        let mut state =
            self.shared.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        let sounds: Vec<Sound> = state.sounds.drain(..).collect();
        (!sounds.is_empty() && !state.stopped).then_some(sounds)
    }

    /// Returns when the source started, and the media time that was due then; `None` before.
    pub fn origin(&self) -> Option<(Instant, MediaTime)> {
        self.shared.lock().start
    }

    /// Returns why there is no sound, or no more of it, unless it simply ended; only the first call returns it.
    pub fn take_error(&mut self) -> Option<ReadError> {
        self.shared.lock().sound_error.take()
    }
}

/// Releases each sound when it is due. Sound ends with the frames.
pub(crate) fn release_sounds(mut source: SourceSound, shared: &Handoff) {
    loop {
        let sound = match source.next() {
            Ok(Some(sound)) => sound,
            Ok(None) => break,
            Err(error) => {
                shared.lock().sound_error = Some(error);
                break;
            }
        };
        let mut state = shared.lock();
        if state.first_sound.is_none() {
            state.first_sound = Some(sound.time);
            shared.changed.notify_all();
        }
        let is_early = |s: &mut HandoffState| s.start.is_none() && !s.ended && !s.stopped;
        let state =
            shared.changed.wait_while(state, is_early).unwrap_or_else(PoisonError::into_inner);
        let Some((zero, first)) = state.start else { break };
        let mut state = shared.wait_until(state, zero + sound.time.saturating_since(first));
        if state.stopped || (state.ended && sound.time >= state.end) {
            break;
        }
        if state.sounds.len() == MAX_SOUNDS {
            state.sounds.pop_front();
        }
        state.sounds.push_back(sound);
        drop(state);
        shared.changed.notify_all();
    }
    shared.lock().sound_ended = true;
    shared.changed.notify_all();
}
