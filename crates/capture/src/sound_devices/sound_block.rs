//! What a microphone gives at a time.

use std::time::Instant;

use super::BLOCK_SAMPLES;

/// 10 ms of mono sound at 48 kHz.
#[derive(Clone, Debug, PartialEq)]
pub struct SoundBlock {
    /// When the first sample was captured.
    pub captured: Instant,
    /// Audio samples in -1..=1.
    pub samples: [f32; BLOCK_SAMPLES],
}
