use candle_core::{Device, Result, Tensor};
use candle_nn::VarMap;
use numerics::{Cholesky, eigen_symmetric};
use types::EXPRESSION_DIMS;

use crate::Observation;
use crate::history::{INPUT_DIMS, input_of};
use face_shape::FaceShape;

/// Numbers of a frame after whitening: expression, most visible first, then pose.
pub(crate) const WHITE_DIMS: usize = INPUT_DIMS;
/// Bound on whitened numbers, standard deviations.
pub(crate) const CLAMP: f32 = 2.5;
/// Smallest scale of an expression component relative to the first one's, so that components
/// without motion are not amplified.
const FLOOR: f64 = 0.2;
/// Smallest scale of a pose number: half a degree, or a hundredth of the image side.
const POSE_FLOOR: f64 = 0.01;

const K: usize = EXPRESSION_DIMS;

/// Whitening of the embedder's input, its fixed first layer:
/// `white = (input − mean) · basis / scale`.
///
/// The expression part rotates the coefficients to the principal axes of the landmark displacement
/// in the image (weighted by the face shape's weights), most visible first; the pose part only
/// scales. The statistics are those of one person's enrollment.
#[derive(Clone, Debug)]
pub(crate) struct Whitening {
    mean: Vec<f32>,
    /// `[INPUT_DIMS, WHITE_DIMS]`.
    basis: Vec<f32>,
    scale: Vec<f32>,
}

impl Whitening {
    /// Computes the statistics of an enrollment's observations.
    pub(crate) fn new(shape: &FaceShape, seen: &[Observation]) -> Self {
        let inputs: Vec<_> = seen.iter().map(input_of).collect();
        let n = inputs.len().max(1) as f64;
        let mean: Vec<f64> = (0..INPUT_DIMS)
            .map(|d| inputs.iter().map(|i| f64::from(i[d])).sum::<f64>() / n)
            .collect();
        // With `visible = L Lᵀ`, `Lᵀ e` is the expression in units of visible displacement.
        let visible = displacement_products(shape);
        let Some(to_picture) = Cholesky::new(visible, K) else {
            return Self::identity(mean);
        };
        let mut covariance = vec![0.0; K * K];
        for input in &inputs {
            let centered: Vec<f64> = (0..K).map(|k| f64::from(input[k]) - mean[k]).collect();
            let moved = to_picture.upper_times(&centered);
            for (row, a) in covariance.chunks_exact_mut(K).zip(&moved) {
                row.iter_mut().zip(&moved).for_each(|(c, b)| *c += a * b / n);
            }
        }
        let (values, vectors) = eigen_symmetric(covariance, K);
        let first = values[0].max(1e-12).sqrt();
        let mut basis = vec![0.0; INPUT_DIMS * WHITE_DIMS];
        let mut scale = vec![1.0; WHITE_DIMS];
        for (component, (value, vector)) in values.iter().zip(vectors.chunks_exact(K)).enumerate() {
            scale[component] = value.max(0.0).sqrt().max(FLOOR * first) as f32;
            // white = uᵀ Lᵀ e: the column of the basis is L u.
            for (k, weight) in to_picture.lower_times(vector).into_iter().enumerate() {
                basis[k * WHITE_DIMS + component] = weight as f32;
            }
        }
        for d in K..INPUT_DIMS {
            let variance =
                inputs.iter().map(|i| (f64::from(i[d]) - mean[d]).powi(2)).sum::<f64>() / n;
            scale[d] = variance.sqrt().max(POSE_FLOOR) as f32;
            basis[d * WHITE_DIMS + d] = 1.0;
        }
        Self { mean: mean.iter().map(|m| *m as f32).collect(), basis, scale }
    }

    /// No rotation and no scaling, for a face shape whose components are degenerate.
    fn identity(mean: Vec<f64>) -> Self {
        let mut basis = vec![0.0; INPUT_DIMS * WHITE_DIMS];
        (0..INPUT_DIMS).for_each(|d| basis[d * WHITE_DIMS + d] = 1.0);
        Self {
            mean: mean.into_iter().map(|m| m as f32).collect(),
            basis,
            scale: vec![1.0; WHITE_DIMS],
        }
    }

    /// Stores the statistics in the variables of an embedder.
    ///
    /// # Errors
    /// If no embedder was made over the variables.
    pub(crate) fn store(&self, vars: &VarMap) -> Result<()> {
        let device = &Device::Cpu;
        let tensors = [
            ("mean", Tensor::from_slice(&self.mean, INPUT_DIMS, device)?),
            ("basis", Tensor::from_slice(&self.basis, (INPUT_DIMS, WHITE_DIMS), device)?),
            ("scale", Tensor::from_slice(&self.scale, WHITE_DIMS, device)?),
        ];
        let vars = vars.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (name, tensor) in tensors {
            let name = format!("whitening.{name}");
            let var = vars.get(&name).ok_or_else(|| {
                candle_core::Error::Msg(format!("make the embedder first: no variable {name}"))
            })?;
            var.set(&tensor.to_device(var.device())?)?;
        }
        Ok(())
    }
}

/// Returns the weighted dot products of the components' displacements in `x` and `y`, `[K, K]`, with
/// a slight ridge.
fn displacement_products(shape: &FaceShape) -> Vec<f64> {
    let basis = shape.expression();
    let product = |a: usize, b: usize| -> f64 {
        let pairs = basis[a].iter().zip(&basis[b]).zip(shape.weight());
        pairs.map(|((p, q), w)| f64::from(p.truncate().dot(q.truncate()) * w * w)).sum::<f64>()
    };
    let size = product(0, 0);
    (0..K * K)
        .map(|i| product(i / K, i % K) + if i / K == i % K { 1e-9 * size } else { 0.0 })
        .collect()
}
