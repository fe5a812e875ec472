use glam::{Quat, Vec3};

use crate::{CANONICAL_M, FOCAL, MediaTime};

/// Numbers of a head pose: a rotation vector and a translation.
pub const POSE_DIMS: usize = 6;
/// Numbers of a code: [`LEARNED_DIMS`] learned ones, then [`TORSO_DIMS`] of the torso track.
pub const CODE_DIMS: usize = 30;
/// Numbers of a code that the embedder learns.
pub const LEARNED_DIMS: usize = 24;
/// Numbers of a code that say where the torso is.
pub const TORSO_DIMS: usize = 6;
/// Numbers sent about one frame.
pub const FEATURE_DIMS: usize = POSE_DIMS + CODE_DIMS;
/// Expression coefficients of the linear face shape.
pub const EXPRESSION_DIMS: usize = 79;

/// Why numbers do not make a pose, a code or a feature.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FeatureError {
    /// A NaN, an infinity, or a number no face can have (over 1000). Drop the feature.
    #[error("value {index} of the feature is not a plausible number")]
    NotPlausible {
        /// Which number.
        index: usize,
    },
    /// The head would be at or behind the camera. Drop the feature.
    #[error("the head is not in front of the camera")]
    BehindCamera,
}

/// Where the head is: `camera_from_head`, in radians and meters.
///
/// Kept as a rotation vector (axis times angle) and a translation; see [`crate::FOCAL`] for the
/// camera. Always finite and in front of the camera.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadPose {
    rotation: Vec3,
    translation: Vec3,
}

impl HeadPose {
    /// A pose from a rotation vector in radians and a translation in meters.
    ///
    /// # Errors
    /// If a number is not finite and plausible, or the head is less than a centimeter in front of
    /// the camera.
    pub fn new(rotation: Vec3, translation: Vec3) -> Result<Self, FeatureError> {
        check(&[rotation.to_array(), translation.to_array()].concat())?;
        if translation.z < 0.01 {
            return Err(FeatureError::BehindCamera);
        }
        Ok(Self { rotation, translation })
    }

    /// Axis times angle, radians.
    pub fn rotation(&self) -> Vec3 {
        self.rotation
    }

    /// Head origin in camera space, meters.
    pub fn translation(&self) -> Vec3 {
        self.translation
    }

    /// The rotation as a unit quaternion.
    pub fn quat(&self) -> Quat {
        Quat::from_scaled_axis(self.rotation)
    }

    /// `point_in_camera = camera_from_head * point_in_head`, meters.
    pub fn camera_from_head(&self, point_in_head: Vec3) -> Vec3 {
        self.quat() * point_in_head + self.translation
    }

    /// A point in camera space from one in canonical space.
    pub fn camera_from_canonical(&self, point_in_canonical: Vec3) -> Vec3 {
        self.camera_from_head(point_in_canonical * CANONICAL_M)
    }

    /// Where a point of head space is seen: image space, `x` and `y` in 0..=1 inside the picture.
    pub fn image_from_head(&self, point_in_head: Vec3) -> [f32; 2] {
        let p = self.camera_from_head(point_in_head);
        let z = p.z.max(1e-3);
        [0.5 + FOCAL * p.x / z, 0.5 + FOCAL * p.y / z]
    }

    /// The pose between two, `t` in 0..=1: slerp of the rotation, a line for the translation.
    #[must_use]
    pub fn lerp(&self, other: &Self, t: f32) -> Self {
        Self {
            rotation: self.quat().slerp(other.quat(), t).to_scaled_axis(),
            translation: self.translation.lerp(other.translation, t),
        }
    }

    /// Rotation vector, then translation.
    pub fn to_array(&self) -> [f32; POSE_DIMS] {
        let (r, t) = (self.rotation, self.translation);
        [r.x, r.y, r.z, t.x, t.y, t.z]
    }

    /// The inverse of [`HeadPose::to_array`].
    ///
    /// # Errors
    /// As [`HeadPose::new`].
    pub fn from_array(v: [f32; POSE_DIMS]) -> Result<Self, FeatureError> {
        Self::new(Vec3::new(v[0], v[1], v[2]), Vec3::new(v[3], v[4], v[5]))
    }
}

/// Weights of the fixed expression basis of the linear face shape, unitless, in standard
/// deviations of the faces it was learned from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expression([f32; EXPRESSION_DIMS]);

impl Expression {
    /// The resting face.
    pub const NEUTRAL: Self = Self([0.0; EXPRESSION_DIMS]);

    /// From coefficients.
    ///
    /// # Errors
    /// If one is not finite and plausible.
    pub fn new(coefficients: [f32; EXPRESSION_DIMS]) -> Result<Self, FeatureError> {
        check(&coefficients)?;
        Ok(Self(coefficients))
    }

    /// The coefficients.
    pub fn as_array(&self) -> &[f32; EXPRESSION_DIMS] {
        &self.0
    }
}

/// What the embedder makes of a frame: [`LEARNED_DIMS`] numbers in about -3..=3 that drive the
/// field, then [`TORSO_DIMS`] numbers `[a, b, tx, c, d, ty]` that say where the torso is:
/// `reference = (I + [[a, b], [c, d]]) * (image - 0.5) + 0.5 + [tx, ty]`, in image space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Code([f32; CODE_DIMS]);

impl Code {
    /// The resting face over a torso that has not moved.
    pub const NEUTRAL: Self = Self([0.0; CODE_DIMS]);

    /// From its numbers.
    ///
    /// # Errors
    /// If one is not finite and plausible.
    pub fn new(values: [f32; CODE_DIMS]) -> Result<Self, FeatureError> {
        check(&values)?;
        Ok(Self(values))
    }

    /// From its two parts.
    ///
    /// # Errors
    /// If a number is not finite and plausible.
    pub fn from_parts(
        learned: &[f32; LEARNED_DIMS],
        torso: &[f32; TORSO_DIMS],
    ) -> Result<Self, FeatureError> {
        let mut values = [0.0; CODE_DIMS];
        values[..LEARNED_DIMS].copy_from_slice(learned);
        values[LEARNED_DIMS..].copy_from_slice(torso);
        Self::new(values)
    }

    /// All numbers.
    pub fn as_array(&self) -> &[f32; CODE_DIMS] {
        &self.0
    }

    /// The learned part.
    pub fn learned(&self) -> [f32; LEARNED_DIMS] {
        std::array::from_fn(|i| self.0[i])
    }

    /// The torso track.
    pub fn torso(&self) -> [f32; TORSO_DIMS] {
        std::array::from_fn(|i| self.0[LEARNED_DIMS + i])
    }
}

/// All we send about one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Feature {
    /// When the frame was captured.
    pub time: MediaTime,
    /// Where the head is.
    pub pose: HeadPose,
    /// What the face and the torso do.
    pub code: Code,
}

impl Feature {
    /// Pose, then code.
    pub fn to_array(&self) -> [f32; FEATURE_DIMS] {
        let mut all = [0.0; FEATURE_DIMS];
        all[..POSE_DIMS].copy_from_slice(&self.pose.to_array());
        all[POSE_DIMS..].copy_from_slice(self.code.as_array());
        all
    }

    /// The inverse of [`Feature::to_array`].
    ///
    /// # Errors
    /// As [`HeadPose::new`] and [`Code::new`].
    pub fn from_array(time: MediaTime, v: &[f32; FEATURE_DIMS]) -> Result<Self, FeatureError> {
        let mut code = [0.0; CODE_DIMS];
        code.copy_from_slice(&v[POSE_DIMS..]);
        Ok(Self {
            time,
            pose: HeadPose::from_array([v[0], v[1], v[2], v[3], v[4], v[5]])?,
            code: Code::new(code)?,
        })
    }

    /// The feature at `time` between two, a straight line in time; held outside their span.
    #[must_use]
    pub fn between(before: &Self, after: &Self, time: MediaTime) -> Self {
        let span = after.time.saturating_since(before.time).as_secs_f32();
        let t = if span > 0.0 {
            (time.saturating_since(before.time).as_secs_f32() / span).min(1.0)
        } else {
            1.0
        };
        let mut code = *before.code.as_array();
        for (value, to) in code.iter_mut().zip(after.code.as_array()) {
            *value += (to - *value) * t;
        }
        Self { time, pose: before.pose.lerp(&after.pose, t), code: Code(code) }
    }
}

fn check(values: &[f32]) -> Result<(), FeatureError> {
    match values.iter().position(|v| !v.is_finite() || v.abs() > 1000.0) {
        Some(index) => Err(FeatureError::NotPlausible { index }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pose(angle: f32, x: f32) -> HeadPose {
        HeadPose::new(Vec3::new(0.0, angle, 0.0), Vec3::new(x, 0.0, 0.6)).unwrap()
    }

    #[test]
    fn no_pose_holds_a_nan_or_sits_behind_the_camera() {
        let front = Vec3::new(0.0, 0.0, 0.5);
        for (rotation, translation, want) in [
            (Vec3::new(f32::NAN, 0.0, 0.0), front, FeatureError::NotPlausible { index: 0 }),
            (
                Vec3::ZERO,
                Vec3::new(0.0, f32::INFINITY, 1.0),
                FeatureError::NotPlausible { index: 4 },
            ),
            (Vec3::ZERO, -front, FeatureError::BehindCamera),
        ] {
            assert_eq!(HeadPose::new(rotation, translation), Err(want));
        }
    }

    #[test]
    fn the_head_origin_is_seen_in_the_middle_of_the_picture() {
        assert_eq!(pose(0.3, 0.0).image_from_head(Vec3::ZERO), [0.5, 0.5]);
    }

    #[test]
    fn half_way_in_time_is_half_way_in_angle_and_place() {
        let at = |ms: u64, angle, x| Feature {
            time: MediaTime::from_micros(ms * 1000),
            pose: pose(angle, x),
            code: Code::NEUTRAL,
        };
        let middle =
            Feature::between(&at(0, 0.0, 0.0), &at(40, 0.2, 0.1), MediaTime::from_micros(20_000));
        assert!((middle.pose.rotation().y - 0.1).abs() < 1e-6);
        assert!((middle.pose.translation().x - 0.05).abs() < 1e-6);
    }

    #[test]
    fn a_feature_survives_its_array() {
        let feature = Feature { time: MediaTime::ZERO, pose: pose(0.2, 0.1), code: Code::NEUTRAL };
        assert_eq!(Feature::from_array(MediaTime::ZERO, &feature.to_array()), Ok(feature));
    }
}
