use glam::Vec3;
use half::f16;
use safetensors::{Dtype, SafeTensors};
use types::{EXPRESSION_DIMS, Expression, LANDMARKS};

/// Number of points of the mesh. The points of the irises follow them and are not counted.
pub const MESH_POINTS: usize = 468;
/// Distance from the forehead to the chin of every face in head space, meters.
///
/// One camera cannot measure the size of a head, so all heads are given the same.
pub const FACE_HEIGHT_M: f32 = 0.18;

/// Largest number of identity components that is parsed; the shipped model has 48.
const MAX_IDENTITY: usize = 256;

/// Linear 3D face model (3DMM): `face = mean + identity · a + expression · e`.
///
/// Points are [`LANDMARKS`] in head space, meters; coefficients are in standard deviations. The
/// model is learned from labelled faces by the recipe `train-shape` (docs/TRACKER.md, "Face
/// shape").
///
/// # Source
/// Blanz, Vetter 1999, "A morphable model for the synthesis of 3D faces", for the linear model.
///
/// # Examples
/// ```
/// use face_shape::{CHIN, FACE_HEIGHT_M, FOREHEAD, FaceShape};
/// let shape = FaceShape::builtin()?;
/// let height = shape.mean()[FOREHEAD].distance(shape.mean()[CHIN]);
/// assert!((height - FACE_HEIGHT_M).abs() < 1e-3);
/// # Ok::<(), face_shape::FaceShapeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FaceShape {
    mean: Vec<Vec3>,
    identity: Vec<Vec<Vec3>>,
    expression: Vec<Vec<Vec3>>,
    triangles: Vec<[u32; 3]>,
    rigid: Vec<usize>,
    weight: Vec<f32>,
}

/// Why bytes are not a face shape.
///
/// The asset is damaged or belongs to another version: reinstall it, or train it again with
/// `train-shape`.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FaceShapeError {
    /// The container is not a safetensors file, or lacks a tensor.
    #[error("the face shape is not a safetensors file: {0}")]
    Container(#[from] safetensors::SafeTensorError),
    /// A tensor has another shape or number type.
    #[error("tensor `{name}` of the face shape is {found:?}, not {want}")]
    Tensor { name: &'static str, found: Vec<usize>, want: &'static str },
    /// A number is not finite or out of range.
    #[error("tensor `{name}` of the face shape holds an implausible value")]
    Value { name: &'static str },
}

impl FaceShape {
    /// Bytes of the model that ships with the product, a safetensors file.
    pub const BUILTIN_BYTES: &[u8] = include_bytes!("../../../assets/face_shape.safetensors");

    /// Parses the model that ships with the product.
    ///
    /// # Errors
    /// Only if the asset was replaced by a broken one at build time.
    pub fn builtin() -> Result<Self, FaceShapeError> {
        Self::parse(Self::BUILTIN_BYTES)
    }

    /// Parses a model from the bytes of a safetensors file.
    ///
    /// Tensors: `mean` `[478, 3]`, `identity` `[n, 478, 3]` with `n` up to 256, `expression`
    /// `[79, 478, 3]` and `weight` `[478]` in F16 or F32; `rigid` `[at least 8]` and `triangles`
    /// `[n, 3]`, both indices of points, in U32.
    ///
    /// # Errors
    /// If a tensor is missing, or its shape, its type or a value in it is invalid.
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

    /// Returns the mean face: `[LANDMARKS]` in head space, meters, mirror-symmetric in `x`.
    pub fn mean(&self) -> &[Vec3] {
        &self.mean
    }

    /// Returns the identity components, `[n]` of `[LANDMARKS]`: the displacement for one standard
    /// deviation, meters, largest component first.
    pub fn identity(&self) -> &[Vec<Vec3>] {
        &self.identity
    }

    /// Returns the expression components, `[EXPRESSION_DIMS]` of `[LANDMARKS]`: the displacement
    /// for one standard deviation, meters, most visible component first.
    pub fn expression(&self) -> &[Vec<Vec3>] {
        &self.expression
    }

    /// Returns the triangles of the mesh as point indices, clockwise as the camera sees them.
    ///
    /// No triangles cover the openings of the eyes and the mouth.
    pub fn triangles(&self) -> &[[u32; 3]] {
        &self.triangles
    }

    /// Returns the indices of the points that expressions hardly move.
    pub fn rigid(&self) -> &[usize] {
        &self.rigid
    }

    /// Returns the relative importance of each point, `[LANDMARKS]`, positive and without unit:
    /// largest at eyes and lips, smallest along the outline.
    ///
    /// A fit to landmarks multiplies the squared error of each point by it. A metric of
    /// displacements multiplies the displacement of each point by it.
    pub fn weight(&self) -> &[f32] {
        &self.weight
    }

    /// Adds an expression to a resting face, both in head space, meters; returns `[LANDMARKS]`.
    ///
    /// # Panics
    /// If `neutral` does not have [`LANDMARKS`] points.
    pub fn with_expression(&self, neutral: &[Vec3], expression: &Expression) -> Vec<Vec3> {
        assert_eq!(neutral.len(), LANDMARKS, "a face has one point per landmark");
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
    // Meters and weights of order one: anything larger is damage, as is NaN.
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
    fn the_mean_face_is_symmetric_upright_and_faces_the_camera() {
        let shape = FaceShape::builtin().unwrap();
        let at = |i: usize| shape.mean()[i];
        for (right, left) in [(33, 263), (133, 362), (61, 291), (234, 454), (468, 473)] {
            assert!((at(right) * Vec3::new(-1.0, 1.0, 1.0)).distance(at(left)) < 1e-5);
            assert!(at(right).x < 0.0, "the subject's right side is on the left of the image");
        }
        assert!(at(10).y < at(1).y && at(1).y < at(152).y);
        assert!(at(1).z < at(234).z, "the nose is nearer to the camera than the cheeks");
        let center = shape.mean()[..MESH_POINTS].iter().sum::<Vec3>() / MESH_POINTS as f32;
        assert!(center.length() < 1e-5);
    }

    #[test]
    fn all_triangles_of_the_mean_face_have_the_same_winding() {
        let shape = FaceShape::builtin().unwrap();
        for t in shape.triangles() {
            let [a, b, c] = t.map(|i| shape.mean()[i as usize]);
            assert!((b - a).cross(c - a).z > 0.0, "{t:?}");
        }
    }

    #[test]
    fn components_are_ordered_and_move_lids_lips_and_irises() {
        let shape = FaceShape::builtin().unwrap();
        let size = |c: &[Vec3]| {
            c.iter().zip(shape.weight()).map(|(d, w)| d.truncate().length_squared() * w * w).sum()
        };
        let sizes: Vec<f32> = shape.expression().iter().map(|c| size(c)).collect();
        assert!(sizes[0] > sizes[78] * 100.0);
        // The first 24 components hold nearly all motion of lids, lips and irises.
        for i in [159, 145, 13, 14, 468, 473] {
            let energy = |n: usize| -> f32 {
                shape.expression()[..n].iter().map(|c| c[i].truncate().length_squared()).sum()
            };
            assert!(energy(24) > 0.8 * energy(79), "point {i}: {} {}", energy(24), energy(79));
        }
    }

    #[test]
    fn damaged_bytes_are_refused_without_panic() {
        let bytes = FaceShape::BUILTIN_BYTES;
        for end in [0, 7, 8, 100, bytes.len() - 1] {
            assert!(FaceShape::parse(&bytes[..end]).is_err());
        }
        let mut nan = bytes.to_vec();
        let end = nan.len();
        nan[end - 200_000..].fill(0xff);
        assert!(FaceShape::parse(&nan).is_err());
    }
}
