use glam::Vec3;

use crate::head_mesh::{SKULL, skull_radius};
use crate::noise::{bell, fractal, lerp, plane, smoothstep};
use crate::raster::{Material, Triangle};

/// Transparent shells of strands over the opaque one.
pub(crate) const SHELLS: u8 = 5;
const COLUMNS: usize = 96;
const ROWS: usize = 22;

/// Elevation of the hairline over the skull's center by azimuth from the face, both in degrees:
/// forehead, temple, sideburn, over the ear, nape.
const HAIRLINE: [(f32, f32); 15] = [
    (0.0, 40.0),
    (16.0, 41.5),
    (32.0, 44.0),
    (45.0, 39.0),
    (58.0, 26.0),
    (69.0, 11.0),
    (77.0, -8.0),
    (84.0, -14.0),
    (90.0, 2.0),
    (98.0, 10.0),
    (108.0, 8.0),
    (118.0, -12.0),
    (132.0, -30.0),
    (150.0, -40.0),
    (180.0, -42.0),
];

/// Azimuth of the parting, degrees, on the subject's right.
const PARTING: f32 = -32.0;

/// Geometry of the hair: vertices in head space, tangents along the strands, texture coordinates.
pub(crate) struct Hair {
    pub vertices: Vec<Vec3>,
    pub tangents: Vec<Vec3>,
    /// Texture coordinates: across the strands, and from the hairline (0) to the crown (1).
    pub uv: Vec<[f32; 2]>,
    pub triangles: Vec<Triangle>,
}

/// Returns the elevation of the hairline, radians.
pub(crate) fn hairline(azimuth: f32) -> f32 {
    let degrees = azimuth.abs().to_degrees().min(180.0);
    let next = HAIRLINE.iter().position(|&(a, _)| a >= degrees).unwrap_or(HAIRLINE.len() - 1);
    let (a, b) = (HAIRLINE[next.saturating_sub(1)], HAIRLINE[next]);
    let t = if b.0 > a.0 { (degrees - a.0) / (b.0 - a.0) } else { 0.0 };
    let wobble = 1.3 * plane(azimuth * 9.0, 3.0, 5) + 0.9 * plane(azimuth * 31.0, 8.0, 6);
    (lerp(a.1, b.1, smoothstep(0.0, 1.0, t)) + wobble).to_radians()
}

/// Returns the thickness of the hair over the skull, meters.
fn thickness(direction: Vec3, azimuth: f32, t: f32) -> f32 {
    let up = -direction.y;
    let front = smoothstep(0.2, 0.9, -direction.z);
    let full = 0.007
        + 0.018 * smoothstep(0.15, 0.85, up)
        + 0.006 * smoothstep(-0.2, 0.9, direction.z)
        + 0.006 * front * smoothstep(0.3, 0.6, up);
    let degrees = azimuth.to_degrees();
    let parting = bell(degrees - PARTING, 6.0) * smoothstep(0.75, 0.2, t) * front;
    let heap = 0.011 * bell(degrees - 10.0, 30.0) * smoothstep(0.9, 0.1, t);
    let locks = fractal(azimuth * 3.2 + 1.4 * t, t * 2.2, 3, 17);
    let rise = 0.10 + 0.90 * smoothstep(-0.02, 0.24, t);
    (full + heap) * rise * (1.0 - 0.45 * parting) * (1.0 + 0.22 * locks)
}

/// Returns the sideways drift of a combed strand, radians of azimuth.
fn sweep(azimuth: f32, t: f32) -> f32 {
    let degrees = azimuth.to_degrees();
    0.9 * t * smoothstep(PARTING - 4.0, PARTING + 6.0, degrees) * smoothstep(120.0, 40.0, degrees)
}

fn point(azimuth: f32, t: f32, shell: f32) -> Vec3 {
    let low = hairline(azimuth);
    let elevation = low + (std::f32::consts::FRAC_PI_2 - low) * t;
    let direction = Vec3::new(
        elevation.cos() * azimuth.sin(),
        -elevation.sin(),
        -elevation.cos() * azimuth.cos(),
    );
    // At the forehead the face protrudes from the skull.
    let bulge =
        1.0 + 0.075 * smoothstep(0.3, 0.8, -direction.z) * smoothstep(0.75, 0.3, -direction.y);
    SKULL
        + direction
            * (skull_radius(direction) * bulge + shell * thickness(direction, azimuth, t) + 0.0012)
}

impl Hair {
    pub(crate) fn new() -> Self {
        let mut hair = Self {
            vertices: Vec::new(),
            tangents: Vec::new(),
            uv: Vec::new(),
            triangles: Vec::new(),
        };
        // Outermost first, so that hidden shells are not shaded.
        for shell in (0..SHELLS).rev() {
            let height = 0.80 + 0.22 * f32::from(shell) / f32::from(SHELLS - 1);
            let base = hair.vertices.len();
            for row in 0..=ROWS {
                for column in 0..=COLUMNS {
                    let azimuth = std::f32::consts::TAU * (column as f32 / COLUMNS as f32 - 0.5);
                    // Denser rows near the hairline, where the thickness rises.
                    let t = (row as f32 / ROWS as f32).powf(1.5);
                    let here = point(azimuth, t, height);
                    let ahead = point(
                        azimuth - sweep(azimuth, t + 0.02) + sweep(azimuth, t),
                        (t + 0.02).min(0.999),
                        height,
                    );
                    hair.vertices.push(here);
                    hair.tangents.push((ahead - here).normalize_or(Vec3::NEG_Y));
                    hair.uv.push([azimuth + sweep(azimuth, t), t]);
                }
            }
            for row in 0..ROWS {
                for column in 0..COLUMNS {
                    let at = |r: usize, c: usize| (base + r * (COLUMNS + 1) + c) as u32;
                    let (a, b) = (at(row, column), at(row, column + 1));
                    let (c, d) = (at(row + 1, column), at(row + 1, column + 1));
                    for vertices in [[a, c, b], [b, c, d]] {
                        hair.triangles.push(Triangle { vertices, material: Material::Hair(shell) });
                    }
                }
            }
        }
        hair
    }
}

/// Texture of the strands, generated once.
pub(crate) struct Strands {
    /// `[SIZE, SIZE]`: brightness 0..=1 and height of the strand 0..=1.
    texels: Vec<[f32; 2]>,
}

const SIZE: usize = 512;
/// Repeats of the texture around the head, and from hairline to crown.
const REPEATS: [f32; 2] = [5.0, 1.0];

impl Strands {
    pub(crate) fn new() -> Self {
        let mut texels = Vec::with_capacity(SIZE * SIZE);
        for y in 0..SIZE {
            for x in 0..SIZE {
                let v = y as f32 / SIZE as f32;
                // Noise along a closed circle has no seam.
                let angle = std::f32::consts::TAU * x as f32 / SIZE as f32;
                let wave = 0.10 * plane(angle * 1.5, v * 4.0, 3);
                let wrap = |frequency: f32, along: f32, seed: u32| {
                    let u = x as f32 / SIZE as f32 + wave / frequency.max(1.0);
                    let (a, b) = (u * frequency, (u - 1.0) * frequency);
                    let t = x as f32 / SIZE as f32;
                    lerp(plane(a, v * along, seed), plane(b, v * along, seed), t)
                };
                let fine = wrap(150.0, 5.0, 11);
                let coarse = wrap(40.0, 4.0, 12);
                let lock = wrap(11.0, 3.0, 13);
                let brightness = (0.5 + 0.22 * fine + 0.22 * coarse + 0.2 * lock).clamp(0.0, 1.0);
                let reach = (0.5 + 0.34 * fine + 0.24 * coarse + 0.22 * lock).clamp(0.0, 1.0);
                texels.push([brightness, reach]);
            }
        }
        Self { texels }
    }

    /// Returns brightness and height at a texture coordinate of [`Hair::uv`].
    pub(crate) fn at(&self, uv: [f32; 2]) -> [f32; 2] {
        let x = (uv[0] / std::f32::consts::TAU * REPEATS[0]).rem_euclid(1.0) * SIZE as f32;
        let y = (uv[1] * REPEATS[1]).rem_euclid(1.0) * SIZE as f32;
        let texel = |x: usize, y: usize| self.texels[(y % SIZE) * SIZE + x % SIZE];
        let (x0, y0) = (x as usize, y as usize);
        let (u, v) = (x - x0 as f32, y - y0 as f32);
        std::array::from_fn(|i| {
            lerp(
                lerp(texel(x0, y0)[i], texel(x0 + 1, y0)[i], u),
                lerp(texel(x0, y0 + 1)[i], texel(x0 + 1, y0 + 1)[i], u),
                v,
            )
        })
    }

    /// Returns whether a strand of a shell covers a point; coverage thins outwards and towards the hairline.
    pub(crate) fn cover(&self, uv: [f32; 2], shell: u8) -> bool {
        let out = f32::from(shell) / f32::from(SHELLS - 1);
        let edge = smoothstep(0.09, 0.0, uv[1]);
        self.at(uv)[1]
            > 0.12 + 0.50 * out + if shell == 0 { 0.42 * edge - 0.12 } else { 0.5 * edge }
    }
}
