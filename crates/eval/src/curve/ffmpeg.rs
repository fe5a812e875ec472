//! The encoders of an `ffmpeg` on the `PATH`, set as a live call could use them.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

/// An encoder and how it is run.
pub(super) struct Codec {
    /// What a plot calls it.
    pub(super) name: &'static str,
    /// What `ffmpeg` calls it.
    pub(super) encoder: &'static str,
    arguments: &'static [&'static str],
    /// Of the file with the least around the packets.
    pub(super) extension: &'static str,
    /// Bytes of the file around all packets, and around each.
    overhead: [u64; 2],
    /// From coarse to fine.
    pub(super) crfs: &'static [u32],
}

/// No look-ahead, no frames out of order, one key frame.
pub(super) const CODECS: [Codec; 4] = [
    Codec {
        name: "x264",
        encoder: "libx264",
        // Its unit of 700 bytes that names its own settings is no part of a call.
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
    /// Bytes of the packets in a file of so many.
    pub(super) fn payload(&self, file_bytes: u64, n_frames: u64) -> u64 {
        file_bytes.saturating_sub(self.overhead[0] + self.overhead[1] * n_frames)
    }
}

/// An `ffmpeg` that runs.
pub(super) struct Ffmpeg {
    /// Its list of encoders.
    encoders: String,
}

impl Ffmpeg {
    /// The one on the `PATH`.
    pub(super) fn find() -> anyhow::Result<Self> {
        let output = Command::new("ffmpeg")
            .args(["-hide_banner", "-encoders"])
            .stdin(Stdio::null())
            .output()
            .context("there is no ffmpeg on the PATH")?;
        anyhow::ensure!(output.status.success(), "the ffmpeg on the PATH does not run");
        Ok(Self { encoders: String::from_utf8_lossy(&output.stdout).into_owned() })
    }

    pub(super) fn has(&self, encoder: &str) -> bool {
        self.encoders.split_whitespace().any(|word| word == encoder)
    }
}

/// Encodes raw RGB frames.
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

/// Decodes to raw RGB frames.
pub(super) fn decode(coded: &Path, to: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("ffmpeg");
    command.arg("-i").arg(coded).args(["-sws_flags", "accurate_rnd+full_chroma_int"]);
    command.args(["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24"]).arg(to);
    run(command).context("ffmpeg could not decode what it had encoded")
}

/// Runs it to its end; its own words are the error.
fn run(mut command: Command) -> anyhow::Result<()> {
    command.args(["-y", "-nostdin", "-hide_banner", "-loglevel", "error"]);
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{}", said.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packets_count() {
        let codec = |name| CODECS.into_iter().find(|codec| codec.name == name).unwrap();
        assert_eq!(codec("x265").payload(1000, 10), 1000);
        assert_eq!(codec("AV1").payload(1000, 10), 1000 - 32 - 120);
        assert_eq!(codec("VP9").payload(10, 10), 0);
    }

    #[test]
    fn an_encoder_is_there_if_its_whole_name_is() {
        let ffmpeg = Ffmpeg { encoders: " V....D libx264rgb  x\n V....D libaom-av1  y".to_owned() };
        assert!(ffmpeg.has("libaom-av1") && !ffmpeg.has("libx264"));
    }
}
