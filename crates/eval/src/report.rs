use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use capture::{write_file, write_picture};
use serde::Serialize;
use types::{Frame, SquareFrame};

use crate::output_folder::foreign_file;
use crate::rate::Payload;
use crate::score::{FrameScore, Jitter, MeanScore};

/// Quality and bit rate of a face on a clip; serializes to the JSON of `eval --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// File name of the clip.
    pub(crate) clip: String,
    /// Index of the first frame, and of the one after the last.
    pub(crate) frames: [u64; 2],
    /// Frame rate of the clip, frames per second.
    pub(crate) fps: u32,
    /// Number of frames read.
    pub(crate) n_frames: usize,
    /// Frames in which the tracker found no face.
    pub(crate) n_untracked: usize,
    /// Frames scored: all from the first one with a face.
    pub(crate) n_scored: usize,
    /// Bytes of the public part of the face file, sent to a peer once.
    pub(crate) face_bytes: usize,
    /// `low`, `normal` or `high`.
    pub(crate) rate: String,
    /// Units of a call without packet loss.
    pub(crate) payload: Payload,
    /// Units of a call with packet loss, where acknowledgements arrive six units late.
    pub(crate) payload_lossy: Payload,
    /// Quality of the pictures of the decoded features, for each resolution.
    pub(crate) resolutions: Vec<ResolutionReport>,
    /// Quality at the first resolution if features were not quantized.
    pub(crate) unquantized: MeanScore,
    /// Unsteadiness of the decoded features.
    #[serde(rename = "motion")]
    pub(crate) jitter: Jitter,
    /// Scores of single frames, for the table.
    #[serde(skip)]
    pub(crate) rows: Vec<FrameRow>,
    /// Pictures of some frames.
    #[serde(skip)]
    pub(crate) pictures: Vec<PicturePair>,
}

/// Quality at one resolution.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ResolutionReport {
    /// Side of the pictures, pixels.
    pub(crate) side: u32,
    /// Means over the scored frames, whole pictures.
    #[serde(flatten)]
    pub(crate) quality: MeanScore,
}

/// One scored frame.
#[derive(Clone, Debug)]
pub(crate) struct FrameRow {
    pub(crate) index: u64,
    /// Media time, seconds.
    pub(crate) time_s: f64,
    pub(crate) is_tracked: bool,
    /// Time the tracker took, milliseconds.
    pub(crate) track_ms: f64,
    /// One score per resolution.
    pub(crate) scores: Vec<FrameScore>,
}

/// A frame of the clip and the picture rendered for it, of one size.
#[derive(Clone, Debug)]
pub(crate) struct PicturePair {
    pub(crate) index: u64,
    pub(crate) reference: SquareFrame,
    pub(crate) rendered: SquareFrame,
}

impl Report {
    /// Returns the report as a Markdown page, which names the pictures of [`Report::write`].
    pub fn to_markdown(&self) -> String {
        let mut page = String::new();
        let [from, to] = self.frames;
        let Payload { kbit_s, bits_per_unit, key_units, units, .. } = self.payload;
        let mut line = |text: String| {
            page.push_str(&text);
            page.push('\n');
        };
        line(format!("# {}, frames {from}..{to}\n", self.clip));
        line(format!(
            "{} frames at {} fps, {} without a face, {} scored (whole pictures). Face: {} bytes.\n",
            self.n_frames, self.fps, self.n_untracked, self.n_scored, self.face_bytes
        ));
        line(format!(
            "Payload: **{kbit_s:.2} kbit/s** at rate {} ({bits_per_unit:.1} bits per unit, \
             {key_units} of {units} key units), {:.2} kbit/s with packet loss. Packet headers not \
             included.\n",
            self.rate, self.payload_lossy.kbit_s
        ));
        line("| side, px | PSNR, dB | worst frame | SSIM | PSNR of changes |".into());
        line("| --- | --- | --- | --- | --- |".into());
        for ResolutionReport { side, quality } in &self.resolutions {
            line(format!("| {side} {}", cells(quality)));
        }
        line(format!("| not quantized {}\n", cells(&self.unquantized)));
        line(format!(
            "Jitter of decoded features (rms second difference): rotation {:.3} degrees, \
             translation {:.3} mm, code {:.4}.",
            self.jitter.rotation_deg, self.jitter.translation_mm, self.jitter.code
        ));
        for pair in &self.pictures {
            let name = picture_name(pair.index);
            line(format!("\n![frame {}: clip, rendered, difference times 4]({name})", pair.index));
        }
        page
    }

    /// Returns a file in a folder that [`Report::write`] would replace and that belongs to no report;
    /// `None` if there is none.
    pub fn foreign_file(folder: &Path) -> Option<PathBuf> {
        foreign_file(folder, "report.json", "payload_lossy", |name| {
            let number = name.strip_prefix("frame_").and_then(|rest| rest.strip_suffix(".png"));
            ["report.md", "report.json", "frames.csv"].contains(&name)
                || number.is_some_and(|n| n.bytes().all(|digit| digit.is_ascii_digit()))
        })
    }

    /// Writes `report.md`, `report.json`, `frames.csv` and pictures (clip, rendered, difference
    /// times four) into a folder, which is created if necessary.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
        for pair in &self.pictures {
            write_picture(&folder.join(picture_name(pair.index)), &side_by_side(pair)?)?;
        }
        write_file(&folder.join("frames.csv"), self.to_csv().as_bytes())?;
        write_file(&folder.join("report.json"), &serde_json::to_vec_pretty(self)?)?;
        write_file(&folder.join("report.md"), self.to_markdown().as_bytes())?;
        Ok(())
    }

    fn to_csv(&self) -> String {
        let mut csv = "frame,time_s,tracked,track_ms".to_owned();
        for ResolutionReport { side, .. } in &self.resolutions {
            let _ = write!(csv, ",psnr_db_{side},ssim_{side},change_psnr_db_{side}");
        }
        csv.push('\n');
        for row in &self.rows {
            let FrameRow { index, time_s, is_tracked, track_ms, scores } = row;
            let _ = write!(csv, "{index},{time_s:.3},{},{track_ms:.2}", u8::from(*is_tracked));
            for score in scores {
                let change = score.change_psnr_db.map(|db| format!("{db:.3}")).unwrap_or_default();
                let _ = write!(csv, ",{:.3},{:.4},{change}", score.psnr_db, score.ssim);
            }
            csv.push('\n');
        }
        csv
    }
}

fn cells(quality: &MeanScore) -> String {
    let change = quality.change_psnr_db.map_or("-".to_owned(), |db| format!("{db:.2}"));
    format!(
        "| {:.2} | {:.2} | {:.4} | {change} |",
        quality.psnr_db, quality.psnr_min_db, quality.ssim
    )
}

fn picture_name(index: u64) -> String {
    format!("frame_{index:05}.png")
}

/// Joins the clip's frame, the rendered picture, and their difference times four around gray.
fn side_by_side(pair: &PicturePair) -> anyhow::Result<Frame> {
    let PicturePair { reference, rendered, .. } = pair;
    let stride = reference.side() as usize * 3;
    let mut rgb = Vec::with_capacity(reference.rgb().len() * 3);
    for (a, b) in reference.rgb().chunks_exact(stride).zip(rendered.rgb().chunks_exact(stride)) {
        rgb.extend_from_slice(a);
        rgb.extend_from_slice(b);
        rgb.extend(
            a.iter()
                .zip(b)
                .map(|(&a, &b)| (128 + 4 * (i32::from(b) - i32::from(a))).clamp(0, 255) as u8),
        );
    }
    Ok(Frame::new(reference.side() * 3, reference.side(), reference.time(), rgb)?)
}
