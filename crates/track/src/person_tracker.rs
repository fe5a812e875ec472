use types::{CODE_DIMS, Code, Feature, Frame, LEARNED_DIMS};

use crate::{
    Embedder, FaceShape, FaceShapeError, History, Observation, Observer, SenderPart,
    SenderPartError, TorsoTracker, Tracker, WeightsError,
};

/// Frames of one enrolled person in, features out: the sender's whole measuring chain.
pub struct PersonTracker {
    observer: Observer,
    history: History,
    embedder: Embedder,
}

/// Why a person cannot be tracked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PersonError {
    /// The private part of the face file is damaged. Enroll again.
    #[error(transparent)]
    SenderPart(#[from] SenderPartError),
    /// Its embedder is damaged. Enroll again.
    #[error("the embedder of the face file cannot be read: {0}")]
    Embedder(#[source] candle_core::Error),
    /// The product's own face shape is damaged. Reinstall.
    #[error(transparent)]
    FaceShape(#[from] FaceShapeError),
    /// The product's own tracker is damaged. Reinstall.
    #[error(transparent)]
    Tracker(#[from] WeightsError),
}

impl PersonTracker {
    /// A tracker from the private part of a face file (see [`SenderPart`]).
    ///
    /// # Errors
    /// If the bytes, or a weight that ships with the product, are damaged.
    pub fn from_bytes(sender_part: &[u8]) -> Result<Self, PersonError> {
        let part = SenderPart::parse(sender_part)?;
        let embedder = Embedder::parse(&part.embedder).map_err(PersonError::Embedder)?;
        let shape = FaceShape::builtin()?;
        let torso = TorsoTracker::against(part.torso);
        let tracker = Tracker::builtin()?;
        let observer = Observer::new(tracker, &shape, &part.identity, torso, part.smoothing);
        Ok(Self { observer, history: History::new(), embedder })
    }

    /// The feature of a frame (of its centred square); `None`, and a fresh start with the next
    /// frame, if it shows no face.
    pub fn track(&mut self, frame: &Frame) -> Option<Feature> {
        let observation = self.observer.observe(frame);
        self.feature(observation.as_ref())
    }

    /// What was measured in a frame, for those who want landmarks as well as the feature.
    pub fn observe(&mut self, frame: &Frame) -> Option<Observation> {
        self.observer.observe(frame)
    }

    /// The feature of the next observation; `None` stands for a frame without a face.
    pub fn feature(&mut self, observation: Option<&Observation>) -> Option<Feature> {
        let Some(observation) = observation else {
            self.history.reset();
            return None;
        };
        let learned = self.embedder.embed(&self.history.push(observation)).ok()?;
        let mut code = [0.0; CODE_DIMS];
        code[..LEARNED_DIMS].copy_from_slice(&learned);
        code[LEARNED_DIMS..].copy_from_slice(&observation.torso);
        let code = Code::new(code).ok()?;
        Some(Feature { time: observation.time, pose: observation.pose, code })
    }

    /// Starts afresh with the next frame.
    pub fn reset(&mut self) {
        self.observer.reset();
        self.history.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Identity, Smoothing, TorsoReference};
    use candle_core::{DType, Device};
    use candle_nn::{VarBuilder, VarMap};
    use types::{Expression, HeadPose, Landmarks, MediaTime};

    fn part() -> SenderPart {
        let vars = VarMap::new();
        Embedder::new(&VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu)).unwrap();
        let shape = FaceShape::builtin().unwrap();
        let gray = Frame::new(64, 64, MediaTime::ZERO, vec![128; 64 * 64 * 3]).unwrap();
        SenderPart {
            identity: Identity::of_mesh(shape.mean().to_vec()).unwrap(),
            smoothing: Smoothing::OFF,
            torso: TorsoReference::of_frame(&gray, None),
            embedder: Embedder::to_bytes(&vars).unwrap(),
        }
    }

    #[test]
    fn a_frame_without_a_face_has_no_feature() {
        let mut tracker = PersonTracker::from_bytes(&part().to_bytes()).unwrap();
        let gray = Frame::new(96, 64, MediaTime::ZERO, vec![128; 96 * 64 * 3]).unwrap();
        assert_eq!(tracker.track(&gray), None);
    }

    #[test]
    fn an_observation_becomes_its_feature() {
        let mut tracker = PersonTracker::from_bytes(&part().to_bytes()).unwrap();
        let observation = Observation {
            time: MediaTime::from_micros(40_000),
            pose: HeadPose::new(glam::Vec3::ZERO, glam::Vec3::Z).unwrap(),
            expression: Expression::NEUTRAL,
            torso: [0.01, 0.0, 0.02, 0.0, 0.0, 0.03],
            torso_correlation: 0.9,
            landmarks: Landmarks { points: vec![], confidence: 1.0 },
        };
        let feature = tracker.feature(Some(&observation)).unwrap();
        assert_eq!((feature.time, feature.pose), (observation.time, observation.pose));
        assert_eq!(feature.code.torso(), observation.torso);
        assert_eq!(tracker.feature(None), None);
    }

    #[test]
    fn damaged_bytes_make_no_tracker() {
        let mut part = part();
        part.embedder.truncate(1000);
        assert!(PersonTracker::from_bytes(&part.to_bytes()).is_err());
        assert!(PersonTracker::from_bytes(&[]).is_err());
    }
}
