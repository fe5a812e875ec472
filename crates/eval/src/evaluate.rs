#![expect(clippy::disallowed_methods, reason = "this module measures the tracker's speed")]

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use codec::Profile;
use face::FaceFile;
use track::RefinementBudget;
use types::{Feature, FeatureTimeline, MediaTime, Rate, SquareFrame};

use crate::callbacks::{Paint, Progress};
use crate::clip::{ClipReader, WARM_UP, sender_of};
use crate::rate::RateMeter;
use crate::report::{FrameRow, PicturePair, Report, ResolutionReport};
use crate::score::{Jitter, MeanScore, Scorer};

/// Number of pictures kept for a report.
const N_PICTURES: u64 = 8;
/// Most frames that wait for the next unit. While there is a face, at most ten do, including that
/// of the last unit: at 60 frames per second and the low rate.
const MAX_WAITING: usize = 12;

/// What to evaluate.
#[derive(Clone, Debug)]
pub struct EvalOptions {
    /// Range of frame indices; `None` for the whole clip.
    pub frames: Option<Range<u64>>,
    /// Sides of the rendered pictures, pixels, 16 to 8192.
    pub resolutions: Vec<u32>,
    /// How finely and how often features are encoded.
    pub rate: Rate,
}

impl Default for EvalOptions {
    fn default() -> Self {
        Self { frames: None, resolutions: vec![256], rate: Rate::Normal }
    }
}

/// Evaluates what a peer sees of a clip: runs it through tracker, encoder, decoder and renderer,
/// and scores the pictures against the clip.
///
/// Whole pictures are scored. Between units the picture follows the intermediate features, as in
/// the playout of a call. If the tracker finds no face, the last picture stays, as in a call;
/// frames before the first face are counted as untracked and not scored. The first resolution is
/// rendered a second time from unquantized features, to isolate the loss by quantization.
///
/// # Errors
/// If a resolution is outside 16 to 8192 px, the clip cannot be read, is shorter than the frames asked
/// for or shows no face in them, the sender part or the codec profile of the face file is missing,
/// damaged or of another version, a feature does not fit the profile, or `paint` fails.
pub fn evaluate(
    clip: &Path,
    face: &FaceFile,
    options: &EvalOptions,
    paint: Paint<'_>,
    progress: Progress<'_>,
) -> anyhow::Result<Report> {
    for side in &options.resolutions {
        anyhow::ensure!(
            (16..=types::MAX_FRAME_SIDE).contains(side),
            "a resolution of {side} px is outside 16..=8192"
        );
    }
    let (mut tracker, profile) = sender_of(face)?;
    let mut reader = ClipReader::open(clip)?;
    let fps = reader.fps();
    let frames = reader.frame_range(options.frames.clone())?;
    let picture_interval = ((frames.end - frames.start) / N_PICTURES).max(1);

    let mut evaluation = Evaluation::new(&options.resolutions, &profile, options.rate);
    while let Some((index, frame)) = reader.next()? {
        if index >= frames.end {
            break;
        }
        if index + WARM_UP < frames.start {
            continue;
        }
        let started = Instant::now();
        let feature = tracker.track(&frame, RefinementBudget::Full).feature();
        let track_ms = started.elapsed().as_secs_f64() * 1000.0;
        if index < frames.start {
            progress("warm up", reader.fraction(Some(frames.end)), "");
            continue;
        }
        let keep_picture = (index - frames.start) % picture_interval == picture_interval / 2;
        let frame = WaitingFrame { index, frame, feature, track_ms, keep_picture };
        evaluation.push(frame, paint)?;
        let psnr = evaluation.psnr_db().map_or(String::new(), |db| format!("{db:.2} dB"));
        progress("evaluate", reader.fraction(Some(frames.end)), &psnr);
    }
    evaluation.finish(paint)?;
    anyhow::ensure!(!evaluation.features.is_empty(), "no face was found in frames {frames:?}");
    Ok(evaluation.report(clip, frames.start, fps, face.public_bytes().len()))
}

/// A frame whose decoded feature is known once the next unit is encoded.
struct WaitingFrame {
    index: u64,
    frame: SquareFrame,
    feature: Option<Feature>,
    track_ms: f64,
    keep_picture: bool,
}

/// State and results of an evaluation.
struct Evaluation {
    meter: RateMeter,
    rate: Rate,
    sides: Vec<u32>,
    /// One for each side.
    scorers: Vec<Scorer>,
    unquantized: Scorer,
    /// Decoded features of the tracked frames.
    features: Vec<Feature>,
    waiting: Vec<WaitingFrame>,
    /// Features of the last units.
    decoded: FeatureTimeline,
    /// Feature that the peer shows, and the same without quantization.
    shown: Option<(Feature, Feature)>,
    rows: Vec<FrameRow>,
    pictures: Vec<PicturePair>,
    n_frames: usize,
    n_untracked: usize,
}

impl Evaluation {
    fn new(sides: &[u32], profile: &Profile, rate: Rate) -> Self {
        Self {
            meter: RateMeter::new(profile, rate),
            rate,
            sides: sides.to_vec(),
            scorers: vec![Scorer::default(); sides.len()],
            unquantized: Scorer::default(),
            features: Vec::new(),
            waiting: Vec::new(),
            decoded: FeatureTimeline::with_capacity(2 * MAX_WAITING),
            shown: None,
            rows: Vec::new(),
            pictures: Vec::new(),
            n_frames: 0,
            n_untracked: 0,
        }
    }

    fn push(&mut self, frame: WaitingFrame, paint: Paint<'_>) -> anyhow::Result<()> {
        self.n_frames += 1;
        let decoded = if let Some(feature) = &frame.feature {
            self.meter.push(feature)?
        } else {
            self.n_untracked += 1;
            Vec::new()
        };
        self.waiting.push(frame);
        if !decoded.is_empty() || self.waiting.len() > MAX_WAITING {
            self.score_ready(decoded, paint)?;
        }
        if self.decoded.is_empty() {
            self.waiting.clear();
        }
        Ok(())
    }

    fn finish(&mut self, paint: Paint<'_>) -> anyhow::Result<()> {
        let decoded = self.meter.finish()?;
        self.score_ready(decoded, paint)?;
        self.score_ready(Vec::new(), paint)
    }

    /// Scores the waiting frames, given the features decoded from a unit. The unit's own frame
    /// waits on, since the next unit will correct it. Without features, scores all with the last
    /// picture.
    fn score_ready(&mut self, decoded: Vec<Feature>, paint: Paint<'_>) -> anyhow::Result<()> {
        let unit_time = decoded.last().map(|newest| newest.time);
        self.decoded.extend(decoded);
        let is_ready =
            |waiting: &WaitingFrame| unit_time.is_none_or(|time| waiting.frame.time() < time);
        let n_ready = self.waiting.iter().take_while(|waiting| is_ready(waiting)).count();
        for waiting in self.waiting.drain(..n_ready).collect::<Vec<_>>() {
            if let Some(original) = waiting.feature
                && let Some(decoded) = self.decoded.at(original.time)
            {
                self.features.push(decoded);
                self.shown = Some((decoded, original));
            }
            self.score(waiting, paint)?;
        }
        Ok(())
    }

    fn score(&mut self, waiting: WaitingFrame, paint: Paint<'_>) -> anyhow::Result<()> {
        let WaitingFrame { index, frame, feature, track_ms, keep_picture } = waiting;
        let Some((decoded, original)) = self.shown else { return Ok(()) };
        let mut scores = Vec::with_capacity(self.sides.len());
        for (i, &side) in self.sides.iter().enumerate() {
            let reference = frame.resized_smooth(side);
            let rendered = paint(&decoded, side)?;
            scores.push(self.scorers[i].push(&reference, &rendered));
            if i == 0 {
                self.unquantized.push(&reference, &paint(&original, side)?);
                if keep_picture {
                    self.pictures.push(PicturePair { index, reference, rendered });
                }
            }
        }
        self.rows.push(FrameRow {
            index,
            time_s: MediaTime::as_secs_f64(frame.time()),
            is_tracked: feature.is_some(),
            track_ms,
            scores,
        });
        Ok(())
    }

    /// Returns the mean PSNR so far at the first resolution, dB.
    fn psnr_db(&self) -> Option<f64> {
        let scores = self.scorers.first()?.scores();
        (!scores.is_empty()).then(|| MeanScore::of(scores).psnr_db)
    }

    fn report(self, clip: &Path, start: u64, fps: u32, face_bytes: usize) -> Report {
        let resolutions = self
            .sides
            .iter()
            .zip(&self.scorers)
            .map(|(&side, scorer)| ResolutionReport {
                side,
                quality: MeanScore::of(scorer.scores()),
            })
            .collect();
        Report {
            clip: clip.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            frames: [start, start + self.n_frames as u64],
            fps,
            n_frames: self.n_frames,
            n_untracked: self.n_untracked,
            n_scored: self.rows.len(),
            face_bytes,
            rate: self.rate.name().to_owned(),
            payload: self.meter.clean(fps, self.n_frames),
            payload_lossy: self.meter.lossy(fps, self.n_frames),
            resolutions,
            unquantized: MeanScore::of(self.unquantized.scores()),
            jitter: Jitter::of(&self.features),
            rows: self.rows,
            pictures: self.pictures,
        }
    }
}

#[cfg(test)]
mod tests {
    use types::{Code, HeadPose};

    use super::*;

    fn gray(index: u64, v: u8) -> SquareFrame {
        SquareFrame::new(16, MediaTime::of_frame(index, 25), vec![v; 16 * 16 * 3]).unwrap()
    }

    #[test]
    fn a_frame_without_a_face_is_scored_with_the_last_picture() {
        let mut evaluation = Evaluation::new(&[16], &Profile::default(), Rate::Normal);
        // The picture is the yaw as a gray level; the clip has the gray of the first frame's yaw.
        let mut paint = |feature: &Feature, _: u32| {
            Ok(gray(0, (feature.pose.rotation().y * 100.0).round() as u8))
        };
        let feature = |index: u64, yaw: f32| Feature {
            time: MediaTime::of_frame(index, 25),
            pose: HeadPose::from_array([0.0, yaw, 0.0, 0.0, 0.0, 1.1]).unwrap(),
            code: Code::NEUTRAL,
        };
        for (index, found) in [None, Some(0.5), None, Some(0.6)].into_iter().enumerate() {
            let index = index as u64;
            let feature = found.map(|yaw| feature(index, yaw));
            let (frame, track_ms, keep_picture) = (gray(index, 50), 1.0, false);
            let waiting = WaitingFrame { index, frame, feature, track_ms, keep_picture };
            evaluation.push(waiting, &mut paint).unwrap();
        }
        evaluation.finish(&mut paint).unwrap();
        let report = evaluation.report(Path::new("a/clip.mp4"), 7, 25, 1000);
        assert_eq!((report.n_frames, report.n_untracked, report.n_scored), (4, 2, 3));
        assert_eq!((report.frames, report.clip.as_str()), ([7, 11], "clip.mp4"));
        assert_eq!(report.payload.units, 2);
        let psnr: Vec<f64> = report.rows.iter().map(|row| row.scores[0].psnr_db).collect();
        assert!(psnr[1] == psnr[0] && psnr[2] < psnr[1], "{psnr:?}");
    }

    #[test]
    fn every_frame_is_scored_once_with_its_corrected_feature() {
        for (rate, fps) in [(Rate::High, 25), (Rate::Normal, 30), (Rate::Low, 60)] {
            let mut evaluation = Evaluation::new(&[16], &Profile::default(), rate);
            let mut paint = |_: &Feature, _: u32| Ok(gray(0, 50));
            let time = |index| MediaTime::of_frame(index, fps);
            let feature = |index: u64| Feature {
                time: time(index),
                pose: HeadPose::from_array([0.0, 0.01 * index as f32, 0.0, 0.0, 0.0, 1.1]).unwrap(),
                code: Code::NEUTRAL,
            };
            // A second meter decodes the same units.
            let mut meter = RateMeter::new(&Profile::default(), rate);
            let mut corrected: Vec<Feature> = Vec::new();
            for index in 0..60 {
                let frame = SquareFrame::new(16, time(index), vec![50; 16 * 16 * 3]).unwrap();
                let (feature, track_ms, keep_picture) = (Some(feature(index)), 1.0, false);
                for decoded in meter.push(&feature.unwrap()).unwrap() {
                    corrected.retain(|known| known.time != decoded.time);
                    corrected.push(decoded);
                }
                let waiting = WaitingFrame { index, frame, feature, track_ms, keep_picture };
                evaluation.push(waiting, &mut paint).unwrap();
            }
            evaluation.finish(&mut paint).unwrap();
            let rows: Vec<u64> = evaluation.rows.iter().map(|row| row.index).collect();
            assert_eq!(rows, (0..60).collect::<Vec<_>>(), "{rate:?}");
            // No unit follows that would correct the last one.
            corrected.pop();
            let mut n_compared = 0;
            for (index, shown) in (0..).zip(&evaluation.features) {
                if let Some(want) = corrected.iter().find(|known| known.time == time(index)) {
                    let off = shown.pose.rotation().y - want.pose.rotation().y;
                    assert!(off.abs() < 1e-6, "{rate:?} {index}: {off}");
                    n_compared += 1;
                }
            }
            assert!(n_compared >= 6, "{rate:?}: {n_compared}");
        }
    }
}
