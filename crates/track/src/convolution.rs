//! One convolution of the landmark network: forward as a matrix product over gathered patches,
//! and its derivative.

use crate::matrix::{add_rows, matrix, matrix_mut, multiply};

/// Slope of the activation below zero: `max(x, LEAK x)`, a leaky rectifier.
const LEAK: f32 = 0.1;

/// Part of a convolution in a residual block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BlockRole {
    /// Belongs to no block.
    Plain,
    /// First convolution of a block: its input is also the shortcut.
    Opens,
    /// Second convolution of a block: the shortcut is added before its activation.
    Closes,
}

/// Shape of one convolution, channels last: `[side, side, input]` to
/// `[side / stride, side / stride, output]`, zero-padded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Conv {
    pub(crate) name: &'static str,
    /// Side of the square kernel.
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    /// Side of the input.
    pub(crate) side: usize,
    /// Channels of the input.
    pub(crate) input: usize,
    /// Channels of the output.
    pub(crate) output: usize,
    pub(crate) role: BlockRole,
}

impl Conv {
    /// Returns the side of the output.
    pub(crate) const fn side_out(&self) -> usize {
        self.side / self.stride
    }

    /// Returns the length of a patch: rows of the weight matrix, ordered `[ky, kx, channel]`.
    pub(crate) const fn patch(&self) -> usize {
        self.kernel * self.kernel * self.input
    }

    /// Returns the length of the input of one crop.
    const fn len_in(&self) -> usize {
        self.side * self.side * self.input
    }

    /// Returns the length of the output of one crop.
    pub(crate) const fn len_out(&self) -> usize {
        self.side_out() * self.side_out() * self.output
    }

    /// Returns the number of crops whose patches are gathered together: about 200 KB, which stay
    /// in cache.
    fn crops_at_once(&self) -> usize {
        (49_152 / (self.side_out() * self.side_out() * self.patch())).max(1)
    }

    /// Copies the patch under the kernel at every position of one crop, zeros outside the crop.
    ///
    /// `input` is `[side, side, input]`, `patches` becomes `[side_out², patch]`.
    fn gather(&self, input: &[f32], patches: &mut [f32]) {
        let (row, line) = (self.side * self.input, self.kernel * self.input);
        for (place, patch) in patches.chunks_exact_mut(self.patch()).enumerate() {
            for (ky, out) in patch.chunks_exact_mut(line).enumerate() {
                let Some((y, from, to, skip)) = self.span(place, ky) else {
                    out.fill(0.0);
                    continue;
                };
                out[..skip].fill(0.0);
                out[skip..skip + to - from].copy_from_slice(&input[y * row + from..y * row + to]);
                out[skip + to - from..].fill(0.0);
            }
        }
    }

    /// Adds every patch to the position it was gathered from: the transpose of [`Conv::gather`].
    fn scatter(&self, patches: &[f32], input: &mut [f32]) {
        let (row, line) = (self.side * self.input, self.kernel * self.input);
        for (place, patch) in patches.chunks_exact(self.patch()).enumerate() {
            for (ky, values) in patch.chunks_exact(line).enumerate() {
                let Some((y, from, to, skip)) = self.span(place, ky) else { continue };
                let target = &mut input[y * row + from..y * row + to];
                for (t, v) in target.iter_mut().zip(&values[skip..]) {
                    *t += v;
                }
            }
        }
    }

    /// Returns where row `ky` of the kernel at position `place` reads: the input row, the range
    /// within it, and the count of zeros before. `None` if the row lies outside the input.
    fn span(&self, place: usize, ky: usize) -> Option<(usize, usize, usize, usize)> {
        let reach = self.kernel / 2;
        let (oy, ox) = (place / self.side_out(), place % self.side_out());
        let y = (oy * self.stride + ky).checked_sub(reach).filter(|&y| y < self.side)?;
        let x = ox * self.stride;
        let first = x.saturating_sub(reach);
        let end = (x + self.kernel - reach).min(self.side);
        let skip = first + reach - x;
        Some((y, first * self.input, end * self.input, skip * self.input))
    }

    /// Convolves whole crops, without bias and activation.
    ///
    /// `input` is `[n, side, side, input]`, `weight` is `[patch, output]`, `out` becomes
    /// `[n, side_out, side_out, output]`; `patches` is scratch memory.
    pub(crate) fn forward(
        &self,
        input: &[f32],
        weight: &[f32],
        patches: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let (len_in, places) = (self.len_in(), self.side_out() * self.side_out());
        let at_once = self.crops_at_once();
        let weight = matrix(weight, self.patch(), self.output);
        for (input, out) in
            input.chunks(at_once * len_in).zip(out.chunks_mut(at_once * self.len_out()))
        {
            let rows = input.len() / len_in * places;
            let source = if self.kernel == 1 {
                input
            } else {
                patches.resize((rows * self.patch()).max(patches.len()), 0.0);
                for (crop, patches) in
                    input.chunks_exact(len_in).zip(patches.chunks_exact_mut(places * self.patch()))
                {
                    self.gather(crop, patches);
                }
                &patches[..rows * self.patch()]
            };
            multiply(
                &matrix(source, rows, self.patch()),
                &weight,
                0.0,
                &mut matrix_mut(out, rows, self.output),
            );
        }
    }

    /// Backpropagates through the convolution, whose output has the gradient `after`.
    ///
    /// Adds to the gradients of weight and bias, and to that of the input unless `before` is
    /// empty; `scratch` is reused memory.
    pub(crate) fn backward(
        &self,
        input: &[f32],
        weight: &[f32],
        after: &[f32],
        [weight_gradient, bias_gradient]: [&mut [f32]; 2],
        before: &mut [f32],
        scratch: &mut [Vec<f32>; 2],
    ) {
        let (rows, columns) = (self.patch(), self.output);
        let (len_in, places) = (self.len_in(), self.side_out() * self.side_out());
        let at_once = self.crops_at_once();
        let weight = matrix(weight, rows, columns);
        let [patches, patch_gradients] = scratch;
        add_rows(&matrix(after, after.len() / columns, columns), bias_gradient);
        let mut weight_gradient = matrix_mut(weight_gradient, rows, columns);
        for (tile, input) in input.chunks(at_once * len_in).enumerate() {
            let crops = input.len() / len_in;
            let m = crops * places;
            let start = tile * at_once;
            let after = &after[start * self.len_out()..(start + crops) * self.len_out()];
            let after = matrix(after, m, columns);
            patches.resize((m * rows).max(patches.len()), 0.0);
            let patches = &mut patches[..m * rows];
            for (crop, patches) in
                input.chunks_exact(len_in).zip(patches.chunks_exact_mut(places * rows))
            {
                self.gather(crop, patches);
            }
            multiply(&matrix(patches, m, rows).reversed_axes(), &after, 1.0, &mut weight_gradient);
            if before.is_empty() {
                continue;
            }
            patch_gradients.resize((m * rows).max(patch_gradients.len()), 0.0);
            let back = &mut patch_gradients[..m * rows];
            multiply(&after, &weight.reversed_axes(), 0.0, &mut matrix_mut(back, m, rows));
            let before = &mut before[start * len_in..(start + crops) * len_in];
            for (crop, back) in
                before.chunks_exact_mut(len_in).zip(back.chunks_exact(places * rows))
            {
                self.scatter(back, crop);
            }
        }
    }
}

/// Applies the leaky rectifier.
pub(crate) fn activate(value: f32) -> f32 {
    value.max(LEAK * value)
}

/// Multiplies `gradient` by the derivative of the activation whose results are `output`.
pub(crate) fn activate_backward(gradient: &mut [f32], output: &[f32]) {
    for (g, &o) in gradient.iter_mut().zip(output) {
        if o < 0.0 {
            *g *= LEAK;
        }
    }
}

/// Adds bias and shortcut to `out`, `[.., channels]`, and activates.
pub(crate) fn add_bias_and_activate(out: &mut [f32], bias: &[f32], shortcut: Option<&[f32]>) {
    let channels = bias.len();
    if let Some(shortcut) = shortcut {
        for (line, add) in out.chunks_exact_mut(channels).zip(shortcut.chunks_exact(channels)) {
            for ((v, b), s) in line.iter_mut().zip(bias).zip(add) {
                *v = activate(*v + b + s);
            }
        }
    } else {
        for line in out.chunks_exact_mut(channels) {
            for (v, b) in line.iter_mut().zip(bias) {
                *v = activate(*v + b);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv(kernel: usize, stride: usize, input: usize, output: usize) -> Conv {
        Conv { name: "", kernel, stride, side: 6, input, output, role: BlockRole::Plain }
    }

    /// Convolves by the definition.
    fn by_definition(conv: &Conv, input: &[f32], weight: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        for place in 0..conv.side_out() * conv.side_out() {
            let (oy, ox) = (place / conv.side_out(), place % conv.side_out());
            for o in 0..conv.output {
                let mut sum = 0.0;
                for k in 0..conv.patch() {
                    let (ky, rest) =
                        (k / (conv.kernel * conv.input), k % (conv.kernel * conv.input));
                    let (kx, c) = (rest / conv.input, rest % conv.input);
                    let y = (oy * conv.stride + ky).wrapping_sub(conv.kernel / 2);
                    let x = (ox * conv.stride + kx).wrapping_sub(conv.kernel / 2);
                    if x < conv.side && y < conv.side {
                        let value = input[(y * conv.side + x) * conv.input + c];
                        sum += value * weight[k * conv.output + o];
                    }
                }
                out.push(sum);
            }
        }
        out
    }

    #[test]
    fn the_matrix_product_equals_the_definition() {
        for (kernel, stride) in [(3, 1), (3, 2), (1, 1)] {
            let conv = conv(kernel, stride, 2, 3);
            let wave = |n: usize| (0..n).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
            let (input, weight) = (wave(6 * 6 * 2), wave(conv.patch() * 3));
            let mut out = vec![0.0; conv.len_out()];
            conv.forward(&input, &weight, &mut Vec::new(), &mut out);
            for (a, b) in out.iter().zip(by_definition(&conv, &input, &weight)) {
                assert!((a - b).abs() < 1e-5, "kernel {kernel}, stride {stride}: {a} {b}");
            }
        }
    }

    #[test]
    fn scattering_is_the_transpose_of_gathering() {
        let conv = conv(3, 2, 2, 1);
        let x: Vec<f32> = (0..72).map(|i| (i as f32).cos()).collect();
        let y: Vec<f32> = (0..9 * 18).map(|i| (i as f32 * 1.3).sin()).collect();
        let (mut gathered, mut scattered) = (vec![0.0; y.len()], vec![0.0; x.len()]);
        conv.gather(&x, &mut gathered);
        conv.scatter(&y, &mut scattered);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        assert!((dot(&gathered, &y) - dot(&x, &scattered)).abs() < 1e-4);
    }
}
