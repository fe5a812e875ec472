//! One frame of a training step: fold, trace rays, and go back to the parameters and the code.

use std::ops::Range;

use numerics::SplitMix64;
use rayon::prelude::*;
use types::{FEATURE_DIMS, LEARNED_DIMS, POSE_DIMS};

use crate::backdrop::BackdropSample;
use crate::fold::{FoldedField, Upsampling, fold_head, mix_torso};
use crate::fold_gradient::{transpose_grid_upsampling, transpose_upsampling};
use crate::frame_field::FrameField;
use crate::frame_inputs::{
    AFFINE_SCALE, DENSITY_MIX_SCALE, FLOW_SCALE, FrameInputs, SHIFT_SCALE, TorsoNet, frame_inputs,
};
use crate::gradients::FrameGradients;
use crate::layout::Layout;
use crate::math::{add_scaled, dot};
use crate::model::Field;
use crate::ray_gradient::{RayOutput, trace_and_differentiate};
use crate::sizes::{CHANNELS, HIDDEN, SHARED_DIMS, Sizes, TORSO_FIXED_OUTPUTS, TORSO_INPUTS};

/// Forward and backward pass of one frame's rays, with buffers that are reused.
///
/// A step of training runs one pass for each of its frames, in parallel if the caller likes, and
/// then [`FieldPass::gather`]. Every sum is made in a fixed order, so the gradients do not depend
/// on the number of threads.
///
/// ```
/// use face::{FaceModel, Field, FieldPass, RayOutput, Sizes};
///
/// let (sizes, layout, params) = FaceModel::untrained(Sizes::tiny(), 7).into_parts();
/// let mut feature = [0.0; types::FEATURE_DIMS];
/// feature[5] = 1.2; // Meters from the camera.
/// let mut pass = FieldPass::new(&sizes, &layout);
/// // The loss is the sum over the rays of red, squared.
/// let points = [[0.4, 0.5], [0.6, 0.5]];
/// pass.run(Field::new(&sizes, &layout, &params), &feature, &points, 6, None, |_, ray| {
///     RayOutput { rgb: [2.0 * ray.rgb[0], 0.0, 0.0], ..RayOutput::default() }
/// });
/// let mut gradient = vec![0.0; params.len()];
/// FieldPass::gather(&[pass], &layout, &mut gradient);
/// assert!(gradient[layout.shade_b3.start] > 0.0);
/// ```
pub struct FieldPass {
    folded: FoldedField,
    grads: FrameGradients,
    /// Gradients of the mixed small planes and grids.
    small: FoldedField,
    /// Upsamplings over `x, y`, with `z`, of the density, of the torso.
    up: [Upsampling; 4],
    inputs: Option<FrameInputs>,
    code_gradient: [f32; LEARNED_DIMS],
}

impl FieldPass {
    /// Allocates the buffers for fields of these sizes.
    pub fn new(sizes: &Sizes, layout: &Layout) -> Self {
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
            up: [Upsampling::xy(s), Upsampling::z(s), Upsampling::density(s), Upsampling::torso(s)],
            inputs: None,
            code_gradient: [0.0; LEARNED_DIMS],
        }
    }

    /// Traces one ray through each of `points` (image space) and computes the gradients of the
    /// summed loss. They replace those of the run before.
    ///
    /// `feature` is a head pose followed by a code, as [`types::Feature::to_array`] returns them.
    /// `loss(i, output)` is called once for each point, in order, and returns the gradients of the
    /// loss with respect to the outputs of ray `i`. Without `jitter`, density is read at the center
    /// of each bin and samples are placed as in [`FrameField::render_ray`]. With it, density is
    /// read at one random offset in all bins of a ray, and each sample lies at a random position in
    /// its part of the mass; this keeps training from fitting the sampling pattern. `n_samples` is
    /// clamped to 1..=16. A ray hits the head from a mass of 1e-4 on, far less than
    /// [`MIN_MASS`](crate::MIN_MASS), so that density can grow where renderers see none.
    pub fn run(
        &mut self,
        field: Field<'_>,
        feature: &[f32; FEATURE_DIMS],
        points: &[[f32; 2]],
        n_samples: usize,
        jitter: Option<SplitMix64>,
        loss: impl FnMut(usize, &RayOutput) -> RayOutput,
    ) {
        let (inputs, net) = frame_inputs(field, feature);
        self.grads.clear();
        let this = &mut *self;
        let now = &inputs;
        pulp::Arch::new().dispatch(
            #[inline(always)]
            move || {
                // Moved, so that the closure is `FnOnce`: a closure that can be called again gets a
                // shim that is compiled for the oldest processor.
                let (this, mut loss, mut jitter) = (this, loss, jitter);
                fold_head(field, now, &mut this.folded);
                // Rays touch few texels of the torso, so those are mixed as they are read.
                let blend = mix_torso(field, now);
                let base = field.rows::<4>(&field.layout.torso);
                let frame = FrameField { field, folded: &this.folded, inputs: now };
                let up = &this.up[3];
                for (i, &point) in points.iter().enumerate() {
                    let backdrop = BackdropSample::read(
                        field,
                        now,
                        point,
                        #[inline(always)]
                        |at| {
                            let mut texel = base[at];
                            for (small_at, share) in up.taps(at) {
                                add_scaled(&mut texel, share, &blend[small_at]);
                            }
                            texel
                        },
                    );
                    trace_and_differentiate(
                        &frame,
                        &backdrop,
                        point,
                        n_samples,
                        #[inline(always)]
                        || jitter.as_mut().map_or(0.5, SplitMix64::uniform),
                        #[inline(always)]
                        |output| loss(i, output),
                        &mut this.grads,
                    );
                }
            },
        );
        let mix = self.transpose_folding(field);
        self.differentiate_inputs(field, &net, feature, &mix);
        self.inputs = Some(inputs);
    }

    /// Returns the gradient of the last run with respect to the learned numbers of the code.
    pub fn code_gradient(&self) -> &[f32; LEARNED_DIMS] {
        &self.code_gradient
    }

    /// Writes the sum of the gradients of all passes of a step to `grads`, which has the layout of
    /// the parameters. What was in `grads` is overwritten.
    pub fn gather<'a>(
        passes: impl IntoIterator<Item = &'a Self>,
        layout: &Layout,
        grads: &mut [f32],
    ) {
        let passes: &Vec<&Self> = &passes.into_iter().collect();
        let base = |out: &mut [f32], get: &(dyn Fn(&Self) -> &[f32] + Sync)| {
            out.par_chunks_mut(CHUNK).enumerate().for_each(|(i, out)| {
                let at = i * CHUNK;
                out.fill(0.0);
                for pass in passes {
                    add_to(out, &get(pass)[at..at + out.len()]);
                }
            });
        };
        let mixed = |out: &mut [f32],
                     get: &(dyn Fn(&Self) -> &[f32] + Sync),
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
        let backdrop = &mut grads[l.torso.start..l.background.end];
        backdrop.par_chunks_mut(CHUNK).for_each(|g| g.fill(0.0));
        let (torso, background) = backdrop.split_at_mut(l.background.start - l.torso.start);
        let torso = torso[..l.torso.len()].as_chunks_mut().0;
        for pass in passes {
            pass.grads.add_backdrop(torso, background.as_chunks_mut().0);
        }
        mixed(&mut grads[l.expression_xy.clone()], &|p| p.small.xy.as_flattened(), &|i| {
            &i.plane_mix
        });
        mixed(&mut grads[l.expression_xz.clone()], &|p| p.small.xz.as_flattened(), &|i| {
            &i.plane_mix
        });
        mixed(&mut grads[l.expression_yz.clone()], &|p| p.small.yz.as_flattened(), &|i| {
            &i.plane_mix
        });
        mixed(&mut grads[l.density_expression.clone()], &|p| &p.small.density, &|i| &i.density_mix);
        mixed(&mut grads[l.torso_blend.clone()], &|p| p.small.torso.as_flattened(), &|i| {
            &i.torso_mix
        });
        mixed(&mut grads[l.warp.clone()], &|p| p.grads.folded.warp.as_flattened(), &|i| {
            &i.warp_mix
        });
    }

    /// Goes back through [`fold_head`] and [`mix_torso`]: from the folded field to the small planes
    /// and to the weights of their mixture.
    fn transpose_folding(&mut self, field: Field<'_>) -> MixGradients {
        let layout = field.layout;
        let g = &mut self.grads;
        let (small, folded) = (&mut self.small, &g.folded);
        transpose_upsampling(&folded.xy, &self.up[0], &mut small.xy);
        transpose_upsampling(&folded.xz, &self.up[1], &mut small.xz);
        transpose_upsampling(&folded.yz, &self.up[1], &mut small.yz);
        small.torso.fill([0.0; 4]);
        g.add_torso_blend(&self.up[3], &mut small.torso);
        transpose_grid_upsampling(&folded.density, &self.up[2], &mut small.density);
        g.folded.clear_warp_border(field.sizes);

        // The gradient of a weight is the dot product of its plane with the gradient of the
        // mixture.
        let against = |range: &Range<usize>, g: &[f32]| -> Vec<f32> {
            field.part(range).chunks_exact(g.len()).map(|k| dot(k, g)).collect()
        };
        let mut planes = against(&layout.expression_xy, small.xy.as_flattened());
        for more in [
            against(&layout.expression_xz, small.xz.as_flattened()),
            against(&layout.expression_yz, small.yz.as_flattened()),
        ] {
            planes.iter_mut().zip(more).for_each(|(g, m)| *g += m);
        }
        let mut density = against(&layout.density_expression, &small.density);
        for g in &mut density {
            *g *= DENSITY_MIX_SCALE;
        }
        let torso = against(&layout.torso_blend, small.torso.as_flattened());
        let warp = against(&layout.warp, g.folded.warp.as_flattened());
        MixGradients { planes, density, torso, warp }
    }

    /// Goes back through [`frame_inputs`]: from the inputs of the frame, whose mixture has the
    /// gradients `mix`, to the small networks and the code.
    fn differentiate_inputs(
        &mut self,
        field: Field<'_>,
        net: &TorsoNet,
        feature: &[f32; FEATURE_DIMS],
        mix: &MixGradients,
    ) {
        let (layout, params) = (field.layout, field.params);
        let g = &mut self.grads;
        let code: &[f32; LEARNED_DIMS] = feature[POSE_DIMS..POSE_DIMS + LEARNED_DIMS]
            .try_into()
            .expect("a feature holds a learned code");
        let mut g_code = [0.0; LEARNED_DIMS];
        g_code.copy_from_slice(&mix.warp);
        let mut networks =
            NetworkGradients { params, start: layout.opacity.start, grads: &mut g.networks };
        let with_one: Vec<f32> = code.iter().copied().chain([1.0]).collect();
        let mut g_with_one = [0.0; LEARNED_DIMS + 1];
        networks.layer(&layout.mix, &with_one, &mix.planes, &mut g_with_one);
        networks.layer(&layout.density_mix, &with_one, &mix.density, &mut g_with_one);
        add_to(&mut g_code, &g_with_one[..LEARNED_DIMS]);

        let shared = field.part(&layout.shared);
        let mut g_shared = [0.0; SHARED_DIMS];
        let bias_inputs: Vec<f32> = code.iter().chain(shared).copied().collect();
        let mut g_bias_inputs = vec![0.0; bias_inputs.len()];
        networks.layer(&layout.shade_code, &bias_inputs, &g.shade_bias, &mut g_bias_inputs);
        networks.bias(&layout.shade_b1, &g.shade_bias);
        add_to(&mut g_code, &g_bias_inputs[..LEARNED_DIMS]);
        add_to(&mut g_shared, &g_bias_inputs[LEARNED_DIMS..]);

        let mut g_out: Vec<f32> = g.torso_affine.iter().map(|v| v * AFFINE_SCALE).collect();
        g_out.extend(g.background_shift.iter().map(|v| v * SHIFT_SCALE));
        debug_assert_eq!(g_out.len(), TORSO_FIXED_OUTPUTS);
        g_out.extend(&mix.torso);
        g_out.extend(g.flow.as_flattened().iter().map(|v| v * FLOW_SCALE));
        let mut g_hidden = [0.0; HIDDEN];
        networks.layer(&layout.torso_w2, &net.hidden, &g_out, &mut g_hidden);
        networks.bias(&layout.torso_b2, &g_out);
        for (g, h) in g_hidden.iter_mut().zip(&net.hidden) {
            *g = if *h > 0.0 { *g } else { 0.0 };
        }
        let mut g_inputs = [0.0; TORSO_INPUTS];
        networks.layer(&layout.torso_w1, &net.inputs, &g_hidden, &mut g_inputs);
        networks.bias(&layout.torso_b1, &g_hidden);
        add_to(&mut g_code, &g_inputs[..LEARNED_DIMS]);
        add_to(&mut g_shared, &g_inputs[TORSO_INPUTS - SHARED_DIMS..]);
        networks.bias(&layout.shared, &g_shared);
        self.code_gradient = g_code;
    }
}

/// Gradients of the weights with which a frame mixes its field.
struct MixGradients {
    /// Expression planes.
    planes: Vec<f32>,
    /// Expression grids, before they are scaled.
    density: Vec<f32>,
    /// Additive torso planes.
    torso: Vec<f32>,
    /// Warp planes: the learned numbers of the code.
    warp: Vec<f32>,
}

/// Numbers summed by one task.
const CHUNK: usize = 1 << 14;

/// Gradients of the small networks, whose parameters begin at `start`.
struct NetworkGradients<'a> {
    params: &'a [f32],
    start: usize,
    grads: &'a mut [f32],
}

impl NetworkGradients<'_> {
    fn part(&mut self, range: &Range<usize>) -> &mut [f32] {
        &mut self.grads[range.start - self.start..range.end - self.start]
    }

    /// Goes back through `outputs = inputs · weights`, weights `[inputs][outputs]`: adds to the
    /// gradients of the weights and of the inputs.
    fn layer(&mut self, range: &Range<usize>, inputs: &[f32], g_out: &[f32], g_in: &mut [f32]) {
        let params = self.params;
        for (row, g_in) in params[range.clone()].chunks_exact(g_out.len()).zip(&mut *g_in) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FaceModel;
    use types::{Feature, MediaTime};

    /// Rays of one frame, and what they should show.
    #[derive(Clone)]
    struct Job {
        feature: [f32; FEATURE_DIMS],
        points: Vec<[f32; 2]>,
        rgb: Vec<[f32; 3]>,
    }

    fn job(seed: u64, n: usize) -> Job {
        let mut noise = SplitMix64::new(seed);
        let mut feature = [0.0; FEATURE_DIMS];
        feature[..POSE_DIMS].copy_from_slice(&[0.1, -0.2, 0.05, 0.01, 0.02, 1.2]);
        for v in &mut feature[POSE_DIMS..POSE_DIMS + LEARNED_DIMS] {
            *v = noise.normal() * 0.7;
        }
        for v in &mut feature[POSE_DIMS + LEARNED_DIMS..] {
            *v = noise.normal() * 0.01;
        }
        let points = (0..n).map(|_| [noise.uniform(), noise.uniform()]).collect();
        let rgb = (0..n).map(|_| std::array::from_fn(|_| noise.uniform())).collect();
        Job { feature, points, rgb }
    }

    /// A loss of every output of a ray, and its gradients: squared error, `0.05 (1 - A)²` for every
    /// third ray, `0.02 A (1 - A)`, `0.01 At (1 - At)`.
    fn loss(job: &Job, i: usize, ray: &RayOutput) -> (f32, RayOutput) {
        let (a, t) = (ray.head_alpha, ray.torso_alpha);
        let hull = if i.is_multiple_of(3) { 0.05 } else { 0.0 };
        let mut loss = hull * (1.0 - a) * (1.0 - a) + 0.02 * a * (1.0 - a) + 0.01 * t * (1.0 - t);
        let mut g = RayOutput {
            rgb: [0.0; 3],
            head_alpha: -2.0 * hull * (1.0 - a) + 0.02 * (1.0 - 2.0 * a),
            torso_alpha: 0.01 * (1.0 - 2.0 * t),
        };
        for c in 0..3 {
            let error = ray.rgb[c] - job.rgb[i][c];
            loss += error * error;
            g.rgb[c] = 2.0 * error;
        }
        (loss, g)
    }

    /// Runs a pass and returns its total loss.
    fn run(pass: &mut FieldPass, field: Field<'_>, job: &Job) -> f64 {
        let mut total = 0.0;
        pass.run(field, &job.feature, &job.points, 4, None, |i, ray| {
            let (loss, g) = loss(job, i, ray);
            total += f64::from(loss);
            g
        });
        total
    }

    fn loss_of(sizes: &Sizes, layout: &Layout, params: &[f32], job: &Job) -> f64 {
        run(&mut FieldPass::new(sizes, layout), Field::new(sizes, layout, params), job)
    }

    #[test]
    fn training_rays_have_the_colors_of_the_definition() {
        let model = FaceModel::noise(Sizes::tiny(), 3);
        let job = job(4, 300);
        let feature = Feature::from_array(MediaTime::ZERO, &job.feature).unwrap();
        let inputs = model.frame_inputs(&feature);
        let folded = model.fold(&inputs);
        let frame = FrameField::new(&model, &folded, &inputs);
        let mut pass = FieldPass::new(model.sizes(), model.layout());
        pass.run(model.field(), &job.feature, &job.points, 6, None, |i, ray| {
            let want = frame.unclamped_color(job.points[i], 6);
            for c in 0..3 {
                // The definition drops masses under its threshold of 0.004.
                assert!((ray.rgb[c] - want[c]).abs() < 5e-3, "{:?} {want:?}", ray.rgb);
            }
            RayOutput::default()
        });
    }

    /// Compares `gradient · direction` with a central difference, part by part.
    #[test]
    fn parameter_gradients_match_finite_differences() {
        let (sizes, layout, mut params) = FaceModel::noise(Sizes::tiny(), 8).into_parts();
        // Positions of samples are not differentiated. In planes that are constant the positions do
        // not matter to the loss, so there the density can be checked, too; the gradients of the
        // planes themselves do not depend on that.
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
            let mut passes: Vec<_> = jobs.iter().map(|_| FieldPass::new(&sizes, &layout)).collect();
            for (pass, job) in passes.iter_mut().zip(&jobs) {
                run(pass, Field::new(&sizes, &layout, &params), job);
            }
            let mut grads = vec![0.0; layout.len];
            FieldPass::gather(&passes, &layout, &mut grads);
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
                // Alpha is nearly one along most rays, so the density needs a longer step.
                let eps = if flat { 0.05_f32 } else { 2e-3 };
                for sign in [1.0_f32, -1.0] {
                    let mut moved = params.clone();
                    for i in (*range).clone() {
                        moved[i] += sign * eps * grads[i] / norm;
                    }
                    let sum: f64 = jobs.iter().map(|j| loss_of(&sizes, &layout, &moved, j)).sum();
                    want += f64::from(sign) * sum;
                }
                want /= f64::from(2.0 * eps);
                let got = f64::from(norm);
                assert!((got - want).abs() < 0.03 * want.abs(), "{name}: {got} but {want}");
            }
        }
    }

    #[test]
    fn the_code_gradient_matches_finite_differences() {
        let (sizes, layout, mut params) = FaceModel::noise(Sizes::tiny(), 8).into_parts();
        // As above: the density must not move samples.
        params[layout.density_expression.clone()].fill(0.0);
        let job = job(31, 300);
        let mut pass = FieldPass::new(&sizes, &layout);
        run(&mut pass, Field::new(&sizes, &layout, &params), &job);
        let gradient = pass.code_gradient();
        let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
        let eps = 2e-3_f32;
        let mut want = 0.0;
        for sign in [1.0_f32, -1.0] {
            let mut moved = job.clone();
            for (v, g) in moved.feature[POSE_DIMS..].iter_mut().zip(gradient) {
                *v += sign * eps * g / norm;
            }
            want += f64::from(sign) * loss_of(&sizes, &layout, &params, &moved);
        }
        want /= f64::from(2.0 * eps);
        assert!((f64::from(norm) - want).abs() < 0.03 * want, "{norm} but {want}");
    }
}
