//! Outputs that are inputs, and places that cannot be written to.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use super::{Bench, CASES};

#[test]
fn an_output_that_is_an_input_is_refused_by_any_name() {
    let bench = Bench::new("input");
    for case in CASES {
        for input in case.inputs {
            let is_folder = bench.path(input).is_dir();
            let _ = fs::remove_file(bench.path("symbolic"));
            let _ = fs::remove_file(bench.path("hard"));
            symlink(input, bench.path("symbolic")).unwrap();
            let detour = format!("home/../{input}");
            let mut names = vec!["symbolic"];
            // A name of another kind of file is a slip of its own.
            if input.split_once('.').map(|(_, extension)| extension) == case.extension() {
                names.extend([*input, &detour]);
            }
            if !is_folder {
                fs::hard_link(bench.path(input), bench.path("hard")).unwrap();
                names.push("hard");
            }
            for name in names {
                for more in [&[][..], &["--force"]] {
                    bench.refuses(case, name, more, "would replace the input");
                }
            }
        }
    }
    // Nor may two outputs be one.
    let args = ["call", "--headless", "--record", "a.mp4", "--stats", "./a.mp4"];
    bench.refuses_command(&mut bench.feathercall(&args), "--record and --stats name one file");
}

#[test]
fn a_place_that_cannot_be_written_to_is_said_before_the_work() {
    let bench = Bench::new("unwritable");
    fs::write(bench.path("file"), "mine").unwrap();
    fs::create_dir(bench.path("closed")).unwrap();
    fs::set_permissions(bench.path("closed"), fs::Permissions::from_mode(0o500)).unwrap();
    for case in CASES {
        let (name, suffix) = case.out.split_at(case.out.find('.').unwrap_or(case.out.len()));
        let long = format!("{}{suffix}", name.repeat(100));
        bench.refuses(case, &format!("file/{}", case.out), &[], "is not a folder");
        bench.refuses(case, &long, &[], "name is too long");
        if !case.writes_into_folder() {
            let missing = format!("missing/{}", case.out);
            bench.refuses(case, &missing, &[], "the folder missing does not exist; create it");
        }
        match case.extension() {
            Some(extension) => {
                let taken = format!("taken.{extension}");
                let _ = fs::create_dir(bench.path(&taken));
                bench.refuses(case, &taken, &[], "it is a folder; name a file");
            }
            None => bench.refuses(case, "file", &[], "it is not a folder"),
        }
        // A file system that only the kernel writes to.
        #[cfg(target_os = "linux")]
        {
            let told =
                super::failed(bench.feathercall(case.args).arg(format!("/proc/self/{}", case.out)));
            assert_eq!(told.lines().count(), 1, "{told}");
        }
        let closed = format!("closed/{}", case.out);
        let args = [case.args, &[&closed]].concat();
        bench.refuses_command(&mut unprivileged(bench.feathercall(&args)), "no permission");
    }
}

/// A command that respects permissions also where the tests run as root.
fn unprivileged(command: Command) -> Command {
    let folder =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("outputs/unwritable/closed");
    if fs::write(folder.join("test"), "").is_err() {
        return command;
    }
    fs::remove_file(folder.join("test")).unwrap();
    let mut without = Command::new("setpriv");
    without.args(["--bounding-set=-all", "--inh-caps=-all"]);
    without.arg(command.get_program()).args(command.get_args());
    without.current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => without.env(name, value),
            None => without.env_remove(name),
        };
    }
    without
}
