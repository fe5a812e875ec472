//! One frame of a training step: fold, trace its rays, and back to the parameters and the code.

use std::ops::Range;

use face::{
    AFFINE_SCALE, CHANNELS, DENSITY_MIX_SCALE, FLOW_SCALE, FoldedField, FrameInputs, HIDDEN,
    Layout, SHARED_DIMS, SHIFT_SCALE, Sizes, TORSO_FIXED_OUTPUTS, TORSO_INPUTS, TorsoNet,
    Upsampling, add_scaled, between_texels, clear_border, fold_head, frame_inputs, mix_torso,
};
use numerics::SplitMix64;
use rayon::prelude::*;
use types::{FEATURE_DIMS, LEARNED_DIMS, POSE_DIMS};

use crate::behind_pass::{add_small_torso, add_texels};
use crate::pixels::Pixel;
use crate::ray_pass::{FrameGradients, LossWeights, Traced, trace};

/// A frame to learn from in one step.
#[derive(Clone, Debug)]
pub(crate) struct FrameJob {
    /// Pose, then code.
    pub(crate) feature: [f32; FEATURE_DIMS],
    pub(crate) pixels: Vec<Pixel>,
    /// Seed of the jitter.
    pub(crate) seed: u64,
}

/// How a step traces its rays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PassOptions {
    pub(crate) n_samples: usize,
    pub(crate) jitter: bool,
    pub(crate) weights: LossWeights,
    /// Factor of every gradient: one over the rays of the step.
    pub(crate) scale: f32,
}

/// Everything a frame's pass needs and leaves behind; the buffers live as long as the training.
pub(crate) struct FramePass {
    folded: FoldedField,
    grads: FrameGradients,
    /// Gradients of the code-mixed small pictures, before mixing.
    small: FoldedField,
    /// How the bases lie on the small pictures: over `x, y`, with `z`, the torso's.
    up: [Upsampling; 3],
    inputs: Option<FrameInputs>,
    /// Sum over the rays.
    pub(crate) loss: f64,
    /// Sum over the rays of the mean squared error of their three channels.
    pub(crate) squared_error: f64,
    /// Gradient of the learned part of the code.
    pub(crate) g_code: [f32; LEARNED_DIMS],
}

impl FramePass {
    pub(crate) fn new(sizes: &Sizes, layout: &Layout) -> Self {
        let s = sizes;
        Self {
            folded: FoldedField::default(),
            grads: FrameGradients::new(sizes, layout),
            small: FoldedField {
                xy: vec![[0.0; CHANNELS]; s.expression_xy.pow(2)],
                xz: vec![[0.0; CHANNELS]; s.expression_z.pow(2)],
                yz: vec![[0.0; CHANNELS]; s.expression_z.pow(2)],
                density: vec![0.0; s.density_expression.pow(3)],
                warp: Vec::new(),
                torso: vec![[0.0; 4]; s.torso_blend_width * s.torso_blend_height],
            },
            up: [Upsampling::xy(s), Upsampling::z(s), Upsampling::torso(s)],
            inputs: None,
            loss: 0.0,
            squared_error: 0.0,
            g_code: [0.0; LEARNED_DIMS],
        }
    }

    /// Traces the job's rays and keeps the gradients of their summed loss times `options.scale`.
    pub(crate) fn run(
        &mut self,
        sizes: &Sizes,
        layout: &Layout,
        params: &[f32],
        job: &FrameJob,
        options: &PassOptions,
    ) {
        let (inputs, net) = frame_inputs(sizes, layout, params, &job.feature);
        self.grads.clear();
        self.loss = 0.0;
        self.squared_error = 0.0;
        let (this, now) = (&mut *self, &inputs);
        pulp::Arch::new().dispatch(
            #[inline(always)]
            move || {
                // Moved out, so that this can be called once only and needs no shim, which would be
                // compiled for the oldest processor.
                let this = this;
                fold_head(sizes, layout, params, now, &mut this.folded);
                let small_torso = mix_torso(layout, params, now);
                let traced = Traced {
                    sizes,
                    layout,
                    params,
                    folded: &this.folded,
                    torso: (&small_torso, &this.up[2]),
                    inputs: now,
                    n_samples: options.n_samples,
                    jitter: options.jitter,
                    weights: options.weights,
                };
                let mut noise = SplitMix64::new(job.seed);
                for pixel in &job.pixels {
                    let one = trace(&traced, pixel, &mut noise, options.scale, &mut this.grads);
                    this.loss += f64::from(one.loss);
                    this.squared_error += f64::from(one.squared_error);
                }
            },
        );
        self.back_through_folding(sizes, layout, params, &net, &job.feature);
        self.inputs = Some(inputs);
    }

    fn back_through_folding(
        &mut self,
        sizes: &Sizes,
        layout: &Layout,
        params: &[f32],
        net: &TorsoNet,
        feature: &[f32; FEATURE_DIMS],
    ) {
        let s = sizes;
        let g = &mut self.grads;
        let (small, folded) = (&mut self.small, &g.folded);
        back_upsampled(&folded.xy, &self.up[0], &mut small.xy);
        back_upsampled(&folded.xz, &self.up[1], &mut small.xz);
        back_upsampled(&folded.yz, &self.up[1], &mut small.yz);
        small.torso.fill([0.0; 4]);
        add_small_torso(&g.behind, &self.up[2], &mut small.torso);
        back_upsampled_grid(&folded.density, s.density, &mut small.density, s.density_expression);
        clear_border(&mut g.folded.warp, s.warp);

        let against = |range: &Range<usize>, g: &[f32]| -> Vec<f32> {
            params[range.clone()].chunks_exact(g.len()).map(|k| dot(k, g)).collect()
        };
        let mut g_mix = against(&layout.expression_xy, small.xy.as_flattened());
        for more in [
            against(&layout.expression_xz, small.xz.as_flattened()),
            against(&layout.expression_yz, small.yz.as_flattened()),
        ] {
            g_mix.iter_mut().zip(more).for_each(|(g, m)| *g += m);
        }
        let mut g_density_mix = against(&layout.density_expression, &small.density);
        for g in &mut g_density_mix {
            *g *= DENSITY_MIX_SCALE;
        }
        let g_torso_mix = against(&layout.torso_blend, small.torso.as_flattened());
        let g_warp = against(&layout.warp, g.folded.warp.as_flattened());

        let code: &[f32; LEARNED_DIMS] = feature[POSE_DIMS..POSE_DIMS + LEARNED_DIMS]
            .try_into()
            .expect("a feature holds a learned code");
        let mut g_code = [0.0; LEARNED_DIMS];
        g_code.copy_from_slice(&g_warp);
        let mut back = Back { params, start: layout.opacity.start, grads: &mut g.networks };
        let with_one: Vec<f32> = code.iter().copied().chain([1.0]).collect();
        let mut g_with_one = [0.0; LEARNED_DIMS + 1];
        back.layer(&layout.mix, &with_one, &g_mix, &mut g_with_one);
        back.layer(&layout.density_mix, &with_one, &g_density_mix, &mut g_with_one);
        add_to(&mut g_code, &g_with_one[..LEARNED_DIMS]);

        let shared = &params[layout.shared.clone()];
        let mut g_shared = [0.0; SHARED_DIMS];
        let bias_inputs: Vec<f32> = code.iter().chain(shared).copied().collect();
        let mut g_bias_inputs = vec![0.0; bias_inputs.len()];
        back.layer(&layout.shade_code, &bias_inputs, &g.shade_bias, &mut g_bias_inputs);
        back.bias(&layout.shade_b1, &g.shade_bias);
        add_to(&mut g_code, &g_bias_inputs[..LEARNED_DIMS]);
        add_to(&mut g_shared, &g_bias_inputs[LEARNED_DIMS..]);

        let mut g_out: Vec<f32> = g.torso_affine.iter().map(|v| v * AFFINE_SCALE).collect();
        g_out.extend(g.background_shift.iter().map(|v| v * SHIFT_SCALE));
        debug_assert_eq!(g_out.len(), TORSO_FIXED_OUTPUTS);
        g_out.extend(&g_torso_mix);
        g_out.extend(g.flow.as_flattened().iter().map(|v| v * FLOW_SCALE));
        let mut g_hidden = [0.0; HIDDEN];
        back.layer(&layout.torso_w2, &net.hidden, &g_out, &mut g_hidden);
        back.bias(&layout.torso_b2, &g_out);
        for (g, h) in g_hidden.iter_mut().zip(&net.hidden) {
            *g = if *h > 0.0 { *g } else { 0.0 };
        }
        let mut g_inputs = [0.0; TORSO_INPUTS];
        back.layer(&layout.torso_w1, &net.inputs, &g_hidden, &mut g_inputs);
        back.bias(&layout.torso_b1, &g_hidden);
        add_to(&mut g_code, &g_inputs[..LEARNED_DIMS]);
        add_to(&mut g_shared, &g_inputs[TORSO_INPUTS - SHARED_DIMS..]);
        back.bias(&layout.shared, &g_shared);
        self.g_code = g_code;
    }
}

/// Sums the gradients of all frames of a step into `grads`, laid out as the parameters.
///
/// Every number is summed in frame order, so the result does not depend on the threads.
pub(crate) fn gather(passes: &[FramePass], layout: &Layout, grads: &mut [f32]) {
    let base = |out: &mut [f32], get: &(dyn Fn(&FramePass) -> &[f32] + Sync)| {
        out.par_chunks_mut(CHUNK).enumerate().for_each(|(i, out)| {
            let at = i * CHUNK;
            out.fill(0.0);
            for pass in passes {
                add_to(out, &get(pass)[at..at + out.len()]);
            }
        });
    };
    let mixed = |out: &mut [f32],
                 get: &(dyn Fn(&FramePass) -> &[f32] + Sync),
                 mix: &(dyn Fn(&FrameInputs) -> &[f32] + Sync)| {
        let n = passes.first().map_or(1, |p| get(p).len());
        out.par_chunks_mut(n).enumerate().for_each(|(k, out)| {
            out.fill(0.0);
            for pass in passes {
                if let Some(inputs) = &pass.inputs {
                    let weight = mix(inputs)[k];
                    out.iter_mut().zip(get(pass)).for_each(|(o, g)| *o += weight * g);
                }
            }
        });
    };
    let l = layout;
    base(&mut grads[l.plane_xy.clone()], &|p| p.grads.folded.xy.as_flattened());
    base(&mut grads[l.plane_xz.clone()], &|p| p.grads.folded.xz.as_flattened());
    base(&mut grads[l.plane_yz.clone()], &|p| p.grads.folded.yz.as_flattened());
    base(&mut grads[l.density.clone()], &|p| &p.grads.folded.density);
    base(&mut grads[l.opacity.start..l.len], &|p| &p.grads.networks);
    let behind = &mut grads[l.torso.start..l.background.end];
    behind.par_chunks_mut(CHUNK).for_each(|g| g.fill(0.0));
    let (torso, background) = behind.split_at_mut(l.background.start - l.torso.start);
    let torso = torso[..l.torso.len()].as_chunks_mut().0;
    for pass in passes {
        add_texels(&pass.grads.behind, torso, background.as_chunks_mut().0);
    }
    mixed(&mut grads[l.expression_xy.clone()], &|p| p.small.xy.as_flattened(), &|i| &i.plane_mix);
    mixed(&mut grads[l.expression_xz.clone()], &|p| p.small.xz.as_flattened(), &|i| &i.plane_mix);
    mixed(&mut grads[l.expression_yz.clone()], &|p| p.small.yz.as_flattened(), &|i| &i.plane_mix);
    mixed(&mut grads[l.density_expression.clone()], &|p| &p.small.density, &|i| &i.density_mix);
    mixed(&mut grads[l.torso_blend.clone()], &|p| p.small.torso.as_flattened(), &|i| &i.torso_mix);
    mixed(&mut grads[l.warp.clone()], &|p| p.grads.folded.warp.as_flattened(), &|i| &i.warp_mix);
}

/// Numbers summed by one task.
const CHUNK: usize = 1 << 14;

/// Back through the layers of the small networks, whose gradients lie from `start` on.
struct Back<'a> {
    params: &'a [f32],
    start: usize,
    grads: &'a mut [f32],
}

impl Back<'_> {
    fn part(&mut self, range: &Range<usize>) -> &mut [f32] {
        &mut self.grads[range.start - self.start..range.end - self.start]
    }

    /// Of `outputs = inputs · weights`, weights `[inputs][outputs]`.
    fn layer(&mut self, range: &Range<usize>, inputs: &[f32], g_out: &[f32], g_in: &mut [f32]) {
        let params = self.params;
        for ((row, input), g_in) in
            params[range.clone()].chunks_exact(g_out.len()).zip(inputs).zip(&mut *g_in)
        {
            debug_assert!(input.is_finite());
            *g_in += dot(row, g_out);
        }
        for (row, input) in self.part(range).chunks_exact_mut(g_out.len()).zip(inputs) {
            row.iter_mut().zip(g_out).for_each(|(r, g)| *r += input * g);
        }
    }

    fn bias(&mut self, range: &Range<usize>, g: &[f32]) {
        add_to(self.part(range), g);
    }
}

fn add_to(sum: &mut [f32], more: &[f32]) {
    sum.iter_mut().zip(more).for_each(|(s, m)| *s += m);
}

/// Sum of products, sixteen lanes wide.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let (a, a_rest) = a.as_chunks::<16>();
    let (b, b_rest) = b.as_chunks::<16>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..16 {
            lanes[i] += a[i] * b[i];
        }
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// The transpose of upsampling: gradients of a large picture to those of the small one.
fn back_upsampled<const N: usize>(large: &[[f32; N]], up: &Upsampling, small: &mut [[f32; N]]) {
    let Upsampling { rows, columns, small_width } = up;
    small.fill([0.0; N]);
    let mut row = vec![[0.0_f32; N]; *small_width];
    for (line, &(y0, fy)) in large.chunks_exact(columns.len()).zip(rows) {
        row.fill([0.0; N]);
        for (g, &(x0, fx)) in line.iter().zip(columns) {
            add_scaled(&mut row[x0], 1.0 - fx, g);
            add_scaled(&mut row[x0 + 1], fx, g);
        }
        for (x, g) in row.iter().enumerate() {
            add_scaled(&mut small[y0 * small_width + x], 1.0 - fy, g);
            add_scaled(&mut small[(y0 + 1) * small_width + x], fy, g);
        }
    }
}

/// The same for a grid of `n` cells a side.
fn back_upsampled_grid(large: &[f32], n: usize, small: &mut [f32], m: usize) {
    small.fill(0.0);
    let taps: Vec<_> = (0..n).map(|i| between_texels(i as f32 / (n - 1) as f32, m)).collect();
    let mut rows = vec![0.0_f32; m * m];
    let mut row = vec![0.0_f32; m];
    for (z, layer) in large.chunks_exact(n * n).enumerate() {
        rows.fill(0.0);
        for (y, line) in layer.chunks_exact(n).enumerate() {
            row.fill(0.0);
            for (g, &(x0, fx)) in line.iter().zip(&taps) {
                row[x0] += (1.0 - fx) * g;
                row[x0 + 1] += fx * g;
            }
            let (y0, fy) = taps[y];
            for (x, g) in row.iter().enumerate() {
                rows[y0 * m + x] += (1.0 - fy) * g;
                rows[(y0 + 1) * m + x] += fy * g;
            }
        }
        let (z0, fz) = taps[z];
        for (i, g) in rows.iter().enumerate() {
            small[z0 * m * m + i] += (1.0 - fz) * g;
            small[(z0 + 1) * m * m + i] += fz * g;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ray_pass::Traced1;
    use face::FaceModel;
    use types::{Feature, MediaTime};

    const WEIGHTS: LossWeights =
        LossWeights { l1: 0.03, hull: 0.05, binary: 0.02, torso_binary: 0.01, alpha: 0.001 };

    fn job(seed: u64, n: usize) -> FrameJob {
        let mut noise = SplitMix64::new(seed);
        let mut feature = [0.0; FEATURE_DIMS];
        feature[..POSE_DIMS].copy_from_slice(&[0.1, -0.2, 0.05, 0.01, 0.02, 1.2]);
        for v in &mut feature[POSE_DIMS..POSE_DIMS + LEARNED_DIMS] {
            *v = noise.normal() * 0.7;
        }
        for v in &mut feature[POSE_DIMS + LEARNED_DIMS..] {
            *v = noise.normal() * 0.01;
        }
        let pixels = (0..n)
            .map(|i| Pixel {
                at: [noise.uniform(), noise.uniform()],
                rgb: std::array::from_fn(|_| noise.uniform()),
                in_hull: i % 3 == 0,
            })
            .collect();
        FrameJob { feature, pixels, seed: 5 }
    }

    fn options(n: usize) -> PassOptions {
        PassOptions { n_samples: 4, jitter: false, weights: WEIGHTS, scale: 1.0 / n as f32 }
    }

    fn loss(sizes: &Sizes, layout: &Layout, params: &[f32], job: &FrameJob) -> f64 {
        let mut pass = FramePass::new(sizes, layout);
        pass.run(sizes, layout, params, job, &options(job.pixels.len()));
        pass.loss / job.pixels.len() as f64
    }

    #[test]
    fn the_trainer_sees_what_the_definition_draws() {
        let model = FaceModel::noise(Sizes::tiny(), 3);
        let job = job(4, 300);
        let feature = Feature::from_array(MediaTime::ZERO, &job.feature).unwrap();
        let inputs = model.frame_inputs(&feature);
        let folded = model.fold(&inputs);
        let traced = Traced {
            sizes: model.sizes(),
            layout: model.layout(),
            params: model.params(),
            folded: &folded,
            torso: (
                &mix_torso(model.layout(), model.params(), &inputs),
                &Upsampling::torso(model.sizes()),
            ),
            inputs: &inputs,
            n_samples: 6,
            jitter: false,
            weights: WEIGHTS,
        };
        let mut grads = FrameGradients::new(model.sizes(), model.layout());
        for pixel in &job.pixels {
            let Traced1 { rgb, .. } =
                trace(&traced, pixel, &mut SplitMix64::new(1), 1.0, &mut grads);
            let want = face::render_ray(&model, &folded, &inputs, pixel.at[0], pixel.at[1], 6);
            for c in 0..3 {
                // The renderer drops masses under its threshold of 0.004.
                assert!((rgb[c].clamp(0.0, 1.0) - want[c]).abs() < 5e-3, "{rgb:?} {want:?}");
            }
        }
    }

    /// Compares `gradient · direction` with a central difference, part by part.
    #[test]
    fn every_gradient_is_that_of_finite_differences() {
        let sizes = Sizes::tiny();
        let (sizes, layout, mut params) = FaceModel::noise(sizes, 8).into_parts();
        // Where samples lie is not differentiated. With planes that do not change along z and
        // hardly elsewhere the samples' places do not matter to the loss, so density can be
        // checked as well; the planes' own gradients do not depend on that.
        let jobs = [job(21, 200), job(22, 200)];
        for flat in [false, true] {
            if flat {
                for range in [&layout.plane_xy, &layout.plane_xz, &layout.plane_yz] {
                    for (i, p) in params[range.clone()].iter_mut().enumerate() {
                        *p = 0.6 + 0.1 * (i % CHANNELS) as f32;
                    }
                }
                for range in [&layout.expression_xy, &layout.expression_xz, &layout.expression_yz] {
                    params[range.clone()].fill(0.0);
                }
            }
            let mut passes: Vec<_> = jobs.iter().map(|_| FramePass::new(&sizes, &layout)).collect();
            for (pass, job) in passes.iter_mut().zip(&jobs) {
                pass.run(&sizes, &layout, &params, job, &options(job.pixels.len()));
            }
            let mut grads = vec![0.0; layout.len];
            gather(&passes, &layout, &mut grads);
            let l = &layout;
            let parts: &[(&str, &Range<usize>)] = if flat {
                &[("density", &l.density), ("density expression", &l.density_expression)]
            } else {
                &[
                    ("xy", &l.plane_xy),
                    ("xz", &l.plane_xz),
                    ("yz", &l.plane_yz),
                    ("expression xy", &l.expression_xy),
                    ("expression xz", &l.expression_xz),
                    ("expression yz", &l.expression_yz),
                    ("warp", &l.warp),
                    ("torso", &l.torso),
                    ("torso blend", &l.torso_blend),
                    ("background", &l.background),
                    ("opacity", &l.opacity),
                    ("w1", &l.shade_w1),
                    ("b1", &l.shade_b1),
                    ("shading code", &l.shade_code),
                    ("w2", &l.shade_w2),
                    ("b2", &l.shade_b2),
                    ("w3", &l.shade_w3),
                    ("b3", &l.shade_b3),
                    ("mix", &l.mix),
                    ("shared", &l.shared),
                    ("torso w1", &l.torso_w1),
                    ("torso b1", &l.torso_b1),
                    ("torso w2", &l.torso_w2),
                    ("torso b2", &l.torso_b2),
                ]
            };
            for (name, range) in parts {
                // Along the gradient itself, where the signal is largest.
                let norm = grads[(*range).clone()].iter().map(|g| g * g).sum::<f32>().sqrt();
                assert!(norm > 0.0, "{name} has no gradient");
                let mut want = 0.0;
                // Alpha is nearly one along most rays, so density needs a longer step.
                let eps = if flat { 0.05_f32 } else { 2e-3 };
                for sign in [1.0_f32, -1.0] {
                    let mut moved = params.clone();
                    for i in (*range).clone() {
                        moved[i] += sign * eps * grads[i] / norm;
                    }
                    let sum: f64 = jobs.iter().map(|j| loss(&sizes, &layout, &moved, j)).sum();
                    want += f64::from(sign) * sum;
                }
                want /= f64::from(2.0 * eps);
                let got = f64::from(norm);
                assert!((got - want).abs() < 0.03 * want.abs(), "{name}: {got} but {want}");
            }
        }
    }

    #[test]
    fn the_codes_gradient_is_that_of_finite_differences() {
        let (sizes, layout, mut params) = FaceModel::noise(Sizes::tiny(), 8).into_parts();
        // As above: density must not move samples.
        params[layout.density_expression.clone()].fill(0.0);
        let job = job(31, 300);
        let mut pass = FramePass::new(&sizes, &layout);
        pass.run(&sizes, &layout, &params, &job, &options(300));
        let norm = pass.g_code.iter().map(|g| g * g).sum::<f32>().sqrt();
        let eps = 2e-3_f32;
        let mut want = 0.0;
        for sign in [1.0_f32, -1.0] {
            let mut moved = job.clone();
            for i in 0..LEARNED_DIMS {
                moved.feature[POSE_DIMS + i] += sign * eps * pass.g_code[i] / norm;
            }
            want += f64::from(sign) * loss(&sizes, &layout, &params, &moved);
        }
        want /= f64::from(2.0 * eps);
        assert!((f64::from(norm) - want).abs() < 0.03 * want, "{norm} but {want}");
    }
}
