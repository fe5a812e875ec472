use numerics::hash;
use types::{MediaTime, Sound};

use crate::noise::uniform;
use crate::phoneme::{self, STRETCH_S, Segment};

/// Longest decay of a grain, seconds.
const RING_S: f64 = 0.03;
/// Audio samples between two grains of frication noise.
const FRICATION_EVERY: u64 = 6;
const BANDWIDTHS_HZ: [f32; 4] = [75.0, 95.0, 130.0, 220.0];
const FOURTH_FORMANT_HZ: f32 = 3500.0;
const GAINS: [f32; 4] = [1.0, 0.55, 0.32, 0.14];

/// Synthesizes speech, mono at [`Sound::RATE`], -1..=1, from the audio sample at or before `from`.
///
/// Formant-wave-function synthesis: every glottal pulse and every grain of frication noise starts a
/// few decaying sinusoids at the current formants. No filter has a memory, so any interval can be
/// synthesized, and adjacent intervals join exactly.
///
/// # Source
/// Rodet 1984, "Time-domain formant-wave-function synthesis".
pub(crate) fn voice(seed: u64, from: MediaTime, samples: usize) -> Vec<f32> {
    let first = first_sample(from);
    let rate = f64::from(Sound::RATE);
    let (start_s, end_s) = (first as f64 / rate, (first + samples as u64) as f64 / rate);
    let mut out = vec![0.0_f32; samples];
    let stretches = ((start_s - RING_S).max(0.0) / STRETCH_S) as u64..=(end_s / STRETCH_S) as u64;
    for stretch in stretches {
        let spoken = phoneme::segments(seed, stretch);
        let (Some(begin), Some(end)) = (spoken.first(), spoken.last()) else { continue };
        let (begin, end) = (begin.start_s, end.end_s);
        if begin > end_s || end + RING_S < start_s {
            continue;
        }
        let tone = Tone { seed, stretch, begin, length: end - begin };
        add_pulses(&mut out, first, &spoken, &tone);
        add_frication(&mut out, first, &spoken, (begin, end), seed);
    }
    for sample in &mut out {
        // Soft clipping of loud vowels.
        *sample = (*sample * 0.5).tanh();
    }
    out
}

fn first_sample(from: MediaTime) -> u64 {
    (u128::from(from.as_micros()) * u128::from(Sound::RATE) / 1_000_000) as u64
}

/// Intonation of a phrase: falling pitch with a slow modulation.
struct Tone {
    seed: u64,
    stretch: u64,
    begin: f64,
    length: f64,
}

impl Tone {
    /// Returns the number of glottal pulses since the phrase began.
    fn cycles(&self, s: f64) -> f64 {
        const WAVE_HZ: f64 = 1.7;
        let base_hz = 104.0 + 18.0 * f64::from(uniform(self.seed ^ 0x91, self.stretch));
        let x = s - self.begin;
        let turn = std::f64::consts::TAU * WAVE_HZ;
        base_hz
            * (1.14 * x - 0.13 * x * x / self.length.max(0.1)
                + 0.07 * (1.0 - (turn * x).cos()) / turn)
    }

    /// Returns the time of pulse `n`, by bisection.
    fn pulse_s(&self, n: u64) -> f64 {
        let (mut low, mut high) = (self.begin, self.begin + self.length + 1.0);
        for _ in 0..48 {
            let middle = 0.5 * (low + high);
            if self.cycles(middle) < n as f64 { low = middle } else { high = middle }
        }
        high
    }
}

/// Formants and amplitudes at one time, blended over adjacent phonemes.
struct Tract {
    formants_hz: [f32; 3],
    voiced: f32,
    noise: f32,
    noise_hz: f32,
}

fn tract(spoken: &[Segment], s: f64) -> Tract {
    let mut sum = Tract { formants_hz: [0.0; 3], voiced: 0.0, noise: 0.0, noise_hz: 0.0 };
    let (mut weights, mut noise_weights) = (0.0, 0.0);
    for segment in spoken {
        let glide = phoneme::share(segment, s, 0.045);
        if glide > 0.0 {
            weights += glide;
            for (f, p) in sum.formants_hz.iter_mut().zip(segment.phoneme.formants_hz) {
                *f += glide * p;
            }
        }
        let near = phoneme::share(segment, s, 0.02);
        sum.voiced += near * segment.phoneme.voiced;
        let hiss = near * segment.phoneme.noise;
        sum.noise += hiss;
        sum.noise_hz += hiss * segment.phoneme.noise_hz;
        noise_weights += hiss;
    }
    if weights > 0.0 {
        sum.formants_hz.iter_mut().for_each(|f| *f /= weights);
    }
    if noise_weights > 0.0 {
        sum.noise_hz /= noise_weights;
    }
    sum
}

fn add_pulses(out: &mut [f32], first: u64, spoken: &[Segment], tone: &Tone) {
    let rate = f64::from(Sound::RATE);
    let (start_s, end_s) = (first as f64 / rate, (first + out.len() as u64) as f64 / rate);
    let from = tone.cycles((start_s - RING_S).clamp(tone.begin, tone.begin + tone.length));
    let to = tone.cycles(end_s.clamp(tone.begin, tone.begin + tone.length));
    for n in from.floor() as u64..=to.ceil() as u64 {
        let s = tone.pulse_s(n);
        if s > tone.begin + tone.length {
            break;
        }
        let tract = tract(spoken, s);
        if tract.voiced < 1e-4 {
            continue;
        }
        let [f1, f2, f3] = tract.formants_hz;
        for ((hz, bandwidth), gain) in
            [f1, f2, f3, FOURTH_FORMANT_HZ].into_iter().zip(BANDWIDTHS_HZ).zip(GAINS)
        {
            ring(out, first, s, hz, bandwidth, 0.8 * gain * tract.voiced, RING_S);
        }
    }
}

fn add_frication(out: &mut [f32], first: u64, spoken: &[Segment], span: (f64, f64), seed: u64) {
    const HISS_RING_S: f64 = 0.0025;
    let rate = f64::from(Sound::RATE);
    let start_s = (first as f64 / rate - HISS_RING_S).max(span.0);
    let end_s = ((first + out.len() as u64) as f64 / rate).min(span.1);
    if end_s <= start_s {
        return;
    }
    let cells = (start_s * rate) as u64 / FRICATION_EVERY..=(end_s * rate) as u64 / FRICATION_EVERY;
    let mut now = tract(spoken, start_s);
    for (i, cell) in cells.enumerate() {
        let s = (cell * FRICATION_EVERY) as f64 / rate;
        // Indexed by the cell, so that intervals agree; 1 ms is finer than the blend.
        if i == 0 || cell.is_multiple_of(8) {
            now = tract(spoken, (cell / 8 * 8 * FRICATION_EVERY) as f64 / rate);
        }
        if now.noise > 1e-4 && s >= span.0 && s < span.1 {
            let kick = uniform(seed ^ 0x92, hash(0x93, cell)) * 2.0 - 1.0;
            let hz = now.noise_hz * (0.8 + 0.4 * uniform(seed ^ 0x94, cell));
            ring(out, first, s, hz, 1100.0, 0.22 * kick * now.noise, HISS_RING_S);
        }
    }
}

/// Adds a decaying sinusoid that starts at `s` seconds and fades out `length` seconds later.
fn ring(out: &mut [f32], first: u64, s: f64, hz: f32, bandwidth: f32, gain: f32, length: f64) {
    const ATTACK_S: f32 = 0.0004;
    let rate = f64::from(Sound::RATE);
    let begin = (s * rate).ceil() as u64;
    let end = ((s + length) * rate) as u64;
    let (from, to) = (begin.max(first), end.min(first + out.len() as u64));
    if from >= to {
        return;
    }
    let step = std::f32::consts::TAU * hz / rate as f32;
    let decay = (-std::f32::consts::PI * bandwidth / rate as f32).exp();
    let (turn_sin, turn_cos) = (step.sin() * decay, step.cos() * decay);
    // The phase is relative to the start of the grain, so that intervals agree.
    let lead = (begin as f64 - s * rate) as f32;
    let (mut sin, mut cos) = ((lead * step).sin(), (lead * step).cos());
    for index in begin..to {
        if index >= from {
            let t = ((index - begin) as f32 + lead) / rate as f32;
            let attack = (t / ATTACK_S).min(1.0);
            let fade = (1.0 - t / length as f32).max(0.0);
            out[(index - first) as usize] += gain * sin * attack * fade;
        }
        (sin, cos) = (sin * turn_cos + cos * turn_sin, cos * turn_cos - sin * turn_sin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_intervals_join_exactly() {
        let whole = voice(7, MediaTime::from_micros(600_000), 48_000);
        for (i, part) in whole.chunks(960).enumerate() {
            let from = MediaTime::from_micros(600_000 + i as u64 * 20_000);
            let chunk = voice(7, from, 960);
            for (a, b) in part.iter().zip(&chunk) {
                assert!((a - b).abs() < 1e-6, "chunk {i}");
            }
        }
    }

    #[test]
    fn the_voice_sounds_during_phrases_only() {
        for stretch in 0..8_u64 {
            let start = MediaTime::from_micros(stretch * 6_000_000);
            let sound = voice(7, start, 6 * 48_000);
            assert!(sound.iter().all(|v| v.abs() <= 1.0));
            let spoken = phoneme::segments(7, stretch);
            let at = |s: f64| ((s - stretch as f64 * STRETCH_S) * 48_000.0) as usize;
            for segment in spoken.iter().filter(|s| s.phoneme.voiced > 0.8) {
                let part = &sound[at(segment.start_s)..at(segment.end_s)];
                let rms = (part.iter().map(|v| v * v).sum::<f32>() / part.len() as f32).sqrt();
                assert!(rms > 0.02 && rms < 0.5, "rms {rms} at {} s", segment.start_s);
            }
            let (begin, end) = match (spoken.first(), spoken.last()) {
                (Some(first), Some(last)) => (at(first.start_s), at(last.end_s + RING_S) + 1),
                _ => (sound.len(), sound.len()),
            };
            assert!(sound[..begin].iter().chain(&sound[end..]).all(|&v| v == 0.0));
        }
    }
}
