//! The actor as a source.

use std::time::Duration;

use actor::Actor;
use types::{Frame, MediaTime, Sound};

use crate::SOUND_SAMPLES;

/// The one actor of the product: the same face in every demo.
const SEED: u64 = 7;
/// Frames in a second: a camera's usual rate, and that of the clips we measure with.
pub(crate) const ACTOR_FPS: u32 = 25;
/// Pixels of a side: what enrollment learns from, drawn in real time on one core.
const SIDE: u32 = 256;

/// Frames and voice of the actor, without an end.
pub(crate) struct ActorSource {
    actor: Actor,
    n_frames: u64,
    n_sounds: u32,
}

impl ActorSource {
    pub(crate) fn new() -> Self {
        Self { actor: Actor::new(SEED), n_frames: 0, n_sounds: 0 }
    }

    pub(crate) fn next_frame(&mut self) -> Frame {
        let time = MediaTime::of_frame(self.n_frames, ACTOR_FPS);
        self.n_frames += 1;
        self.actor.render(&self.actor.script(time), SIDE).frame.at(time)
    }

    pub(crate) fn next_sound(&mut self) -> Sound {
        let time = MediaTime::ZERO + Duration::from_millis(20) * self.n_sounds;
        self.n_sounds += 1;
        Sound { time, samples: self.actor.voice(time, SOUND_SAMPLES) }
    }
}
