//! A person's files on disk: encrypted, closed to others, made with consent only, and removable.

#![expect(clippy::unwrap_used, reason = "whatever fails here is a failed test")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use face::FaceFile;

/// A computer of its own for one test: home, settings and data in one folder.
struct Computer(PathBuf);

impl Computer {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("private-files").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The program on this computer, without a terminal, a screen and a key store.
    fn feathercall(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_feathercall"));
        command.args(args).current_dir(&self.0).stdin(Stdio::null());
        for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "APPDATA"] {
            command.env(variable, self.path("home"));
        }
        for variable in ["DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"] {
            command.env_remove(variable);
        }
        command.env("FEATHERCALL_KEY_FILE", self.path("key"));
        command
    }

    #[track_caller]
    fn succeeds(&self, args: &[&str]) -> String {
        succeeded(&mut self.feathercall(args))
    }

    #[track_caller]
    fn fails(&self, args: &[&str], code: i32) -> String {
        failed(&mut self.feathercall(args), code)
    }

    /// Puts the built-in face there, in plain form and readable by everybody.
    fn put_plain_face(&self, name: &str) -> Vec<u8> {
        let face = fs::read(demo_face()).unwrap();
        fs::write(self.path(name), &face).unwrap();
        face
    }
}

fn demo_face() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/demo.face")
}

#[track_caller]
fn succeeded(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let told = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?} said {told}");
    assert_eq!(told, "", "{command:?}");
    String::from_utf8(stdout).unwrap()
}

/// Runs a command that fails with this exit code and one line, which is returned.
#[track_caller]
fn failed(command: &mut Command, code: i32) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let told = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{command:?} said {told}");
    assert_eq!(told.lines().count(), 1, "{command:?} said {told}");
    told
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_face_is_encrypted_and_every_command_reads_it() {
    let computer = Computer::new("encrypt");
    let plain = computer.put_plain_face("me.face");
    let told = computer.succeeds(&["model", "encrypt", "me.face"]);
    assert!(told.contains("encrypted") && told.contains("key"), "{told}");
    let encrypted = fs::read(computer.path("me.face")).unwrap();
    assert_eq!(encrypted.len(), plain.len() + vault::SEALED_OVERHEAD);
    // No section of the face is legible.
    assert!(!encrypted.windows(8).any(|window| window == b"FEATFACE"));
    assert!(!encrypted.windows(1000).any(|window| window == &plain[200_000..201_000]));
    #[cfg(unix)]
    assert_eq!([mode(&computer.path("me.face")), mode(&computer.path("key"))], [0o600; 2]);

    assert!(computer.succeeds(&["model", "encrypt", "me.face"]).contains("already"));
    let info = computer.succeeds(&["model", "info", "me.face", "--json"]);
    assert!(info.contains("\"encrypted\":true") && info.contains("\"consent\":null"), "{info}");
    computer.succeeds(&["model", "export", "me.face", "--out", "public.face"]);
    let public = FaceFile::parse(&plain).unwrap().public_bytes();
    assert_eq!(fs::read(computer.path("public.face")).unwrap(), public);
    let told = computer.fails(&["model", "export", "me.face", "--out", "./me.face"], 1);
    assert!(told.contains("--out"), "{told}");
    computer.succeeds(&["model", "decrypt", "me.face", "--out", "copy.face"]);
    assert_eq!(fs::read(computer.path("copy.face")).unwrap(), plain);
}

#[test]
fn a_face_without_its_key_is_refused_with_one_line() {
    let computer = Computer::new("other-key");
    computer.put_plain_face("me.face");
    computer.succeeds(&["model", "encrypt", "me.face"]);
    for face in [&["model", "info", "me.face"][..], &["bench", "render", "--face", "me.face"]] {
        let mut command = computer.feathercall(face);
        let told = failed(command.env("FEATHERCALL_KEY_FILE", computer.path("missing")), 1);
        assert!(told.contains("me.face") && told.contains("FEATHERCALL_KEY_FILE"), "{told}");
        let told = failed(command.env_remove("FEATHERCALL_KEY_FILE"), 1);
        assert!(told.contains("me.face") && told.contains("FEATHERCALL_KEY_FILE"), "{told}");
    }
    let mut damaged = fs::read(computer.path("me.face")).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(computer.path("me.face"), damaged).unwrap();
    assert!(computer.fails(&["model", "info", "me.face"], 1).contains("damaged"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_key_store_that_never_answers_does_not_hold_up_the_program() {
    let computer = Computer::new("silent");
    let plain = computer.put_plain_face("me.face");
    // Connections are accepted by the system; nobody ever reads from them.
    let socket = computer.path("bus");
    let _bus = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let run = |args: &[&str]| {
        let mut command = computer.feathercall(args);
        command.env_remove("FEATHERCALL_KEY_FILE");
        command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", socket.display()));
        succeeded(&mut command)
    };
    let told = run(&["model", "encrypt", "me.face"]);
    let key = computer.path("home/feathercall/key");
    assert!(told.contains(key.to_str().unwrap()), "{told}");
    assert_eq!([mode(&key), mode(key.parent().unwrap())], [0o600, 0o700]);
    run(&["model", "decrypt", "me.face", "--out", "copy.face"]);
    assert_eq!(fs::read(computer.path("copy.face")).unwrap(), plain);
}

#[test]
fn nobody_is_enrolled_without_consent() {
    let computer = Computer::new("consent");
    fs::write(computer.path("clip.y4m"), "YUV4MPEG2 W64 H64 F25:1 Ip A1:1 C444\n").unwrap();
    for from in ["clip.y4m", "camera"] {
        let told = computer.fails(&["enroll", "--from", from, "--out", "me.face"], 2);
        assert!(told.contains("--i-consent"), "{told}");
    }
    // With consent the enrollment starts, and finds no frame in the clip.
    let args = ["enroll", "--from", "clip.y4m", "--out", "me.face", "--i-consent"];
    assert!(computer.fails(&args, 1).contains("clip.y4m"));
    assert!(!computer.path("me.face").exists());
    // What an enrollment that fails leaves behind is named.
    let header = br#"{"__metadata__":{"fingerprint":"a face"}}"#;
    let state = [&(header.len() as u64).to_le_bytes()[..], header].concat();
    fs::write(computer.path("me.face.part"), state).unwrap();
    let told = computer.fails(&args, 1);
    assert!(told.contains("me.face.part") && told.contains("files --remove"), "{told}");
}

#[test]
fn what_was_interrupted_is_listed_and_removed_and_nothing_else() {
    let computer = Computer::new("files");
    fs::create_dir_all(computer.path("home/feathercall/faces")).unwrap();
    fs::write(computer.path(".feathercall-crash1.tmp"), [0; 1234]).unwrap();
    // Training state as earlier versions wrote it, from an hour ago.
    let header = br#"{"__metadata__":{"fingerprint":"a face"}}"#;
    let state = [&(header.len() as u64).to_le_bytes()[..], header].concat();
    let old = computer.path("home/feathercall/faces/Ada.face.part");
    fs::write(&old, &state).unwrap();
    let recording = computer.path("call.part-2.mp4");
    fs::write(&recording, b"\0\0\0\x24ftypisom\0\0\x02\0isomiso2iso6avc1mp41\0\0\0\x10free")
        .unwrap();
    let holiday = computer.path("holiday.part-2.mp4");
    fs::write(&holiday, b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41\0\0\0\x08free").unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_hours(1);
    for path in [&old, &recording, &holiday] {
        fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    fs::write(computer.path("running.face.part"), &state).unwrap();
    fs::write(computer.path("notes.part"), "a file of somebody else").unwrap();
    let plain = computer.put_plain_face("home/feathercall/faces/Ada.face");

    let told = computer.succeeds(&["files"]);
    for says in [
        "1234 bytes",
        "Ada.face:",
        "Ada.face.part",
        "running.face.part",
        "call.part-2.mp4",
        "--remove",
    ] {
        assert!(told.contains(says), "{says} in {told}");
    }
    assert!(!told.contains("notes.part") && !told.contains("holiday"), "{told}");
    // Listing has encrypted the face of an earlier version.
    let face = fs::read(computer.path("home/feathercall/faces/Ada.face")).unwrap();
    assert!(vault::is_sealed(&face) && face.len() == plain.len() + vault::SEALED_OVERHEAD);

    computer.succeeds(&["files", "--remove"]);
    for removed in [&old, &recording, &computer.path(".feathercall-crash1.tmp")] {
        assert!(!removed.exists(), "{}", removed.display());
    }
    for kept in
        ["running.face.part", "notes.part", "holiday.part-2.mp4", "home/feathercall/faces/Ada.face"]
    {
        assert!(computer.path(kept).exists(), "{kept}");
    }
}

/// All files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn the_face_of_a_peer_is_never_written_to_disk() {
    let (host, guest) = (Computer::new("peer-host"), Computer::new("peer-guest"));
    let face = host.put_plain_face("me.face");
    let public = FaceFile::parse(&face).unwrap().public_bytes();
    let holds_face = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        let pieces = [8, public.len() / 4, public.len() / 2, public.len() - 40];
        pieces
            .map(|at| &public[at..at + 32])
            .into_iter()
            .any(|piece| bytes.windows(piece.len()).any(|window| window == piece))
    };
    assert!(holds_face(&host.path("me.face")), "the test would notice it");

    let args = ["call", "--headless", "--no-audio", "--auto-admit", "--source", "actor"];
    let mut call = host.feathercall(&args);
    let mut call = call.args(["--face", "me.face"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut link = String::new();
    BufReader::new(call.stdout.take().unwrap()).read_line(&mut link).unwrap();
    fs::create_dir(guest.path("temporary")).unwrap();
    let mut join = guest.feathercall(&["join", link.trim(), "--headless", "--no-audio"]);
    join.args(["--duration", "5s", "--resolution", "128", "--record", "call.y4m"]);
    join.args(["--stats", "stats.jsonl"]).env("TMPDIR", guest.path("temporary"));
    let Output { status, stderr, .. } = join.output().unwrap();
    let _ = call.kill();
    let _ = call.wait();
    let told = String::from_utf8_lossy(&stderr);
    assert!(status.success() && told.contains("bytes of the peer's face"), "{told}");
    let files = files_below(&guest.0);
    assert!(files.contains(&guest.path("call.y4m")), "{files:?}");
    for file in files {
        assert!(!holds_face(&file), "{}", file.display());
    }
}
