use glam::{Quat, Vec3};

use crate::media_time::MediaTime;
use crate::spaces::{CANONICAL_M, FOCAL};

/// Number of values of a [`HeadPose`]: a rotation vector and a translation.
pub const POSE_DIMS: usize = 6;
/// Number of values of a [`Code`]: [`LEARNED_DIMS`] learned ones, then [`TORSO_DIMS`] of the torso.
pub const CODE_DIMS: usize = 30;
/// Number of learned values of a code, which drive the radiance field.
pub const LEARNED_DIMS: usize = 24;
/// Number of values of a code that describe the pose of the torso.
pub const TORSO_DIMS: usize = 6;
/// Number of values of a [`Feature`].
pub const FEATURE_DIMS: usize = POSE_DIMS + CODE_DIMS;
/// Number of expression coefficients of the 3D morphable model.
pub const EXPRESSION_DIMS: usize = 79;

/// Why values are not a pose, an expression, a code or a feature.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FeatureError {
    /// A value is not finite, or its magnitude is above 1000. Drop the feature.
    #[error("value {index} of the feature is not plausible")]
    NotPlausible {
        /// Index of the value.
        index: usize,
    },
    /// The head is behind the camera or less than a centimeter in front of it. Drop the feature.
    #[error("the head is not in front of the camera")]
    BehindCamera,
}

/// Head pose: the rigid transform `camera_from_head`, as a rotation vector (axis times angle, in
/// radians) and a translation in meters.
///
/// Always finite and in front of the camera.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadPose {
    rotation: Vec3,
    translation: Vec3,
}

impl HeadPose {
    /// Returns the pose with this rotation vector in radians and this translation in meters.
    ///
    /// # Errors
    /// If a value is not finite or above 1000 in magnitude, or the head is less than a centimeter
    /// in front of the camera.
    pub fn new(rotation: Vec3, translation: Vec3) -> Result<Self, FeatureError> {
        check(&[rotation.to_array(), translation.to_array()].concat())?;
        if translation.z < 0.01 {
            return Err(FeatureError::BehindCamera);
        }
        Ok(Self { rotation, translation })
    }

    /// Returns the rotation vector: axis times angle, in radians.
    pub fn rotation(&self) -> Vec3 {
        self.rotation
    }

    /// Returns the origin of head space in camera space, in meters.
    pub fn translation(&self) -> Vec3 {
        self.translation
    }

    /// Returns the rotation as a unit quaternion.
    pub fn quat(&self) -> Quat {
        Quat::from_scaled_axis(self.rotation)
    }

    /// Transforms a point from head space to camera space, in meters.
    pub fn camera_from_head(&self, point_in_head: Vec3) -> Vec3 {
        self.quat() * point_in_head + self.translation
    }

    /// Transforms a point from canonical space, in units of [`CANONICAL_M`], to camera space, in
    /// meters.
    pub fn camera_from_canonical(&self, point_in_canonical: Vec3) -> Vec3 {
        self.camera_from_head(point_in_canonical * CANONICAL_M)
    }

    /// Projects a point of head space, in meters, to image space: `[x, y]`, both in 0..=1 inside
    /// the picture.
    pub fn image_from_head(&self, point_in_head: Vec3) -> [f32; 2] {
        let p = self.camera_from_head(point_in_head);
        let z = p.z.max(1e-3);
        [0.5 + FOCAL * p.x / z, 0.5 + FOCAL * p.y / z]
    }

    /// Interpolates between this pose (`t` = 0) and another (`t` = 1): slerp of the rotation along
    /// the shorter arc, lerp of the translation. `t` must be in 0..=1 and is not checked.
    #[must_use]
    pub fn lerp(&self, other: &Self, t: f32) -> Self {
        Self {
            rotation: self.quat().slerp(other.quat(), t).to_scaled_axis(),
            translation: self.translation.lerp(other.translation, t),
        }
    }

    /// Returns the rotation vector, then the translation.
    pub fn to_array(&self) -> [f32; POSE_DIMS] {
        let (r, t) = (self.rotation, self.translation);
        [r.x, r.y, r.z, t.x, t.y, t.z]
    }

    /// Returns the pose with these values; the inverse of [`HeadPose::to_array`].
    ///
    /// # Errors
    /// As [`HeadPose::new`].
    pub fn from_array(v: [f32; POSE_DIMS]) -> Result<Self, FeatureError> {
        Self::new(Vec3::new(v[0], v[1], v[2]), Vec3::new(v[3], v[4], v[5]))
    }
}

/// Expression coefficients of the 3D morphable model, in standard deviations of its training data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expression([f32; EXPRESSION_DIMS]);

impl Expression {
    /// The neutral expression.
    pub const NEUTRAL: Self = Self([0.0; EXPRESSION_DIMS]);

    /// Returns the expression with these coefficients.
    ///
    /// # Errors
    /// If one is not finite or above 1000 in magnitude.
    pub fn new(coefficients: [f32; EXPRESSION_DIMS]) -> Result<Self, FeatureError> {
        check(&coefficients)?;
        Ok(Self(coefficients))
    }

    /// Returns the coefficients.
    pub fn as_array(&self) -> &[f32; EXPRESSION_DIMS] {
        &self.0
    }
}

/// Code of a frame: everything about the face and the torso except the head pose.
///
/// [`LEARNED_DIMS`] values drive the radiance field; they are without unit, mostly in -3..=3, and
/// their meaning differs from person to person. [`TORSO_DIMS`] values `[a, b, tx, c, d, ty]` map a
/// point of the image to the reference image of the torso, both in image space:
/// `reference = (I + [[a, b], [c, d]]) * (image - 0.5) + 0.5 + [tx, ty]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Code([f32; CODE_DIMS]);

impl Code {
    /// All zeros: a neutral face, and the torso of the reference image.
    pub const NEUTRAL: Self = Self([0.0; CODE_DIMS]);

    /// Returns the code with these values.
    ///
    /// # Errors
    /// If one is not finite or above 1000 in magnitude.
    pub fn new(values: [f32; CODE_DIMS]) -> Result<Self, FeatureError> {
        check(&values)?;
        Ok(Self(values))
    }

    /// Returns the code with these two parts.
    ///
    /// # Errors
    /// As [`Code::new`].
    pub fn from_parts(
        learned: &[f32; LEARNED_DIMS],
        torso: &[f32; TORSO_DIMS],
    ) -> Result<Self, FeatureError> {
        let mut values = [0.0; CODE_DIMS];
        values[..LEARNED_DIMS].copy_from_slice(learned);
        values[LEARNED_DIMS..].copy_from_slice(torso);
        Self::new(values)
    }

    /// Returns all values.
    pub fn as_array(&self) -> &[f32; CODE_DIMS] {
        &self.0
    }

    /// Returns the learned part.
    pub fn learned(&self) -> [f32; LEARNED_DIMS] {
        std::array::from_fn(|i| self.0[i])
    }

    /// Returns the pose of the torso, `[a, b, tx, c, d, ty]`.
    pub fn torso(&self) -> [f32; TORSO_DIMS] {
        std::array::from_fn(|i| self.0[LEARNED_DIMS + i])
    }
}

/// Feature: the description of one frame that is sent to the peer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Feature {
    /// Capture time of the frame.
    pub time: MediaTime,
    /// Head pose.
    pub pose: HeadPose,
    /// Face and torso.
    pub code: Code,
}

impl Feature {
    /// Returns the values of the pose, then those of the code.
    pub fn to_array(&self) -> [f32; FEATURE_DIMS] {
        let mut all = [0.0; FEATURE_DIMS];
        all[..POSE_DIMS].copy_from_slice(&self.pose.to_array());
        all[POSE_DIMS..].copy_from_slice(self.code.as_array());
        all
    }

    /// Returns the feature with these values; the inverse of [`Feature::to_array`].
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

    /// Interpolates linearly in time between two features, the pose with [`HeadPose::lerp`].
    ///
    /// Before `before.time` the result has the pose and code of `before`, after `after.time` those
    /// of `after`. Its time is always `time`.
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
    fn a_pose_with_a_nan_or_behind_the_camera_is_refused() {
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
    fn a_centered_head_projects_to_the_center_of_the_picture() {
        assert_eq!(pose(0.3, 0.0).image_from_head(Vec3::ZERO), [0.5, 0.5]);
    }

    #[test]
    fn halfway_in_time_is_halfway_in_rotation_and_translation() {
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
