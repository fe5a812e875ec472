use std::fmt::Write as _;

use serde::Serialize;

/// Rate and distortion of one codec at one setting.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct CurvePoint {
    /// Name of the codec.
    pub(crate) codec: String,
    /// Its setting, as in `crf 40`.
    pub(crate) setting: String,
    /// Side of the picture, pixels.
    pub(crate) side: u32,
    /// Size of the codec's packets over the duration of the frames, kbit/s; without headers of a
    /// container or network.
    pub(crate) kbit_s: f64,
    /// Mean of the frames' PSNR, RGB, whole pictures, dB.
    pub(crate) psnr_db: f64,
    /// Mean of the frames' SSIM, itself the mean of the channels.
    pub(crate) ssim: f64,
}

/// Rate-distortion curves of a face and of video codecs on the same frames; serializes to the JSON
/// of `eval --curve --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curves {
    /// File name of the clip.
    pub(crate) clip: String,
    /// Index of the first frame, and of the one after the last.
    pub(crate) frames: [u64; 2],
    /// Frame rate, frames per second.
    pub(crate) fps: u32,
    /// Points of this product first, then codec by codec.
    pub(crate) points: Vec<CurvePoint>,
    /// Codecs that were left out, each with the reason.
    pub(crate) missing: Vec<String>,
}

impl Curves {
    /// Returns the codecs that were left out, each with the reason.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Returns the points as a Markdown table.
    pub fn to_markdown(&self) -> String {
        let mut table = "| codec | setting | side, px | kbit/s | PSNR, dB | SSIM |\n\
                         | --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
        for CurvePoint { codec, setting, side, kbit_s, psnr_db, ssim } in &self.points {
            let _ = writeln!(
                table,
                "| {codec} | {setting} | {side} | {kbit_s:.2} | {psnr_db:.2} | {ssim:.4} |"
            );
        }
        table
    }
}
