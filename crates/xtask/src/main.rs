//! `cargo xtask TASK`: finds and installs the system packages that are missing, then runs cargo.
//!
//! It has no dependencies, so it is built in a second on a machine that has nothing but Rust.

mod packages;

use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask TASK [ARGS]

  demo [ARGS]   build and run `feathercall demo ARGS`: two peers on this machine
  test [ARGS]   build and run every test
  lint          formatting, clippy, documentation, as in continuous integration
  setup         only install the missing system packages";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let task = args.next();
    let rest: Vec<String> = args.collect();
    let done = match task.as_deref() {
        Some("demo") => packages::install_missing().and_then(|()| demo(&rest)),
        Some("test") => packages::install_missing().and_then(|()| test(&rest)),
        Some("lint") => packages::install_missing().and_then(|()| lint()),
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

/// One profile for everything: what is tested is what ships, and dependencies are built once.
fn test(args: &[String]) -> Result<(), String> {
    cargo(["test", "--release", "--workspace"].into_iter().chain(args.iter().map(String::as_str)))
}

fn lint() -> Result<(), String> {
    cargo(["fmt", "--all", "--check"])?;
    cargo(["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    cargo(["doc", "--release", "--workspace", "--no-deps"])
}

fn cargo<'a>(args: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    run(command.args(args))
}

/// Runs a command with this terminal, and says which one failed.
fn run(command: &mut Command) -> Result<(), String> {
    let line = format!("{command:?}").replace('"', "");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}` failed: {status}")),
        Err(error) => Err(format!("cannot run `{line}`: {error}")),
    }
}
