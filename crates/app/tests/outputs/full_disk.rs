//! A disk that fills up while a command works.

use std::fs;
use std::process::Command;

use super::{Bench, CASES, failed};

/// The command in a shell in which a write beyond `blocks` blocks of 512 bytes fails as on a full disk.
/// That needs no privileges, unlike a small disk.
fn with_limit(bench: &Bench, args: &[&str], blocks: u32) -> Command {
    let inner = bench.feathercall(args);
    let mut command = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    command.args(["-c", &script, "sh"]).arg(inner.get_program()).args(inner.get_args());
    command.current_dir(&bench.0);
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

#[test]
fn a_full_disk_leaves_the_earlier_file_and_nothing_else() {
    let bench = Bench::new("full");
    for case in CASES {
        // Calls have tests of their own.
        if ["call", "join", "demo"].contains(&case.args[0]) || case.args.contains(&"--curve") {
            continue;
        }
        let earlier = match case.extension() {
            Some("fcs") => Some("talk.fcs"),
            Some("y4m" | "mp4") => Some("clip.y4m"),
            Some("face") if !case.args.contains(&"export") => Some("me.face"),
            _ => None,
        };
        if let Some(earlier) = earlier {
            fs::copy(bench.path(earlier), bench.path(case.out)).unwrap();
        }
        // All results are longer than the test of the place, 4096 bytes, but that of `encode`.
        let blocks = if case.args[0] == "encode" { 0 } else { 9 };
        let mut command = with_limit(&bench, &[case.args, &[case.out]].concat(), blocks);
        let before = bench.contents();
        let told = failed(&mut command);
        // An enrollment judges its material first.
        let errors = told.lines().filter(|line| !line.starts_with("warning: "));
        assert_eq!(errors.count(), 1, "{command:?} said {told}");
        assert!(told.contains("may not become this large"), "{command:?} said {told}");
        if case.writes_into_folder() {
            // The folder stays, with the pictures that did fit.
            let mut entries = fs::read_dir(bench.path(case.out)).unwrap();
            assert!(entries.all(|entry| entry.unwrap().metadata().unwrap().len() < 9 * 512));
            fs::remove_dir_all(bench.path(case.out)).unwrap();
        }
        bench.is_as(&before, &command);
        let _ = fs::remove_file(bench.path(case.out));
    }
}

/// A device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn a_device_that_is_full_is_one_line_and_stays_a_device() {
    use std::os::unix::fs::FileTypeExt as _;
    let bench = Bench::new("device");
    for case in CASES {
        let is_single = ["encode", "track", "model"].contains(&case.args[0]);
        if is_single {
            bench.refuses(case, "/dev/full", &[], "the disk is full");
        } else if ["out.mp4", "out.face"].contains(&case.out) {
            std::os::unix::fs::symlink("/dev/full", bench.path(case.out)).unwrap();
            bench.refuses(case, case.out, &[], "it is a device or a pipe; name a file");
            fs::remove_file(bench.path(case.out)).unwrap();
        }
    }
    assert!(fs::metadata("/dev/full").unwrap().file_type().is_char_device());
}

#[test]
fn a_face_that_cannot_be_encrypted_for_lack_of_space_stays_as_it_was() {
    let bench = Bench::new("encrypt");
    // The first use creates the key.
    bench.succeeds(&["model", "decrypt", "me.face", "--out", "other.face"]);
    bench.succeeds(&["model", "encrypt", "other.face"]);
    let mut command = with_limit(&bench, &["model", "encrypt", "me.face"], 9);
    bench.refuses_command(&mut command, "may not become this large");
}
