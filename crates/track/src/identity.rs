use glam::{Mat3, Vec2, Vec3};
use numerics::Cholesky;
use rayon::prelude::*;
use types::{LANDMARKS, Landmarks};

use crate::fitter::seen_in_sides;
use crate::pose_fit::{NOISE_M, Placement, rotation_between};
use face_shape::{CHIN, FACE_HEIGHT_M, FOREHEAD, FaceShape};

/// Frames that are looked at; more say nothing new.
const MAX_FRAMES: usize = 240;
/// Standard deviation of what the identity components cannot explain of a face, meters.
const RESIDUAL_M: f32 = 0.0015;
/// Errors of neighboring frames are alike: so many frames count as one.
const ALIKE: f32 = 6.0;
/// Rounds of poses and shape; the first ones without the free residual.
const ROUNDS: (usize, usize) = (4, 10);

/// One person's face at rest: the mean of what the enrollment saw of it.
///
/// Solved once at enrollment, then held; expressions are added to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    neutral: Vec<Vec3>,
}

/// Why there is no identity.
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
    /// Bytes of a stored identity.
    pub(crate) const BYTES: usize = LANDMARKS * 12;

    /// An identity from its mesh: `[LANDMARKS]` in head space, meters.
    ///
    /// # Errors
    /// If the number of points is wrong or one lies over a meter from the origin.
    pub fn of_mesh(neutral: Vec<Vec3>) -> Result<Self, IdentityError> {
        let plausible = neutral.iter().all(|p| p.length() < 1.0);
        if neutral.len() != LANDMARKS || !plausible {
            let got = neutral.len() * 12;
            return Err(IdentityError::Damaged { want: Self::BYTES, got });
        }
        Ok(Self { neutral })
    }

    /// The resting face: `[LANDMARKS]` in head space, meters.
    pub fn neutral(&self) -> &[Vec3] {
        &self.neutral
    }

    /// Little-endian f32, `[LANDMARKS, 3]`.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.neutral.iter().flat_map(Vec3::to_array).flat_map(f32::to_le_bytes).collect()
    }

    /// The inverse of [`Identity::to_bytes`].
    ///
    /// # Errors
    /// If the length is wrong or a point is implausible.
    pub fn parse(bytes: &[u8]) -> Result<Self, IdentityError> {
        let damaged = IdentityError::Damaged { want: Self::BYTES, got: bytes.len() };
        if bytes.len() != Self::BYTES {
            return Err(damaged);
        }
        let points = bytes.as_chunks::<4>().0.as_chunks::<3>().0.iter();
        Self::of_mesh(points.map(|p| Vec3::from_array(p.map(f32::from_le_bytes))).collect())
    }
}

/// What the frames say about one point: `information · point = pull`, in 1/m².
#[derive(Clone, Copy, Default)]
struct Evidence {
    information: Mat3,
    pull: Vec3,
}

/// Solves a person's resting face from landmarks of many frames (pictures of `side` pixels).
///
/// A small bundle adjustment: poses of the frames, then the shape given the poses, in turns. The
/// shape is the mean face, plus identity components (unit variance), plus a free residual of
/// 1.5 mm a point; it keeps a face height of 0.18 m and the axes of the mean face. Views from
/// several sides tell depth; with one view depth is what the mean face suggests.
///
/// # Errors
/// If no frame holds a usable face.
pub fn solve_identity(
    shape: &FaceShape,
    side: u32,
    frames: &[Landmarks],
) -> Result<Identity, IdentityError> {
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
        chosen.iter().map(|f| Placement::guess(&face, f, shape.rigid())).collect();
    for round in 0..ROUNDS.0 + ROUNDS.1 {
        placements
            .par_iter_mut()
            .zip(&seen)
            .for_each(|(p, seen)| p.refine(&face, seen, &weights, round > 0, 4));
        let evidence = gather(&placements, &face, &seen);
        face = best_shape(shape, &evidence, round >= ROUNDS.0);
        face = in_head_space(shape, &face);
    }
    Identity::of_mesh(face).map_err(|_| IdentityError::NoFace { frames: frames.len() })
}

fn gather(placements: &[Placement], face: &[Vec3], seen: &[Vec<Vec2>]) -> Vec<Evidence> {
    let per_meter = 1.0 / (NOISE_M * NOISE_M * ALIKE.min(placements.len() as f32));
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

/// The most probable shape given the evidence.
fn best_shape(shape: &FaceShape, evidence: &[Evidence], free: bool) -> Vec<Vec3> {
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
    if free {
        let prior = Mat3::from_diagonal(Vec3::splat(1.0 / (RESIDUAL_M * RESIDUAL_M)));
        for (p, e) in face.iter_mut().zip(evidence) {
            *p += (e.information + prior).inverse() * (e.pull - e.information * *p);
        }
    }
    face
}

/// Takes out what poses can do as well: turns, shifts and scales the face to the mean's place.
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
    fn a_strange_face_seen_from_several_sides_is_solved_to_two_millimeters() {
        let shape = FaceShape::builtin().unwrap();
        let mut face = shape.mean().to_vec();
        for (k, weight) in [(0, 1.5), (1, -1.0), (3, 1.0), (6, 1.0)] {
            face.iter_mut().zip(&shape.identity()[k]).for_each(|(p, d)| *p += *d * weight);
        }
        let face = in_head_space(&shape, &face);
        let yaws: Vec<f32> = (0..24).map(|i| (i as f32 - 11.5) * 0.04).collect();
        let identity = solve_identity(&shape, 512, &views(&face, &yaws)).unwrap();
        let mean_error =
            identity.neutral().iter().zip(&face).map(|(a, b)| a.distance(*b)).sum::<f32>()
                / LANDMARKS as f32;
        assert!(mean_error < 0.002, "{mean_error} m");
        assert!((identity.neutral()[10].distance(identity.neutral()[152]) - 0.18).abs() < 1e-4);
    }

    #[test]
    fn no_face_is_no_identity() {
        let shape = FaceShape::builtin().unwrap();
        let blank = Landmarks::exact(vec![[f32::NAN; 3]; LANDMARKS]);
        assert_eq!(solve_identity(&shape, 512, &[blank]), Err(IdentityError::NoFace { frames: 1 }));
    }

    #[test]
    fn an_identity_survives_its_bytes_and_damaged_ones_are_refused() {
        let shape = FaceShape::builtin().unwrap();
        let identity = Identity::of_mesh(shape.mean().to_vec()).unwrap();
        let mut bytes = identity.to_bytes();
        assert_eq!(Identity::parse(&bytes), Ok(identity));
        assert!(Identity::parse(&bytes[1..]).is_err());
        bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(Identity::parse(&bytes).is_err());
    }
}
