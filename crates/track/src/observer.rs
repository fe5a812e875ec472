use types::{Landmarks, SquareFrame};

use crate::smoothing::PoseFilter;
use crate::{Fitter, Identity, Observation, Smoothing, TorsoTracker, Tracker};
use face_shape::FaceShape;

/// Measuring chain of one person: landmarks, head pose, expression and torso track of each frame.
///
/// Calls and enrollment use the same chain, so that the embedder sees in a call what it was trained
/// on.
pub struct Observer {
    tracker: Tracker,
    fitter: Fitter,
    filter: PoseFilter,
    torso: TorsoTracker,
}

impl Observer {
    /// Creates an observer of one person.
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

    /// Measures the next frame. Returns `None` if no face is found in it, or if its landmarks fit no
    /// face shape; what was known of earlier frames is forgotten then, except where the tracker's
    /// scan for a face goes on.
    pub fn observe(&mut self, frame: &SquareFrame) -> Option<Observation> {
        let Some(landmarks) = self.tracker.track(frame) else {
            self.reset_fit();
            return None;
        };
        self.observe_landmarks(frame, landmarks)
    }

    /// As [`Observer::observe`], with known landmarks in pixels of the frame. If they fit no face
    /// shape, the tracker's scan starts over as well.
    pub fn observe_landmarks(
        &mut self,
        frame: &SquareFrame,
        landmarks: Landmarks,
    ) -> Option<Observation> {
        let Some(fit) = self.fitter.fit(&landmarks, frame.side()) else {
            self.reset();
            return None;
        };
        let (torso, torso_correlation) = self.torso.track(frame, Some(&landmarks));
        Some(Observation {
            time: frame.time(),
            pose: self.filter.filter(frame.time(), &fit.pose),
            expression: fit.expression,
            torso,
            torso_correlation,
            landmarks,
        })
    }

    /// Forgets the previous frames.
    pub fn reset(&mut self) {
        self.tracker.reset();
        self.reset_fit();
    }

    /// Forgets everything but the position of the tracker's scan.
    fn reset_fit(&mut self) {
        self.fitter.reset();
        self.filter.reset();
        self.torso.reset();
    }
}
