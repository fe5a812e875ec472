//! What echo cancellation does in a simulated room.

mod room;

use std::time::Duration;

use room::{RATE, Random, echo, loss_db, mixed, process, ratio_db};
use voice::VoiceProcessing;

const ECHO_ONLY: VoiceProcessing =
    VoiceProcessing { echo_cancellation: true, ..VoiceProcessing::OFF };

/// Something like speech: syllables of changing pitch and timbre, with fricatives and pauses.
fn speech(seconds: usize, pitch_hz: f32, seed: u32) -> Vec<f32> {
    let mut random = Random(seed);
    let mut samples = Vec::new();
    let mut phase = 0.0_f32;
    while samples.len() < seconds * RATE {
        let n = RATE / 8 + (random.next().abs() * RATE as f32 / 6.0) as usize;
        let pitch = pitch_hz * (1.0 + 0.25 * random.next());
        let formant = 900.0 + 600.0 * random.next();
        let kind = random.next();
        for i in 0..n {
            let envelope = (std::f32::consts::PI * i as f32 / n as f32).sin();
            phase = (phase + pitch / RATE as f32).fract();
            let voiced: f32 = (1..24)
                .map(|k| {
                    let away = (k as f32 * pitch - formant) / 500.0;
                    (std::f32::consts::TAU * phase * k as f32).sin() / (1.0 + away * away)
                })
                .sum();
            samples.push(match kind {
                k if k < -0.7 => 0.0,
                k if k < -0.4 => 0.1 * envelope * random.next(),
                _ => 0.12 * envelope * voiced,
            });
        }
    }
    samples.truncate(seconds * RATE);
    samples
}

#[test]
fn an_echo_is_30_db_weaker_after_three_seconds() {
    let far = speech(7, 120.0, 1);
    for ms in [20, 200] {
        let heard = echo(&far, Duration::from_millis(ms), 5);
        let out = process(&far, &heard, ECHO_ONLY, Duration::from_millis(20));
        let after = 3 * RATE;
        let erle_db = ratio_db(&heard[after..], &out[after..]);
        assert!(erle_db >= 30.0, "{ms} ms: {erle_db} dB");
    }
}

#[test]
fn who_talks_into_the_echo_is_heard_at_the_same_level() {
    let far = speech(10, 120.0, 1);
    let mut near = speech(10, 210.0, 2);
    near[..5 * RATE].fill(0.0);
    let heard = echo(&far, Duration::from_millis(60), 5);
    let hint = Duration::from_millis(20);
    let alone = process(&vec![0.0; far.len()], &near, ECHO_ONLY, hint);
    let both = process(&far, &mixed(&heard, &near), ECHO_ONLY, hint);
    let lost_db = loss_db(&alone[5 * RATE..], &both[5 * RATE..]);
    assert!(lost_db < 2.0, "{lost_db} dB");
}

#[test]
fn each_can_be_switched_off_and_does_its_own() {
    let quiet: Vec<f32> = speech(6, 150.0, 3).iter().map(|s| 0.05 * s).collect();
    let mut random = Random(7);
    let hiss: Vec<f32> = quiet.iter().map(|_| 0.01 * random.next()).collect();
    // The change of level after four seconds, decibels.
    let change_db = |processing, microphone: &[f32]| {
        let silence = vec![0.0; microphone.len()];
        let out = process(&silence, microphone, processing, Duration::ZERO);
        ratio_db(&out[4 * RATE..], &microphone[4 * RATE..])
    };
    let off = VoiceProcessing::OFF;
    assert!(change_db(off, &hiss).abs() < 0.1 && change_db(off, &quiet).abs() < 0.1);
    let of_noise = change_db(VoiceProcessing { noise_suppression: true, ..off }, &hiss);
    assert!(of_noise < -8.0, "{of_noise}");
    let of_voice = change_db(VoiceProcessing { gain_control: true, ..off }, &quiet);
    assert!(of_voice > 6.0, "{of_voice}");
}
