use bytes::Bytes;
use opusic_c::{Application, Bitrate, Channels, Encoder, InbandFec, SampleRate};
use types::{Rate, Sound};

use crate::packet::{MAX_PACKET, VoicePacket};

/// Opus encoder: mono, with in-band forward error correction, and no packets for silence.
pub struct VoiceEncoder {
    opus: Encoder,
    /// Audio samples per packet.
    frame: usize,
    pending: Vec<f32>,
    sequence: u16,
    timestamp: u32,
}

impl VoiceEncoder {
    /// Creates an encoder; `None` if libopus cannot be set up.
    pub fn new(rate: Rate) -> Option<Self> {
        let mut opus = Encoder::new(Channels::Mono, SampleRate::Hz48000, Application::Voip).ok()?;
        opus.set_inband_fec(InbandFec::Mode1).ok()?;
        opus.set_packet_loss(10).ok()?;
        opus.set_dtx(true).ok()?;
        opus.set_complexity(6).ok()?;
        opus.set_bitrate(Bitrate::Value(rate.parameters().opus_bits_per_s)).ok()?;
        let frame = frame_samples(rate);
        Some(Self { opus, frame, pending: Vec::new(), sequence: 0, timestamp: 0 })
    }

    /// Changes frame length and bit rate, from the next packet on.
    pub fn set_rate(&mut self, rate: Rate) {
        let bits_per_s = Bitrate::Value(rate.parameters().opus_bits_per_s);
        if self.opus.set_bitrate(bits_per_s).is_ok() {
            self.frame = frame_samples(rate);
        }
    }

    /// Appends audio samples and returns the packets that are full. With `is_silent`, time passes
    /// but nothing is encoded.
    pub fn encode(&mut self, sound: &Sound, is_silent: bool) -> Vec<VoicePacket> {
        self.pending.extend_from_slice(&sound.samples);
        let mut packets = Vec::new();
        while self.pending.len() >= self.frame {
            let frame: Vec<f32> = self.pending.drain(..self.frame).collect();
            let timestamp = self.timestamp;
            self.timestamp = timestamp.wrapping_add(self.frame as u32);
            if is_silent {
                continue;
            }
            let mut out = [0; MAX_PACKET];
            // Discontinuous transmission: a packet of at most two bytes means silence.
            if let Ok(length @ 3..) = self.opus.encode_float_to_slice(&frame, &mut out) {
                let opus = Bytes::copy_from_slice(&out[..length]);
                packets.push(VoicePacket { sequence: self.sequence, timestamp, opus });
                self.sequence = self.sequence.wrapping_add(1);
            }
        }
        packets
    }
}

/// Returns the audio samples per packet at a rate.
fn frame_samples(rate: Rate) -> usize {
    let milliseconds = rate.parameters().opus_frame.as_millis() as usize;
    milliseconds * (Sound::RATE as usize / 1000)
}
