//! The synthetic talking head as a source.

use std::sync::Arc;
use std::time::Duration;

use actor::Actor;
use types::{MediaTime, Sound, SquareFrame};

use crate::SOUND_SAMPLES;

/// Seed of the actor that the demo and the tests show.
const SEED: u64 = 7;
/// Frame rate, frames per second: that of the clips used for measurements.
pub(crate) const ACTOR_FPS: u32 = 25;
/// Side of the frames, pixels: the size enrollment uses, rendered in real time on one core.
const SIDE: u32 = 256;

/// Endless frames of the actor.
pub(crate) struct ActorSource {
    actor: Arc<Actor>,
    n_frames: u64,
}

impl ActorSource {
    pub(crate) fn new() -> Self {
        Self { actor: Arc::new(Actor::new(SEED)), n_frames: 0 }
    }

    /// Returns the voice from its start. Voice and frames are made independently of each other.
    pub(crate) fn voice(&self) -> ActorVoice {
        ActorVoice { actor: Arc::clone(&self.actor), n_sounds: 0 }
    }

    /// Leaves out the frames before `time`, which costs nothing.
    pub(crate) fn skip_to(&mut self, time: MediaTime) {
        while MediaTime::of_frame(self.n_frames, ACTOR_FPS) < time {
            self.n_frames += 1;
        }
    }

    /// Continues with the frame of this index.
    pub(crate) fn seek(&mut self, index: u64) {
        self.n_frames = index;
    }

    pub(crate) fn next_frame(&mut self) -> SquareFrame {
        let time = MediaTime::of_frame(self.n_frames, ACTOR_FPS);
        self.n_frames += 1;
        self.actor.render(&self.actor.script(time), SIDE).frame.at(time)
    }
}

/// Endless voice of the actor.
pub(crate) struct ActorVoice {
    actor: Arc<Actor>,
    n_sounds: u32,
}

impl ActorVoice {
    pub(crate) fn next_sound(&mut self) -> Sound {
        let time = MediaTime::ZERO + Duration::from_millis(20) * self.n_sounds;
        self.n_sounds += 1;
        Sound { time, samples: self.actor.voice(time, SOUND_SAMPLES) }
    }
}
