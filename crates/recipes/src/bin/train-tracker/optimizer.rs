//! `AdamW` with gradient clipping and averaged weights, and its checkpoints.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use half::f16;
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use track::Parameter;

use numerics::SplitMix64;

const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.999;
const DECAY: f32 = 0.02;
/// Decay of the weight average, which spans about a thousand steps.
const AVERAGE: f32 = 0.999;

/// State of the `AdamW` optimizer: parameters, moments and averaged parameters.
///
/// # Source
/// Loshchilov, Hutter 2019, "Decoupled weight decay regularization" (arXiv:1711.05101).
pub(crate) struct Optimizer {
    pub(crate) step: u64,
    pub(crate) parameters: Vec<f32>,
    /// Running average of the parameters, which is evaluated and shipped.
    pub(crate) average: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    /// Running mean of the gradient's norm, for clipping.
    mean_norm: f32,
    /// Whether each parameter has weight decay.
    decayed: Vec<bool>,
}

/// Creates random parameters: He initialization, smaller in the second half of each block, zero biases.
///
/// # Source
/// He et al. 2015, "Delving deep into rectifiers" (arXiv:1502.01852).
pub(crate) fn random_parameters(seed: u64) -> Vec<f32> {
    let mut rng = SplitMix64::stream(seed, 0);
    let mut parameters = Vec::new();
    for parameter in Parameter::layout() {
        let deviation = parameter.initial_deviation;
        let is_weight = parameter.is_weight();
        let draw = |_| if is_weight { deviation * rng.normal_fast() } else { 0.0 };
        parameters.extend(parameter.range().map(draw));
    }
    parameters
}

impl Optimizer {
    /// Starts from these parameters.
    pub(crate) fn new(parameters: Vec<f32>) -> Self {
        let n = parameters.len();
        let mut decayed = vec![false; n];
        for parameter in Parameter::layout().iter().filter(|p| p.is_weight()) {
            decayed[parameter.range()].fill(true);
        }
        Self {
            step: 0,
            average: parameters.clone(),
            parameters,
            first: vec![0.0; n],
            second: vec![0.0; n],
            mean_norm: 0.0,
            decayed,
        }
    }

    /// Starts from shipped weights; parameters that the file lacks are random.
    ///
    /// # Errors
    /// If the file cannot be read or belongs to another network.
    pub(crate) fn from_weights(path: &Path, seed: u64) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = SafeTensors::deserialize(&bytes)?;
        let mut parameters = random_parameters(seed);
        for parameter in Parameter::layout() {
            let Ok(tensor) = file.tensor(&parameter.name) else {
                println!("{} is initialized at random", parameter.name);
                continue;
            };
            ensure!(
                tensor.dtype() == Dtype::F16
                    && tensor.shape() == [parameter.rows, parameter.columns],
                "{} in {} belongs to another network",
                parameter.name,
                path.display()
            );
            let values = tensor.data().as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b));
            for (p, v) in parameters[parameter.range()].iter_mut().zip(values) {
                *p = v.to_f32();
            }
        }
        Ok(Self::new(parameters))
    }

    /// Takes one step against the sum of `gradients`, whose norm is clipped at twice its running mean.
    pub(crate) fn descend(&mut self, gradients: &[&[f32]], rate: f32) {
        self.step += 1;
        let t = self.step as f32;
        let square = (0..self.parameters.len())
            .into_par_iter()
            .with_min_len(65_536)
            .map(|i| gradients.iter().map(|g| g[i]).sum::<f32>().powi(2))
            .fold(|| 0.0_f64, |a, v| a + f64::from(v))
            .sum::<f64>();
        let norm = square.sqrt() as f32;
        if self.mean_norm == 0.0 {
            self.mean_norm = norm;
        }
        let limit = 2.0 * self.mean_norm;
        let clip = if norm > limit { limit / norm } else { 1.0 };
        self.mean_norm += 0.02 * (norm.min(limit) - self.mean_norm);
        let (bias_1, bias_2) = (1.0 - BETA_1.powf(t), 1.0 - BETA_2.powf(t));
        let keep = AVERAGE.min((1.0 + t) / (10.0 + t));
        self.parameters
            .par_iter_mut()
            .zip(&mut self.first)
            .zip(&mut self.second)
            .zip(&mut self.average)
            .zip(&self.decayed)
            .enumerate()
            .with_min_len(65_536)
            .for_each(|(i, ((((p, m), v), average), &decayed))| {
                let g = clip * gradients.iter().map(|g| g[i]).sum::<f32>();
                *m += (1.0 - BETA_1) * (g - *m);
                *v += (1.0 - BETA_2) * (g * g - *v);
                let step = (*m / bias_1) / ((*v / bias_2).sqrt() + 1e-9);
                let decay = if decayed { DECAY * *p } else { 0.0 };
                *p -= rate * (step + decay);
                *average = keep * *average + (1.0 - keep) * *p;
            });
    }

    /// Writes the whole state, atomically.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let scalars = [self.mean_norm, self.step as f32];
        let tensors: [(&str, Vec<u8>); 5] = [
            ("parameters", bytes(&self.parameters)),
            ("average", bytes(&self.average)),
            ("first", bytes(&self.first)),
            ("second", bytes(&self.second)),
            ("small", bytes(&scalars)),
        ];
        let views = tensors
            .iter()
            .map(|(name, data)| {
                Ok((*name, TensorView::new(Dtype::F32, vec![data.len() / 4], data)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let bytes = safetensors::serialize(views, None::<std::collections::HashMap<_, _>>)?;
        Ok(capture::write_file(path, &bytes)?)
    }

    /// Reads a state written by [`Optimizer::save`].
    ///
    /// # Errors
    /// If the file cannot be read or belongs to another network.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let bytes =
            fs::read(path).with_context(|| format!("cannot resume from {}", path.display()))?;
        let file = SafeTensors::deserialize(&bytes)?;
        let read = |name: &str| -> Result<Vec<f32>> {
            let data = file.tensor(name)?;
            Ok(data.data().as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
        };
        let mut loaded = Self::new(read("parameters")?);
        (loaded.average, loaded.first, loaded.second) =
            (read("average")?, read("first")?, read("second")?);
        let scalars = read("small")?;
        let n = Parameter::layout().last().map_or(0, |p| p.range().end);
        let lengths = [&loaded.parameters, &loaded.average, &loaded.first, &loaded.second];
        ensure!(
            lengths.iter().all(|v| v.len() == n) && scalars.len() == 2,
            "{} belongs to another network",
            path.display()
        );
        loaded.mean_norm = scalars[0];
        loaded.step = scalars[1] as u64;
        Ok(loaded)
    }
}
