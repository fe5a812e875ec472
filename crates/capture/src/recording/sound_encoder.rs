//! Opus encoding of a recording's sound.

use opusic_c::{Application, Bitrate, Channels, Encoder, SampleRate};

/// Bits per second: nothing is lost that a call transmits.
const BIT_RATE: u32 = 64_000;
/// Largest packet, bytes (RFC 6716, section 3.4).
const MAX_PACKET: usize = 1275;
/// Packet without a frame, for which decoders conceal 20 ms.
const EMPTY_PACKET: &[u8] = &[0xF8];
/// Longest delay of an encoder that is believed, audio samples at 48 kHz.
const MAX_DELAY: u32 = 4800;

/// Encoder of one channel at 48 kHz, in packets of 20 ms.
pub(super) struct SoundEncoder {
    opus: Encoder,
    delay: u16,
}

impl SoundEncoder {
    /// Creates an encoder; `None` if libopus cannot be set up.
    pub(super) fn new() -> Option<Self> {
        let mut opus =
            Encoder::new(Channels::Mono, SampleRate::Hz48000, Application::Audio).ok()?;
        opus.set_bitrate(Bitrate::Value(BIT_RATE)).ok()?;
        let delay = opus.get_look_ahead().ok().filter(|delay| *delay <= MAX_DELAY)?;
        Some(Self { opus, delay: delay as u16 })
    }

    /// Returns how many audio samples a decoder gives before the first one that was encoded.
    pub(super) fn delay(&self) -> u16 {
        self.delay
    }

    /// Encodes 20 ms.
    pub(super) fn encode(&mut self, block: &[f32]) -> Vec<u8> {
        let mut packet = vec![0; MAX_PACKET];
        match self.opus.encode_float_to_slice(block, &mut packet) {
            Ok(length @ 1..) => packet.truncate(length),
            _ => packet = EMPTY_PACKET.to_vec(),
        }
        packet
    }
}
