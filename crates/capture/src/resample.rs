//! From one sampling rate to another, as the samples come.

use std::f64::consts::PI;

/// Input samples each side of an output sample, at equal rates.
const HALF_WIDTH: f64 = 16.0;
/// Steps of the kernel table between two input samples; values between are a straight line.
const PHASES: usize = 128;

/// Band-limited interpolation with a Blackman-windowed sinc.
///
/// # Source
/// J. O. Smith, "Digital Audio Resampling Home Page" (windowed-sinc interpolation).
pub(crate) struct Resampler {
    /// Input samples from one output sample to the next.
    step: f64,
    /// Place of the next output sample in `input`.
    at: f64,
    input: Vec<f32>,
    reach: usize,
    /// The kernel right of its centre, [`PHASES`] values an input sample; empty at equal rates.
    kernel: Vec<f32>,
}

impl Resampler {
    /// From `from` to `to` samples a second, both positive.
    pub(crate) fn new(from: u32, to: u32) -> Self {
        if from == to {
            return Self { step: 1.0, at: 0.0, input: Vec::new(), reach: 0, kernel: Vec::new() };
        }
        let step = f64::from(from) / f64::from(to);
        // Shrinking needs a lower cutoff, a little below half the rate.
        let cutoff = (1.0 / step).min(1.0) * 0.95;
        let half_width = HALF_WIDTH / cutoff;
        let reach = half_width.ceil() as usize;
        let kernel = (0..=reach * PHASES + PHASES)
            .map(|i| {
                let x = i as f64 / PHASES as f64;
                let window = if x < half_width {
                    let w = PI * x / half_width;
                    0.42 + 0.5 * w.cos() + 0.08 * (2.0 * w).cos()
                } else {
                    0.0
                };
                let t = PI * x * cutoff;
                let sinc = if t == 0.0 { 1.0 } else { t.sin() / t };
                (cutoff * sinc * window) as f32
            })
            .collect();
        // Silence before the first sample, so that it comes out without a delay.
        Self { step, at: reach as f64, input: vec![0.0; reach], reach, kernel }
    }

    /// Takes samples and appends the ones that are ready, about `16` input samples late.
    pub(crate) fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        if self.kernel.is_empty() {
            out.extend(samples);
            return;
        }
        self.input.extend(samples);
        while self.at as usize + self.reach < self.input.len() {
            let first = self.at as usize + 1 - self.reach;
            let taps = &self.input[first..=self.at as usize + self.reach];
            let sum = taps.iter().enumerate().map(|(i, sample)| {
                let x = ((first + i) as f64 - self.at).abs() * PHASES as f64;
                let (phase, t) = (x as usize, x.fract() as f32);
                sample * (self.kernel[phase] * (1.0 - t) + self.kernel[phase + 1] * t)
            });
            out.push(sum.sum());
            self.at += self.step;
        }
        let n_done = (self.at as usize + 1).saturating_sub(self.reach).min(self.input.len());
        self.input.drain(..n_done);
        self.at -= n_done as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f64, rate: u32, n: usize) -> Vec<f32> {
        (0..n).map(|i| (2.0 * PI * hz * i as f64 / f64::from(rate)).sin() as f32).collect()
    }

    #[test]
    fn a_tone_keeps_its_pitch_and_its_place_at_any_rate() {
        for rate in [8_000, 16_000, 44_100, 48_000, 96_000] {
            let mut resampler = Resampler::new(rate, 48_000);
            let mut got = Vec::new();
            for block in tone(1000.0, rate, rate as usize / 2).chunks(777) {
                resampler.push(block, &mut got);
            }
            assert!(got.len() > 23_000, "{rate}: {}", got.len());
            let want = tone(1000.0, 48_000, got.len());
            let middle = 400..got.len() - 400;
            let worst = middle.map(|i| (got[i] - want[i]).abs()).fold(0.0, f32::max);
            // The kernel's ripple and its table: below -50 dB.
            assert!(worst < 3e-3, "{rate}: {worst}");
        }
    }
}
