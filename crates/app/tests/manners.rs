//! What the program does when standard output or standard error cannot be written: every command, with
//! a reader that has gone and with a full disk.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "whatever fails here is a failed test")]
#![expect(clippy::disallowed_methods, reason = "another process takes its time")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use capture::{ClipWriter, Source, SourceSpec};

/// Longest wait for anything; a busy machine takes a fraction of it.
const PATIENCE: Duration = Duration::from_mins(2);

/// A computer of its own for one test: home, settings and data in one folder.
struct Computer(PathBuf);

impl Computer {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("manners").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let face = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/demo.face");
        fs::copy(face, folder.join("demo.face")).unwrap();
        Self(folder)
    }

    /// The program on this computer, without a display.
    fn feathercall(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_feathercall"));
        command.args(args).current_dir(&self.0).stdin(Stdio::null());
        for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"] {
            command.env(variable, self.0.join("home"));
        }
        for variable in ["DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"] {
            command.env_remove(variable);
        }
        command.env("FEATHERCALL_KEY_FILE", self.0.join("key"));
        command
    }

    /// A clip of the actor with this many frames.
    fn clip(&self, n_frames: usize) {
        let mut actor = Source::open(&SourceSpec::Actor).unwrap();
        let mut writer = ClipWriter::create(&self.0.join("clip.y4m"), 25).unwrap();
        for _ in 0..n_frames {
            writer.push(&actor.next_frame().unwrap().unwrap()).unwrap();
        }
        writer.finish().unwrap();
    }

    /// Runs a command that succeeds with one or more lines on standard output, with each of its streams
    /// closed and full. It has to succeed unless standard output is full.
    #[track_caller]
    fn behaves(&self, args: &[&str]) {
        for (out, err, code) in [
            (Stream::Closed, Stream::Open, 0),
            (Stream::Full, Stream::Open, 1),
            (Stream::Open, Stream::Closed, 0),
            (Stream::Full, Stream::Full, 1),
        ] {
            self.ends(args, out, err, code);
        }
    }

    /// Runs a command that ends with `code`, and checks that it says at most one line on standard error:
    /// none if it succeeds.
    #[track_caller]
    fn ends(&self, args: &[&str], out: Stream, err: Stream, code: i32) {
        let child = self.feathercall(args).stdout(out.stdio()).stderr(err.stdio()).spawn().unwrap();
        let (status, told) = end(child);
        let case = format!("{args:?} with {out:?} output and {err:?} errors: {told}");
        assert_eq!(status.code(), Some(code), "{case}");
        let n_lines = usize::from(code != 0 && err == Stream::Open);
        // A call reports its events, one a line.
        assert!(told.lines().count() == n_lines || args[0] == "demo", "{case}");
        if out == Stream::Full && err == Stream::Open {
            assert!(told.contains("No space left on device"), "{case}");
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stream {
    Open,
    /// A pipe whose reader has gone.
    Closed,
    Full,
}

impl Stream {
    fn stdio(self) -> Stdio {
        match self {
            Self::Open => Stdio::piped(),
            Self::Closed => std::io::pipe().unwrap().1.into(),
            Self::Full => File::options().write(true).open("/dev/full").unwrap().into(),
        }
    }
}

/// Waits for the end and returns the exit status and what was said on standard error.
fn end(mut child: Child) -> (ExitStatus, String) {
    let output = child.stdout.take();
    let reader =
        thread::spawn(move || output.map(|mut output| output.read_to_end(&mut Vec::new())));
    let mut told = String::new();
    if let Some(mut errors) = child.stderr.take() {
        errors.read_to_string(&mut told).unwrap();
    }
    reader.join().unwrap();
    (child.wait().unwrap(), told)
}

#[test]
fn commands_that_inspect_do_not_mind_a_closed_output_and_report_a_full_one() {
    let computer = Computer::new("inspect");
    fs::create_dir_all(computer.0.join("home/feathercall/faces")).unwrap();
    fs::copy(computer.0.join("demo.face"), computer.0.join("home/feathercall/faces/ada.face"))
        .unwrap();
    for args in [
        &["--help"][..],
        &["--version"],
        &["join", "--help"],
        &["devices"],
        &["devices", "--json"],
        &["files"],
        &["files", "--json"],
        &["model", "info", "demo.face"],
        &["model", "info", "demo.face", "--json"],
        &["model", "export", "demo.face", "--out", "public.face"],
        &["model", "encrypt", "demo.face"],
        &["model", "decrypt", "demo.face", "--out", "copy.face"],
    ] {
        computer.behaves(args);
    }
}

#[test]
fn commands_that_measure_do_not_mind_a_closed_output_and_report_a_full_one() {
    let computer = Computer::new("measure");
    computer.clip(3);
    computer.behaves(&["track", "clip.y4m", "--landmarks", "clip.npz"]);
    computer.behaves(&["encode", "clip.y4m", "--face", "demo.face", "--out", "clip.fcs"]);
    let decode = ["decode", "clip.fcs", "--face", "demo.face", "--resolution", "128"];
    computer.behaves(&[&decode[..], &["--out", "out.y4m"]].concat());
    let eval = ["eval", "--clip", "clip.y4m", "--face", "demo.face", "--resolutions", "128"];
    computer.behaves(&eval);
    // Takes ten seconds of computing time.
    computer.ends(&["bench", "codec", "--json"], Stream::Full, Stream::Full, 1);
}

#[test]
fn an_enrollment_and_a_demo_do_not_need_a_reader() {
    let computer = Computer::new("make");
    let demo = ["demo", "--headless", "--seconds", "1", "--record", "a.y4m"];
    computer.ends(&demo, Stream::Closed, Stream::Closed, 0);
    computer.ends(&demo, Stream::Full, Stream::Open, 1);
    // The shortest clip that is enough.
    computer.clip(55);
    let enroll = ["enroll", "--from", "clip.y4m", "--i-consent", "--plain", "--size", "64"];
    let enroll = [&enroll[..], &["--steps", "1", "--out", "me.face"]].concat();
    computer.ends(&enroll, Stream::Full, Stream::Full, 1);
    assert!(computer.0.join("me.face").exists());
}

#[test]
fn a_call_whose_link_reaches_nobody_fails_and_others_go_on() {
    let computer = Computer::new("call");
    let call = ["call", "--headless", "--no-audio", "--wait", "0.1s"];
    for (out, err) in [
        (Stream::Closed, Stream::Open),
        (Stream::Full, Stream::Open),
        (Stream::Full, Stream::Full),
        // Nobody comes.
        (Stream::Open, Stream::Closed),
    ] {
        computer.ends(&call, out, err, 1);
        computer.ends(&["join", "no-link", "--headless"], Stream::Open, err, 1);
    }
    let mut call = computer.feathercall(&["call", "--headless", "--no-audio", "--wait", "1s"]);
    let mut call = call.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Reads the link and goes, as `head -1` does.
    let mut link = String::new();
    BufReader::new(call.stdout.take().unwrap()).read_line(&mut link).unwrap();
    assert!(link.starts_with("feathercall://"), "{link}");
    let (status, told) = end(call);
    assert!(status.code() == Some(1) && told.contains("nobody came"), "{told}");
}

#[test]
fn a_rendezvous_service_serves_without_anybody_reading() {
    let computer = Computer::new("rendezvous");
    for (out, code) in [(Stream::Closed, 0), (Stream::Full, 1)] {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut service = computer.feathercall(&["rendezvous", "--listen", &address.to_string()]);
        let service = service.stdout(out.stdio()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "nobody listens");
            thread::sleep(Duration::from_millis(20));
        }
        let pid = service.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
        let (status, told) = end(service);
        assert_eq!(status.code(), Some(code), "{told}");
    }
}

/// Runs a command that succeeds and returns what it prints.
#[track_caller]
fn prints(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.is_empty(), "{command:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn json_is_alone_on_standard_output() {
    let computer = Computer::new("json");
    computer.clip(2);
    for args in [
        &["devices", "--json"][..],
        &["files", "--json"],
        &["model", "info", "demo.face", "--json"],
        &["model", "export", "demo.face", "--out", "public.face", "--json"],
        &["model", "encrypt", "demo.face", "--json"],
        &["model", "decrypt", "demo.face", "--out", "copy.face", "--json"],
        &["track", "clip.y4m", "--landmarks", "clip.npz", "--json"],
        &["encode", "clip.y4m", "--face", "copy.face", "--out", "clip.fcs", "--json"],
        &["decode", "clip.fcs", "--face", "copy.face", "--out", "out.y4m", "--json"],
    ] {
        let printed = prints(&mut computer.feathercall(args));
        for line in printed.lines() {
            let row: Result<serde_json::Value, _> = serde_json::from_str(line);
            assert!(row.is_ok_and(|row| row.is_object()), "{args:?}: {line}");
        }
    }
}

#[test]
fn paths_may_be_in_the_home_folder_begin_with_a_dash_or_not_be_text() {
    let computer = Computer::new("paths");
    let home = computer.0.join("home");
    fs::create_dir_all(&home).unwrap();
    prints(&mut computer.feathercall(&["model", "export", "demo.face", "--out=~/me.face"]));
    assert!(home.join("me.face").exists());
    prints(&mut computer.feathercall(&["model", "info", "~/me.face"]));
    prints(&mut computer.feathercall(&["files", "~/", "./"]));
    prints(&mut computer.feathercall(&["model", "export", "demo.face", "--out=-me.face"]));
    prints(&mut computer.feathercall(&["model", "info", "--", "-me.face"]));

    computer.clip(2);
    let name = OsStr::from_bytes(b"clip-\xff.y4m");
    fs::rename(computer.0.join("clip.y4m"), computer.0.join(name)).unwrap();
    let mut track = computer.feathercall(&["track", "--landmarks", "clip.npz"]);
    assert!(prints(track.arg(name)).contains("2 of 2 frames"));
    // A name that is not text is that of a missing picture or clip, not a mistake in itself.
    let missing = OsStr::from_bytes(b"\xff.png");
    let action = OsStr::from_bytes(b"1s=background:\xff.png");
    for (args, value, code) in [
        (&["enroll", "--i-consent", "--plain", "--out", "x.face", "--from"][..], missing, 1),
        (&["call", "--headless", "--face", "demo.face", "--source"], missing, 1),
        (&["call", "--headless", "--background"], missing, 2),
        (&["call", "--headless", "--at"], action, 2),
    ] {
        let output = computer.feathercall(args).arg(value).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
        assert!(!told.contains("invalid UTF-8"), "{told}");
    }
}

#[test]
fn an_output_of_an_unknown_kind_is_an_error_before_any_work() {
    let computer = Computer::new("kinds");
    for (args, known) in [
        (&["call", "--headless", "--record", "x.webm"][..], ".mp4, .m4v, .y4m"),
        (&["join", "no-link", "--record", "x.avi"], ".mp4, .m4v, .y4m"),
        (&["demo", "--record", "x.mov"], ".mp4, .m4v, .y4m"),
        (&["decode", "no.fcs", "--face", "demo.face", "--out", "x.txt"], ".mp4, .m4v, .y4m"),
        (&["encode", "no.mp4", "--face", "demo.face", "--out", "x.mp4"], ".fcs"),
        (&["track", "no.mp4", "--landmarks", "x.csv"], ".npz"),
        (&["enroll", "--from", "actor", "--out", "me.mp4"], ".face"),
        (&["model", "export", "demo.face", "--out", "me.png"], ".face"),
    ] {
        let output = computer.feathercall(args).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
        assert!(told.contains(known), "{args:?}: {told}");
    }
    assert_eq!(fs::read_dir(&computer.0).unwrap().count(), 1, "only the face");
}

#[test]
fn an_action_does_not_swallow_the_link() {
    let computer = Computer::new("actions");
    for args in [
        &["join", "--headless", "--at", "4s=mute", "no-link"][..],
        &["join", "--headless", "--at", "4s=mute", "5s=hang-up", "no-link"],
        &["join", "no-link", "--headless", "--at", "4s=mute", "5s=hang-up"],
    ] {
        let output = computer.feathercall(args).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("link"), "{told}");
    }
}

#[test]
fn a_dead_display_is_one_line_that_says_what_to_do() {
    let computer = Computer::new("displays");
    let face = ["call", "--source", "actor"];
    for args in [&[][..], &face, &["join", "no-link"]] {
        for (variable, value) in [
            ("DISPLAY", ":4711"),
            ("DISPLAY", "nonsense"),
            ("WAYLAND_DISPLAY", "wayland-gone"),
            ("WAYLAND_DISPLAY", "/no/such/socket"),
            ("WAYLAND_SOCKET", "4711"),
            ("HOME", "."),
        ] {
            let output = computer.feathercall(args).env(variable, value).output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{told}");
            assert_eq!(told.lines().count(), 1, "{told}");
            assert!(told.contains("display") && told.contains("--headless"), "{told}");
            assert!(!told.contains(".rs:") && !told.contains("/registry/"), "{told}");
        }
    }
    // A demo does without a window.
    let args = ["demo", "--seconds", "1", "--record", "a.y4m"];
    let output = computer.feathercall(&args).env("DISPLAY", ":4711").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
