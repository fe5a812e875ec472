//! Video encoders of the installed `ffmpeg`, with settings suitable for a live call.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

/// Video encoder with its settings.
pub(super) struct Codec {
    /// Name in the plot.
    pub(super) name: &'static str,
    /// Name in `ffmpeg`.
    pub(super) encoder: &'static str,
    arguments: &'static [&'static str],
    /// Extension of the file format with the least overhead.
    pub(super) extension: &'static str,
    /// Overhead of the file format, bytes: once per file, and per frame.
    overhead: [u64; 2],
    /// Quality settings, from coarse to fine.
    pub(super) crfs: &'static [u32],
}

/// The encoders compared, all without look-ahead and frame reordering, with one key frame.
pub(super) const CODECS: [Codec; 4] = [
    Codec {
        name: "x264",
        encoder: "libx264",
        // Removes the unit of 700 bytes that lists the encoder's settings.
        arguments: &[
            "-preset",
            "medium",
            "-tune",
            "zerolatency",
            "-bsf:v",
            "filter_units=remove_types=6",
        ],
        extension: "h264",
        overhead: [0, 0],
        crfs: &[51, 48, 42, 36],
    },
    Codec {
        name: "x265",
        encoder: "libx265",
        arguments: &[
            "-preset",
            "medium",
            "-tune",
            "zerolatency",
            "-x265-params",
            "info=0:log-level=error",
        ],
        extension: "hevc",
        overhead: [0, 0],
        crfs: &[51, 48, 44, 40, 36],
    },
    Codec {
        name: "VP9",
        encoder: "libvpx-vp9",
        arguments: &["-deadline", "realtime", "-cpu-used", "5", "-lag-in-frames", "0", "-b:v", "0"],
        extension: "ivf",
        overhead: [32, 12],
        crfs: &[63, 58, 52, 45],
    },
    Codec {
        name: "AV1",
        encoder: "libaom-av1",
        arguments: &["-usage", "realtime", "-cpu-used", "7", "-lag-in-frames", "0", "-b:v", "0"],
        extension: "ivf",
        overhead: [32, 12],
        crfs: &[63, 58, 52, 45],
    },
];

impl Codec {
    /// Returns the bytes of all packets in a file of `file_bytes`.
    pub(super) fn payload(&self, file_bytes: u64, n_frames: u64) -> u64 {
        file_bytes.saturating_sub(self.overhead[0] + self.overhead[1] * n_frames)
    }
}

/// Working `ffmpeg` program.
pub(super) struct Ffmpeg {
    /// Output of `ffmpeg -encoders`.
    encoders: String,
}

impl Ffmpeg {
    /// Looks for `ffmpeg` on the `PATH`.
    pub(super) fn find() -> anyhow::Result<Self> {
        let output = Command::new("ffmpeg")
            .args(["-hide_banner", "-encoders"])
            .stdin(Stdio::null())
            .output()
            .context("there is no ffmpeg on the PATH")?;
        anyhow::ensure!(output.status.success(), "the ffmpeg on the PATH does not run");
        Ok(Self { encoders: String::from_utf8_lossy(&output.stdout).into_owned() })
    }

    /// Returns whether it has an encoder of this name.
    pub(super) fn has(&self, encoder: &str) -> bool {
        self.encoders.split_whitespace().any(|word| word == encoder)
    }
}

/// Encodes a file of raw RGB frames, `side` by `side` pixels.
pub(super) fn encode(
    codec: &Codec,
    crf: u32,
    side: u32,
    fps: u32,
    raw: &Path,
    to: &Path,
) -> anyhow::Result<()> {
    let mut command = Command::new("ffmpeg");
    command.args(["-f", "rawvideo", "-pix_fmt", "rgb24"]);
    command.args(["-s", &format!("{side}x{side}"), "-r", &fps.to_string()]);
    command.arg("-i").arg(raw).args(["-sws_flags", "accurate_rnd+full_chroma_int"]);
    command.args(["-pix_fmt", "yuv420p", "-g", "9999", "-c:v", codec.encoder]);
    command.args(["-crf", &crf.to_string()]).args(codec.arguments).arg(to);
    run(command).with_context(|| format!("{} failed", codec.encoder))
}

/// Decodes to a file of raw RGB frames.
pub(super) fn decode(coded: &Path, to: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("ffmpeg");
    command.arg("-i").arg(coded).args(["-sws_flags", "accurate_rnd+full_chroma_int"]);
    command.args(["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24"]).arg(to);
    run(command).context("ffmpeg could not decode its own output")
}

/// Runs `ffmpeg` to its end; on failure its output is the error.
fn run(mut command: Command) -> anyhow::Result<()> {
    command.args(["-y", "-nostdin", "-hide_banner", "-loglevel", "error"]);
    let output = command.stdin(Stdio::null()).output()?;
    let message = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{}", message.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overhead_of_the_file_format_is_subtracted() {
        let codec = |name| CODECS.into_iter().find(|codec| codec.name == name).unwrap();
        assert_eq!(codec("x265").payload(1000, 10), 1000);
        assert_eq!(codec("AV1").payload(1000, 10), 1000 - 32 - 120);
        assert_eq!(codec("VP9").payload(10, 10), 0);
    }

    #[test]
    fn an_encoder_is_found_by_its_whole_name() {
        let ffmpeg = Ffmpeg { encoders: " V....D libx264rgb  x\n V....D libaom-av1  y".to_owned() };
        assert!(ffmpeg.has("libaom-av1") && !ffmpeg.has("libx264"));
    }
}
