use types::{Landmarks, SquareFrame};

use crate::{Fitter, Identity, Observation, PoseFilter, Smoothing, TorsoTracker, Tracker};
use face_shape::FaceShape;

/// Everything that is measured in a frame of one person: landmarks, pose, expression, torso.
///
/// Calls and enrollment measure with the same one, so a model is driven by what it was trained on.
pub struct Observer {
    tracker: Tracker,
    fitter: Fitter,
    filter: PoseFilter,
    torso: TorsoTracker,
}

impl Observer {
    /// An observer of one person, who looked like `torso`'s reference at enrollment.
    pub fn new(
        tracker: Tracker,
        shape: &FaceShape,
        identity: &Identity,
        torso: TorsoTracker,
        smoothing: Smoothing,
    ) -> Self {
        let fitter = Fitter::new(shape, identity);
        Self { tracker, fitter, filter: PoseFilter::new(smoothing), torso }
    }

    /// Measures a frame; `None`, and a fresh start with the next frame, if it
    /// shows no face.
    pub fn observe(&mut self, frame: &SquareFrame) -> Option<Observation> {
        let Some(landmarks) = self.tracker.track(frame) else {
            self.reset();
            return None;
        };
        self.observe_landmarks(frame, landmarks)
    }

    /// As [`Observer::observe`], with landmarks found before, in pixels of the frame.
    pub fn observe_landmarks(
        &mut self,
        frame: &SquareFrame,
        landmarks: Landmarks,
    ) -> Option<Observation> {
        let Some(fit) = self.fitter.fit(&landmarks, frame.side()) else {
            self.reset();
            return None;
        };
        let (torso, torso_correlation) = self.torso.track_around(frame, Some(&landmarks));
        Some(Observation {
            time: frame.time(),
            pose: self.filter.filter(frame.time(), &fit.pose),
            expression: fit.expression,
            torso,
            torso_correlation,
            landmarks,
        })
    }

    /// Forgets the last frame; the torso is found again from where it rested.
    pub fn reset(&mut self) {
        self.tracker.reset();
        self.fitter.reset();
        self.filter.reset();
        self.torso.reset();
    }
}
