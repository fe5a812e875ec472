use glam::{DVec3, Vec2, Vec3};
use ndarray::Array2;
use ndarray::linalg::general_mat_mul;
use types::{EXPRESSION_DIMS, Expression, HeadPose, LANDMARKS, Landmarks};

use crate::cholesky::Cholesky;
use crate::pose_fit::{FACE_HEIGHT_M, NOISE_M, Placement};
use crate::{FaceShape, Identity};

const K: usize = EXPRESSION_DIMS;
/// Unknowns of a frame: a turn and a shift of the head, and the expression.
const N: usize = 6 + K;

/// No face does more than this many standard deviations of anything.
const LARGEST: f64 = 4.0;

/// Steps after a cold start, each with a fresh matrix.
const COLD_STEPS: usize = 6;
/// Steps from where the last frame ended, all with the matrix of the first.
const WARM_STEPS: usize = 3;

/// A fit whose median error is over this share of the face's height is no fit.
const WORST_RESIDUAL: f32 = 0.1;

/// Fits pose and expression of one person to landmarks, frame after frame.
///
/// Minimises `Σᵢ wᵢ |seenᵢ − project(pose, neutralᵢ + Σₖ eₖ Bₖᵢ)|²/σ² + |e|²` over pose and `e`
/// together (Gauss-Newton): landmarks with noise of 0.3 % of a face's height, expression
/// coefficients of unit variance. It starts where the last frame ended and is deterministic.
#[derive(Clone, Debug)]
pub struct Fitter {
    neutral: Vec<Vec3>,
    /// `[K][LANDMARKS]`.
    basis: Vec<Vec<Vec3>>,
    weights: Vec<f32>,
    rigid: Vec<usize>,
    last: Option<(Placement, [f64; K])>,
}

/// Pose and expression of one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// `camera_from_head`.
    pub pose: HeadPose,
    /// In standard deviations, within ±4.
    pub expression: Expression,
    /// Median distance between the landmarks and the fitted face, pixels of the frame.
    pub residual_px: f32,
}

impl Fitter {
    /// A fitter for one person.
    pub fn new(shape: &FaceShape, identity: &Identity) -> Self {
        Self {
            neutral: identity.neutral().to_vec(),
            basis: shape.expression().to_vec(),
            weights: shape.weight().to_vec(),
            rigid: shape.rigid().to_vec(),
            last: None,
        }
    }

    /// Forgets the last frame: the next fit starts from nothing.
    pub fn reset(&mut self) {
        self.last = None;
    }

    /// The pose and expression that explain landmarks in a picture of `side` pixels.
    ///
    /// `None` if they are not those of a face in front of the camera; the next fit starts afresh.
    pub fn fit(&mut self, landmarks: &Landmarks, side: u32) -> Option<Fit> {
        let fit = self.try_fit(landmarks, side);
        if fit.is_none() {
            self.reset();
        }
        fit
    }

    fn try_fit(&mut self, landmarks: &Landmarks, side: u32) -> Option<Fit> {
        let seen_deep = seen_in_sides(landmarks, side)?;
        let seen: Vec<Vec2> = seen_deep.iter().map(|p| p.truncate()).collect();
        let mut coefficients = [0.0; K];
        let mut placement = if let Some((placement, last)) = self.last {
            coefficients = last;
            placement
        } else {
            let mut guess = Placement::guess(&self.neutral, &seen_deep, &self.rigid);
            guess.refine(&self.neutral, &seen, &self.weights, false, 4);
            for _ in 0..COLD_STEPS {
                let face = self.face(&coefficients);
                let factor = self.normal(&guess, &face)?;
                self.step(&factor, &mut guess, &face, &seen, &mut coefficients);
            }
            guess
        };
        let mut face = self.face(&coefficients);
        let factor = self.normal(&placement, &face)?;
        for _ in 0..WARM_STEPS {
            self.step(&factor, &mut placement, &face, &seen, &mut coefficients);
            face = self.face(&coefficients);
        }

        let pose = placement.head_pose().ok()?;
        let mut errors: Vec<f32> = face
            .iter()
            .zip(&seen)
            .map(|(p, s)| placement.image_from_head(*p).distance(*s))
            .collect();
        let (_, median, _) = errors.select_nth_unstable_by(LANDMARKS / 2, f32::total_cmp);
        let face_sides = types::FOCAL * FACE_HEIGHT_M / pose.translation().z;
        if !(*median <= WORST_RESIDUAL * face_sides) {
            return None;
        }
        let residual_px = *median * side as f32;
        let expression = Expression::new(coefficients.map(|c| c as f32)).ok()?;
        self.last = Some((placement, coefficients));
        Some(Fit { pose, expression, residual_px })
    }

    /// The face under some coefficients, head space.
    fn face(&self, coefficients: &[f64; K]) -> Vec<Vec3> {
        let mut face = self.neutral.clone();
        for (component, weight) in self.basis.iter().zip(coefficients) {
            let weight = *weight as f32;
            face.iter_mut().zip(component).for_each(|(p, d)| *p += *d * weight);
        }
        face
    }

    /// The Gauss-Newton matrix of pose and expression, factored.
    fn normal(&self, placement: &Placement, face: &[Vec3]) -> Option<Cholesky> {
        let mut rows = Array2::<f32>::zeros((N, 2 * LANDMARKS));
        let back = placement.rotation.inverse();
        for (i, (point, weight)) in face.iter().zip(&self.weights).enumerate() {
            let root = weight.sqrt() / NOISE_M;
            let lever = placement.rotation * *point;
            for (axis, along) in placement.along(*point).into_iter().enumerate() {
                let along = along * root;
                let turn = lever.cross(along);
                let pose = [turn.x, turn.y, turn.z, along.x, along.y, along.z];
                let at = 2 * i + axis;
                pose.into_iter().enumerate().for_each(|(n, v)| rows[[n, at]] = v);
                let in_head = back * along;
                for (k, component) in self.basis.iter().enumerate() {
                    rows[[6 + k, at]] = in_head.dot(component[i]);
                }
            }
        }
        let mut product = Array2::<f32>::zeros((N, N));
        general_mat_mul(1.0, &rows, &rows.t(), 0.0, &mut product);
        let mut normal: Vec<f64> = product.iter().map(|v| f64::from(*v)).collect();
        for n in 0..N {
            // The prior of the expression; a whisper of damping for the pose.
            normal[n * N + n] += if n < 6 { 1e-6 * normal[n * N + n] } else { 1.0 };
        }
        Cholesky::new(normal, N)
    }

    fn step(
        &self,
        factor: &Cholesky,
        placement: &mut Placement,
        face: &[Vec3],
        seen: &[Vec2],
        coefficients: &mut [f64; K],
    ) {
        let back = placement.rotation.inverse();
        let (mut turn, mut shift) = (DVec3::ZERO, DVec3::ZERO);
        let pulls: Vec<Vec3> = face
            .iter()
            .zip(seen)
            .zip(&self.weights)
            .map(|((point, seen), weight)| {
                let error = placement.residual(*point, *seen).error;
                let [x, y] = placement.along(*point);
                let pull = (x * error.x + y * error.y) * (weight / (NOISE_M * NOISE_M));
                turn += (placement.rotation * *point).cross(pull).as_dvec3();
                shift += pull.as_dvec3();
                back * pull
            })
            .collect();
        let mut step = [turn.to_array(), shift.to_array()].concat();
        step.extend(self.basis.iter().zip(coefficients.iter()).map(|(component, c)| {
            let mut sum = [Vec3::ZERO; 2];
            for (b, p) in component.as_chunks::<2>().0.iter().zip(pulls.as_chunks::<2>().0) {
                sum[0] += b[0] * p[0];
                sum[1] += b[1] * p[1];
            }
            f64::from((sum[0] + sum[1]).element_sum()) - c
        }));
        factor.solve(&mut step);
        placement.advance([step[0], step[1], step[2], step[3], step[4], step[5]]);
        for (c, s) in coefficients.iter_mut().zip(&step[6..]) {
            *c = (*c + s).clamp(-LARGEST, LARGEST);
        }
    }
}

/// Landmarks in sides of the picture, depth included; `None` if one is missing or not a number.
pub(crate) fn seen_in_sides(landmarks: &Landmarks, side: u32) -> Option<Vec<Vec3>> {
    let usable = side > 0
        && landmarks.points.len() == LANDMARKS
        && landmarks.points.as_flattened().iter().all(|v| v.abs() < 1e6);
    usable.then(|| landmarks.points.iter().map(|p| Vec3::from_array(*p) / side as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Landmarks of a known face, with noise of `noise_px` (uniform of that deviation, seeded).
    fn seen(
        shape: &FaceShape,
        pose: &HeadPose,
        expression: &Expression,
        side: u32,
        noise_px: f32,
        seed: u64,
    ) -> Landmarks {
        let mut state = seed;
        let mut noise = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1_u32 << 24) as f32 - 0.5) * 12.0_f32.sqrt() * noise_px
        };
        let scale = side as f32;
        let points = shape
            .with_expression(shape.mean(), expression)
            .into_iter()
            .map(|p| {
                let [x, y] = pose.image_from_head(p);
                let z = (pose.camera_from_head(p).z - pose.translation().z) * types::FOCAL
                    / pose.translation().z;
                [x * scale + noise(), y * scale + noise(), z * scale]
            })
            .collect();
        Landmarks { points, confidence: 1.0 }
    }

    fn talking() -> Expression {
        let mut e = [0.0; K];
        for (i, v) in [(0, 1.5), (1, -1.0), (2, 0.8), (3, -1.2), (5, 1.0), (9, -0.7), (17, 1.0)] {
            e[i] = v;
        }
        Expression::new(e).unwrap()
    }

    fn angle_deg(a: &HeadPose, b: &HeadPose) -> f32 {
        a.quat().angle_between(b.quat()).to_degrees()
    }

    #[test]
    fn a_clean_face_is_recovered_from_a_cold_start_at_any_yaw() {
        let shape = FaceShape::builtin().unwrap();
        let identity = Identity::of_mesh(shape.mean().to_vec()).unwrap();
        let mut fitter = Fitter::new(&shape, &identity);
        for (pitch, yaw, roll) in
            [(0.0, 0.0, 0.0), (0.2, 0.7, 0.1), (-0.3, -0.6, 0.3), (0.1, 0.2, -0.5)]
        {
            let turn = glam::Quat::from_euler(glam::EulerRot::YXZ, yaw, pitch, roll);
            let pose = HeadPose::new(turn.to_scaled_axis(), Vec3::new(0.03, -0.02, 1.05)).unwrap();
            fitter.reset();
            // Twice the same frame: the second fit starts from the first.
            let landmarks = seen(&shape, &pose, &talking(), 512, 0.0, 1);
            fitter.fit(&landmarks, 512).unwrap();
            let fit = fitter.fit(&landmarks, 512).unwrap();
            assert!(fit.residual_px < 0.1, "yaw {yaw}: {} px", fit.residual_px);
            assert!(
                angle_deg(&fit.pose, &pose) < 0.15,
                "yaw {yaw}: {}",
                angle_deg(&fit.pose, &pose)
            );
            // The prior prefers the smallest coefficients that look the same.
            for (k, (got, want)) in
                fit.expression.as_array().iter().zip(talking().as_array()).enumerate().take(12)
            {
                assert!((got - want).abs() < 0.3, "yaw {yaw}, component {k}: {got} for {want}");
            }
        }
    }

    #[test]
    fn half_a_pixel_of_noise_costs_less_than_half_a_degree() {
        let shape = FaceShape::builtin().unwrap();
        let identity = Identity::of_mesh(shape.mean().to_vec()).unwrap();
        let mut fitter = Fitter::new(&shape, &identity);
        let pose = HeadPose::new(Vec3::new(0.1, 0.3, 0.05), Vec3::new(-0.02, 0.01, 1.0)).unwrap();
        let (mut worst, mut squares) = (0.0_f32, 0.0_f32);
        for seed in 0..20 {
            let landmarks = seen(&shape, &pose, &talking(), 512, 0.5, seed);
            let fit = fitter.fit(&landmarks, 512).unwrap();
            worst = worst.max(angle_deg(&fit.pose, &pose));
            for (got, want) in fit.expression.as_array()[..12].iter().zip(talking().as_array()) {
                squares += (got - want).powi(2) / (20.0 * 12.0);
            }
        }
        assert!(worst < 0.5, "{worst} degrees");
        assert!(squares.sqrt() < 0.15, "expression error {}", squares.sqrt());
    }

    #[test]
    fn what_is_no_face_has_no_fit() {
        let shape = FaceShape::builtin().unwrap();
        let identity = Identity::of_mesh(shape.mean().to_vec()).unwrap();
        let mut fitter = Fitter::new(&shape, &identity);
        let scattered = |value: f32| Landmarks {
            points: (0..LANDMARKS)
                .map(|i| [(i * 97 % 512) as f32, (i * 61 % 512) as f32, value])
                .collect(),
            confidence: 1.0,
        };
        for bad in [scattered(0.0), scattered(f32::NAN), scattered(f32::INFINITY)] {
            assert_eq!(fitter.fit(&bad, 512), None);
        }
        assert_eq!(fitter.fit(&Landmarks { points: vec![], confidence: 1.0 }, 512), None);
        let one_point = Landmarks { points: vec![[5.0; 3]; LANDMARKS], confidence: 1.0 };
        let _ = fitter.fit(&one_point, 512); // whatever it is, no panic
    }
}
