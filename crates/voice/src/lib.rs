//! Sound between a microphone and the network, and between the network and a speaker.

mod decoder;
mod delay;
mod encoder;
mod level;
mod packet;
mod processor;
mod receiver;
#[cfg(test)]
mod speech;

pub use encoder::VoiceEncoder;
pub use level::{Level, LevelMeter};
pub use packet::{EncodedVoice, VoicePacket};
pub use processor::{VoiceProcessing, VoiceProcessor};
pub use receiver::{BLOCK, PlayedVoice, SoundKind, VoiceReceiver, VoiceStats};
