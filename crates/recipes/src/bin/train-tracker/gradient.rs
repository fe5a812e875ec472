//! Loss and gradient of a batch of samples.

use track::{LandmarkNet, LandmarkOutputs, Parameter, Tape};
use types::LANDMARKS;

use crate::augment::TrainingSample;

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
pub(crate) struct BatchWorker {
    pub(crate) gradient: Vec<f32>,
    /// Sums over this worker's samples: landmark loss and its count, presence loss and its count, loss of
    /// the expected errors, which has the count of the landmark loss.
    pub(crate) sums: [f32; 5],
    tape: Tape,
    crops: Vec<f32>,
}

impl BatchWorker {
    pub(crate) fn new() -> Self {
        let len = Parameter::layout().last().map_or(0, |p| p.range().end);
        Self { gradient: vec![0.0; len], sums: [0.0; 5], tape: Tape::default(), crops: Vec::new() }
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
        samples: &[TrainingSample],
        weights: &[f32],
        batch: usize,
    ) {
        let n = samples.len();
        self.crops.clear();
        for sample in samples {
            self.crops.extend_from_slice(&sample.crop);
        }
        debug_assert_eq!(self.crops.len(), n * LandmarkNet::CROP_SIDE * LandmarkNet::CROP_SIDE);
        net.run(&self.crops, &mut self.tape);
        let found_all = self.tape.outputs();
        let mut outputs = LandmarkOutputs::zeros(n);
        for (i, sample) in samples.iter().enumerate() {
            let logit = found_all.presence[i];
            let (label, probability) =
                (f32::from(sample.target.is_some()), 1.0 / (1.0 + (-logit).exp()));
            outputs.presence[i] = PRESENCE * (probability - label) / batch as f32;
            let signed = if label > 0.5 { -logit } else { logit };
            self.sums[2] += signed.max(0.0) + (-signed.abs()).exp().ln_1p();
            self.sums[3] += 1.0;
            let Some(target) = &sample.target else { continue };
            let range = i * LandmarkNet::OFFSETS..(i + 1) * LandmarkNet::OFFSETS;
            let (found, out) = (&found_all.offsets[range.clone()], &mut outputs.offsets[range]);
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
            let expected = &found_all.spread[i * LANDMARKS..(i + 1) * LANDMARKS];
            let spread = &mut outputs.spread[i * LANDMARKS..(i + 1) * LANDMARKS];
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
        net.backward(&mut self.tape, &outputs, &mut self.gradient);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::LandmarkTarget;
    use crate::optimizer::random_parameters;
    use numerics::SplitMix64;

    #[test]
    fn the_gradient_agrees_with_finite_differences() {
        let mut rng = SplitMix64::stream(3, 0);
        let mut noise =
            |n: usize, by: f32| (0..n).map(|_| by * rng.normal_fast()).collect::<Vec<_>>();
        let samples: Vec<TrainingSample> = (0..3)
            .map(|i| TrainingSample {
                crop: noise(LandmarkNet::CROP_SIDE * LandmarkNet::CROP_SIDE, 1.0),
                target: (i != 1).then(|| LandmarkTarget {
                    offsets: noise(LandmarkNet::OFFSETS, 0.1),
                    unit: 0.3,
                }),
            })
            .collect();
        let weights = vec![1.0 / 478.0; 478];
        let row =
            |n: usize, y: f32| (0..n).map(move |i| [i as f32 - (n as f32 - 1.0) / 2.0, y, 0.0]);
        let mean = row(468, 0.0).chain(row(10, 9.0)).collect();
        let net = LandmarkNet::new(random_parameters(5), mean).unwrap();
        let mut worker = BatchWorker::new();
        worker.add(&net, &samples, &weights, 1);
        let gradient = worker.gradient.clone();
        // The loss of the expected errors has no gradient with respect to the landmarks.
        let loss = |net: &LandmarkNet, of_spread: bool| {
            let mut worker = BatchWorker::new();
            worker.add(net, &samples, &weights, 1);
            let [landmarks, _, presence, _, spread] = worker.sums.map(f64::from);
            if of_spread {
                f64::from(SPREAD) * spread
            } else {
                landmarks + f64::from(PRESENCE) * presence
            }
        };
        for parameter in Parameter::layout() {
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
