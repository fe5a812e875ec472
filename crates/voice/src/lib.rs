//! Sound between a microphone and the network, and between the network and a speaker.

mod decoder;
mod delay;
mod encoder;
mod packet;
mod receiver;
#[cfg(test)]
mod speech;

pub use encoder::VoiceEncoder;
pub use packet::{EncodedVoice, VoicePacket};
pub use receiver::{BLOCK, PlayedVoice, SoundKind, VoiceReceiver, VoiceStats};
