//! How loud sound is, and whether it is speech.

use sonora_agc2::vad_wrapper::VoiceActivityDetectorWrapper;
use types::Sound;

use crate::played::BLOCK;

/// Level of silence, the lowest that is reported.
const SILENCE_DBFS: f32 = -100.0;
/// Probability from which 10 ms are speech.
const SPEECH_PROBABILITY: f32 = 0.8;
/// Blocks of 10 ms for which speech lasts at least, so that it does not end between syllables.
const SPEECH_BLOCKS: u32 = 20;

/// Loudness of some sound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Root mean square, decibels below a square wave of full scale, in -100..=0.
    pub rms_dbfs: f32,
    /// Largest sample, decibels below full scale, in -100..=0.
    pub peak_dbfs: f32,
    /// Whether somebody is speaking, or was within the last 200 ms.
    pub is_speech: bool,
}

/// Level meter with a detector of speech.
///
/// # Source
/// The recurrent network of WebRTC's AGC2 that tells speech from noise, in the crate `sonora-agc2`.
pub struct LevelMeter {
    detector: VoiceActivityDetectorWrapper,
    /// Samples that do not fill 10 ms yet, in -32768..=32767.
    pending: Vec<f32>,
    n_speech_blocks: u32,
}

impl LevelMeter {
    /// Makes a meter for sound at 48 kHz.
    pub fn new() -> Self {
        let backend = sonora_simd::detect_backend();
        Self {
            detector: VoiceActivityDetectorWrapper::new(backend, Sound::RATE as i32),
            pending: Vec::with_capacity(BLOCK),
            n_speech_blocks: 0,
        }
    }

    /// Measures the next samples, any number of them.
    pub fn push(&mut self, samples: &[f32]) -> Level {
        for sample in samples {
            self.pending.push(sample * 32_768.0);
            if self.pending.len() == BLOCK {
                let is_speech = self.detector.analyze(&self.pending) >= SPEECH_PROBABILITY;
                let left = self.n_speech_blocks.saturating_sub(1);
                self.n_speech_blocks = if is_speech { SPEECH_BLOCKS } else { left };
                self.pending.clear();
            }
        }
        let power = samples.iter().map(|s| s * s).sum::<f32>() / samples.len().max(1) as f32;
        let peak = samples.iter().fold(0.0_f32, |peak, s| peak.max(s.abs()));
        Level {
            rms_dbfs: (10.0 * power.log10()).clamp(SILENCE_DBFS, 0.0),
            peak_dbfs: (20.0 * peak.log10()).clamp(SILENCE_DBFS, 0.0),
            is_speech: self.n_speech_blocks > 0,
        }
    }
}

impl Default for LevelMeter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(amplitude: f32) -> Vec<f32> {
        let sample = |i: usize| (std::f32::consts::TAU * 1000.0 * i as f32 / 48_000.0).sin();
        (0..BLOCK).map(|i| amplitude * sample(i)).collect()
    }

    #[test]
    fn levels_are_relative_to_full_scale() {
        let mut meter = LevelMeter::new();
        for (samples, rms_dbfs, peak_dbfs) in [
            (vec![0.0; BLOCK], -100.0, -100.0),
            (vec![1.0; BLOCK], 0.0, 0.0),
            (vec![2.0; BLOCK], 0.0, 0.0),
            (tone(1.0), -3.01, 0.0),
            (tone(0.1), -23.01, -20.0),
            (Vec::new(), -100.0, -100.0),
        ] {
            let level = meter.push(&samples);
            let off = (level.rms_dbfs - rms_dbfs).abs().max((level.peak_dbfs - peak_dbfs).abs());
            assert!(off < 0.02, "{level:?}");
        }
    }

    #[test]
    fn a_voice_is_speech_and_silence_and_noise_are_not() {
        let mut meter = LevelMeter::new();
        let mut seed = 1_u32;
        let mut noise = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed as f32 / u32::MAX as f32 * 0.02 - 0.01
        };
        let quiet: Vec<f32> = (0..48_000).map(|_| noise()).collect();
        let mut share = |samples: &[f32]| {
            let levels = samples.chunks_exact(BLOCK).map(|block| meter.push(block).is_speech);
            levels.filter(|is_speech| *is_speech).count() as f32 / (samples.len() / BLOCK) as f32
        };
        assert!(share(&quiet) < 0.1);
        let spoken: Vec<f32> =
            crate::speech::speech(3).into_iter().flat_map(|s| s.samples).collect();
        let spoken = share(&spoken);
        assert!(spoken > 0.8, "{spoken}");
        share(&quiet);
        assert_eq!(share(&vec![0.0; 48_000]), 0.0);
    }
}
