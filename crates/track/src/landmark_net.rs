use std::collections::HashMap;

use face_shape::{LEFT_EYE, MESH_POINTS, RIGHT_EYE};
use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use types::LANDMARKS;

use crate::convolution::{
    CONVS, FLAT, Role, activate, add_bias_and_activate, convolve, matrix, matrix_mut, multiply,
};
use crate::crop::{Crop, Luma};

/// Side of the crop the network looks at, in its own pixels.
pub const CROP_SIDE: usize = 96;
/// Numbers the network gives per face: `x, y, z` of every landmark.
pub const OUTPUTS: usize = LANDMARKS * 3;
/// Width of the layer between pictures and shapes.
pub const HIDDEN: usize = 256;
/// Width of the bottleneck before the landmarks; its weights start as principal components.
pub const COEFFICIENTS: usize = 128;
/// Logarithms of expected errors stay in here: a thousandth of the eyes' distance to all of it.
const SPREAD: (f32, f32) = (-7.0, 0.0);

/// Where one matrix of parameters lies in [`LandmarkNet::parameters`].
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are the usual ones")]
pub struct Parameter {
    pub name: String,
    pub rows: usize,
    pub columns: usize,
    pub offset: usize,
}

impl Parameter {
    /// Its stretch of the parameters.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.rows * self.columns
    }
}

/// All parameters in order: a weight `[inputs, outputs]`, then a bias `[1, outputs]`, for each of
/// [`CONVS`], then for `hidden`, `coefficients`, `offsets`, `presence` and `spread`.
pub fn parameter_layout() -> Vec<Parameter> {
    let mut layout = Vec::new();
    let mut offset = 0;
    let heads = [
        ("hidden", FLAT, HIDDEN),
        ("coefficients", HIDDEN, COEFFICIENTS),
        ("offsets", COEFFICIENTS, OUTPUTS),
        ("presence", HIDDEN, 1),
        ("spread", HIDDEN, LANDMARKS),
    ];
    let convs = CONVS.iter().map(|c| (c.name, c.patch(), c.output));
    for (name, inputs, outputs) in convs.chain(heads) {
        for (part, rows) in [("weight", inputs), ("bias", 1)] {
            let name = format!("{name}.{part}");
            layout.push(Parameter { name, rows, columns: outputs, offset });
            offset += rows * outputs;
        }
    }
    layout
}

/// Why bytes are not the weights of a [`LandmarkNet`].
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// Not a safetensors file, or cut short. Install the file again.
    #[error("the tracker's weights are not a safetensors file")]
    Container(#[from] safetensors::SafeTensorError),
    /// From another build. Install the file that came with this program.
    #[error("the tracker's weights lack the tensor `{name}`")]
    Missing { name: String },
    /// From another build. Install the file that came with this program.
    #[error("tensor `{name}` is {found_dtype:?} {found:?}, this build wants F16 {want:?}")]
    Shape { name: String, found_dtype: Dtype, found: Vec<usize>, want: [usize; 2] },
    /// From another build: the mean face's halves do not mirror each other.
    #[error("the tracker's mean face is not symmetric")]
    NotSymmetric,
    /// Damaged, or from a training run that diverged.
    #[error("tensor `{name}` holds a number that is not finite")]
    NotFinite { name: String },
}

/// The network from a crop's brightness to landmarks: weights and the mean face.
///
/// A residual network of plain 3x3 convolutions without normalization layers, each a gather of
/// patches and a matrix product; see [`CONVS`].
#[derive(Clone, Debug)]
pub struct LandmarkNet {
    parameters: Vec<f32>,
    mean_shape: Vec<[f32; 3]>,
    mirror: Vec<usize>,
    layout: Vec<Parameter>,
}

/// What one look at a crop showed.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// `[LANDMARKS]` in pixels of the picture, `z` on the same scale.
    pub points: Vec<[f32; 3]>,
    /// How far each of them is expected to be off, pixels of the picture.
    pub spread: Vec<f32>,
    /// The mean of that, in distances of the outer eye corners of a face seen from the front.
    pub vagueness: f32,
    /// How sure it is that a face is there, 0..=1.
    pub presence: f32,
    /// Mean distance between the answers for the crop and for its mirror image, in sides of the
    /// crop. Small when the network knows what it sees.
    pub doubt: f32,
}

/// Everything one run of the network computed, kept for the backward pass and for reuse of memory.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    /// The input, then what each convolution gave, `[n, side, side, channels]`.
    pub activations: Vec<Vec<f32>>,
    /// `[n, HIDDEN]`.
    pub hidden: Vec<f32>,
    /// `[n, COEFFICIENTS]`.
    pub coefficients: Vec<f32>,
    /// `[n, OUTPUTS]`: landmarks less the mean face, in sides of the crop.
    pub offsets: Vec<f32>,
    /// `[n]`: log-odds that the crop shows a face about where it should be.
    pub presence: Vec<f32>,
    /// `[n, LANDMARKS]`: natural logarithms of how far each landmark is expected to be off, in
    /// distances of the outer eye corners of a frontal face.
    pub spread: Vec<f32>,
    patches: Vec<f32>,
    /// What [`LandmarkNet::look`] looks at.
    crops: Vec<f32>,
}

impl Tape {
    /// Probability that crop `index` shows a face about where it should be.
    pub fn probability(&self, index: usize) -> f32 {
        1.0 / (1.0 + (-self.presence[index]).exp())
    }
}

impl LandmarkNet {
    /// A network of given parameters, ordered as [`parameter_layout`] says, and mean face.
    ///
    /// # Errors
    /// If the mean face is not symmetric.
    ///
    /// # Panics
    /// If there are too few or too many of either.
    pub fn new(parameters: Vec<f32>, mean_shape: Vec<[f32; 3]>) -> Result<Self, WeightsError> {
        let layout = parameter_layout();
        assert_eq!(parameters.len(), layout.last().map_or(0, |p| p.range().end));
        assert_eq!(mean_shape.len(), LANDMARKS);
        let mirror = mirror_pairs(&mean_shape).ok_or(WeightsError::NotSymmetric)?;
        Ok(Self { parameters, mean_shape, mirror, layout })
    }

    /// Reads weights: one F16 matrix per entry of [`parameter_layout`], and `mean_shape`
    /// `[LANDMARKS, 3]`.
    ///
    /// # Errors
    /// If the file is damaged or belongs to another build.
    pub fn parse(bytes: &[u8]) -> Result<Self, WeightsError> {
        let file = SafeTensors::deserialize(bytes)?;
        let layout = parameter_layout();
        let mut parameters = Vec::with_capacity(layout.last().map_or(0, |p| p.range().end));
        for parameter in &layout {
            parameters.extend(read(&file, &parameter.name, [parameter.rows, parameter.columns])?);
        }
        let mean = read(&file, "mean_shape", [LANDMARKS, 3])?;
        Self::new(parameters, mean.as_chunks::<3>().0.to_vec())
    }

    /// The weights as a file that [`LandmarkNet::parse`] reads. Rounds to 16 bits.
    ///
    /// # Errors
    /// Never in practice: only if safetensors refuses names and shapes of our own.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WeightsError> {
        let halves = |values: &[f32]| -> Vec<u8> {
            values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()
        };
        let mut tensors: Vec<(String, [usize; 2], Vec<u8>)> = self
            .layout
            .iter()
            .map(|p| (p.name.clone(), [p.rows, p.columns], halves(&self.parameters[p.range()])))
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

    /// All weights and biases, ordered as [`parameter_layout`] says.
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// The same, to be changed.
    pub fn parameters_mut(&mut self) -> &mut [f32] {
        &mut self.parameters
    }

    /// The average face in a crop, upright and centred: `[LANDMARKS]` in crop space.
    pub fn mean_shape(&self) -> &[[f32; 3]] {
        &self.mean_shape
    }

    /// Distance of the outer eye corners of the average face, in sides of the crop.
    pub fn eye_distance(&self) -> f32 {
        let [right, left] = [RIGHT_EYE, LEFT_EYE].map(|eye| self.mean_shape[eye.outer_corner]);
        (left[0] - right[0]).abs()
    }

    /// Looks at one crop of a picture and at its mirror image: the mean of both landmarks, the
    /// lesser of both presences.
    pub fn look(&self, picture: &impl Luma, crop: &Crop, tape: &mut Tape) -> Seen {
        let mut both = std::mem::take(&mut tape.crops);
        both.resize(2 * CROP_SIDE * CROP_SIDE, 0.0);
        let (plain, mirrored) = both.split_at_mut(CROP_SIDE * CROP_SIDE);
        crop.sample_to(picture, CROP_SIDE, plain);
        normalize(plain);
        mirrored.copy_from_slice(plain);
        mirrored.chunks_exact_mut(CROP_SIDE).for_each(<[f32]>::reverse);
        self.run(&both, tape);
        tape.crops = both;
        let (plain, mirrored) = tape.offsets.as_chunks::<3>().0.split_at(LANDMARKS);
        let side = crop.side();
        let point = |i: usize| {
            let (mean, p, q) = (self.mean_shape[i], plain[i], mirrored[self.mirror[i]]);
            let x = mean[0] + (p[0] - q[0]) / 2.0;
            let [x, y] = crop.picture_from_crop([x, mean[1] + f32::midpoint(p[1], q[1])]);
            [x, y, (mean[2] + f32::midpoint(p[2], q[2])) * side]
        };
        let doubt = |i: usize| {
            let (p, q) = (plain[i], mirrored[self.mirror[i]]);
            (p[0] + q[0]).hypot(p[1] - q[1])
        };
        let (plain_spread, mirrored_spread) = tape.spread.split_at(LANDMARKS);
        let eyes = side * self.eye_distance();
        let spread = |i: usize| {
            let (p, q) = (plain_spread[i], mirrored_spread[self.mirror[i]]);
            f32::midpoint(p, q).clamp(SPREAD.0, SPREAD.1).exp() * eyes
        };
        let spread: Vec<f32> = (0..LANDMARKS).map(spread).collect();
        Seen {
            vagueness: spread.iter().sum::<f32>() / (LANDMARKS as f32 * eyes),
            spread,
            doubt: (0..LANDMARKS).map(doubt).sum::<f32>() / LANDMARKS as f32,
            points: (0..LANDMARKS).map(point).collect(),
            presence: tape.probability(0).min(tape.probability(1)),
        }
    }

    /// Weight and bias of the convolution or head at `index`.
    fn layer(&self, index: usize) -> (&Parameter, &[f32], &[f32]) {
        let weight = &self.layout[2 * index];
        let bias = &self.layout[2 * index + 1];
        (weight, &self.parameters[weight.range()], &self.parameters[bias.range()])
    }

    /// Runs the network on crops prepared by [`normalize`].
    ///
    /// `crops` is `[n, CROP_SIDE, CROP_SIDE]`; results are left in `tape`.
    ///
    /// # Panics
    /// If `crops` is not a whole number of crops.
    pub fn run(&self, crops: &[f32], tape: &mut Tape) {
        let n = crops.len() / (CROP_SIDE * CROP_SIDE);
        assert_eq!(crops.len(), n * CROP_SIDE * CROP_SIDE, "crops are {CROP_SIDE} pixels square");
        tape.activations.resize_with(CONVS.len() + 1, Vec::new);
        tape.activations[0].clear();
        tape.activations[0].extend_from_slice(crops);
        for (index, conv) in CONVS.iter().enumerate() {
            let (before, after) = tape.activations.split_at_mut(index + 1);
            let (input, out) = (&before[index], &mut after[0]);
            let (_, weight, bias) = self.layer(index);
            out.resize(n * conv.len_out(), 0.0);
            convolve(conv, input, weight, &mut tape.patches, out);
            let shortcut = (conv.role == Role::Closes).then(|| before[index - 1].as_slice());
            add_bias_and_activate(out, bias, shortcut);
        }
        let flat = &tape.activations[CONVS.len()];
        let heads = CONVS.len();
        self.head(heads, flat, n, &mut tape.hidden);
        tape.hidden.iter_mut().for_each(|v| *v = activate(*v));
        self.head(heads + 1, &tape.hidden, n, &mut tape.coefficients);
        self.head(heads + 2, &tape.coefficients, n, &mut tape.offsets);
        self.head(heads + 3, &tape.hidden, n, &mut tape.presence);
        self.head(heads + 4, &tape.hidden, n, &mut tape.spread);
    }

    fn head(&self, index: usize, input: &[f32], n: usize, out: &mut Vec<f32>) {
        let (shape, weight, bias) = self.layer(index);
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
}

/// Pairs each landmark of a face with the nearest one of its mirror image (`x` negated).
///
/// Irises pair only with irises. `None` if that is no pairing: the face is not symmetric enough.
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

/// Brings a crop's brightness to zero mean and unit variance, so exposure does not matter.
///
/// A flat crop becomes zeros.
pub fn normalize(crop: &mut [f32]) {
    let n = crop.len() as f32;
    let mean = crop.iter().sum::<f32>() / n;
    let variance = crop.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n;
    // Two grey levels of spread are no picture but noise: leave those small.
    let scale = 1.0 / variance.sqrt().max(2.0);
    for value in crop {
        *value = (*value - mean) * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHTS: &[u8] = include_bytes!("../../../assets/tracker.safetensors");

    #[test]
    fn crops_run_together_give_what_each_gives_alone() {
        let net = LandmarkNet::parse(WEIGHTS).unwrap();
        let n = CROP_SIDE * CROP_SIDE;
        let crops: Vec<f32> = (0..3 * n).map(|i| ((i % 97) as f32 * 0.31).sin()).collect();
        let (mut together, mut alone) = (Tape::default(), Tape::default());
        net.run(&crops, &mut together);
        net.run(&crops[2 * n..], &mut alone);
        assert!((together.presence[2] - alone.presence[0]).abs() < 1e-3);
        for (a, b) in together.offsets[2 * OUTPUTS..].iter().zip(&alone.offsets) {
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
    fn a_flat_crop_becomes_zeros_and_a_noisy_one_unit_variance() {
        let mut flat = vec![77.0; 64];
        normalize(&mut flat);
        assert!(flat.iter().all(|v| v.abs() < 1e-6));
        let mut waves: Vec<f32> = (0..64).map(|i| 100.0 + 50.0 * (i as f32).sin()).collect();
        normalize(&mut waves);
        let power = waves.iter().map(|v| v * v).sum::<f32>() / 64.0;
        assert!((power - 1.0).abs() < 1e-3);
    }
}
