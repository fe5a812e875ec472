//! Sound files in place of microphones and speakers.

use std::f32::consts::TAU;
use std::path::Path;

/// Audio samples per second.
pub(super) const RATE: usize = 48_000;
/// Samples are compared at a lower rate, of which this many make one.
const DECIMATION: usize = 8;

/// Returns something like a voice without a pause. Its pitch wanders about `pitch_hz` and never repeats
/// itself.
pub(super) fn voice(pitch_hz: f32, seconds: usize) -> Vec<f32> {
    let mut phase = 0.0_f32;
    let sample = |n: usize| {
        let t = n as f32 / RATE as f32;
        let wander = (t * 7.0).sin() + (t * 4.3 + 0.05 * t * t).sin();
        phase = (phase + pitch_hz * (1.0 + 0.1 * wander) / RATE as f32).fract();
        let syllable = 0.6 + 0.35 * (t * 21.0).sin();
        let tones = (1..8).map(|k| (TAU * phase * k as f32).sin() / k as f32);
        0.15 * syllable * tones.sum::<f32>()
    };
    (0..seconds * RATE).map(sample).collect()
}

/// Writes a file for `--microphone`.
pub(super) fn write(path: &Path, samples: &[f32]) -> anyhow::Result<()> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE as u32,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec)?;
    for sample in samples {
        writer.write_sample((sample * f32::from(i16::MAX)) as i16)?;
    }
    Ok(writer.finalize()?)
}

/// Reads a file of `--speaker`.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<f32>> {
    let samples = hound::WavReader::open(path)?.into_samples::<i16>();
    samples.map(|sample| Ok(f32::from(sample?) / f32::from(i16::MAX))).collect()
}

/// Returns the durations of the pauses of a sound between its beginning and its end, milliseconds:
/// blocks of 10 ms that nobody would hear. The first and the last second are left out.
pub(super) fn pauses_ms(samples: &[f32]) -> Vec<usize> {
    let power = |block: &[f32]| block.iter().map(|s| s * s).sum::<f32>() / block.len() as f32;
    let silent = samples.chunks_exact(RATE / 100).map(|block| power(block) < 1e-6);
    let silent: Vec<bool> = silent.collect();
    let first = silent.iter().position(|is_silent| !is_silent).unwrap_or(silent.len()) + 100;
    let last = silent.iter().rposition(|is_silent| !is_silent).unwrap_or(0).saturating_sub(100);
    let blocks = silent.get(first..last).unwrap_or_default();
    let pauses = blocks.chunk_by(|a, b| a == b).filter(|run| run[0]);
    pauses.map(|run| 10 * run.len()).collect()
}

/// Returns how much later `said` is in `heard`, milliseconds: the median over all seconds that are found;
/// `None` if none is. At most a second is looked for.
pub(super) fn delay_ms(said: &[f32], heard: &[f32]) -> Option<f64> {
    let coarse = |samples: &[f32]| -> Vec<f32> {
        samples.chunks_exact(DECIMATION).map(|s| s.iter().sum::<f32>()).collect()
    };
    let (said, heard) = (coarse(said), coarse(heard));
    let second = RATE / DECIMATION;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let mut delays = Vec::new();
    for start in (second..said.len().saturating_sub(second)).step_by(second) {
        let part = &said[start..start + second];
        let best = (0..second)
            .filter_map(|delay| {
                let there = heard.get(start + delay..start + delay + second)?;
                let power = dot(part, part) * dot(there, there);
                Some((dot(part, there) / power.sqrt().max(1e-6), delay))
            })
            .max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((likeness, delay)) = best
            && likeness > 0.4
        {
            delays.push(delay);
        }
    }
    delays.sort_unstable();
    let median = delays.get(delays.len() / 2)?;
    Some(1000.0 * *median as f64 / second as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_and_a_pause_are_found() {
        let said = voice(130.0, 4);
        let mut heard = vec![0.0; RATE / 5];
        heard.extend(&said);
        let delay = delay_ms(&said, &heard).unwrap();
        assert!((delay - 200.0).abs() < 0.5, "{delay}");
        assert!(pauses_ms(&heard).is_empty());
        heard[2 * RATE..2 * RATE + RATE / 10].fill(0.0);
        assert_eq!(pauses_ms(&heard), [100]);
        assert_eq!(delay_ms(&said, &voice(220.0, 4)), None);
    }
}
