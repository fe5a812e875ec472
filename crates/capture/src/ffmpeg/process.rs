//! The programs `ffmpeg` and `ffprobe` as child processes that read one file and nothing else.

#![expect(clippy::disallowed_methods, reason = "a thread collects the messages of each process")]

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
#[cfg(unix)]
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

/// Containers that are clips. Others make `ffmpeg` open further files or the network: playlists, lists of
/// files, scripts.
const FORMATS: &str = "aac,ac3,aiff,amr,apng,asf,asf_o,av1,avi,caf,dv,eac3,flac,flv,gif,gxf,h261,h263,h264,hevc,ivf,\
    live_flv,m4v,matroska,webm,mjpeg,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,mpegvideo,mxf,nut,obu,ogg,rm,vc1,vc1test,\
    vvc,w64,wav,wtv,yuv4mpegpipe";
/// Most pixels of a decoded frame: those of 8192 x 8192.
const MAX_PIXELS: &str = "67108864";
/// Most messages of a process that are kept, bytes each and in number.
const MAX_MESSAGE: usize = 500;
const MAX_MESSAGES: usize = 100;

/// The programs to start.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) ffmpeg: PathBuf,
    pub(crate) ffprobe: PathBuf,
}

impl Default for Tools {
    /// Those on the `PATH`.
    fn default() -> Self {
        Self { ffmpeg: "ffmpeg".into(), ffprobe: "ffprobe".into() }
    }
}

/// Running process that reads a file and writes to a pipe. Dropping it ends the process.
pub(crate) struct Program {
    child: Child,
    messages: Option<JoinHandle<Vec<String>>>,
}

/// What a process said, and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    status: io::Result<ExitStatus>,
    messages: Vec<String>,
}

impl Program {
    /// Starts `program` on the file `path`. `before` is what stands before the input on its command line, `after`
    /// what stands behind it.
    ///
    /// # Errors
    /// If there is no such program, or it cannot be started.
    pub(crate) fn start(
        program: &Path,
        before: &[&str],
        path: &Path,
        after: &[&str],
    ) -> io::Result<(Self, ChildStdout)> {
        // "file:" keeps a name with a colon from being read as a protocol.
        let mut input = OsStr::new("file:").to_owned();
        input.push(path);
        let mut command = Command::new(program);
        // A signal from the terminal is for us: a clip does not end in the middle of a farewell.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command
            .args(["-v", "error", "-protocol_whitelist", "file,pipe"])
            .args(["-format_whitelist", FORMATS, "-max_pixels", MAX_PIXELS])
            .args(before)
            .arg("-i")
            .arg(input)
            .args(after)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().expect("stdout is piped above");
        let stderr = child.stderr.take().expect("stderr is piped above");
        let messages = thread::spawn(move || read_messages(BufReader::new(stderr)));
        Ok((Self { child, messages: Some(messages) }, stdout))
    }

    /// Waits for the end of the process, whose output was read to its end.
    pub(crate) fn finish(&mut self) -> Outcome {
        let status = self.child.wait();
        let messages = self.messages.take().and_then(|thread| thread.join().ok());
        Outcome { status, messages: messages.unwrap_or_default() }
    }

    /// Returns why reading the output of the process failed with `error`. Ends the process.
    pub(crate) fn explain(&mut self, error: &io::Error) -> String {
        if error.kind() != io::ErrorKind::UnexpectedEof {
            // A process that writes something else may go on forever.
            let _ = self.child.kill();
            return error.to_string();
        }
        let outcome = self.finish();
        let said = || outcome.last_message().map(str::to_owned);
        outcome.failure().or_else(said).unwrap_or_else(|| "it ended too early".to_owned())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outcome {
    /// Returns why the process failed; `None` if it did not.
    pub(crate) fn failure(&self) -> Option<String> {
        let how = match &self.status {
            Ok(status) if status.success() => return None,
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        Some(self.last_message().map_or(how, str::to_owned))
    }

    /// Returns the last thing that the process said.
    pub(crate) fn last_message(&self) -> Option<&str> {
        self.messages.last().map(String::as_str)
    }

    /// Returns the message that the input ends too early, if there was one.
    pub(crate) fn early_end(&self) -> Option<&str> {
        let phrases = ["ended prematurely", "partial file", "Truncat"];
        let is_early = |m: &&String| phrases.iter().any(|phrase| m.contains(phrase));
        self.messages.iter().find(is_early).map(String::as_str)
    }
}

/// Reads what a process says until its end, and returns the last lines without the address of the component
/// that speaks.
fn read_messages(mut stderr: impl BufRead) -> Vec<String> {
    let mut messages = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut stderr).take(1 << 16).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return messages,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text = match text.trim().strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some((_, rest)) => rest,
            None => text.trim(),
        };
        if !text.is_empty() {
            if messages.len() == MAX_MESSAGES {
                messages.remove(0);
            }
            messages.push(text.chars().take(MAX_MESSAGE).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lose_the_address_of_their_speaker_and_are_bounded() {
        let said =
            "[matroska,webm @ 0x5582f8f7c8c0] File ended prematurely\n\n  plain \n".as_bytes();
        assert_eq!(read_messages(said), ["File ended prematurely", "plain"]);
        let many = "no\n".repeat(1000) + &"a".repeat(1 << 17);
        let messages = read_messages(many.as_bytes());
        assert_eq!(messages.len(), MAX_MESSAGES);
        assert!(messages.iter().all(|m| m.len() <= MAX_MESSAGE));
    }
}
