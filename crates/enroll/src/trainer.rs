//! One training step of the field: gradients of a few frames, regularization, optimizer.

use std::ops::Range;

use face::{FaceModel, Field, Layout, ModelError, Sizes};
use rayon::prelude::*;
use types::LEARNED_DIMS;

use crate::adam::{Adam, ParameterGroup};
use crate::frame_pass::{FrameJob, FramePass, LossWeights, PassOptions};
use crate::regularization;
use crate::schedule::{FRAMES_PER_STEP, learning_rate};

/// Steps over which the weights of the terms that push opacities to 0 or 1 rise.
const BINARY_RAMP_STEPS: f32 = 1000.0;
/// Range of the density's logits. Beyond it the density is clamped (see [`face::LOG_DENSITY`]), and
/// quantization would spend its levels in vain.
const DENSITY_LOGITS: (f32, f32) = (-2.2, 1.75);
/// Largest absolute logit of the torso's opacity.
const MAX_TORSO_LOGIT: f32 = 8.0;

/// Field in training: parameters, optimizer and buffers.
pub(crate) struct FieldTrainer {
    pub(crate) sizes: Sizes,
    pub(crate) layout: Layout,
    pub(crate) params: Vec<f32>,
    pub(crate) adam: Adam,
    grads: Vec<f32>,
    groups: Vec<ParameterGroup>,
    /// Parameters that stay zero.
    frozen: Option<Range<usize>>,
    passes: Vec<FramePass>,
}

/// Result of a training step.
#[derive(Clone, Debug)]
pub(crate) struct StepResult {
    /// Squared error, mean over the step's rays and channels.
    pub(crate) squared_error: f64,
    /// Gradient of the mean loss with respect to each job's learned code.
    pub(crate) g_codes: Vec<[f32; LEARNED_DIMS]>,
}

impl FieldTrainer {
    pub(crate) fn new(model: FaceModel) -> Self {
        let (sizes, layout, params) = model.into_parts();
        Self {
            adam: Adam::new(layout.len),
            grads: vec![0.0; layout.len],
            groups: groups(&layout),
            frozen: None,
            passes: (0..FRAMES_PER_STEP).map(|_| FramePass::new(&sizes, &layout)).collect(),
            sizes,
            layout,
            params,
        }
    }

    /// Sets these parameters to zero for the whole training.
    pub(crate) fn freeze_at_zero(&mut self, range: Range<usize>) {
        self.params[range.clone()].fill(0.0);
        self.frozen = Some(range);
    }

    /// Returns a copy of the field.
    ///
    /// # Errors
    /// If a parameter is no longer finite.
    pub(crate) fn model(&self) -> Result<FaceModel, ModelError> {
        FaceModel::new(self.sizes.clone(), self.params.clone())
    }

    /// Takes one step on at most [`FRAMES_PER_STEP`] frames with `n_samples` samples on a ray;
    /// `progress` is the share of the training done, 0..=1.
    pub(crate) fn step(
        &mut self,
        jobs: &[FrameJob],
        n_samples: usize,
        progress: f32,
    ) -> StepResult {
        let rays: usize = jobs.iter().map(|j| j.pixels.len()).sum();
        let ramp = (self.adam.steps as f32 / BINARY_RAMP_STEPS).min(1.0);
        let options = PassOptions {
            n_samples,
            weights: LossWeights {
                l1: 0.03,
                hull: 0.05,
                binary: 2e-3 * ramp,
                torso_binary: 1e-3 * ramp,
                alpha: 1e-4,
            },
            scale: 1.0 / rays as f32,
        };
        let (layout, field) = (&self.layout, Field::new(&self.sizes, &self.layout, &self.params));
        let passes = &mut self.passes[..jobs.len()];
        passes.par_iter_mut().zip(jobs).for_each(|(pass, job)| pass.run(field, job, &options));
        FramePass::gather(passes, layout, &mut self.grads);
        let step = StepResult {
            squared_error: passes.iter().map(|p| p.squared_error).sum::<f64>() / rays as f64,
            g_codes: passes.iter().map(|p| *p.code_gradient()).collect(),
        };
        regularization::add_gradients(
            &self.sizes,
            &self.layout,
            &self.params,
            &mut self.grads,
            self.adam.steps,
        );
        let factor = learning_rate(self.adam.steps, progress);
        self.adam.step(&mut self.params, &self.grads, &self.groups, factor);
        if let Some(range) = &self.frozen {
            self.params[range.clone()].fill(0.0);
        }
        for p in &mut self.params[self.layout.density.clone()] {
            *p = p.clamp(DENSITY_LOGITS.0, DENSITY_LOGITS.1);
        }
        for texel in self.params[self.layout.torso.clone()].as_chunks_mut::<4>().0 {
            texel[3] = texel[3].clamp(-MAX_TORSO_LOGIT, MAX_TORSO_LOGIT);
        }
        step
    }
}

/// Returns the learning rates of all parameters.
fn groups(l: &Layout) -> Vec<ParameterGroup> {
    let group = |range: &Range<usize>, rates: &[f32]| ParameterGroup {
        range: range.clone(),
        rates: rates.to_vec(),
    };
    vec![
        group(&(l.plane_xy.start..l.expression_yz.end), &[1e-2]),
        group(&l.density, &[3e-2]),
        group(&l.density_expression, &[1e-2]),
        group(&l.warp, &[3e-4]),
        // Three colors, then the logit of the opacity.
        group(&l.torso, &[3e-3, 3e-3, 3e-3, 3e-2]),
        group(&l.torso_blend, &[3e-3, 3e-3, 3e-3, 1e-2]),
        group(&l.background, &[2e-3]),
        group(&(l.opacity.start..l.len), &[3e-3]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::Pixel;
    use numerics::SplitMix64;
    use types::FEATURE_DIMS;

    fn train(steps: u32) -> (Vec<f32>, Vec<f64>) {
        let mut trainer = FieldTrainer::new(FaceModel::untrained(Sizes::tiny(), 2));
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
    fn training_learns_a_disc_and_is_deterministic() {
        let (params, losses) = train(150);
        let (first, last) = (losses[0], losses[140..].iter().sum::<f64>() / 10.0);
        assert!(last < 0.3 * first, "{first} -> {last}");
        assert_eq!(train(150).0, params);
    }
}
