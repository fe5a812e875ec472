//! What the program says: results on standard output, everything else on standard error.
//!
//! Graphics and sound libraries print to standard error as they like. So the program keeps a copy of
//! standard error for itself and discards what the libraries say.
//!
//! A stream that cannot be written never stops what the program is doing. What is lost on standard
//! error is lost. A reader that closes standard output (`| head -1`) has what it wants: the rest is
//! dropped and the exit code stays. Any other loss on standard output, such as a full disk, fails the
//! command at its end: see [`finish`].

use std::fmt::Display;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::Context as _;
use console::Term;
#[cfg(unix)]
use filedescriptor::{FileDescriptor, StdioDescriptor};

/// As [`std::println`], but never panics.
macro_rules! println {
    () => { $crate::output::print("") };
    ($($arg:tt)*) => { $crate::output::print(format_args!($($arg)*)) };
}
/// As [`std::print`], but never panics.
macro_rules! print {
    ($($arg:tt)*) => { $crate::output::print_part(format_args!($($arg)*)) };
}
/// As [`std::eprintln`], but never panics and is not silenced with the libraries.
macro_rules! eprintln {
    ($($arg:tt)*) => { $crate::output::note(format_args!($($arg)*)) };
}

/// Set to anything, this environment variable lets the messages of libraries and of panics through.
const LIBRARY_MESSAGES: &str = "FEATHERCALL_LIBRARY_MESSAGES";

/// Our copy of standard error; none if libraries are not silenced.
static ERRORS: OnceLock<File> = OnceLock::new();

/// Why standard output was given up; nothing more is written to it.
static GIVEN_UP: Mutex<Option<io::Error>> = Mutex::new(None);

/// Returns whether the user wants to see the messages of libraries and of panics.
pub(crate) fn shows_library_messages() -> bool {
    std::env::var_os(LIBRARY_MESSAGES).is_some_and(|value| !value.is_empty())
}

/// Silences libraries, once, at the start of the program.
pub(crate) fn silence_libraries() {
    if shows_library_messages() {
        return;
    }
    #[cfg(unix)]
    if let Ok(nowhere) = File::options().write(true).open("/dev/null")
        && let Ok(ours) = FileDescriptor::redirect_stdio(&nowhere, StdioDescriptor::Stderr)
        && let Ok(file) = ours.as_file()
    {
        let _ = ERRORS.set(file);
    }
}

/// Writes a line to standard error.
pub(crate) fn note(text: impl Display) {
    let line = format!("{text}\n");
    let _ = match ERRORS.get() {
        Some(mut file) => file.write_all(line.as_bytes()),
        None => io::stderr().write_all(line.as_bytes()),
    };
}

/// Writes a line to standard output at once.
pub(crate) fn print(text: impl Display) {
    write(&format!("{text}\n"));
}

/// Writes part of a line to standard output, which appears with the end of the line.
pub(crate) fn print_part(text: impl Display) {
    write(&text.to_string());
}

/// Writes a line to standard output without which the command makes no sense, such as an invite link.
///
/// # Errors
/// If it cannot be written, also because the reader has gone.
pub(crate) fn deliver(text: impl Display) -> anyhow::Result<()> {
    print(text);
    let given_up = given_up();
    given_up.as_ref().map_or(Ok(()), |error| Err(copy(error))).context(CANNOT_WRITE)
}

/// Returns the outcome of everything that was written to standard output.
///
/// # Errors
/// If some of it was lost, but not because the reader has gone.
pub(crate) fn finish() -> anyhow::Result<()> {
    let given_up = given_up();
    let lost = given_up.as_ref().filter(|error| error.kind() != ErrorKind::BrokenPipe);
    lost.map_or(Ok(()), |error| Err(copy(error))).context(CANNOT_WRITE)
}

const CANNOT_WRITE: &str = "cannot write to standard output";

fn given_up() -> MutexGuard<'static, Option<io::Error>> {
    GIVEN_UP.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies an error that the system reported.
fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

fn write(text: &str) {
    let mut given_up = given_up();
    if given_up.is_none() {
        let mut out = io::stdout().lock();
        let is_whole = text.ends_with('\n');
        let written = out.write_all(text.as_bytes());
        *given_up = written.and_then(|()| if is_whole { out.flush() } else { Ok(()) }).err();
    }
}

/// Returns standard error as a terminal for a question or a progress bar; none if it is not one.
pub(crate) fn terminal() -> Option<Term> {
    #[cfg(unix)]
    if let Some(file) = ERRORS.get() {
        let copy = || file.try_clone().ok();
        return file.is_terminal().then(|| Some(Term::read_write_pair(copy()?, copy()?)))?;
    }
    io::stderr().is_terminal().then(Term::stderr)
}
