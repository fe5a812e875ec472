//! AAC-LC sound of MP4 clips, mono or stereo.

use std::fs::File;

use symphonia_codec_aac::AacDecoder;
use symphonia_core::codecs::audio::well_known::CODEC_ID_AAC;
use symphonia_core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia_core::packet::PacketRef;
use symphonia_core::units::{Duration as Units, Timestamp};

use crate::errors::ReadError;
use crate::mp4::Edit;
use crate::mp4::read_sample;
use crate::mp4::{Coding, Mp4Sample, Mp4Track};
use crate::sound::line::Piece;

/// Samples per AAC-LC packet.
const PACKET_SAMPLES: i64 = 1024;

/// Decoder of one sound track, which plays the parts that the edit list names.
pub(crate) struct AacSound {
    file: File,
    samples: Vec<Mp4Sample>,
    edits: Vec<Edit>,
    units_per_second: u32,
    rate: u32,
    decoder: AacDecoder,
    /// Edit that is being played.
    edit_idx: usize,
    /// Packet to be decoded next; `None` before the first one of an edit.
    next: Option<usize>,
}

impl AacSound {
    /// Opens a track; `None` if it is not AAC-LC with one or two channels. HE-AAC is not either, of which the
    /// decoder would give only the lower half of the frequencies.
    pub(crate) fn new(file: File, track: Mp4Track) -> Option<Self> {
        let Coding::Aac { specific_config } = track.coding else { return None };
        if !is_low_complexity(&specific_config) {
            return None;
        }
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(CODEC_ID_AAC).with_extra_data(specific_config.into_boxed_slice());
        let decoder = AacDecoder::try_new(&parameters, &AudioDecoderOptions::default()).ok()?;
        let rate = decoder.codec_params().sample_rate.filter(|r| (8000..=192_000).contains(r))?;
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

    /// Returns the packet with which a part begins at `start`. The one before it is decoded too: the first samples
    /// of a packet need it.
    fn enter(&mut self, start: i64) -> Result<usize, ReadError> {
        let ends_before = |sample: &Mp4Sample| {
            self.to_samples(sample.shown_at).saturating_add(PACKET_SAMPLES) <= start
        };
        let first = self.samples.partition_point(ends_before);
        if let Some(before) = first.checked_sub(1).and_then(|idx| self.samples.get(idx)).copied() {
            self.decoder.reset();
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
        let packet =
            PacketRef::new(0, Timestamp::new(0), Units::new(PACKET_SAMPLES as u64), &bytes);
        let mut channels: Vec<Vec<f32>> = Vec::new();
        if let Ok(decoded) = self.decoder.decode_ref(&packet) {
            decoded.copy_to_vecs_planar(&mut channels);
        }
        let mut mono = vec![0.0; channels.first().map_or(PACKET_SAMPLES as usize, Vec::len)];
        let share = 1.0 / channels.len().max(1) as f32;
        for channel in &channels {
            mono.iter_mut().zip(channel).for_each(|(sum, sample)| *sum += sample * share);
        }
        Ok(Some(mono))
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
