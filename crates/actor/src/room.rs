use glam::Vec3;
use rayon::prelude::*;

use crate::light::linear_from_srgb;
use crate::noise::{bell, fractal, lerp, smoothstep, uniform};

/// Side of the rendered room, samples; few suffice, because it is out of focus.
const SIDE: usize = 320;

/// Static room behind the actor: wall, bookshelf, plant, lamp.
pub(crate) struct Room {
    texels: Vec<Vec3>,
}

impl Room {
    pub(crate) fn new(seed: u64) -> Self {
        let rows: Vec<Vec<Vec3>> = (0..SIDE)
            .into_par_iter()
            .map(|y| {
                let v = (y as f32 + 0.5) / SIDE as f32;
                (0..SIDE).map(|x| room((x as f32 + 0.5) / SIDE as f32, v, seed)).collect()
            })
            .collect();
        Self { texels: rows.concat() }
    }

    /// Returns the linear color at a position of the frame, 0..=1.
    pub(crate) fn at(&self, x: f32, y: f32) -> Vec3 {
        let limit = (SIDE - 1) as f32 - 1e-3;
        let x = (x * SIDE as f32 - 0.5).clamp(0.0, limit);
        let y = (y * SIDE as f32 - 0.5).clamp(0.0, limit);
        let (x0, y0) = (x as usize, y as usize);
        let (u, v) = (x - x0 as f32, y - y0 as f32);
        let at = y0 * SIDE + x0;
        let top = self.texels[at].lerp(self.texels[at + 1], u);
        let bottom = self.texels[at + SIDE].lerp(self.texels[at + SIDE + 1], u);
        top.lerp(bottom, v)
    }
}

/// Returns the coverage of a point by a box with blurred edges, 0..=1.
fn board(x: f32, y: f32, from: [f32; 2], to: [f32; 2], blur: f32) -> f32 {
    let span = |at: f32, low: f32, high: f32| {
        smoothstep(low - blur, low + blur, at) * smoothstep(high + blur, high - blur, at)
    };
    span(x, from[0], to[0]) * span(y, from[1], to[1])
}

fn room(x: f32, y: f32, seed: u64) -> Vec3 {
    const BLUR: f32 = 0.012;
    let wall = linear_from_srgb([176, 168, 155]);
    // Daylight from the left, a lamp's glow on the right.
    let day = 1.12 - 0.55 * smoothstep(0.0, 1.1, x) - 0.18 * smoothstep(0.2, 1.0, y);
    let mut color = wall * day * (1.0 + 0.03 * fractal(x * 3.0, y * 3.0, 2, 81));
    let glow = bell((x - 0.90).hypot(y - 0.27), 0.17);
    color += Vec3::new(0.62, 0.40, 0.18) * glow * 0.55;

    // Shelves with books on the right.
    let wood = linear_from_srgb([112, 78, 50]);
    for (shelf, &height) in [0.48_f32, 0.80].iter().enumerate() {
        let left = 0.70;
        let shade = board(x, y, [left, height + 0.022], [1.2, height + 0.075], 0.03);
        color *= 1.0 - 0.35 * shade;
        let mut at = left + 0.015 + 0.02 * shelf as f32;
        let mut book = 0;
        while at < 1.05 {
            let index = shelf as u64 * 64 + book;
            let pick = |n: u64| uniform(seed ^ (0xB0 + n), index);
            let width = 0.020 + 0.022 * pick(0);
            let tall = 0.11 + 0.075 * pick(1);
            // Gap for the lamp on the upper shelf.
            let stands = shelf == 1 || !(0.845..0.955).contains(&at);
            if stands && pick(2) > 0.08 {
                let cover = [
                    [122, 58, 48],
                    [52, 78, 96],
                    [172, 150, 110],
                    [70, 92, 70],
                    [96, 84, 104],
                    [190, 178, 160],
                    [60, 56, 62],
                ][(pick(3) * 6.99) as usize];
                let seen = board(x, y, [at, height - tall], [at + width * 0.93, height], 0.007);
                let lit = (0.78 - 0.3 * smoothstep(0.7, 1.1, x)) * (0.9 + 0.25 * glow * 4.0);
                color = color.lerp(linear_from_srgb(cover) * lit, seen);
            }
            at += width;
            book += 1;
        }
        let plank = board(x, y, [left, height], [1.2, height + 0.024], 0.007);
        color = color.lerp(wood * (0.9 + 0.6 * glow), plank);
    }
    // The lamp: a foot and a bright shade.
    let foot = board(x, y, [0.893, 0.36], [0.907, 0.48], 0.006);
    color = color.lerp(Vec3::splat(0.08), foot);
    let narrow = lerp(0.034, 0.052, smoothstep(0.22, 0.36, y));
    let shade = board(x, y, [0.90 - narrow, 0.225], [0.90 + narrow, 0.36], 0.008);
    color = color.lerp(Vec3::new(1.05, 0.82, 0.52), shade);

    // A framed picture on the left, with a plant in front.
    let frame = board(x, y, [0.055, 0.10], [0.255, 0.37], 0.008);
    color = color.lerp(linear_from_srgb([66, 56, 48]), frame);
    let canvas = board(x, y, [0.072, 0.117], [0.238, 0.353], 0.008);
    let hills = smoothstep(-BLUR, BLUR, y - 0.26 - 0.03 * (x * 31.0).sin());
    let scene = linear_from_srgb([196, 196, 184]).lerp(linear_from_srgb([104, 124, 110]), hills);
    color = color.lerp(scene * 0.9, canvas);
    for leaf in 0..13_u64 {
        let pick = |n: u64| uniform(seed ^ (0xC0 + n), leaf);
        let angle = lerp(-2.75, -0.40, (leaf as f32 + 0.5 * pick(0)) / 13.0);
        let length = 0.13 + 0.13 * pick(1);
        let (sin, cos) = angle.sin_cos();
        let (dx, dy) = (x - 0.10, y - 0.86);
        // Leaves droop at their ends.
        let along = (dx * cos + dy * sin) / length;
        let bend = 0.035 * along.max(0.0).powi(2);
        let across = -dx * sin + (dy - bend) * cos;
        let width = 0.020 * (along * (1.0 - along)).max(0.0).sqrt() * 2.0;
        let seen = smoothstep(0.008, -0.008, across.abs() - width)
            * smoothstep(-0.02, 0.05, along)
            * smoothstep(1.03, 0.95, along);
        let green = linear_from_srgb([64, 98, 58]).lerp(linear_from_srgb([126, 152, 92]), pick(2));
        let rib = 1.0 + 0.25 * bell(across, 0.003) - 0.25 * smoothstep(0.0, 0.02, across);
        color = color.lerp(green * rib * (1.15 - 0.4 * pick(3)), 0.94 * seen);
    }
    let pot = board(x, y, [0.045, 0.84], [0.155, 1.1], 0.009);
    let round = 1.0 - 0.45 * smoothstep(0.05, 0.16, x);
    color.lerp(linear_from_srgb([188, 122, 92]) * round, pot)
}
