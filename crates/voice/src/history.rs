use opusic_c::dred::Dred;
use opusic_c::{
    Application, Bandwidth, Bitrate, Channels, Decoder, Encoder, InbandFec, SampleRate, Signal,
};

use crate::opus_packet::OpusPacket;
use crate::packet::MAX_PACKET;

/// Describes the sound before each packet in a few bytes: deep redundancy (DRED), from which a
/// receiver synthesizes what was lost.
///
/// libopus adds DRED to its own packets only above 12 kbit/s and chooses the amount by rules of
/// its own. So a second encoder, whose speech is thrown away, makes it for the packets of the
/// first. It costs little: the speech is encoded at the lowest complexity.
pub(crate) struct HistoryEncoder {
    opus: Encoder,
}

/// How much of the past each packet describes, and how finely.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct History {
    /// Longest duration in steps of 10 ms, at most 104. Coarse histories end after about 200 ms of
    /// speech: libopus limits their bytes.
    pub tens_of_ms: u8,
    /// How finely the newest part is described; older parts are coarser.
    pub quality: HistoryQuality,
}

/// Precision of the newest part of a [`History`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HistoryQuality {
    /// Quantizer 15 of 0..=15: about 0.2 kbit/s.
    Coarse,
    /// Quantizer 12.
    Medium,
    /// Quantizer 9.
    Fine,
    /// Quantizer 6: about 1 kbit/s.
    Finest,
}

impl HistoryEncoder {
    /// Creates an encoder; `None` if libopus cannot be set up.
    pub(crate) fn new(history: History) -> Option<Self> {
        let mut opus = Encoder::new(Channels::Mono, SampleRate::Hz48000, Application::Voip).ok()?;
        opus.set_inband_fec(InbandFec::Off).ok()?;
        opus.set_bandwidth(Bandwidth::Wide).ok()?;
        // Its rules give most to redundancy when everything is lost.
        opus.set_packet_loss(100).ok()?;
        opus.set_complexity(0).ok()?;
        let mut encoder = Self { opus };
        encoder.set(history);
        Some(encoder)
    }

    /// Changes what the next packets describe.
    pub(crate) fn set(&mut self, history: History) {
        // The quantizer follows from the logarithm of what exceeds 12 kbit/s
        // (`compute_dred_bitrate` in libopus).
        let bits_per_s = 12_000
            + match history.quality {
                HistoryQuality::Coarse => 4095,
                HistoryQuality::Medium => 8191,
                HistoryQuality::Fine => 16_383,
                HistoryQuality::Finest => 32_767,
            };
        let _ = self.opus.set_bitrate(Bitrate::Value(bits_per_s));
        let _ = self.opus.set_dred_duration(history.tens_of_ms.min(104));
    }

    /// Returns the description of the sound before this frame; `None` in silence.
    pub(crate) fn encode(&mut self, frame: &[f32]) -> Option<Vec<u8>> {
        let mut out = [0; MAX_PACKET];
        let length = self.opus.encode_float_to_slice(frame, &mut out).ok()?;
        Some(OpusPacket::parse(&out[..length])?.history()?.to_vec())
    }
}

/// Samples that are synthesized before what is wanted, at 48 kHz (60 ms): the synthesis begins
/// with silence.
const LEAD: usize = 2880;

/// Synthesizes sound from histories, beside a decoder whose packets are narrow-band: libopus uses
/// histories in wide-band only.
pub(crate) struct HistoryDecoder {
    opus: Dred,
    /// A wide-band packet of silence.
    silence: Vec<u8>,
}

impl HistoryDecoder {
    /// Creates a decoder; `None` if libopus cannot be set up.
    pub(crate) fn new() -> Option<Self> {
        let mut encoder =
            Encoder::new(Channels::Mono, SampleRate::Hz48000, Application::Voip).ok()?;
        encoder.set_bandwidth(Bandwidth::Wide).ok()?;
        encoder.set_signal(Signal::Voice).ok()?;
        encoder.set_bitrate(Bitrate::Value(12_000)).ok()?;
        let mut silence = vec![0; MAX_PACKET];
        let length = encoder.encode_float_to_slice(&[0.0; 960], &mut silence).ok()?;
        silence.truncate(length);
        let decoder = Decoder::new(Channels::Mono, SampleRate::Hz48000).ok()?;
        Some(Self { opus: Dred::new(decoder).ok()?, silence })
    }

    /// Returns the `n` samples before the packet `next`, which has a history; `None` if libopus
    /// cannot. `n` is a whole number of steps of 2.5 ms.
    pub(crate) fn decode(&mut self, next: &[u8], n: usize) -> Option<Vec<f32>> {
        let decoder = self.opus.decoder_mut();
        decoder.reset().ok()?;
        decoder.decode_float_to_slice(&self.silence, &mut [0.0; 960], false).ok()?;
        let mut out = vec![0.0; n + LEAD];
        self.opus.decode_float_to_slice(next, &mut out).ok()?;
        out.drain(..LEAD);
        Some(out)
    }
}
