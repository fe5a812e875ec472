//! Plays clicks through a speaker and listens for them with a microphone, as a call uses them, and prints what happens to the
//! devices: `sound_devices [MICROPHONE [SPEAKER [SECONDS]]]`.

#![expect(clippy::disallowed_methods, reason = "real devices are measured in real time")]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use capture::{Microphone, MicrophoneSpec, SoundError, Speaker, SpeakerSpec};

/// Blocks of 10 ms between two clicks.
const CLICK_EVERY: u32 = 100;
const WAIT: Duration = Duration::from_millis(50);

fn main() -> Result<(), SoundError> {
    let mut arguments = std::env::args_os().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.into());
    let microphone = MicrophoneSpec::from(next("default").as_os_str());
    let speaker = SpeakerSpec::from(next("default").as_os_str());
    let seconds = next("10").to_string_lossy().parse().unwrap_or(10);
    let (mut microphone, mut speaker) = (Microphone::open(&microphone)?, Speaker::open(&speaker)?);
    let zero = Instant::now();
    let end = zero + Duration::from_secs(seconds);
    let say = |text: String| println!("{:8.3} s  {text}", zero.elapsed().as_secs_f32());
    // When a click should be heard.
    let clicks: Mutex<Vec<Instant>> = Mutex::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut n_blocks, mut longest_queue) = (0_u32, Duration::ZERO);
            while Instant::now() < end {
                if speaker.wait_for_room(WAIT) {
                    let mut block = [0.0; 480];
                    if n_blocks % CLICK_EVERY == CLICK_EVERY - 1 {
                        block[..48].fill(0.9);
                        let heard = Instant::now() + speaker.queued();
                        clicks.lock().expect("no thread panics").push(heard);
                    }
                    longest_queue = longest_queue.max(speaker.queued());
                    speaker.play(&block);
                    n_blocks += 1;
                }
                while let Some(change) = speaker.take_change() {
                    say(change.to_string());
                }
            }
            say(format!(
                "played {n_blocks} blocks, {} gaps, at most {longest_queue:?} queued",
                speaker.n_gaps()
            ));
        });
        let (mut n_blocks, mut n_heard, mut power) = (0_u32, 0, 0.0_f64);
        let (mut last, mut steps) = (None::<Instant>, Vec::new());
        let (mut ages, mut errors_ms) = (Vec::new(), Vec::new());
        while Instant::now() < end {
            while let Some(change) = microphone.take_change() {
                say(change.to_string());
            }
            let Some(block) = microphone.next_block(WAIT) else { continue };
            n_blocks += 1;
            ages.push(block.captured.elapsed().as_secs_f64() * 1000.0);
            steps.extend(last.map(|last| (block.captured - last).as_secs_f64() * 1000.0));
            last = Some(block.captured);
            power += block.samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>();
            let Some(at) = block.samples.iter().position(|s| s.abs() > 0.3) else { continue };
            let captured = block.captured + Duration::from_secs(1) * at as u32 / 48_000;
            let mut clicks = clicks.lock().expect("no thread panics");
            let near = |click: &Instant| {
                click.max(&captured).duration_since(*click.min(&captured))
                    < Duration::from_millis(400)
            };
            if let Some(idx) = clicks.iter().position(near) {
                let expected = clicks.remove(idx);
                n_heard += 1;
                let late = captured.saturating_duration_since(expected).as_secs_f64();
                let early = expected.saturating_duration_since(captured).as_secs_f64();
                errors_ms.push((late - early) * 1000.0);
            }
        }
        say(format!(
            "captured {n_blocks} blocks, {} dropped, {n_heard} clicks, level {:.4}",
            microphone.n_dropped(),
            (power / f64::from(n_blocks) / 480.0).sqrt()
        ));
        for (what, values) in [
            ("step between blocks", &mut steps),
            ("age of a block", &mut ages),
            ("click heard later than predicted", &mut errors_ms),
        ] {
            values.sort_by(f64::total_cmp);
            let at = |share: f64| values.get((share * (values.len() as f64 - 1.0)) as usize);
            let [least, middle, p95, most] =
                [0.0, 0.5, 0.95, 1.0].map(|s| at(s).copied().unwrap_or(f64::NAN));
            say(format!(
                "{what}: {least:.2} {middle:.2} {p95:.2} {most:.2} ms (min, median, p95, max)"
            ));
        }
    });
    Ok(())
}
