use face_shape::FACE_HEIGHT_M;
use glam::{Quat, Vec2, Vec3};
use numerics::{Cholesky, eigen_symmetric};
use types::{FOCAL, FeatureError, HeadPose, LANDMARKS, Landmarks};

/// Standard deviation of a landmark in the plane of the face, meters: 0.3 % of a face height.
pub(crate) const NOISE_M: f32 = 0.003 * FACE_HEIGHT_M;

/// Residual that counts half, in standard deviations (Cauchy).
const CAUCHY: f32 = 4.0;

/// Rigid transform `camera_from_head` during the fit, meters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placement {
    pub(crate) rotation: Quat,
    pub(crate) translation: Vec3,
}

/// Residual of one landmark, projected back to the depth of its point.
pub(crate) struct Residual {
    /// Measured minus expected position, meters.
    pub(crate) error: Vec2,
    /// Robust weight, 0..=1: small for residuals far beyond the noise.
    pub(crate) trust: f32,
}

impl Placement {
    /// Converts to a head pose.
    pub(crate) fn head_pose(&self) -> Result<HeadPose, FeatureError> {
        HeadPose::new(self.rotation.to_scaled_axis(), self.translation)
    }

    /// Projects a point from head space to image space.
    pub(crate) fn image_from_head(&self, point: Vec3) -> Vec2 {
        let p = self.rotation * point + self.translation;
        Vec2::splat(0.5) + FOCAL * p.truncate() / p.z.max(1e-3)
    }

    /// Returns the residual of a point of head space whose landmark is at `seen` in image space.
    pub(crate) fn residual(&self, point: Vec3, seen: Vec2) -> Residual {
        let p = self.rotation * point + self.translation;
        let z = p.z.max(1e-3);
        let error = (seen - Vec2::splat(0.5)) * (z / FOCAL) - p.truncate();
        let trust = 1.0 / (1.0 + error.length_squared() / (CAUCHY * NOISE_M).powi(2));
        Residual { error, trust }
    }

    /// Returns the Jacobian of the back-projected position of a point with respect to its position in
    /// camera space: one row for `x`, one for `y`, meters per meter.
    pub(crate) fn along(&self, point: Vec3) -> [Vec3; 2] {
        let p = self.rotation * point + self.translation;
        let z = p.z.max(1e-3);
        [Vec3::new(1.0, 0.0, -p.x / z), Vec3::new(0.0, 1.0, -p.y / z)]
    }

    /// Returns an initial transform under weak perspective, from the `rigid` ones of the landmarks
    /// `seen`, in frame sides with relative depth.
    pub(crate) fn initial(points: &[Vec3], seen: &[Vec3], rigid: &[usize]) -> Self {
        let center =
            |all: &[Vec3]| rigid.iter().map(|&i| all[i]).sum::<Vec3>() / rigid.len() as f32;
        let (from, to) = (center(points), center(seen));
        let a: Vec<Vec3> = rigid.iter().map(|&i| points[i] - from).collect();
        let b: Vec<Vec3> = rigid.iter().map(|&i| seen[i] - to).collect();
        let rotation = rotation_between(&a, &b);
        let spread = |v: &[Vec3]| v.iter().map(|p| p.length_squared()).sum::<f32>().sqrt();
        let z = FOCAL * spread(&a) / spread(&b).max(1e-6);
        let lateral = (to.truncate() - Vec2::splat(0.5)) * (z / FOCAL);
        Self { rotation, translation: lateral.extend(z) - rotation * from }
    }

    /// Takes Gauss-Newton steps towards the pose that projects `points` to `seen`, in frame sides.
    pub(crate) fn refine(
        &mut self,
        points: &[Vec3],
        seen: &[Vec2],
        weights: &[f32],
        robust: bool,
        steps: usize,
    ) {
        for _ in 0..steps {
            let mut normal = [[0.0_f64; 6]; 6];
            let mut rhs = [0.0_f64; 6];
            for ((point, seen), weight) in points.iter().zip(seen).zip(weights) {
                let lever = self.rotation * *point;
                let residual = self.residual(*point, *seen);
                let w = f64::from(if robust { weight * residual.trust } else { *weight });
                for (along, error) in self.along(*point).into_iter().zip(residual.error.to_array())
                {
                    let turn = lever.cross(along);
                    let row = [turn.x, turn.y, turn.z, along.x, along.y, along.z].map(f64::from);
                    for i in 0..6 {
                        let wi = w * row[i];
                        rhs[i] += wi * f64::from(error);
                        for j in 0..=i {
                            normal[i][j] += wi * row[j];
                        }
                    }
                }
            }
            // Slight damping bounds the step for a degenerate set of points.
            for (i, row) in normal.iter_mut().enumerate() {
                row[i] += 1e-7;
            }
            let Some(factor) = Cholesky::new(normal.concat(), 6) else { return };
            factor.solve(&mut rhs);
            self.advance(rhs);
        }
    }

    /// Applies a step: a rotation vector in camera space, then a translation in meters.
    pub(crate) fn advance(&mut self, step: [f64; 6]) {
        let [rx, ry, rz, tx, ty, tz] = step.map(|v| v as f32);
        // At most half a radian: the linearization holds only near its center.
        let turn = Vec3::new(rx, ry, rz).clamp_length_max(0.5);
        self.rotation = (Quat::from_scaled_axis(turn) * self.rotation).normalize();
        let depth = self.translation.z;
        self.translation += Vec3::new(tx, ty, tz).clamp_length_max(0.5 * depth.abs());
        self.translation.z = self.translation.z.max(0.05);
    }
}

/// Converts landmarks from pixels to sides of the frame, depth included; `None` if one is missing
/// or not finite.
pub(crate) fn seen_in_sides(landmarks: &Landmarks, side: u32) -> Option<Vec<Vec3>> {
    let usable = side > 0
        && landmarks.points.len() == LANDMARKS
        && landmarks.points.as_flattened().iter().all(|v| v.abs() < 1e6);
    usable.then(|| landmarks.points.iter().map(|p| Vec3::from_array(*p) / side as f32).collect())
}

/// Returns the rotation that best maps `a` to `b`, both relative to their centers.
///
/// Source: Horn 1987, "Closed-form solution of absolute orientation using unit quaternions".
pub(crate) fn rotation_between(a: &[Vec3], b: &[Vec3]) -> Quat {
    let mut h = [[0.0_f64; 3]; 3];
    for (a, b) in a.iter().zip(b) {
        for (row, x) in h.iter_mut().zip(a.to_array()) {
            for (cell, y) in row.iter_mut().zip(b.to_array()) {
                *cell += f64::from(x) * f64::from(y);
            }
        }
    }
    let trace = h[0][0] + h[1][1] + h[2][2];
    let twist = [h[1][2] - h[2][1], h[2][0] - h[0][2], h[0][1] - h[1][0]];
    let mut n = vec![trace, twist[0], twist[1], twist[2]];
    for (i, w) in twist.into_iter().enumerate() {
        n.push(w);
        n.extend((0..3).map(|j| h[i][j] + h[j][i] - if i == j { trace } else { 0.0 }));
    }
    let (_, q) = eigen_symmetric(n, 4);
    Quat::from_xyzw(q[1] as f32, q[2] as f32, q[3] as f32, q[0] as f32).normalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rotation_of_a_rotated_point_cloud_is_found() {
        let a: Vec<Vec3> =
            (0..9).map(|i| Vec3::new((i % 3) as f32, (i / 3) as f32, (i * i % 5) as f32)).collect();
        let turn = Quat::from_scaled_axis(Vec3::new(0.3, -1.1, 0.4));
        let b: Vec<Vec3> = a.iter().map(|p| turn * *p).collect();
        assert!(rotation_between(&a, &b).angle_between(turn) < 1e-3);
    }
}
