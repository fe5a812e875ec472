#![expect(clippy::disallowed_methods, reason = "this module measures how long things take")]

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use codec::Profile;
use face::FaceFile;
use track::RefinementBudget;
use types::{Feature, FeatureTimeline, MediaTime, Rate, SquareFrame};

use crate::clip::{ClipReader, WARM_UP, frames_of, sender_of};
use crate::report::{FrameRow, Pictures, Report, ResolutionReport};
use crate::{Motion, RateMeter, Scorer, Summary};

/// Renders a feature as a square of so many pixels: the caller's GPU or CPU.
pub type Paint<'a> = &'a mut dyn FnMut(&Feature, u32) -> anyhow::Result<SquareFrame>;

/// Told how far a stage is: its name, the share done (0..=1), a figure.
pub type Progress<'a> = &'a mut dyn FnMut(&str, f32, &str);

/// Pictures kept for a report.
const N_PICTURES: u64 = 8;
/// Frames kept for the next unit; while there is a face units come more often, at 60 frames a second and
/// rate low, too: ten frames, that of the last unit among them.
const MOST_WAITING: usize = 12;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Frames of the clip, the end not included; all unless given.
    pub frames: Option<Range<u64>>,
    /// Sides of the rendered pictures, pixels, 16 at least.
    pub resolutions: Vec<u32>,
    /// How finely and how often features are coded.
    pub rate: Rate,
}

impl Default for Options {
    fn default() -> Self {
        Self { frames: None, resolutions: vec![256], rate: Rate::Normal }
    }
}

/// Measures what a peer sees of a clip: tracker, real units, decoder, picture, against the clip.
///
/// Every frame counts, whole: between units the picture moves as they tell, as a call's playout
/// moves it. Where the tracker finds no face the last picture stays, as in a
/// call; frames before the first face are counted as untracked and not scored. The first
/// resolution is rendered a second time from features that were not quantized, to tell what
/// quantizing costs.
///
/// # Errors
/// If the clip cannot be read or shows no face in these frames, the face file cannot send, or
/// `paint` fails.
pub fn evaluate(
    clip: &Path,
    face: &FaceFile,
    options: &Options,
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
    let frames = frames_of(&reader, options.frames.clone())?;
    let picture_every = ((frames.end - frames.start) / N_PICTURES).max(1);

    let mut measured = Measured::new(&options.resolutions, &profile, options.rate);
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
        let keep_picture = (index - frames.start) % picture_every == picture_every / 2;
        let waiting = Waiting { index, frame, feature, track_ms, keep_picture };
        measured.push(waiting, paint)?;
        let psnr = measured.psnr_db().map_or(String::new(), |db| format!("{db:.2} dB"));
        progress("evaluate", reader.fraction(Some(frames.end)), &psnr);
    }
    measured.finish(paint)?;
    anyhow::ensure!(measured.rate_units() > 0, "no face was found in frames {frames:?}");
    Ok(measured.report(clip, frames.start, fps, face.public_bytes().len()))
}

/// A frame whose picture is known once the next unit is.
struct Waiting {
    index: u64,
    frame: SquareFrame,
    feature: Option<Feature>,
    track_ms: f64,
    keep_picture: bool,
}

/// What has been measured so far.
struct Measured {
    meter: RateMeter,
    rate: Rate,
    sides: Vec<u32>,
    scorers: Vec<Scorer>,
    unquantized: Scorer,
    features: Vec<Feature>,
    waiting: Vec<Waiting>,
    /// Decoded features of the last units.
    decoded: FeatureTimeline,
    /// What the peer shows, and what it would show without a quantizer.
    shown: Option<(Feature, Feature)>,
    rows: Vec<FrameRow>,
    pictures: Vec<Pictures>,
    n_frames: usize,
    n_untracked: usize,
}

impl Measured {
    fn new(sides: &[u32], profile: &Profile, rate: Rate) -> Self {
        Self {
            meter: RateMeter::new(profile, rate),
            rate,
            sides: sides.to_vec(),
            scorers: vec![Scorer::default(); sides.len()],
            unquantized: Scorer::default(),
            features: Vec::new(),
            waiting: Vec::new(),
            decoded: FeatureTimeline::with_capacity(2 * MOST_WAITING),
            shown: None,
            rows: Vec::new(),
            pictures: Vec::new(),
            n_frames: 0,
            n_untracked: 0,
        }
    }

    fn push(&mut self, frame: Waiting, paint: Paint<'_>) -> anyhow::Result<()> {
        self.n_frames += 1;
        let told = if let Some(feature) = &frame.feature {
            self.meter.push(feature)?
        } else {
            self.n_untracked += 1;
            Vec::new()
        };
        self.waiting.push(frame);
        if !told.is_empty() || self.waiting.len() > MOST_WAITING {
            self.show(told, paint)?;
        }
        if self.decoded.is_empty() {
            self.waiting.clear();
        }
        Ok(())
    }

    fn finish(&mut self, paint: Paint<'_>) -> anyhow::Result<()> {
        let told = self.meter.finish()?;
        self.show(told, paint)?;
        self.show(Vec::new(), paint)
    }

    /// Scores the frames that wait, given what a unit told of them, but for its own, of which the next
    /// one will tell more; the last picture stays where it told nothing.
    fn show(&mut self, told: Vec<Feature>, paint: Paint<'_>) -> anyhow::Result<()> {
        let newer = told.last().map(|newest| newest.time);
        self.decoded.extend(told);
        let is_ready = |waiting: &Waiting| newer.is_none_or(|newer| waiting.frame.time() < newer);
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

    fn score(&mut self, waiting: Waiting, paint: Paint<'_>) -> anyhow::Result<()> {
        let Waiting { index, frame, feature, track_ms, keep_picture } = waiting;
        let Some((decoded, original)) = self.shown else { return Ok(()) };
        let mut scores = Vec::with_capacity(self.sides.len());
        for (i, &side) in self.sides.iter().enumerate() {
            let reference = frame.resized_smooth(side);
            let rendered = paint(&decoded, side)?;
            scores.push(self.scorers[i].push(&reference, &rendered));
            if i == 0 {
                self.unquantized.push(&reference, &paint(&original, side)?);
                if keep_picture {
                    self.pictures.push(Pictures { index, reference, rendered });
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

    fn psnr_db(&self) -> Option<f64> {
        let scores = self.scorers.first()?.scores();
        (!scores.is_empty()).then(|| Summary::of(scores).psnr_db)
    }

    fn rate_units(&self) -> usize {
        self.features.len()
    }

    fn report(self, clip: &Path, start: u64, fps: u32, face_bytes: usize) -> Report {
        let resolutions = self
            .sides
            .iter()
            .zip(&self.scorers)
            .map(|(&side, scorer)| ResolutionReport { side, quality: Summary::of(scorer.scores()) })
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
            unquantized: Summary::of(self.unquantized.scores()),
            motion: Motion::of(&self.features),
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
        let mut measured = Measured::new(&[16], &Profile::default(), Rate::Normal);
        // The painter shows the yaw as a gray; the clip is what it ought to show.
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
            let found = found.map(|yaw| feature(index, yaw));
            let frame = gray(index, 50);
            let waiting =
                Waiting { index, frame, feature: found, track_ms: 1.0, keep_picture: false };
            measured.push(waiting, &mut paint).unwrap();
        }
        measured.finish(&mut paint).unwrap();
        let report = measured.report(Path::new("a/clip.mp4"), 7, 25, 1000);
        assert_eq!((report.n_frames, report.n_untracked, report.n_scored), (4, 2, 3));
        assert_eq!((report.frames, report.clip.as_str()), ([7, 11], "clip.mp4"));
        assert_eq!(report.payload.units, 2);
        let psnr: Vec<f64> = report.rows.iter().map(|row| row.scores[0].psnr_db).collect();
        assert!(psnr[1] == psnr[0] && psnr[2] < psnr[1], "{psnr:?}");
    }

    /// Each frame is scored once, with what the unit after it says of it.
    #[test]
    fn a_unit_s_own_frame_waits_for_the_next_unit() {
        for (rate, fps) in [(Rate::High, 25), (Rate::Normal, 30), (Rate::Low, 60)] {
            let mut measured = Measured::new(&[16], &Profile::default(), rate);
            let mut paint = |_: &Feature, _: u32| Ok(gray(0, 50));
            let time = |index| MediaTime::of_frame(index, fps);
            let feature = |index: u64| Feature {
                time: time(index),
                pose: HeadPose::from_array([0.0, 0.01 * index as f32, 0.0, 0.0, 0.0, 1.1]).unwrap(),
                code: Code::NEUTRAL,
            };
            // The same units, decoded beside it.
            let mut meter = RateMeter::new(&Profile::default(), rate);
            let mut told: Vec<Feature> = Vec::new();
            for index in 0..60 {
                let frame = SquareFrame::new(16, time(index), vec![50; 16 * 16 * 3]).unwrap();
                let found = Some(feature(index));
                let waiting =
                    Waiting { index, frame, feature: found, track_ms: 1.0, keep_picture: false };
                measured.push(waiting, &mut paint).unwrap();
                for better in meter.push(&feature(index)).unwrap() {
                    told.retain(|known| known.time != better.time);
                    told.push(better);
                }
            }
            measured.finish(&mut paint).unwrap();
            let rows: Vec<u64> = measured.rows.iter().map(|row| row.index).collect();
            assert_eq!(rows, (0..60).collect::<Vec<_>>(), "{rate:?}");
            told.pop();
            let mut n_told = 0;
            for (index, shown) in (0..).zip(&measured.features) {
                if let Some(want) = told.iter().find(|told| told.time == time(index)) {
                    let off = shown.pose.rotation().y - want.pose.rotation().y;
                    assert!(off.abs() < 1e-6, "{rate:?} {index}: {off}");
                    n_told += 1;
                }
            }
            assert!(n_told >= 6, "{rate:?}: {n_told}");
        }
    }
}
