//! A simulated room with a speaker, a microphone and somebody who talks.

use std::time::Duration;

use voice::{BLOCK, VoiceProcessing, VoiceProcessor};

/// Audio samples per second.
pub(crate) const RATE: usize = 48_000;
/// Reverberation time: until an echo is 60 dB weaker, seconds.
const RT60_S: f32 = 0.3;
/// Level of the echo relative to what the speaker plays.
const ECHO_GAIN: f32 = 0.4;
/// Root mean square of the noise of the microphone (-80 dBFS).
const NOISE: f32 = 1e-4;

/// Pseudo-random numbers in -1..1, uniformly distributed.
pub(crate) struct Random(pub(crate) u32);

impl Random {
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Echo of `far` in a room, `delay` after it is given to the speaker: the direct sound, followed by a
/// decaying noise that is half as strong in total.
pub(crate) fn echo(far: &[f32], delay: Duration, seed: u32) -> Vec<f32> {
    let mut random = Random(seed);
    let n_taps = (RT60_S * 0.5 * RATE as f32) as usize;
    let decay = -6.91 / (RT60_S * RATE as f32);
    let mut response: Vec<f32> =
        (0..n_taps).map(|i| random.next() * (decay * i as f32).exp()).collect();
    let power: f32 = response.iter().map(|tap| tap * tap).sum();
    let gain = (0.5 / power).sqrt();
    for tap in &mut response {
        *tap *= gain;
    }
    response[0] = 1.0;
    let n_late = (delay.as_secs_f32() * RATE as f32) as usize;
    let mut heard = vec![0.0; far.len() + n_late + n_taps];
    for (i, sample) in far.iter().enumerate().filter(|(_, sample)| **sample != 0.0) {
        let late = &mut heard[i + n_late..i + n_late + n_taps];
        late.iter_mut().zip(&response).for_each(|(sum, tap)| *sum += ECHO_GAIN * sample * tap);
    }
    heard.truncate(far.len());
    heard
}

/// Gives a call's sound to a processor, block by block, and returns what is left of the microphone's.
/// `hint` is what the processor is told about the delay.
pub(crate) fn process(
    far: &[f32],
    microphone: &[f32],
    processing: VoiceProcessing,
    hint: Duration,
) -> Vec<f32> {
    let mut processor = VoiceProcessor::new(processing);
    let mut random = Random(99);
    let mut out = Vec::with_capacity(microphone.len());
    for (far, captured) in far.as_chunks::<BLOCK>().0.iter().zip(microphone.as_chunks::<BLOCK>().0)
    {
        processor.render(far);
        let mut block = captured.map(|sample| sample + NOISE * 1.73 * random.next());
        processor.capture(&mut block, hint);
        out.extend(block);
    }
    out
}

/// Power of the first sound relative to the second, decibels.
pub(crate) fn ratio_db(a: &[f32], b: &[f32]) -> f32 {
    let energy = |samples: &[f32]| samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>();
    (10.0 * (energy(a) / energy(b).max(1e-12)).log10()) as f32
}

/// Sum of two sounds of one length.
pub(crate) fn mixed(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// How much weaker `voice` is in `out` than in itself, decibels: by the least-squares gain.
pub(crate) fn loss_db(voice: &[f32], out: &[f32]) -> f32 {
    let product = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    (-20.0 * (product(voice, out) / product(voice, voice)).max(1e-6).log10()) as f32
}
