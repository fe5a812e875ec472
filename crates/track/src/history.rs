use std::collections::VecDeque;
use std::time::Duration;

use types::{
    Code, EXPRESSION_DIMS, Expression, FOCAL, Feature, FeatureError, HeadPose, LEARNED_DIMS,
    Landmarks, MediaTime, TORSO_DIMS,
};

/// Frames the embedder looks at.
pub const WINDOW: usize = 8;
/// Numbers of a frame the embedder is given: 79 expression coefficients and 6 about the pose.
pub const INPUT_DIMS: usize = EXPRESSION_DIMS + 6;
/// Frames farther apart than this have nothing to do with each other.
const LONGEST_GAP: Duration = Duration::from_millis(500);

/// All that is measured in one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// When the frame was captured.
    pub time: MediaTime,
    /// Where the head is, steadied as the observer was told to.
    pub pose: HeadPose,
    /// What the face does.
    pub expression: Expression,
    /// Where the torso is: the last six numbers of a [`types::Code`].
    pub torso: [f32; TORSO_DIMS],
    /// How well that explains the picture; below 0.8 it was not believed.
    pub torso_correlation: f32,
    /// The face's points, in pixels of the frame's centred square.
    pub landmarks: Landmarks,
}

impl Observation {
    /// The feature a peer is sent for it, with the embedder's numbers.
    ///
    /// # Errors
    /// If one of those is not finite and plausible.
    pub fn feature(&self, learned: &[f32; LEARNED_DIMS]) -> Result<Feature, FeatureError> {
        let code = Code::from_parts(learned, &self.torso)?;
        Ok(Feature { time: self.time, pose: self.pose, code })
    }
}

/// The last [`WINDOW`] frames, as the embedder wants them: the one definition that training and
/// calls share.
#[derive(Clone, Debug, Default)]
pub struct History {
    inputs: VecDeque<[f32; INPUT_DIMS]>,
    last: Option<MediaTime>,
}

impl History {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what it saw.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Adds a frame and returns its window: `WINDOW * INPUT_DIMS` numbers, newest frame last, the
    /// first frame repeated where there are not enough. Half a second without a frame, or a step
    /// back in time, begins a new history.
    pub fn push(&mut self, observation: &Observation) -> Vec<f32> {
        let linked = self.last.is_some_and(|last| {
            last < observation.time && observation.time.saturating_since(last) <= LONGEST_GAP
        });
        if !linked {
            self.inputs.clear();
        }
        self.last = Some(observation.time);
        let input = input_of(observation);
        if self.inputs.len() == WINDOW {
            self.inputs.pop_front();
        }
        self.inputs.push_back(input);
        let missing = WINDOW - self.inputs.len();
        let padding = std::iter::repeat_n(&self.inputs[0], missing);
        padding.chain(&self.inputs).flatten().copied().collect()
    }

    /// The windows of consecutive observations, one each.
    pub fn windows(observations: &[Observation]) -> Vec<Vec<f32>> {
        let mut history = Self::new();
        observations.iter().map(|o| history.push(o)).collect()
    }
}

/// A frame's numbers: coefficients, rotation vector, place in the view, log distance.
pub(crate) fn input_of(observation: &Observation) -> [f32; INPUT_DIMS] {
    let mut input = [0.0; INPUT_DIMS];
    input[..EXPRESSION_DIMS].copy_from_slice(observation.expression.as_array());
    let (r, t) = (observation.pose.rotation(), observation.pose.translation());
    let pose = [r.x, r.y, r.z, FOCAL * t.x / t.z, FOCAL * t.y / t.z, t.z.ln()];
    input[EXPRESSION_DIMS..].copy_from_slice(&pose);
    input
}

#[cfg(test)]
mod tests {
    use super::*;
    use glam::Vec3;

    fn at(ms: u64, first: f32) -> Observation {
        let mut e = [0.0; EXPRESSION_DIMS];
        e[0] = first;
        Observation {
            time: MediaTime::from_micros(ms * 1000),
            pose: HeadPose::new(Vec3::ZERO, Vec3::Z).unwrap(),
            expression: Expression::new(e).unwrap(),
            torso: [0.0; TORSO_DIMS],
            torso_correlation: 1.0,
            landmarks: Landmarks::exact(vec![]),
        }
    }

    fn firsts(window: &[f32]) -> Vec<f32> {
        window.chunks_exact(INPUT_DIMS).map(|frame| frame[0]).collect()
    }

    #[test]
    fn a_window_ends_with_the_newest_frame_and_begins_with_copies_of_the_first() {
        let frames: Vec<Observation> = (0..10).map(|i| at(40 * i, i as f32)).collect();
        let windows = History::windows(&frames);
        assert_eq!(firsts(&windows[2]), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0]);
        assert_eq!(firsts(&windows[9]), [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    }

    #[test]
    fn a_long_gap_or_a_step_back_begins_anew() {
        let frames = [at(0, 1.0), at(40, 2.0), at(700, 3.0), at(100, 4.0)];
        let windows = History::windows(&frames);
        assert_eq!(firsts(&windows[2]), [3.0; WINDOW]);
        assert_eq!(firsts(&windows[3]), [4.0; WINDOW]);
    }
}
