//! Every command with an output, and everything that can be wrong with its place: the command fails
//! with one line before it begins, or replaces what it may replace, and nothing of a person's is lost.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "whatever fails here is a failed test")]
#![expect(clippy::disallowed_methods, reason = "other processes take their time")]

mod full_disk;
mod places;
mod replacing;
mod twice;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use capture::{ClipWriter, Source, SourceSpec};

/// A folder of one test with everything that the commands read.
struct Bench(PathBuf);

/// What the commands read: the built-in face, clips of the actor, a stream and pictures.
static INPUTS: LazyLock<BTreeMap<PathBuf, Vec<u8>>> = LazyLock::new(|| {
    let bench = Bench(Path::new(env!("CARGO_TARGET_TMPDIR")).join("outputs").join("inputs"));
    let _ = fs::remove_dir_all(&bench.0);
    fs::create_dir_all(&bench.0).unwrap();
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets");
    fs::copy(assets.join("demo.face"), bench.path("me.face")).unwrap();
    // An enrollment needs two seconds.
    for (name, n_frames) in [("clip.y4m", 12), ("long.y4m", 60), ("pictures", 4)] {
        let mut actor = Source::open(&SourceSpec::Actor).unwrap();
        let mut writer = ClipWriter::create(&bench.path(name), actor.fps()).unwrap();
        for _ in 0..n_frames {
            writer.push(&actor.next_frame().unwrap().unwrap()).unwrap();
        }
        writer.finish().unwrap();
    }
    bench.succeeds(&["encode", "clip.y4m", "--face", "me.face", "--out", "talk.fcs"]);
    let contents = bench.contents().into_iter();
    let files = contents.filter(|(path, _)| path.is_file());
    files.map(|(path, bytes)| (path.strip_prefix(&bench.0).unwrap().to_owned(), bytes)).collect()
});

/// A command without its output.
struct Case {
    /// Arguments before the path of the output; the last one is the option.
    args: &'static [&'static str],
    /// Usual name of the output.
    out: &'static str,
    /// What the command reads.
    inputs: &'static [&'static str],
}

impl Case {
    const fn new(
        args: &'static [&'static str],
        out: &'static str,
        inputs: &'static [&'static str],
    ) -> Self {
        Self { args, out, inputs }
    }

    /// Extension of the output; none for a folder.
    fn extension(&self) -> Option<&'static str> {
        self.out.split_once('.').map(|(_, extension)| extension)
    }

    /// Whether the output is a folder in which files are written.
    fn writes_into_folder(&self) -> bool {
        self.args[0] == "eval"
    }
}

/// Every command with an output. Those that work do so for a few pictures.
const CASES: &[Case] = &[
    Case::new(
        &["encode", "clip.y4m", "--face", "me.face", "--out"],
        "out.fcs",
        &["clip.y4m", "me.face"],
    ),
    Case::new(
        &["decode", "talk.fcs", "--face", "me.face", "--resolution", "128", "--out"],
        "out.mp4",
        &["talk.fcs", "me.face"],
    ),
    Case::new(
        &["decode", "talk.fcs", "--face", "me.face", "--resolution", "128", "--out"],
        "out.y4m",
        &["talk.fcs", "me.face"],
    ),
    Case::new(
        &["decode", "talk.fcs", "--face", "me.face", "--resolution", "128", "--out"],
        "out",
        &["talk.fcs", "me.face"],
    ),
    Case::new(
        &[
            "enroll",
            "--i-consent",
            "--plain",
            "--size",
            "64",
            "--steps",
            "1",
            "--from",
            "long.y4m",
            "--out",
        ],
        "out.face",
        &["long.y4m"],
    ),
    Case::new(&["track", "clip.y4m", "--landmarks"], "out.npz", &["clip.y4m"]),
    Case::new(
        &[
            "eval",
            "--clip",
            "pictures",
            "--face",
            "me.face",
            "--resolutions",
            "64",
            "--frames",
            "0..2",
            "--report",
        ],
        "report",
        &["pictures"],
    ),
    Case::new(
        &["eval", "--clip", "pictures", "--face", "me.face", "--frames", "0..1", "--curve"],
        "curves",
        &["pictures"],
    ),
    Case::new(&["model", "export", "me.face", "--out"], "out.face", &["me.face"]),
    Case::new(&["model", "decrypt", "me.face", "--out"], "out.face", &["me.face"]),
    Case::new(&["demo", "--headless", "--seconds", "2", "--record"], "out.mp4", &[]),
    Case::new(
        &[
            "call",
            "--headless",
            "--no-audio",
            "--wait",
            "0.1s",
            "--face",
            "me.face",
            "--source",
            "clip.y4m",
            "--record",
        ],
        "out.mp4",
        &["clip.y4m", "me.face"],
    ),
    Case::new(
        &[
            "join",
            "feathercall://127.0.0.1:9/none",
            "--headless",
            "--no-audio",
            "--face",
            "me.face",
            "--source",
            "clip.y4m",
            "--stats",
        ],
        "out.jsonl",
        &["clip.y4m", "me.face"],
    ),
];

impl Bench {
    fn new(name: &str) -> Self {
        let bench = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join("outputs").join(name));
        // Also what an earlier run has closed to itself.
        let _ = Command::new("chmod").args(["-Rf", "u+rwX"]).arg(&bench.0).status();
        let _ = fs::remove_dir_all(&bench.0);
        fs::create_dir_all(bench.path("home")).unwrap();
        for (name, contents) in &*INPUTS {
            fs::create_dir_all(bench.0.join(name).parent().unwrap()).unwrap();
            fs::write(bench.0.join(name), contents).unwrap();
        }
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The program in this folder, without a terminal, a screen and a key store.
    fn feathercall(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_feathercall"));
        command.args(args).current_dir(&self.0).stdin(Stdio::null());
        for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"] {
            command.env(variable, self.path("home"));
        }
        for variable in ["DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"] {
            command.env_remove(variable);
        }
        command.env("FEATHERCALL_KEY_FILE", self.path("home/key"));
        // A software renderer keeps its shaders in the home folder.
        command.env("MESA_SHADER_CACHE_DISABLE", "true");
        command
    }

    #[track_caller]
    fn succeeds(&self, args: &[&str]) {
        let Output { status, stderr, .. } = self.feathercall(args).output().unwrap();
        assert!(status.success(), "{args:?} said {}", String::from_utf8_lossy(&stderr));
    }

    /// Runs a case whose output is `out`, and checks that it fails with one line, that the line
    /// contains `says`, and that no file has changed, come or gone.
    #[track_caller]
    fn refuses(&self, case: &Case, out: &str, more: &[&str], says: &str) {
        let args = [case.args, &[out], more].concat();
        self.refuses_command(&mut self.feathercall(&args), says);
    }

    #[track_caller]
    fn refuses_command(&self, command: &mut Command, says: &str) {
        let before = self.contents();
        let told = failed(command);
        assert!(told.contains(says), "{command:?} said {told}");
        assert_eq!(told.lines().count(), 1, "{command:?} said {told}");
        self.is_as(&before, command);
    }

    /// Checks that the files are those of `before`.
    #[track_caller]
    fn is_as(&self, before: &BTreeMap<PathBuf, Vec<u8>>, command: &Command) {
        let now = self.contents();
        let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&now), names(before), "{command:?}");
        assert!(now == *before, "{command:?} changed a file");
    }

    /// Paths and contents of all files, and the paths of folders and links.
    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut contents = BTreeMap::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let bytes = match path.symlink_metadata().unwrap() {
                    about if about.is_dir() => {
                        folders.push(path.clone());
                        b"a folder".to_vec()
                    }
                    about if about.is_symlink() => {
                        fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
                    }
                    _ => fs::read(&path).unwrap(),
                };
                contents.insert(path, bytes);
            }
        }
        contents
    }
}

/// Runs a command that fails with exit code 1, and returns what it says on standard error.
#[track_caller]
fn failed(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let told = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{command:?} said {told}");
    told
}
