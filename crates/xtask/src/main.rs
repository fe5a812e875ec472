//! `cargo xtask TASK`: installs missing system packages, then runs cargo.
//!
//! It has no dependencies, so it compiles in a second on a machine that has only Rust.

mod attack;
mod fuzz;
mod packages;

use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask TASK [ARGS]

  demo [ARGS]   build and run `feathercall demo ARGS`: two peers on this machine
  test [ARGS]   build and run all tests; ARGS go to `cargo test`
  lint          check formatting, lints and documentation, as continuous integration does
  fuzz [TARGET...] [--seconds N]
                run the fuzz targets of tests/fuzz (all unless named), each for N seconds (60)
  attack [NAME...] [--full] [--list]
                run hostile peers, a lossy network and other attacks (all unless named) against
                the program on this machine; with --full the long studies too
  setup         install missing system packages and nothing else";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let task = args.next();
    let rest: Vec<String> = args.collect();
    let done = match task.as_deref() {
        Some("demo") => packages::install_missing().and_then(|()| demo(&rest)),
        Some("test") => packages::install_missing().and_then(|()| test(&rest)),
        Some("lint") => packages::install_missing().and_then(|()| lint()),
        Some("fuzz") => packages::install_missing().and_then(|()| fuzz::fuzz(&rest)),
        Some("attack") => packages::install_missing().and_then(|()| attack::attack(&rest)),
        Some("setup") => packages::install_missing(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn demo(args: &[String]) -> Result<(), String> {
    let command = ["run", "--release", "--package", "app", "--bin", "feathercall", "--", "demo"];
    cargo(command.into_iter().chain(args.iter().map(String::as_str)))
}

/// Runs all tests in the release profile: the tests exercise the code that ships, and dependencies
/// compile once.
fn test(args: &[String]) -> Result<(), String> {
    // Tests that need a graphics adapter and find none add a line here.
    let skipped = std::env::temp_dir().join(format!("skipped-tests-{}", std::process::id()));
    std::fs::write(&skipped, "").map_err(|error| format!("{error}: {}", skipped.display()))?;
    let mut command = cargo_command();
    command.args(["test", "--release", "--workspace"]).args(args).env("SKIPPED_TESTS", &skipped);
    let result = run(&mut command);
    let lines = std::fs::read_to_string(&skipped).unwrap_or_default();
    std::fs::remove_file(&skipped).map_err(|error| format!("{error}: {}", skipped.display()))?;
    if !lines.is_empty() {
        eprint!("{lines}");
        eprintln!("xtask: {} GPU tests were SKIPPED", lines.lines().count());
    }
    result
}

fn lint() -> Result<(), String> {
    cargo(["fmt", "--all", "--check"])?;
    cargo(["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    cargo(["doc", "--release", "--workspace", "--no-deps"])
}

fn cargo<'a>(args: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    run(cargo_command().args(args))
}

/// The cargo that runs this task.
fn cargo_command() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a command on this terminal; the error names the command that failed.
fn run(command: &mut Command) -> Result<(), String> {
    let line = format!("{command:?}").replace('"', "");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}` failed: {status}")),
        Err(error) => Err(format!("cannot run `{line}`: {error}")),
    }
}
