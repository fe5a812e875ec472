//! The shading network for several rays at once.

use face::{FaceModel, HIDDEN, SHADE_INPUTS};

/// Rays that share each load of a weight.
pub(super) const BATCH: usize = 4;

/// Weights of the shading network, step 3 of [`face::FrameField::render_ray`].
pub(super) struct Network<'a> {
    w1: &'a [[f32; HIDDEN]],
    b1: &'a [f32; HIDDEN],
    w2: &'a [[f32; HIDDEN]],
    b2: [f32; HIDDEN],
    w3: &'a [[f32; HIDDEN]],
    b3: [f32; 3],
}

impl<'a> Network<'a> {
    /// Borrows the network of a model, with the first layer's bias of one frame.
    pub(super) fn new(model: &'a FaceModel, bias: &'a [f32; HIDDEN]) -> Self {
        let part = |range: &std::ops::Range<usize>| &model.params()[range.clone()];
        let layout = model.layout();
        let mut b2 = [0.0; HIDDEN];
        b2.copy_from_slice(part(&layout.shade_b2));
        let mut b3 = [0.0; 3];
        b3.copy_from_slice(part(&layout.shade_b3));
        Self {
            w1: part(&layout.shade_w1).as_chunks().0,
            b1: bias,
            w2: part(&layout.shade_w2).as_chunks().0,
            b2,
            w3: part(&layout.shade_w3).as_chunks().0,
            b3,
        }
    }

    /// Returns the colors of [`BATCH`] rays before the sigmoid.
    #[inline(always)]
    pub(super) fn shade<S: pulp::Simd>(
        &self,
        simd: S,
        inputs: &[[f32; SHADE_INPUTS]; BATCH],
    ) -> [[f32; 3]; BATCH] {
        let mut hidden = [[0.0; HIDDEN]; BATCH];
        dense(simd, self.w1, self.b1, inputs, &mut hidden);
        let mut last = [[0.0; HIDDEN]; BATCH];
        dense(simd, self.w2, &self.b2, &hidden, &mut last);
        let mut rgb = [[0.0; 3]; BATCH];
        for (rgb, hidden) in rgb.iter_mut().zip(&last) {
            let hidden = S::as_simd_f32s(hidden).0;
            for ((color, row), bias) in rgb.iter_mut().zip(self.w3).zip(self.b3) {
                let mut sum = simd.splat_f32s(0.0);
                for (w, h) in S::as_simd_f32s(row).0.iter().zip(hidden) {
                    sum = simd.mul_add_e_f32s(*w, *h, sum);
                }
                *color = simd.reduce_sum_f32s(sum) + bias;
            }
        }
        rgb
    }
}

/// Computes `outputs = relu(bias + weights · inputs)`, two registers of outputs for each ray at a
/// time.
#[inline(always)]
fn dense<S: pulp::Simd, const N: usize>(
    simd: S,
    weights: &[[f32; HIDDEN]],
    bias: &[f32; HIDDEN],
    inputs: &[[f32; N]; BATCH],
    outputs: &mut [[f32; HIDDEN]; BATCH],
) {
    let width = S::F32_LANES;
    let zero = simd.splat_f32s(0.0);
    let [in0, in1, in2, in3] = inputs;
    let [out0, out1, out2, out3] = outputs;
    for at in (0..HIDDEN).step_by(2 * width) {
        let (left, right) = (at..at + width, at + width..at + 2 * width);
        let load = |from: &[f32]| S::as_simd_f32s(from).0[0];
        let (mut a0, mut b0) = (load(&bias[left.clone()]), load(&bias[right.clone()]));
        let (mut a1, mut b1) = (a0, b0);
        let (mut a2, mut b2) = (a0, b0);
        let (mut a3, mut b3) = (a0, b0);
        for ((((row, x0), x1), x2), x3) in weights.iter().zip(in0).zip(in1).zip(in2).zip(in3) {
            let pair = S::as_simd_f32s(&row[at..at + 2 * width]).0;
            let (a, b) = (pair[0], pair[1]);
            let x0 = simd.splat_f32s(*x0);
            a0 = simd.mul_add_e_f32s(a, x0, a0);
            b0 = simd.mul_add_e_f32s(b, x0, b0);
            let x1 = simd.splat_f32s(*x1);
            a1 = simd.mul_add_e_f32s(a, x1, a1);
            b1 = simd.mul_add_e_f32s(b, x1, b1);
            let x2 = simd.splat_f32s(*x2);
            a2 = simd.mul_add_e_f32s(a, x2, a2);
            b2 = simd.mul_add_e_f32s(b, x2, b2);
            let x3 = simd.splat_f32s(*x3);
            a3 = simd.mul_add_e_f32s(a, x3, a3);
            b3 = simd.mul_add_e_f32s(b, x3, b3);
        }
        for (out, a, b) in
            [(&mut *out0, a0, b0), (&mut *out1, a1, b1), (&mut *out2, a2, b2), (&mut *out3, a3, b3)]
        {
            let pair = S::as_mut_simd_f32s(&mut out[at..at + 2 * width]).0;
            pair[0] = simd.max_f32s(a, zero);
            pair[1] = simd.max_f32s(b, zero);
        }
    }
}

/// Returns the sum of eight numbers, added in halves, which takes three steps.
#[inline(always)]
pub(super) fn sum_of_eight(v: &[f32; 8]) -> f32 {
    let four: [f32; 4] = [v[0] + v[4], v[1] + v[5], v[2] + v[6], v[3] + v[7]];
    (four[0] + four[2]) + (four[1] + four[3])
}
