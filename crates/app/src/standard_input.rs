//! Lines of standard input for a call that goes on meanwhile.

use std::io::{BufRead as _, Read as _};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

/// Most bytes of a line that are read: more than any answer has (docs/TRANSPORT.md, section 5).
const MAX_LINE_BYTES: u64 = 20_000;

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
    lines: Option<Receiver<String>>,
}

impl StandardInput {
    /// Returns the next line, without its end, if there is one. Does not wait.
    pub(crate) fn poll(&mut self) -> Line {
        match self.lines.get_or_insert_with(start).try_recv() {
            Ok(line) => Line::Text(line),
            Err(TryRecvError::Empty) => Line::NotYet,
            Err(TryRecvError::Disconnected) => Line::End,
        }
    }
}

fn start() -> Receiver<String> {
    let (sender, lines) = sync_channel(1);
    // Without a thread, standard input is as good as ended.
    let _ = std::thread::Builder::new().name("input".to_owned()).spawn(move || read(&sender));
    lines
}

fn read(lines: &SyncSender<String>) {
    loop {
        let mut line = Vec::new();
        let mut input = std::io::stdin().lock().take(MAX_LINE_BYTES);
        match input.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if lines.send(line).is_err() {
            return;
        }
    }
}
