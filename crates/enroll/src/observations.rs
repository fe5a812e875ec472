//! Measurement of recorded frames, causally as in a call: pose, expression and torso.

use std::time::Duration;

use anyhow::{Context, ensure};
use face_shape::FaceShape;
use track::{
    History, Identity, Observation, Observer, Smoothing, TorsoReference, TorsoTracker, Tracker,
};
use types::{Landmarks, MediaTime, POSE_DIMS, SquareFrame};

use crate::background::background;
use crate::clock::BudgetClock;
use crate::material::Material;
use crate::options::EnrollOptions;
use crate::pixels::Regions;
use crate::progress::Stage;
use crate::recording::{Recording, Run, record};

/// Least number of training frames.
const MIN_FRAMES: usize = 20;
/// Time between two frames above which the second is measured without the first, as after a pause.
const LONGEST_STEP: Duration = Duration::from_millis(500);

/// A recorded frame and the measurements taken from it.
#[derive(Clone, Debug)]
pub struct ObservedFrame {
    /// Square picture of [`Observations::side`] pixels a side.
    pub frame: SquareFrame,
    /// Pose, expression, torso track and landmarks.
    pub observation: Observation,
    /// Input window of the embedder, `[WINDOW][INPUT_DIMS]`.
    pub window: Vec<f32>,
}

/// A recording measured frame by frame as in a call, split into training and held-out frames.
pub struct Observations {
    /// Frames to train on, in order of time. Frames without a face are left out.
    pub train: Vec<ObservedFrame>,
    /// Frames for evaluation only, in order of time. Frames without a face are left out.
    pub held_out: Vec<ObservedFrame>,
    /// Side of every frame in pixels.
    pub side: u32,
    pub(crate) shape: FaceShape,
    pub(crate) identity: Identity,
    pub(crate) torso: TorsoReference,
    /// The parts of the source that were read.
    pub(crate) runs: Vec<Run>,
}

impl Observations {
    /// Returns the mean and the inverse standard deviation of each pose number over the training
    /// frames (rotation vector in radians, translation in meters).
    pub fn pose_spread(&self) -> ([f32; POSE_DIMS], [f32; POSE_DIMS]) {
        let n = self.train.len() as f32;
        let values = |k: usize| self.train.iter().map(move |s| s.observation.pose.to_array()[k]);
        let mean: [f32; POSE_DIMS] = std::array::from_fn(|k| values(k).sum::<f32>() / n);
        let scale = std::array::from_fn(|k| {
            let variance = values(k).map(|v| (v - mean[k]).powi(2)).sum::<f32>() / n;
            1.0 / variance.sqrt().max(1e-3)
        });
        (mean, scale)
    }

    /// Estimates the static background, `[side][side][3]` sRGB in 0..=1; see `background`.
    pub fn background(&self, side: usize) -> Vec<f32> {
        let frames: Vec<_> =
            self.train.iter().map(|s| (s.frame.rgb(), &s.observation.landmarks)).collect();
        background(&frames, self.side, side)
    }

    /// Returns the face regions of each training frame, from which training pixels are drawn.
    pub fn regions(&self) -> Vec<Regions> {
        self.train.iter().map(|s| Regions::new(&s.observation.landmarks, self.side)).collect()
    }
}

/// Reads the source of an enrollment, judges it and measures its frames as a call would.
///
/// Of a recording that would exceed 1 GiB of pictures or, with a time limit, take more than a quarter of
/// it to read, only parts are read, which cover it evenly. What is wrong with the material is reported as
/// [`EnrollmentProgress::warnings`](crate::EnrollmentProgress::warnings).
///
/// Solves the person's neutral face from the training frames, then tracks pose, expression and
/// torso through all frames in order.
///
/// # Errors
/// If the source cannot be opened or read, shows a face for less than two seconds or in fewer than 20
/// training frames, or if the progress callback stops the enrollment.
pub fn observe(
    options: &EnrollOptions,
    clock: &mut BudgetClock<'_>,
) -> anyhow::Result<Observations> {
    observe_runs(options, None, clock)
}

/// As [`observe`], but reads the `runs` that an interrupted enrollment has read, if given.
pub(crate) fn observe_runs(
    options: &EnrollOptions,
    runs: Option<&[Run]>,
    clock: &mut BudgetClock<'_>,
) -> anyhow::Result<Observations> {
    let recording = record(options, runs, clock)?;
    clock.warn(Material::measure(&recording)?.warnings());
    let Recording { shots, runs, side, .. } = recording;
    let shape = FaceShape::builtin()?;
    let held_out_mask = options.holdout.mask(shots.len());
    let training_shots =
        || shots.iter().zip(&held_out_mask).filter(|(_, held)| !**held).map(|(s, _)| s);
    let faces: Vec<Landmarks> = training_shots().filter_map(|s| s.landmarks.clone()).collect();
    let identity = Identity::solve(&shape, side, &faces)?;
    // The torso reference is the frame whose face lies closest to the mean position.
    let centroids: Vec<[f32; 2]> = faces.iter().map(centroid).collect();
    let n = centroids.len().max(1) as f32;
    let mean = [0, 1].map(|i| centroids.iter().map(|p| p[i]).sum::<f32>() / n);
    let distance = |face: &Landmarks| {
        let at = centroid(face);
        (at[0] - mean[0]).hypot(at[1] - mean[1])
    };
    let torso = training_shots()
        .filter_map(|s| s.landmarks.as_ref().map(|l| (&s.frame, l)))
        .min_by(|a, b| distance(a.1).total_cmp(&distance(b.1)))
        .map(|(frame, face)| TorsoReference::from_frame(frame, Some(face)))
        .context("no face was found in the training frames")?;

    // The observer does not run its tracker, because the recording already has landmarks.
    let tracker = Tracker::builtin()?;
    let torso_tracker = TorsoTracker::new(torso.clone());
    let mut observer = Observer::new(tracker, &shape, &identity, torso_tracker, Smoothing::CALL);
    let mut history = History::new();
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    let n = shots.len();
    let mut last: Option<MediaTime> = None;
    for (index, (shot, held)) in shots.into_iter().zip(held_out_mask).enumerate() {
        clock.report(Stage::Fitting, index as f32 / n as f32, index as u64, None)?;
        let time = shot.frame.time();
        if last.is_some_and(|last| time.saturating_since(last) > LONGEST_STEP) {
            observer.reset();
            history.reset();
        }
        last = Some(time);
        let observed = if let Some(landmarks) = shot.landmarks {
            observer.observe_landmarks(&shot.frame, landmarks)
        } else {
            observer.reset();
            None
        };
        let Some(observation) = observed else {
            history.reset();
            continue;
        };
        let window = history.push(&observation);
        let observed = ObservedFrame { frame: shot.frame, observation, window };
        if held { held_out.push(observed) } else { train.push(observed) }
    }
    ensure!(
        train.len() >= MIN_FRAMES,
        "a face is clearly visible in only {} training frames; record longer, in better light",
        train.len()
    );
    Ok(Observations { train, held_out, side, shape, identity, torso, runs })
}

/// Returns the mean of a face's landmarks.
fn centroid(face: &Landmarks) -> [f32; 2] {
    let n = face.points.len().max(1) as f32;
    [0, 1].map(|i| face.points.iter().map(|p| p[i]).sum::<f32>() / n)
}
