//! What the program says: results on standard output, everything else on standard error.
//!
//! Graphics and sound libraries print to standard error as they like. So the program keeps a copy of
//! standard error for itself and discards what the libraries say.
//!
//! A closed terminal or pipe never ends the program: what cannot be written is lost.

use std::any::Any;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, OnceLock, PoisonError};

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
/// The last panic, on one line.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// Silences libraries and panics, once, at the start of the program. A panic is reported by whoever
/// notices it: see [`panic_line`].
pub(crate) fn silence_libraries() {
    if std::env::var_os(LIBRARY_MESSAGES).is_some_and(|value| !value.is_empty()) {
        return;
    }
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|at| format!(" ({}:{})", at.file(), at.line()));
        let line = format!("{}{}", payload_text(info.payload()), place.unwrap_or_default());
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }));
    #[cfg(unix)]
    if let Ok(nowhere) = File::options().write(true).open("/dev/null")
        && let Ok(ours) = FileDescriptor::redirect_stdio(&nowhere, StdioDescriptor::Stderr)
        && let Ok(file) = ours.as_file()
    {
        let _ = ERRORS.set(file);
    }
}

/// Returns what the last panic of any thread said, for an error message.
pub(crate) fn panic_line() -> String {
    PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn payload_text(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic")
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
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes part of a line to standard output, which appears with the end of the line.
pub(crate) fn print_part(text: impl Display) {
    let _ = write!(io::stdout().lock(), "{text}");
}

/// Returns standard error as a terminal for a progress bar; none if it is not one.
pub(crate) fn terminal() -> Option<Term> {
    #[cfg(unix)]
    if let Some(file) = ERRORS.get() {
        let copy = || file.try_clone().ok();
        return file.is_terminal().then(|| Some(Term::read_write_pair(copy()?, copy()?)))?;
    }
    io::stderr().is_terminal().then(Term::stderr)
}
