//! Removes what the speaker plays from what the microphone captures.

use std::time::Duration;

use sonora::high_pass_filter::HighPassFilter;
use sonora::three_band_filter_bank::ThreeBandFilterBank;
use sonora_aec3::block::Block;
use sonora_aec3::block_framer::BlockFramer;
use sonora_aec3::block_processor::BlockProcessor;
use sonora_aec3::config::{EchoCanceller3Config, MaskingThresholds};
use sonora_aec3::frame_blocker::FrameBlocker;
use types::Sound;

use crate::played::BLOCK;

/// Frequency bands of 8 kHz that AEC3 works on, and their samples in 10 ms.
const BANDS: usize = 3;
const BAND_SAMPLES: usize = BLOCK / BANDS;
/// Samples of a band that AEC3 takes at a time.
const PART_SAMPLES: usize = BAND_SAMPLES / 2;
/// Longest delay that AEC3 is told.
const MAX_DELAY_MS: u128 = 500;
/// Level of full scale in AEC3.
const FULL_SCALE: f32 = 32_768.0;
/// Level from which a microphone is overdriven.
const SATURATED: f32 = 32_700.0;

/// One channel of sound in bands, as AEC3 takes it: `[band][channel][sample]`.
type Bands = Vec<Vec<Vec<f32>>>;

/// Echo canceller for one microphone and one speaker, 10 ms at a time.
///
/// # Source
/// AEC3 of WebRTC, in the crate `sonora-aec3`, fed as the crate `sonora` feeds it, which has the
/// standard tuning only: see [`tuning`].
pub(crate) struct EchoCanceller {
    processor: BlockProcessor,
    played: BandSplitter,
    captured: BandSplitter,
    high_pass: HighPassFilter,
    framer: BlockFramer,
    block: Block,
    part: Bands,
}

impl EchoCanceller {
    /// Makes an echo canceller that does not know the room yet.
    pub(crate) fn new() -> Self {
        Self {
            processor: BlockProcessor::new(&tuning(), Sound::RATE as usize, 1, 1),
            played: BandSplitter::new(),
            captured: BandSplitter::new(),
            high_pass: HighPassFilter::new(Sound::RATE as i32, 1),
            framer: BlockFramer::new(BANDS, 1),
            block: Block::new(BANDS, 1),
            part: vec![vec![vec![0.0; PART_SAMPLES]]; BANDS],
        }
    }

    /// Takes what the speaker is given to play.
    pub(crate) fn render(&mut self, samples: &[f32; BLOCK]) {
        self.played.split(&samples.map(|s| s * FULL_SCALE));
        for part_idx in 0..2 {
            self.played.take_block(part_idx, &mut self.block);
            self.processor.buffer_render(&self.block);
        }
        if self.played.blocker.is_block_available() {
            self.played.blocker.extract_block(&mut self.block);
            self.processor.buffer_render(&self.block);
        }
    }

    /// Removes the echo from what the microphone has captured. `delay` is how long it takes at least
    /// until what was played comes here; the rest of the delay is found.
    pub(crate) fn capture(&mut self, samples: &mut [f32; BLOCK], delay: Duration) {
        self.processor.set_audio_buffer_delay(delay.as_millis().min(MAX_DELAY_MS) as i32);
        let mut scaled = vec![samples.iter().map(|s| s * FULL_SCALE).collect::<Vec<f32>>()];
        let is_saturated = scaled[0].iter().any(|s| s.abs() >= SATURATED);
        self.high_pass.process_channels(&mut scaled);
        let mut input = [0.0; BLOCK];
        input.copy_from_slice(&scaled[0]);
        self.captured.split(&input);
        let mut cleaned = [[0.0; BAND_SAMPLES]; BANDS];
        for (part_idx, at) in [0, PART_SAMPLES].into_iter().enumerate() {
            self.captured.take_block(part_idx, &mut self.block);
            self.processor.process_capture(false, is_saturated, None, &mut self.block);
            self.framer.insert_block_and_extract_sub_frame(&self.block, &mut self.part);
            for (band, part) in cleaned.iter_mut().zip(&self.part) {
                band[at..at + PART_SAMPLES].copy_from_slice(&part[0]);
            }
        }
        if self.captured.blocker.is_block_available() {
            self.captured.blocker.extract_block(&mut self.block);
            self.processor.process_capture(false, is_saturated, None, &mut self.block);
            self.framer.insert_block(&self.block);
        }
        self.captured.bank.synthesis(&cleaned, samples);
        for sample in samples {
            *sample = (*sample / FULL_SCALE).clamp(-1.0, 1.0);
        }
    }
}

/// Returns the tuning: a filter of 160 ms instead of 52 ms, so that less of the reverberation of a room
/// is left to the suppressor, and a suppressor that takes less of a voice that talks into the echo.
///
/// docs/lab/2026-12-01-echo.md has the measurements.
fn tuning() -> EchoCanceller3Config {
    let mut config = EchoCanceller3Config::default();
    config.filter.refined.length_blocks = 40;
    config.filter.coarse.length_blocks = 40;
    let masks = |mask: &mut MaskingThresholds, transparent, suppress| {
        (mask.enr_transparent, mask.enr_suppress) = (transparent, suppress);
    };
    let suppressor = &mut config.suppressor;
    masks(&mut suppressor.normal_tuning.mask_lf, 0.8, 1.0);
    masks(&mut suppressor.normal_tuning.mask_hf, 0.3, 0.4);
    masks(&mut suppressor.nearend_tuning.mask_lf, 10.0, 12.0);
    masks(&mut suppressor.nearend_tuning.mask_hf, 6.0, 8.0);
    let detection = &mut suppressor.dominant_nearend_detection;
    detection.enr_threshold = 1.0;
    detection.snr_threshold = 10.0;
    detection.trigger_threshold = 4;
    config
}

/// Cuts sound into bands, and these into the blocks of AEC3.
struct BandSplitter {
    bank: ThreeBandFilterBank,
    bands: [[f32; BAND_SAMPLES]; BANDS],
    blocker: FrameBlocker,
}

impl BandSplitter {
    fn new() -> Self {
        Self {
            bank: ThreeBandFilterBank::new(),
            bands: [[0.0; BAND_SAMPLES]; BANDS],
            blocker: FrameBlocker::new(BANDS, 1),
        }
    }

    fn split(&mut self, samples: &[f32; BLOCK]) {
        self.bank.analysis(samples, &mut self.bands);
    }

    /// Adds the first or second half of what was split and takes a block.
    fn take_block(&mut self, part_idx: usize, block: &mut Block) {
        let at = part_idx * PART_SAMPLES;
        let part: Vec<Vec<&[f32]>> =
            self.bands.iter().map(|band| vec![&band[at..at + PART_SAMPLES]]).collect();
        self.blocker.insert_sub_frame_and_extract_block(&part, block);
    }
}
