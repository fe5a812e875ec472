//! Sound of clips: every codec and container, in time with the pictures.

use std::path::Path;

use capture::{ReadError, Source, SourceSpec};

use crate::made::{Folder, frames, make};

/// A clap: pictures that are white from 1.0 s to 1.2 s, and a tone in the same time.
const CLAP: &str = r"-f lavfi -i color=black:s=96x96:r=25:d=2,drawbox=t=fill:c=white:enable=between(t\,0.99\,1.19)";
const TONE: &str = r"-f lavfi -i aevalsrc=0.5*sin(2*PI*1000*t)*between(t\,1\,1.2):s=48000:d=2";

/// Reads all sound of a clip: its time zero in samples, and the samples.
fn sound(path: &Path) -> (i64, Vec<f32>) {
    let mut source = Source::open(&SourceSpec::Clip(path.to_owned())).expect("a clip");
    let (mut start, mut samples) = (None, Vec::new());
    while let Some(sound) =
        source.next_sound().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    {
        assert_eq!(sound.samples.len(), 960);
        let at = sound.time.as_micros() as i64 * 48 / 1000;
        let start = *start.get_or_insert(at);
        assert_eq!(at - start, samples.len() as i64, "blocks follow each other");
        samples.extend(sound.samples);
    }
    (start.unwrap_or(0), samples)
}

/// Returns when the tone begins and the first white frame is shown, milliseconds.
fn clap(path: &Path) -> (f64, f64) {
    let (start, samples) = sound(path);
    let first = samples.iter().position(|s| s.abs() > 0.1);
    let first = first.unwrap_or_else(|| panic!("{}: no tone", path.display()));
    let frames = frames(path);
    let flash = frames.iter().find(|frame| frame.rgb_at(48, 48)[1] > 128).expect("a flash");
    ((start + first as i64) as f64 / 48.0, flash.time().as_micros() as f64 / 1000.0)
}

#[test]
fn a_clap_is_heard_when_it_is_seen_in_every_codec_and_container() {
    let folder = Folder::new("claps");
    let vp8 = "-c:v libvpx -b:v 500k";
    let h264 = "-c:v libx264 -bf 2 -pix_fmt yuv420p";
    for (name, arguments) in [
        ("mono.mp4", format!("{h264} -c:a aac")),
        ("stereo.mp4", format!("{h264} -c:a aac -ac 2 -ar 44100")),
        ("phone.mov", format!("{h264} -c:a aac -ac 2")),
        ("fragmented.mp4", format!("{h264} -c:a aac -movflags frag_keyframe+empty_moov")),
        ("surround.mp4", format!("{h264} -c:a aac -ac 6")),
        ("surround.mkv", format!("{h264} -c:a ac3 -ac 6")),
        ("opus.mp4", format!("{h264} -c:a libopus")),
        ("mp3.mp4", format!("{h264} -c:a libmp3lame")),
        ("alac.mov", format!("{h264} -c:a alac")),
        ("pcm.mov", format!("{h264} -c:a pcm_s16be -ac 2")),
        ("browser.webm", format!("{vp8} -c:a libopus")),
        ("vorbis.webm", format!("{vp8} -c:a libvorbis -ac 2")),
        ("flac.mkv", format!("{h264} -c:a flac -ar 22050")),
        ("mp3.avi", "-c:v mpeg4 -c:a libmp3lame".to_owned()),
        ("pcm.avi", "-c:v mjpeg -c:a pcm_u8 -ar 11025".to_owned()),
        ("old.flv", "-c:v flv1 -c:a libmp3lame -ar 44100".to_owned()),
        ("broadcast.ts", format!("{h264} -c:a aac -ac 2")),
    ] {
        let path = folder.join(name);
        make(&path, &format!("{CLAP} {TONE} {arguments}"));
        let (heard_ms, seen_ms) = clap(&path);
        assert!(
            (heard_ms - seen_ms).abs() <= 20.0,
            "{name}: heard at {heard_ms:.1} ms, seen at {seen_ms:.1}"
        );
    }
}

#[test]
fn a_stream_that_starts_late_keeps_its_place() {
    let folder = Folder::new("late");
    let h264 = "-c:v libx264 -bf 2 -pix_fmt yuv420p";
    for (name, codecs) in [
        ("late.mp4", format!("{h264} -c:a aac")),
        ("opus.mp4", format!("{h264} -c:a libopus")),
        ("late.mkv", format!("{h264} -c:a libopus")),
        ("late.webm", "-c:v libvpx -b:v 500k -c:a libvorbis -ac 2".to_owned()),
        ("late.mov", format!("{h264} -c:a pcm_s16le")),
        ("late.ts", format!("{h264} -c:a mp2")),
    ] {
        for (video_ms, sound_ms) in [(0, 480), (480, 0)] {
            let path = folder.join(name);
            let [picture, tone] = [(CLAP, video_ms), (TONE, sound_ms)]
                .map(|(source, ms)| format!("-itsoffset {} {source}", f64::from(ms) / 1000.0));
            make(&path, &format!("{picture} {tone} -vsync passthrough {codecs}"));
            let (heard_ms, seen_ms) = clap(&path);
            let (late_ms, want) = (heard_ms - seen_ms, f64::from(sound_ms - video_ms));
            assert!((late_ms - want).abs() <= 20.0, "{name}: {late_ms:.1} ms late, not {want}");
        }
    }
}

#[test]
fn a_gap_in_the_sound_is_silence() {
    let folder = Folder::new("gaps");
    for (name, codecs) in [
        ("gap.mkv", "-c:v libx264 -c:a pcm_s16le"),
        ("gap.webm", "-c:v libvpx -b:v 500k -c:a libopus"),
        ("gap.mp4", "-c:v libx264 -pix_fmt yuv420p -c:a aac"),
    ] {
        let path = folder.join(name);
        make(&path, &format!(r"{CLAP} {TONE} -af aselect=not(between(t\,0.3\,0.6)) {codecs}"));
        let (heard_ms, seen_ms) = clap(&path);
        assert!(
            (heard_ms - seen_ms).abs() <= 20.0,
            "{name}: heard at {heard_ms:.1} ms, seen at {seen_ms:.1}"
        );
    }
}

/// Root mean square of the middle of a sound.
fn level(path: &Path) -> f64 {
    let (_, samples) = sound(path);
    let middle = &samples[samples.len() / 4..samples.len() / 2];
    let sum: f64 = middle.iter().map(|s| f64::from(*s).powi(2)).sum();
    (sum / middle.len() as f64).sqrt()
}

#[test]
fn channels_are_mixed_by_the_weights_of_the_standard() {
    let folder = Folder::new("mixed");
    let tone = 0.5 / 2.0_f64.sqrt();
    // Amplitude 0.5 in one channel each.
    for (layout, channel, weight) in [
        ("mono", 0, 1.0),
        ("stereo", 0, 0.5),
        ("stereo", 1, 0.5),
        ("5.1", 0, 0.5),
        ("5.1", 2, 0.5_f64.sqrt()),
        ("5.1", 3, 0.0),
        ("5.1", 4, 0.5_f64.sqrt() / 2.0),
    ] {
        for (extension, codec) in [("mkv", "flac"), ("mp4", "aac -b:a 384k")] {
            let n_channels =
                ["mono", "stereo"].iter().position(|l| *l == layout).map_or(6, |i| i + 1);
            let channels: Vec<_> = (0..n_channels)
                .map(|c| if c == channel { "0.5*sin(2*PI*500*t)" } else { "0" })
                .collect();
            let source = format!("aevalsrc={}:s=48000:c={layout}:d=1", channels.join("|"));
            let path = folder.join(&format!("mix.{extension}"));
            let video = "-f lavfi -i color=black:s=96x96:r=25:d=1";
            make(
                &path,
                &format!("{video} -f lavfi -i {source} -c:v libx264 -pix_fmt yuv420p -c:a {codec}"),
            );
            let share = level(&path) / tone;
            assert!(
                (share - weight).abs() < 0.02,
                "{layout} {channel} {codec}: {share:.3}, not {weight:.3}"
            );
        }
    }
}

#[test]
fn a_clip_without_sound_or_with_sound_that_nobody_decodes_says_so_once_and_is_shown() {
    let folder = Folder::new("mute");
    let silent = folder.join("silent.mp4");
    make(&silent, &format!("{CLAP} -c:v libx264 -pix_fmt yuv420p"));
    let other = folder.join("silent.webm");
    make(&other, &format!("{CLAP} -c:v libvpx -b:v 500k"));
    let unknown = folder.join("unknown.mov");
    make(&unknown, &format!("{CLAP} {TONE} -c:v libx264 -pix_fmt yuv420p -c:a pcm_s16le"));
    let mut bytes = std::fs::read(&unknown).unwrap();
    let at = bytes.windows(4).position(|w| w == b"sowt").unwrap();
    bytes[at..at + 4].copy_from_slice(b"xyzw");
    std::fs::write(&unknown, bytes).unwrap();
    for (path, is_missing) in [(&silent, true), (&other, true), (&unknown, false)] {
        let mut source = Source::open(&SourceSpec::Clip(path.clone())).unwrap();
        match source.next_sound() {
            Err(ReadError::NoSound) => assert!(is_missing),
            Err(ReadError::SoundUnreadable { why }) => assert!(!is_missing && !why.is_empty()),
            other => panic!("{}: {:?}", path.display(), other.map(|s| s.map(|s| s.time))),
        }
        assert!(matches!(source.next_sound(), Ok(None)));
        assert_eq!(frames(path).len(), 50);
    }
}
