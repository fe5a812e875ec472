use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use super::Block;
use crate::call_clock::CallClock;
use crate::session::Input;
use crate::shared::{Shared, lock};

/// Blocks that are played and wait for the echo canceller: half a second.
const MAX_PLAYED: usize = 50;

/// What both threads of sound work with.
#[derive(Clone)]
pub(crate) struct Sounding {
    pub(crate) clock: CallClock,
    pub(crate) shared: Arc<Shared>,
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) played: Arc<PlayedSound>,
}

impl Sounding {
    pub(crate) fn new(clock: CallClock, shared: Arc<Shared>, inputs: mpsc::Sender<Input>) -> Self {
        Self { clock, shared, inputs, played: Arc::default() }
    }

    /// Tells the session what has happened, or drops it when its queue is full: sound waits for nothing.
    pub(crate) fn report(&self, input: Input) {
        let _ = self.inputs.try_send(input);
    }
}

/// What the speaker is given, on its way to the echo canceller. The canceller belongs to the listening
/// thread, so that the playing one does not wait for it.
#[derive(Debug, Default)]
pub(crate) struct PlayedSound {
    blocks: Mutex<VecDeque<Block>>,
    queued_us: AtomicU64,
}

impl PlayedSound {
    /// Adds what is played, and how long it takes until it is heard.
    pub(super) fn push(&self, block: &Block, queued: Duration) {
        self.queued_us.store(queued.as_micros() as u64, Ordering::Relaxed);
        let mut blocks = lock(&self.blocks);
        if blocks.len() == MAX_PLAYED {
            blocks.pop_front();
        }
        blocks.push_back(*block);
    }

    /// Removes and returns the oldest block.
    pub(super) fn pop(&self) -> Option<Block> {
        lock(&self.blocks).pop_front()
    }

    /// Returns how long it takes from playing a block until it is heard.
    pub(super) fn queued(&self) -> Duration {
        Duration::from_micros(self.queued_us.load(Ordering::Relaxed))
    }
}
