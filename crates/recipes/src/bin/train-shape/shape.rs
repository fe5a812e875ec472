//! Shapes and their alignment: similarity transforms, common mean, mirror symmetry, head space.

use anyhow::{Result, ensure};
use face_shape::{CHIN, FOREHEAD};
use numerics::eigen_symmetric;
use rayon::prelude::*;

/// Points of a shape; the first [`MESH`] form the mesh, the others are the irises.
pub(crate) const POINTS: usize = types::LANDMARKS;
pub(crate) const MESH: usize = face_shape::MESH_POINTS;
/// Coordinates of a shape.
pub(crate) const DIMS: usize = 3 * POINTS;
/// [`face_shape::FACE_HEIGHT_M`] in the precision of the fit.
const FACE_HEIGHT_M: f64 = 0.18;

/// Points that hardly move with speech and expression: forehead, temples, nose bridge, eye corners.
pub(crate) const RIGID: [usize; 52] = [
    10, 338, 297, 332, 284, 251, 109, 67, 103, 54, 21, 151, 337, 299, 333, 298, 108, 69, 104, 68,
    301, 71, 9, 8, 168, 6, 197, 195, 5, 4, 193, 417, 122, 351, 196, 419, 33, 133, 263, 362, 127,
    356, 234, 454, 162, 389, 139, 368, 143, 372, 156, 383,
];

/// Landmarks of one face, `[POINTS]`.
pub(crate) type Shape = Vec<[f64; 3]>;

/// Aligns all shapes with their common mean (generalized Procrustes analysis over [`RIGID`]) and returns
/// the mean, in which each group has the same weight.
pub(crate) fn align_to_common_mean(groups: &mut [&mut [Shape]]) -> Shape {
    let mut mean = groups[0][0].clone();
    for _ in 0..5 {
        for group in groups.iter_mut() {
            group.par_iter_mut().for_each(|s| *s = aligned_to(s, &mean));
        }
        let means: Vec<Shape> = groups.iter().map(|g| mean_of(g)).collect();
        mean = mean_of(&means);
    }
    mean
}

/// Returns the mean of shapes.
pub(crate) fn mean_of(shapes: &[Shape]) -> Shape {
    let mut sum = vec![[0.0; 3]; POINTS];
    for shape in shapes {
        for (s, p) in sum.iter_mut().zip(shape) {
            (0..3).for_each(|c| s[c] += p[c] / shapes.len() as f64);
        }
    }
    sum
}

/// Applies the similarity transform to `shape` that moves its rigid points closest to those of `target`.
///
/// # Source
/// Horn 1987, "Closed-form solution of absolute orientation using unit quaternions".
pub(crate) fn aligned_to(shape: &Shape, target: &Shape) -> Shape {
    let center = |s: &Shape| {
        let mut c = [0.0; 3];
        for &i in &RIGID {
            (0..3).for_each(|k| c[k] += s[i][k] / RIGID.len() as f64);
        }
        c
    };
    let (from, to) = (center(shape), center(target));
    let mut h = [[0.0; 3]; 3];
    let (mut spread_from, mut spread_to) = (0.0, 0.0);
    for &i in &RIGID {
        for a in 0..3 {
            let x = shape[i][a] - from[a];
            spread_from += x * x;
            spread_to += (target[i][a] - to[a]).powi(2);
            (0..3).for_each(|b| h[a][b] += x * (target[i][b] - to[b]));
        }
    }
    let scale = (spread_to / spread_from).sqrt();
    let trace = h[0][0] + h[1][1] + h[2][2];
    let (p, q, r) = (h[1][2] - h[2][1], h[2][0] - h[0][2], h[0][1] - h[1][0]);
    let mut n = vec![trace, p, q, r];
    for (a, w) in [p, q, r].into_iter().enumerate() {
        n.push(w);
        n.extend((0..3).map(|b| h[a][b] + h[b][a] - if a == b { trace } else { 0.0 }));
    }
    let (_, vectors) = eigen_symmetric(n, 4);
    let [w, x, y, z] = [vectors[0], vectors[1], vectors[2], vectors[3]];
    let rotation = [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
    ];
    shape
        .iter()
        .map(|p| {
            let d = [p[0] - from[0], p[1] - from[1], p[2] - from[2]];
            std::array::from_fn(|a| {
                to[a] + scale * (0..3).map(|b| rotation[a][b] * d[b]).sum::<f64>()
            })
        })
        .collect()
}

/// Returns the index of each point's mirror image, the nearest point to its reflection in the median
/// plane.
///
/// # Errors
/// If the relation is not symmetric.
pub(crate) fn mirror_of(mean: &Shape) -> Result<Vec<usize>> {
    // Known pairs of points determine the normal and the position of the plane.
    let across =
        |a: usize, b: usize| -> [f64; 3] { std::array::from_fn(|c| mean[b][c] - mean[a][c]) };
    let pairs = [(33, 263), (133, 362), (61, 291), (234, 454), (127, 356)];
    let mut normal = [0.0; 3];
    for (a, b) in pairs {
        let d = across(a, b);
        (0..3).for_each(|c| normal[c] += d[c]);
    }
    let length = normal.iter().map(|v| v * v).sum::<f64>().sqrt();
    for v in &mut normal {
        *v /= length;
    }
    let dot = |p: &[f64; 3]| (0..3).map(|c| p[c] * normal[c]).sum::<f64>();
    let offset = pairs.iter().map(|&(a, b)| dot(&mean[a]) + dot(&mean[b])).sum::<f64>() / 10.0;
    let partner: Vec<usize> = (0..POINTS)
        .map(|i| {
            let d = 2.0 * (dot(&mean[i]) - offset);
            let image: [f64; 3] = std::array::from_fn(|c| mean[i][c] - d * normal[c]);
            let range = if i < MESH { 0..MESH } else { MESH..POINTS };
            let far = |j: &usize| (0..3).map(|c| (mean[*j][c] - image[c]).powi(2)).sum::<f64>();
            range.min_by(|a, b| far(a).total_cmp(&far(b))).unwrap_or(i)
        })
        .collect();
    let unpaired = (0..POINTS).filter(|&i| partner[partner[i]] != i).count();
    ensure!(unpaired == 0, "{unpaired} points have no mirror image");
    Ok(partner)
}

/// Returns the mean of a shape and its mirror image, with the median plane at `x = 0`.
pub(crate) fn symmetric(mean: &Shape, mirror: &[usize]) -> Shape {
    let flipped =
        |s: &Shape| -> Shape { mirror.iter().map(|&j| [-s[j][0], s[j][1], s[j][2]]).collect() };
    let mut shape = mean.clone();
    // Alternates averaging and centring until both poses coincide.
    for _ in 0..8 {
        let image = aligned_to(&flipped(&shape), &shape);
        shape = mean_of(&[shape, image]);
        let x = shape.iter().map(|p| p[0]).sum::<f64>() / POINTS as f64;
        for p in &mut shape {
            p[0] -= x;
        }
        let image = flipped(&shape);
        shape = aligned_to(&shape, &mean_of(&[shape.clone(), image]));
    }
    mean_of(&[flipped(&shape), shape])
}

/// Transforms a shape to head space: meters, forehead above chin, origin at the centroid of the mesh.
pub(crate) fn in_head_space(shape: &Shape) -> Shape {
    let (top, chin) = (shape[FOREHEAD], shape[CHIN]);
    let (dy, dz) = (chin[1] - top[1], chin[2] - top[2]);
    let height = dy.hypot(dz);
    let (cos, sin) = (dy / height, dz / height);
    let scale = FACE_HEIGHT_M / height;
    let mut head: Shape = shape
        .iter()
        .map(|p| {
            [p[0] * scale, (cos * p[1] + sin * p[2]) * scale, (cos * p[2] - sin * p[1]) * scale]
        })
        .collect();
    for c in 0..3 {
        let center = head[..MESH].iter().map(|p| p[c]).sum::<f64>() / MESH as f64;
        for p in &mut head {
            p[c] -= center;
        }
    }
    head
}
