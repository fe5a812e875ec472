//! The landmark network: weights, mean face, and what it detects in a crop.

use std::collections::HashMap;

use face_shape::{LEFT_EYE, MESH_POINTS, RIGHT_EYE};
use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use types::LANDMARKS;

use crate::crop::{Crop, Luma};
use crate::layers::{self, Parameter, Weights};
use crate::propagation::{LandmarkOutputs, Tape, backward, forward};

/// Range of the logarithms of expected errors: a thousandth of the eye distance to all of it.
const SPREAD: (f32, f32) = (-7.0, 0.0);
/// Spread of a crop below which it counts as flat: two gray levels are noise.
const MIN_DEVIATION: f32 = 2.0;

/// Why bytes are not the weights of a [`LandmarkNet`].
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file is not a safetensors file, or truncated. Install it again.
    #[error("the tracker's weights are not a safetensors file")]
    Container(#[from] safetensors::SafeTensorError),
    /// The file belongs to another build. Install the one that came with this program.
    #[error("the tracker's weights lack the tensor `{name}`")]
    Missing { name: String },
    /// The file belongs to another build. Install the one that came with this program.
    #[error("tensor `{name}` is {found_dtype:?} {found:?}, this build wants F16 {want:?}")]
    Shape { name: String, found_dtype: Dtype, found: Vec<usize>, want: [usize; 2] },
    /// The file belongs to another build: its mean face is not symmetric.
    #[error("the tracker's mean face is not symmetric")]
    NotSymmetric,
    /// The file is damaged, or comes from a training that diverged.
    #[error("tensor `{name}` holds a number that is not finite")]
    NotFinite { name: String },
}

/// Network from the brightness of a crop to landmarks: weights and the mean face.
///
/// A residual network of 3x3 convolutions without normalization layers, then fully connected
/// heads for landmarks, presence of a face and expected errors. docs/TRACKER.md, "Landmark
/// network", has layers, data and losses.
///
/// The tracker calls [`LandmarkNet::detect`]; training calls [`LandmarkNet::run`] and
/// [`LandmarkNet::backward`].
///
/// # Source
/// He et al. 2016, "Deep residual learning for image recognition" (arXiv:1512.03385), for the
/// residual blocks.
#[derive(Clone, Debug)]
pub struct LandmarkNet {
    weights: Weights,
    mean_shape: Vec<[f32; 3]>,
    mirror: Vec<usize>,
}

/// Landmarks that the network detects in a crop.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// `[LANDMARKS]` in pixels of the frame; `z` is relative depth on the same scale.
    pub points: Vec<[f32; 3]>,
    /// Expected distance of each landmark from its true position, pixels of the frame.
    pub spread: Vec<f32>,
    /// Mean of `spread`, in distances of the outer eye corners of a frontal face.
    pub mean_spread: f32,
    /// Probability that a face is there, 0..=1.
    pub presence: f32,
    /// Mean distance between the landmarks of the crop and of its mirror image, in crop sides;
    /// large where the network is unsure.
    pub mirror_disagreement: f32,
}

impl LandmarkNet {
    /// Side of the square crop that the network reads, pixels.
    pub const CROP_SIDE: usize = layers::CROP_SIDE;
    /// Length of the landmark offsets of one crop: `x, y, z` of every landmark.
    pub const OFFSETS: usize = layers::OUTPUTS;
    /// Width of the linear bottleneck before the landmark offsets.
    pub const COEFFICIENTS: usize = layers::COEFFICIENTS;

    /// Creates a network from parameters in the order of [`Parameter::layout`] and a mean face,
    /// `[LANDMARKS]` in crop space.
    ///
    /// # Errors
    /// If the mean face is not symmetric.
    ///
    /// # Panics
    /// If the number of parameters or of points is wrong.
    pub fn new(parameters: Vec<f32>, mean_shape: Vec<[f32; 3]>) -> Result<Self, WeightsError> {
        assert_eq!(mean_shape.len(), LANDMARKS);
        let mirror = Self::mirror_pairs(&mean_shape).ok_or(WeightsError::NotSymmetric)?;
        Ok(Self { weights: Weights::new(parameters), mean_shape, mirror })
    }

    /// Parses a weight file: one F16 matrix for each [`Parameter`], and `mean_shape`
    /// `[LANDMARKS, 3]`.
    ///
    /// # Errors
    /// If the file is damaged or belongs to another build.
    pub fn parse(bytes: &[u8]) -> Result<Self, WeightsError> {
        let file = SafeTensors::deserialize(bytes)?;
        let mut parameters = Vec::new();
        for parameter in Parameter::layout() {
            parameters.extend(read(&file, &parameter.name, [parameter.rows, parameter.columns])?);
        }
        let mean = read(&file, "mean_shape", [LANDMARKS, 3])?;
        Self::new(parameters, mean.as_chunks::<3>().0.to_vec())
    }

    /// Returns the weight file, a safetensors file, that [`LandmarkNet::parse`] reads; rounds the
    /// parameters to F16.
    ///
    /// # Errors
    /// Only if the safetensors library refuses the names and shapes of this network.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WeightsError> {
        let halves = |values: &[f32]| -> Vec<u8> {
            values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()
        };
        let mut tensors: Vec<(String, [usize; 2], Vec<u8>)> = self
            .weights
            .layout
            .iter()
            .map(|p| (p.name.clone(), [p.rows, p.columns], halves(&self.parameters()[p.range()])))
            .collect();
        let mean = halves(self.mean_shape.as_flattened());
        tensors.push(("mean_shape".to_owned(), [LANDMARKS, 3], mean));
        let views = tensors
            .iter()
            .map(|(name, shape, data)| {
                Ok((name.as_str(), TensorView::new(Dtype::F16, shape.to_vec(), data)?))
            })
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        Ok(safetensors::serialize(views, None::<HashMap<String, String>>)?)
    }

    /// Returns all parameters in the order of [`Parameter::layout`].
    pub fn parameters(&self) -> &[f32] {
        &self.weights.values
    }

    /// Returns all parameters, in the order of [`Parameter::layout`], for training to change.
    pub fn parameters_mut(&mut self) -> &mut [f32] {
        &mut self.weights.values
    }

    /// Returns the mean face, upright and centered: `[LANDMARKS]` in crop space.
    pub fn mean_shape(&self) -> &[[f32; 3]] {
        &self.mean_shape
    }

    /// Returns the distance of the outer eye corners of the mean face, in crop sides.
    pub fn eye_distance(&self) -> f32 {
        let [right, left] = [RIGHT_EYE, LEFT_EYE].map(|eye| self.mean_shape[eye.outer_corner]);
        (left[0] - right[0]).abs()
    }

    /// Detects landmarks in one crop of a frame.
    ///
    /// Runs the network on the crop and on its mirror image; averages their landmarks and takes
    /// the lower presence.
    pub fn detect(&self, frame: &impl Luma, crop: &Crop, tape: &mut Tape) -> Detection {
        const PIXELS: usize = LandmarkNet::CROP_SIDE * LandmarkNet::CROP_SIDE;
        let mut both = std::mem::take(&mut tape.crops);
        both.resize(2 * PIXELS, 0.0);
        let (plain, mirrored) = both.split_at_mut(PIXELS);
        crop.sample_to(frame, Self::CROP_SIDE, plain);
        Self::normalize(plain);
        mirrored.copy_from_slice(plain);
        mirrored.chunks_exact_mut(Self::CROP_SIDE).for_each(<[f32]>::reverse);
        self.run(&both, tape);
        tape.crops = both;
        let outputs = tape.outputs();
        let (plain, mirrored) = outputs.offsets.as_chunks::<3>().0.split_at(LANDMARKS);
        let side = crop.side();
        let point = |i: usize| {
            let (mean, p, q) = (self.mean_shape[i], plain[i], mirrored[self.mirror[i]]);
            let x = mean[0] + (p[0] - q[0]) / 2.0;
            let [x, y] = crop.picture_from_crop([x, mean[1] + f32::midpoint(p[1], q[1])]);
            [x, y, (mean[2] + f32::midpoint(p[2], q[2])) * side]
        };
        let mirror_disagreement = |i: usize| {
            let (p, q) = (plain[i], mirrored[self.mirror[i]]);
            (p[0] + q[0]).hypot(p[1] - q[1])
        };
        let (plain_spread, mirrored_spread) = outputs.spread.split_at(LANDMARKS);
        let eyes = side * self.eye_distance();
        let spread = |i: usize| {
            let (p, q) = (plain_spread[i], mirrored_spread[self.mirror[i]]);
            f32::midpoint(p, q).clamp(SPREAD.0, SPREAD.1).exp() * eyes
        };
        let spread: Vec<f32> = (0..LANDMARKS).map(spread).collect();
        Detection {
            mean_spread: spread.iter().sum::<f32>() / (LANDMARKS as f32 * eyes),
            spread,
            mirror_disagreement: (0..LANDMARKS).map(mirror_disagreement).sum::<f32>()
                / LANDMARKS as f32,
            points: (0..LANDMARKS).map(point).collect(),
            presence: outputs.probability(0).min(outputs.probability(1)),
        }
    }

    /// Runs the network on crops prepared by [`LandmarkNet::normalize`]; leaves the outputs in
    /// `tape`.
    ///
    /// `crops` is `[n, CROP_SIDE, CROP_SIDE]`.
    ///
    /// # Panics
    /// If `crops` is not a whole number of crops.
    pub fn run(&self, crops: &[f32], tape: &mut Tape) {
        forward(&self.weights, crops, tape);
    }

    /// Adds the gradient of a loss with respect to the parameters to `gradient`.
    ///
    /// `outputs` is the gradient of the loss with respect to the outputs of the last
    /// [`LandmarkNet::run`] on `tape`. The gradient of `spread` stops at its own layer, so that
    /// learning the expected errors does not change the landmarks.
    ///
    /// # Panics
    /// If `outputs` has another number of crops than the tape, or `gradient` another length than
    /// the parameters.
    pub fn backward(&self, tape: &mut Tape, outputs: &LandmarkOutputs, gradient: &mut [f32]) {
        assert_eq!(gradient.len(), self.parameters().len());
        backward(&self.weights, tape, outputs, gradient);
    }

    /// Scales the brightness of a crop to zero mean and unit variance, which cancels exposure.
    ///
    /// Noise is not amplified without limit: a nearly flat crop keeps a lower variance, and a flat
    /// one becomes zeros.
    pub fn normalize(crop: &mut [f32]) {
        let n = crop.len() as f32;
        let mean = crop.iter().sum::<f32>() / n;
        let variance = crop.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n;
        let scale = 1.0 / variance.sqrt().max(MIN_DEVIATION);
        for value in crop {
            *value = (*value - mean) * scale;
        }
    }

    /// Pairs each landmark of a face with the nearest landmark of its mirror image (`x` negated);
    /// irises pair only with irises.
    ///
    /// Returns `None` if the face is not symmetric enough for the pairs to be mutual.
    pub fn mirror_pairs(face: &[[f32; 3]]) -> Option<Vec<usize>> {
        let nearest = |i: usize| {
            let pool = if i < MESH_POINTS { 0..MESH_POINTS } else { MESH_POINTS..face.len() };
            let [x, y, z] = face[i];
            let distance = |j: &usize| {
                let q = face[*j];
                (q[0] + x).powi(2) + (q[1] - y).powi(2) + (q[2] - z).powi(2)
            };
            pool.min_by(|a, b| distance(a).total_cmp(&distance(b)))
        };
        let pairs: Vec<usize> = (0..face.len()).map(nearest).collect::<Option<_>>()?;
        pairs.iter().enumerate().all(|(i, &j)| pairs[j] == i).then_some(pairs)
    }
}

fn read(file: &SafeTensors, name: &str, want: [usize; 2]) -> Result<Vec<f32>, WeightsError> {
    let name = || name.to_owned();
    let tensor = file.tensor(&name()).map_err(|_| WeightsError::Missing { name: name() })?;
    if tensor.dtype() != Dtype::F16 || tensor.shape() != want {
        let found = tensor.shape().to_vec();
        return Err(WeightsError::Shape { name: name(), found_dtype: tensor.dtype(), found, want });
    }
    let values: Vec<f32> =
        tensor.data().as_chunks::<2>().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect();
    if values.iter().any(|v| !v.is_finite()) {
        return Err(WeightsError::NotFinite { name: name() });
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHTS: &[u8] = include_bytes!("../../../assets/tracker.safetensors");

    #[test]
    fn a_batch_gives_the_same_outputs_as_single_crops() {
        let net = LandmarkNet::parse(WEIGHTS).unwrap();
        let n = LandmarkNet::CROP_SIDE * LandmarkNet::CROP_SIDE;
        let crops: Vec<f32> = (0..3 * n).map(|i| ((i % 97) as f32 * 0.31).sin()).collect();
        let (mut batch, mut single) = (Tape::default(), Tape::default());
        net.run(&crops, &mut batch);
        net.run(&crops[2 * n..], &mut single);
        let (batch, single) = (batch.outputs(), single.outputs());
        assert!((batch.presence[2] - single.presence[0]).abs() < 1e-3);
        for (a, b) in batch.offsets[2 * LandmarkNet::OFFSETS..].iter().zip(&single.offsets) {
            assert!((a - b).abs() < 1e-4);
        }
    }

    #[test]
    fn weights_survive_their_file_and_damage_is_noticed() {
        let net = LandmarkNet::parse(WEIGHTS).unwrap();
        let bytes = net.to_bytes().unwrap();
        assert_eq!(LandmarkNet::parse(&bytes).unwrap().parameters(), net.parameters());
        assert!(matches!(LandmarkNet::parse(&bytes[..100]), Err(WeightsError::Container(_))));
        assert!(matches!(LandmarkNet::parse(b""), Err(WeightsError::Container(_))));
        let mut broken = bytes;
        let end = broken.len();
        broken[end - 2..].copy_from_slice(&f16::NAN.to_le_bytes());
        assert!(matches!(LandmarkNet::parse(&broken), Err(WeightsError::NotFinite { .. })));
    }

    #[test]
    fn a_flat_crop_becomes_zeros_and_others_get_unit_variance() {
        let mut flat = vec![77.0; 64];
        LandmarkNet::normalize(&mut flat);
        assert!(flat.iter().all(|v| v.abs() < 1e-6));
        let mut waves: Vec<f32> = (0..64).map(|i| 100.0 + 50.0 * (i as f32).sin()).collect();
        LandmarkNet::normalize(&mut waves);
        let power = waves.iter().map(|v| v * v).sum::<f32>() / 64.0;
        assert!((power - 1.0).abs() < 1e-3);
    }
}
