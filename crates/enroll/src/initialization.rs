//! Initial values of the field from the clip: background, torso colors and warp.

use face::{Layout, Sizes};

use crate::embedding::LandmarkMotion;

/// Standard deviation of the Gaussian that spreads a landmark's displacement, in canonical units.
const SPLAT_SIGMA: f32 = 0.06;
/// Weight of no displacement, which prevails far from every landmark.
const REST_WEIGHT: f32 = 0.1;
/// Largest initial displacement of the warp, in canonical units.
const MAX_WARP: f32 = 0.2;

/// Sets the background, and the colors of the torso, to the static picture of the clip,
/// `[background][background][3]` sRGB.
pub(crate) fn set_pictures(s: &Sizes, l: &Layout, params: &mut [f32], background: &[f32]) {
    let pixels = background.as_chunks::<3>().0;
    let n = s.background;
    let torso = params[l.torso.clone()].as_chunks_mut::<4>().0;
    for (i, texel) in torso.iter_mut().enumerate() {
        let at = |axis: usize, j: usize, count: usize| {
            let (lo, hi) = (s.torso.min[axis], s.torso.max[axis]);
            let p = lo + (hi - lo) * j as f32 / (count - 1) as f32;
            ((p * n as f32).max(0.0) as usize).min(n - 1)
        };
        let x = at(0, i % s.torso_width, s.torso_width);
        let y = at(1, i / s.torso_width, s.torso_height);
        texel[..3].copy_from_slice(&pixels[y * n + x]);
    }
    params[l.background.clone()].copy_from_slice(background);
}

/// Sets the warp to the motion of the landmarks with the code, so that the features of a lip follow
/// the lip from the first step.
///
/// The warp maps a point to the rest position of its feature, hence the opposite sign.
pub(crate) fn set_warp(s: &Sizes, l: &Layout, params: &mut [f32], motion: &LandmarkMotion) {
    let n = s.warp;
    let warp = params[l.warp.clone()].as_chunks_mut::<2>().0;
    for (plane, displacements) in warp.chunks_exact_mut(n * n).zip(&motion.displacements) {
        for (i, texel) in plane.iter_mut().enumerate() {
            let p: [f32; 2] = [(i % n, 0), (i / n, 1)].map(|(j, axis)| {
                let (lo, hi) = (s.face.min[axis], s.face.max[axis]);
                lo + (hi - lo) * j as f32 / (n - 1) as f32
            });
            let mut sum = [0.0_f32; 2];
            let mut total = REST_WEIGHT;
            for (a, d) in motion.mean.iter().zip(displacements) {
                let d2 = (p[0] - a[0]).powi(2) + (p[1] - a[1]).powi(2);
                let w = (-0.5 * d2 / (SPLAT_SIGMA * SPLAT_SIGMA)).exp();
                sum = [sum[0] + w * d[0], sum[1] + w * d[1]];
                total += w;
            }
            *texel = sum.map(|v| (-v / total).clamp(-MAX_WARP, MAX_WARP));
        }
    }
}
