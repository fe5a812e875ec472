//! Sound between a microphone and the network, and between the network and a speaker.

mod arrivals;
mod decoder;
mod delay;
mod echo_canceller;
mod encoder;
mod history;
mod level;
mod noise;
mod opus_packet;
mod packet;
mod played;
mod processor;
mod receiver;
mod sequence;
mod sound_queue;
#[cfg(test)]
mod speech;
mod stretch;

pub use decoder::DecoderEffort;
pub use encoder::{EncoderSettings, VoiceEncoder};
pub use history::{History, HistoryQuality};
pub use level::{Level, LevelMeter};
pub use packet::{EncodedVoice, VoicePacket};
pub use played::{BLOCK, PlayedVoice, SoundKind, VoiceStats};
pub use processor::{VoiceProcessing, VoiceProcessor};
pub use receiver::VoiceReceiver;
