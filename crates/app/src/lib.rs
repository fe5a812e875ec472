//! The `feathercall` program: command line, window, recordings.
//!
//! It owns the graphics device and the files; the other crates do the rest. Start reading at
//! `cli.rs` (the command line), `commands/` (what each command does) or `window/`.
#![expect(clippy::disallowed_methods, reason = "the program owns the clock and its threads")]

#[macro_use]
mod output;
mod cli;
mod commands;
mod consent;
mod destination;
mod display;
mod face_files;
mod face_renderer;
mod gpu;
mod ice_servers;
mod live;
mod paste;
mod patience;
mod progress;
mod recorder;
mod recordings;
mod render_stats;
mod standard_input;
mod stats_file;
mod termination;
mod window;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;

pub use face::Background;
use types::ErrorLine;
pub use window::{
    CallView, Home, HomeAction, Question, Resolution, UserAction, apply_theme, show_call, show_home,
};

/// Runs the program with the given arguments, the first being its name.
///
/// Exit codes: 0 for success, 1 for a failure, with one line on standard error, 2 for wrong usage,
/// 128 and the number of the signal for a command that a signal interrupted.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    output::silence_libraries();
    let cli = match cli::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let text = error.render();
            if error.use_stderr() {
                output::note(text.to_string().trim_end());
            } else {
                output::print(text.to_string().trim_end());
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let run = || termination::listen().and_then(|()| commands::run(cli.command));
    let result = catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(anyhow::anyhow!("internal error: {}", output::panic_line())));
    let Err(error) = result else { return ExitCode::SUCCESS };
    output::note(format!("feathercall: {}", error_line(&error)));
    if error.is::<termination::Interrupted>() {
        ExitCode::from(termination::exit_code())
    } else if error.is::<commands::UsageError>() {
        ExitCode::from(2)
    } else {
        ExitCode::FAILURE
    }
}

/// Returns the chain of causes on one line, without repetitions. It may quote a peer or a file.
fn error_line(error: &anyhow::Error) -> ErrorLine {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !line.contains(&cause) {
            line += if line.is_empty() { "" } else { ": " };
            line += &cause;
        }
    }
    ErrorLine::new(&line)
}
