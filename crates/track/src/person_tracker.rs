use face::FaceModel;
use types::{Feature, SquareFrame};

use crate::{
    Embedder, History, Observation, Observer, PhotometricRefiner, RefinementBudget, SenderPart,
    SenderPartError, TorsoTracker, Tracker, WeightsError,
};
use face_shape::{FaceShape, FaceShapeError};

/// Tracker of one enrolled person, from frame to feature: observer, embedder and refiner.
pub struct PersonTracker {
    observer: Observer,
    history: History,
    embedder: Embedder,
    refiner: PhotometricRefiner,
}

/// Result of tracking one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tracked {
    /// The frame shows no face.
    NoFace,
    /// The face was followed without making a feature ([`RefinementBudget::None`]).
    Followed,
    /// The feature of the frame.
    Feature(Feature),
}

impl Tracked {
    /// Returns the feature, if one was made.
    pub fn feature(self) -> Option<Feature> {
        match self {
            Self::Feature(feature) => Some(feature),
            Self::NoFace | Self::Followed => None,
        }
    }

    /// Returns whether the frame shows a face.
    pub fn has_face(self) -> bool {
        self != Self::NoFace
    }
}

/// Why a person cannot be tracked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PersonError {
    /// The sender part of the face file is damaged. Enroll again.
    #[error(transparent)]
    SenderPart(#[from] SenderPartError),
    /// Enrolled with another version of the tracker, whose measurements differ. Enroll again.
    #[error("this face was enrolled with another version of the tracker: enroll it again")]
    OtherTracker,
    /// The embedder in the face file is damaged. Enroll again.
    #[error("the embedder of the face file cannot be read: {0}")]
    Embedder(#[source] candle_core::Error),
    /// The face shape that ships with the product is damaged. Reinstall.
    #[error(transparent)]
    FaceShape(#[from] FaceShapeError),
    /// The tracker weights that ship with the product are damaged. Reinstall.
    #[error(transparent)]
    Tracker(#[from] WeightsError),
}

impl PersonTracker {
    /// Creates a tracker from the sender part of a face file (see [`SenderPart`]) and the model of
    /// the same file.
    ///
    /// # Errors
    /// If the bytes or an asset of the product are damaged, or belong to another version.
    pub fn new(sender_part: &[u8], model: &FaceModel) -> Result<Self, PersonError> {
        let part = SenderPart::parse(sender_part)?;
        if part.measured_with != SenderPart::fingerprint() {
            return Err(PersonError::OtherTracker);
        }
        let embedder = Embedder::parse(&part.embedder).map_err(PersonError::Embedder)?;
        let shape = FaceShape::builtin()?;
        let torso = TorsoTracker::new(part.torso);
        let tracker = Tracker::builtin()?;
        let observer = Observer::new(tracker, &shape, &part.identity, torso, part.smoothing);
        let refiner = PhotometricRefiner::new(model.clone());
        Ok(Self { observer, history: History::new(), embedder, refiner })
    }

    /// Tracks the face in the next frame.
    ///
    /// After a frame without a face, earlier frames are forgotten; the scan for a face goes on where
    /// it stopped. With [`RefinementBudget::None`] the face is
    /// followed but no feature is made, in a fraction of the time.
    pub fn track(&mut self, frame: &SquareFrame, budget: RefinementBudget) -> Tracked {
        let Some((observation, window)) = self.measure(frame) else {
            return Tracked::NoFace;
        };
        if budget == RefinementBudget::None {
            return Tracked::Followed;
        }
        match self.embed(&observation, &window) {
            Some(measured) => Tracked::Feature(self.refiner.refine(frame, &measured, budget)),
            None => Tracked::NoFace,
        }
    }

    /// Measures landmarks and torso; returns the observation and the embedder's window, which
    /// ends with it.
    fn measure(&mut self, frame: &SquareFrame) -> Option<(Observation, Vec<f32>)> {
        let Some(observation) = self.observer.observe(frame) else {
            self.history.reset();
            self.refiner.reset();
            return None;
        };
        let window = self.history.push(&observation);
        Some((observation, window))
    }

    /// Makes the unrefined feature of an observation.
    fn embed(&self, observation: &Observation, window: &[f32]) -> Option<Feature> {
        let learned = self.embedder.embed(window).ok()?;
        observation.feature(&learned).ok()
    }

    /// Forgets the previous frames.
    pub fn reset(&mut self) {
        self.observer.reset();
        self.history.reset();
        self.refiner.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Identity, Smoothing, TorsoReference};
    use candle_core::{DType, Device};
    use candle_nn::{VarBuilder, VarMap};
    use types::{Expression, HeadPose, Landmarks, MediaTime};

    fn model() -> FaceModel {
        FaceModel::untrained(face::Sizes::tiny(), 1)
    }

    fn part() -> SenderPart {
        let vars = VarMap::new();
        Embedder::new(&VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu)).unwrap();
        let shape = FaceShape::builtin().unwrap();
        let gray = SquareFrame::new(64, MediaTime::ZERO, vec![128; 64 * 64 * 3]).unwrap();
        SenderPart {
            measured_with: SenderPart::fingerprint(),
            identity: Identity::from_points(shape.mean().to_vec()).unwrap(),
            smoothing: Smoothing::OFF,
            torso: TorsoReference::from_frame(&gray, None),
            embedder: Embedder::to_bytes(&vars).unwrap(),
        }
    }

    #[test]
    fn a_frame_without_a_face_has_no_feature() {
        let mut tracker = PersonTracker::new(&part().to_bytes(), &model()).unwrap();
        let gray = SquareFrame::new(96, MediaTime::ZERO, vec![128; 96 * 96 * 3]).unwrap();
        assert_eq!(tracker.track(&gray, RefinementBudget::Full), Tracked::NoFace);
    }

    /// Places a picture in the lower right corner of a gray square of the given side.
    fn in_corner(picture: &SquareFrame, side: u32) -> SquareFrame {
        let first = side - picture.side();
        let pixel =
            |at: u32| match (at % side).checked_sub(first).zip((at / side).checked_sub(first)) {
                Some((x, y)) => picture.rgb_at(x, y),
                None => [110; 3],
            };
        let rgb: Vec<u8> = (0..side * side).flat_map(pixel).collect();
        SquareFrame::new(side, picture.time(), rgb).unwrap()
    }

    /// A scan of several frames must not start over with each of them.
    #[test]
    fn a_small_face_in_the_corner_is_found_after_some_frames() {
        let demo = face::FaceFile::parse(include_bytes!("../../../assets/demo.face")).unwrap();
        let actor = actor::Actor::new(7);
        let shown = actor.render(&actor.script(MediaTime::ZERO), 96).frame.center_square();
        let frame = in_corner(&shown, 320);
        let mut tracker = PersonTracker::new(&demo.sender.unwrap(), &demo.model).unwrap();
        let found: Vec<bool> = (0..8)
            .map(|_| tracker.track(&frame, RefinementBudget::None) != Tracked::NoFace)
            .collect();
        assert!(!found[0], "the first frame is to be too short for the scan");
        assert!(found.contains(&true), "{found:?}");
    }

    #[test]
    fn a_feature_takes_pose_and_torso_from_the_observation() {
        let mut tracker = PersonTracker::new(&part().to_bytes(), &model()).unwrap();
        let observation = Observation {
            time: MediaTime::from_micros(40_000),
            pose: HeadPose::new(glam::Vec3::ZERO, glam::Vec3::Z).unwrap(),
            expression: Expression::NEUTRAL,
            torso: [0.01, 0.0, 0.02, 0.0, 0.0, 0.03],
            torso_correlation: 0.9,
            landmarks: Landmarks::exact(vec![]),
        };
        let window = tracker.history.push(&observation);
        let feature = tracker.embed(&observation, &window).unwrap();
        assert_eq!((feature.time, feature.pose), (observation.time, observation.pose));
        assert_eq!(feature.code.torso(), observation.torso);
    }

    #[test]
    fn a_face_file_of_another_tracker_version_is_refused() {
        let demo = include_bytes!("../../../assets/demo.face");
        let demo = face::FaceFile::parse(demo).unwrap();
        PersonTracker::new(demo.sender.as_deref().unwrap(), &demo.model).unwrap();
        let part = SenderPart { measured_with: 1, ..part() };
        let error = PersonTracker::new(&part.to_bytes(), &model()).err().unwrap();
        assert!(error.to_string().contains("enroll it again"), "{error}");
    }

    #[test]
    fn damaged_sender_parts_are_refused() {
        let mut part = part();
        part.embedder.truncate(1000);
        assert!(PersonTracker::new(&part.to_bytes(), &model()).is_err());
        assert!(PersonTracker::new(&[], &model()).is_err());
    }
}
