use types::{FEATURE_DIMS, FOCAL, Feature, LEARNED_DIMS, POSE_DIMS};

use crate::profile::FeatureMatrix;

/// Sensitivity of the rendered picture to errors in a feature.
///
/// A symmetric matrix `M`: a small error `x` of a feature causes the mean squared error `xᵀ M x`
/// in the picture, over all pixels and color channels with values in 0..=1. Pixels may be weighted.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorSensitivity(FeatureMatrix);

impl ErrorSensitivity {
    /// Returns the sensitivity `matrix`: the mean over features of `JᵀJ / n`, where `J` is the
    /// Jacobian of the `n` values of a picture.
    ///
    /// The matrix is symmetrized; elements that are not finite count as 0.
    pub fn from_matrix(matrix: &[[f64; FEATURE_DIMS]; FEATURE_DIMS]) -> Self {
        let finite = |v: f64| if v.is_finite() { v } else { 0.0 };
        Self(std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                let both = f64::midpoint(finite(matrix[i][j]), finite(matrix[j][i]));
                if i == j { both.max(0.0) } else { both }
            })
        }))
    }

    /// Estimates the sensitivity from geometry alone, when there is no field to render.
    ///
    /// Two kinds of errors are taken to be equally visible: a displacement of the head or the torso
    /// by half a pixel in a 512-pixel picture, and an error of a learned number of the code by a
    /// third of its standard deviation over `features`.
    pub fn from_geometry(features: &[Feature]) -> Self {
        let n = features.len().max(1) as f64;
        let displacement = 0.5 / 512.0;
        let depth = features.iter().map(|f| f64::from(f.pose.translation().z)).sum::<f64>() / n;
        let depth = if features.is_empty() { 1.1 } else { depth.clamp(0.2, 5.0) };
        // A point at distance r from the head's origin moves by `r * angle * FOCAL / depth` sides
        // of the picture; r is 9 cm, and 7 cm in the image plane.
        let across = displacement * depth / f64::from(FOCAL);
        let mut steps = [0.0; FEATURE_DIMS];
        steps[..3].fill(across / 0.09);
        steps[3..POSE_DIMS].copy_from_slice(&[across, across, across * depth / 0.07]);
        for (dim, step) in steps.iter_mut().enumerate().skip(POSE_DIMS).take(LEARNED_DIMS) {
            let values = || features.iter().map(|f| f64::from(f.to_array()[dim]));
            let mean = values().sum::<f64>() / n;
            let variance = values().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
            *step = variance.sqrt().clamp(0.1, 10.0) / 3.0;
        }
        // Points of the torso are a quarter of a side from its center.
        let slope = displacement / 0.25;
        steps[POSE_DIMS + LEARNED_DIMS..].copy_from_slice(&[
            slope,
            slope,
            displacement,
            slope,
            slope,
            displacement,
        ]);
        // Faces have an edge of half the value range about every 20 pixels; a displacement by one
        // step changes the picture by about this mean square.
        let visible = 1e-6;
        let mut matrix = numerics::zero();
        for (dim, step) in steps.iter().enumerate() {
            matrix[dim][dim] = visible / (step * step);
        }
        Self(matrix)
    }

    /// Returns the matrix, row by row.
    pub(crate) fn matrix(&self) -> &FeatureMatrix {
        &self.0
    }
}
