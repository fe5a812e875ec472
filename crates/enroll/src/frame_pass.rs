//! The loss of one frame of a training step, differentiated by [`face::FieldPass`].

use face::{Field, FieldPass, Layout, RayOutput, Sizes};
use numerics::SplitMix64;
use types::{FEATURE_DIMS, LEARNED_DIMS};

use crate::pixels::Pixel;

/// Weights of the terms of a ray's loss beside the squared error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LossWeights {
    /// Weight of the absolute error.
    pub(crate) l1: f32,
    /// Weight of `(1 - A)²` inside the face.
    pub(crate) hull: f32,
    /// Weight of `A (1 - A)`, which drives the head's alpha to 0 or 1.
    pub(crate) binary: f32,
    /// Weight of `At (1 - At)`, which drives the torso's alpha to 0 or 1.
    pub(crate) torso_binary: f32,
    /// Weight of `A`, which removes the head where nothing needs it.
    pub(crate) alpha: f32,
}

/// A frame to learn from in one step.
#[derive(Clone, Debug)]
pub(crate) struct FrameJob {
    /// Head pose, then code.
    pub(crate) feature: [f32; FEATURE_DIMS],
    pub(crate) pixels: Vec<Pixel>,
    /// Seed of the jitter.
    pub(crate) seed: u64,
}

/// How the rays of a step are traced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PassOptions {
    /// Samples on a ray.
    pub(crate) n_samples: usize,
    pub(crate) weights: LossWeights,
    /// Factor of every gradient: one over the number of rays in the step.
    pub(crate) scale: f32,
}

/// Pass of one frame; the buffers live as long as the training.
pub(crate) struct FramePass {
    field: FieldPass,
    points: Vec<[f32; 2]>,
    /// Sum over the rays of the squared error, averaged over the three channels.
    pub(crate) squared_error: f64,
}

impl FramePass {
    pub(crate) fn new(sizes: &Sizes, layout: &Layout) -> Self {
        Self { field: FieldPass::new(sizes, layout), points: Vec::new(), squared_error: 0.0 }
    }

    /// Traces the job's rays and keeps the gradients of their summed loss times `options.scale`.
    pub(crate) fn run(&mut self, field: Field<'_>, job: &FrameJob, options: &PassOptions) {
        self.points.clear();
        self.points.extend(job.pixels.iter().map(|pixel| pixel.at));
        let mut squared_error = 0.0;
        self.field.run(
            field,
            &job.feature,
            &self.points,
            options.n_samples,
            Some(SplitMix64::new(job.seed)),
            #[inline(always)]
            |i, ray| {
                let (error, gradient) = loss_gradient(&job.pixels[i], ray, options);
                squared_error += f64::from(error);
                gradient
            },
        );
        self.squared_error = squared_error;
    }

    /// Returns the gradient with respect to the learned numbers of the code.
    pub(crate) fn code_gradient(&self) -> &[f32; LEARNED_DIMS] {
        self.field.code_gradient()
    }

    /// Sums the gradients of a step's frames into `grads`, laid out as the parameters.
    pub(crate) fn gather(passes: &[Self], layout: &Layout, grads: &mut [f32]) {
        FieldPass::gather(passes.iter().map(|pass| &pass.field), layout, grads);
    }
}

/// Returns the squared error of a ray, averaged over the channels, and the gradients of its loss
/// times `options.scale`.
///
/// The loss is `mean((C - rgb)²) + l1 mean|C - rgb| + hull (1 - A)² + binary A (1 - A) + alpha A +
/// torso_binary At (1 - At)`; see [`LossWeights`].
#[inline(always)]
fn loss_gradient(pixel: &Pixel, ray: &RayOutput, options: &PassOptions) -> (f32, RayOutput) {
    let (w, scale) = (&options.weights, options.scale);
    let mut squared_error = 0.0;
    let mut rgb = [0.0_f32; 3];
    for (c, g) in rgb.iter_mut().enumerate() {
        let error = ray.rgb[c] - pixel.rgb[c];
        squared_error += error * error / 3.0;
        *g = scale * (2.0 * error + w.l1 * error.signum()) / 3.0;
    }
    let hull = if pixel.in_hull { w.hull } else { 0.0 };
    let (head, torso) = (ray.head_alpha, ray.torso_alpha);
    let head_alpha = scale * (-2.0 * hull * (1.0 - head) + w.binary * (1.0 - 2.0 * head) + w.alpha);
    let torso_alpha = scale * w.torso_binary * (1.0 - 2.0 * torso);
    (squared_error, RayOutput { rgb, head_alpha, torso_alpha })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_gradients_match_finite_differences() {
        let weights =
            LossWeights { l1: 0.03, hull: 0.05, binary: 0.02, torso_binary: 0.01, alpha: 0.001 };
        let options = PassOptions { n_samples: 4, weights, scale: 0.5 };
        let loss = |pixel: &Pixel, ray: &RayOutput| {
            let errors = [0, 1, 2].map(|c| ray.rgb[c] - pixel.rgb[c]);
            let (a, t) = (ray.head_alpha, ray.torso_alpha);
            let hull = if pixel.in_hull { weights.hull } else { 0.0 };
            let sum = errors.iter().map(|e| e * e + weights.l1 * e.abs()).sum::<f32>() / 3.0
                + hull * (1.0 - a) * (1.0 - a)
                + weights.binary * a * (1.0 - a)
                + weights.alpha * a
                + weights.torso_binary * t * (1.0 - t);
            options.scale * sum
        };
        let ray = RayOutput { rgb: [0.3, 0.9, 0.5], head_alpha: 0.7, torso_alpha: 0.2 };
        for in_hull in [false, true] {
            let pixel = Pixel { at: [0.5; 2], rgb: [0.6, 0.2, 0.1], in_hull };
            let (squared_error, gradient) = loss_gradient(&pixel, &ray, &options);
            assert!((squared_error - (0.09 + 0.49 + 0.16) / 3.0).abs() < 1e-6);
            let check = |got: f32, nudge: &dyn Fn(&mut RayOutput, f32)| {
                let [mut up, mut down] = [ray, ray];
                nudge(&mut up, 1e-2);
                nudge(&mut down, -1e-2);
                let want = (loss(&pixel, &up) - loss(&pixel, &down)) / 2e-2;
                assert!((got - want).abs() < 1e-4, "{got} but {want}");
            };
            for c in 0..3 {
                check(gradient.rgb[c], &|ray, by| ray.rgb[c] += by);
            }
            check(gradient.head_alpha, &|ray, by| ray.head_alpha += by);
            check(gradient.torso_alpha, &|ray, by| ray.torso_alpha += by);
        }
    }
}
