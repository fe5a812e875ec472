//! How the program ends when somebody asks it to: Ctrl-C (SIGINT), `kill` (SIGTERM), a closed terminal
//! (SIGHUP); on Windows Ctrl-C alone.
//!
//! A command that can end well, such as a call, declares it with [`end_well`] and then asks
//! [`is_requested`]. All others end at once, without their temporary files. A second request ends
//! everything at once.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use signal_hook::low_level;

use crate::output;

/// Whether the command ends by itself after the first request.
static ENDS_WELL: AtomicBool = AtomicBool::new(false);
/// Number of the signal of the first request; 0 before it, [`AFTER_PANIC`] if it was none.
static REQUESTED_BY: AtomicI32 = AtomicI32::new(0);
/// In place of the number of a signal.
const AFTER_PANIC: i32 = -1;
static WAKE: Mutex<Option<Box<dyn Fn() + Send>>> = Mutex::new(None);

/// A command ended early and well because somebody asked it to. The program then exits with
/// [`exit_code`].
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

/// Listens for requests from now on, on a thread of its own.
///
/// # Errors
/// If the operating system refuses the thread or the signals.
pub(crate) fn listen() -> anyhow::Result<()> {
    let requests = Requests::listen().context("cannot listen for signals")?;
    let listen = move || requests.for_each(handle_request);
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen)?;
    Ok(())
}

/// From now on a request does not end the program: the command asks [`is_requested`], often enough.
pub(crate) fn end_well() {
    ENDS_WELL.store(true, Ordering::SeqCst);
}

/// Returns whether somebody has asked the program to end.
pub(crate) fn is_requested() -> bool {
    REQUESTED_BY.load(Ordering::SeqCst) != 0
}

/// Returns the exit code of a command that was interrupted, by the convention of shells: 128 and the
/// number of the signal.
pub(crate) fn exit_code() -> u8 {
    u8::try_from(128 + REQUESTED_BY.load(Ordering::SeqCst)).unwrap_or(u8::MAX)
}

/// Ends the command after a panic of another thread, if it ends well; returns whether it does.
pub(crate) fn request_after_panic() -> bool {
    let ends_well = ENDS_WELL.load(Ordering::SeqCst);
    if ends_well {
        let order = Ordering::SeqCst;
        let _ = REQUESTED_BY.compare_exchange(0, AFTER_PANIC, order, order);
        wake();
    }
    ends_well
}

/// Ends the program at once, without its temporary files. Other threads go on meanwhile, so nothing is
/// torn down.
pub(crate) fn exit_now(code: i32) -> ! {
    capture::remove_temporary_files();
    low_level::exit(code)
}

/// Calls `wake` at a request, for a command that sleeps until something happens.
pub(crate) fn wake_with(wake: impl Fn() + Send + 'static) {
    *WAKE.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(wake));
}

/// Handles a request that came by `signal`.
fn handle_request(signal: i32) {
    let order = Ordering::SeqCst;
    let is_first = REQUESTED_BY.compare_exchange(0, signal, order, order).is_ok();
    if is_first && ENDS_WELL.load(Ordering::SeqCst) {
        wake();
        return;
    }
    output::note("feathercall: interrupted");
    exit_now(128 + signal);
}

fn wake() {
    if let Some(wake) = &*WAKE.lock().unwrap_or_else(PoisonError::into_inner) {
        wake();
    }
}

/// Requests as they come.
#[cfg(unix)]
struct Requests(signal_hook::iterator::Signals);

#[cfg(unix)]
impl Requests {
    /// Listens for the signals that are not ignored, as SIGHUP is under `nohup`.
    fn listen() -> std::io::Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let ignored = ignored_signals();
        let wanted = [SIGINT, SIGTERM, SIGHUP];
        let wanted = wanted.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
        signal_hook::iterator::Signals::new(wanted).map(Self)
    }

    fn for_each(mut self, handle: impl Fn(i32)) {
        self.0.forever().for_each(handle);
    }
}

/// Returns the signals that this process was started to ignore, one bit each from signal 1; none
/// where the system does not say.
#[cfg(unix)]
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Requests as they come: Ctrl-C, which is all that Windows delivers as a signal.
#[cfg(not(unix))]
struct Requests(std::sync::Arc<AtomicBool>);

#[cfg(not(unix))]
impl Requests {
    /// Interval at which the flag is read.
    const POLL: std::time::Duration = std::time::Duration::from_millis(100);

    fn listen() -> std::io::Result<Self> {
        let flag = std::sync::Arc::new(AtomicBool::new(false));
        let signal = signal_hook::consts::SIGINT;
        signal_hook::flag::register(signal, std::sync::Arc::clone(&flag))?;
        Ok(Self(flag))
    }

    fn for_each(self, handle: impl Fn(i32)) {
        loop {
            std::thread::sleep(Self::POLL);
            if self.0.swap(false, Ordering::SeqCst) {
                handle(signal_hook::consts::SIGINT);
            }
        }
    }
}
