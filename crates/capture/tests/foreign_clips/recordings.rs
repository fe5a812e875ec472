//! Recordings with sound, as this program and `ffmpeg` read them.

use std::path::Path;

use capture::{ClipWriter, ReadError, Source, SourceSpec};
use types::{MediaTime, Sound, SquareFrame};

use crate::made::{Folder, run};

const FPS: u32 = 25;
const SIDE: u32 = 64;
/// Samples in a piece of sound of 10 ms.
const PIECE: usize = 480;

/// Sound whose pitch goes up and down, with pauses, so that it resembles itself at no other time.
fn original(n_frames: u64) -> Vec<f32> {
    let n = n_frames as usize * 48_000 / FPS as usize;
    let mut phase = 0.0_f32;
    let sample = |i: usize| {
        let t = i as f32 / 48_000.0;
        let pitch_hz = 600.0 + 350.0 * (t * 2.3).sin() + 150.0 * (t * 7.1).sin();
        phase = (phase + pitch_hz / 48_000.0).fract();
        let is_pause = (t * 3.0).fract() > 0.7;
        if is_pause { 0.0 } else { 0.4 * (std::f32::consts::TAU * phase).sin() }
    };
    (0..n).map(sample).collect()
}

/// A frame that is white while frame number `n` of a recording flashes: ten frames of fifty.
fn frame(n: u64, side: u32) -> SquareFrame {
    let level = if n % 50 < 10 { 230 } else { 20 };
    let rgb = vec![level; (side * side * 3) as usize];
    SquareFrame::new(side, MediaTime::of_frame(n, FPS), rgb).unwrap()
}

/// Gives the writer frames and sound, which comes `late_ms` behind the frames or, if that is negative, ahead.
/// Frames are `side_of` their number pixels wide.
fn record(
    writer: &mut ClipWriter,
    n_frames: u64,
    sound: &[f32],
    late_ms: i64,
    side_of: impl Fn(u64) -> u32,
) {
    let mut pieces = (0..).zip(sound.chunks(PIECE)).peekable();
    let mut give_until = |writer: &mut ClipWriter, until_ms: i64| {
        while let Some((i, samples)) = pieces.next_if(|(i, _)| 10 * i < until_ms) {
            let time = MediaTime::from_micros(10_000 * i as u64);
            writer.record_sound(Sound { time, samples: samples.to_vec() });
        }
    };
    for n in 0..n_frames {
        give_until(writer, 40 * n as i64 - late_ms);
        writer.push(&frame(n, side_of(n))).unwrap();
    }
    give_until(writer, i64::MAX);
}

/// Reads the sound of a clip as this program does.
fn read_here(path: &Path) -> Vec<f32> {
    let mut source = Source::open(&SourceSpec::Clip(path.to_owned())).unwrap();
    let mut samples = Vec::new();
    while let Some(sound) = source.next_sound().unwrap() {
        samples.resize((sound.time.as_micros() * 48 / 1000) as usize, 0.0);
        samples.extend(sound.samples);
    }
    samples
}

/// Reads the sound of a clip as `ffmpeg` does.
fn read_there(path: &Path) -> Vec<f32> {
    let mono = ["-vn", "-ac", "1", "-ar", "48000", "-f", "f32le", "-"];
    let bytes = run("ffmpeg", &[&["-i", path.to_str().unwrap()], &mono[..]].concat());
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Checks that `got` is `want` with at most 20 ms of delay either way.
#[track_caller]
fn check_same(got: &[f32], want: &[f32], what: &str) {
    let correlation = |late: i64| {
        let (mut both, mut left, mut right) = (0.0_f64, 1e-9_f64, 1e-9_f64);
        for (i, b) in want.iter().enumerate() {
            let a = usize::try_from(i as i64 + late).ok().and_then(|i| got.get(i)).unwrap_or(&0.0);
            let (a, b) = (f64::from(*a), f64::from(*b));
            (both, left, right) = (both + a * b, left + a * a, right + b * b);
        }
        both / (left * right).sqrt()
    };
    let lags = (-2400..=2400).step_by(8);
    let (best, late) = lags
        .map(|late| (correlation(late), late))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .expect("many lags");
    let late_ms = late as f64 / 48.0;
    println!("{what}: correlation {best:.4}, {late_ms:.2} ms late");
    assert!(best > 0.95 && late_ms.abs() <= 20.0, "{what}: {best:.3} at {late_ms:.1} ms");
}

/// Returns the start and the duration of a stream of a clip, seconds, and its codec.
fn probed(path: &Path, stream: &str) -> (f64, f64, String) {
    let entries = ["-select_streams", stream, "-show_entries", "stream=codec_name,start_time"];
    let format = ["-of", "default=nk=1:nw=1", path.to_str().unwrap()];
    let text = String::from_utf8(run("ffprobe", &[&entries[..], &format].concat())).unwrap();
    let mut lines = text.lines();
    let codec = lines.next().unwrap().to_owned();
    // A WAV file does not say.
    let start = lines.next().unwrap().parse().unwrap_or(0.0);
    let packets = ["-select_streams", stream, "-show_entries", "packet=pts_time,duration_time"];
    let text = run("ffprobe", &[&packets[..], &["-of", "csv=p=0", format[2]]].concat());
    let text = String::from_utf8(text).unwrap();
    let ends = text.lines().filter_map(|line| {
        let mut fields = line.split(',').map(|field| field.parse::<f64>().ok());
        Some(fields.next()?? + fields.next()??)
    });
    (start, ends.fold(0.0, f64::max), codec)
}

#[test]
fn what_was_said_is_heard_when_it_was_seen() {
    let folder = Folder::new("recorded-sound");
    let want = original(130);
    // Ahead of the pictures, with them, behind them.
    for late_ms in [-1500, 0, 700] {
        let path = folder.join("call.mp4");
        let mut writer = ClipWriter::record(&path, FPS).unwrap().with_sound();
        assert!(writer.has_sound());
        record(&mut writer, 130, &want, late_ms, |_| SIDE);
        writer.finish().unwrap();
        for (who, got) in [("here", read_here(&path)), ("ffmpeg", read_there(&path))] {
            check_same(&got, &want, &format!("{who}, {late_ms} ms late"));
        }
        let (start, end, codec) = probed(&path, "a:0");
        assert_eq!(codec, "opus");
        assert!(start.abs() < 0.02 && (end - 5.2).abs() < 0.04, "{start} to {end}");
        let (start, end, codec) = probed(&path, "v:0");
        assert_eq!(codec, "h264");
        assert!(start.abs() < 0.001 && (end - 5.2).abs() < 0.001, "{start} to {end}");
    }
}

#[test]
fn a_crash_costs_no_more_sound_than_pictures() {
    let folder = Folder::new("crashed-sound");
    let want = original(130);
    let path = folder.join("call.mp4");
    let mut writer = ClipWriter::record(&path, FPS).unwrap().with_sound();
    record(&mut writer, 130, &want, 0, |_| SIDE);
    drop(writer);
    let part = folder.join("call.part.mp4");
    // Four or five whole fragments of a second.
    for (who, got) in [("here", read_here(&part)), ("ffmpeg", read_there(&part))] {
        assert!(got.len() >= 4 * 48_000 - 960, "{who}: {} samples", got.len());
        check_same(&got, &want[..4 * 48_000], who);
    }
    // Cut within a fragment: the pictures say so, the sound before is there.
    let bytes = std::fs::read(&part).unwrap();
    std::fs::write(&part, &bytes[..bytes.len() - 3000]).unwrap();
    let mut source = Source::open(&SourceSpec::Clip(part.clone())).unwrap();
    let error = loop {
        match source.next_frame() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the clip ends without a word"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ReadError::Incomplete { n_frames: 75.., .. }), "{error}");
    check_same(&read_here(&part), &want[..3 * 48_000], "cut");
}

#[test]
fn a_gap_is_silence_and_what_follows_is_in_time() {
    let folder = Folder::new("recorded-gap");
    let mut want = original(200);
    let path = folder.join("call.mp4");
    let mut writer = ClipWriter::create(&path, FPS).unwrap().with_sound();
    let (from, to) = (48_000, 48_000 * 5);
    want[from..to].fill(0.0);
    let mut pieces = (0..).zip(want.chunks(PIECE));
    for n in 0..200 {
        for (i, samples) in pieces.by_ref().take(4) {
            let is_given = !(from..to).contains(&(i * PIECE));
            let time = MediaTime::from_micros(10_000 * i as u64);
            if is_given {
                writer.record_sound(Sound { time, samples: samples.to_vec() });
            }
        }
        writer.push(&frame(n, SIDE)).unwrap();
    }
    // Far beyond the pictures.
    let time = MediaTime::from_micros(1 << 50);
    writer.record_sound(Sound { time, samples: vec![1.0; PIECE] });
    writer.finish().unwrap();
    for (who, got) in [("here", read_here(&path)), ("ffmpeg", read_there(&path))] {
        check_same(&got, &want, who);
        let loudest = got[from + 4800..to - 4800].iter().fold(0.0_f32, |m, s| m.max(s.abs()));
        assert!(loudest < 0.01, "{who}: {loudest}");
        assert!(got.len() <= want.len() + 2 * 960, "{who}: {} samples", got.len());
    }
}

#[test]
fn a_recording_without_any_sound_is_silent_to_its_end() {
    let folder = Folder::new("recorded-silence");
    let path = folder.join("call.mp4");
    let mut writer = ClipWriter::create(&path, FPS).unwrap().with_sound();
    record(&mut writer, 100, &[], 0, |_| SIDE);
    writer.finish().unwrap();
    let got = read_there(&path);
    assert!(got.len().abs_diff(4 * 48_000) <= 1920, "{} samples", got.len());
    assert!(got.iter().all(|s| s.abs() < 0.001));
}

#[test]
fn each_size_has_its_part_of_the_sound() {
    let folder = Folder::new("recorded-sizes");
    let want = original(130);
    for name in ["call.mp4", "call"] {
        let path = folder.join(name);
        let mut writer = ClipWriter::record(&path, FPS).unwrap().with_sound();
        record(&mut writer, 130, &want, 0, |n| if n < 53 { SIDE } else { 2 * SIDE });
        let parts = writer.finish().unwrap();
        let boundary = 53 * 1920;
        for (part, want) in parts.iter().zip([&want[..boundary], &want[boundary..]]) {
            check_same(&read_here(part), want, &part.display().to_string());
        }
    }
    for name in ["call", "call.2"] {
        let wav = folder.join(name).join("sound.wav");
        assert_eq!(probed(&wav, "a:0").2, "pcm_s16le");
    }
}

#[test]
fn a_y4m_file_has_no_sound_and_its_pictures_do_not_mind() {
    let folder = Folder::new("recorded-y4m");
    let path = folder.join("call.y4m");
    let mut writer = ClipWriter::record(&path, FPS).unwrap().with_sound();
    assert!(!writer.has_sound());
    record(&mut writer, 10, &original(10), 0, |_| SIDE);
    writer.finish().unwrap();
    let mut source = Source::open(&SourceSpec::Clip(path)).unwrap();
    assert_eq!(std::iter::from_fn(|| source.next_frame().unwrap()).count(), 10);
}
