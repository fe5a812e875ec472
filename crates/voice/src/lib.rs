//! Sound between a microphone and the network, and between the network and a speaker.

mod decoder;
mod encoder;
mod packet;

pub use decoder::VoiceDecoder;
pub use encoder::VoiceEncoder;
pub use packet::VoicePacket;
