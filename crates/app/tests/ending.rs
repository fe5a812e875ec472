//! How the program ends: by a signal, by a crash, on a full disk, and when nobody comes. Nothing that
//! was recorded is lost, and the peer hears a goodbye.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "whatever fails here is a failed test")]
#![expect(clippy::disallowed_methods, reason = "other processes take their time")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use capture::{ClipWriter, Source, SourceSpec};

/// Longest wait for anything; a busy machine takes a fraction of it.
const PATIENCE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(50);

fn feathercall(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_feathercall"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// An empty folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn demo_face() -> String {
    format!("{}/../../assets/demo.face", env!("CARGO_MANIFEST_DIR"))
}

/// A running program, which is killed if the test fails.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// Starts a host that sends the actor and lets everybody in, and returns it with its invite link.
    fn host(more: &[&str]) -> (Self, String) {
        let face = demo_face();
        let args = ["call", "--headless", "--no-audio", "--auto-admit", "--source", "actor"];
        let mut host = Self::start(feathercall(&args).args(["--face", &face]).args(more));
        let link = host.line_with("feathercall://");
        (host, link.trim().to_owned())
    }

    /// Reads lines until one contains `text`, and returns it.
    fn line_with(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "no line with {text}");
        }
        line
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for the end and returns the exit status and what was said on standard error.
    fn end(mut self) -> (ExitStatus, String) {
        until("the program ends", || self.child.try_wait().unwrap().is_some());
        let mut told = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        (self.child.wait().unwrap(), told)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(POLL);
    }
}

/// Waits until statistics tell that `n` pictures were recorded.
#[track_caller]
fn until_recorded(stats: &Path, n: u64) {
    until("pictures are recorded", || {
        let rows = std::fs::read_to_string(stats).unwrap_or_default();
        let last = rows.lines().filter_map(|row| serde_json::from_str(row).ok()).next_back();
        last.is_some_and(|row: serde_json::Value| row["recorded_frames"].as_u64() >= Some(n))
    });
}

fn n_frames(clip: &Path) -> usize {
    let mut source = Source::open(&SourceSpec::Clip(clip.to_owned())).unwrap();
    std::iter::from_fn(|| source.next_frame().unwrap()).count()
}

/// Counts the frames before the place at which a crash may have cut a clip short.
fn n_frames_before_cut(clip: &Path) -> usize {
    let mut source = Source::open(&SourceSpec::Clip(clip.to_owned())).unwrap();
    std::iter::from_fn(|| source.next_frame().ok().flatten()).count()
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Starts a guest that records into a folder, and returns it with the paths of recording and statistics.
fn recording_guest(folder: &Path, link: &str) -> (Running, PathBuf, PathBuf) {
    let (clip, stats) = (folder.join("call.mp4"), folder.join("stats.jsonl"));
    let mut guest = feathercall(&["join", link, "--headless", "--no-audio", "--resolution", "128"]);
    guest.arg("--record").arg(&clip).arg("--stats").arg(&stats);
    (Running::start(&mut guest), clip, stats)
}

#[test]
fn a_signal_ends_a_call_with_a_goodbye_and_a_whole_recording() {
    for (signal, other) in [("INT", "TERM"), ("TERM", "HUP"), ("HUP", "INT")] {
        let folder = folder(&format!("signal-{signal}"));
        let (host, link) = Running::host(&[]);
        let (guest, clip, stats) = recording_guest(&folder, &link);
        until_recorded(&stats, 30);
        guest.signal(signal);
        let (status, told) = guest.end();
        assert_eq!(status.code(), Some(0), "{signal}: {told}");
        assert_eq!(names(&folder), ["call.mp4", "stats.jsonl"], "{signal}: {told}");
        assert!(n_frames(&clip) >= 30, "{signal}");
        assert_eq!((mode(&clip), mode(&stats)), (0o600, 0o600));
        // Without a goodbye the host would wait for its peer.
        let (status, told) = host.end();
        assert_eq!(status.code(), Some(0), "{signal}: {told}");
        assert!(!told.contains("lost"), "{signal}: {told}");

        // A host that waits alone ends as well.
        let (host, _) = Running::host(&[]);
        host.signal(other);
        let (status, told) = host.end();
        assert_eq!(status.code(), Some(0), "{other}: {told}");
    }
}

#[test]
fn a_killed_call_leaves_a_recording_that_can_be_played() {
    let folder = folder("killed");
    let (host, link) = Running::host(&[]);
    let (guest, clip, stats) = recording_guest(&folder, &link);
    until_recorded(&stats, 80);
    guest.signal("KILL");
    drop(guest.end());
    assert_eq!(names(&folder), ["call.part.mp4", "stats.jsonl"]);
    let part = folder.join("call.part.mp4");
    assert!(n_frames_before_cut(&part) >= 50);
    assert_eq!(mode(&part), 0o600);
    host.signal("TERM");
    drop(host.end());

    // The next recording of that name tells where the remains are, and leaves them there.
    let args = ["call", "--headless", "--no-audio", "--wait", "0.5s", "--record"];
    let output = feathercall(&args).arg(&clip).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("call.part.mp4"), "{told}");
    assert!(told.lines().last().unwrap().starts_with("feathercall: nobody came"), "{told}");
    assert!(n_frames_before_cut(&part) >= 50);
}

#[test]
fn a_full_disk_ends_the_recording_and_not_the_call() {
    // Writing beyond this number of blocks of 512 bytes fails, as on a full disk: behind some pictures, and before the
    // first ones.
    for (blocks, says, left) in
        [("256", "cut short", &["call.mp4"][..]), ("16", "nothing was recorded", &[])]
    {
        let folder = folder(&format!("full-{blocks}"));
        let (host, link) = Running::host(&[]);
        let clip = folder.join("call.mp4");
        let mut guest = Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        guest.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_feathercall")]);
        guest.args(["join", &link, "--headless", "--no-audio"]);
        guest.args(["--resolution", "256", "--duration", "20s", "--record"]).arg(&clip);
        let output = guest.stdin(Stdio::null()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(says), "{told}");
        assert!(told.contains("the call goes on"), "{told}");
        assert!(told.contains("20.0 s of call"), "{told}");
        assert_eq!(names(&folder), left, "{told}");
        assert!(left.is_empty() || n_frames(&clip) >= 10, "{told}");
        drop(host);
    }
}

#[test]
fn an_interrupted_decode_leaves_nothing_behind() {
    let folder = folder("decode");
    let (clip, stream, out) = (folder.join("a.y4m"), folder.join("a.fcs"), folder.join("out.y4m"));
    let mut actor = Source::open(&SourceSpec::Actor).unwrap();
    let mut writer = ClipWriter::create(&clip, actor.fps()).unwrap();
    for _ in 0..50 {
        writer.push(&actor.next_frame().unwrap().unwrap()).unwrap();
    }
    writer.finish().unwrap();
    let face = demo_face();
    let encoded = feathercall(&["encode", clip.to_str().unwrap(), "--face", &face, "--out"])
        .arg(&stream)
        .output()
        .unwrap();
    assert!(encoded.status.success(), "{}", String::from_utf8_lossy(&encoded.stderr));
    let before = names(&folder);

    let args = ["decode", stream.to_str().unwrap(), "--face", &face, "--fps", "240"];
    let mut decode = feathercall(&args);
    let decode = Running::start(decode.args(["--resolution", "1024", "--out"]).arg(&out));
    let has_pictures = || folder.join("out.part.y4m").metadata().is_ok_and(|part| part.len() > 0);
    until("pictures are written", has_pictures);
    decode.signal("INT");
    let (status, told) = decode.end();
    assert_eq!(status.code(), Some(130), "{told}");
    assert_eq!(told, "feathercall: interrupted\n");
    assert_eq!(names(&folder), before);
}

#[test]
fn an_interrupted_enrollment_says_how_to_go_on() {
    let folder = folder("enroll");
    let out = folder.join("me.face");
    let args = ["enroll", "--from", "actor", "--size", "64", "--budget", "1m", "--json", "--out"];
    let mut enroll = feathercall(&args);
    // Not the key store of whoever runs the tests.
    enroll.env("FEATHERCALL_KEY_FILE", self::folder("enroll-key").join("key"));
    let mut enroll = Running::start(enroll.arg(&out));
    enroll.line_with("\"learning\"");
    enroll.signal("TERM");
    let (status, told) = enroll.end();
    // 128 and the number of SIGTERM.
    assert_eq!(status.code(), Some(143), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("--resume"), "{told}");
    assert_eq!(names(&folder), ["me.face.part"]);
}

#[test]
fn a_guest_whose_host_does_not_come_gives_up_and_the_service_names_no_room() {
    let mut service = Running::start(&mut feathercall(&["rendezvous", "--listen", "127.0.0.1:0"]));
    let line = service.line_with("listening on");
    let address = line.split_whitespace().last().unwrap().to_owned();
    let (host, link) = Running::host(&["--rendezvous", &address]);
    host.signal("TERM");
    assert_eq!(host.end().0.code(), Some(0));

    let args = ["join", &link, "--headless", "--no-audio", "--wait", "11s"];
    let Output { status, stderr, .. } = feathercall(&args).output().unwrap();
    let told = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(1), "{told}");
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines[0], "no host here yet, waiting", "{told}");
    assert!(lines[1].starts_with("feathercall: nobody came within 11 s"), "{told}");
    assert_eq!(lines.len(), 2, "{told}");

    // The log and the metrics of the service name no room.
    let (_, room) = link.rsplit_once('/').unwrap();
    let (room, _) = room.split_once('#').unwrap();
    let mut metrics = String::new();
    let mut socket = TcpStream::connect(&address).unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    socket.read_to_string(&mut metrics).unwrap();
    assert!(metrics.contains("200 OK") && !metrics.contains(room), "{metrics}");
    service.signal("TERM");
    let (status, told) = service.end();
    assert_eq!(status.code(), Some(0));
    assert!(!told.contains(room), "{told}");
}
