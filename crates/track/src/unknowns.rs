//! Unknowns of the photometric refinement, and steps in them.

use glam::{Quat, Vec3};
use types::{Code, FEATURE_DIMS, Feature, FeatureError, HeadPose, POSE_DIMS, TORSO_DIMS};

/// Number of unknowns of the feature, in its order: rotation, translation, learned code, torso.
pub(crate) const FEATURE: usize = FEATURE_DIMS;
/// Index of the first torso number.
pub(crate) const TORSO: usize = FEATURE - TORSO_DIMS;
/// Number of all unknowns: the feature's, then gain and offset of each color channel.
pub(crate) const N: usize = FEATURE + 6;

/// Unknowns of an alignment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unknowns {
    /// Head pose, torso and exposure.
    PoseAndTorso,
    /// Also the learned code numbers.
    All,
}

/// Exposure of a frame relative to the enrollment: `frame = gain · field + offset` per channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exposure {
    /// Factor of red, green and blue.
    pub gain: [f32; 3],
    /// Offset of red, green and blue; colors span 0..=1.
    pub offset: [f32; 3],
}

impl Exposure {
    /// The exposure of the enrollment.
    pub const SAME: Self = Self { gain: [1.0; 3], offset: [0.0; 3] };
}

/// Adds a step to a feature: rotation vector (applied from the left), translation, learned code,
/// torso.
///
/// # Errors
/// If the result is no plausible feature.
pub(crate) fn stepped(feature: &Feature, step: &[f32; FEATURE]) -> Result<Feature, FeatureError> {
    let turn = Quat::from_scaled_axis(Vec3::new(step[0], step[1], step[2]));
    let shift = Vec3::new(step[3], step[4], step[5]);
    let pose = HeadPose::new(
        (turn * feature.pose.quat()).to_scaled_axis(),
        feature.pose.translation() + shift,
    )?;
    let code = feature.code.as_array();
    let code = Code::new(std::array::from_fn(|i| code[i] + step[POSE_DIMS + i]))?;
    Ok(Feature { time: feature.time, pose, code })
}

/// Returns the step that leads from one feature to another; see [`stepped`].
pub(crate) fn difference(from: &Feature, to: &Feature) -> [f32; FEATURE] {
    let turn = (to.pose.quat() * from.pose.quat().inverse()).to_scaled_axis().to_array();
    let shift = (to.pose.translation() - from.pose.translation()).to_array();
    let (a, b) = (from.code.as_array(), to.code.as_array());
    std::array::from_fn(|i| match i {
        0..3 => turn[i],
        3..POSE_DIMS => shift[i - 3],
        _ => b[i - POSE_DIMS] - a[i - POSE_DIMS],
    })
}
