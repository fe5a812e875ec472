//! Rate and distortion: a face in three modes beside the codecs that everybody has.

mod ffmpeg;
mod svg;

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::Context;
use capture::write_file;
use face::FaceFile;
use serde::Serialize;
use types::{Rate, SquareFrame};

use crate::clip::{ClipReader, frames_of};
use crate::{Options, Paint, Progress, Scorer, Summary, evaluate};

/// Sides of the pictures that curves are drawn for.
const SIDES: [u32; 2] = [256, 512];

/// What one setting of one codec makes of the clip.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Which codec.
    pub codec: String,
    /// Its setting.
    pub setting: String,
    /// Side of the picture, pixels.
    pub side: u32,
    /// Bytes of the codec's own packets, times 8 over the frames' duration; no headers of a
    /// container or a network.
    pub kbit_s: f64,
    /// Mean of the frames' PSNR, RGB, whole pictures, dB.
    pub psnr_db: f64,
    /// Mean of the frames' SSIM, mean of the channels.
    pub ssim: f64,
}

/// Everything that was measured, and on what.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curves {
    /// File name of the clip.
    pub clip: String,
    /// First frame, and the one after the last.
    pub frames: [u64; 2],
    /// Frames in a second.
    pub fps: u32,
    /// Ours first, then codec by codec.
    pub points: Vec<CurvePoint>,
    /// Codecs that were left out, and why.
    pub missing: Vec<String>,
}

/// Measures a face in three modes and, where an `ffmpeg` is found, x264, x265, VP9 and AV1 on the
/// same frames at 256 and 512 pixels, all with the same PSNR and SSIM.
///
/// Writes `curves.json`, `curves-256.svg` and `curves-512.svg` into `folder`, which is made if
/// need be. Ours are frames between units, tracker and renderer included; the others begin with
/// a key frame and look not ahead, as in a call.
///
/// # Errors
/// If the clip cannot be read or shows no face in these frames, the face file cannot send, `paint`
/// fails, an encoder that is there fails, or the folder cannot be written to.
pub fn write_curves(
    clip: &Path,
    face: &FaceFile,
    frames: Option<Range<u64>>,
    folder: &Path,
    paint: Paint<'_>,
    progress: Progress<'_>,
) -> anyhow::Result<Curves> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let reader = ClipReader::open(clip)?;
    let fps = reader.fps();
    let range = frames_of(&reader, frames)?;
    let mut curves = Curves {
        clip: clip.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        frames: [range.start, range.end],
        fps,
        points: Vec::new(),
        missing: Vec::new(),
    };
    for rate in Rate::ALL {
        let resolutions = SIDES.to_vec();
        let options = Options { frames: Some(range.clone()), resolutions, rate };
        let report = evaluate(clip, face, &options, paint, progress)?;
        curves.frames[1] = report.frames[1];
        curves.points.extend(report.resolutions.iter().map(|at| CurvePoint {
            codec: "Feathercall".to_owned(),
            setting: report.rate.clone(),
            side: at.side,
            kbit_s: report.payload.kbit_s,
            psnr_db: at.quality.psnr_db,
            ssim: at.quality.ssim,
        }));
    }
    match ffmpeg::Ffmpeg::find() {
        Ok(ffmpeg) => curves.add_others(clip, &ffmpeg, folder, progress)?,
        Err(why) => curves.missing.push(format!("x264, x265, VP9, AV1: {why}")),
    }
    for side in SIDES {
        let picture = svg::plot(&curves, side);
        write_file(&folder.join(format!("curves-{side}.svg")), picture.as_bytes())?;
    }
    write_file(&folder.join("curves.json"), &serde_json::to_vec_pretty(&curves)?)?;
    Ok(curves)
}

impl Curves {
    /// Adds what each encoder of `ffmpeg` makes of the clip.
    fn add_others(
        &mut self,
        clip: &Path,
        ffmpeg: &ffmpeg::Ffmpeg,
        folder: &Path,
        progress: Progress<'_>,
    ) -> anyhow::Result<()> {
        let (there, missing): (Vec<_>, Vec<_>) =
            ffmpeg::CODECS.iter().partition(|codec| ffmpeg.has(codec.encoder));
        self.missing.extend(
            missing.iter().map(|codec| {
                format!("{}: this ffmpeg has no encoder {}", codec.name, codec.encoder)
            }),
        );
        let n_runs = SIDES.len() * there.iter().map(|codec| codec.crfs.len()).sum::<usize>();
        let mut n_done = 0;
        for side in SIDES {
            let raw = Scratch(folder.join(format!("frames-{side}.rgb.part")));
            let n_frames = write_raw(clip, self.frames, side, &raw.0)?;
            for codec in &there {
                for &crf in codec.crfs {
                    let coded = Scratch(folder.join(format!("coded.part.{}", codec.extension)));
                    ffmpeg::encode(codec, crf, side, self.fps, &raw.0, &coded.0)?;
                    let bytes = codec.payload(fs::metadata(&coded.0)?.len(), n_frames);
                    let decoded = Scratch(folder.join("decoded.rgb.part"));
                    ffmpeg::decode(&coded.0, &decoded.0)?;
                    let quality = score(&raw.0, &decoded.0, side, n_frames)?;
                    let seconds = n_frames as f64 / f64::from(self.fps.max(1));
                    self.points.push(CurvePoint {
                        codec: codec.name.to_owned(),
                        setting: format!("crf {crf}"),
                        side,
                        kbit_s: bytes as f64 * 0.008 / seconds.max(1e-3),
                        psnr_db: quality.psnr_db,
                        ssim: quality.ssim,
                    });
                    n_done += 1;
                    progress(codec.name, n_done as f32 / n_runs as f32, &format!("{side} px"));
                }
            }
        }
        Ok(())
    }
}

/// A file that is gone once it is no longer needed.
struct Scratch(std::path::PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Writes the frames as squares of `side`, byte by byte; gives how many.
fn write_raw(clip: &Path, frames: [u64; 2], side: u32, to: &Path) -> anyhow::Result<u64> {
    use std::io::Write as _;
    let mut file = std::io::BufWriter::new(
        fs::File::create(to).with_context(|| format!("cannot write {}", to.display()))?,
    );
    let mut reader = ClipReader::open(clip)?;
    let mut n_frames = 0;
    while let Some((index, frame)) = reader.next()?
        && index < frames[1]
    {
        if index >= frames[0] {
            file.write_all(frame.resized_smooth(side).rgb()).context("cannot write the frames")?;
            n_frames += 1;
        }
    }
    file.flush().context("cannot write the frames")?;
    Ok(n_frames)
}

/// Holds two files of raw frames against each other.
fn score(reference: &Path, decoded: &Path, side: u32, n_frames: u64) -> anyhow::Result<Summary> {
    use std::io::Read as _;
    let open = |path: &Path| fs::File::open(path).map(std::io::BufReader::new);
    let (mut reference, mut decoded) = (open(reference)?, open(decoded)?);
    let mut scorer = Scorer::default();
    for index in 0..n_frames {
        let next = |file: &mut std::io::BufReader<fs::File>| -> anyhow::Result<SquareFrame> {
            let mut rgb = vec![0; side as usize * side as usize * 3];
            file.read_exact(&mut rgb)
                .with_context(|| format!("frame {index} did not come back"))?;
            Ok(SquareFrame::new(side, types::MediaTime::ZERO, rgb)?)
        };
        let (wanted, got) = (next(&mut reference)?, next(&mut decoded)?);
        scorer.push(&wanted, &got);
    }
    Ok(Summary::of(scorer.scores()))
}
