//! Recorded frames as a call would see them: pose, expression and torso, causally.

use anyhow::{Context, ensure};
use face_shape::FaceShape;
use track::{
    History, Identity, Observation, Observer, Smoothing, TorsoReference, TorsoTracker, Tracker,
    solve_identity,
};
use types::{Frame, Landmarks, POSE_DIMS};

use crate::background::background;
use crate::clock::Clock;
use crate::embedding::Embedding;
use crate::options::Holdout;
use crate::pixels::Regions;
use crate::recording::Recording;

/// Frames to learn from, at least.
const MIN_FRAMES: usize = 20;

/// A frame with what was measured in it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) frame: Frame,
    pub(crate) observation: Observation,
    /// What the embedder is given for this frame.
    pub(crate) window: Vec<f32>,
}

/// A recording as a call would have seen it.
pub(crate) struct Observations {
    pub(crate) train: Vec<Seen>,
    pub(crate) held_out: Vec<Seen>,
    pub(crate) side: u32,
    pub(crate) shape: FaceShape,
    pub(crate) identity: Identity,
    pub(crate) torso: TorsoReference,
}

/// What every field begins with, from the frames to learn from.
impl Observations {
    /// Mean of the poses, and one over their spread.
    pub(crate) fn pose_spread(&self) -> ([f32; POSE_DIMS], [f32; POSE_DIMS]) {
        let n = self.train.len() as f32;
        let values = |k: usize| self.train.iter().map(move |s| s.observation.pose.to_array()[k]);
        let mean: [f32; POSE_DIMS] = std::array::from_fn(|k| values(k).sum::<f32>() / n);
        let scale = std::array::from_fn(|k| {
            let variance = values(k).map(|v| (v - mean[k]).powi(2)).sum::<f32>() / n;
            1.0 / variance.sqrt().max(1e-3)
        });
        (mean, scale)
    }

    /// What does not move, `[side][side][3]`; see [`background`].
    pub(crate) fn background(&self, side: usize) -> Vec<f32> {
        let frames: Vec<_> =
            self.train.iter().map(|s| (s.frame.rgb(), &s.observation.landmarks)).collect();
        background(&frames, self.side, side)
    }

    /// Where the parts of the face are in each frame.
    pub(crate) fn regions(&self) -> Vec<Regions> {
        self.train.iter().map(|s| Regions::new(&s.observation.landmarks, self.side)).collect()
    }

    /// An embedder that knows how the face varies, and nothing else yet.
    pub(crate) fn embedding(&self, seed: u64) -> anyhow::Result<Embedding> {
        let observations: Vec<Observation> =
            self.train.iter().map(|s| s.observation.clone()).collect();
        Embedding::new(&self.shape, &observations, seed)
    }
}

/// Solves the person's resting face from the frames to learn from, then follows pose, expression
/// and torso through all frames, the way a call does.
pub(crate) fn observe(
    recording: Recording,
    holdout: Holdout,
    clock: &mut Clock<'_>,
) -> anyhow::Result<Observations> {
    let Recording { shots, side } = recording;
    let shape = FaceShape::builtin()?;
    let held_back = holdout.mask(shots.len());
    let learned = || shots.iter().zip(&held_back).filter(|(_, held)| !**held).map(|(s, _)| s);
    let faces: Vec<Landmarks> = learned().filter_map(|s| s.landmarks.clone()).collect();
    let identity = solve_identity(&shape, side, &faces)?;
    // The torso's reference is the frame in which the head is closest to where it mostly is.
    let places: Vec<[f32; 2]> = faces.iter().map(middle).collect();
    let n = places.len().max(1) as f32;
    let usual = [0, 1].map(|i| places.iter().map(|p| p[i]).sum::<f32>() / n);
    let away = |face: &Landmarks| {
        let at = middle(face);
        (at[0] - usual[0]).hypot(at[1] - usual[1])
    };
    let torso = learned()
        .filter_map(|s| s.landmarks.as_ref().map(|l| (&s.frame, l)))
        .min_by(|a, b| away(a.1).total_cmp(&away(b.1)))
        .map(|(frame, face)| TorsoReference::of_frame(frame, Some(face)))
        .context("no face was found in the frames to learn from")?;

    // The tracker inside is not asked: the recording has its landmarks already.
    let tracker = Tracker::builtin()?;
    let torso_tracker = TorsoTracker::against(torso.clone());
    let mut observer = Observer::new(tracker, &shape, &identity, torso_tracker, Smoothing::CALL);
    let mut history = History::new();
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    let n = shots.len();
    for (index, (shot, held)) in shots.into_iter().zip(held_back).enumerate() {
        clock.report("fitting", index as f32 / n as f32, index as u64, None)?;
        let found = if let Some(landmarks) = shot.landmarks {
            observer.observe_landmarks(&shot.frame, landmarks)
        } else {
            observer.reset();
            None
        };
        let Some(observation) = found else {
            history.reset();
            continue;
        };
        let window = history.push(&observation);
        let seen = Seen { frame: shot.frame, observation, window };
        if held { held_out.push(seen) } else { train.push(seen) }
    }
    ensure!(
        train.len() >= MIN_FRAMES,
        "only {} frames show a face clearly enough to learn from; record longer, in better light",
        train.len()
    );
    Ok(Observations { train, held_out, side, shape, identity, torso })
}

/// Where the face is: the mean of its landmarks.
fn middle(face: &Landmarks) -> [f32; 2] {
    let n = face.points.len().max(1) as f32;
    [0, 1].map(|i| face.points.iter().map(|p| p[i]).sum::<f32>() / n)
}
