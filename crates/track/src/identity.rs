use glam::{Mat3, Vec2, Vec3};
use numerics::Cholesky;
use rayon::prelude::*;
use types::{LANDMARKS, Landmarks};

use crate::pose_fit::{NOISE_M, Placement, rotation_between, seen_in_sides};
use face_shape::{CHIN, FACE_HEIGHT_M, FOREHEAD, FaceShape};

/// Most frames that are used, evenly spaced.
const MAX_FRAMES: usize = 240;
/// Standard deviation of the residual beyond the identity components, meters.
const RESIDUAL_M: f32 = 0.0015;
/// Number of frames that count as one, because errors of neighboring frames are correlated.
const CORRELATED: f32 = 6.0;
/// Rounds of alternating poses and shape: without the residual, then with it.
const ROUNDS: (usize, usize) = (4, 10);

/// A person's neutral face: the shape that best explains the landmarks of all frames of the
/// enrollment, so that their average expression counts as neutral.
///
/// Solved once at enrollment and then constant. Expressions are added to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    neutral: Vec<Vec3>,
}

/// Why an identity cannot be solved or parsed.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// No frame shows a face. Record again, facing the camera.
    #[error("none of the {frames} frames shows a whole face")]
    NoFace { frames: usize },
    /// Not a mesh of a face: stored bytes are damaged. Enroll again.
    #[error("the stored identity is not {want} bytes of plausible points (got {got})")]
    Damaged { want: usize, got: usize },
}

impl Identity {
    /// Length of [`Identity::to_bytes`].
    pub(crate) const BYTES: usize = LANDMARKS * 12;

    /// Creates an identity from its points: `[LANDMARKS]` in head space, meters.
    ///
    /// # Errors
    /// If the number of points is wrong or a point lies a meter or more from the origin.
    pub fn from_points(neutral: Vec<Vec3>) -> Result<Self, IdentityError> {
        let plausible = neutral.iter().all(|p| p.length() < 1.0);
        if neutral.len() != LANDMARKS || !plausible {
            let got = neutral.len() * 12;
            return Err(IdentityError::Damaged { want: Self::BYTES, got });
        }
        Ok(Self { neutral })
    }

    /// Solves a person's neutral face from the landmarks of many square frames of `side` pixels. Of
    /// more frames than the adjustment needs, an even selection is used.
    ///
    /// A small bundle adjustment, which alternates between the poses of the frames and the shape.
    /// The shape is the mean face plus identity components (coefficients of unit variance) plus a
    /// free displacement of each point (standard deviation 1.5 mm). It keeps a face height of
    /// 0.18 m and the axes of the mean face. Views from several sides determine depth; from a single
    /// view, depth is that of the mean face.
    ///
    /// # Errors
    /// [`IdentityError::NoFace`] if no frame has usable landmarks, or if those of all frames together
    /// give no plausible face.
    pub fn solve(
        shape: &FaceShape,
        side: u32,
        frames: &[Landmarks],
    ) -> Result<Self, IdentityError> {
        let usable: Vec<Vec<Vec3>> = frames.iter().filter_map(|f| seen_in_sides(f, side)).collect();
        if usable.is_empty() {
            return Err(IdentityError::NoFace { frames: frames.len() });
        }
        let n = usable.len().min(MAX_FRAMES);
        let chosen: Vec<&Vec<Vec3>> = (0..n).map(|i| &usable[i * usable.len() / n]).collect();
        let seen: Vec<Vec<Vec2>> =
            chosen.iter().map(|f| f.iter().map(|p| p.truncate()).collect()).collect();
        let mut weights = vec![0.1; LANDMARKS];
        shape.rigid().iter().for_each(|&i| weights[i] = 1.0);

        let mut face = shape.mean().to_vec();
        let mut placements: Vec<Placement> =
            chosen.iter().map(|f| Placement::initial(&face, f, shape.rigid())).collect();
        for round in 0..ROUNDS.0 + ROUNDS.1 {
            placements
                .par_iter_mut()
                .zip(&seen)
                .for_each(|(p, seen)| p.refine(&face, seen, &weights, round > 0, 4));
            let evidence = gather(&placements, &face, &seen);
            face = best_shape(shape, &evidence, round >= ROUNDS.0);
            face = in_head_space(shape, &face);
        }
        Self::from_points(face).map_err(|_| IdentityError::NoFace { frames: frames.len() })
    }

    /// Returns the neutral face: `[LANDMARKS]` in head space, meters.
    pub fn neutral(&self) -> &[Vec3] {
        &self.neutral
    }

    /// Returns the points as little-endian f32, `[LANDMARKS, 3]`.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.neutral.iter().flat_map(Vec3::to_array).flat_map(f32::to_le_bytes).collect()
    }

    /// Parses the bytes of [`Identity::to_bytes`].
    ///
    /// # Errors
    /// If the length is wrong or a point is implausible.
    pub fn parse(bytes: &[u8]) -> Result<Self, IdentityError> {
        let damaged = IdentityError::Damaged { want: Self::BYTES, got: bytes.len() };
        if bytes.len() != Self::BYTES {
            return Err(damaged);
        }
        let points = bytes.as_chunks::<4>().0.as_chunks::<3>().0.iter();
        Self::from_points(points.map(|p| Vec3::from_array(p.map(f32::from_le_bytes))).collect())
    }
}

/// Normal equations of one point over all frames, head space: `information · point = pull`, where
/// `information` is in 1/m².
#[derive(Clone, Copy, Default)]
struct Evidence {
    information: Mat3,
    pull: Vec3,
}

/// Sums the normal equations of every point over the frames.
fn gather(placements: &[Placement], face: &[Vec3], seen: &[Vec<Vec2>]) -> Vec<Evidence> {
    let per_meter = 1.0 / (NOISE_M * NOISE_M * CORRELATED.min(placements.len() as f32));
    let mut evidence = vec![Evidence::default(); LANDMARKS];
    for (placement, seen) in placements.iter().zip(seen) {
        let back = placement.rotation.inverse();
        for ((e, point), seen) in evidence.iter_mut().zip(face).zip(seen) {
            let residual = placement.residual(*point, *seen);
            let along = placement.along(*point).map(|a| back * a);
            for (along, error) in along.into_iter().zip(residual.error.to_array()) {
                let w = per_meter * residual.trust;
                let outer = Mat3::from_cols(along * along.x, along * along.y, along * along.z);
                e.information += outer * w;
                e.pull += along * (w * (error + along.dot(*point)));
            }
        }
    }
    evidence
}

/// Returns the maximum a posteriori shape, with the residual beyond the identity components or
/// without.
fn best_shape(shape: &FaceShape, evidence: &[Evidence], has_residual: bool) -> Vec<Vec3> {
    let n = shape.identity().len();
    let mut normal = vec![0.0; n * n];
    let mut rhs = vec![0.0; n];
    let pulls: Vec<Vec3> =
        evidence.iter().zip(shape.mean()).map(|(e, m)| e.pull - e.information * *m).collect();
    let weighed: Vec<Vec<Vec3>> = shape
        .identity()
        .iter()
        .map(|c| c.iter().zip(evidence).map(|(d, e)| e.information * *d).collect())
        .collect();
    for (a, component) in shape.identity().iter().enumerate() {
        let product = |v: &[Vec3]| component.iter().zip(v).map(|(d, v)| f64::from(d.dot(*v))).sum();
        for (b, weighed) in weighed.iter().enumerate().take(a + 1) {
            normal[a * n + b] = product(weighed);
        }
        normal[a * n + a] += 1.0;
        rhs[a] = product(&pulls);
    }
    let mut face = shape.mean().to_vec();
    if let Some(factor) = Cholesky::new(normal, n) {
        factor.solve(&mut rhs);
        for (component, c) in shape.identity().iter().zip(&rhs) {
            let c = c.clamp(-4.0, 4.0) as f32;
            face.iter_mut().zip(component).for_each(|(p, d)| *p += *d * c);
        }
    }
    if has_residual {
        let prior = Mat3::from_diagonal(Vec3::splat(1.0 / (RESIDUAL_M * RESIDUAL_M)));
        for (p, e) in face.iter_mut().zip(evidence) {
            *p += (e.information + prior).inverse() * (e.pull - e.information * *p);
        }
    }
    face
}

/// Removes what a pose explains too: aligns a face with the mean by a similarity transform.
fn in_head_space(shape: &FaceShape, face: &[Vec3]) -> Vec<Vec3> {
    let center =
        |f: &[Vec3]| shape.rigid().iter().map(|&i| f[i]).sum::<Vec3>() / shape.rigid().len() as f32;
    let (from, to) = (center(face), center(shape.mean()));
    let about =
        |f: &[Vec3], c: Vec3| -> Vec<Vec3> { shape.rigid().iter().map(|&i| f[i] - c).collect() };
    let turn = rotation_between(&about(face, from), &about(shape.mean(), to));
    let scale = FACE_HEIGHT_M / face[FOREHEAD].distance(face[CHIN]).max(1e-3);
    face.iter().map(|p| turn * (*p - from) * scale + to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::HeadPose;

    fn views(face: &[Vec3], yaws: &[f32]) -> Vec<Landmarks> {
        yaws.iter()
            .map(|&yaw| {
                let pose =
                    HeadPose::new(Vec3::new(0.1 * yaw, yaw, 0.05), Vec3::new(0.01, 0.0, 1.1))
                        .unwrap();
                let points = face
                    .iter()
                    .map(|p| {
                        let [x, y] = pose.image_from_head(*p);
                        let z = (pose.camera_from_head(*p).z - 1.1) * types::FOCAL / 1.1;
                        [x * 512.0, y * 512.0, z * 512.0]
                    })
                    .collect();
                Landmarks::exact(points)
            })
            .collect()
    }

    #[test]
    fn an_unknown_face_seen_from_several_sides_is_solved_to_two_millimeters() {
        let shape = FaceShape::builtin().unwrap();
        let mut face = shape.mean().to_vec();
        for (k, weight) in [(0, 1.5), (1, -1.0), (3, 1.0), (6, 1.0)] {
            face.iter_mut().zip(&shape.identity()[k]).for_each(|(p, d)| *p += *d * weight);
        }
        let face = in_head_space(&shape, &face);
        let yaws: Vec<f32> = (0..24).map(|i| (i as f32 - 11.5) * 0.04).collect();
        let identity = Identity::solve(&shape, 512, &views(&face, &yaws)).unwrap();
        let mean_error =
            identity.neutral().iter().zip(&face).map(|(a, b)| a.distance(*b)).sum::<f32>()
                / LANDMARKS as f32;
        assert!(mean_error < 0.002, "{mean_error} m");
        assert!((identity.neutral()[10].distance(identity.neutral()[152]) - 0.18).abs() < 1e-4);
    }

    #[test]
    fn frames_without_a_face_give_no_identity() {
        let shape = FaceShape::builtin().unwrap();
        let blank = Landmarks::exact(vec![[f32::NAN; 3]; LANDMARKS]);
        assert_eq!(
            Identity::solve(&shape, 512, &[blank]),
            Err(IdentityError::NoFace { frames: 1 })
        );
    }

    #[test]
    fn an_identity_survives_its_bytes_and_damage_is_refused() {
        let shape = FaceShape::builtin().unwrap();
        let identity = Identity::from_points(shape.mean().to_vec()).unwrap();
        let mut bytes = identity.to_bytes();
        assert_eq!(Identity::parse(&bytes), Ok(identity));
        assert!(Identity::parse(&bytes[1..]).is_err());
        bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(Identity::parse(&bytes).is_err());
    }
}
