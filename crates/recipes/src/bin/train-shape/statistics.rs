//! Covariances of shapes and their principal components.

use face_shape::{FACE_OVAL, INNER_LIPS, LEFT_EYE, OUTER_LIPS, RIGHT_EYE};
use numerics::eigen_symmetric;
use rayon::prelude::*;

use crate::labels::Group;
use crate::shape::{DIMS, MESH, POINTS, RIGID, Shape, mean_of};

/// Returns the weight of each point's error: highest where viewers look, lowest on the outline, where
/// labels slide.
pub(crate) fn point_weights() -> [f64; POINTS] {
    let brows = [RIGHT_EYE, LEFT_EYE].map(|eye| [eye.brow_top, eye.brow_bottom]);
    let mut point = [1.0; POINTS];
    for (indices, weight) in [
        (&FACE_OVAL[..], 0.5),
        (brows.as_flattened().as_flattened(), 1.5),
        (&OUTER_LIPS.ring()[..], 2.5),
        (&INNER_LIPS.ring()[..], 3.0),
        (&RIGHT_EYE.ring()[..], 4.0),
        (&LEFT_EYE.ring()[..], 4.0),
    ] {
        for &i in indices {
            point[i] = weight;
        }
    }
    point[MESH..].fill(5.0);
    point
}

/// Returns the weight of each coordinate: [`point_weights`], half for depth, which pictures do not show.
pub(crate) fn metric() -> Vec<f64> {
    point_weights().iter().flat_map(|&w| [w, w, 0.5 * w]).collect()
}

/// Computes the covariance within persons and the covariance between persons, in the metric of `weights`
/// and with the mirror image of every shape included.
pub(crate) fn covariances(
    groups: &[Group],
    mean: &Shape,
    mirror: &[usize],
    weights: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let mut within = vec![0.0; DIMS * DIMS];
    let mut between = vec![0.0; DIMS * DIMS];
    let mut persons = Vec::new();
    let mut noise = 0.0;
    // Clips show motion best; stills of one person add expressions that clips lack.
    for (is_video, share) in [(true, 0.65), (false, 0.35)] {
        let mut rows: Vec<(f64, Vec<f64>)> = Vec::new();
        for group in groups.iter().filter(|g| g.is_video == is_video) {
            let own = mean_of(&group.shapes);
            let n = group.shapes.len() as f64;
            persons.push(weighted_difference(&own, mean, weights, 1.0));
            noise += 1.0 / n;
            // Long clips weigh more than short ones, up to 400 frames.
            let weight = n.min(400.0) / (n - 1.0);
            rows.extend(
                group.shapes.iter().map(|s| (weight, weighted_difference(s, &own, weights, 1.0))),
            );
        }
        // The farthest 1.5 % are mislabelled faces.
        let size = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>();
        let mut sizes: Vec<f64> = rows.iter().map(|(_, r)| size(r)).collect();
        sizes.sort_by(f64::total_cmp);
        let limit = sizes[(sizes.len() - 1) * 985 / 1000];
        rows.retain(|(_, r)| size(r) <= limit);
        remove_pose_bias(&mut rows, mean, weights);
        let mass: f64 = rows.iter().map(|(w, _)| w).sum();
        for (w, r) in &mut rows {
            let factor = (*w * share / mass).sqrt();
            for v in r.iter_mut() {
                *v *= factor;
            }
        }
        add_gram(&mut within, rows.into_iter().map(|(_, r)| r).collect());
    }
    let n = persons.len() as f64;
    let center: Vec<f64> =
        (0..DIMS).map(|d| persons.iter().map(|p| p[d]).sum::<f64>() / n).collect();
    for p in &mut persons {
        p.iter_mut().zip(&center).for_each(|(v, c)| *v = (*v - c) / n.sqrt());
    }
    add_gram(&mut between, persons);
    // Means of few pictures contain part of their expressions (law of total variance).
    for (b, w) in between.iter_mut().zip(&within) {
        *b -= w * noise / n;
    }
    (mirrored(&within, mirror), mirrored(&between, mirror))
}

/// Returns the weighted difference of two shapes.
fn weighted_difference(shape: &Shape, from: &Shape, weights: &[f64], factor: f64) -> Vec<f64> {
    let flat = shape.iter().flatten().zip(from.iter().flatten());
    flat.zip(weights).map(|((a, b), w)| (a - b) * w * factor).collect()
}

/// Removes remaining similarity motions from the rows.
///
/// The alignment uses few points and the depth of the labels is uncertain, so that residuals contain
/// small rotations, shifts and scalings of the whole face, which the pose explains.
fn remove_pose_bias(rows: &mut [(f64, Vec<f64>)], mean: &Shape, weights: &[f64]) {
    let rigid: Vec<usize> = RIGID.to_vec();
    let motions: Vec<Vec<f64>> = (0..7)
        .map(|k| {
            let flat = mean.iter().flat_map(|p| match k {
                0..3 => std::array::from_fn(|c| f64::from(u8::from(c == k))),
                3 => [0.0, -p[2], p[1]],
                4 => [p[2], 0.0, -p[0]],
                5 => [-p[1], p[0], 0.0],
                _ => *p,
            });
            flat.collect()
        })
        .collect();
    // Least squares over x and y of the rigid points, which a picture shows.
    let seen: Vec<usize> = rigid.iter().flat_map(|&i| [3 * i, 3 * i + 1]).collect();
    let mut normal = vec![0.0; 49];
    for a in 0..7 {
        for b in 0..7 {
            normal[a * 7 + b] = seen.iter().map(|&d| motions[a][d] * motions[b][d]).sum::<f64>()
                + if a == b { 1e-9 } else { 0.0 };
        }
    }
    let (values, vectors) = eigen_symmetric(normal, 7);
    rows.par_iter_mut().for_each(|(_, row)| {
        let rhs: Vec<f64> = motions
            .iter()
            .map(|m| seen.iter().map(|&d| m[d] * row[d] / weights[d]).sum())
            .collect();
        for (value, v) in values.iter().zip(vectors.chunks_exact(7)) {
            let along: f64 = v.iter().zip(&rhs).map(|(a, b)| a * b).sum::<f64>() / value;
            for (k, motion) in motions.iter().enumerate() {
                for ((r, m), w) in row.iter_mut().zip(motion).zip(weights) {
                    *r -= along * v[k] * m * w;
                }
            }
        }
    });
}

/// Adds `rowsᵀ · rows` to `sum`, `[DIMS][DIMS]`.
fn add_gram(sum: &mut [f64], rows: Vec<Vec<f64>>) {
    let n = rows.len();
    let columns: Vec<Vec<f64>> =
        (0..DIMS).into_par_iter().map(|d| rows.iter().map(|r| r[d]).collect()).collect();
    drop(rows);
    sum.par_chunks_exact_mut(DIMS).enumerate().for_each(|(a, out)| {
        for (o, column) in out.iter_mut().zip(&columns) {
            *o += dot(&columns[a][..n], column);
        }
    });
}

/// Dot product in eight lanes.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        (0..8).for_each(|i| lanes[i] += a[i] * b[i]);
    }
    lanes.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

/// Averages a covariance with its mirror image.
fn mirrored(covariance: &[f64], mirror: &[usize]) -> Vec<f64> {
    let image =
        |d: usize| (3 * mirror[d / 3] + d % 3, if d.is_multiple_of(3) { -1.0 } else { 1.0 });
    (0..DIMS * DIMS)
        .map(|k| {
            let ((a, sa), (b, sb)) = (image(k / DIMS), image(k % DIMS));
            0.5 * (covariance[k] + sa * sb * covariance[a * DIMS + b])
        })
        .collect()
}

/// Computes the `n` leading principal components in meters per standard deviation by subspace iteration;
/// prints the share of the variance they explain.
pub(crate) fn components(covariance: &[f64], n: usize, weights: &[f64], name: &str) -> Vec<f64> {
    let k = n + 24;
    // A fixed start of full rank, from a linear congruential generator.
    let mut state = 12_345_u64;
    let mut basis: Vec<Vec<f64>> = (0..k)
        .map(|_| {
            (0..DIMS)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 33) as f64 / f64::from(1_u32 << 31) - 0.5
                })
                .collect()
        })
        .collect();
    let mut values = Vec::new();
    for _ in 0..60 {
        orthonormalize(&mut basis);
        let images: Vec<Vec<f64>> = basis
            .par_iter()
            .map(|v| covariance.chunks_exact(DIMS).map(|row| dot(row, v)).collect())
            .collect();
        // Rayleigh-Ritz step: the best vectors within the subspace.
        let small: Vec<f64> = (0..k * k).map(|i| dot(&basis[i / k], &images[i % k])).collect();
        let (found, vectors) = eigen_symmetric(small, k);
        values = found;
        basis = vectors
            .par_chunks_exact(k)
            .map(|v| {
                let mut sum = vec![0.0; DIMS];
                for (weight, image) in v.iter().zip(&images) {
                    sum.iter_mut().zip(image).for_each(|(s, x)| *s += weight * x);
                }
                sum
            })
            .collect();
    }
    orthonormalize(&mut basis);
    let total: f64 = (0..DIMS).map(|d| covariance[d * DIMS + d]).sum();
    let kept: f64 = values[..n].iter().sum();
    println!("{name}: {n} components explain {:.2} % of the variance", 100.0 * kept / total);
    let mut out = Vec::with_capacity(n * DIMS);
    for (value, vector) in values.iter().zip(&basis).take(n) {
        let sigma = value.max(0.0).sqrt();
        // A fixed sign: the largest element is positive.
        let largest = vector.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()));
        let sign = largest.unwrap_or(1.0).signum();
        out.extend(vector.iter().zip(weights).map(|(v, w)| sign * sigma * v / w));
    }
    out
}

/// Orthonormalizes vectors in place (Gram-Schmidt, twice for accuracy).
fn orthonormalize(basis: &mut [Vec<f64>]) {
    for i in 0..basis.len() {
        let (done, rest) = basis.split_at_mut(i);
        let v = &mut rest[0];
        for _ in 0..2 {
            for u in done.iter() {
                let along = dot(u, v);
                v.iter_mut().zip(u).for_each(|(x, y)| *x -= along * y);
            }
        }
        let length = dot(v, v).sqrt();
        for x in v.iter_mut() {
            *x /= length;
        }
    }
}
