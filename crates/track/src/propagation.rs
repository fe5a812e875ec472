//! Forward and backward pass of the landmark network.

use types::LANDMARKS;

use crate::convolution::{BlockRole, activate, activate_backward, add_bias_and_activate};
use crate::layers::{
    COEFFICIENTS, COEFFICIENTS_LAYER, CONVS, CROP_SIDE, FLAT, HIDDEN, HIDDEN_LAYER, OFFSETS_LAYER,
    OUTPUTS, PRESENCE_LAYER, SPREAD_LAYER, Weights,
};
use crate::matrix::{add_rows, matrix, matrix_mut, multiply};

/// Outputs of the landmark network for `n` crops, or gradients of a loss with respect to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LandmarkOutputs {
    /// `[n, LANDMARKS, 3]`: landmarks minus the mean face, in crop sides.
    pub offsets: Vec<f32>,
    /// `[n]`: log-odds that the crop shows a face, roughly centered, upright and of the expected
    /// size.
    pub presence: Vec<f32>,
    /// `[n, LANDMARKS]`: natural logarithm of the expected error of each landmark. The unit of the
    /// error is the distance of the outer eye corners of a frontal face.
    pub spread: Vec<f32>,
}

impl LandmarkOutputs {
    /// Returns zeros for `n` crops.
    pub fn zeros(n: usize) -> Self {
        Self {
            offsets: vec![0.0; n * OUTPUTS],
            presence: vec![0.0; n],
            spread: vec![0.0; n * LANDMARKS],
        }
    }

    /// Returns the probability, 0..=1, that crop `index` shows a face, roughly centered, upright
    /// and of the expected size.
    pub fn probability(&self, index: usize) -> f32 {
        1.0 / (1.0 + (-self.presence[index]).exp())
    }
}

/// Activations of one forward pass, kept for the backward pass, and memory that is reused.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    /// The input, then the output of each convolution, `[n, side, side, channels]`.
    activations: Vec<Vec<f32>>,
    /// `[n, HIDDEN]`.
    hidden: Vec<f32>,
    /// `[n, COEFFICIENTS]`.
    coefficients: Vec<f32>,
    outputs: LandmarkOutputs,
    /// Gathered patches and their gradients.
    scratch: [Vec<f32>; 2],
    /// A crop and its mirror image, for [`crate::LandmarkNet::detect`].
    pub(crate) crops: Vec<f32>,
}

impl Tape {
    /// Returns the outputs of the last forward pass.
    pub fn outputs(&self) -> &LandmarkOutputs {
        &self.outputs
    }
}

/// Runs the network on `[n, CROP_SIDE, CROP_SIDE]` normalized crops.
///
/// # Panics
/// If `crops` is not a whole number of crops.
pub(crate) fn forward(weights: &Weights, crops: &[f32], tape: &mut Tape) {
    let n = crops.len() / (CROP_SIDE * CROP_SIDE);
    assert_eq!(crops.len(), n * CROP_SIDE * CROP_SIDE, "crops are {CROP_SIDE} pixels square");
    tape.activations.resize_with(CONVS.len() + 1, Vec::new);
    tape.activations[0].clear();
    tape.activations[0].extend_from_slice(crops);
    for (index, conv) in CONVS.iter().enumerate() {
        let (before, after) = tape.activations.split_at_mut(index + 1);
        let (input, out) = (&before[index], &mut after[0]);
        let (_, weight, bias) = weights.layer(index);
        out.resize(n * conv.len_out(), 0.0);
        conv.forward(input, weight, &mut tape.scratch[0], out);
        let shortcut = (conv.role == BlockRole::Closes).then(|| before[index - 1].as_slice());
        add_bias_and_activate(out, bias, shortcut);
    }
    let flat = &tape.activations[CONVS.len()];
    let outputs = &mut tape.outputs;
    dense(weights, HIDDEN_LAYER, flat, n, &mut tape.hidden);
    tape.hidden.iter_mut().for_each(|v| *v = activate(*v));
    dense(weights, COEFFICIENTS_LAYER, &tape.hidden, n, &mut tape.coefficients);
    dense(weights, OFFSETS_LAYER, &tape.coefficients, n, &mut outputs.offsets);
    dense(weights, PRESENCE_LAYER, &tape.hidden, n, &mut outputs.presence);
    dense(weights, SPREAD_LAYER, &tape.hidden, n, &mut outputs.spread);
}

/// Runs a fully connected layer on `[n, inputs]`.
fn dense(weights: &Weights, index: usize, input: &[f32], n: usize, out: &mut Vec<f32>) {
    let (shape, weight, bias) = weights.layer(index);
    out.clear();
    for _ in 0..n {
        out.extend_from_slice(bias);
    }
    multiply(
        &matrix(input, n, shape.rows),
        &matrix(weight, shape.rows, shape.columns),
        1.0,
        &mut matrix_mut(out, n, shape.columns),
    );
}

/// Adds to `gradient` the gradient of a loss with respect to the parameters, ordered as the
/// parameters; `outputs` holds the loss's gradient with respect to the outputs of the last forward
/// pass on `tape`.
///
/// The gradient of `spread` stops at its own layer, so that learning the expected errors does not
/// change the landmarks.
pub(crate) fn backward(
    weights: &Weights,
    tape: &mut Tape,
    outputs: &LandmarkOutputs,
    gradient: &mut [f32],
) {
    let n = outputs.presence.len();
    let mut coefficients = vec![0.0; n * COEFFICIENTS];
    let mut hidden = vec![0.0; n * HIDDEN];
    let mut after = vec![0.0; n * FLAT];
    let mut dense = |index, input: &[f32], after: &[f32], before: Option<(&mut [f32], f32)>| {
        dense_backward(weights, index, input, after, n, gradient, before);
    };
    dense(OFFSETS_LAYER, &tape.coefficients, &outputs.offsets, Some((&mut coefficients, 0.0)));
    dense(COEFFICIENTS_LAYER, &tape.hidden, &coefficients, Some((&mut hidden, 0.0)));
    dense(PRESENCE_LAYER, &tape.hidden, &outputs.presence, Some((&mut hidden, 1.0)));
    dense(SPREAD_LAYER, &tape.hidden, &outputs.spread, None);
    activate_backward(&mut hidden, &tape.hidden);
    dense(HIDDEN_LAYER, &tape.activations[CONVS.len()], &hidden, Some((&mut after, 0.0)));
    let mut shortcut = None;
    for (index, conv) in CONVS.iter().enumerate().rev() {
        activate_backward(&mut after, &tape.activations[index + 1]);
        if conv.role == BlockRole::Closes {
            shortcut = Some(after.clone());
        }
        let input = &tape.activations[index];
        let mut before = vec![0.0; if index == 0 { 0 } else { input.len() }];
        let (_, weight, _) = weights.layer(index);
        let gradients = weights.gradient_of(index, gradient);
        conv.backward(input, weight, &after, gradients, &mut before, &mut tape.scratch);
        if conv.role == BlockRole::Opens
            && let Some(shortcut) = shortcut.take()
        {
            before.iter_mut().zip(shortcut).for_each(|(b, s)| *b += s);
        }
        after = before;
    }
}

/// Backpropagates through a fully connected layer: adds to the gradients of its parameters, and
/// sets that of its input to `keep · before + ...` for `Some((before, keep))`.
fn dense_backward(
    weights: &Weights,
    index: usize,
    input: &[f32],
    after: &[f32],
    n: usize,
    gradient: &mut [f32],
    before: Option<(&mut [f32], f32)>,
) {
    let (shape, weight, _) = weights.layer(index);
    let (rows, columns) = (shape.rows, shape.columns);
    let [weight_gradient, bias_gradient] = weights.gradient_of(index, gradient);
    let after = matrix(after, n, columns);
    multiply(
        &matrix(input, n, rows).reversed_axes(),
        &after,
        1.0,
        &mut matrix_mut(weight_gradient, rows, columns),
    );
    add_rows(&after, bias_gradient);
    if let Some((before, keep)) = before {
        let weight = matrix(weight, rows, columns);
        multiply(&after, &weight.reversed_axes(), keep, &mut matrix_mut(before, n, rows));
    }
}
