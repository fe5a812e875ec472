use glam::{Vec2, Vec3};
use numerics::Cholesky;
use types::{EXPRESSION_DIMS, Expression, HeadPose, LANDMARKS, Landmarks};

use crate::Identity;
use crate::matrix::{matrix, matrix_mut, multiply};
use crate::pose_fit::{NOISE_M, Placement, seen_in_sides};
use face_shape::{FACE_HEIGHT_M, FaceShape};

const K: usize = EXPRESSION_DIMS;

/// Bound on the expression coefficients, standard deviations.
const MAX_COEFFICIENT: f64 = 4.0;

/// Leading expression components, solved together with the pose.
const LEADING: usize = 24;
/// Unknowns of a pose step: rotation, translation, leading components.
const N: usize = 6 + LEADING;
/// Pose steps from the previous frame's fit, and from a cold start.
const POSE_STEPS: (usize, usize) = (3, 8);
/// Expression steps; the second corrects for perspective.
const EXPRESSION_STEPS: usize = 2;

/// Largest median error of a valid fit, in face heights.
const MAX_RESIDUAL: f32 = 0.1;

/// Fitter of head pose and expression of one person to the landmarks of each frame.
///
/// Solves two least-squares problems, each starting from the previous frame's fit:
/// 1. The *pose*, together with the 24 most visible expression components. A landmark has less
///    weight the more the other components move it. With all components as unknowns the pose would
///    tremble, because together they imitate small rotations of the head.
/// 2. The *expression* for that pose: the maximum a posteriori estimate, which minimizes
///    `Σᵢ wᵢ |seenᵢ − project(neutralᵢ + Σₖ eₖ Bₖᵢ)|² / σ² + |e|²`. The landmark noise σ is 0.3 %
///    of the face's height, the coefficients have unit variance, and the weights `wᵢ` are those of
///    the face shape, reduced where the expected error of a landmark is above the median.
///
/// Deterministic.
///
/// # Source
/// Gauss-Newton on the 3DMM of Blanz, Vetter 1999, with a Gaussian prior on its coefficients.
#[derive(Clone, Debug)]
pub struct Fitter {
    neutral: Vec<Vec3>,
    /// `[K][LANDMARKS]`.
    basis: Vec<Vec<Vec3>>,
    /// Weight of each landmark for the expression.
    weights: Vec<f32>,
    /// Weight of each landmark for the pose, 0..=1: less where the components beyond the leading
    /// ones move it.
    pose_weights: Vec<f32>,
    rigid: Vec<usize>,
    last: Option<(Placement, [f64; K])>,
    scratch: Scratch,
}

/// Memory reused from frame to frame.
#[derive(Clone, Debug, Default)]
struct Scratch {
    seen: Vec<Vec2>,
    /// Weight of each landmark by its expected error, 0..=1.
    trust: Vec<f32>,
    /// Expected errors, sorted.
    spread: Vec<f32>,
    /// Face with the current coefficients, head space.
    face: Vec<Vec3>,
    /// Jacobian: derivative of each coordinate by each unknown, `[unknowns, 2 * LANDMARKS]`.
    rows: Vec<f32>,
    /// `rows` times its transpose.
    product: Vec<f32>,
    along: Vec<[Vec3; 2]>,
    pulls: Vec<Vec3>,
    errors: Vec<f32>,
    pose_factor: Cholesky,
    factor: Cholesky,
}

impl Scratch {
    /// Weights landmarks by one over their squared expected error relative to the median, at most
    /// 1, so that hidden landmarks hardly count.
    fn set_trust(&mut self, spread: &[f32]) {
        self.trust.clear();
        self.spread.clear();
        self.spread.extend_from_slice(spread);
        let middle = self.spread.len() / 2;
        let median = match self.spread.get(middle) {
            Some(_) => *self.spread.select_nth_unstable_by(middle, f32::total_cmp).1,
            None => 0.0,
        };
        let trust = |s: &f32| if *s > median { (median / s).powi(2) } else { 1.0 };
        self.trust.extend(spread.iter().map(trust));
        self.trust.resize(LANDMARKS, 1.0);
    }
}

/// Head pose and expression of one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Head pose, `camera_from_head`.
    pub pose: HeadPose,
    /// Expression coefficients in standard deviations, within ±4.
    pub expression: Expression,
    /// Median distance between landmarks and projected face, pixels of the frame.
    pub residual_px: f32,
}

impl Fitter {
    /// Creates a fitter for one person.
    pub fn new(shape: &FaceShape, identity: &Identity) -> Self {
        let neutral = identity.neutral().to_vec();
        let pose_weights = (0..LANDMARKS).map(|i| {
            let rest = &shape.expression()[LEADING..];
            let mobile: f32 = rest.iter().map(|c| c[i].length_squared()).sum();
            NOISE_M * NOISE_M / (NOISE_M * NOISE_M + mobile)
        });
        Self {
            neutral,
            basis: shape.expression().to_vec(),
            weights: shape.weight().to_vec(),
            pose_weights: pose_weights.collect(),
            rigid: shape.rigid().to_vec(),
            last: None,
            scratch: Scratch::default(),
        }
    }

    /// Forgets the previous frame; the next fit is a cold start.
    pub fn reset(&mut self) {
        self.last = None;
    }

    /// Fits the landmarks of a square frame of `side` pixels.
    ///
    /// Returns `None`, and starts cold with the next frame, if they are not the landmarks of a face
    /// in front of the camera.
    pub fn fit(&mut self, landmarks: &Landmarks, side: u32) -> Option<Fit> {
        let seen = seen_in_sides(landmarks, side)?;
        self.scratch.set_trust(&landmarks.spread);
        let warm = self.last.take();
        // If the head jumped, the warm start fails: start cold.
        warm.and_then(|warm| self.fit_from(&seen, side, Some(&warm)))
            .or_else(|| self.fit_from(&seen, side, None))
    }

    fn fit_from(
        &mut self,
        seen: &[Vec3],
        side: u32,
        warm: Option<&(Placement, [f64; K])>,
    ) -> Option<Fit> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let fit = self.fit_with(&mut scratch, seen, side, warm);
        self.scratch = scratch;
        fit
    }

    fn fit_with(
        &mut self,
        scratch: &mut Scratch,
        seen_deep: &[Vec3],
        side: u32,
        warm: Option<&(Placement, [f64; K])>,
    ) -> Option<Fit> {
        scratch.seen.clear();
        scratch.seen.extend(seen_deep.iter().map(|p| p.truncate()));
        let (mut placement, mut coefficients, steps) = if let Some((placement, coefficients)) = warm
        {
            (*placement, *coefficients, POSE_STEPS.0)
        } else {
            let mut start = Placement::initial(&self.neutral, seen_deep, &self.rigid);
            start.refine(&self.neutral, &scratch.seen, &self.pose_weights, false, 4);
            (start, [0.0; K], POSE_STEPS.1)
        };
        let mut leading = [0.0; LEADING];
        leading.copy_from_slice(&coefficients[..LEADING]);
        for _ in 0..steps {
            self.pose_step(scratch, &mut placement, &mut leading)?;
        }
        self.pose_face(&mut scratch.face, &coefficients);
        self.factor(scratch, &placement)?;
        for _ in 0..EXPRESSION_STEPS {
            self.expression_step(scratch, &placement, &mut coefficients);
            self.pose_face(&mut scratch.face, &coefficients);
        }

        let pose = placement.head_pose().ok()?;
        scratch.errors.clear();
        let pairs = scratch.face.iter().zip(&scratch.seen);
        scratch.errors.extend(pairs.map(|(p, s)| placement.image_from_head(*p).distance(*s)));
        let (_, median, _) = scratch.errors.select_nth_unstable_by(LANDMARKS / 2, f32::total_cmp);
        let face_sides = types::FOCAL * FACE_HEIGHT_M / pose.translation().z;
        let is_valid = *median <= MAX_RESIDUAL * face_sides;
        if !is_valid {
            return None;
        }
        let residual_px = *median * side as f32;
        let expression = Expression::new(coefficients.map(|c| c as f32)).ok()?;
        self.last = Some((placement, coefficients));
        Some(Fit { pose, expression, residual_px })
    }

    /// Sets `face` to the face with the given leading coefficients, head space.
    fn pose_face(&self, face: &mut Vec<Vec3>, coefficients: &[f64]) {
        face.clear();
        face.extend_from_slice(&self.neutral);
        for (component, weight) in self.basis.iter().zip(coefficients) {
            let weight = *weight as f32;
            face.iter_mut().zip(component).for_each(|(p, d)| *p += *d * weight);
        }
    }

    /// Takes one Gauss-Newton step of the pose and the leading components.
    fn pose_step(
        &self,
        scratch: &mut Scratch,
        placement: &mut Placement,
        leading: &mut [f64; LEADING],
    ) -> Option<()> {
        self.pose_face(&mut scratch.face, leading);
        let back = placement.rotation.inverse();
        scratch.rows.resize((N + 1) * 2 * LANDMARKS, 0.0);
        let pairs = scratch.face.iter().zip(&scratch.seen);
        for (i, (point, seen)) in pairs.enumerate() {
            let root = (self.pose_weights[i] * scratch.trust[i]).sqrt() / NOISE_M;
            let lever = placement.rotation * *point;
            let error = placement.residual(*point, *seen).error * root;
            let along = placement.along(*point).map(|a| a * root);
            for (axis, (along, error)) in along.into_iter().zip(error.to_array()).enumerate() {
                let at = |row: usize| row * 2 * LANDMARKS + 2 * i + axis;
                let turn = lever.cross(along).to_array();
                for (n, v) in turn.into_iter().chain(along.to_array()).enumerate() {
                    scratch.rows[at(n)] = v;
                }
                let in_head = back * along;
                for (k, component) in self.basis[..LEADING].iter().enumerate() {
                    scratch.rows[at(6 + k)] = in_head.dot(component[i]);
                }
                scratch.rows[at(N)] = error;
            }
        }
        square(&scratch.rows, N + 1, &mut scratch.product);
        let product = &scratch.product;
        let mut step: [f64; N] = std::array::from_fn(|n| f64::from(product[N * (N + 1) + n]));
        let entry = |n: usize, m: usize| {
            let value = f64::from(product[n * (N + 1) + m]);
            // Slight damping of the pose; unit prior of the components.
            let more = if n < 6 { 1e-6 * value } else { 1.0 };
            if n == m { value + more } else { value }
        };
        for (s, e) in step[6..].iter_mut().zip(leading.iter()) {
            *s -= e;
        }
        scratch.pose_factor.refactor(N, entry)?;
        scratch.pose_factor.solve(&mut step);
        placement.advance([step[0], step[1], step[2], step[3], step[4], step[5]]);
        for (e, s) in leading.iter_mut().zip(&step[6..]) {
            *e = (*e + s).clamp(-MAX_COEFFICIENT, MAX_COEFFICIENT);
        }
        Some(())
    }

    /// Factorizes the normal matrix of the expression, `I + Σᵢ wᵢ Bᵢᵀ AᵢᵀAᵢ Bᵢ / σ²`, with the
    /// projection Jacobians `Aᵢ` of the face's points.
    fn factor(&self, scratch: &mut Scratch, placement: &Placement) -> Option<()> {
        let back = placement.rotation.inverse();
        scratch.along.clear();
        let points = scratch.face.iter().zip(&self.weights).zip(&scratch.trust);
        scratch.along.extend(points.map(|((p, w), trust)| {
            placement.along(*p).map(|a| back * a * ((w * trust).sqrt() / NOISE_M))
        }));
        scratch.rows.clear();
        for component in &self.basis {
            let pairs = component.iter().zip(&scratch.along);
            scratch.rows.extend(pairs.flat_map(|(d, a)| a.map(|a| a.dot(*d))));
        }
        square(&scratch.rows, K, &mut scratch.product);
        let product = &scratch.product;
        let prior = |n: usize, m: usize| if n == m { 1.0 } else { 0.0 };
        scratch.factor.refactor(K, |n, m| f64::from(product[n * K + m]) + prior(n, m))
    }

    /// Takes one Gauss-Newton step of the expression, with the factor of [`Fitter::factor`].
    fn expression_step(
        &self,
        scratch: &mut Scratch,
        placement: &Placement,
        coefficients: &mut [f64; K],
    ) {
        let back = placement.rotation.inverse();
        scratch.pulls.clear();
        let points = scratch.face.iter().zip(&scratch.seen).zip(&self.weights).zip(&scratch.trust);
        scratch.pulls.extend(points.map(|(((point, seen), weight), trust)| {
            let error = placement.residual(*point, *seen).error;
            let [x, y] = placement.along(*point);
            back * (x * error.x + y * error.y) * (weight * trust / (NOISE_M * NOISE_M))
        }));
        let pulls = scratch.pulls.as_chunks::<2>().0;
        let mut step: [f64; K] = std::array::from_fn(|k| {
            let mut sum = [Vec3::ZERO; 2];
            for (b, p) in self.basis[k].as_chunks::<2>().0.iter().zip(pulls) {
                sum[0] += b[0] * p[0];
                sum[1] += b[1] * p[1];
            }
            f64::from((sum[0] + sum[1]).element_sum()) - coefficients[k]
        });
        scratch.factor.solve(&mut step);
        for (c, s) in coefficients.iter_mut().zip(step) {
            *c = (*c + s).clamp(-MAX_COEFFICIENT, MAX_COEFFICIENT);
        }
    }
}

/// Computes `product = rows rowsᵀ` for `n` rows.
fn square(rows: &[f32], n: usize, product: &mut Vec<f32>) {
    product.resize(n * n, 0.0);
    let rows = matrix(rows, n, rows.len() / n);
    multiply(&rows, &rows.t(), 0.0, &mut matrix_mut(product, n, n));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Landmarks of a known face with seeded uniform noise of standard deviation `noise_px`.
    fn landmarks(
        shape: &FaceShape,
        pose: &HeadPose,
        expression: &Expression,
        side: u32,
        noise_px: f32,
        seed: u64,
    ) -> Landmarks {
        let mut random = numerics::SplitMix64::new(seed);
        let mut noise = || (random.uniform() - 0.5) * 12.0_f32.sqrt() * noise_px;
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
        Landmarks::exact(points)
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

    fn rms(a: &Expression, b: &Expression, n: usize) -> f32 {
        let pairs = a.as_array()[..n].iter().zip(b.as_array());
        (pairs.map(|(a, b)| (a - b).powi(2)).sum::<f32>() / n as f32).sqrt()
    }

    #[test]
    fn a_clean_face_is_recovered_from_a_cold_start_at_any_yaw() {
        let shape = FaceShape::builtin().unwrap();
        let identity = Identity::from_points(shape.mean().to_vec()).unwrap();
        let mut fitter = Fitter::new(&shape, &identity);
        for (pitch, yaw, roll) in
            [(0.0, 0.0, 0.0), (0.2, 0.7, 0.1), (-0.3, -0.6, 0.3), (0.1, 0.2, -0.5)]
        {
            let turn = glam::Quat::from_euler(glam::EulerRot::YXZ, yaw, pitch, roll);
            let pose = HeadPose::new(turn.to_scaled_axis(), Vec3::new(0.03, -0.02, 1.05)).unwrap();

            fitter.reset();
            let at_rest = landmarks(&shape, &pose, &Expression::NEUTRAL, 512, 0.0, 1);
            let fit = fitter.fit(&at_rest, 512).unwrap();
            assert!(angle_deg(&fit.pose, &pose) < 0.05, "yaw {yaw}: {:?}", fit.pose);
            assert!(rms(&fit.expression, &Expression::NEUTRAL, K) < 0.02, "yaw {yaw}");

            fitter.reset();
            let fit = fitter.fit(&landmarks(&shape, &pose, &talking(), 512, 0.0, 1), 512).unwrap();
            assert!(fit.residual_px < 0.2, "yaw {yaw}: {} px", fit.residual_px);
            assert!(angle_deg(&fit.pose, &pose) < 0.3, "yaw {yaw}: {:?}", fit.pose);
            let error = rms(&fit.expression, &talking(), 24);
            assert!(error < 0.3, "yaw {yaw}: expression off by {error}");
        }
    }

    #[test]
    fn half_a_pixel_of_noise_causes_less_than_half_a_degree_of_error() {
        let shape = FaceShape::builtin().unwrap();
        let identity = Identity::from_points(shape.mean().to_vec()).unwrap();
        let mut fitter = Fitter::new(&shape, &identity);
        let pose = HeadPose::new(Vec3::new(0.1, 0.3, 0.05), Vec3::new(-0.02, 0.01, 1.0)).unwrap();
        for seed in 0..20 {
            let landmarks = landmarks(&shape, &pose, &Expression::NEUTRAL, 512, 0.5, seed);
            let fit = fitter.fit(&landmarks, 512).unwrap();
            assert!(angle_deg(&fit.pose, &pose) < 0.5, "{}", angle_deg(&fit.pose, &pose));
            let error = rms(&fit.expression, &Expression::NEUTRAL, 12);
            assert!(error < 0.25, "expression off by {error}");
        }
    }

    #[test]
    fn landmarks_of_no_face_have_no_fit() {
        let shape = FaceShape::builtin().unwrap();
        let identity = Identity::from_points(shape.mean().to_vec()).unwrap();
        let mut fitter = Fitter::new(&shape, &identity);
        let scattered = |value: f32| {
            let at = |i: usize| [(i * 97 % 512) as f32, (i * 61 % 512) as f32, value];
            Landmarks::exact((0..LANDMARKS).map(at).collect())
        };
        for bad in [scattered(0.0), scattered(f32::NAN), scattered(f32::INFINITY)] {
            assert_eq!(fitter.fit(&bad, 512), None);
        }
        assert_eq!(fitter.fit(&Landmarks::exact(vec![]), 512), None);
        let one_point = Landmarks::exact(vec![[5.0; 3]; LANDMARKS]);
        let _ = fitter.fit(&one_point, 512); // must not panic
    }
}
