//! Microphones and speakers: devices of the system, files, and a speaker that nobody hears.
//!
//! Sound is mono at 48 kHz, in blocks of 10 ms. Devices of other rates and any number of channels are converted.

mod change;
mod device_host;
mod file_microphone;
mod follower;
mod input_device;
mod input_line;
mod microphone;
mod orders;
mod output_device;
mod output_line;
mod paced_speaker;
mod sound_block;
mod speaker;
mod spec;
mod waker;
mod wav_writer;

use std::time::Duration;

pub use change::{DeviceChange, LossReason, SoundDevice, SoundError};
pub(crate) use device_host::sound_device_names;
pub use microphone::Microphone;
pub use sound_block::SoundBlock;
pub use speaker::Speaker;
pub use spec::{MicrophoneSpec, SpeakerSpec};

/// Audio samples of one block.
const BLOCK_SAMPLES: usize = 480;
/// Duration of one block.
const BLOCK: Duration = Duration::from_millis(10);
