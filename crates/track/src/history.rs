use std::collections::VecDeque;
use std::time::Duration;

use types::{
    Code, EXPRESSION_DIMS, Expression, FOCAL, Feature, FeatureError, HeadPose, LEARNED_DIMS,
    Landmarks, MediaTime, TORSO_DIMS,
};

/// Frames in a window of the embedder.
pub(crate) const WINDOW: usize = 8;
/// Input numbers per frame: 79 expression coefficients and 6 of the head pose.
pub(crate) const INPUT_DIMS: usize = EXPRESSION_DIMS + 6;
/// Longest gap within a window.
const LONGEST_GAP: Duration = Duration::from_millis(500);

/// Measurements of one frame, the input of the embedder.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Media time of the frame.
    pub time: MediaTime,
    /// Head pose, filtered by the observer's [`crate::Smoothing`].
    pub pose: HeadPose,
    /// Expression.
    pub expression: Expression,
    /// Torso track: the last six numbers of a [`types::Code`].
    pub torso: [f32; TORSO_DIMS],
    /// Correlation of the frame with the torso's reference, -1..=1. Below 0.8 the torso is lost,
    /// and its track decays to rest by a tenth per frame.
    pub torso_correlation: f32,
    /// Landmarks in pixels of the frame's centered square.
    pub landmarks: Landmarks,
}

impl Observation {
    /// Makes the feature of the frame from this observation and the learned numbers of its code.
    ///
    /// # Errors
    /// If a learned number is out of range or not finite.
    pub fn feature(&self, learned: &[f32; LEARNED_DIMS]) -> Result<Feature, FeatureError> {
        let code = Code::from_parts(learned, &self.torso)?;
        Ok(Feature { time: self.time, pose: self.pose, code })
    }
}

/// Sliding window over the last [`Embedder::WINDOW`](crate::Embedder::WINDOW) frames, the input of
/// the embedder in training and in calls.
#[derive(Clone, Debug, Default)]
pub struct History {
    inputs: VecDeque<[f32; INPUT_DIMS]>,
    last: Option<MediaTime>,
}

impl History {
    /// Creates an empty history.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all frames.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Adds a frame and returns its window, `[WINDOW, INPUT_DIMS]` of
    /// [`Embedder`](crate::Embedder), newest frame last.
    ///
    /// If there are too few frames, the window starts with copies of the oldest one. A gap of more
    /// than half a second, or a time that does not increase, starts a new history.
    pub fn push(&mut self, observation: &Observation) -> Vec<f32> {
        let continues = self.last.is_some_and(|last| {
            last < observation.time && observation.time.saturating_since(last) <= LONGEST_GAP
        });
        if !continues {
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

    /// Returns the window of each of the consecutive observations.
    pub fn windows(observations: &[Observation]) -> Vec<Vec<f32>> {
        let mut history = Self::new();
        observations.iter().map(|o| history.push(o)).collect()
    }
}

/// Returns the input numbers of a frame: expression, rotation vector, position in the image, log
/// distance.
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
    fn a_window_ends_with_the_newest_frame_and_starts_with_copies_of_the_first() {
        let frames: Vec<Observation> = (0..10).map(|i| at(40 * i, i as f32)).collect();
        let windows = History::windows(&frames);
        assert_eq!(firsts(&windows[2]), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0]);
        assert_eq!(firsts(&windows[9]), [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    }

    #[test]
    fn a_long_gap_or_a_step_back_starts_a_new_history() {
        let frames = [at(0, 1.0), at(40, 2.0), at(700, 3.0), at(100, 4.0)];
        let windows = History::windows(&frames);
        assert_eq!(firsts(&windows[2]), [3.0; WINDOW]);
        assert_eq!(firsts(&windows[3]), [4.0; WINDOW]);
    }
}
