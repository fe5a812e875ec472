//! A synthetic voice for tests.

use types::{MediaTime, Sound};

/// Something like a voice, in blocks of 20 ms: its pitch varies, and four syllables a second begin
/// and end. A steady tone would pass for noise.
pub(crate) fn speech(seconds: usize) -> Vec<Sound> {
    let sample = |n: usize| {
        let t = n as f32 / 48_000.0;
        let phase = std::f32::consts::TAU * 140.0 * t + 4.0 * (t * 25.0).sin();
        let loudness = 0.5 - 0.5 * (std::f32::consts::TAU * 4.0 * t).cos();
        (1..6).map(|k| (phase * k as f32).sin() / k as f32).sum::<f32>() * 0.3 * loudness
    };
    (0..50 * seconds)
        .map(|block| Sound {
            time: MediaTime::from_micros(block as u64 * 20_000),
            samples: (block * 960..(block + 1) * 960).map(sample).collect(),
        })
        .collect()
}

/// Returns the mean square of the samples.
pub(crate) fn power(samples: &[f32]) -> f32 {
    samples.iter().map(|v| v * v).sum::<f32>() / samples.len() as f32
}
