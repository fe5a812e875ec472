//! The `feathercall` program: command line, window, recordings.
//!
//! It owns the graphics device and the files; the other crates do the rest. Start reading at
//! `cli.rs` (the command line), `commands/` (what each command does) or `window/`.
#![expect(clippy::disallowed_methods, reason = "the program owns the clock and its threads")]
// What is written goes through `output`, which does not panic when a stream is closed or full.
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod output;
mod arguments;
mod cli;
mod commands;
mod consent;
mod date;
mod destination;
mod display;
mod face_files;
mod face_renderer;
mod gpu;
mod ice_servers;
mod live;
mod panics;
mod paste;
mod patience;
mod progress;
mod recorded_peer;
mod recorder;
mod recording_timeline;
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
/// 101 for a programming error, 128 and the number of the signal for a command that a signal
/// interrupted.
///
/// Standard output that is closed early, as by `head`, is no failure; one that cannot be written for
/// another reason, such as a full disk, is.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    output::silence_libraries();
    panics::handle();
    let run = || match cli::Cli::try_parse_from(arguments::separate_actions(args)) {
        Ok(cli) => termination::listen().and_then(|()| commands::run(cli.command)),
        Err(error) if error.use_stderr() => Err(error.into()),
        Err(help) => {
            output::print(help.render().to_string().trim_end());
            Ok(())
        }
    };
    let result = catch_unwind(AssertUnwindSafe(run));
    let (false, Ok(result)) = (panics::is_fatal(), result) else {
        return ExitCode::from(panics::EXIT_CODE);
    };
    let Err(error) = result.and_then(|()| output::finish()) else { return ExitCode::SUCCESS };
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        output::note(usage.render().to_string().trim_end());
        return ExitCode::from(2);
    }
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
    ErrorLine::new(&panics::without_build_paths(&line))
}
