use glam::Vec3;
use half::f16;
use safetensors::{Dtype, SafeTensors};
use types::{EXPRESSION_DIMS, Expression, LANDMARKS};

/// Points of the mesh proper, without the irises.
pub const MESH_POINTS: usize = 468;
/// The shape that ships with the product; docs/MODEL.md tells how it was made.
pub(crate) const BUILTIN: &[u8] = include_bytes!("../../../assets/face_shape.safetensors");

/// More identity components than any asset of ours has: a bound on what is parsed.
const MAX_IDENTITY: usize = 256;

/// The linear 3DMM: every face is `mean + identity · a + expression · e`, in head space, meters.
///
/// Learned from labelled faces by `train-shape`; docs/MODEL.md, "Face shape", says how.
///
/// ```
/// let shape = track::FaceShape::builtin()?;
/// let (top, chin) = (shape.mean()[10], shape.mean()[152]);
/// assert!((top.distance(chin) - 0.18).abs() < 1e-3);
/// # Ok::<(), track::FaceShapeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FaceShape {
    mean: Vec<Vec3>,
    /// One `[LANDMARKS]` per component, meters per standard deviation.
    identity: Vec<Vec<Vec3>>,
    expression: Vec<Vec<Vec3>>,
    triangles: Vec<[u32; 3]>,
    rigid: Vec<usize>,
    weight: Vec<f32>,
}

/// Why bytes are not a face shape. The asset is damaged or from another version: reinstall it, or
/// make it anew with `train-shape`.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FaceShapeError {
    /// Not a safetensors file.
    #[error("the face shape is not a safetensors file: {0}")]
    Container(#[from] safetensors::SafeTensorError),
    /// A tensor is missing its shape or number type.
    #[error("tensor `{name}` of the face shape is {found:?}, not {want}")]
    Tensor { name: &'static str, found: Vec<usize>, want: &'static str },
    /// A number is not finite or no face has it, or an index is out of range.
    #[error("tensor `{name}` of the face shape holds an implausible value")]
    Value { name: &'static str },
}

impl FaceShape {
    /// The shape that ships with the product.
    ///
    /// # Errors
    /// Only if the asset was replaced by a broken one at build time.
    pub fn builtin() -> Result<Self, FaceShapeError> {
        Self::parse(BUILTIN)
    }

    /// A shape from a safetensors file's bytes.
    ///
    /// # Errors
    /// If a tensor is missing, or its size or a value in it cannot be right.
    pub fn parse(bytes: &[u8]) -> Result<Self, FaceShapeError> {
        let file = SafeTensors::deserialize(bytes)?;
        let mean = vectors(&file, "mean")?;
        let identity = vectors(&file, "identity")?;
        let expression = vectors(&file, "expression")?;
        let weight = floats(&file, "weight")?;
        let wrong = |name, want| {
            let found = file.tensor(name).map(|t| t.shape().to_vec()).unwrap_or_default();
            FaceShapeError::Tensor { name, found, want }
        };
        if mean.len() != LANDMARKS {
            return Err(wrong("mean", "[478, 3]"));
        }
        if !identity.len().is_multiple_of(LANDMARKS) || identity.len() > MAX_IDENTITY * LANDMARKS {
            return Err(wrong("identity", "[n, 478, 3]"));
        }
        if expression.len() != EXPRESSION_DIMS * LANDMARKS {
            return Err(wrong("expression", "[79, 478, 3]"));
        }
        if weight.len() != LANDMARKS {
            return Err(wrong("weight", "[478]"));
        }
        if weight.iter().any(|w| *w <= 0.0) {
            return Err(FaceShapeError::Value { name: "weight" });
        }
        let rigid: Vec<usize> =
            indices(&file, "rigid", LANDMARKS)?.into_iter().map(|i| i as usize).collect();
        if rigid.len() < 8 {
            return Err(wrong("rigid", "[at least 8]"));
        }
        let corners = indices(&file, "triangles", MESH_POINTS)?;
        if corners.len() % 3 != 0 {
            return Err(wrong("triangles", "[n, 3]"));
        }
        let split = |all: Vec<Vec3>| all.chunks_exact(LANDMARKS).map(<[Vec3]>::to_vec).collect();
        Ok(Self {
            mean,
            identity: split(identity),
            expression: split(expression),
            triangles: corners.as_chunks::<3>().0.to_vec(),
            rigid,
            weight,
        })
    }

    /// The mean face: `[LANDMARKS]` in head space, meters, mirror-symmetric in `x`.
    pub fn mean(&self) -> &[Vec3] {
        &self.mean
    }

    /// What one standard deviation of each identity component adds, `[LANDMARKS]` meters each.
    pub fn identity(&self) -> &[Vec<Vec3>] {
        &self.identity
    }

    /// What one standard deviation of each expression component adds, `[LANDMARKS]` meters each,
    /// the most visible component first.
    pub fn expression(&self) -> &[Vec<Vec3>] {
        &self.expression
    }

    /// A triangulation of the mesh points, eyes and mouth left open; clockwise seen from the front.
    pub fn triangles(&self) -> &[[u32; 3]] {
        &self.triangles
    }

    /// The points that expressions hardly move.
    pub fn rigid(&self) -> &[usize] {
        &self.rigid
    }

    /// How much an error at each point counts: most at eyes and lips, least along the outline.
    pub fn weight(&self) -> &[f32] {
        &self.weight
    }

    /// Adds an expression to a resting face, both in head space, meters.
    ///
    /// # Panics
    /// If `neutral` does not have [`LANDMARKS`] points.
    pub fn with_expression(&self, neutral: &[Vec3], expression: &Expression) -> Vec<Vec3> {
        assert_eq!(neutral.len(), LANDMARKS, "a face has a point for every landmark");
        let mut face = neutral.to_vec();
        for (component, weight) in self.expression.iter().zip(expression.as_array()) {
            face.iter_mut().zip(component).for_each(|(p, d)| *p += *d * *weight);
        }
        face
    }
}

fn floats(file: &SafeTensors<'_>, name: &'static str) -> Result<Vec<f32>, FaceShapeError> {
    let tensor = file.tensor(name)?;
    let values: Vec<f32> = match tensor.dtype() {
        Dtype::F32 => tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => {
            tensor.data().as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()
        }
        _ => {
            let found = tensor.shape().to_vec();
            return Err(FaceShapeError::Tensor { name, found, want: "f16 or f32" });
        }
    };
    // Meters, or weights near one.
    if values.iter().all(|v| v.abs() < 100.0) {
        Ok(values)
    } else {
        Err(FaceShapeError::Value { name })
    }
}

fn vectors(file: &SafeTensors<'_>, name: &'static str) -> Result<Vec<Vec3>, FaceShapeError> {
    let values = floats(file, name)?;
    let shape = file.tensor(name)?.shape().to_vec();
    if !shape.ends_with(&[LANDMARKS, 3]) {
        return Err(FaceShapeError::Tensor { name, found: shape, want: "[.., 478, 3]" });
    }
    Ok(values.as_chunks::<3>().0.iter().map(|v| Vec3::from_array(*v)).collect())
}

fn indices(
    file: &SafeTensors<'_>,
    name: &'static str,
    below: usize,
) -> Result<Vec<u32>, FaceShapeError> {
    let tensor = file.tensor(name)?;
    if tensor.dtype() != Dtype::U32 {
        let found = tensor.shape().to_vec();
        return Err(FaceShapeError::Tensor { name, found, want: "u32" });
    }
    let values: Vec<u32> =
        tensor.data().as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    if values.iter().all(|&v| (v as usize) < below) {
        Ok(values)
    } else {
        Err(FaceShapeError::Value { name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_face_is_symmetric_upright_and_looks_at_the_camera() {
        let shape = FaceShape::builtin().unwrap();
        let at = |i: usize| shape.mean()[i];
        for (right, left) in [(33, 263), (133, 362), (61, 291), (234, 454), (468, 473)] {
            assert!((at(right) * Vec3::new(-1.0, 1.0, 1.0)).distance(at(left)) < 1e-5);
            assert!(at(right).x < 0.0, "the subject's right is on the picture's left");
        }
        assert!(at(10).y < at(1).y && at(1).y < at(152).y);
        assert!(at(1).z < at(234).z, "the nose is nearer to the camera than the cheeks");
        let center = shape.mean()[..MESH_POINTS].iter().sum::<Vec3>() / MESH_POINTS as f32;
        assert!(center.length() < 1e-5);
    }

    #[test]
    fn every_triangle_of_the_mean_face_turns_the_same_way() {
        let shape = FaceShape::builtin().unwrap();
        for t in shape.triangles() {
            let [a, b, c] = t.map(|i| shape.mean()[i as usize]);
            assert!((b - a).cross(c - a).z > 0.0, "{t:?}");
        }
    }

    #[test]
    fn components_come_in_order_and_move_lids_lips_and_irises() {
        let shape = FaceShape::builtin().unwrap();
        let size = |c: &[Vec3]| {
            c.iter().zip(shape.weight()).map(|(d, w)| d.truncate().length_squared() * w * w).sum()
        };
        let sizes: Vec<f32> = shape.expression().iter().map(|c| size(c)).collect();
        assert!(sizes[0] > sizes[78] * 100.0);
        // Of what lids, lips and irises do, the first 24 components must hold nearly all.
        for i in [159, 145, 13, 14, 468, 473] {
            let energy = |n: usize| -> f32 {
                shape.expression()[..n].iter().map(|c| c[i].truncate().length_squared()).sum()
            };
            assert!(energy(24) > 0.8 * energy(79), "point {i}: {} {}", energy(24), energy(79));
        }
    }

    #[test]
    fn broken_bytes_are_refused_and_never_panic() {
        let bytes = BUILTIN;
        for end in [0, 7, 8, 100, bytes.len() - 1] {
            assert!(FaceShape::parse(&bytes[..end]).is_err());
        }
        let mut nan = bytes.to_vec();
        let end = nan.len();
        nan[end - 200_000..].fill(0xff);
        assert!(FaceShape::parse(&nan).is_err());
    }
}
