//! Calls with sound between two processes, with files in place of microphones and speakers.

use std::f32::consts::TAU;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use capture::{Source, SourceSpec};

/// Audio samples per second.
const RATE: usize = 48_000;
/// Samples are compared at a lower rate, of which this many make one.
const DECIMATION: usize = 8;

/// Ends a peer even when the test fails.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    folder
}

fn feathercall() -> Command {
    Command::new(env!("CARGO_BIN_EXE_feathercall"))
}

/// Returns some seconds of something like a voice. Its pitch wanders about `pitch_hz`.
fn voice(pitch_hz: f32, seconds: usize) -> Vec<f32> {
    let mut phase = 0.0_f32;
    let sample = |n: usize| {
        let t = n as f32 / RATE as f32;
        let wander = (t * 7.0).sin() + (t * pitch_hz.fract() * 31.0 + 1.0).sin();
        phase = (phase + pitch_hz * (1.0 + 0.1 * wander) / RATE as f32).fract();
        let syllable = (0.6 + 0.6 * (t * 21.0).sin()).clamp(0.0, 1.0);
        let tones = (1..8).map(|k| (TAU * phase * k as f32).sin() / k as f32);
        0.15 * syllable * tones.sum::<f32>()
    };
    (0..seconds * RATE).map(sample).collect()
}

fn write_wav(path: &Path, samples: &[f32]) {
    let n_bytes = 2 * samples.len() as u32;
    let mut bytes = Vec::from(*b"RIFF");
    bytes.extend((36 + n_bytes).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend((RATE as u32).to_le_bytes());
    bytes.extend((2 * RATE as u32).to_le_bytes());
    bytes.extend(b"\x02\0\x10\0data");
    bytes.extend(n_bytes.to_le_bytes());
    bytes.extend(samples.iter().flat_map(|s| ((s * 32_767.0) as i16).to_le_bytes()));
    std::fs::write(path, bytes).expect("the file can be written");
}

/// Reads a speaker file: 16 bits, mono, 48 kHz.
fn read_wav(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("there is a speaker file");
    let start = bytes.windows(4).position(|four| four == b"data").expect("it has samples") + 8;
    let samples = bytes[start..].chunks_exact(2);
    samples.map(|s| f32::from(i16::from_le_bytes([s[0], s[1]])) / 32_768.0).collect()
}

/// Returns how well a second of `heard` is found in `said`, 0..=1: the best of all seconds.
fn likeness(heard: &[f32], said: &[f32]) -> f32 {
    let coarse = |samples: &[f32]| -> Vec<f32> {
        samples.chunks_exact(DECIMATION).map(|s| s.iter().sum::<f32>()).collect()
    };
    let (heard, said) = (coarse(heard), coarse(said));
    let second = RATE / DECIMATION;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let mut best = 0.0_f32;
    for part in heard.chunks_exact(second) {
        for from in said.windows(second).step_by(2) {
            let power = dot(part, part) * dot(from, from);
            if power > 1e-3 {
                best = best.max(dot(part, from) / power.sqrt());
            }
        }
    }
    best
}

/// Starts a host and returns it with its invite link.
fn start_host(command: &mut Command) -> (Peer, String) {
    let mut host = Peer(command.stdout(Stdio::piped()).spawn().expect("it starts"));
    let output = BufReader::new(host.0.stdout.take().unwrap());
    let link = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_whitespace().find(|w| w.contains("://")).map(str::to_owned))
        .expect("the host prints an invite link");
    (host, link)
}

fn all_sound(source: &mut Source) -> Vec<f32> {
    let mut samples = Vec::new();
    while let Some(sound) = source.next_sound().unwrap() {
        samples.extend(sound.samples);
    }
    samples
}

#[test]
fn two_people_without_a_face_or_a_camera_hear_each_other() {
    let folder = folder("heard");
    let voices = [voice(110.3, 5), voice(190.7, 5)];
    let place = |name: &str| folder.join(name);
    write_wav(&place("ada.wav"), &voices[0]);
    write_wav(&place("bob.wav"), &voices[1]);
    let mut host = feathercall();
    host.args(["call", "--headless", "--auto-admit", "--rate", "high", "--name", "Ada"]);
    host.arg("--microphone").arg(place("ada.wav")).arg("--speaker").arg(place("ada-heard.wav"));
    let (mut host, link) = start_host(&mut host);
    let mut guest = feathercall();
    guest.args(["join", &link, "--headless", "--rate", "high", "--name", "Bob"]);
    guest.arg("--microphone").arg(place("bob.wav")).arg("--speaker").arg(place("bob-heard.wav"));
    guest.arg("--duration").arg("5s").arg("--stats").arg(place("stats.jsonl"));
    let output = guest.output().expect("it starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("the peer has no face to show: sound only"), "{told}");
    assert!(host.0.wait().unwrap().success());

    for (heard, own, other) in [("ada-heard.wav", 0, 1), ("bob-heard.wav", 1, 0)] {
        let heard = read_wav(&place(heard));
        let (other, own) = (likeness(&heard, &voices[other]), likeness(&heard, &voices[own]));
        assert!(other > 0.6 && own < 0.4, "other {other}, own {own}");
    }
}

#[test]
fn sound_is_neither_written_over_its_source_nor_over_a_foreign_file() {
    let folder = folder("sound-places");
    let wav = folder.join("voice.wav");
    write_wav(&wav, &voice(110.3, 1));
    let before = std::fs::read(&wav).unwrap();
    let said = |speaker: &Path, others: &[&str]| {
        let mut call = feathercall();
        call.args(["call", "--headless", "--wait", "0.1s"]).args(others);
        let output = call.arg("--speaker").arg(speaker).output().expect("it starts");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = said(&wav, &["--microphone", wav.to_str().unwrap()]);
    assert!(told.contains("--speaker") && told.contains("would replace the input"), "{told}");
    let told = said(&wav, &["--microphone", "none"]);
    assert!(told.contains("voice.wav exists and is not sound that this program"), "{told}");
    assert_eq!(std::fs::read(&wav).unwrap(), before);
}

#[test]
fn sound_that_nobody_can_give_is_refused_before_the_call() {
    for (args, want) in [
        (["--microphone", "source"], "--microphone source needs --source"),
        (["--microphone", "no such microphone"], "no such microphone"),
        (["--microphone", "missing.wav"], "missing.wav"),
        (["--speaker", "no such speaker"], "no such speaker"),
    ] {
        let mut call = feathercall();
        call.args(["call", "--headless", "--wait", "0.1s"]).args(args);
        let output = call.output().expect("it starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {told}");
        assert!(told.contains(want) && told.trim().lines().count() == 1, "{args:?}: {told}");
    }
}

#[test]
fn a_recording_of_a_peer_without_a_face_has_both_voices() {
    let folder = folder("recorded");
    let voices = [voice(110.3, 6), voice(190.7, 6)];
    let place = |name: &str| folder.join(name);
    write_wav(&place("ada.wav"), &voices[0]);
    write_wav(&place("bob.wav"), &voices[1]);
    let mut host = feathercall();
    host.args(["call", "--headless", "--auto-admit", "--rate", "high", "--name", "Ada"]);
    host.args(["--speaker", "none", "--microphone"]).arg(place("ada.wav"));
    let (mut host, link) = start_host(&mut host);
    let clip = place("call.mp4");
    let mut guest = feathercall();
    guest.args(["join", &link, "--headless", "--rate", "high", "--resolution", "128"]);
    guest.args(["--speaker", "none", "--duration", "6s", "--microphone"]).arg(place("bob.wav"));
    let output = guest.arg("--record").arg(&clip).output().expect("it starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(host.0.wait().unwrap().success());

    let mut source = Source::open(&SourceSpec::Clip(clip)).unwrap();
    let samples = all_sound(&mut source);
    let n_pictures = std::iter::from_fn(|| source.next_frame().unwrap()).count();
    // Some of the six seconds pass before there is sound.
    assert!((75..160).contains(&n_pictures), "{n_pictures} pictures");
    assert!(
        samples.len().abs_diff(n_pictures * RATE / 25) < RATE / 10,
        "{} samples",
        samples.len()
    );
    for (who, voice) in ["Ada", "Bob"].iter().zip(&voices) {
        // Each is half of what is heard.
        let likeness = likeness(&samples, voice);
        assert!(likeness > 0.4, "{who}: {likeness}");
    }
    let stranger = likeness(&samples, &voice(150.1, 6));
    assert!(stranger < 0.4, "{stranger}");
}

/// The recording of the second guest used to begin in the silence before it came, on another clock, and
/// its voice was left out.
#[test]
fn each_guest_of_a_kept_link_is_recorded() {
    let folder = folder("guests");
    let place = |name: &str| folder.join(name);
    let mut host = feathercall();
    host.args(["call", "--headless", "--auto-admit", "--keep-link", "--rate", "high"]);
    host.args(["--speaker", "none", "--microphone", "none", "--duration", "14s", "--record"]);
    let (mut host, link) = start_host(host.arg(place("call.mp4")));
    let voices = [voice(110.3, 4), voice(190.7, 4)];
    for voice in &voices {
        write_wav(&place("voice.wav"), voice);
        let mut guest = feathercall();
        guest.args(["join", &link, "--headless", "--rate", "high", "--speaker", "none"]);
        guest.args(["--duration", "4s", "--microphone"]).arg(place("voice.wav"));
        assert!(guest.status().expect("it starts").success());
    }
    assert!(host.0.wait().unwrap().success());
    for (name, voice) in ["call.mp4", "call-2.mp4"].iter().zip(&voices) {
        let samples = all_sound(&mut Source::open(&SourceSpec::Clip(place(name))).unwrap());
        let likeness = likeness(&samples, voice);
        assert!(likeness > 0.5, "{name}: {likeness} in {} samples", samples.len());
    }
    assert!(!place("call-3.mp4").exists());
}
