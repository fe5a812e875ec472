use opusic_c::{Channels, Decoder, SampleRate};

use crate::packet::MAX_PACKET;

/// Audio samples in the longest Opus packet, 120 ms.
const MAX_SAMPLES: usize = 5760;
/// Granularity of what libopus conceals, 2.5 ms.
pub(crate) const CONCEALMENT_STEP: usize = 120;

/// Opus decoder for a sequence of packets with gaps.
pub(crate) struct VoiceDecoder {
    opus: Decoder,
}

impl VoiceDecoder {
    /// Creates a decoder; `None` if libopus cannot be set up.
    pub(crate) fn new() -> Option<Self> {
        let opus = Decoder::new(Channels::Mono, SampleRate::Hz48000).ok()?;
        Some(Self { opus })
    }

    /// Returns the audio samples that a packet claims to hold, at most 120 ms; `None` if it is
    /// damaged.
    pub(crate) fn samples(&self, opus: &[u8]) -> Option<usize> {
        if opus.is_empty() || opus.len() > MAX_PACKET {
            return None;
        }
        self.opus.get_nb_samples(opus).ok().filter(|n| (1..=MAX_SAMPLES).contains(n))
    }

    /// Decodes a packet; `None` if it is damaged.
    pub(crate) fn decode(&mut self, opus: &[u8]) -> Option<Vec<f32>> {
        let mut out = vec![0.0; self.samples(opus)?];
        let n = self.opus.decode_float_to_slice(opus, &mut out, false).ok()?;
        out.truncate(n);
        Some(out)
    }

    /// Recovers the `n` samples before the packet `next` from what it repeats of them. The part
    /// that it does not repeat is concealed.
    pub(crate) fn recover(&mut self, next: &[u8], n: usize) -> Vec<f32> {
        self.fill(next, n, true)
    }

    /// Invents the next `n` samples.
    pub(crate) fn conceal(&mut self, n: usize) -> Vec<f32> {
        self.fill(&[], n, false)
    }

    fn fill(&mut self, next: &[u8], n: usize, is_recovery: bool) -> Vec<f32> {
        let mut out = vec![0.0; n - n % CONCEALMENT_STEP];
        if !out.is_empty() && self.opus.decode_float_to_slice(next, &mut out, is_recovery).is_err()
        {
            out.fill(0.0);
        }
        out.resize(n, 0.0);
        out
    }
}
