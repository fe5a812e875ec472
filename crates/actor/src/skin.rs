use face_shape::{FaceShape, INNER_LIPS, LEFT_EYE, OUTER_LIPS, RIGHT_EYE};
use glam::{Vec2, Vec3};
use rayon::prelude::*;

use crate::hair;
use crate::head_mesh::SKULL;
use crate::light::linear_from_srgb;
use crate::noise::{bell, fractal, lerp, plane, smoothstep};

/// Size of the finest level in texels, and its left and top edge and texel size in meters of arc and
/// height.
const WIDTH: usize = 1200;
const HEIGHT: usize = 900;
const LEFT: f32 = -0.21;
const TOP: f32 = -0.17;
const TEXEL: f32 = 0.000_35;
/// Radius that converts azimuth to arc, meters.
const ARC: f32 = 0.085;
const LEVELS: usize = 5;

/// Texture of the skin, color and gloss of the whole head, generated once at several resolutions.
pub(crate) struct Skin {
    levels: Vec<Level>,
}

struct Level {
    width: usize,
    height: usize,
    /// Square roots of linear color, and gloss.
    texels: Vec<[u8; 4]>,
}

/// Returns the texture position of a point of the resting head: meters of arc and of height.
pub(crate) fn place(point: Vec3) -> [f32; 2] {
    [point.x.atan2(SKULL.z - point.z) * ARC, point.y]
}

impl Skin {
    pub(crate) fn new(shape: &FaceShape) -> Self {
        let painter = Painter::new(shape);
        let rows: Vec<Vec<[u8; 4]>> = (0..HEIGHT)
            .into_par_iter()
            .map(|row| {
                let y = TOP + (row as f32 + 0.5) * TEXEL;
                (0..WIDTH)
                    .map(|column| {
                        let s = LEFT + (column as f32 + 0.5) * TEXEL;
                        let (color, gloss) = painter.paint(Vec2::new(s, y));
                        let [r, g, b] =
                            color.to_array().map(|c| (c.clamp(0.0, 1.0).sqrt() * 255.0) as u8);
                        [r, g, b, (gloss.clamp(0.0, 1.0) * 255.0) as u8]
                    })
                    .collect()
            })
            .collect();
        let mut levels = vec![Level { width: WIDTH, height: HEIGHT, texels: rows.concat() }];
        for i in 1..LEVELS {
            let next = levels[i - 1].halved();
            levels.push(next);
        }
        Self { levels }
    }

    /// Returns the level for samples `spacing` meters apart.
    pub(crate) fn level(spacing: f32) -> usize {
        ((spacing / TEXEL).log2().round().max(0.0) as usize).min(LEVELS - 1)
    }

    /// Returns linear color and gloss at a texture position.
    pub(crate) fn at(&self, place: [f32; 2], level: usize) -> (Vec3, f32) {
        let level_scale = TEXEL * (1 << level) as f32;
        let level = &self.levels[level];
        let x = ((place[0] - LEFT) / level_scale - 0.5).clamp(0.0, (level.width - 2) as f32);
        let y = ((place[1] - TOP) / level_scale - 0.5).clamp(0.0, (level.height - 2) as f32);
        let (x0, y0) = (x as usize, y as usize);
        let (u, v) = (x - x0 as f32, y - y0 as f32);
        let at = y0 * level.width + x0;
        let (a, b) = (level.texels[at], level.texels[at + 1]);
        let (c, d) = (level.texels[at + level.width], level.texels[at + level.width + 1]);
        let mix: [f32; 4] = std::array::from_fn(|i| {
            let top = lerp(f32::from(a[i]), f32::from(b[i]), u);
            let bottom = lerp(f32::from(c[i]), f32::from(d[i]), u);
            lerp(top, bottom, v) / 255.0
        });
        (Vec3::new(mix[0] * mix[0], mix[1] * mix[1], mix[2] * mix[2]), mix[3])
    }
}

impl Level {
    fn halved(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let mut texels = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                let at = 2 * y * self.width + 2 * x;
                let four =
                    [at, at + 1, at + self.width, at + self.width + 1].map(|i| self.texels[i]);
                texels.push(std::array::from_fn(|i| {
                    let sum: u32 = four.iter().map(|t| u32::from(t[i])).sum();
                    ((sum + 2) / 4) as u8
                }));
            }
        }
        Self { width, height, texels }
    }
}

/// Texture generator: landmarks at their texture positions, and colors.
struct Painter {
    at: Vec<Vec2>,
    skin: Vec3,
    hair: Vec3,
    lips: Vec3,
}

impl Painter {
    fn new(shape: &FaceShape) -> Self {
        Self {
            at: shape.mean().iter().map(|&p| Vec2::from_array(place(p))).collect(),
            skin: linear_from_srgb([214, 168, 143]),
            hair: linear_from_srgb([58, 38, 27]),
            lips: linear_from_srgb([166, 87, 83]),
        }
    }

    fn near(&self, landmark: usize, p: Vec2, width: f32) -> f32 {
        let distance = p.distance(self.at[landmark]);
        if distance > 4.0 * width { 0.0 } else { bell(distance, width) }
    }

    /// Generates linear color and gloss at a texture position.
    fn paint(&self, p: Vec2) -> (Vec3, f32) {
        let mm = p * 1000.0;
        // Scalp between the strands, with a soft hairline.
        let azimuth = p.x / ARC;
        let rise = (SKULL.y - p.y).clamp(-0.104, 0.104);
        let elevation = (rise / (0.096 * (1.0 - (rise / 0.105).powi(2)).sqrt())).atan();
        let above = elevation - hair::hairline(azimuth);
        let tufts = 0.05 * plane(mm.x / 1.1, mm.y / 6.0, 48);
        let scalp = smoothstep(-0.035, 0.055, above + tufts);
        if scalp >= 1.0 {
            return (self.hair * 0.8, 0.0);
        }
        let blotch = fractal(mm.x / 17.0, mm.y / 17.0, 3, 41);
        let pores =
            plane(mm.x / 0.9, mm.y / 0.9, 42) * 0.6 + plane(mm.x / 2.1, mm.y / 2.1, 43) * 0.4;
        let mut color = self.skin * (1.0 + 0.05 * blotch + 0.06 * pores);
        color *= Vec3::ONE + Vec3::new(0.03, -0.03, -0.03) * blotch;
        let mut gloss = 0.42 + 0.12 * pores;

        // Redness of cheeks, nose and chin.
        let red = 0.55 * (self.near(50, p, 0.017) + self.near(280, p, 0.017))
            + 0.45 * (self.near(205, p, 0.016) + self.near(425, p, 0.016))
            + 0.5 * self.near(4, p, 0.010)
            + 0.25 * self.near(199, p, 0.011);
        color *= Vec3::ONE.lerp(Vec3::new(1.03, 0.80, 0.78), red.min(1.0) * 0.75);
        // Gloss of forehead and nose.
        gloss += 0.25 * self.near(151, p, 0.02)
            + 0.35 * self.near(4, p, 0.008)
            + 0.2 * self.near(6, p, 0.01);
        // Darker skin around the eyes.
        let socket = self.near(145, p, 0.012)
            + self.near(374, p, 0.012)
            + 0.8 * (self.near(159, p, 0.010) + self.near(386, p, 0.010))
            + 0.9 * (self.near(133, p, 0.008) + self.near(362, p, 0.008));
        color *= Vec3::ONE.lerp(Vec3::new(0.82, 0.70, 0.72), socket.min(1.0) * 0.65);
        // Beard shadow.
        let beard = smoothstep(0.022, 0.045, p.y)
            * smoothstep(0.105, 0.085, p.y)
            * smoothstep(0.085, 0.06, p.x.abs());
        color *= Vec3::ONE.lerp(Vec3::new(0.90, 0.92, 0.97), beard * 0.8);

        for eye in [RIGHT_EYE, LEFT_EYE] {
            if p.distance(self.at[eye.upper_lid[3]]) > 0.035 {
                continue;
            }
            let fold = bell(self.line_distance(&eye.crease, p), 0.0012);
            color *= 1.0 - 0.34 * fold;
            let lashes = smoothstep(0.0026, 0.0009, self.line_distance(&eye.upper_rim(), p));
            color = color.lerp(self.hair * 0.35, 0.92 * lashes);
            let rim = smoothstep(0.0013, 0.0003, self.line_distance(&eye.lower_rim(), p));
            color = color.lerp(self.hair, 0.45 * rim);
            gloss *= 1.0 - 0.5 * fold;
        }

        let near_mouth = p.distance(0.5 * (self.at[13] + self.at[14])) < 0.045;
        let lip = if near_mouth {
            smoothstep(0.0012, -0.0012, self.outside(&OUTER_LIPS.ring(), p))
        } else {
            0.0
        };
        if lip > 0.0 {
            let wrinkles =
                plane(mm.x / 0.8, mm.y / 5.0, 44) + 0.6 * plane(mm.x / 1.9, mm.y / 7.0, 45);
            let seam = smoothstep(0.003, 0.0, self.outside(&INNER_LIPS.ring(), p).max(0.0));
            let upper = smoothstep(0.002, -0.002, p.y - self.at[13].y);
            let lips = self.lips
                * (1.0 + 0.06 * wrinkles - 0.28 * seam - 0.12 * upper)
                * Vec3::new(1.0, 1.0, 1.0);
            color = color.lerp(lips, 0.88 * lip);
            gloss = lerp(gloss, 0.75 + 0.1 * wrinkles, lip);
        }

        for (eye, side) in [(RIGHT_EYE, -1.0_f32), (LEFT_EYE, 1.0)] {
            let (brow, mut bottom) = (eye.brow_top, eye.brow_bottom);
            if p.distance(self.at[brow[2]]) > 0.045 {
                continue;
            }
            bottom.reverse();
            let outside = self.outside([brow, bottom].as_flattened(), p);
            if outside < 0.004 {
                // Hairs point outwards and up; the inner end is sparser.
                let along = (p.x - self.at[brow[4]].x) / (self.at[brow[0]].x - self.at[brow[4]].x);
                let lean =
                    Vec2::new(mm.x * side + mm.y * lerp(0.15, 1.1, along.clamp(0.0, 1.0)), mm.y);
                let hairs = plane(lean.x / 0.55, lean.y / 4.0, 46) * 0.7
                    + plane(lean.x / 1.3, lean.y / 6.0, 47) * 0.4;
                let full = smoothstep(0.0026, -0.0016, outside + 0.0013 * hairs)
                    * smoothstep(-0.12, 0.25, along)
                    * smoothstep(1.12, 0.8, along);
                color =
                    color.lerp(self.hair * (0.95 + 0.35 * hairs), (0.86 * full).clamp(0.0, 1.0));
                gloss *= 1.0 - 0.7 * full;
            }
        }

        color = color.lerp(self.hair * 0.8, scalp);
        gloss *= 1.0 - scalp;
        (color, gloss)
    }

    /// Returns the distance to a polyline through landmarks.
    fn line_distance(&self, line: &[usize], p: Vec2) -> f32 {
        line.windows(2)
            .map(|w| from_segment(self.at[w[0]], self.at[w[1]], p))
            .fold(f32::INFINITY, f32::min)
    }

    /// Returns the signed distance to a polygon of landmarks, negative inside.
    fn outside(&self, polygon: &[usize], p: Vec2) -> f32 {
        let n = polygon.len();
        let (mut distance, mut inside) = (f32::INFINITY, false);
        for i in 0..n {
            let (a, b) = (self.at[polygon[i]], self.at[polygon[(i + 1) % n]]);
            distance = distance.min(from_segment(a, b, p));
            if (a.y > p.y) != (b.y > p.y) && p.x < a.x + (b.x - a.x) * (p.y - a.y) / (b.y - a.y) {
                inside = !inside;
            }
        }
        if inside { -distance } else { distance }
    }
}

fn from_segment(a: Vec2, b: Vec2, p: Vec2) -> f32 {
    let (along, to) = (b - a, p - a);
    let t = (to.dot(along) / along.length_squared().max(1e-12)).clamp(0.0, 1.0);
    to.distance(along * t)
}

/// Returns the visibility of the sky from a point of the resting face, 0..=1, for creases that the
/// shadow map does not resolve.
pub(crate) fn openness(shape: &FaceShape, point: Vec3) -> f32 {
    let near = |landmark: usize, offset: Vec3, width: f32| {
        bell(point.distance(shape.mean()[landmark] + offset), width)
    };
    let mut shut = 0.0_f32;
    for (nostril, side) in [(97, -1.0_f32), (326, 1.0)] {
        shut += 0.95 * near(nostril, Vec3::new(0.0028 * side, -0.0012, -0.0035), 0.0030);
    }
    for (wing, side) in [(129, -1.0_f32), (358, 1.0)] {
        shut += 0.35 * near(wing, Vec3::new(0.001 * side, 0.002, 0.001), 0.0040);
    }
    for corner in [61, 291] {
        shut += 0.30 * near(corner, Vec3::ZERO, 0.0040);
    }
    for inner in [133, 362] {
        shut += 0.45 * near(inner, Vec3::new(0.0, -0.003, 0.0), 0.0065);
    }
    for lid in [159, 386] {
        shut += 0.22 * near(lid, Vec3::new(0.0, -0.006, 0.0), 0.008);
    }
    for (side, width) in [(198, 0.006), (420, 0.006), (203, 0.005), (423, 0.005)] {
        shut += 0.16 * near(side, Vec3::ZERO, width);
    }
    shut += 0.32 * near(17, Vec3::new(0.0, 0.007, 0.0), 0.007);
    (1.0 - shut).clamp(0.05, 1.0)
}
