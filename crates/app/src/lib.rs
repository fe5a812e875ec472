//! The `feathercall` program: the command line, the window, recordings.
//!
//! It owns the graphics device and the files; everything else is in the crates it joins. Start at
//! `cli.rs` (what can be asked for), `commands/` (how it is done) or `window/`.
#![expect(clippy::disallowed_methods, reason = "the program owns its clock and its threads")]

mod cli;
mod commands;
mod gpu;
mod live;
mod painted;
mod painter;
mod progress;
mod recorder;
mod window;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

pub use face::Background;
pub use window::{
    Action, CallView, Home, HomeAction, Resolution, apply_theme, show_call, show_home,
};

/// Runs the program: exit code 0 done, 1 failed with one line on standard error, 2 usage.
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
            // The chain of causes on one line, each said once.
            let mut line = String::new();
            for cause in error.chain().map(ToString::to_string) {
                if !line.contains(&cause) {
                    line += if line.is_empty() { "" } else { ": " };
                    line += &cause;
                }
            }
            eprintln!("feathercall: {}", line.replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}
