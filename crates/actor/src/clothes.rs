use glam::Vec3;

use crate::noise::{lerp, smoothstep};
use crate::raster::{Material, Triangle};

/// Rigid surface; vertices in the space of the resting head, meters.
pub(crate) struct RigidPart {
    pub vertices: Vec<Vec3>,
    pub normals: Vec<Vec3>,
    pub uv: Vec<[f32; 2]>,
    pub triangles: Vec<Triangle>,
    /// Weight of the torso's motion against the head's for each vertex, 0..=1.
    pub torso: Vec<f32>,
}

/// Step of the finite differences for normals, in surface coordinates.
const H: f32 = 1e-3;

/// Samples a parametric surface, `u` and `v` in 0..=1, on a grid; normals by finite differences.
pub(crate) fn surface(
    columns: usize,
    rows: usize,
    material: Material,
    torso: impl Fn(f32) -> f32,
    at: impl Fn(f32, f32) -> Vec3,
) -> RigidPart {
    let mut part = RigidPart {
        vertices: Vec::new(),
        normals: Vec::new(),
        uv: Vec::new(),
        triangles: Vec::new(),
        torso: Vec::new(),
    };
    for row in 0..=rows {
        for column in 0..=columns {
            let (u, v) = (column as f32 / columns as f32, row as f32 / rows as f32);
            let (v0, v1) = ((v - H).max(0.0), (v + H).min(1.0));
            let du = at(u + H, v) - at(u - H, v);
            let dv = at(u, v1) - at(u, v0);
            part.vertices.push(at(u, v));
            part.normals.push(du.cross(dv).normalize_or(Vec3::NEG_Z));
            part.uv.push([u, v]);
            part.torso.push(torso(v));
        }
    }
    for row in 0..rows {
        for column in 0..columns {
            let index = |r: usize, c: usize| (r * (columns + 1) + c) as u32;
            let (a, b) = (index(row, column), index(row, column + 1));
            let (c, d) = (index(row + 1, column), index(row + 1, column + 1));
            for vertices in [[a, b, c], [b, d, c]] {
                part.triangles.push(Triangle { vertices, material });
            }
        }
    }
    part
}

/// Where the neck meets the clothes: center, half width, half depth.
const NECK_BASE: (Vec3, f32, f32) = (Vec3::new(0.0, 0.128, 0.118), 0.063, 0.065);

/// Returns a point of a closed curve around the vertical; `u` starts and ends at the back and runs
/// over the image's left.
fn around(center: Vec3, half_width: f32, half_depth: f32, power: f32, u: f32) -> Vec3 {
    let angle = std::f32::consts::TAU * (u - 0.5);
    let (sin, cos) = angle.sin_cos();
    let round = |x: f32| x.signum() * x.abs().powf(power);
    center + Vec3::new(half_width * round(sin), 0.0, -half_depth * round(cos))
}

/// Neck, from inside the head down into the collar.
pub(crate) fn neck() -> RigidPart {
    surface(
        40,
        16,
        Material::Neck,
        |v| smoothstep(0.1, 0.95, v),
        |u, v| {
            let (base, half_width, half_depth) = NECK_BASE;
            let top = Vec3::new(0.0, 0.035, 0.095);
            let center = top.lerp(base + Vec3::new(0.0, 0.02, 0.0), v);
            let flare = smoothstep(0.55, 1.0, v);
            let width = lerp(0.054, half_width, flare);
            let depth = lerp(0.056, half_depth, flare);
            let angle = std::f32::consts::TAU * (u - 0.5);
            // The two sternocleidomastoid muscles, and the throat.
            let muscle = (-0.5 * ((angle.abs() - lerp(1.15, 0.22, v)) / 0.16).powi(2)).exp();
            let throat =
                (-0.5 * (angle / 0.24).powi(2)).exp() * (-0.5 * ((v - 0.55) / 0.12).powi(2)).exp();
            let swell = 1.0 + 0.045 * muscle + 0.035 * throat;
            around(center, width * swell, depth * swell, 1.0, u)
        },
    )
}

/// Sweater, from the neck to below the frame.
pub(crate) fn sweater() -> RigidPart {
    // Half width, height, half depth, depth of the center, roundness.
    const ROWS: [[f32; 5]; 10] = [
        [0.065, 0.122, 0.067, 0.118, 1.0],
        [0.078, 0.1295, 0.080, 0.118, 1.0],
        [0.104, 0.1385, 0.092, 0.120, 0.97],
        [0.137, 0.1480, 0.102, 0.122, 0.92],
        [0.170, 0.1580, 0.108, 0.124, 0.86],
        [0.198, 0.1710, 0.112, 0.125, 0.82],
        [0.217, 0.1930, 0.116, 0.125, 0.80],
        [0.226, 0.2300, 0.120, 0.125, 0.80],
        [0.229, 0.2750, 0.124, 0.125, 0.80],
        [0.231, 0.3600, 0.128, 0.125, 0.80],
    ];
    surface(
        96,
        40,
        Material::Knit,
        |_| 1.0,
        |u, v| {
            let [half_width, y, half_depth, z, power] = curve(&ROWS, v);
            // The chest widens downwards; the front is lower than the back.
            let angle = std::f32::consts::TAU * (u - 0.5);
            let front = 0.5 + 0.5 * angle.cos();
            let drop = 0.022 * front * smoothstep(0.5, 0.0, v) - 0.004;
            around(Vec3::new(0.0, y + drop, z), half_width, half_depth, power, u)
        },
    )
}

/// Ribbed collar.
pub(crate) fn collar() -> RigidPart {
    surface(
        120,
        10,
        Material::Collar,
        |_| 1.0,
        |u, v| {
            let angle = std::f32::consts::TAU * (u - 0.5);
            let front = 0.5 + 0.5 * angle.cos();
            let turn = std::f32::consts::PI * (v * 1.5 - 0.55);
            let (out, up) = (turn.cos() * 0.0055, turn.sin() * 0.010);
            let (base, half_width, half_depth) = NECK_BASE;
            let center = base + Vec3::new(0.0, -0.006 + 0.022 * front + up, 0.0);
            around(center, half_width + 0.005 + out, half_depth + 0.004 + out, 1.0, u)
        },
    )
}

/// Interpolates rows of numbers by a Catmull-Rom spline.
fn curve<const N: usize>(rows: &[[f32; N]], v: f32) -> [f32; N] {
    let x = v.clamp(0.0, 1.0) * (rows.len() - 1) as f32;
    let i = (x as usize).min(rows.len() - 2);
    let t = x - i as f32;
    let row = |k: isize| &rows[(i as isize + k).clamp(0, rows.len() as isize - 1) as usize];
    let (a, b, c, d) = (row(-1), row(0), row(1), row(2));
    std::array::from_fn(|n| {
        b[n] + 0.5
            * t
            * (c[n] - a[n]
                + t * (2.0 * a[n] - 5.0 * b[n] + 4.0 * c[n] - d[n]
                    + t * (3.0 * (b[n] - c[n]) + d[n] - a[n])))
    })
}

/// Ear; `side` is 1 on the image's right, -1 on its left.
pub(crate) fn ear(side: f32) -> RigidPart {
    surface(
        40,
        14,
        Material::Ear,
        |_| 0.0,
        |u, v| {
            let angle = std::f32::consts::TAU * u * side;
            let (sin, cos) = angle.sin_cos();
            // Taller than wide, narrower at the lobe; `up` and `back` span its plane.
            let narrow = 1.0 - 0.22 * smoothstep(0.0, 1.0, -cos);
            let (up, back) = (0.032 * v * cos, 0.0175 * v * sin * narrow);
            let rim = 0.0050
                * (-0.5 * ((v - 0.84) / 0.10).powi(2)).exp()
                * smoothstep(-1.15, 0.1, cos + 0.6 * sin);
            let inner =
                0.0035 * (-0.5 * ((v - 0.50) / 0.09).powi(2)).exp() * smoothstep(-0.4, 0.4, sin);
            let bowl = -0.006 * (-0.5 * (v / 0.36).powi(2)).exp();
            let turned_under = -0.009 * smoothstep(0.9, 1.0, v);
            let out =
                0.006 + rim + inner + bowl + turned_under + 0.011 * (back / 0.0175 * 0.5 + 0.5);
            let tilt = 0.22_f32;
            let (y, z) =
                (-up * tilt.cos() + back * tilt.sin() * 0.3, back * tilt.cos() + up * tilt.sin());
            Vec3::new(side * (0.0735 + out), y - 0.012, z + 0.091)
        },
    )
}
