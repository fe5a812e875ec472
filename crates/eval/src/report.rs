use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;
use capture::write_file;
use serde::Serialize;
use types::SquareFrame;

use crate::{FrameScore, Motion, Payload, Summary};

/// What [`crate::evaluate`] found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// File name of the clip.
    pub clip: String,
    /// First frame, and the one after the last.
    pub frames: [u64; 2],
    /// Frames in a second.
    pub fps: u32,
    /// Frames of the clip that were looked at.
    pub n_frames: usize,
    /// Of them, those in which the tracker found no face.
    pub n_untracked: usize,
    /// Of them, those that were scored: all from the first face on.
    pub n_scored: usize,
    /// Bytes of the face that go to a peer, once.
    pub face_bytes: usize,
    /// `low`, `normal` or `high`.
    pub rate: String,
    /// The units as a call sends them while nothing is lost.
    pub payload: Payload,
    /// The same on a channel that loses, acknowledged after six units.
    pub payload_lossy: Payload,
    /// Quality of decoded features' pictures, at each resolution.
    pub resolutions: Vec<ResolutionReport>,
    /// The same at the first resolution, had the features not been quantized.
    pub unquantized: Summary,
    /// How steadily the decoded features move.
    pub motion: Motion,
    /// Frame by frame, for a report's table.
    #[serde(skip)]
    pub(crate) rows: Vec<FrameRow>,
    #[serde(skip)]
    pub(crate) pictures: Vec<Pictures>,
}

/// Quality at one resolution.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ResolutionReport {
    /// Pixels in a row of the square picture.
    pub side: u32,
    /// Means over the scored frames, whole pictures.
    #[serde(flatten)]
    pub quality: Summary,
}

/// One scored frame.
#[derive(Clone, Debug)]
pub(crate) struct FrameRow {
    pub(crate) index: u64,
    pub(crate) time_s: f64,
    pub(crate) is_tracked: bool,
    pub(crate) track_ms: f64,
    /// One a resolution.
    pub(crate) scores: Vec<FrameScore>,
}

/// A frame of the clip and what was rendered for it.
#[derive(Clone, Debug)]
pub(crate) struct Pictures {
    pub(crate) index: u64,
    pub(crate) reference: SquareFrame,
    pub(crate) rendered: SquareFrame,
}

impl Report {
    /// The report as a Markdown page.
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
            "Payload: **{kbit_s:.2} kbit/s** at rate {} ({bits_per_unit:.1} bits a unit, \
             {key_units} of {units} key units), {:.2} kbit/s while packets are lost. Packet headers not \
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
            self.motion.rotation_jitter_deg,
            self.motion.translation_jitter_mm,
            self.motion.code_jitter
        ));
        for pictures in &self.pictures {
            let name = picture_name(pictures.index);
            line(format!(
                "\n![frame {}: clip, rendered, difference times 4]({name})",
                pictures.index
            ));
        }
        page
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

fn cells(quality: &Summary) -> String {
    let change = quality.change_psnr_db.map_or("-".to_owned(), |db| format!("{db:.2}"));
    format!(
        "| {:.2} | {:.2} | {:.4} | {change} |",
        quality.psnr_db, quality.psnr_min_db, quality.ssim
    )
}

fn picture_name(index: u64) -> String {
    format!("frame_{index:05}.png")
}

/// Writes `report.md`, `report.json`, `frames.csv` and pictures (clip, rendered, difference times
/// four) into a folder, which is made if need be.
///
/// # Errors
/// If the folder cannot be written to.
pub fn write_report(report: &Report, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    for pictures in &report.pictures {
        write_file(&folder.join(picture_name(pictures.index)), &side_by_side(pictures)?)?;
    }
    write_file(&folder.join("frames.csv"), report.to_csv().as_bytes())?;
    write_file(&folder.join("report.json"), &serde_json::to_vec_pretty(report)?)?;
    write_file(&folder.join("report.md"), report.to_markdown().as_bytes())?;
    Ok(())
}

/// A PNG of clip, rendered picture, and their difference times four around gray.
fn side_by_side(pictures: &Pictures) -> anyhow::Result<Vec<u8>> {
    let Pictures { reference, rendered, .. } = pictures;
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
    let mut png = std::io::Cursor::new(Vec::new());
    image::write_buffer_with_format(
        &mut png,
        &rgb,
        reference.side() * 3,
        reference.side(),
        image::ExtendedColorType::Rgb8,
        image::ImageFormat::Png,
    )?;
    Ok(png.into_inner())
}
