use opusic_c::dred::Dred;
use opusic_c::{Channels, Decoder, SampleRate};

use crate::history::HistoryDecoder;
use crate::opus_packet::OpusPacket;

/// Granularity of what libopus conceals, in samples at 48 kHz (2.5 ms).
const CONCEALMENT_STEP: usize = 120;

/// Samples in which concealed sound turns into recovered sound, 10 ms.
const TRANSITION: usize = 480;

/// How much work the decoder does for a better sound.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DecoderEffort {
    /// Concealment by signal processing, no enhancement.
    Least,
    /// Concealment by a network.
    #[default]
    Less,
    /// Also enhancement of speech by a small network (LACE).
    Medium,
    /// Enhancement by a larger one (NoLACE): it helps wide-band speech below 8 kbit/s.
    Most,
}

/// Opus decoder for a sequence of packets with gaps.
pub(crate) struct VoiceDecoder {
    opus: Dred,
    /// For narrow-band packets with histories.
    history: Option<HistoryDecoder>,
}

impl VoiceDecoder {
    /// Creates a decoder; `None` if libopus cannot be set up.
    pub(crate) fn new(effort: DecoderEffort) -> Option<Self> {
        let opus = Decoder::new(Channels::Mono, SampleRate::Hz48000).ok()?;
        let mut decoder = Self { opus: Dred::new(opus).ok()?, history: None };
        decoder.set_effort(effort);
        Some(decoder)
    }

    pub(crate) fn set_effort(&mut self, effort: DecoderEffort) {
        let complexity = match effort {
            DecoderEffort::Least => 0,
            DecoderEffort::Less => 5,
            DecoderEffort::Medium => 6,
            DecoderEffort::Most => 7,
        };
        let _ = self.opus.decoder_mut().set_complexity(complexity);
    }

    /// Forgets everything, for a sender that restarts.
    pub(crate) fn reset(&mut self) {
        let _ = self.opus.decoder_mut().reset();
    }

    /// Decodes a packet; `None` if it is damaged.
    pub(crate) fn decode(&mut self, opus: &[u8]) -> Option<Vec<f32>> {
        let mut out = vec![0.0; OpusPacket::parse(opus)?.samples()];
        let n = self.opus.decoder_mut().decode_float_to_slice(opus, &mut out, false).ok()?;
        out.truncate(n);
        Some(out)
    }

    /// Returns how many of the `n` samples before the packet `next` it repeats: the last ones.
    /// Silence at their start does not count.
    pub(crate) fn count_repeated(&mut self, next: &[u8], n: usize) -> usize {
        let Some(packet) = OpusPacket::parse(next) else { return 0 };
        if packet.history().is_none() {
            return if packet.has_in_band_correction() { packet.frame_samples().min(n) } else { 0 };
        }
        // libopus does not say how long a history is. After silence, what it does not describe is
        // synthesized as silence.
        let is_heard = |sample: &f32| *sample != 0.0;
        let sound = self.decode_history(next, n);
        sound.and_then(|sound| Some(n - sound.iter().position(is_heard)?)).unwrap_or(0)
    }

    /// Recovers the `n` samples before the packet `next`, which repeats them.
    pub(crate) fn recover(&mut self, next: &[u8], n: usize) -> Vec<f32> {
        let packet = OpusPacket::parse(next);
        if packet.as_ref().is_none_or(|packet| packet.history().is_none()) {
            return self
                .fill(n, |opus, out| opus.decoder_mut().decode_float_to_slice(next, out, true));
        }
        if packet.is_some_and(|packet| !packet.is_narrow_band()) {
            return self.fill(n, |opus, out| opus.decode_float_to_slice(next, out));
        }
        // What the decoder itself invents leads over to the synthesized sound.
        let mut sound = self.conceal(n);
        let history = self.decode_history(next, n);
        for (i, (sample, known)) in sound.iter_mut().zip(history.iter().flatten()).enumerate() {
            let weight = (i as f32 / TRANSITION as f32).min(1.0);
            *sample = (1.0 - weight) * *sample + weight * known;
        }
        sound
    }

    /// Synthesizes the `n` samples before the packet `next` from its history alone.
    fn decode_history(&mut self, next: &[u8], n: usize) -> Option<Vec<f32>> {
        if self.history.is_none() {
            self.history = HistoryDecoder::new();
        }
        let n_steps = n.next_multiple_of(CONCEALMENT_STEP);
        let mut sound = self.history.as_mut()?.decode(next, n_steps)?;
        sound.drain(..n_steps - n);
        Some(sound)
    }

    /// Invents the next `n` samples.
    pub(crate) fn conceal(&mut self, n: usize) -> Vec<f32> {
        self.fill(n, |opus, out| opus.decoder_mut().decode_float_to_slice(&[], out, false))
    }

    /// Decodes `n` samples. libopus takes whole steps only: what is too much is taken out by a
    /// transition near the start.
    fn fill<E>(
        &mut self,
        n: usize,
        decode: impl FnOnce(&mut Dred, &mut [f32]) -> Result<usize, E>,
    ) -> Vec<f32> {
        let mut out = vec![0.0; n.next_multiple_of(CONCEALMENT_STEP)];
        if !out.is_empty() && decode(&mut self.opus, &mut out).is_err() {
            out.fill(0.0);
        }
        let excess = out.len() - n;
        let transition = n.min(TRANSITION);
        for i in 0..transition {
            let weight = (i as f32 + 0.5) / transition as f32;
            out[i] = (1.0 - weight) * out[i] + weight * out[i + excess];
        }
        out.drain(transition..transition + excess);
        out
    }
}

#[cfg(test)]
mod tests {
    use types::Rate;

    use super::*;
    use crate::VoiceEncoder;
    use crate::speech::speech;

    #[test]
    fn invented_sound_of_any_length_has_no_hole_and_no_click() {
        let mut encoder = VoiceEncoder::new(Rate::Normal).unwrap();
        let packets: Vec<_> =
            speech(2).iter().flat_map(|sound| encoder.encode(sound, false)).collect();
        for n in [481, 530, 599, 719, 1439] {
            let mut decoder = VoiceDecoder::new(DecoderEffort::default()).unwrap();
            let mut sound = Vec::new();
            for packet in &packets[..18] {
                sound = decoder.decode(&packet.opus).unwrap();
            }
            let concealed = decoder.conceal(n);
            assert_eq!(concealed.len(), n);
            sound.extend(concealed);
            let step = sound.windows(2).map(|pair| (pair[0] - pair[1]).abs()).fold(0.0, f32::max);
            assert!(step < 0.1, "{n}: {step}");
            let is_silent = |piece: &[f32]| piece.iter().all(|v| *v == 0.0);
            assert!(!sound[2880..2880 + n].chunks_exact(16).any(is_silent), "{n}");
            assert!(!is_silent(&sound[2880 + n - 1..]), "{n}");
        }
    }
}
