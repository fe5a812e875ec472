//! Forward and backward pass of one network for a batch of samples.

use face::{exp, sigmoid};
use pulp::{Simd, WithSimd};

use crate::frame::NetFrame;
use crate::product::{Rows, add_product, add_transposed_product, transposed};
use crate::ray::{ClassicRay, LOG_DENSITY, POSITION_SCALE, encode};
use crate::sizes::{
    COLORS_PADDED, ClassicSizes, DIRECTION_INPUTS, LayerLayout, NetLayout, POSITION_INPUTS,
};

/// Weights of a network, packed for matrix products.
///
/// Branch and density form one matrix `[width][branch + 16]` with the density in column `branch` and
/// zeros after it; the color layer is `[branch][16]`.
pub(crate) struct PackedNet<'a> {
    layout: &'a NetLayout,
    params: &'a [f32],
    width: usize,
    branch: usize,
    hidden_transposed: Vec<Vec<f32>>,
    out: Vec<f32>,
    out_transposed: Vec<f32>,
    color: Vec<f32>,
    color_transposed: Vec<f32>,
}

/// Outputs of a network for the samples of a few rays of one frame, with the activations that the
/// backward pass needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activations {
    /// Samples on each ray.
    n: usize,
    /// `[rays][DIRECTION_INPUTS]`
    directions: Vec<f32>,
    /// `[rays][branch]`
    branch_bias: Vec<f32>,
    /// `[samples][POSITION_INPUTS]`
    encoded: Vec<f32>,
    /// `[depth][samples][width]`, after the `ReLU`.
    hidden: Vec<Vec<f32>>,
    /// `[samples][branch + 16]`: branch after the `ReLU`, then the logarithm of the density.
    out: Vec<f32>,
    /// `[samples][16]`: logits of the colors.
    logits: Vec<f32>,
    /// `[samples]`: color and density, the input of [`crate::ray::integrate`].
    pub(crate) samples: Vec<([f32; 3], f32)>,
    g_out: Vec<f32>,
    g_logits: Vec<f32>,
    g_hidden: [Vec<f32>; 2],
    g_branch: Vec<f32>,
}

/// Gradients of one network that are completed once per frame by [`NetGrads::finish`], because they
/// involve products with the codes or packed matrices.
#[derive(Clone, Debug)]
pub(crate) struct NetGrads {
    /// `[depth][width]`: gradients of [`NetFrame::biases`].
    pub(crate) biases: Vec<Vec<f32>>,
    out: Vec<f32>,
    out_bias: Vec<f32>,
    color: Vec<f32>,
    color_bias: Vec<f32>,
}

impl<'a> PackedNet<'a> {
    pub(crate) fn new(sizes: &ClassicSizes, layout: &'a NetLayout, params: &'a [f32]) -> Self {
        let (width, branch) = (sizes.width, sizes.branch());
        let mut out = vec![0.0; width * (branch + 16)];
        let rows = params[layout.branch.clone()].chunks_exact(branch);
        for ((to, from), density) in
            out.chunks_exact_mut(branch + 16).zip(rows).zip(&params[layout.density.clone()])
        {
            to[..branch].copy_from_slice(from);
            to[branch] = *density;
        }
        let mut color = vec![0.0; branch * COLORS_PADDED];
        let rows = params[layout.color.clone()].chunks_exact(3);
        for (to, from) in color.chunks_exact_mut(COLORS_PADDED).zip(rows) {
            to[..3].copy_from_slice(from);
        }
        let transposed_hidden =
            |layer: &LayerLayout| transposed(&params[layer.hidden.clone()], width);
        Self {
            layout,
            params,
            width,
            branch,
            hidden_transposed: layout.layers.iter().map(transposed_hidden).collect(),
            out_transposed: transposed(&out, branch + 16),
            out,
            color_transposed: transposed(&color, COLORS_PADDED),
            color,
        }
    }

    fn part(&self, range: &std::ops::Range<usize>) -> &[f32] {
        &self.params[range.clone()]
    }

    /// Evaluates the network at `places`, `[rays][n]` distances along the rays.
    pub(crate) fn forward(
        &self,
        inputs: &NetFrame,
        rays: &[ClassicRay],
        places: &[f32],
        to: &mut Activations,
    ) {
        pulp::Arch::new().dispatch(Forward { net: self, inputs, rays, places, to });
    }

    /// Back-propagates the gradients of each sample's color and density to the parameters.
    ///
    /// Adds to `grads`, which has the layout of the field's parameters, and to `own`.
    pub(crate) fn backward(
        &self,
        g_samples: &[([f32; 3], f32)],
        from: &mut Activations,
        grads: &mut [f32],
        own: &mut NetGrads,
    ) {
        pulp::Arch::new().dispatch(Backward { net: self, g_samples, from, grads, own });
    }

    #[inline(always)]
    fn forward_with<S: Simd>(
        &self,
        simd: S,
        inputs: &NetFrame,
        rays: &[ClassicRay],
        places: &[f32],
        to: &mut Activations,
    ) {
        let (width, branch, n_rows) = (self.width, self.branch, places.len());
        let n = n_rows / rays.len();
        to.n = n;
        to.directions.resize(rays.len() * DIRECTION_INPUTS, 0.0);
        to.encoded.resize(n_rows * POSITION_INPUTS, 0.0);
        let directions = to.directions.chunks_exact_mut(DIRECTION_INPUTS);
        let encoded = to.encoded.chunks_exact_mut(n * POSITION_INPUTS);
        for (((ray, direction), rows), places) in
            rays.iter().zip(directions).zip(encoded).zip(places.chunks_exact(n))
        {
            encode(ray.direction, direction);
            for (row, t) in rows.chunks_exact_mut(POSITION_INPUTS).zip(places) {
                encode(ray.at(*t).map(|v| v * POSITION_SCALE), row);
            }
        }

        to.hidden.resize(self.layout.layers.len(), Vec::new());
        for (index, layer) in self.layout.layers.iter().enumerate() {
            let (before, after) = to.hidden.split_at_mut(index);
            let out = &mut after[0];
            repeat(out, &inputs.biases[index], n_rows);
            if let Some(before) = before.last() {
                let a = Rows::contiguous(before, width);
                add_product(simd, out, width, a, self.part(&layer.hidden), width);
            }
            if !layer.position.is_empty() {
                let a = Rows::contiguous(&to.encoded, POSITION_INPUTS);
                add_product(simd, out, width, a, self.part(&layer.position), width);
            }
            apply_relu(out);
        }

        repeat(&mut to.branch_bias, self.part(&self.layout.branch_bias), rays.len());
        let a = Rows::contiguous(&to.directions, DIRECTION_INPUTS);
        let weights = self.part(&self.layout.branch_direction);
        add_product(simd, &mut to.branch_bias, branch, a, weights, branch);
        let stride = branch + 16;
        to.out.resize(n_rows * stride, 0.0);
        let density_bias = self.params[self.layout.density_bias.start];
        for (rows, bias) in
            to.out.chunks_exact_mut(n * stride).zip(to.branch_bias.chunks_exact(branch))
        {
            for row in rows.chunks_exact_mut(stride) {
                row[..branch].copy_from_slice(bias);
                row[branch..].fill(0.0);
                row[branch] = density_bias;
            }
        }
        if let Some(last) = to.hidden.last() {
            add_product(
                simd,
                &mut to.out,
                stride,
                Rows::contiguous(last, width),
                &self.out,
                stride,
            );
        }
        for row in to.out.chunks_exact_mut(stride) {
            apply_relu(&mut row[..branch]);
        }

        let mut bias = [0.0; COLORS_PADDED];
        bias[..3].copy_from_slice(self.part(&self.layout.color_bias));
        repeat(&mut to.logits, &bias, n_rows);
        let a = Rows { numbers: &to.out, width: branch, stride };
        add_product(simd, &mut to.logits, COLORS_PADDED, a, &self.color, COLORS_PADDED);
        to.samples.resize(n_rows, ([0.0; 3], 0.0));
        let rows = to.out.chunks_exact(stride).zip(to.logits.as_chunks::<COLORS_PADDED>().0);
        for (sample, (out, logits)) in to.samples.iter_mut().zip(rows) {
            let color = [sigmoid(logits[0]), sigmoid(logits[1]), sigmoid(logits[2])];
            *sample = (color, exp(out[branch].clamp(LOG_DENSITY.0, LOG_DENSITY.1)));
        }
    }

    #[inline(always)]
    fn backward_with<S: Simd>(
        &self,
        simd: S,
        g_samples: &[([f32; 3], f32)],
        from: &mut Activations,
        grads: &mut [f32],
        own: &mut NetGrads,
    ) {
        let (width, branch, n_rows) = (self.width, self.branch, g_samples.len());
        let (n, stride) = (from.n, branch + 16);
        from.g_logits.clear();
        from.g_logits.resize(n_rows * COLORS_PADDED, 0.0);
        from.g_out.clear();
        from.g_out.resize(n_rows * stride, 0.0);
        let g_rows = from.g_logits.as_chunks_mut::<COLORS_PADDED>().0;
        for ((g, row), (color, _)) in g_samples.iter().zip(g_rows).zip(&from.samples) {
            for c in 0..3 {
                row[c] = g.0[c] * color[c] * (1.0 - color[c]);
            }
        }
        let a = Rows { numbers: &from.out, width: branch, stride };
        add_transposed_product(simd, &mut own.color, a, &from.g_logits, COLORS_PADDED);
        add_rows(&mut own.color_bias, &from.g_logits);
        let a = Rows::contiguous(&from.g_logits, COLORS_PADDED);
        add_product(simd, &mut from.g_out, stride, a, &self.color_transposed, branch);
        let rows = from.g_out.chunks_exact_mut(stride).zip(from.out.chunks_exact(stride));
        for ((g_row, row), (g, (_, sigma))) in rows.zip(g_samples.iter().zip(&from.samples)) {
            mask(&mut g_row[..branch], &row[..branch]);
            let inside = (LOG_DENSITY.0..=LOG_DENSITY.1).contains(&row[branch]);
            g_row[branch] = if inside { g.1 * sigma } else { 0.0 };
        }

        from.g_branch.clear();
        from.g_branch.resize(from.directions.len() / DIRECTION_INPUTS * branch, 0.0);
        for (sum, rows) in
            from.g_branch.chunks_exact_mut(branch).zip(from.g_out.chunks_exact(n * stride))
        {
            for row in rows.chunks_exact(stride) {
                add_rows(sum, &row[..branch]);
            }
        }
        let g = &mut grads[self.layout.branch_direction.clone()];
        let a = Rows::contiguous(&from.directions, DIRECTION_INPUTS);
        add_transposed_product(simd, g, a, &from.g_branch, branch);
        add_rows(&mut own.out_bias, &from.g_out);

        let Some(last) = from.hidden.last() else { return };
        add_transposed_product(
            simd,
            &mut own.out,
            Rows::contiguous(last, width),
            &from.g_out,
            stride,
        );
        let [g, next] = &mut from.g_hidden;
        g.clear();
        g.resize(n_rows * width, 0.0);
        let a = Rows::contiguous(&from.g_out, stride);
        add_product(simd, g, width, a, &self.out_transposed, width);
        for (index, layer) in self.layout.layers.iter().enumerate().rev() {
            mask(g, &from.hidden[index]);
            add_rows(&mut own.biases[index], g);
            if !layer.position.is_empty() {
                let to = &mut grads[layer.position.clone()];
                add_transposed_product(
                    simd,
                    to,
                    Rows::contiguous(&from.encoded, POSITION_INPUTS),
                    g,
                    width,
                );
            }
            if index > 0 {
                let a = Rows::contiguous(&from.hidden[index - 1], width);
                add_transposed_product(simd, &mut grads[layer.hidden.clone()], a, g, width);
                next.clear();
                next.resize(n_rows * width, 0.0);
                let weights = &self.hidden_transposed[index];
                add_product(simd, next, width, Rows::contiguous(g, width), weights, width);
                std::mem::swap(g, next);
            }
        }
    }
}

struct Forward<'a, 'b> {
    net: &'a PackedNet<'b>,
    inputs: &'a NetFrame,
    rays: &'a [ClassicRay],
    places: &'a [f32],
    to: &'a mut Activations,
}

impl WithSimd for Forward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.net.forward_with(simd, self.inputs, self.rays, self.places, self.to);
    }
}

struct Backward<'a, 'b> {
    net: &'a PackedNet<'b>,
    g_samples: &'a [([f32; 3], f32)],
    from: &'a mut Activations,
    grads: &'a mut [f32],
    own: &'a mut NetGrads,
}

impl WithSimd for Backward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.net.backward_with(simd, self.g_samples, self.from, self.grads, self.own);
    }
}

impl NetGrads {
    pub(crate) fn new(sizes: &ClassicSizes) -> Self {
        let stride = sizes.branch() + 16;
        Self {
            biases: vec![vec![0.0; sizes.width]; sizes.depth],
            out: vec![0.0; sizes.width * stride],
            out_bias: vec![0.0; stride],
            color: vec![0.0; sizes.branch() * COLORS_PADDED],
            color_bias: vec![0.0; COLORS_PADDED],
        }
    }

    pub(crate) fn clear(&mut self) {
        self.biases.iter_mut().for_each(|b| b.fill(0.0));
        for part in [&mut self.out, &mut self.out_bias, &mut self.color, &mut self.color_bias] {
            part.fill(0.0);
        }
    }

    /// Adds the gradients kept here to `grads` and returns the gradient of the condition,
    /// [`NetFrame::condition`].
    pub(crate) fn finish(
        &self,
        layout: &NetLayout,
        params: &[f32],
        inputs: &NetFrame,
        grads: &mut [f32],
    ) -> Vec<f32> {
        let branch = layout.branch_bias.len();
        let stride = branch + 16;
        let out = self.out.chunks_exact(stride);
        for (row, (to, density)) in
            out.zip(layout.branch.clone().step_by(branch).zip(layout.density.clone()))
        {
            add_rows(&mut grads[to..to + branch], &row[..branch]);
            grads[density] += row[branch];
        }
        add_rows(&mut grads[layout.branch_bias.clone()], &self.out_bias[..branch]);
        grads[layout.density_bias.start] += self.out_bias[branch];
        for (row, to) in
            self.color.as_chunks::<COLORS_PADDED>().0.iter().zip(layout.color.clone().step_by(3))
        {
            add_rows(&mut grads[to..to + 3], &row[..3]);
        }
        add_rows(&mut grads[layout.color_bias.clone()], &self.color_bias[..3]);
        let mut g_condition = vec![0.0; inputs.condition.len()];
        for (layer, g) in layout.layers.iter().zip(&self.biases) {
            add_rows(&mut grads[layer.bias.clone()], g);
            let places = layer.condition.clone().step_by(g.len());
            for ((at, value), g_value) in places.zip(&inputs.condition).zip(&mut g_condition) {
                let row = at..at + g.len();
                *g_value += params[row.clone()].iter().zip(g).map(|(w, g)| w * g).sum::<f32>();
                grads[row].iter_mut().zip(g).for_each(|(to, g)| *to += value * g);
            }
        }
        g_condition
    }
}

/// Fills `to` with `n` copies of `row`.
#[inline(always)]
fn repeat(to: &mut Vec<f32>, row: &[f32], n: usize) {
    to.resize(n * row.len(), 0.0);
    to.chunks_exact_mut(row.len()).for_each(|to| to.copy_from_slice(row));
}

/// Clamps negative values to zero.
#[inline(always)]
fn apply_relu(values: &mut [f32]) {
    for v in values {
        *v = v.max(0.0);
    }
}

/// Back-propagates through a `ReLU`: zeroes gradients whose output was zero.
#[inline(always)]
fn mask(g: &mut [f32], output: &[f32]) {
    g.iter_mut().zip(output).for_each(|(g, v)| *g = if *v > 0.0 { *g } else { 0.0 });
}

/// Adds every row of `rows` to `sum`.
#[inline(always)]
fn add_rows(sum: &mut [f32], rows: &[f32]) {
    for row in rows.chunks_exact(sum.len()) {
        sum.iter_mut().zip(row).for_each(|(s, v)| *s += v);
    }
}
