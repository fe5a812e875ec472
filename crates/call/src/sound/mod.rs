//! Sound of a call: a thread that listens, a thread that plays, and what they share.
//!
//! Sound waits for nothing else: not for a camera, the tracker or the transfer of a face. What other threads
//! want of it they leave behind as the newest state.

mod blocks;
mod listen;
mod mixer;
mod play;
mod priority;
mod sounding;

use std::time::Duration;

pub(crate) use listen::{ListenThread, Listened, Wanted};
pub(crate) use mixer::Mixer;
pub(crate) use play::{PlayThread, PlayedOn};
pub(crate) use priority::{lower_priority, raise_priority};
pub(crate) use sounding::Sounding;

/// Audio samples of a block: 10 ms at 48 kHz.
pub(crate) const BLOCK_SAMPLES: usize = 480;
/// Duration of a block.
pub(crate) const BLOCK: Duration = Duration::from_millis(10);

/// 10 ms of mono sound at 48 kHz.
pub(crate) type Block = [f32; BLOCK_SAMPLES];
