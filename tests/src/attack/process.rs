//! The program under attack as a child process: what it prints and when, what it holds, how it ends.
#![expect(clippy::disallowed_methods, reason = "output of a process is read by threads")]

use std::ffi::OsStr;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Interval at which output and exit are looked at.
const POLL: Duration = Duration::from_millis(20);
/// Output kept of each process, in bytes; a victim that prints more fails its criterion anyway.
const MAX_OUTPUT_BYTES: usize = 4 << 20;

/// A line of output with the time since the process was started.
#[derive(Clone, Debug)]
pub struct Line {
    /// Time since the start of the process.
    pub at: Duration,
    /// The line without its end.
    pub text: String,
}

/// Output of a process so far.
#[derive(Default)]
struct Output {
    raw: Vec<u8>,
    lines: Vec<Line>,
}

/// What a process holds, read from `/proc`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resources {
    /// Resident memory in KiB.
    pub resident_kib: u64,
    /// Number of threads.
    pub threads: u64,
    /// Number of open file descriptors.
    pub descriptors: u64,
    /// Processor time used so far.
    pub processor: Duration,
}

/// A running child process, killed when it is dropped.
pub struct Process {
    child: Child,
    /// Standard input, if it is open.
    input: Option<ChildStdin>,
    started: Instant,
    output: Arc<Mutex<Output>>,
}

impl Process {
    /// Starts `binary` with a home folder of its own, without a terminal. Lines can be written to it
    /// if `has_input`; otherwise nothing is on standard input.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start<S: AsRef<OsStr>>(
        binary: &Path,
        home: &Path,
        arguments: impl IntoIterator<Item = S>,
        has_input: bool,
    ) -> io::Result<Self> {
        let mut child = Command::new(binary)
            .args(arguments)
            .env("HOME", home)
            .env("FEATHERCALL_KEY_FILE", home.join("key"))
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .stdin(if has_input { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (started, output) = (Instant::now(), Arc::new(Mutex::new(Output::default())));
        if let Some(stdout) = child.stdout.take() {
            read(stdout, started, Arc::clone(&output));
        }
        if let Some(stderr) = child.stderr.take() {
            read(stderr, started, Arc::clone(&output));
        }
        Ok(Self { input: child.stdin.take(), child, started, output })
    }

    /// Writes a line to standard input; without one, or once the process has ended, does nothing.
    pub fn write_line(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            let _ = writeln!(input, "{line}").and_then(|()| input.flush());
        }
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the time since the start.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns all lines printed so far, to standard output and standard error.
    pub fn lines(&self) -> Vec<Line> {
        self.output().lines.clone()
    }

    /// Returns all bytes printed so far.
    pub fn raw(&self) -> Vec<u8> {
        self.output().raw.clone()
    }

    /// Returns the first line that contains `text`.
    pub fn line_with(&self, text: &str) -> Option<Line> {
        self.output().lines.iter().find(|line| line.text.contains(text)).cloned()
    }

    /// Returns the number of lines that contain `text`.
    pub fn count(&self, text: &str) -> usize {
        self.output().lines.iter().filter(|line| line.text.contains(text)).count()
    }

    /// Waits until a line contains `text`, or `limit` has passed, or the process has ended.
    pub async fn wait_for(&mut self, text: &str, limit: Duration) -> Option<Line> {
        let until = Instant::now() + limit;
        loop {
            let has_ended = matches!(self.child.try_wait(), Ok(Some(_)));
            if let Some(line) = self.line_with(text) {
                return Some(line);
            }
            if has_ended || Instant::now() >= until {
                return None;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Returns how the process ended, if it has.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until the process has ended, but not longer than `limit`.
    pub async fn wait_exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.exit() {
                // The last output is read a moment after the end.
                tokio::time::sleep(5 * POLL).await;
                return Some(status);
            }
            if Instant::now() >= until {
                return None;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sends a signal by its name, such as `TERM` or `STOP`.
    pub fn signal(&self, name: &str) {
        let _ = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
    }

    /// Returns what the process holds now; zeros if it has ended.
    pub fn resources(&self) -> Resources {
        resources(self.id()).unwrap_or_default()
    }

    fn output(&self) -> std::sync::MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Collects what a process prints.
fn read(mut from: impl Read + Send + 'static, started: Instant, output: Arc<Mutex<Output>>) {
    std::thread::spawn(move || {
        let (mut buffer, mut partial) = ([0; 4096], Vec::new());
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let at = started.elapsed();
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            if output.raw.len() > MAX_OUTPUT_BYTES {
                continue;
            }
            output.raw.extend(&buffer[..n]);
            for &byte in &buffer[..n] {
                if byte != b'\n' {
                    partial.push(byte);
                    continue;
                }
                let text = String::from_utf8_lossy(&partial).into_owned();
                output.lines.push(Line { at, text });
                partial.clear();
            }
        }
    });
}

fn resources(id: u32) -> Option<Resources> {
    let folder = PathBuf::from(format!("/proc/{id}"));
    let status = std::fs::read_to_string(folder.join("status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    // The name of the program, in parentheses, may contain spaces. User and system time are fields
    // 14 and 15, in 1/100 s.
    let after_name = stat.rsplit_once(')')?.1;
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
    Some(Resources {
        resident_kib: field("VmRSS:").unwrap_or(0),
        threads: field("Threads:").unwrap_or(0),
        descriptors: std::fs::read_dir(folder.join("fd"))
            .map_or(0, |entries| entries.count() as u64),
        processor: Duration::from_millis(ticks * 10),
    })
}
