use bytes::Bytes;
use types::{MediaTime, Sound};

/// Largest Opus packet that is accepted or made, in bytes (RFC 6716, section 3.4).
pub(crate) const MAX_PACKET: usize = 1275;

/// An encoded block of the own voice, before the session gives it a sequence number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EncodedVoice {
    /// Capture time of the first audio sample.
    pub time: MediaTime,
    /// The Opus packet.
    pub opus: Bytes,
}

impl EncodedVoice {
    /// Returns the RTP timestamp: the capture time in samples at 48 kHz, modulo 2³².
    pub fn timestamp(&self) -> u32 {
        samples_of(self.time) as u32
    }
}

/// Payload of one RTP packet, with the header fields that matter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VoicePacket {
    /// Sequence number, wrapping.
    pub sequence: u16,
    /// Capture time of the first audio sample, in samples at 48 kHz, wrapping.
    pub timestamp: u32,
    /// The Opus packet. Empty if the RTP packet carried no sound; it counts as received.
    pub opus: Bytes,
}

/// Converts a media time to samples at 48 kHz, rounded to the nearest.
pub(crate) fn samples_of(time: MediaTime) -> u64 {
    ((u128::from(time.as_micros()) * u128::from(Sound::RATE) + 500_000) / 1_000_000) as u64
}

/// Converts samples at 48 kHz to a media time, rounded to the nearest.
pub(crate) fn time_of(samples: u64) -> MediaTime {
    let micros =
        (u128::from(samples) * 1_000_000 + u128::from(Sound::RATE) / 2) / u128::from(Sound::RATE);
    MediaTime::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}
