//! The field's training: parameters, optimizer, regularisers, schedule.

use std::ops::Range;

use face::{CHANNELS, FaceModel, Layout, ModelError, Sizes};
use rayon::prelude::*;
use types::{CANONICAL_M, LEARNED_DIMS};

use crate::adam::{Adam, Group};
use crate::frame_pass::{FrameJob, FramePass, PassOptions, gather};
use crate::ray_pass::LossWeights;

/// Frames of one step; each is a task of its own, so this is also how many threads help.
pub(crate) const FRAMES_PER_STEP: usize = 4;
/// Steps until the learning rate is reached.
const WARM_UP: f32 = 50.0;
/// Share of the training before the learning rate falls.
const FLAT: f32 = 0.3;
/// Learning rate at the end, as a share of that at the start.
const LAST_RATE: f32 = 0.05;
/// Steps over which the terms that force alphas to 0 or 1 come in.
const RAMP: f32 = 1000.0;
/// Regularisers are added every so many steps, that much stronger.
const REGULARIZE_EVERY: u32 = 4;
/// Logits of the density stay in here: outside, the density does not change (see
/// [`face::LOG_DENSITY`]), and 8 bits are spent on what matters.
const DENSITY_RANGE: (f32, f32) = (-2.2, 1.75);
/// Logits of the torso's alpha stay within plus and minus this.
const TORSO_LOGIT: f32 = 8.0;

/// A field in training.
pub(crate) struct Trainer {
    pub(crate) sizes: Sizes,
    pub(crate) layout: Layout,
    pub(crate) params: Vec<f32>,
    pub(crate) adam: Adam,
    grads: Vec<f32>,
    groups: Vec<Group>,
    /// Numbers that stay zero.
    left_out: Option<Range<usize>>,
    passes: Vec<FramePass>,
}

/// What a step gave.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Mean squared error over the step's rays and channels.
    pub(crate) squared_error: f64,
    /// Gradient of the mean loss for each job's learned code.
    pub(crate) g_codes: Vec<[f32; LEARNED_DIMS]>,
}

impl Trainer {
    pub(crate) fn new(model: FaceModel) -> Self {
        let (sizes, layout, params) = model.into_parts();
        Self {
            adam: Adam::new(layout.len),
            grads: vec![0.0; layout.len],
            groups: groups(&layout),
            left_out: None,
            passes: (0..FRAMES_PER_STEP).map(|_| FramePass::new(&sizes, &layout)).collect(),
            sizes,
            layout,
            params,
        }
    }

    /// Keeps these numbers at zero from now on.
    pub(crate) fn leave_out(&mut self, range: Range<usize>) {
        self.params[range.clone()].fill(0.0);
        self.left_out = Some(range);
    }

    /// The field as it is now.
    ///
    /// # Errors
    /// If the training has run into numbers that are none.
    pub(crate) fn model(&self) -> Result<FaceModel, ModelError> {
        FaceModel::new(self.sizes.clone(), self.params.clone())
    }

    /// One step on at most [`FRAMES_PER_STEP`] frames; `progress` of the training is 0..=1.
    pub(crate) fn step(&mut self, jobs: &[FrameJob], n_samples: usize, progress: f32) -> Step {
        let rays: usize = jobs.iter().map(|j| j.pixels.len()).sum();
        let ramp = (self.adam.steps as f32 / RAMP).min(1.0);
        let options = PassOptions {
            n_samples,
            jitter: true,
            weights: LossWeights {
                l1: 0.03,
                hull: 0.05,
                binary: 2e-3 * ramp,
                torso_binary: 1e-3 * ramp,
                alpha: 1e-4,
            },
            scale: 1.0 / rays as f32,
        };
        let (sizes, layout, params) = (&self.sizes, &self.layout, &self.params);
        let passes = &mut self.passes[..jobs.len()];
        passes
            .par_iter_mut()
            .zip(jobs)
            .for_each(|(pass, job)| pass.run(sizes, layout, params, job, &options));
        gather(passes, layout, &mut self.grads);
        let step = Step {
            squared_error: passes.iter().map(|p| p.squared_error).sum::<f64>() / rays as f64,
            g_codes: passes.iter().map(|p| p.g_code).collect(),
        };
        if self.adam.steps.is_multiple_of(REGULARIZE_EVERY) {
            self.regularize();
        }
        let factor = learning_rate(self.adam.steps, progress);
        self.adam.step(&mut self.params, &self.grads, &self.groups, factor);
        if let Some(range) = &self.left_out {
            self.params[range.clone()].fill(0.0);
        }
        for p in &mut self.params[self.layout.density.clone()] {
            *p = p.clamp(DENSITY_RANGE.0, DENSITY_RANGE.1);
        }
        for texel in self.params[self.layout.torso.clone()].as_chunks_mut::<4>().0 {
            texel[3] = texel[3].clamp(-TORSO_LOGIT, TORSO_LOGIT);
        }
        step
    }

    /// Adds the gradients of the regularisers: base planes and density smooth, expression planes
    /// sparse, torso blends small, torso filled downwards.
    fn regularize(&mut self) {
        let every = REGULARIZE_EVERY as f32;
        let s = &self.sizes;
        let l = &self.layout;
        let (params, grads) = (&self.params, &mut self.grads);
        for (range, side) in
            [(&l.plane_xy, s.plane_xy), (&l.plane_xz, s.plane_z), (&l.plane_yz, s.plane_z)]
        {
            let weight = PLANE_SMOOTH * every / range.len() as f32;
            smooth(params, grads, range, &[side, side], CHANNELS, weight);
        }
        let d = s.density;
        let weight = DENSITY_SMOOTH * every / l.density.len() as f32;
        smooth(params, grads, &l.density, &[d, d, d], 1, weight);
        // Where the head or the torso hides them nothing else says what these are.
        let weight = PICTURE_SMOOTH * every / l.background.len() as f32;
        smooth(params, grads, &l.background, &[s.background, s.background], 3, weight);
        let weight = PICTURE_SMOOTH * every / l.torso.len() as f32;
        smooth(params, grads, &l.torso, &[s.torso_height, s.torso_width], 4, weight);
        fill_downwards(params, grads, s, l, TORSO_FILLED * every / l.torso.len() as f32);
        for range in [&l.expression_xy, &l.expression_xz, &l.expression_yz] {
            let weight = EXPRESSION_SPARSE * every / range.len() as f32;
            let params = &params[range.clone()];
            for (g, p) in grads[range.clone()].iter_mut().zip(params) {
                // Huber: a square near zero, so that nothing rattles around it.
                *g += weight * (p * 1e3).clamp(-1.0, 1.0);
            }
        }
        let weight = TORSO_BLEND_SMALL * every / l.torso_blend.len() as f32;
        for (g, p) in grads[l.torso_blend.clone()].iter_mut().zip(&params[l.torso_blend.clone()]) {
            *g += 2.0 * weight * p;
        }
    }

    /// Starts the background, and the torso's colors, from the picture that does not move,
    /// `[background][background][3]`.
    pub(crate) fn start_pictures(&mut self, background: &[f32]) {
        let s = &self.sizes;
        let pixels = background.as_chunks::<3>().0;
        let n = s.background;
        let torso = self.params[self.layout.torso.clone()].as_chunks_mut::<4>().0;
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
        self.params[self.layout.background.clone()].copy_from_slice(background);
    }

    /// Starts the warp from how the landmarks move with the code, so that the features of a lip
    /// follow the lip from the first step on.
    ///
    /// `at` are the landmarks' mean places and `moves[d]` their displacement for one unit of code
    /// number `d`, both canonical `x, y`. A point of space looks up where its feature lies at
    /// rest, hence the sign.
    pub(crate) fn start_warp(&mut self, at: &[[f32; 2]], moves: &[Vec<[f32; 2]>]) {
        let n = self.sizes.warp;
        let face = self.sizes.face;
        let warp = self.params[self.layout.warp.clone()].as_chunks_mut::<2>().0;
        for (plane, moves) in warp.chunks_exact_mut(n * n).zip(moves) {
            for (i, texel) in plane.iter_mut().enumerate() {
                let p: [f32; 2] = [(i % n, 0), (i / n, 1)].map(|(j, axis)| {
                    let (lo, hi) = (face.min[axis], face.max[axis]);
                    lo + (hi - lo) * j as f32 / (n - 1) as f32
                });
                let mut sum = [0.0_f32; 2];
                let mut total = SPLAT_FLOOR;
                for (a, m) in at.iter().zip(moves) {
                    let d2 = (p[0] - a[0]).powi(2) + (p[1] - a[1]).powi(2);
                    let w = (-0.5 * d2 / (SPLAT * SPLAT)).exp();
                    sum = [sum[0] + w * m[0], sum[1] + w * m[1]];
                    total += w;
                }
                *texel = sum.map(|v| (-v / total).clamp(-0.2, 0.2));
            }
        }
    }
}

/// Spread of a landmark's displacement, canonical units.
const SPLAT: f32 = 0.06;
/// Weight of standing still: far from every landmark nothing moves.
const SPLAT_FLOOR: f32 = 0.1;
/// Weights of the regularisers (mean over the numbers).
const PLANE_SMOOTH: f32 = 1e-3;
const DENSITY_SMOOTH: f32 = 1e-3;
const PICTURE_SMOOTH: f32 = 1e-3;
const EXPRESSION_SPARSE: f32 = 1e-4;
const TORSO_BLEND_SMALL: f32 = 3e-3;
const TORSO_FILLED: f32 = 1e-3;

/// Warm-up, flat, then an exponential fall.
pub(crate) fn learning_rate(steps: u32, progress: f32) -> f32 {
    let warm = ((steps + 1) as f32 / WARM_UP).min(1.0);
    let falling = ((progress - FLAT) / (1.0 - FLAT)).clamp(0.0, 1.0);
    warm * LAST_RATE.powf(falling)
}

fn groups(l: &Layout) -> Vec<Group> {
    let group =
        |range: &Range<usize>, rates: &[f32]| Group { range: range.clone(), rates: rates.to_vec() };
    vec![
        group(&(l.plane_xy.start..l.expression_yz.end), &[1e-2]),
        group(&l.density, &[3e-2]),
        group(&l.density_expression, &[1e-2]),
        group(&l.warp, &[3e-4]),
        // Colors are stored as they are, alpha as a logit.
        group(&l.torso, &[3e-3, 3e-3, 3e-3, 3e-2]),
        group(&l.torso_blend, &[3e-3, 3e-3, 3e-3, 1e-2]),
        group(&l.background, &[2e-3]),
        group(&(l.opacity.start..l.len), &[3e-3]),
    ]
}

/// Adds the gradient of `weight * Σ (difference of neighbors)²` along every axis.
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

/// Adds the gradient of `weight * Σ min(0, logit - highest)²`, `highest` being the most that an
/// area at this height or above has in the mean, held fixed, wherever that is torso without doubt:
/// a body goes on down to the edge of the picture, also where a wall behind it has the color of
/// its jacket.
fn fill_downwards(params: &[f32], grads: &mut [f32], s: &Sizes, l: &Layout, weight: f32) {
    let (w, h) = (s.torso_width, s.torso_height);
    let texels = params[l.torso.clone()].as_chunks::<4>().0;
    // What counts is an area, not a speck.
    let rows: Vec<f32> = texels.iter().map(|t| t[3]).collect();
    let mut wide = vec![0.0; w * h];
    blur(&rows, &mut wide, w, 1, SPECK);
    let mut mean = vec![0.0; w * h];
    blur(&wide, &mut mean, h, w, SPECK);
    let g = grads[l.torso.clone()].as_chunks_mut::<4>().0;
    for x in 0..w {
        let mut highest = f32::MIN;
        for y in 0..h {
            let at = y * w + x;
            highest = highest.max(mean[at]);
            if highest > NO_DOUBT {
                g[at][3] += 2.0 * weight * (rows[at] - highest).min(0.0);
            }
        }
    }
}

/// Half the side of the area whose mean counts, texels; and that mean, a logit.
const SPECK: usize = 3;
const NO_DOUBT: f32 = 0.5;

/// Running means along all the lines of a picture: its rows (`stride` 1) or its columns (`stride` the
/// width), of `n` numbers each.
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

/// Canonical `x, y` of a point of head space.
pub(crate) fn canonical(point: [f32; 3]) -> [f32; 2] {
    [point[0] / CANONICAL_M, point[1] / CANONICAL_M]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ray_pass::Pixel;
    use numerics::SplitMix64;
    use types::FEATURE_DIMS;

    #[test]
    fn the_rate_warms_up_stays_and_falls_to_a_twentieth() {
        assert!(learning_rate(0, 0.0) < 0.05);
        assert!((learning_rate(100, 0.2) - 1.0).abs() < 1e-6);
        assert!((learning_rate(100, 1.0) - 0.05).abs() < 1e-6);
    }

    #[test]
    fn smoothing_pulls_neighbors_together_and_keeps_the_sum() {
        let params = [0.0, 0.0, 3.0, 0.0];
        let mut grads = [0.0; 4];
        smooth(&params, &mut grads, &(0..4), &[2, 2], 1, 0.5);
        assert_eq!(grads, [-3.0, 0.0, 6.0, -3.0]);
    }

    #[test]
    fn a_running_mean_is_that_of_the_numbers_near_by() {
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
        fill_downwards(&params, &mut grads, &sizes, &layout, 1.0);
        let g = grads[layout.torso.clone()].as_chunks::<4>().0;
        // What lowers the loss raises the logit.
        assert!(g[(h - 1) * w + w / 2][3] < -1.0, "{:?}", g[(h - 1) * w + w / 2]);
        assert!(g[..w * top.saturating_sub(SPECK)].iter().all(|g| g[3] == 0.0));
        assert!(grads[..layout.torso.start].iter().all(|g| *g == 0.0));
    }

    fn train(steps: u32) -> (Vec<f32>, Vec<f64>) {
        let mut trainer = Trainer::new(FaceModel::untrained(Sizes::tiny(), 2));
        let mut noise = SplitMix64::new(9);
        let mut losses = Vec::new();
        for i in 0..steps {
            let jobs: Vec<FrameJob> = (0..3)
                .map(|k| {
                    let mut feature = [0.0; FEATURE_DIMS];
                    feature[5] = 1.2;
                    feature[6] = k as f32 - 1.0;
                    let pixels = (0..150)
                        .map(|_| {
                            let at = [noise.uniform(), noise.uniform()];
                            let near = (at[0] - 0.5).hypot(at[1] - 0.45) < 0.25;
                            let rgb =
                                if near { [0.8, 0.5, 0.4 + 0.1 * k as f32] } else { [0.2; 3] };
                            Pixel { at, rgb, in_hull: near }
                        })
                        .collect();
                    FrameJob { feature, pixels, seed: noise.bits() }
                })
                .collect();
            losses.push(trainer.step(&jobs, 4, i as f32 / steps as f32).squared_error);
        }
        (trainer.params, losses)
    }

    #[test]
    fn training_learns_a_disc_and_gives_the_same_numbers_twice() {
        let (params, losses) = train(150);
        let (first, last) = (losses[0], losses[140..].iter().sum::<f64>() / 10.0);
        assert!(last < 0.3 * first, "{first} -> {last}");
        assert_eq!(train(150).0, params);
    }
}
