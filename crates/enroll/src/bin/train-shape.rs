//! Learns the linear face shape (`assets/face_shape.safetensors`) from labelled faces and clips.
//!
//! ```text
//! cargo run --release -p enroll --bin train-shape -- FACES_DIR CLIPS_DIR OUT.safetensors
//! ```
//!
//! `FACES_DIR` holds `landmarks.safetensors` and `index.csv`, `CLIPS_DIR` holds
//! `*.landmarks.npz`: 478 points a face, pixels, weak perspective. docs/MODEL.md, "Face shape",
//! says what is learned and why; the result is the same on every run.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use face_shape::{FACE_OVAL, INNER_LIPS, LEFT_EYE, OUTER_LIPS, RIGHT_EYE};
use numerics::eigen_symmetric;
use rayon::prelude::*;
use safetensors::SafeTensors;

const POINTS: usize = types::LANDMARKS;
const MESH: usize = face_shape::MESH_POINTS;
const DIMS: usize = 3 * POINTS;
const N_EXPRESSION: usize = 79;
const N_IDENTITY: usize = 48;
/// [`face_shape::FACE_HEIGHT_M`] in the precision of the fit.
const FACE_HEIGHT_M: f64 = 0.18;

/// Points that speech and expression hardly move: forehead, temples, nose bridge, eye corners.
const RIGID: [usize; 52] = [
    10, 338, 297, 332, 284, 251, 109, 67, 103, 54, 21, 151, 337, 299, 333, 298, 108, 69, 104, 68,
    301, 71, 9, 8, 168, 6, 197, 195, 5, 4, 193, 417, 122, 351, 196, 419, 33, 133, 263, 362, 127,
    356, 234, 454, 162, 389, 139, 368, 143, 372, 156, 383,
];
type Shape = Vec<[f64; 3]>;

/// Label sets of one person under one set-up.
struct Group {
    shapes: Vec<Shape>,
    /// A clip or video: many pictures of the same person in the same light.
    video: bool,
}

fn main() -> Result<()> {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [faces, clips, out] = args.as_slice() else {
        bail!("usage: train-shape FACES_DIR CLIPS_DIR OUT.safetensors");
    };
    let mut groups = read_clips(clips)?;
    groups.extend(read_faces(faces)?);
    let n: usize = groups.iter().map(|g| g.shapes.len()).sum();
    println!("{n} label sets in {} groups", groups.len());

    let mean = aligned_mean(&mut groups);
    let mirror = mirror_of(&mean)?;
    let mean = in_head_space(&symmetric(&mean, &mirror));
    for group in &mut groups {
        group.shapes.par_iter_mut().for_each(|s| *s = aligned_to(s, &mean));
    }

    let weights = metric();
    let (within, between) = covariances(&groups, &mean, &mirror, &weights);
    let expression = components(&within, N_EXPRESSION, &weights, "expression");
    let identity = components(&between, N_IDENTITY, &weights, "identity");
    let triangles = triangulate(&mean)?;
    println!("{} triangles", triangles.len());
    write(out, &mean, &identity, &expression, &triangles)
}

fn read_clips(dir: &Path) -> Result<Vec<Group>> {
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .with_context(|| format!("list the clips in {}", dir.display()))?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    paths.retain(|p| p.to_string_lossy().ends_with(".landmarks.npz"));
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let bytes = std::fs::read(path)?;
            let values = enroll::floats_of_npz(&bytes)
                .with_context(|| format!("{} is not an .npz of one f32 array", path.display()))?;
            ensure!(values.len() % DIMS == 0, "{}: wrong shape", path.display());
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let shapes = values.chunks_exact(DIMS).filter(|s| s.iter().all(|v| v.is_finite()));
            Ok(Group { shapes: shapes.map(shape_of).collect(), video: true })
        })
        .collect()
}

fn read_faces(dir: &Path) -> Result<Vec<Group>> {
    let bytes = std::fs::read(dir.join("landmarks.safetensors"))
        .with_context(|| format!("read the labels in {}", dir.display()))?;
    let file = SafeTensors::deserialize(&bytes)?;
    let labels = file.tensor("landmarks_q7")?;
    ensure!(labels.shape().get(1..) == Some(&[POINTS, 3]), "landmarks_q7 has a wrong shape");
    let values: Vec<f64> = labels
        .data()
        .chunks_exact(2)
        .map(|b| f64::from(i16::from_le_bytes([b[0], b[1]])) / 128.0)
        .collect();
    let index = std::fs::read_to_string(dir.join("index.csv"))?;
    let mut by_person: BTreeMap<String, Group> = BTreeMap::new();
    for (row, (line, values)) in index.lines().skip(1).zip(values.chunks_exact(DIMS)).enumerate() {
        let columns: Vec<&str> = line.split(',').collect();
        ensure!(columns.len() >= 7, "index.csv: row {row} is cut short");
        let (kind, source, identity) = (columns[2], columns[3], columns[5]);
        if kind == "clip_frame" || identity.is_empty() {
            continue; // clips are read in full elsewhere; a stranger tells nothing about change
        }
        let key = format!("{kind} {source} {identity}");
        let video = kind == "video_frame";
        by_person
            .entry(key)
            .or_insert_with(|| Group { shapes: Vec::new(), video })
            .shapes
            .push(shape_of(values));
    }
    Ok(by_person.into_values().filter(|g| g.shapes.len() >= 3).collect())
}

fn shape_of(values: &[f64]) -> Shape {
    values.as_chunks::<3>().0.to_vec()
}

/// Moves every shape onto the common mean (similarity over [`RIGID`]) and returns that mean,
/// each group counting the same.
fn aligned_mean(groups: &mut [Group]) -> Shape {
    let mut mean = groups[0].shapes[0].clone();
    for _ in 0..5 {
        for group in groups.iter_mut() {
            group.shapes.par_iter_mut().for_each(|s| *s = aligned_to(s, &mean));
        }
        let means: Vec<Shape> = groups.iter().map(|g| mean_of(&g.shapes)).collect();
        mean = mean_of(&means);
    }
    mean
}

fn mean_of(shapes: &[Shape]) -> Shape {
    let mut sum = vec![[0.0; 3]; POINTS];
    for shape in shapes {
        for (s, p) in sum.iter_mut().zip(shape) {
            (0..3).for_each(|c| s[c] += p[c] / shapes.len() as f64);
        }
    }
    sum
}

/// The similarity of `shape` whose rigid points lie nearest to those of `target` (Horn 1987).
fn aligned_to(shape: &Shape, target: &Shape) -> Shape {
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

/// Which point is each point's mirror image: the nearest one across the median plane.
///
/// The plane is found first, as the similarity that maps the mirrored mean onto itself.
fn mirror_of(mean: &Shape) -> Result<Vec<usize>> {
    // Eye corners are known to be partners; they give the plane's normal and place.
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

/// The mean of a shape and its mirror image, with the median plane at `x = 0`.
fn symmetric(mean: &Shape, mirror: &[usize]) -> Shape {
    let flipped =
        |s: &Shape| -> Shape { mirror.iter().map(|&j| [-s[j][0], s[j][1], s[j][2]]).collect() };
    let mut shape = mean.clone();
    // Half way between the two poses of the pair; three rounds are plenty (the tilt is small).
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

/// Head space: meters, forehead above chin, origin in the middle of the mesh.
fn in_head_space(shape: &Shape) -> Shape {
    let (top, chin) = (shape[10], shape[152]);
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

/// How much an error of each point counts: what viewers look at counts most, the outline, where
/// the labels slide, least.
fn point_weights() -> [f64; POINTS] {
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

/// [`point_weights`] of every coordinate, depth at half: no picture shows it.
fn metric() -> Vec<f64> {
    point_weights().iter().flat_map(|&w| [w, w, 0.5 * w]).collect()
}

/// Covariance of change within a person, and of the difference between persons, in the metric,
/// made symmetric by counting every shape's mirror image too.
fn covariances(
    groups: &[Group],
    mean: &Shape,
    mirror: &[usize],
    weights: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let mut within = vec![0.0; DIMS * DIMS];
    let mut between = vec![0.0; DIMS * DIMS];
    let mut persons = Vec::new();
    let mut noise = 0.0;
    // Clips show change best; stills of one person add the expressions that clips lack.
    for (video, share) in [(true, 0.65), (false, 0.35)] {
        let mut rows: Vec<(f64, Vec<f64>)> = Vec::new();
        for group in groups.iter().filter(|g| g.video == video) {
            let own = mean_of(&group.shapes);
            let n = group.shapes.len() as f64;
            persons.push(scaled(&own, mean, weights, 1.0));
            noise += 1.0 / n;
            // A long clip counts more than a short one, but not in proportion.
            let weight = n.min(400.0) / (n - 1.0);
            rows.extend(group.shapes.iter().map(|s| (weight, scaled(s, &own, weights, 1.0))));
        }
        // Mislabelled faces are farther from their person's mean than any face can go.
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
    // The mean of few pictures still holds some of their expressions: law of total variance.
    for (b, w) in between.iter_mut().zip(&within) {
        *b -= w * noise / n;
    }
    (mirrored(&within, mirror), mirrored(&between, mirror))
}

fn scaled(shape: &Shape, from: &Shape, weights: &[f64], factor: f64) -> Vec<f64> {
    let flat = shape.iter().flatten().zip(from.iter().flatten());
    flat.zip(weights).map(|((a, b), w)| (a - b) * w * factor).collect()
}

/// Takes out what is left of a rigid motion: the alignment rests on few points, and the labels'
/// depth is a guess, so residuals still hold small rotations, shifts and scalings of the whole
/// face, which a pose will explain.
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
    // Least squares over the rigid points' x and y only: what a picture shows of a pose.
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

/// Adds `rowsᵀ · rows`.
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

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        (0..8).for_each(|i| lanes[i] += a[i] * b[i]);
    }
    lanes.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

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

/// The leading principal components, in meters per standard deviation, by subspace iteration.
fn components(covariance: &[f64], n: usize, weights: &[f64], name: &str) -> Vec<f64> {
    let k = n + 24;
    // A fixed, full-rank start: a linear congruential generator's bits.
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
        // Rayleigh-Ritz: the best vectors inside the subspace.
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
    println!("{name}: {n} components hold {:.2} % of the variance", 100.0 * kept / total);
    let mut out = Vec::with_capacity(n * DIMS);
    for (value, vector) in values.iter().zip(&basis).take(n) {
        let sigma = value.max(0.0).sqrt();
        // One sign for all time: the largest element is positive.
        let largest = vector.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()));
        let sign = largest.unwrap_or(1.0).signum();
        out.extend(vector.iter().zip(weights).map(|(v, w)| sign * sigma * v / w));
    }
    out
}

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

/// Delaunay triangles of the mesh points, unrolled from a cylinder around the head, without the
/// insides of eyes and mouth; seen from the front, corners run clockwise in the picture.
fn triangulate(mean: &Shape) -> Result<Vec<[u32; 3]>> {
    let axis = mean[..MESH].iter().map(|p| p[2]).fold(f64::MIN, f64::max) + 0.02;
    let flat: Vec<[f64; 2]> =
        mean[..MESH].iter().map(|p| [0.1 * p[0].atan2(axis - p[2]), p[1]]).collect();
    let flat = parted(flat, &INNER_LIPS.ring());
    let mut points = flat.clone();
    points.extend([[-10.0, -9.0], [10.0, -9.1], [0.1, 15.0]]);
    let mut triangles = vec![[MESH, MESH + 1, MESH + 2]];
    for i in 0..MESH {
        let (hit, kept): (Vec<_>, Vec<_>) =
            triangles.into_iter().partition(|t| in_circle(&points, t, points[i]));
        triangles = kept;
        let edges: Vec<[usize; 2]> =
            hit.iter().flat_map(|&[a, b, c]| [[a, b], [b, c], [c, a]]).collect();
        for &[a, b] in edges.iter().filter(|&&[a, b]| !edges.contains(&[b, a])) {
            triangles.push([a, b, i]);
        }
    }
    triangles.retain(|t| t.iter().all(|&i| i < MESH));
    for (name, ring) in [
        ("right eye", &RIGHT_EYE.ring()[..]),
        ("left eye", &LEFT_EYE.ring()[..]),
        ("mouth", &INNER_LIPS.ring()[..]),
        ("face outline", &FACE_OVAL[..]),
    ] {
        let broken: Vec<[usize; 2]> = (0..ring.len())
            .map(|k| [ring[k], ring[(k + 1) % ring.len()]])
            .filter(|edge| !triangles.iter().any(|t| edge.iter().all(|i| t.contains(i))))
            .collect();
        ensure!(
            broken.is_empty(),
            "edges {broken:?} around the {name} are not in the triangulation"
        );
        let outline = ring == &FACE_OVAL[..];
        triangles.retain(|t| {
            let all_on = t.iter().all(|i| ring.contains(i));
            let center: [f64; 2] =
                std::array::from_fn(|c| t.iter().map(|&i| flat[i][c]).sum::<f64>() / 3.0);
            !(all_on && inside(ring, &flat, center) != outline)
        });
    }
    Ok(triangles.into_iter().map(|t| t.map(|i| i as u32)).collect())
}

/// Parts closed lips: moves what is above the line between them up, and the rest down.
///
/// The mean mouth is almost shut, and triangles would grow from lip to lip across the slit.
fn parted(mut flat: Vec<[f64; 2]>, lips: &[usize; 20]) -> Vec<[f64; 2]> {
    let slit: Vec<[f64; 2]> = (0..=10)
        .map(|k| {
            let (a, b) = (flat[lips[k]], flat[lips[(20 - k) % 20]]);
            [f64::midpoint(a[0], b[0]), f64::midpoint(a[1], b[1])]
        })
        .collect();
    let (left, right) = (slit[0][0], slit[10][0]);
    for (i, p) in flat.iter_mut().enumerate() {
        let Some(k) = (0..10).find(|&k| (slit[k][0]..slit[k + 1][0]).contains(&p[0])) else {
            continue;
        };
        let t = (p[0] - slit[k][0]) / (slit[k + 1][0] - slit[k][0]);
        let line = slit[k][1] + t * (slit[k + 1][1] - slit[k][1]);
        let up = match lips.iter().position(|&j| j == i) {
            Some(on_ring) => on_ring < 10,
            None => p[1] < line,
        };
        let gap = 0.02 * ((p[0] - left) * (right - p[0])).sqrt() / (right - left);
        p[1] += if up { -gap } else { gap };
    }
    flat
}

fn in_circle(points: &[[f64; 2]], &[a, b, c]: &[usize; 3], p: [f64; 2]) -> bool {
    let rows = [a, b, c].map(|i| {
        let (x, y) = (points[i][0] - p[0], points[i][1] - p[1]);
        [x, y, x * x + y * y]
    });
    let [r, s, t] = rows;
    let det = r[0] * (s[1] * t[2] - s[2] * t[1]) - r[1] * (s[0] * t[2] - s[2] * t[0])
        + r[2] * (s[0] * t[1] - s[1] * t[0]);
    det > 0.0
}

fn inside(ring: &[usize], flat: &[[f64; 2]], p: [f64; 2]) -> bool {
    (0..ring.len())
        .filter(|&k| {
            let (a, b) = (flat[ring[k]], flat[ring[(k + 1) % ring.len()]]);
            (a[1] > p[1]) != (b[1] > p[1])
                && p[0] < a[0] + (p[1] - a[1]) / (b[1] - a[1]) * (b[0] - a[0])
        })
        .count()
        % 2
        == 1
}

fn write(
    out: &Path,
    mean: &Shape,
    identity: &[f64],
    expression: &[f64],
    triangles: &[[u32; 3]],
) -> Result<()> {
    let device = Device::Cpu;
    let tensor = |values: Vec<f64>, shape: &[usize], dtype| {
        Tensor::from_vec(values, shape, &device)?.to_dtype(DType::F32)?.to_dtype(dtype)
    };
    let n = triangles.len();
    let rigid: Vec<u32> = RIGID.iter().map(|&i| i as u32).collect();
    let tensors = HashMap::from([
        ("mean", tensor(mean.iter().flatten().copied().collect(), &[POINTS, 3], DType::F32)?),
        ("identity", tensor(identity.to_vec(), &[N_IDENTITY, POINTS, 3], DType::F16)?),
        ("expression", tensor(expression.to_vec(), &[N_EXPRESSION, POINTS, 3], DType::F16)?),
        (
            "triangles",
            Tensor::from_vec(triangles.iter().flatten().copied().collect(), (n, 3), &device)?,
        ),
        ("weight", tensor(point_weights().to_vec(), &[POINTS], DType::F32)?),
        ("rigid", Tensor::from_vec(rigid, RIGID.len(), &device)?),
    ]);
    let part = out.with_extension("part");
    candle_core::safetensors::save(&tensors, &part)?;
    std::fs::rename(&part, out).with_context(|| format!("write {}", out.display()))
}
