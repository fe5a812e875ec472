//! Mean and principal components of landmark shapes.

use anyhow::{Context, Result, ensure};
use ndarray::Array2;
use rayon::prelude::*;
use track::{Crop, LandmarkNet};
use types::LANDMARKS;

use crate::faces::Face;
use numerics::SplitMix64;

const OUTPUTS: usize = LandmarkNet::OFFSETS;
const COEFFICIENTS: usize = LandmarkNet::COEFFICIENTS;
/// Larger side of the mean face's bounding box, relative to the crop.
const FACE_IN_CROP: f32 = 0.62;

/// Mean face in crop space (side 1, origin at the center) with its mirror symmetry.
pub(crate) struct MeanShape {
    pub(crate) points: Vec<[f32; 3]>,
    /// Index of each landmark's mirror image.
    pub(crate) mirror: Vec<usize>,
}

/// Computes the generalized Procrustes mean of the faces, made symmetric, upright, centered and of fixed
/// size.
///
/// # Errors
/// If there are no faces or their mean is not symmetric.
pub(crate) fn mean_shape(faces: &[Face]) -> Result<MeanShape> {
    ensure!(!faces.is_empty(), "there are no faces to learn from");
    let mut mean: Vec<[f32; 3]> =
        faces[0].points.iter().map(|p| p.map(|v| v / 192.0 - 0.5)).collect();
    for _ in 0..4 {
        let zero = || vec![[0.0_f64; 3]; LANDMARKS];
        let sum = faces
            .par_chunks(256)
            .map(|faces| {
                let mut sum = zero();
                for face in faces {
                    let Some(aligned) = to_crop(&mean, &face.points) else { continue };
                    for (s, p) in sum.iter_mut().zip(aligned) {
                        (0..3).for_each(|c| s[c] += f64::from(p[c]));
                    }
                }
                sum
            })
            .collect::<Vec<_>>()
            .into_iter()
            .fold(zero(), |mut a, b| {
                for (a, b) in a.iter_mut().zip(b) {
                    (0..3).for_each(|c| a[c] += b[c]);
                }
                a
            });
        mean = sum.iter().map(|s| s.map(|v| (v / faces.len() as f64) as f32)).collect();
        mean = normalized(&mean);
    }
    let mirror = LandmarkNet::mirror_pairs(&mean).context("the mean face is not symmetric")?;
    let symmetric = |i: usize| {
        let (p, q) = (mean[i], mean[mirror[i]]);
        [(p[0] - q[0]) / 2.0, f32::midpoint(p[1], q[1]), f32::midpoint(p[2], q[2])]
    };
    let points = normalized(&(0..LANDMARKS).map(symmetric).collect::<Vec<_>>());
    Ok(MeanShape { points, mirror })
}

/// Transforms `points` of a picture to the crop that aligns them with the mean; `z` has the same scale.
fn to_crop(mean: &[[f32; 3]], points: &[[f32; 3]]) -> Option<Vec<[f32; 3]>> {
    let crop = Crop::aligning(mean, points)?;
    let side = crop.side();
    let point = |&[x, y, z]: &[f32; 3]| {
        let [x, y] = crop.crop_from_picture([x, y]);
        [x, y, z / side]
    };
    Some(points.iter().map(point).collect())
}

/// Rotates points until the eyes are level, scales them to [`FACE_IN_CROP`] and centers their bounding
/// box.
fn normalized(points: &[[f32; 3]]) -> Vec<[f32; 3]> {
    let (right, left) = (points[33], points[263]);
    let angle = (left[1] - right[1]).atan2(left[0] - right[0]);
    let (sin, cos) = angle.sin_cos();
    let turned = points.iter().map(|&[x, y, z]| [cos * x + sin * y, cos * y - sin * x, z]);
    let turned: Vec<[f32; 3]> = turned.collect();
    let bounds = |c: usize| {
        let values = turned.iter().map(|p| p[c]);
        (values.clone().fold(f32::MAX, f32::min), values.fold(f32::MIN, f32::max))
    };
    let ((x0, x1), (y0, y1)) = (bounds(0), bounds(1));
    let scale = FACE_IN_CROP / (x1 - x0).max(y1 - y0);
    turned
        .iter()
        .map(|&[x, y, z]| {
            [(x - f32::midpoint(x0, x1)) * scale, (y - f32::midpoint(y0, y1)) * scale, z * scale]
        })
        .collect()
}

/// Computes the principal components of landmark offsets, each scaled by its standard deviation,
/// `[COEFFICIENTS][OUTPUTS]`, by subspace iteration on the covariance of `samples`, each `[OUTPUTS]`.
pub(crate) fn principal_components(samples: &[Vec<f32>]) -> Array2<f32> {
    let n = samples.len();
    let mut data = Array2::<f32>::zeros((n, OUTPUTS));
    for (mut row, sample) in data.rows_mut().into_iter().zip(samples) {
        row.assign(&ndarray::ArrayView1::from(sample.as_slice()));
    }
    let covariance = data.t().dot(&data) / n as f32;
    let mut rng = SplitMix64::stream(11, 0);
    let mut basis = Array2::from_shape_fn((OUTPUTS, COEFFICIENTS), |_| rng.normal_fast());
    let mut deviations = vec![0.0; COEFFICIENTS];
    for _ in 0..20 {
        basis = covariance.dot(&basis);
        for (k, deviation) in deviations.iter_mut().enumerate() {
            let (done, mut rest) = basis.view_mut().split_at(ndarray::Axis(1), k);
            let mut column = rest.column_mut(0);
            for other in done.columns() {
                let along = other.dot(&column);
                column.scaled_add(-along, &other);
            }
            let norm = column.dot(&column).sqrt().max(1e-12);
            column /= norm;
            *deviation = norm.sqrt();
        }
    }
    let mut components = basis.t().to_owned();
    for (mut row, deviation) in components.rows_mut().into_iter().zip(deviations) {
        row *= deviation;
    }
    components
}
