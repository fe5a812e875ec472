//! Bad input of every kind: one clear line, exit code 1 (or 2 for wrong usage), nothing left behind.

#![expect(clippy::unwrap_used, reason = "whatever fails here is a failed test")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn feathercall(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_feathercall")).args(args).output().expect("it starts")
}

/// An empty folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn demo_face() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/demo.face")
}

/// Runs it, and checks that it fails with one line that holds `says`, and says nothing else.
#[track_caller]
fn fails_with(args: &[&str], says: &str) {
    failed_with(&feathercall(args), says);
}

#[track_caller]
fn failed_with(output: &Output, says: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.starts_with("feathercall: "), "{told}");
    assert!(told.to_lowercase().contains(says), "{told}");
}

#[test]
fn wrong_usage_exits_with_two() {
    for args in [
        &["call", "--resolution", "300"][..],
        &["enroll"],
        &["dance"],
        &["join"],
        &["call", "--at", "4s=dance"],
        &["enroll", "--from", "actor", "--out", "x.face", "--budget", "1m", "--steps", "3"],
    ] {
        assert_eq!(feathercall(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_budget_without_time_for_a_face_is_refused_before_any_question() {
    for (option, value, says) in [
        ("--budget", "0", "at least 15 s"),
        ("--budget", "5s", "at least 15 s"),
        ("--steps", "0", "1"),
    ] {
        let output =
            feathercall(&["enroll", "--from", "me.mp4", "--out", "me.face", option, value]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.lines().count() == 1 && told.contains(says), "{told}");
    }
}

#[test]
fn a_clip_that_is_none_is_refused() {
    let folder = folder("clips");
    let text = folder.join("notes.mp4");
    std::fs::write(&text, "not a video at all").unwrap();
    let empty = folder.join("empty.y4m");
    std::fs::write(&empty, "").unwrap();
    let out = folder.join("me.face");
    let missing = folder.join("missing.mp4");
    for (clip, says) in [(&text, "notes.mp4"), (&empty, "empty.y4m"), (&missing, "missing.mp4")] {
        let clip = clip.to_str().unwrap();
        fails_with(
            &["enroll", "--i-consent", "--from", clip, "--out", out.to_str().unwrap(), "--plain"],
            says,
        );
    }
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
    assert_eq!(left.len(), 2, "only what was there before: {left:?}");
}

#[test]
fn a_clip_that_is_cut_short_is_refused() {
    let folder = folder("cut-short");
    let clip = folder.join("cut.y4m");
    let mut bytes = b"YUV4MPEG2 W64 H64 F25:1 Ip A1:1 C444\nFRAME\n".to_vec();
    bytes.extend([120; 1000]);
    std::fs::write(&clip, bytes).unwrap();
    let out = folder.join("me.face");
    let args = ["enroll", "--from", clip.to_str().unwrap(), "--out", out.to_str().unwrap()];
    fails_with(&[&args[..], &["--i-consent", "--plain"]].concat(), "cut short");
    assert!(!out.exists());
}

#[test]
fn part_of_a_clip_is_taken_only_on_request() {
    let folder = folder("partial");
    let clip = folder.join("cut.y4m");
    let mut bytes = b"YUV4MPEG2 W64 H64 F25:1 Ip A1:1 C444\n".to_vec();
    for _ in 0..3 {
        bytes.extend_from_slice(b"FRAME\n");
        bytes.extend(std::iter::repeat_n(120, 64 * 64 * 3));
    }
    bytes.truncate(bytes.len() - 1);
    std::fs::write(&clip, bytes).unwrap();
    let archive = folder.join("out.npz");
    let args = ["track", clip.to_str().unwrap(), "--landmarks", archive.to_str().unwrap()];
    fails_with(&args, "only 2 frames of the clip could be read");
    fails_with(&args, "--partial");
    assert!(!archive.exists());
    let output = feathercall(&[&args[..], &["--partial"]].concat());
    let [out, told] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{told}");
    assert!(out.contains("0 of 2 frames"), "{out}");
    assert_eq!(told.matches("warning: only 2 frames").count(), 1, "{told}");
}

#[test]
fn a_clip_without_a_face_is_refused() {
    let folder = folder("no-face");
    let clip = folder.join("grey.y4m");
    let mut bytes = b"YUV4MPEG2 W128 H128 F25:1 Ip A1:1 C444\n".to_vec();
    for _ in 0..60 {
        bytes.extend_from_slice(b"FRAME\n");
        bytes.extend(std::iter::repeat_n(120, 128 * 128 * 3));
    }
    std::fs::write(&clip, bytes).unwrap();
    let out = folder.join("me.face");
    let args = ["enroll", "--from", clip.to_str().unwrap(), "--out", out.to_str().unwrap()];
    fails_with(&[&args[..], &["--i-consent", "--plain"]].concat(), "face");
    assert!(!out.exists());
}

#[test]
fn a_damaged_or_foreign_face_file_is_refused() {
    let folder = folder("faces");
    let good = std::fs::read(demo_face()).unwrap();
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let mut newer = good.clone();
    // The version stands behind the eight bytes of magic.
    newer[8] = newer[8].wrapping_add(1);
    for (name, bytes, says) in [
        ("flipped.face", &flipped[..], "damaged"),
        ("newer.face", &newer[..], "version"),
        ("short.face", &good[..good.len() / 3], "truncated"),
        ("foreign.face", b"\x89PNG\r\n\x1a\n not a face", "not a face file"),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        fails_with(&["model", "info", path.to_str().unwrap()], says);
    }
}

/// An invite to a port on which nobody listens.
const NOBODY: &str = "feathercall://127.0.0.1:1/6544j2tadb5bpr2t#008j4ct4ank7f24snaxwsqfezy5ww37g";

#[test]
fn a_guest_that_cannot_meet_its_host_says_why() {
    let encoded = NOBODY.replace('#', "%23");
    for link in [NOBODY, &format!("<{encoded}>"), &format!("Here is my link: {NOBODY}.")] {
        fails_with(&["join", link, "--headless"], "nothing listens at 127.0.0.1:1");
    }
    let somewhere = ["call", "--headless", "--rendezvous", "127.0.0.1:1"];
    fails_with(&somewhere, "nothing listens at 127.0.0.1:1");
}

#[test]
fn a_server_that_cannot_be_used_is_an_error_at_the_start() {
    for (option, value, says) in [
        ("--rendezvous", "wss://calls.example:7300", "cannot be reached by wss://"),
        ("--rendezvous", "calls.example", "no port"),
        ("--rendezvous", "calls example:7300", "no name"),
        ("--ice-server", "turns:a:b@turn.example:5349", "turns: (tls) is not supported"),
        ("--ice-server", "turn:a:b@turn.example?transport=tcp", "transport=tcp is not supported"),
        ("--ice-server", "turn.example", "begins with stun: or turn:"),
    ] {
        fails_with(&["call", "--headless", option, value], says);
    }
}

#[test]
fn a_link_with_a_typo_is_refused() {
    for link in ["feathercall://127.0.0.1:1/abc#wrong", "https://example.org", ""] {
        fails_with(&["join", link, "--headless"], "link");
    }
}

#[test]
fn a_link_comes_from_standard_input_or_the_environment_as_well() {
    let with_input = |input: &str| {
        let mut join = Command::new(env!("CARGO_BIN_EXE_feathercall"));
        join.args(["join", "-", "--headless"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut join = join.spawn().unwrap();
        join.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        join.wait_with_output().unwrap()
    };
    failed_with(&with_input(""), "no link on standard input");
    failed_with(&with_input("feathercall://127.0.0.1:1/abc#wrong\n"), "link");
    let message = format!("Hi!\n> {}\n> {}\n\nSee you", &NOBODY[..40], &NOBODY[40..]);
    failed_with(&with_input(&message), "nothing listens at 127.0.0.1:1");
    let link = "feathercall://call.example:4433/bkh3h9jtf5b8rpgm#008j4ct4ank7f24snaxwsqfezzvdajc6";
    let mut join = Command::new(env!("CARGO_BIN_EXE_feathercall"));
    join.args(["join", "--headless"]).env("FEATHERCALL_LINK", link);
    failed_with(&join.output().unwrap(), "link");
    let help = String::from_utf8(feathercall(&["join", "--help"]).stdout).unwrap();
    assert!(help.contains("Other users of this machine can see arguments"), "{help}");
}

#[test]
fn a_server_with_a_typo_is_refused_at_the_start_without_its_password() {
    let args = ["call", "--headless", "--ice-server"];
    fails_with(&[&args[..], &["turn:ada:secret@host:port"]].concat(), "server 1 of --ice-server");
    let mut call = Command::new(env!("CARGO_BIN_EXE_feathercall"));
    call.args(["call", "--headless"]).env("FEATHERCALL_ICE_SERVERS", "stun:a turn:ada:secret@");
    let output = call.output().unwrap();
    failed_with(&output, "server 2 of feathercall_ice_servers");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("secret"));
}

#[test]
fn a_failed_call_says_one_line() {
    fails_with(&["call", "--headless", "--rendezvous", "127.0.0.1:9"], "nothing listens at");
    let folder = folder("recording");
    let taken = folder.join("taken.mp4");
    std::fs::create_dir(&taken).unwrap();
    fails_with(&["call", "--headless", "--record", taken.to_str().unwrap()], "taken.mp4");
    fails_with(&["call", "--headless", "--stats", taken.to_str().unwrap()], "taken.mp4");
    fails_with(&["call", "--headless", "--wait", "0.1s"], "nobody came");
}

#[test]
fn a_stream_that_is_none_is_refused() {
    let folder = folder("streams");
    let stream = folder.join("noise.fcs");
    std::fs::write(&stream, [7; 100]).unwrap();
    let out = folder.join("out.y4m");
    let face = demo_face();
    let args = ["decode", stream.to_str().unwrap(), "--face", face.to_str().unwrap()];
    fails_with(&[&args[..], &["--out", out.to_str().unwrap()]].concat(), "stream");
    assert!(!out.exists());
    let args = ["call", "--headless", "--source", stream.to_str().unwrap(), "--face"];
    fails_with(&[&args[..], &[face.to_str().unwrap()]].concat(), "cannot send the stream");
}

/// A stream of the built-in face with two units, a day apart.
fn a_day_of_two_units() -> Vec<u8> {
    let start = b"FCS4\x8f\x3d\xd4\xf2\x55\xa5\xd8\x94";
    [&start[..], b"\x00\x01u", b"\x80\xc0\xdd\xee\xc1\x02\x01u"].concat()
}

#[test]
fn a_short_stream_of_a_long_video_is_not_rendered_without_a_question() {
    let folder = folder("long-streams");
    let stream = folder.join("day.fcs");
    std::fs::write(&stream, a_day_of_two_units()).unwrap();
    let (out, face) = (folder.join("out.y4m"), demo_face());
    let args = ["decode", stream.to_str().unwrap(), "--face", face.to_str().unwrap()];
    let args = [&args[..], &["--out", out.to_str().unwrap()]].concat();
    fails_with(&args, "24:00:00 of video, 2160001 pictures; add --yes");
    // With --yes it is rendered, up to the first unit that does not decode.
    fails_with(&[&args[..], &["--yes"]].concat(), "unit 0 does not decode");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "only the stream");
}

/// The question needs a terminal, which `script` provides.
#[cfg(target_os = "linux")]
#[test]
fn decode_asks_on_a_terminal_before_hours_of_video() {
    let folder = folder("long-question");
    let stream = folder.join("day.fcs");
    std::fs::write(&stream, a_day_of_two_units()).unwrap();
    let program = env!("CARGO_BIN_EXE_feathercall");
    let face = demo_face().canonicalize().unwrap();
    let line = format!("{program} decode day.fcs --face {} --out out.y4m", face.display());
    for (answer, says) in [("n", "nothing was rendered"), ("y", "unit 0 does not decode")] {
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).current_dir(&folder);
        let script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        script.stdin.as_ref().unwrap().write_all(format!("{answer}\n").as_bytes()).unwrap();
        let output = script.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(told.contains("24:00:00 of video, 2160001 pictures; render them all?"), "{told}");
        assert!(told.contains(says), "{told}");
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "only the stream");
    }
}

#[test]
fn a_file_beyond_its_limit_is_not_read() {
    let folder = folder("long-files");
    let long = folder.join("long");
    // A terabyte that takes no space on disk.
    std::fs::File::create(&long).unwrap().set_len(1 << 40).unwrap();
    let (long, face, out) = (long.to_str().unwrap(), demo_face(), folder.join("out.y4m"));
    let (face, out) = (face.to_str().unwrap(), out.to_str().unwrap());
    fails_with(&["model", "info", long], "it is longer than");
    fails_with(&["decode", long, "--face", face, "--out", out], "longer than 67108864 bytes");
    let stream = folder.join("long.fcs");
    std::fs::rename(long, &stream).unwrap();
    let args = ["call", "--headless", "--face", face, "--source", stream.to_str().unwrap()];
    fails_with(&args, "longer than 67108864 bytes");
}

#[cfg(target_os = "linux")]
#[test]
fn without_a_display_the_window_says_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_feathercall"))
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .env_remove("WAYLAND_SOCKET")
        .output()
        .expect("it starts");
    failed_with(&output, "display");
}
