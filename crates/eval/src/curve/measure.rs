use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Context;
use capture::{ScratchFolder, write_file};
use face::FaceFile;
use types::{MediaTime, Rate, SquareFrame};

use super::ffmpeg::{self, Ffmpeg};
use super::points::{CurvePoint, Curves};
use super::svg;
use crate::callbacks::{Paint, Progress};
use crate::clip::ClipReader;
use crate::evaluate::{EvalOptions, evaluate};
use crate::output_folder::foreign_file;
use crate::score::{MeanScore, Scorer};

/// Sides of the pictures that curves are measured for, pixels.
const SIDES: [u32; 2] = [256, 512];

impl Curves {
    /// Measures a face at the three rates and, if an `ffmpeg` program is found, x264, x265, VP9 and
    /// AV1 on the same frames, at 256 and 512 pixels, all with the same PSNR and SSIM.
    ///
    /// The face is measured with tracker and renderer, intermediate features included. The other
    /// codecs are set as for a call: one key frame at the start, no look-ahead. Intermediate files go
    /// to `folder`, which is created if necessary, and are removed.
    ///
    /// # Errors
    /// If the clip cannot be read or shows no face in these frames, if the face file has no sender
    /// part, if `paint` or an available encoder fails, or if the folder cannot be written to.
    pub fn measure(
        clip: &Path,
        face: &FaceFile,
        frames: Option<Range<u64>>,
        folder: &Path,
        paint: Paint<'_>,
        progress: Progress<'_>,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
        let reader = ClipReader::open(clip)?;
        let fps = reader.fps();
        let range = reader.frame_range(frames)?;
        let mut curves = Self {
            clip: clip.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            frames: [range.start, range.end],
            fps,
            points: Vec::new(),
            missing: Vec::new(),
        };
        for rate in Rate::CODED {
            let options =
                EvalOptions { frames: Some(range.clone()), resolutions: SIDES.to_vec(), rate };
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
        match Ffmpeg::find() {
            Ok(ffmpeg) => curves.measure_encoders(clip, &ffmpeg, folder, progress)?,
            Err(why) => curves.missing.push(format!("x264, x265, VP9, AV1: {why}")),
        }
        Ok(curves)
    }

    /// Writes `curves.json`, `curves-256.svg` and `curves-512.svg` into a folder.
    ///
    /// # Errors
    /// If the folder does not exist or cannot be written to.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        for side in SIDES {
            let picture = svg::plot(self, side);
            write_file(&folder.join(format!("curves-{side}.svg")), picture.as_bytes())?;
        }
        Ok(write_file(&folder.join("curves.json"), &serde_json::to_vec_pretty(self)?)?)
    }

    /// Returns a file in a folder that [`Curves::write`] would replace and that belongs to no curves;
    /// `None` if there is none.
    pub fn foreign_file(folder: &Path) -> Option<PathBuf> {
        foreign_file(folder, "curves.json", "points", |name| {
            name == "curves.json" || SIDES.iter().any(|side| name == format!("curves-{side}.svg"))
        })
    }

    /// Adds the points of every encoder that `ffmpeg` has.
    fn measure_encoders(
        &mut self,
        clip: &Path,
        ffmpeg: &Ffmpeg,
        folder: &Path,
        progress: Progress<'_>,
    ) -> anyhow::Result<()> {
        let (available, missing): (Vec<_>, Vec<_>) =
            ffmpeg::CODECS.iter().partition(|codec| ffmpeg.has(codec.encoder));
        self.missing.extend(
            missing.iter().map(|codec| {
                format!("{}: this ffmpeg has no encoder {}", codec.name, codec.encoder)
            }),
        );
        let n_runs = SIDES.len() * available.iter().map(|codec| codec.crfs.len()).sum::<usize>();
        let mut n_done = 0;
        // The frames show a person.
        let scratch = ScratchFolder::create(folder)?;
        for side in SIDES {
            let raw = scratch.path().join("frames.rgb");
            let n_frames = write_raw(clip, self.frames, side, &raw)?;
            for codec in &available {
                for &crf in codec.crfs {
                    let coded = scratch.path().join(format!("coded.{}", codec.extension));
                    ffmpeg::encode(codec, crf, side, self.fps, &raw, &coded)?;
                    let bytes = codec.payload(fs::metadata(&coded)?.len(), n_frames);
                    let decoded = scratch.path().join("decoded.rgb");
                    ffmpeg::decode(&coded, &decoded)?;
                    let quality = score(&raw, &decoded, side, n_frames)?;
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

/// Writes the frames as raw RGB squares of `side` pixels and returns their number.
fn write_raw(clip: &Path, frames: [u64; 2], side: u32, to: &Path) -> anyhow::Result<u64> {
    let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut out = BufWriter::new(file);
    let mut reader = ClipReader::open(clip)?;
    let mut n_frames = 0;
    while let Some((index, frame)) = reader.next()?
        && index < frames[1]
    {
        if index >= frames[0] {
            out.write_all(frame.resized_smooth(side).rgb()).context("cannot write the frames")?;
            n_frames += 1;
        }
    }
    out.flush().context("cannot write the frames")?;
    Ok(n_frames)
}

/// Scores a file of raw frames against another one.
fn score(reference: &Path, decoded: &Path, side: u32, n_frames: u64) -> anyhow::Result<MeanScore> {
    let open = |path: &Path| File::open(path).map(BufReader::new);
    let (mut reference, mut decoded) = (open(reference)?, open(decoded)?);
    let mut scorer = Scorer::default();
    for index in 0..n_frames {
        let next = |file: &mut BufReader<File>| -> anyhow::Result<SquareFrame> {
            let mut rgb = vec![0; side as usize * side as usize * 3];
            file.read_exact(&mut rgb).with_context(|| format!("frame {index} was not decoded"))?;
            Ok(SquareFrame::new(side, MediaTime::ZERO, rgb)?)
        };
        let (reference, decoded) = (next(&mut reference)?, next(&mut decoded)?);
        scorer.push(&reference, &decoded);
    }
    Ok(MeanScore::of(scorer.scores()))
}
