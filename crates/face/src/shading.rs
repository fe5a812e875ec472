//! The shading network and its derivative.
//!
//! Deferred shading: features are accumulated along the ray and one network turns their sum into a
//! color (Hedman et al. 2021, "Baking Neural Radiance Fields", section 4; Reiser et al. 2023,
//! "MERF", section 3).

use crate::gradients::FrameGradients;
use crate::math::{add_scaled, sigmoid};
use crate::model::Field;
use crate::sizes::{CHANNELS, HIDDEN, SHADE_INPUTS};
use crate::taps::Texel;

/// Added to alpha when the accumulated features are divided by it, so that nothing is divided by
/// zero: the mean feature is `F / (A + MEAN_FLOOR)`.
pub const MEAN_FLOOR: f32 = 0.05;

/// Features and alpha accumulated along a ray.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FeatureSum {
    /// `F = Σ aₖ fₖ` over samples of weight `a` and feature `f`.
    pub(crate) feature: Texel,
    /// `A = Σ aₖ`, 0..=1.
    pub(crate) alpha: f32,
}

impl FeatureSum {
    pub(crate) const EMPTY: Self = Self { feature: [0.0; CHANNELS], alpha: 0.0 };

    /// Adds a sample.
    #[inline(always)]
    pub(crate) fn add(&mut self, weight: f32, feature: &Texel) {
        add_scaled(&mut self.feature, weight, feature);
        self.alpha += weight;
    }

    /// Returns the inputs of the shading network: `[F / (A + 0.05), A, direction.x, direction.y]`.
    #[inline(always)]
    pub(crate) fn shading_inputs(&self, direction: [f32; 3]) -> [f32; SHADE_INPUTS] {
        let scale = 1.0 / (self.alpha + MEAN_FLOOR);
        let mut inputs = [0.0; SHADE_INPUTS];
        for (i, f) in inputs.iter_mut().zip(&self.feature) {
            *i = f * scale;
        }
        inputs[CHANNELS..].copy_from_slice(&[self.alpha, direction[0], direction[1]]);
        inputs
    }
}

/// Weights of the shading network, with the bias of one frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShadingNetwork<'a> {
    pub(crate) w1: &'a [[f32; HIDDEN]],
    bias: &'a [f32; HIDDEN],
    pub(crate) w2: &'a [[f32; HIDDEN]],
    b2: &'a [f32],
    pub(crate) w3: &'a [[f32; HIDDEN]],
    b3: &'a [f32],
}

/// Activations of the shading network for one ray.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shading {
    /// First hidden layer, rectified.
    pub(crate) hidden1: [f32; HIDDEN],
    /// Second hidden layer, rectified.
    pub(crate) hidden2: [f32; HIDDEN],
    /// Color of the head: sRGB, 0..=1.
    pub(crate) rgb: [f32; 3],
}

impl<'a> ShadingNetwork<'a> {
    /// Borrows the network of a field. `bias` is that of the first layer in one frame,
    /// [`FrameInputs::shade_bias`](crate::FrameInputs::shade_bias).
    #[inline(always)]
    pub(crate) fn new(field: Field<'a>, bias: &'a [f32; HIDDEN]) -> Self {
        let l = field.layout;
        Self {
            w1: field.rows(&l.shade_w1),
            bias,
            w2: field.rows(&l.shade_w2),
            b2: field.part(&l.shade_b2),
            w3: field.rows(&l.shade_w3),
            b3: field.part(&l.shade_b3),
        }
    }

    /// Returns `sigmoid(w3 · relu(w2 · relu(w1 · inputs + bias) + b2) + b3)`.
    #[inline(always)]
    pub(crate) fn shade(&self, inputs: &[f32; SHADE_INPUTS]) -> Shading {
        let mut hidden1 = *self.bias;
        for (row, value) in self.w1.iter().zip(inputs) {
            add_scaled(&mut hidden1, *value, row);
        }
        for h in &mut hidden1 {
            *h = h.max(0.0);
        }
        let mut hidden2 = [0.0; HIDDEN];
        hidden2.copy_from_slice(self.b2);
        for (row, value) in self.w2.iter().zip(&hidden1) {
            add_scaled(&mut hidden2, *value, row);
        }
        for h in &mut hidden2 {
            *h = h.max(0.0);
        }
        let rgb = std::array::from_fn(|c| sigmoid(dot(&self.w3[c], &hidden2) + self.b3[c]));
        Shading { hidden1, hidden2, rgb }
    }

    /// Adds the gradients of the weights to `grads` and returns the gradient of the inputs, given
    /// the gradient of the three outputs before their sigmoid.
    #[inline(always)]
    pub(crate) fn backward(
        &self,
        field: Field<'_>,
        inputs: &[f32; SHADE_INPUTS],
        shading: &Shading,
        g_out: &[f32; 3],
        grads: &mut FrameGradients,
    ) -> [f32; SHADE_INPUTS] {
        let l = field.layout;
        let mut g_hidden2 = [0.0; HIDDEN];
        let g_w3 = grads.network_mut(l, &l.shade_w3).as_chunks_mut::<HIDDEN>().0;
        for c in 0..3 {
            add_scaled(&mut g_hidden2, g_out[c], &self.w3[c]);
            add_scaled(&mut g_w3[c], g_out[c], &shading.hidden2);
        }
        for (g, o) in grads.network_mut(l, &l.shade_b3).iter_mut().zip(g_out) {
            *g += o;
        }
        for (g, h) in g_hidden2.iter_mut().zip(&shading.hidden2) {
            *g = if *h > 0.0 { *g } else { 0.0 };
        }
        let mut g_hidden1 = [0.0; HIDDEN];
        let g_w2 = grads.network_mut(l, &l.shade_w2).as_chunks_mut::<HIDDEN>().0;
        for i in 0..HIDDEN {
            if shading.hidden1[i] > 0.0 {
                g_hidden1[i] = dot(&self.w2[i], &g_hidden2);
                add_scaled(&mut g_w2[i], shading.hidden1[i], &g_hidden2);
            }
        }
        let g_b2 = grads.network_mut(l, &l.shade_b2).as_chunks_mut::<HIDDEN>().0;
        add_scaled(&mut g_b2[0], 1.0, &g_hidden2);
        let mut g_in = [0.0; SHADE_INPUTS];
        let g_w1 = grads.network_mut(l, &l.shade_w1).as_chunks_mut::<HIDDEN>().0;
        for i in 0..SHADE_INPUTS {
            g_in[i] = dot(&self.w1[i], &g_hidden1);
            add_scaled(&mut g_w1[i], inputs[i], &g_hidden1);
        }
        add_scaled(&mut grads.shade_bias, 1.0, &g_hidden1);
        g_in
    }
}

/// Returns the dot product, summed in eight lanes so that it vectorizes.
#[inline(always)]
fn dot(a: &[f32; HIDDEN], b: &[f32; HIDDEN]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        for i in 0..8 {
            lanes[i] += a[i] * b[i];
        }
    }
    lanes.iter().sum()
}
