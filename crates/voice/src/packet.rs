use bytes::Bytes;

/// Largest Opus packet that is accepted or made, in bytes (RFC 6716, section 3.4).
pub(crate) const MAX_PACKET: usize = 1275;

/// Payload of one RTP packet, with the header fields that matter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VoicePacket {
    /// Sequence number, wrapping.
    pub sequence: u16,
    /// Time of the first audio sample, in samples at 48 kHz, wrapping.
    pub timestamp: u32,
    /// The Opus packet.
    pub opus: Bytes,
}
