use std::time::Duration;

use types::MediaTime;

/// Audio samples in a block of played sound, 10 ms at 48 kHz.
pub const BLOCK: usize = 480;

/// How a block of played sound came to be.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum SoundKind {
    /// Decoded from its packet.
    Decoded,
    /// Its packet was lost; recovered from what a later one repeats.
    Recovered,
    /// Invented to continue the sound before it.
    Concealed,
    /// Background noise, while the peer is silent or after a longer loss.
    ComfortNoise,
    /// Nothing has been heard yet.
    #[default]
    Silence,
}

/// 10 ms of sound to be played.
#[derive(Clone, Debug)]
pub struct PlayedVoice {
    /// Mono at 48 kHz, in -1..=1.
    pub samples: [f32; BLOCK],
    /// The sender's capture time of the first sample, unwrapped near the newest packet; `None`
    /// before any sound. Exact to 15 ms while sound is stretched in time.
    pub time: Option<MediaTime>,
    /// How the first sample came to be.
    pub kind: SoundKind,
}

/// Counts since the receiver was created, and its delay now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VoiceStats {
    /// Packets received, with empty and damaged ones, without repeated ones.
    pub received: u64,
    /// Packets of the sequence that had not arrived when they were due.
    pub lost: u64,
    /// Packets that arrived after they were due.
    pub late: u64,
    /// Packets that arrived twice or were replayed.
    pub repeated: u64,
    /// Packets that are not Opus, whose timestamp is on no known timeline, or most of whose sound
    /// another packet holds.
    pub damaged: u64,
    /// Blocks played of kind [`SoundKind::Decoded`].
    pub decoded_blocks: u64,
    /// Blocks played of kind [`SoundKind::Recovered`].
    pub recovered_blocks: u64,
    /// Blocks played of kind [`SoundKind::Concealed`].
    pub concealed_blocks: u64,
    /// Blocks played of kind [`SoundKind::ComfortNoise`].
    pub noise_blocks: u64,
    /// Samples that time stretching left out.
    pub removed_samples: u64,
    /// Samples that time stretching added.
    pub added_samples: u64,
    /// How much later sound is played than the fastest packet of late would have allowed.
    pub delay: Duration,
    /// The delay that the receiver aims at.
    pub target_delay: Duration,
}

impl VoiceStats {
    pub(crate) fn count_block(&mut self, kind: SoundKind) {
        match kind {
            SoundKind::Decoded => self.decoded_blocks += 1,
            SoundKind::Recovered => self.recovered_blocks += 1,
            SoundKind::Concealed => self.concealed_blocks += 1,
            SoundKind::ComfortNoise => self.noise_blocks += 1,
            SoundKind::Silence => {}
        }
    }
}
