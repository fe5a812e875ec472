//! Lines of standard input for a call that goes on meanwhile.

use std::io::{BufRead as _, Read as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Most bytes of a line that are read: more than any answer has (docs/TRANSPORT.md, section 5).
const MAX_LINE_BYTES: u64 = 20_000;

/// Most lines that are read before they are asked for.
const MAX_LINES_AHEAD: usize = 16;

/// A line and when it was read.
type TimedLine = (Instant, String);

/// What standard input has for the program.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Line {
    Text(String),
    NotYet,
    /// Standard input has ended or cannot be read.
    End,
}

/// Standard input, read on a thread of its own from the first question on. A program that asks
/// nothing reads nothing.
#[derive(Debug, Default)]
pub(crate) struct StandardInput {
    lines: Option<Receiver<TimedLine>>,
    /// Lines that were read before are ignored.
    ignored_until: Option<Instant>,
}

impl StandardInput {
    /// Returns the next line, without its end, if there is one. Does not wait.
    pub(crate) fn poll(&mut self) -> Line {
        self.wait(Duration::ZERO)
    }

    /// Returns the next line, without its end, if it comes within `timeout`.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Line {
        loop {
            match self.lines.get_or_insert_with(start).recv_timeout(timeout) {
                Ok((read_at, _)) if self.ignored_until.is_some_and(|until| read_at < until) => {}
                Ok((_, line)) => return Line::Text(line),
                Err(RecvTimeoutError::Timeout) => return Line::NotYet,
                Err(RecvTimeoutError::Disconnected) => return Line::End,
            }
        }
    }

    /// Ignores the lines that were or will be read before `time`.
    pub(crate) fn ignore_until(&mut self, time: Instant) {
        self.ignored_until = Some(time);
    }

    /// Returns a standard input that reads `lines`.
    #[cfg(test)]
    pub(crate) fn of(lines: Receiver<TimedLine>) -> Self {
        Self { lines: Some(lines), ignored_until: None }
    }
}

fn start() -> Receiver<TimedLine> {
    let (sender, lines) = sync_channel(MAX_LINES_AHEAD);
    // Without a thread, standard input is as good as ended.
    let _ = std::thread::Builder::new().name("input".to_owned()).spawn(move || read(&sender));
    lines
}

fn read(lines: &SyncSender<TimedLine>) {
    loop {
        let mut line = Vec::new();
        let mut input = std::io::stdin().lock().take(MAX_LINE_BYTES);
        match input.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if lines.send((Instant::now(), line)).is_err() {
            return;
        }
    }
}
