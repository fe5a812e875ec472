//! Triangulation of the mesh.

use anyhow::{Result, ensure};
use face_shape::{FACE_OVAL, INNER_LIPS, LEFT_EYE, RIGHT_EYE};

use crate::shape::{MESH, Shape};

/// Computes the Delaunay triangulation of the mesh points, unrolled from a cylinder around the head,
/// without the interior of eyes and mouth. Seen from the front, corners run clockwise in the picture.
///
/// # Source
/// Bowyer-Watson algorithm.
///
/// # Errors
/// If an outline is not part of the triangulation.
pub(crate) fn triangulate(mean: &Shape) -> Result<Vec<[u32; 3]>> {
    let axis = mean[..MESH].iter().map(|p| p[2]).fold(f64::MIN, f64::max) + 0.02;
    let flat: Vec<[f64; 2]> =
        mean[..MESH].iter().map(|p| [0.1 * p[0].atan2(axis - p[2]), p[1]]).collect();
    let flat = with_open_lips(flat, &INNER_LIPS.ring());
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

/// Opens the lips: moves points above the line between them up and the others down.
///
/// The mouth of the mean face is almost closed, and triangles would connect the lips across it.
fn with_open_lips(mut flat: Vec<[f64; 2]>, lips: &[usize; 20]) -> Vec<[f64; 2]> {
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

/// Returns whether `p` lies in the circumcircle of a triangle.
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

/// Returns whether `p` lies inside a closed polygon.
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
