//! Loss and gradient of a batch of samples.

use ndarray::ArrayView2;
use track::{
    COEFFICIENTS, CONVS, CROP_SIDE, Conv, FLAT, HIDDEN, LEAK, LandmarkNet, OUTPUTS, Parameter,
    Role, Tape, matrix, matrix_mut, multiply, parameter_layout,
};
use types::LANDMARKS;

use crate::augment::Sample;

/// Error at which the landmark loss changes from quadratic to linear, relative to the distance of the
/// outer eye corners.
const KNEE: f32 = 0.015;
/// Weight of depth relative to x and y.
const DEPTH: f32 = 0.25;
/// Weight of the presence loss relative to the landmark loss.
const PRESENCE: f32 = 0.04;
/// Weight of the loss of the expected errors. Its gradient ends at their own layer.
const SPREAD: f32 = 0.02;
/// Lower bound of errors in that loss, relative to the outer eye corners: below the accuracy of the
/// labels.
const LEAST_ERROR: f32 = 0.002;

/// Worker for part of a batch, with its own gradient and buffers.
pub(crate) struct Lane {
    pub(crate) gradient: Vec<f32>,
    /// Sums over this lane's samples: landmark loss and its count, presence loss and its count, loss of
    /// the expected errors, which has the count of the landmark loss.
    pub(crate) sums: [f32; 5],
    layout: Vec<Parameter>,
    tape: Tape,
    crops: Vec<f32>,
    patches: Vec<f32>,
    patches_gradient: Vec<f32>,
}

impl Lane {
    pub(crate) fn new() -> Self {
        let layout = parameter_layout();
        let len = layout.last().map_or(0, |p| p.range().end);
        Self {
            gradient: vec![0.0; len],
            sums: [0.0; 5],
            layout,
            tape: Tape::default(),
            crops: Vec::new(),
            patches: Vec::new(),
            patches_gradient: Vec::new(),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.gradient.fill(0.0);
        self.sums = [0.0; 5];
    }

    /// Adds the gradient of the loss of `samples`, each with weight `1 / batch`; `weights` are those of the
    /// landmarks.
    pub(crate) fn add(
        &mut self,
        net: &LandmarkNet,
        samples: &[Sample],
        weights: &[f32],
        batch: usize,
    ) {
        let n = samples.len();
        self.crops.clear();
        for sample in samples {
            self.crops.extend_from_slice(&sample.crop);
        }
        debug_assert_eq!(self.crops.len(), n * CROP_SIDE * CROP_SIDE);
        net.run(&self.crops, &mut self.tape);
        let mut offsets = vec![0.0; n * OUTPUTS];
        let mut presence = vec![0.0; n];
        let mut spread = vec![0.0; n * LANDMARKS];
        for (i, sample) in samples.iter().enumerate() {
            let logit = self.tape.presence[i];
            let (label, probability) =
                (f32::from(sample.target.is_some()), 1.0 / (1.0 + (-logit).exp()));
            presence[i] = PRESENCE * (probability - label) / batch as f32;
            let signed = if label > 0.5 { -logit } else { logit };
            self.sums[2] += signed.max(0.0) + (-signed.abs()).exp().ln_1p();
            self.sums[3] += 1.0;
            let Some(target) = &sample.target else { continue };
            let range = i * OUTPUTS..(i + 1) * OUTPUTS;
            let (found, out) = (&self.tape.offsets[range.clone()], &mut offsets[range]);
            let mut loss = 0.0;
            for (j, weight) in weights.iter().enumerate() {
                for (axis, share) in [(0, 1.0), (1, 1.0), (2, DEPTH)] {
                    let k = j * 3 + axis;
                    let error = (found[k] - target.offsets[k]) / target.unit;
                    let length = error.hypot(KNEE);
                    loss += weight * share * (length - KNEE);
                    out[k] = weight * share * error / length / target.unit / batch as f32;
                }
            }
            // Negative log likelihood of an exponential distribution of the distance, whose maximum
            // likelihood scale is the mean distance.
            let expected = &self.tape.spread[i * LANDMARKS..(i + 1) * LANDMARKS];
            let spread = &mut spread[i * LANDMARKS..(i + 1) * LANDMARKS];
            for (j, (log, g)) in expected.iter().zip(spread).enumerate() {
                let error = |axis: usize| found[3 * j + axis] - target.offsets[3 * j + axis];
                let distance = (error(0).hypot(error(1)) / target.unit).max(LEAST_ERROR);
                let ratio = distance * (-log).exp();
                self.sums[4] += (ratio + log) / LANDMARKS as f32;
                *g = SPREAD * (1.0 - ratio) / LANDMARKS as f32 / batch as f32;
            }
            self.sums[0] += loss;
            self.sums[1] += 1.0;
        }
        self.backward(net, n, &offsets, &presence, &spread);
    }

    /// Back-propagates the gradients of all outputs to the parameters.
    fn backward(
        &mut self,
        net: &LandmarkNet,
        n: usize,
        offsets: &[f32],
        presence: &[f32],
        spread: &[f32],
    ) {
        let heads = CONVS.len();
        let tape = std::mem::take(&mut self.tape);
        let mut coefficients = vec![0.0; n * COEFFICIENTS];
        self.head(net, heads + 2, &tape.coefficients, offsets, n, Some((&mut coefficients, 0.0)));
        let mut hidden = vec![0.0; n * HIDDEN];
        self.head(net, heads + 1, &tape.hidden, &coefficients, n, Some((&mut hidden, 0.0)));
        self.head(net, heads + 3, &tape.hidden, presence, n, Some((&mut hidden, 1.0)));
        self.head(net, heads + 4, &tape.hidden, spread, n, None);
        through_activation(&mut hidden, &tape.hidden);
        let mut after = vec![0.0; n * FLAT];
        let flat = &tape.activations[heads];
        self.head(net, heads, flat, &hidden, n, Some((&mut after, 0.0)));
        let mut shortcut = None;
        for (index, conv) in CONVS.iter().enumerate().rev() {
            through_activation(&mut after, &tape.activations[index + 1]);
            if conv.role == Role::Closes {
                shortcut = Some(after.clone());
            }
            let mut before = vec![0.0; if index == 0 { 0 } else { tape.activations[index].len() }];
            self.conv(net, index, conv, &tape.activations[index], &after, &mut before);
            if conv.role == Role::Opens
                && let Some(shortcut) = shortcut.take()
            {
                before.iter_mut().zip(shortcut).for_each(|(b, s)| *b += s);
            }
            after = before;
        }
        self.tape = tape;
    }

    /// Back-propagates through a fully connected layer: to its parameters and, if given, to its input as
    /// `before = keep * before + gradient`.
    fn head(
        &mut self,
        net: &LandmarkNet,
        index: usize,
        input: &[f32],
        after: &[f32],
        n: usize,
        before: Option<(&mut [f32], f32)>,
    ) {
        let (weight, bias) = (&self.layout[2 * index], &self.layout[2 * index + 1]);
        let (rows, columns) = (weight.rows, weight.columns);
        let after = matrix(after, n, columns);
        multiply(
            &matrix(input, n, rows).reversed_axes(),
            &after,
            1.0,
            &mut matrix_mut(&mut self.gradient[weight.range()], rows, columns),
        );
        add_rows(&after, &mut self.gradient[bias.range()]);
        if let Some((before, keep)) = before {
            let weight = matrix(&net.parameters()[weight.range()], rows, columns);
            multiply(&after, &weight.reversed_axes(), keep, &mut matrix_mut(before, n, rows));
        }
    }

    /// Back-propagates through a convolution: to its parameters and, unless `before` is empty, to its
    /// input.
    fn conv(
        &mut self,
        net: &LandmarkNet,
        index: usize,
        conv: &Conv,
        input: &[f32],
        after: &[f32],
        before: &mut [f32],
    ) {
        let (weight, bias) = (&self.layout[2 * index], &self.layout[2 * index + 1]);
        let (rows, columns) = (weight.rows, weight.columns);
        let len_in = conv.side * conv.side * conv.input;
        let places = conv.side_out() * conv.side_out();
        let at_once = conv.pictures_at_once();
        let kernel = matrix(&net.parameters()[weight.range()], rows, columns);
        add_rows(&matrix(after, after.len() / columns, columns), &mut self.gradient[bias.range()]);
        let mut gradient = matrix_mut(&mut self.gradient[weight.range()], rows, columns);
        for (tile, input) in input.chunks(at_once * len_in).enumerate() {
            let pictures = input.len() / len_in;
            let m = pictures * places;
            let start = tile * at_once;
            let after = &after[start * conv.len_out()..(start + pictures) * conv.len_out()];
            let after = matrix(after, m, columns);
            self.patches.resize((m * rows).max(self.patches.len()), 0.0);
            let patches = &mut self.patches[..m * rows];
            for (picture, patches) in
                input.chunks_exact(len_in).zip(patches.chunks_exact_mut(places * rows))
            {
                conv.gather(picture, patches);
            }
            multiply(&matrix(patches, m, rows).reversed_axes(), &after, 1.0, &mut gradient);
            if before.is_empty() {
                continue;
            }
            self.patches_gradient.resize((m * rows).max(self.patches_gradient.len()), 0.0);
            let back = &mut self.patches_gradient[..m * rows];
            multiply(&after, &kernel.reversed_axes(), 0.0, &mut matrix_mut(back, m, rows));
            let before = &mut before[start * len_in..(start + pictures) * len_in];
            for (picture, back) in
                before.chunks_exact_mut(len_in).zip(back.chunks_exact(places * rows))
            {
                conv.scatter(back, picture);
            }
        }
    }
}

/// Back-propagates through the leaky `ReLU`.
fn through_activation(gradient: &mut [f32], output: &[f32]) {
    for (g, &o) in gradient.iter_mut().zip(output) {
        if o < 0.0 {
            *g *= LEAK;
        }
    }
}

/// Adds all rows of a matrix to `sums`.
fn add_rows(values: &ArrayView2<'_, f32>, sums: &mut [f32]) {
    for row in values.rows() {
        for (s, v) in sums.iter_mut().zip(row) {
            *s += v;
        }
    }
}

#[cfg(test)]
mod tests {
    use track::LandmarkNet;

    use super::*;
    use crate::augment::Target;
    use crate::optimizer::random_parameters;
    use numerics::SplitMix64;

    #[test]
    fn the_gradient_agrees_with_finite_differences() {
        let mut rng = SplitMix64::stream(3, 0);
        let mut noise =
            |n: usize, by: f32| (0..n).map(|_| by * rng.normal_fast()).collect::<Vec<_>>();
        let samples: Vec<Sample> = (0..3)
            .map(|i| Sample {
                crop: noise(CROP_SIDE * CROP_SIDE, 1.0),
                target: (i != 1).then(|| Target { offsets: noise(OUTPUTS, 0.1), unit: 0.3 }),
            })
            .collect();
        let weights = vec![1.0 / 478.0; 478];
        let row =
            |n: usize, y: f32| (0..n).map(move |i| [i as f32 - (n as f32 - 1.0) / 2.0, y, 0.0]);
        let mean = row(468, 0.0).chain(row(10, 9.0)).collect();
        let net = LandmarkNet::new(random_parameters(5), mean).unwrap();
        let mut lane = Lane::new();
        lane.add(&net, &samples, &weights, 1);
        let gradient = lane.gradient.clone();
        // The loss of the expected errors has no gradient with respect to the landmarks.
        let loss = |net: &LandmarkNet, of_spread: bool| {
            let mut lane = Lane::new();
            lane.add(net, &samples, &weights, 1);
            let [landmarks, _, presence, _, spread] = lane.sums.map(f64::from);
            if of_spread {
                f64::from(SPREAD) * spread
            } else {
                landmarks + f64::from(PRESENCE) * presence
            }
        };
        for parameter in parameter_layout() {
            // A step along the gradient of one matrix, short enough for the loss to be linear.
            let slope: f64 =
                gradient[parameter.range()].iter().map(|&g| f64::from(g).powi(2)).sum();
            let of_spread = parameter.name.starts_with("spread");
            // The loss of the expected errors is smooth and small, so a longer step avoids rounding errors.
            let reach = if of_spread { 5e-2 } else { 2e-3 };
            let step = reach / slope.sqrt().max(1e-9) * loss(&net, of_spread).abs().min(1.0);
            let moved = |sign: f64| {
                let mut net = net.clone();
                for i in parameter.range() {
                    net.parameters_mut()[i] += (sign * step * f64::from(gradient[i])) as f32;
                }
                loss(&net, of_spread)
            };
            let found = (moved(1.0) - moved(-1.0)) / (2.0 * step);
            assert!(
                (found - slope).abs() < 0.03 * slope + 1e-7,
                "{}: {found} against {slope}",
                parameter.name
            );
        }
    }
}
