//! Sound of MP4 clips, mono or stereo: AAC-LC, and Opus as in our recordings.

use std::fs::File;

use opusic_c::{Channels, SampleRate};
use symphonia_codec_aac::AacDecoder;
use symphonia_core::codecs::audio::well_known::CODEC_ID_AAC;
use symphonia_core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia_core::packet::PacketRef;
use symphonia_core::units::{Duration as Units, Timestamp};
use types::Sound;

use crate::errors::ReadError;
use crate::mp4::Edit;
use crate::mp4::read_sample;
use crate::mp4::{Coding, Mp4Sample, Mp4Track};
use crate::sound::line::Piece;

/// Samples per AAC-LC packet.
const AAC_SAMPLES: usize = 1024;
/// Samples in the longest Opus packet, 120 ms, and in the usual one.
const MAX_OPUS_SAMPLES: usize = 5760;
const OPUS_SAMPLES: usize = 960;
/// Packets that are decoded before the first one that is heard, which needs them: 80 ms of Opus.
const AAC_LEAD: usize = 1;
const OPUS_LEAD: usize = 4;

/// Decoder of the packets of one track.
enum PacketDecoder {
    Aac(Box<AacDecoder>),
    Opus(opusic_c::Decoder),
}

impl PacketDecoder {
    /// Returns the decoder and the rate of its sound, samples per second; `None` if it does not know this kind of
    /// coding.
    fn new(coding: Coding) -> Option<(Self, u32)> {
        match coding {
            Coding::Aac { specific_config } if is_low_complexity(&specific_config) => {
                let mut parameters = AudioCodecParameters::new();
                let config = specific_config.into_boxed_slice();
                parameters.for_codec(CODEC_ID_AAC).with_extra_data(config);
                let aac = AacDecoder::try_new(&parameters, &AudioDecoderOptions::default()).ok()?;
                let rate = aac.codec_params().sample_rate.filter(|r| (8000..=192_000).contains(r));
                Some((Self::Aac(Box::new(aac)), rate?))
            }
            Coding::Opus => {
                // Stereo is decoded to mono.
                let opus = opusic_c::Decoder::new(Channels::Mono, SampleRate::Hz48000).ok()?;
                Some((Self::Opus(opus), Sound::RATE))
            }
            _ => None,
        }
    }

    /// Returns the samples in the longest packet, and how many packets are decoded before the first.
    fn reach(&self) -> (usize, usize) {
        match self {
            Self::Aac(_) => (AAC_SAMPLES, AAC_LEAD),
            Self::Opus(_) => (MAX_OPUS_SAMPLES, OPUS_LEAD),
        }
    }

    /// Forgets the packets before.
    fn reset(&mut self) {
        match self {
            Self::Aac(aac) => aac.reset(),
            Self::Opus(opus) => {
                let _ = opus.reset();
            }
        }
    }

    /// Decodes a packet to mono samples. A damaged one is silence.
    fn decode(&mut self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::Aac(aac) => {
                let units = Units::new(AAC_SAMPLES as u64);
                let packet = PacketRef::new(0, Timestamp::new(0), units, bytes);
                let mut channels: Vec<Vec<f32>> = Vec::new();
                if let Ok(decoded) = aac.decode_ref(&packet) {
                    decoded.copy_to_vecs_planar(&mut channels);
                }
                let mut mono = vec![0.0; channels.first().map_or(AAC_SAMPLES, Vec::len)];
                let share = 1.0 / channels.len().max(1) as f32;
                for channel in &channels {
                    mono.iter_mut().zip(channel).for_each(|(sum, sample)| *sum += sample * share);
                }
                mono
            }
            Self::Opus(opus) => {
                let mut mono = vec![0.0; MAX_OPUS_SAMPLES];
                let n = opus.decode_float_to_slice(bytes, &mut mono, false);
                let is_damaged = n.is_err() || bytes.is_empty();
                mono.truncate(n.unwrap_or(OPUS_SAMPLES).min(MAX_OPUS_SAMPLES));
                if is_damaged {
                    mono.fill(0.0);
                }
                mono
            }
        }
    }
}

/// Decoder of one sound track, which plays the parts that the edit list names.
pub(crate) struct Mp4Sound {
    file: File,
    samples: Vec<Mp4Sample>,
    edits: Vec<Edit>,
    units_per_second: u32,
    rate: u32,
    decoder: PacketDecoder,
    /// Edit that is being played.
    edit_idx: usize,
    /// Packet to be decoded next; `None` before the first one of an edit.
    next: Option<usize>,
}

impl Mp4Sound {
    /// Opens a track; `None` if it is neither AAC-LC nor Opus with one or two channels. HE-AAC is neither: the decoder
    /// would give only the lower half of its frequencies.
    pub(crate) fn new(file: File, track: Mp4Track) -> Option<Self> {
        let (decoder, rate) = PacketDecoder::new(track.coding)?;
        Some(Self {
            file,
            samples: track.samples,
            edits: track.edits,
            units_per_second: track.units_per_second.max(1),
            rate,
            decoder,
            edit_idx: 0,
            next: None,
        })
    }

    /// Returns the rate of the sound, samples per second.
    pub(crate) fn rate(&self) -> u32 {
        self.rate
    }

    /// Decodes the next packet; `None` after the last one. A damaged packet is replaced by silence.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Piece>, ReadError> {
        while let Some(edit) = self.edits.get(self.edit_idx).copied() {
            let (start, end) =
                (self.to_samples(edit.media_start), self.to_samples(edit.media_end()));
            let packet_idx = match self.next {
                Some(idx) => idx,
                None => self.enter(start)?,
            };
            let Some(sample) = self.samples.get(packet_idx).copied() else {
                self.leave();
                continue;
            };
            let packet_start = self.to_samples(sample.shown_at);
            if packet_start >= end {
                self.leave();
                continue;
            }
            self.next = Some(packet_idx + 1);
            let Some(mut samples) = self.decode(sample)? else {
                // The video track reports that the clip is cut short; sound just ends.
                self.edits.clear();
                continue;
            };
            let n_after = (packet_start + samples.len() as i64).saturating_sub(end).max(0);
            samples.truncate(samples.len().saturating_sub(n_after as usize));
            let n_before = start.saturating_sub(packet_start).clamp(0, samples.len() as i64);
            samples.drain(..n_before as usize);
            let at = packet_start.max(start).saturating_sub(start);
            let at = self.to_samples(edit.shown_at).saturating_add(at);
            return Ok(Some(Piece { at, samples }));
        }
        Ok(None)
    }

    /// Returns the packet with which a part begins at `start`. Those before it are decoded too: the first samples
    /// need them.
    fn enter(&mut self, start: i64) -> Result<usize, ReadError> {
        let (n_samples, n_lead) = self.decoder.reach();
        let ends_before = |sample: &Mp4Sample| {
            self.to_samples(sample.shown_at).saturating_add(n_samples as i64) <= start
        };
        let first = self.samples.partition_point(ends_before);
        let lead = self.samples[first.saturating_sub(n_lead)..first].to_vec();
        if !lead.is_empty() {
            self.decoder.reset();
        }
        for before in lead {
            self.decode(before)?;
        }
        Ok(first)
    }

    fn leave(&mut self) {
        self.edit_idx += 1;
        self.next = None;
    }

    /// Decodes a packet to mono samples; `None` if the file ends before it does.
    fn decode(&mut self, sample: Mp4Sample) -> Result<Option<Vec<f32>>, ReadError> {
        let mut bytes = Vec::new();
        if !read_sample(&mut self.file, sample, &mut bytes)? {
            return Ok(None);
        }
        Ok(Some(self.decoder.decode(&bytes)))
    }

    /// Converts units of the track to samples.
    fn to_samples(&self, units: i64) -> i64 {
        let samples = i128::from(units) * i128::from(self.rate) / i128::from(self.units_per_second);
        samples.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }
}

/// Returns whether an `AudioSpecificConfig` (ISO/IEC 14496-3, section 1.6.2) is that of AAC-LC without the bandwidth
/// extension of HE-AAC.
fn is_low_complexity(config: &[u8]) -> bool {
    // The extension is announced behind the rest, where old decoders overlook it, and may be announced as absent.
    let announces = |b: &[u8]| b[0] == 0x56 && b[1] == 0xE5 && b[2] & 0x80 != 0;
    let is_extended = config.windows(3).skip(2).any(announces);
    config.first().is_some_and(|first| first >> 3 == 2) && !is_extended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_low_complexity_is_decoded_here() {
        for (config, is_plain) in [
            // 48 kHz, two channels; with the extension announced as absent, and as present.
            (&[0x11, 0x90][..], true),
            (&[0x11, 0x90, 0x56, 0xE5, 0x00], true),
            (&[0x13, 0x10, 0x56, 0xE5, 0x9D, 0x48, 0x80], false),
            // HE-AAC, and its second version.
            (&[0x2B, 0x11, 0x88, 0x00], false),
            (&[0xEB, 0x09, 0x88, 0x00], false),
            (&[], false),
        ] {
            assert_eq!(is_low_complexity(config), is_plain, "{config:x?}");
        }
    }
}
