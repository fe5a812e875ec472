//! Regularization of the field: gradients of terms that do not depend on any frame.

use std::ops::Range;

use face::{CHANNELS, Layout, Sizes};
use rayon::prelude::*;

/// Regularization is added once in this many steps, multiplied by as much.
const EVERY: u32 = 4;
/// Weights of the terms, each a mean over its parameters.
const PLANE_SMOOTHNESS: f32 = 1e-3;
const DENSITY_SMOOTHNESS: f32 = 1e-3;
const PICTURE_SMOOTHNESS: f32 = 1e-3;
const EXPRESSION_SPARSITY: f32 = 1e-4;
const TORSO_BLEND_DECAY: f32 = 3e-3;
const TORSO_FILLING: f32 = 1e-3;
/// Half the side, in texels, of the area over which the torso's opacity is averaged before filling.
const FILL_RADIUS: usize = 3;
/// Mean logit above which an area certainly belongs to the torso.
const CERTAIN_TORSO: f32 = 0.5;

/// Adds the gradients of the regularization to `grads`, in one of every four `steps`.
///
/// Base planes, density, torso and background are smooth, expression planes sparse, torso blend
/// textures small, and the torso is filled downwards.
pub(crate) fn add_gradients(s: &Sizes, l: &Layout, params: &[f32], grads: &mut [f32], steps: u32) {
    if !steps.is_multiple_of(EVERY) {
        return;
    }
    let every = EVERY as f32;
    for (range, side) in
        [(&l.plane_xy, s.plane_xy), (&l.plane_xz, s.plane_z), (&l.plane_yz, s.plane_z)]
    {
        let weight = PLANE_SMOOTHNESS * every / range.len() as f32;
        smooth(params, grads, range, &[side, side], CHANNELS, weight);
    }
    let d = s.density;
    let weight = DENSITY_SMOOTHNESS * every / l.density.len() as f32;
    smooth(params, grads, &l.density, &[d, d, d], 1, weight);
    // Texels that the head or the torso always hides have no other gradient.
    let weight = PICTURE_SMOOTHNESS * every / l.background.len() as f32;
    smooth(params, grads, &l.background, &[s.background, s.background], 3, weight);
    let weight = PICTURE_SMOOTHNESS * every / l.torso.len() as f32;
    smooth(params, grads, &l.torso, &[s.torso_height, s.torso_width], 4, weight);
    fill_torso_downwards(params, grads, s, l, TORSO_FILLING * every / l.torso.len() as f32);
    for range in [&l.expression_xy, &l.expression_xz, &l.expression_yz] {
        let weight = EXPRESSION_SPARSITY * every / range.len() as f32;
        let params = &params[range.clone()];
        for (g, p) in grads[range.clone()].iter_mut().zip(params) {
            // Huber loss: quadratic near zero, so that values do not oscillate around it.
            *g += weight * (p * 1e3).clamp(-1.0, 1.0);
        }
    }
    let weight = TORSO_BLEND_DECAY * every / l.torso_blend.len() as f32;
    for (g, p) in grads[l.torso_blend.clone()].iter_mut().zip(&params[l.torso_blend.clone()]) {
        *g += 2.0 * weight * p;
    }
}

/// Adds the gradient of `weight * Σ (difference of neighbors)²` along every axis of an array of shape
/// `[sides..][channels]`.
fn smooth(
    params: &[f32],
    grads: &mut [f32],
    range: &Range<usize>,
    sides: &[usize],
    channels: usize,
    weight: f32,
) {
    let p = &params[range.clone()];
    let mut stride = channels;
    for &side in sides.iter().rev() {
        let line = stride * side;
        grads[range.clone()].par_chunks_mut(line).zip(p.par_chunks(line)).for_each(|(g, p)| {
            for at in 0..line - stride {
                let difference = 2.0 * weight * (p[at + stride] - p[at]);
                g[at + stride] += difference;
                g[at] -= difference;
            }
        });
        stride = line;
    }
}

/// Adds the gradient of `weight * Σ min(0, logit − highest)²` for the opacity logits of the torso.
///
/// `highest` is the largest local mean at or above a texel in its column, held fixed, where that mean
/// exceeds [`CERTAIN_TORSO`]. A body extends to the lower edge of the picture, even where the wall
/// behind it has the color of the clothes.
fn fill_torso_downwards(params: &[f32], grads: &mut [f32], s: &Sizes, l: &Layout, weight: f32) {
    let (w, h) = (s.torso_width, s.torso_height);
    let texels = params[l.torso.clone()].as_chunks::<4>().0;
    // Local means, so that single texels have no effect.
    let logits: Vec<f32> = texels.iter().map(|t| t[3]).collect();
    let mut wide = vec![0.0; w * h];
    blur(&logits, &mut wide, w, 1, FILL_RADIUS);
    let mut mean = vec![0.0; w * h];
    blur(&wide, &mut mean, h, w, FILL_RADIUS);
    let g = grads[l.torso.clone()].as_chunks_mut::<4>().0;
    for x in 0..w {
        let mut highest = f32::MIN;
        for y in 0..h {
            let at = y * w + x;
            highest = highest.max(mean[at]);
            if highest > CERTAIN_TORSO {
                g[at][3] += 2.0 * weight * (logits[at] - highest).min(0.0);
            }
        }
    }
}

/// Computes running means over `2 * half + 1` texels along all lines of a picture: along its rows if
/// `stride` is 1, along its columns if `stride` is the width. Each line has `n` texels.
fn blur(from: &[f32], to: &mut [f32], n: usize, stride: usize, half: usize) {
    let n_lines = from.len() / n;
    for line in 0..n_lines {
        let start = if stride == 1 { line * n } else { line };
        let mut sum = 0.0;
        let mut count = 0.0;
        for i in 0..n + half {
            if i < n {
                sum += from[start + i * stride];
                count += 1.0;
            }
            if i > 2 * half {
                sum -= from[start + (i - 2 * half - 1) * stride];
                count -= 1.0;
            }
            if i >= half {
                to[start + (i - half) * stride] = sum / count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_pulls_neighbors_together_and_keeps_the_sum() {
        let params = [0.0, 0.0, 3.0, 0.0];
        let mut grads = [0.0; 4];
        smooth(&params, &mut grads, &(0..4), &[2, 2], 1, 0.5);
        assert_eq!(grads, [-3.0, 0.0, 6.0, -3.0]);
    }

    #[test]
    fn running_means_agree_with_the_definition() {
        let (width, height) = (9, 5);
        let from: Vec<f32> = (0..width * height).map(|i| ((i * 37) % 11) as f32).collect();
        for (n, stride) in [(width, 1), (height, width)] {
            let mut to = vec![0.0; from.len()];
            blur(&from, &mut to, n, stride, 2);
            for (i, got) in to.into_iter().enumerate() {
                let (place, start) =
                    if stride == 1 { (i % width, i - i % width) } else { (i / width, i % width) };
                let near = place.saturating_sub(2)..(place + 3).min(n);
                let count = near.len() as f32;
                let want = near.map(|j| from[start + j * stride]).sum::<f32>() / count;
                assert!((got - want).abs() < 1e-5, "{i}: {got} not {want}");
            }
        }
    }

    #[test]
    fn a_hole_in_the_torso_is_filled_and_nothing_above_it() {
        let sizes = Sizes::tiny();
        let layout = Layout::new(&sizes);
        let (w, h) = (sizes.torso_width, sizes.torso_height);
        let mut params = vec![0.0; layout.len];
        let texels = params[layout.torso.clone()].as_chunks_mut::<4>().0;
        let (top, hole) = (h / 3, 2 * h / 3);
        for (i, texel) in texels.iter_mut().enumerate() {
            texel[3] = if i / w < top || i / w > hole { -1.0 } else { 6.0 };
        }
        let mut grads = vec![0.0; layout.len];
        fill_torso_downwards(&params, &mut grads, &sizes, &layout, 1.0);
        let g = grads[layout.torso.clone()].as_chunks::<4>().0;
        // A negative gradient raises the logit.
        assert!(g[(h - 1) * w + w / 2][3] < -1.0, "{:?}", g[(h - 1) * w + w / 2]);
        assert!(g[..w * top.saturating_sub(FILL_RADIUS)].iter().all(|g| g[3] == 0.0));
        assert!(grads[..layout.torso.start].iter().all(|g| *g == 0.0));
    }
}
