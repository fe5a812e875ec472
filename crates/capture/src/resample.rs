//! Sample-rate conversion of a stream of mono sound.

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{
    Async, FixedAsync, Resampler as _, SincInterpolationParameters, SincInterpolationType,
    WindowFunction,
};

/// Length of the interpolation filter, input samples. Half of it is latency: 0.7 ms at 44.1 kHz.
const FILTER_SAMPLES: usize = 64;
/// Chunks the converter works on, per second of input: it adds up to 2 ms of latency.
const CHUNKS_PER_S: u32 = 500;

/// Converts mono sound from one sample rate to another, block by block.
///
/// Output sample `i` belongs to the time `i / to` of the input stream: there is no delay in the
/// signal. It becomes available 1 to 6 ms later, once the filter has seen the samples around it.
///
/// # Source
/// Windowed-sinc interpolation by the crate `rubato`.
pub(crate) struct Resampler {
    /// `None` at equal rates.
    converter: Option<Async<f32>>,
    /// Input samples that do not fill a chunk yet.
    pending: Vec<f32>,
    converted: Vec<f32>,
    /// Output samples before time zero still to be dropped.
    n_early: usize,
}

impl Resampler {
    /// Makes a converter from `from` to `to` samples per second, both positive.
    pub(crate) fn new(from: u32, to: u32) -> Self {
        let (pending, converted) = (Vec::new(), Vec::new());
        if from == to {
            return Self { converter: None, pending, converted, n_early: 0 };
        }
        let filter = SincInterpolationParameters::new(FILTER_SAMPLES, WindowFunction::Blackman2)
            .interpolation(SincInterpolationType::Linear)
            .oversampling_factor(256);
        let (ratio, n_chunk) = (f64::from(to) / f64::from(from), (from / CHUNKS_PER_S).max(1));
        let converter =
            Async::new_sinc(ratio, 1.0, &filter, n_chunk as usize, 1, FixedAsync::Input)
                .expect("the ratio is positive and the chunk is not empty");
        // The first output is one output step after half a filter before the first input. A lead of
        // silence that makes this a whole number of output steps puts a sample at time zero.
        let divisor = greatest_common_divisor(from, to);
        let (from_step, to_step) = ((from / divisor) as usize, (to / divisor) as usize);
        let n_lead = (FILTER_SAMPLES / 2).next_multiple_of(from_step);
        Self {
            pending: vec![0.0; n_lead - FILTER_SAMPLES / 2],
            converted: vec![0.0; converter.output_frames_max()],
            n_early: n_lead / from_step * to_step - 1,
            converter: Some(converter),
        }
    }

    /// Adds samples of any number and appends to `out` the converted samples that are complete.
    pub(crate) fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        let Some(converter) = &mut self.converter else {
            out.extend(samples);
            return;
        };
        self.pending.extend(samples);
        let (n_chunk, n_room) = (converter.input_frames_next(), self.converted.len());
        let mut chunks = self.pending.chunks_exact(n_chunk);
        for chunk in &mut chunks {
            let input = SequentialSlice::new(chunk, 1, n_chunk).expect("a chunk of one channel");
            let mut output = SequentialSlice::new_mut(&mut self.converted, 1, n_room)
                .expect("all of a buffer of one channel");
            let (_, n_converted) = converter
                .process_into_buffer(&input, &mut output, None)
                .expect("both buffers have the sizes that the converter asked for");
            let n_dropped = self.n_early.min(n_converted);
            self.n_early -= n_dropped;
            out.extend(&self.converted[n_dropped..n_converted]);
        }
        let n_left = chunks.remainder().len();
        self.pending.drain(..self.pending.len() - n_left);
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    /// Rates of microphones, clips and speakers.
    const RATES: [u32; 6] = [8_000, 16_000, 22_050, 44_100, 48_000, 96_000];

    fn tone(hz: f64, rate: u32, n: usize) -> Vec<f32> {
        (0..n).map(|i| (TAU * hz * i as f64 / f64::from(rate)).sin() as f32).collect()
    }

    fn converted(samples: &[f32], from: u32, to: u32, n_block: usize) -> Vec<f32> {
        let (mut resampler, mut out) = (Resampler::new(from, to), Vec::new());
        samples.chunks(n_block).for_each(|block| resampler.push(block, &mut out));
        out
    }

    #[test]
    fn a_tone_keeps_its_pitch_level_and_time_at_every_rate() {
        for (from, to) in RATES.map(|rate| (rate, 48_000)).into_iter().chain([(48_000, 44_100)]) {
            let got = converted(&tone(1000.0, from, from as usize / 2), from, to, 777);
            let want = tone(1000.0, to, got.len());
            // Half a filter from either end the tone is not cut off.
            let middle = 400..got.len() - 400;
            let worst = middle.map(|i| (got[i] - want[i]).abs()).fold(0.0, f32::max);
            // A hundredth of an input sample early or late.
            let tolerance = (TAU * 1000.0 / f64::from(from) / 100.0) as f32;
            assert!(worst < tolerance, "{from} to {to}: {worst}, not {tolerance}");
        }
    }

    #[test]
    fn a_frequency_the_lower_rate_cannot_hold_is_removed() {
        let got = converted(&tone(15_000.0, 48_000, 24_000), 48_000, 16_000, 960);
        let loudest = got[200..].iter().map(|v| v.abs()).fold(0.0, f32::max);
        // Below -80 dB.
        assert!(loudest < 1e-4, "{loudest}");
    }

    #[test]
    fn samples_come_out_within_six_milliseconds() {
        for from in RATES {
            for n_ms in [10, 200] {
                let samples = vec![0.0; (from / 1000 * n_ms) as usize];
                let n_ms_out = converted(&samples, from, 48_000, 480).len() / 48;
                assert!(n_ms_out <= n_ms as usize && n_ms as usize - n_ms_out <= 6, "{from}");
            }
        }
    }

    #[test]
    fn the_size_of_blocks_changes_nothing() {
        let samples = tone(440.0, 44_100, 4410);
        let whole = converted(&samples, 44_100, 48_000, samples.len());
        assert_eq!(converted(&samples, 44_100, 48_000, 1), whole);
    }
}
