//! Forward and backward pass of a few rays of one frame, as matrix products.
//!
//! Tests compare the forward pass with its definition, [`crate::ray::render_classic_ray`], and the
//! backward pass with finite differences.

use enroll::Pixel;
use numerics::SplitMix64;
use rayon::prelude::*;

use crate::frame::{ClassicFrame, NetFrame};
use crate::model::ClassicModel;
use crate::net::{Activations, NetGrads, PackedNet};
use crate::ray::{ClassicRay, head_ray, integrate, read_picture, torso_ray};
use crate::sampling::{merge, place_by_mass, place_evenly, widths};
use crate::sizes::{ClassicLayout, ClassicSizes};

/// Rays in one batch; few enough that their activations stay in the cache.
const RAYS_TOGETHER: usize = 8;

/// Baseline field with packed weights.
pub(crate) struct PackedField<'a> {
    sizes: &'a ClassicSizes,
    layout: &'a ClassicLayout,
    params: &'a [f32],
    background: &'a [[f32; 3]],
    /// Heads, then the torso.
    nets: Vec<PackedNet<'a>>,
}

/// Samples of one network along a batch of rays.
#[derive(Clone, Debug, Default)]
struct NetPass {
    rays: Vec<ClassicRay>,
    /// `[rays][samples]`: distances, compositing weights, and gradients of colors and densities.
    places: Vec<f32>,
    weights: Vec<f32>,
    g_samples: Vec<([f32; 3], f32)>,
    /// Color behind the samples of each ray.
    backdrop: Vec<[f32; 3]>,
    /// Transmittance of each ray after its last sample.
    transmittance: Vec<f32>,
    /// Composited color of each ray.
    rgb: Vec<[f32; 3]>,
    g_rgb: Vec<[f32; 3]>,
    net: Activations,
}

/// Buffers for one batch of rays: coarse pass, fine pass unless disabled, torso pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct RayBatch {
    passes: Vec<NetPass>,
    places: Vec<f32>,
}

impl<'a> PackedField<'a> {
    pub(crate) fn new(
        sizes: &'a ClassicSizes,
        layout: &'a ClassicLayout,
        params: &'a [f32],
        background: &'a [[f32; 3]],
    ) -> Self {
        let nets = layout.nets(sizes).map(|(net, _)| PackedNet::new(sizes, net, params)).collect();
        Self { sizes, layout, params, background, nets }
    }

    /// Renders the rays through image `points` into `rays`; `offset()` in 0..=1 places the samples
    /// inside their intervals.
    fn trace(
        &self,
        frame: &ClassicFrame,
        points: &[[f32; 2]],
        mut offset: impl FnMut() -> f32,
        rays: &mut RayBatch,
    ) {
        let s = self.sizes;
        let last = self.nets.len() - 1;
        rays.passes.resize(self.nets.len(), NetPass::default());
        let (heads, torso) = rays.passes.split_at_mut(last);
        let torso = &mut torso[0];
        torso.set_rays(points.iter().map(|&[x, y]| torso_ray(s, x, y)));
        torso.place(s.torso, |ray, out| place_evenly(ray.span, out, &mut offset));
        torso.backdrop.clear();
        torso
            .backdrop
            .extend(points.iter().map(|&[x, y]| read_picture(self.background, s.background, x, y)));
        torso.forward(&self.nets[last], &frame.nets[last]);

        let (coarse, fine) = heads.split_at_mut(1);
        let coarse = &mut coarse[0];
        coarse.set_rays(points.iter().map(|&[x, y]| head_ray(s, frame, x, y)));
        coarse.place(s.coarse, |ray, out| place_evenly(ray.span, out, &mut offset));
        coarse.backdrop.clone_from(&torso.rgb);
        coarse.forward(&self.nets[0], &frame.nets[0]);

        let Some(fine) = fine.first_mut() else { return };
        fine.set_rays(coarse.rays.iter().copied());
        fine.backdrop.clone_from(&torso.rgb);
        rays.places.resize(s.fine, 0.0);
        let mut index = 0;
        fine.place(s.coarse + s.fine, |ray, out| {
            let of_ray = index * s.coarse..(index + 1) * s.coarse;
            let weights = &coarse.weights[of_ray.clone()];
            place_by_mass(ray.span, weights, &mut rays.places, &mut offset);
            merge(&coarse.places[of_ray], &rays.places, out);
            index += 1;
        });
        fine.forward(&self.nets[1], &frame.nets[1]);
    }
}

impl RayBatch {
    /// Returns the color shown of each ray: the fine one, or the coarse one without a fine pass.
    fn colors(&self) -> &[[f32; 3]] {
        &self.passes[self.passes.len() - 2].rgb
    }
}

impl NetPass {
    fn set_rays(&mut self, rays: impl Iterator<Item = ClassicRay>) {
        self.rays.clear();
        self.rays.extend(rays);
    }

    fn place(&mut self, n: usize, mut place: impl FnMut(&ClassicRay, &mut [f32])) {
        self.places.resize(self.rays.len() * n, 0.0);
        for (ray, places) in self.rays.iter().zip(self.places.chunks_exact_mut(n)) {
            place(ray, places);
        }
    }

    fn forward(&mut self, net: &PackedNet<'_>, inputs: &NetFrame) {
        net.forward(inputs, &self.rays, &self.places, &mut self.net);
        let n = self.places.len() / self.rays.len();
        self.weights.resize(self.places.len(), 0.0);
        self.rgb.clear();
        self.transmittance.clear();
        for (i, (ray, backdrop)) in self.rays.iter().zip(&self.backdrop).enumerate() {
            let of_ray = i * n..(i + 1) * n;
            let samples = &self.net.samples[of_ray.clone()];
            let weights = &mut self.weights[of_ray.clone()];
            let (rgb, transmittance) =
                integrate(&self.places[of_ray], ray.span.1, samples, weights);
            self.rgb.push(std::array::from_fn(|c| rgb[c] + transmittance * backdrop[c]));
            self.transmittance.push(transmittance);
        }
    }

    /// Back-propagates `self.g_rgb` to the gradients of the samples and adds the gradient of the
    /// backdrop to `g_backdrop`.
    ///
    /// `dC/dcᵢ = wᵢ` and `dC/dσᵢ = δᵢ (Tᵢ₊₁ cᵢ − Bᵢ)`, where `Bᵢ` is the color contributed by all that
    /// lies behind sample `i`.
    fn backward_through_integral(&mut self, g_backdrop: &mut [[f32; 3]]) {
        let n = self.places.len() / self.rays.len();
        self.g_samples.resize(self.places.len(), ([0.0; 3], 0.0));
        for (i, g_backdrop) in g_backdrop.iter_mut().enumerate() {
            let of_ray = i * n..(i + 1) * n;
            let g = self.g_rgb[i];
            let mut after = self.transmittance[i];
            let mut hidden = self.backdrop[i].map(|v| v * after);
            for c in 0..3 {
                g_backdrop[c] += after * g[c];
            }
            let g_samples = &mut self.g_samples[of_ray.clone()];
            for (g_sample, width) in
                g_samples.iter_mut().zip(widths(&self.places[of_ray.clone()], self.rays[i].span.1))
            {
                g_sample.1 = width;
            }
            let samples = self.net.samples[of_ray.clone()].iter().zip(&self.weights[of_ray]);
            for (g_sample, ((color, _), weight)) in g_samples.iter_mut().zip(samples).rev() {
                let slope: f32 = (0..3).map(|c| g[c] * (after * color[c] - hidden[c])).sum();
                *g_sample = (g.map(|v| v * weight), g_sample.1 * slope);
                for c in 0..3 {
                    hidden[c] += weight * color[c];
                }
                after += weight;
            }
        }
    }
}

/// One frame of a training step.
pub(crate) struct ClassicJob<'a> {
    pub(crate) frame: ClassicFrame,
    pub(crate) pixels: Vec<Pixel>,
    pub(crate) seed: u64,
    pub(crate) field: &'a PackedField<'a>,
    /// Factor on the sum of the rays' losses.
    pub(crate) scale: f32,
}

/// Worker for one frame of a step: buffers, gradients and losses.
pub(crate) struct FrameWorker {
    rays: RayBatch,
    /// Gradients of the parameters, in their layout.
    pub(crate) grads: Vec<f32>,
    net_grads: Vec<NetGrads>,
    /// Gradient of the frame's code.
    pub(crate) g_code: Vec<f32>,
    /// `scale` times the sum over the rays of the squared errors of both colors.
    pub(crate) loss: f64,
    /// Squared error of the shown color: mean over the channels, sum over the rays.
    pub(crate) squared_error: f64,
}

impl FrameWorker {
    pub(crate) fn new(sizes: &ClassicSizes, layout: &ClassicLayout) -> Self {
        Self {
            rays: RayBatch::default(),
            grads: vec![0.0; layout.len],
            net_grads: layout.nets(sizes).map(|_| NetGrads::new(sizes)).collect(),
            g_code: Vec::new(),
            loss: 0.0,
            squared_error: 0.0,
        }
    }

    /// Renders the job's rays and computes the gradients of `scale` times their summed loss.
    ///
    /// The loss of a ray is the squared error of its coarse color plus that of its fine color, mean
    /// over the channels (arXiv:2402.16599, eq. 4 and 5).
    pub(crate) fn run(&mut self, job: &ClassicJob<'_>) {
        self.grads.fill(0.0);
        self.net_grads.iter_mut().for_each(NetGrads::clear);
        (self.loss, self.squared_error) = (0.0, 0.0);
        let mut noise = SplitMix64::new(job.seed);
        for pixels in job.pixels.chunks(RAYS_TOGETHER) {
            let points: Vec<[f32; 2]> = pixels.iter().map(|pixel| pixel.at).collect();
            job.field.trace(&job.frame, &points, || noise.uniform(), &mut self.rays);
            self.backward(job, pixels);
        }
        let field = job.field;
        let mut g_shared = vec![0.0; field.layout.shared.len()];
        self.g_code = vec![0.0; field.sizes.code];
        let nets = field.layout.nets(field.sizes).map(|(net, _)| net);
        for ((net, inputs), net_grads) in nets.zip(&job.frame.nets).zip(&self.net_grads) {
            let g = net_grads.finish(net, field.params, inputs, &mut self.grads);
            let (code, rest) = g.split_at(field.sizes.code);
            self.g_code.iter_mut().zip(code).for_each(|(to, g)| *to += g);
            g_shared.iter_mut().zip(rest).for_each(|(to, g)| *to += g);
        }
        self.grads[field.layout.shared.clone()].copy_from_slice(&g_shared);
    }

    fn backward(&mut self, job: &ClassicJob<'_>, pixels: &[Pixel]) {
        let field = job.field;
        let (heads, torso) = self.rays.passes.split_at_mut(field.nets.len() - 1);
        let torso = &mut torso[0];
        torso.g_rgb.clear();
        torso.g_rgb.resize(pixels.len(), [0.0; 3]);
        for (index, pass) in heads.iter_mut().enumerate() {
            pass.g_rgb.clear();
            for (rgb, pixel) in pass.rgb.iter().zip(pixels) {
                let error: [f32; 3] = std::array::from_fn(|c| rgb[c] - pixel.rgb[c]);
                pass.g_rgb.push(error.map(|e| 2.0 / 3.0 * job.scale * e));
                let squared = f64::from(error.iter().map(|e| e * e).sum::<f32>()) / 3.0;
                self.loss += f64::from(job.scale) * squared;
                if index + 2 == field.nets.len() {
                    self.squared_error += squared;
                }
            }
            pass.backward_through_integral(&mut torso.g_rgb);
            let (net, own) = (&field.nets[index], &mut self.net_grads[index]);
            net.backward(&pass.g_samples, &mut pass.net, &mut self.grads, own);
        }
        let mut nowhere = vec![[0.0; 3]; pixels.len()];
        torso.backward_through_integral(&mut nowhere);
        let (net, own) = (&field.nets[heads.len()], &mut self.net_grads[heads.len()]);
        net.backward(&torso.g_samples, &mut torso.net, &mut self.grads, own);
    }
}

/// Renders a picture as [`crate::ray::render_classic`] does, with matrix products.
pub(crate) fn draw_classic(model: &ClassicModel, frame: &ClassicFrame, side: u32) -> Vec<[f32; 3]> {
    let field = PackedField::new(model.sizes(), model.layout(), model.params(), model.background());
    let mut picture = vec![[0.0; 3]; (side * side) as usize];
    let rows = picture.par_chunks_exact_mut(side.max(1) as usize).enumerate();
    rows.for_each_init(RayBatch::default, |rays, (row, line)| {
        let y = (row as f32 + 0.5) / side as f32;
        for (chunk, line) in line.chunks_mut(RAYS_TOGETHER).enumerate() {
            let first = chunk * RAYS_TOGETHER;
            let points: Vec<[f32; 2]> = (first..first + line.len())
                .map(|column| [(column as f32 + 0.5) / side as f32, y])
                .collect();
            field.trace(frame, &points, || 0.5, rays);
            line.copy_from_slice(rays.colors());
        }
    });
    picture
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ray::render_classic;
    use crate::sizes::TORSO_INPUT_SCALE;
    use types::{POSE_DIMS, TORSO_DIMS};

    const POSE: [f32; POSE_DIMS] = [0.1, -0.3, 0.05, 0.02, -0.01, 1.1];

    fn model(sizes: ClassicSizes) -> ClassicModel {
        ClassicModel::noise(sizes, 11)
    }

    fn code(sizes: &ClassicSizes) -> Vec<f32> {
        let mut noise = SplitMix64::new(4);
        let n = sizes.code;
        (0..n).map(|i| noise.normal() * if i + 6 < n { 0.5 } else { 0.02 }).collect()
    }

    fn all_sizes() -> [ClassicSizes; 3] {
        let tiny = ClassicSizes::tiny();
        [
            tiny.clone(),
            ClassicSizes { fine: 0, skip: 0, ..tiny.clone() },
            ClassicSizes { code: 85, depth: 1, skip: 0, ..tiny },
        ]
    }

    #[test]
    fn matrix_products_agree_with_the_definition() {
        for sizes in all_sizes() {
            let model = model(sizes);
            let s = model.sizes();
            let frame = ClassicFrame::new(s, model.layout(), model.params(), &POSE, &code(s));
            // The side is not a multiple of the batch size.
            let (got, want) =
                (draw_classic(&model, &frame, 13), render_classic(&model, &frame, 13));
            for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
                // Sums in another order, amplified through ten octaves.
                assert!((got - want).abs() < 2e-4, "{got} {want}");
            }
        }
    }

    fn pixels() -> Vec<Pixel> {
        let mut noise = SplitMix64::new(8);
        (0..11)
            .map(|_| Pixel {
                at: [noise.uniform(), noise.uniform()],
                rgb: [(); 3].map(|()| noise.uniform()),
                in_hull: false,
            })
            .collect()
    }

    /// Step of the finite differences.
    const STEP: f32 = 2e-3;

    fn loss(model: &ClassicModel, params: &[f32], code: &[f32], worker: &mut FrameWorker) -> f64 {
        let (sizes, layout) = (model.sizes(), model.layout());
        let field = PackedField::new(sizes, layout, params, model.background());
        worker.run(&ClassicJob {
            frame: ClassicFrame::new(sizes, layout, params, &POSE, code),
            pixels: pixels(),
            seed: 21,
            field: &field,
            scale: 1.0 / 11.0,
        });
        worker.loss
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        for sizes in all_sizes() {
            let mut model = model(sizes);
            let sizes = model.sizes().clone();
            let layout = model.layout().clone();
            if sizes.fine > 0 {
                // The positions of fine samples depend on the coarse density, which is not
                // differentiated. A uniform coarse density keeps them fixed.
                let mut params = model.params().to_vec();
                params[layout.heads[0].density.clone()].fill(0.0);
                model =
                    ClassicModel::new(sizes.clone(), params, model.background().to_vec()).unwrap();
            }
            let (params, code) = (model.params().to_vec(), code(&sizes));
            let mut worker = FrameWorker::new(&sizes, &layout);
            loss(&model, &params, &code, &mut worker);
            let (grads, g_code) = (worker.grads.clone(), worker.g_code.clone());
            let mut probe = |what: String, analytic: f32, at: [(&[f32], &[f32]); 2]| {
                let [up, down] = at.map(|(params, code)| loss(&model, params, code, &mut worker));
                let numeric = ((up - down) / f64::from(2.0 * STEP)) as f32;
                // Kinks of the ReLUs and rounding of f32 sums leave errors of a few per cent.
                let slack = 0.04 * analytic.abs().max(numeric.abs()) + 3e-4;
                assert!((analytic - numeric).abs() < slack, "{what}: {analytic}, not {numeric}");
            };
            let moved = |values: &[f32], i: usize, by: f32| {
                let mut values = values.to_vec();
                values[i] += by;
                values
            };
            let is_fixed = |i: &usize| {
                let net = &layout.heads[0];
                sizes.fine > 0 && (net.density.contains(i) || net.density_bias.contains(i))
            };
            // About a hundred parameters from all parts, and the whole consistency code.
            let chosen = (0..layout.len).step_by(layout.len / 100).chain(layout.shared.clone());
            let biases = layout.nets(&sizes).flat_map(|(net, _)| {
                [net.density_bias.start, net.color_bias.start, net.branch_bias.start]
            });
            for i in chosen.chain(biases).filter(|i| !is_fixed(i)) {
                let [plus, minus] = [STEP, -STEP].map(|by| moved(&params, i, by));
                probe(format!("parameter {i}"), grads[i], [(&plus, &code), (&minus, &code)]);
            }
            for (i, g) in g_code.iter().enumerate() {
                // The torso track is scaled before the networks read it; `g_code` is the gradient
                // of the scaled numbers.
                let scale = if i + TORSO_DIMS < code.len() { 1.0 } else { 1.0 / TORSO_INPUT_SCALE };
                let [plus, minus] = [STEP, -STEP].map(|by| moved(&code, i, by * scale));
                probe(format!("code {i}"), *g, [(&params, &plus), (&params, &minus)]);
            }
        }
    }

    #[test]
    fn the_coarse_density_has_a_gradient() {
        let sizes = ClassicSizes { fine: 0, ..ClassicSizes::tiny() };
        let model = model(sizes.clone());
        let (mut params, code) = (model.params().to_vec(), code(&sizes));
        let mut worker = FrameWorker::new(&sizes, model.layout());
        loss(&model, &params, &code, &mut worker);
        let at = model.layout().heads[0].density_bias.start;
        let analytic = f64::from(worker.grads[at]);
        params[at] += 1e-2;
        let up = loss(&model, &params, &code, &mut worker);
        params[at] -= 2e-2;
        let down = loss(&model, &params, &code, &mut worker);
        let numeric = (up - down) / 2e-2;
        assert!(analytic.abs() > 1e-5 && (analytic - numeric).abs() < 0.03 * analytic.abs());
    }
}
