//! Measures echo cancellation in a simulated room: `echo FAR.wav NEAR.wav`, both mono, 48 kHz and 16 bits.

#![expect(clippy::disallowed_methods, reason = "processing is timed")]

#[path = "../tests/room/mod.rs"]
mod room;

use std::time::{Duration, Instant};

use room::{RATE, echo, loss_db, mixed, process, ratio_db};
use voice::VoiceProcessing;

const SECONDS: usize = 12;
/// When the near end begins to talk, seconds.
const NEAR_S: usize = 4;

/// Reads a recording, repeats it and brings it to -20 dBFS.
fn read(path: &str) -> Result<Vec<f32>, hound::Error> {
    let mut reader = hound::WavReader::open(path)?;
    let samples: Result<Vec<f32>, _> =
        reader.samples::<i16>().map(|s| s.map(|s| f32::from(s) / 32_768.0)).collect();
    let samples = samples?;
    let power = samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32;
    let gain = 0.1 / power.sqrt();
    Ok(samples.iter().cycle().take(SECONDS * RATE).map(|s| (s * gain).clamp(-1.0, 1.0)).collect())
}

fn main() -> Result<(), hound::Error> {
    let mut paths = std::env::args().skip(1);
    let mut next = || read(&paths.next().unwrap_or_default());
    let (far, mut near) = (next()?, next()?);
    near[..NEAR_S * RATE].fill(0.0);
    let hint = Duration::from_millis(20);
    let silence = vec![0.0; far.len()];
    println!("| processing | delay | ERLE after 3 s | near/echo | near loses | 10 ms cost |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let echo_only = VoiceProcessing { echo_cancellation: true, ..VoiceProcessing::OFF };
    let and_noise = VoiceProcessing { noise_suppression: true, ..echo_only };
    for (name, processing) in [("echo", echo_only), ("echo, noise", and_noise)] {
        for ms in [20, 60, 120, 200] {
            let heard = echo(&far, Duration::from_millis(ms), 5);
            let start = Instant::now();
            let out = process(&far, &heard, processing, hint);
            let cost = start.elapsed() / (out.len() / 480) as u32;
            let erle_db = ratio_db(&heard[3 * RATE..], &out[3 * RATE..]);
            for gain in [1.0, 0.5] {
                let near: Vec<f32> = near.iter().map(|s| s * gain).collect();
                let alone = process(&silence, &near, processing, hint);
                let both = process(&far, &mixed(&heard, &near), processing, hint);
                let talking = NEAR_S * RATE..;
                println!(
                    "| {name} | {ms} ms | {erle_db:.1} dB | {:.1} dB | {:.1} dB | {cost:.0?} |",
                    ratio_db(&near[talking.clone()], &heard[talking.clone()]),
                    loss_db(&alone[talking.clone()], &both[talking])
                );
            }
        }
    }
    Ok(())
}
