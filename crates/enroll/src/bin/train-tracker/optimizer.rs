use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use half::f16;
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use track::{Role, parameter_layout};

use numerics::SplitMix64;

const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.999;
const DECAY: f32 = 0.02;
/// The average of the weights looks back about a thousand steps.
const AVERAGE: f32 = 0.999;

/// Weights under training with the moments of `AdamW` and their running average.
///
/// Source: Loshchilov, Hutter 2019, "Decoupled weight decay regularization" (arXiv:1711.05101).
pub(crate) struct Optimizer {
    pub(crate) step: u64,
    pub(crate) parameters: Vec<f32>,
    /// The running average of the parameters: what is evaluated and shipped.
    pub(crate) average: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    /// Running mean of the gradient's length, for clipping.
    usual_length: f32,
    decayed: Vec<bool>,
}

/// Weights to start from: He's, with the second half of each block small, biases zero.
pub(crate) fn random_parameters(seed: u64) -> Vec<f32> {
    let mut rng = SplitMix64::stream(seed, 0);
    let mut parameters = Vec::new();
    for (i, parameter) in parameter_layout().iter().enumerate() {
        let conv = track::CONVS.get(i / 2);
        let gain = match conv.map(|c| c.role) {
            Some(Role::Closes) => 0.3,
            Some(_) => 1.3,
            None => 1.0,
        };
        let deviation = gain / (parameter.rows as f32).sqrt();
        let weight = parameter.name.ends_with(".weight");
        let n = parameter.rows * parameter.columns;
        parameters.extend((0..n).map(|_| if weight { deviation * rng.normal_fast() } else { 0.0 }));
    }
    parameters
}

impl Optimizer {
    pub(crate) fn new(parameters: Vec<f32>) -> Self {
        let n = parameters.len();
        let mut decayed = vec![false; n];
        for parameter in parameter_layout().iter().filter(|p| p.name.ends_with(".weight")) {
            decayed[parameter.range()].fill(true);
        }
        Self {
            step: 0,
            average: parameters.clone(),
            parameters,
            first: vec![0.0; n],
            second: vec![0.0; n],
            usual_length: 0.0,
            decayed,
        }
    }

    /// Starts from weights that were shipped: what the file lacks starts at random.
    pub(crate) fn from_weights(path: &Path, seed: u64) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = SafeTensors::deserialize(&bytes)?;
        let mut parameters = random_parameters(seed);
        for parameter in parameter_layout() {
            let Ok(tensor) = file.tensor(&parameter.name) else {
                println!("{} starts at random", parameter.name);
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

    /// One step down the sum of `gradients`; gradients far longer than usual are shortened.
    pub(crate) fn descend(&mut self, gradients: &[&[f32]], rate: f32) {
        self.step += 1;
        let t = self.step as f32;
        let square = (0..self.parameters.len())
            .into_par_iter()
            .with_min_len(65_536)
            .map(|i| gradients.iter().map(|g| g[i]).sum::<f32>().powi(2))
            .fold(|| 0.0_f64, |a, v| a + f64::from(v))
            .sum::<f64>();
        let length = square.sqrt() as f32;
        if self.usual_length == 0.0 {
            self.usual_length = length;
        }
        let limit = 2.0 * self.usual_length;
        let clip = if length > limit { limit / length } else { 1.0 };
        self.usual_length += 0.02 * (length.min(limit) - self.usual_length);
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

    /// Writes all there is to continue from, by way of a temporary name.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let small = [self.usual_length, self.step as f32];
        let tensors: [(&str, Vec<u8>); 5] = [
            ("parameters", bytes(&self.parameters)),
            ("average", bytes(&self.average)),
            ("first", bytes(&self.first)),
            ("second", bytes(&self.second)),
            ("small", bytes(&small)),
        ];
        let views = tensors
            .iter()
            .map(|(name, data)| {
                Ok((*name, TensorView::new(Dtype::F32, vec![data.len() / 4], data)?))
            })
            .collect::<Result<Vec<_>>>()?;
        write(path, &safetensors::serialize(views, None::<std::collections::HashMap<_, _>>)?)
    }

    /// Continues from what [`Optimizer::save`] wrote.
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
        let small = read("small")?;
        let n = parameter_layout().last().map_or(0, |p| p.range().end);
        let lengths = [&loaded.parameters, &loaded.average, &loaded.first, &loaded.second];
        ensure!(
            lengths.iter().all(|v| v.len() == n) && small.len() == 2,
            "{} belongs to another network",
            path.display()
        );
        loaded.usual_length = small[0];
        loaded.step = small[1] as u64;
        Ok(loaded)
    }
}

/// Writes a file under a temporary name, then renames it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("part");
    fs::write(&temporary, bytes)
        .with_context(|| format!("cannot write {}", temporary.display()))?;
    fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))
}
