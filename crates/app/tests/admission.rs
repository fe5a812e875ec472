//! A guest that knocks at a host without a window, in two processes.
#![expect(clippy::disallowed_methods, reason = "a thread reads what each process writes")]

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// Longest wait for a line. A test that waits longer is broken.
const PATIENCE: Duration = Duration::from_mins(1);

/// A process that is ended even when the test fails, and its lines.
struct Peer {
    child: Child,
    output: Receiver<String>,
    errors: Receiver<String>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_feathercall"));
        command.args(args).args(["--headless", "--no-audio"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let output = lines(child.stdout.take().expect("it is piped"));
        let errors = lines(child.stderr.take().expect("it is piped"));
        Self { child, output, errors }
    }

    /// Waits for a line on standard error that contains `text`, and returns it.
    fn wait_for(&self, text: &str) -> String {
        loop {
            let line = self.errors.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no line contains {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Starts a host and returns it with its link.
    fn host(args: &[&str]) -> (Self, String) {
        let host = Self::start(&[&["call", "--name", "Ada"], args].concat());
        let link = host.output.recv_timeout(PATIENCE).expect("the host prints a link");
        (host, link)
    }

    fn guest(link: &str) -> Self {
        Self::start(&["join", link, "--name", "Bob"])
    }

    fn answer(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("standard input is open");
        writeln!(input, "{line}").and_then(|()| input.flush()).expect("it reads");
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = sync_channel(1000);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}

#[test]
fn a_line_lets_the_guest_in_and_both_ends_see_the_same_check_words() {
    let (mut host, link) = Peer::host(&["--duration", "1s"]);
    let mut guest = Peer::guest(&link);
    host.wait_for("Bob asks to join: y lets in, n turns away");
    guest.wait_for("waiting for the host");
    host.answer("y");
    assert!(host.wait_for("connected to").contains("Bob"));
    assert!(guest.wait_for("connected to").contains("Ada"));
    let words = host.wait_for("check words: ");
    assert_eq!(words, guest.wait_for("check words: "));
    assert_eq!(words.split(' ').count(), 6, "{words}");
    assert_eq!((host.exit_code(), guest.exit_code()), (Some(0), Some(0)));
}

#[test]
fn a_guest_that_is_turned_away_is_told_and_the_host_without_input_fails() {
    let (mut host, link) = Peer::host(&[]);
    let mut guest = Peer::guest(&link);
    host.wait_for("Bob asks to join");
    host.answer("n");
    guest.wait_for("the other side did not let you in");
    assert_eq!(guest.exit_code(), Some(1));
    drop(host.child.stdin.take());
    let _second = Peer::guest(&link);
    host.wait_for("Bob asks to join");
    host.wait_for("--auto-admit");
    assert_eq!(host.exit_code(), Some(1));
}
