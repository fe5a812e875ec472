//! Clips in other formats, decoded by the `ffmpeg` program if it is installed.

use std::ffi::OsStr;
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use types::Frame;

use crate::errors::{OpenError, ReadError};
use crate::y4m::Y4mReader;

/// Running `ffmpeg` process that decodes a clip into a pipe.
pub(crate) struct FfmpegClip {
    child: Child,
    reader: Y4mReader<BufReader<ChildStdout>>,
}

impl FfmpegClip {
    /// Starts `ffmpeg` and reads the header of its output.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        // "file:" prevents a name with a colon from being read as a protocol.
        let mut input = OsStr::new("file:").to_owned();
        input.push(path);
        let mut child = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-i"])
            .arg(input)
            .args(["-map", "0:v:0", "-vf", "scale=out_color_matrix=bt601:out_range=tv"])
            .args(["-pix_fmt", "yuv444p", "-f", "yuv4mpegpipe", "-strict", "-1", "-"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|_| OpenError::NotAClip { path: path.to_owned() })?;
        let stdout = child.stdout.take().expect("stdout is piped above");
        let stdout = BufReader::with_capacity(1 << 20, stdout);
        if let Ok(Some(reader)) = Y4mReader::new(stdout, None) {
            // Closed, because nobody reads it and a full pipe would block the process.
            child.stderr = None;
            Ok(Self { child, reader })
        } else {
            let message = last_line(&mut child);
            Err(OpenError::Ffmpeg { path: path.to_owned(), message })
        }
    }

    pub(crate) fn fps(&self) -> u32 {
        self.reader.fps()
    }

    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        self.reader.next_frame()
    }
}

impl Drop for FfmpegClip {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the last line of a failed process's standard error.
fn last_line(child: &mut Child) -> String {
    let _ = child.kill();
    let mut output = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(1 << 16).read_to_end(&mut output);
    }
    let _ = child.wait();
    let output = String::from_utf8_lossy(&output);
    output.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("no output").trim().to_owned()
}
