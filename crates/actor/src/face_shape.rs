use glam::Vec3;
use half::f16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use types::{EXPRESSION_DIMS, Expression, LANDMARKS};

/// Points of the face mesh; the irises follow them.
pub(crate) const MESH: usize = 468;

static BUILTIN: &[u8] = include_bytes!("../../../assets/face_shape.safetensors");

/// Why bytes are not a face shape. Get the asset that belongs to this build.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParseError {
    #[error("the face shape is not a safetensors file")]
    Container(#[from] safetensors::SafeTensorError),
    #[error("tensor {name} of the face shape has shape {shape:?} of {dtype:?}")]
    Tensor { name: &'static str, shape: Vec<usize>, dtype: Dtype },
    #[error("a triangle of the face shape names point {index}")]
    Index { index: u32 },
}

/// The mean face and its expression basis, head space, meters.
pub(crate) struct FaceShape {
    /// Resting mean of people, `[LANDMARKS]`.
    pub mean: Vec<Vec3>,
    /// `[EXPRESSION_DIMS]` of `[LANDMARKS]`, meters per standard deviation.
    pub expression: Vec<Vec<Vec3>>,
    /// Of mesh points.
    pub triangles: Vec<[u32; 3]>,
}

impl FaceShape {
    /// The one that ships.
    pub(crate) fn builtin() -> Self {
        Self::parse(BUILTIN).expect("the embedded face shape was written by this workspace")
    }

    fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let file = SafeTensors::deserialize(bytes)?;
        let mean = points(&file.tensor("mean")?, "mean", &[LANDMARKS, 3])?;
        let basis =
            points(&file.tensor("expression")?, "expression", &[EXPRESSION_DIMS, LANDMARKS, 3])?;
        let view = file.tensor("triangles")?;
        let shape = view.shape();
        if shape.len() != 2 || shape[1] != 3 || !matches!(view.dtype(), Dtype::U32 | Dtype::I32) {
            return Err(wrong("triangles", &view));
        }
        let indices: Vec<u32> = view
            .data()
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        if let Some(&index) = indices.iter().find(|&&i| i as usize >= MESH) {
            return Err(ParseError::Index { index });
        }
        Ok(Self {
            mean,
            expression: basis.chunks_exact(LANDMARKS).map(<[Vec3]>::to_vec).collect(),
            triangles: indices.chunks_exact(3).map(|t| [t[0], t[1], t[2]]).collect(),
        })
    }

    /// Mean plus basis times coefficients: all landmarks in head space, meters.
    pub(crate) fn posed(&self, expression: &Expression) -> Vec<Vec3> {
        let mut points = self.mean.clone();
        for (&weight, component) in expression.as_array().iter().zip(&self.expression) {
            if weight != 0.0 {
                for (point, offset) in points.iter_mut().zip(component) {
                    *point += *offset * weight;
                }
            }
        }
        points
    }
}

fn points(
    view: &TensorView<'_>,
    name: &'static str,
    shape: &[usize],
) -> Result<Vec<Vec3>, ParseError> {
    if view.shape() != shape {
        return Err(wrong(name, view));
    }
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => view
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        Dtype::F16 => {
            view.data().chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
        _ => return Err(wrong(name, view)),
    };
    Ok(values.chunks_exact(3).map(|v| Vec3::new(v[0], v[1], v[2])).collect())
}

fn wrong(name: &'static str, view: &TensorView<'_>) -> ParseError {
    ParseError::Tensor { name, shape: view.shape().to_vec(), dtype: view.dtype() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_shape_is_a_face_of_18_cm() {
        let shape = FaceShape::builtin();
        assert!((shape.mean[10].distance(shape.mean[152]) - 0.18).abs() < 0.01);
        assert!(shape.mean[1].z < shape.mean[234].z, "the nose is in front of the ears");
    }

    #[test]
    fn bytes_that_are_no_shape_are_refused() {
        assert!(FaceShape::parse(b"not a face").is_err());
        assert!(FaceShape::parse(&BUILTIN[..BUILTIN.len() / 2]).is_err());
    }
}
