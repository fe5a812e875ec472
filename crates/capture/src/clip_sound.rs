//! Sound of MP4 clips: AAC-LC, converted to mono at 48 kHz.

use std::collections::VecDeque;
use std::fs::File;
use std::time::Duration;

use symphonia_codec_aac::AacDecoder;
use symphonia_core::codecs::audio::well_known::CODEC_ID_AAC;
use symphonia_core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia_core::packet::PacketRef;
use symphonia_core::units::{Duration as Units, Timestamp};
use types::{MediaTime, Sound};

use crate::SOUND_SAMPLES;
use crate::edit_list::Edit;
use crate::errors::ReadError;
use crate::mp4_reader::read_sample;
use crate::mp4_track::{Coding, Mp4Sample, Mp4Track};
use crate::resample::Resampler;

/// Samples per AAC-LC packet.
const PACKET_SAMPLES: usize = 1024;

/// Reader of one sound track, 20 ms at a time.
pub(crate) struct ClipSound {
    file: File,
    samples: Vec<Mp4Sample>,
    decoder: AacDecoder,
    resampler: Resampler,
    /// Decoded samples still to skip: encoder delay, as given by the edit list.
    n_skipped: usize,
    n_read: usize,
    ready: VecDeque<f32>,
    n_sounds: u32,
}

impl ClipSound {
    /// Opens a track; `None` if it is not AAC-LC with one or two channels.
    pub(crate) fn new(file: File, track: Mp4Track) -> Option<Self> {
        let Coding::Aac { specific_config } = track.coding else { return None };
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(CODEC_ID_AAC).with_extra_data(specific_config.into_boxed_slice());
        let decoder = AacDecoder::try_new(&parameters, &AudioDecoderOptions::default()).ok()?;
        let rate = decoder.codec_params().sample_rate.filter(|r| (8000..=192_000).contains(r))?;
        let edit = track.edits.first().copied().unwrap_or(Edit::WHOLE);
        let skipped = (edit.media_start.max(0) as u64).saturating_mul(u64::from(rate));
        Some(Self {
            file,
            samples: track.samples,
            decoder,
            resampler: Resampler::new(rate, Sound::RATE),
            // At most a second: more would be an edit of the clip, which is ignored.
            n_skipped: (skipped / u64::from(track.units_per_second)).min(rate.into()) as usize,
            n_read: 0,
            ready: VecDeque::new(),
            n_sounds: 0,
        })
    }

    pub(crate) fn next_sound(&mut self) -> Result<Option<Sound>, ReadError> {
        while self.ready.len() < SOUND_SAMPLES {
            match self.samples.get(self.n_read) {
                Some(sample) => {
                    let sample = *sample;
                    self.read_packet(sample)?;
                }
                None if self.ready.is_empty() => return Ok(None),
                // The last 20 ms are padded with silence.
                None => self.ready.resize(SOUND_SAMPLES, 0.0),
            }
        }
        let time = MediaTime::ZERO + Duration::from_millis(20) * self.n_sounds;
        self.n_sounds += 1;
        Ok(Some(Sound { time, samples: self.ready.drain(..SOUND_SAMPLES).collect() }))
    }

    fn read_packet(&mut self, sample: Mp4Sample) -> Result<(), ReadError> {
        self.n_read += 1;
        let mut bytes = Vec::new();
        if !read_sample(&mut self.file, sample, &mut bytes)? {
            // The video track reports that the clip is cut short; sound just ends.
            self.n_read = self.samples.len();
            return Ok(());
        }
        let packet =
            PacketRef::new(0, Timestamp::new(0), Units::new(PACKET_SAMPLES as u64), &bytes);
        let mut channels: Vec<Vec<f32>> = Vec::new();
        if let Ok(decoded) = self.decoder.decode_ref(&packet) {
            decoded.copy_to_vecs_planar(&mut channels);
        }
        let mut mono = vec![0.0; channels.first().map_or(PACKET_SAMPLES, Vec::len)];
        let share = 1.0 / channels.len().max(1) as f32;
        for channel in &channels {
            mono.iter_mut().zip(channel).for_each(|(sum, sample)| *sum += sample * share);
        }
        let n_skipped = self.n_skipped.min(mono.len());
        self.n_skipped -= n_skipped;
        let mut out = Vec::new();
        self.resampler.push(&mono[n_skipped..], &mut out);
        self.ready.extend(out);
        Ok(())
    }
}
