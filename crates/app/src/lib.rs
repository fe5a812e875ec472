//! The `feathercall` program: command line, window, recordings.
//!
//! It owns the graphics device and the files; the other crates do the rest. Start reading at
//! `cli.rs` (the command line), `commands/` (what each command does) or `window/`.
#![expect(clippy::disallowed_methods, reason = "the program owns the clock and its threads")]

mod cli;
mod commands;
mod consent;
mod face_files;
mod face_renderer;
mod gpu;
mod live;
mod progress;
mod recorder;
mod render_stats;
mod window;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

pub use face::Background;
pub use window::{
    CallView, Home, HomeAction, Resolution, UserAction, apply_theme, show_call, show_home,
};

/// Runs the program with the given arguments, the first being its name.
///
/// Exit codes: 0 for success, 1 for a failure, with one line on standard error, 2 for wrong usage.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match cli::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match commands::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of causes on one line, without repetitions.
            let mut line = String::new();
            for cause in error.chain().map(ToString::to_string) {
                if !line.contains(&cause) {
                    line += if line.is_empty() { "" } else { ": " };
                    line += &cause;
                }
            }
            eprintln!("feathercall: {}", line.replace('\n', " "));
            if error.is::<commands::UsageError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}
