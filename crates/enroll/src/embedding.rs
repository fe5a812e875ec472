//! Training of the person's embedder.

use candle_core::{Device, Tensor};
use face_shape::FaceShape;
use track::{Embedder, Identity, Observation};
use types::{CANONICAL_M, LANDMARKS, LEARNED_DIMS};

use crate::adam::{Adam, ParameterGroup};
use crate::observations::{Observations, ObservedFrame};
use crate::regression::regress;
use crate::vars::Vars;

/// Learning rate.
const RATE: f32 = 2e-3;
/// Windows per batch when many are embedded.
const BATCH: usize = 256;
/// Largest number of frames to which the landmark motion is fitted.
const MAX_MOTION_FRAMES: usize = 400;
/// Ridge parameter of that fit.
const RIDGE: f64 = 0.02;

/// The person's embedder during training: a candle network, its variables and its optimizer.
pub struct Embedding {
    vars: Vars,
    embedder: Embedder,
    pub(crate) adam: Adam,
}

/// Codes of one training step, still attached to the graph of the embedder that computed them.
pub struct Codes {
    tensor: Tensor,
    values: Vec<[f32; LEARNED_DIMS]>,
}

impl Codes {
    /// Returns the learned numbers of each window.
    pub fn values(&self) -> &[[f32; LEARNED_DIMS]] {
        &self.values
    }
}

/// Linear model of the landmarks' motion with the code, in `x, y` of canonical space.
pub(crate) struct LandmarkMotion {
    /// Mean position of each landmark, `[LANDMARKS]`.
    pub(crate) mean: Vec<[f32; 2]>,
    /// Displacement of each landmark per unit of each code number, `[LEARNED_DIMS][LANDMARKS]`.
    pub(crate) displacements: Vec<Vec<[f32; 2]>>,
}

impl Embedding {
    /// Creates an untrained embedder. Its whitening, the linear map that decorrelates the inputs,
    /// is fitted to the training frames.
    ///
    /// # Errors
    /// If candle cannot create the variables.
    pub fn new(observations: &Observations, seed: u64) -> anyhow::Result<Self> {
        let vars = Vars::new(seed);
        let embedder = Embedder::new(&vars.builder())?;
        let train: Vec<Observation> =
            observations.train.iter().map(|frame| frame.observation.clone()).collect();
        Embedder::whiten(&vars.var_map(), &observations.shape, &train)?;
        let n_values = vars.values()?.len();
        Ok(Self { vars, embedder, adam: Adam::new(n_values) })
    }

    /// Returns all parameters, including the whitening.
    pub(crate) fn values(&self) -> anyhow::Result<Vec<f32>> {
        Ok(self.vars.values()?)
    }

    /// Restores the parameters and the optimizer from a checkpoint.
    pub(crate) fn restore(&mut self, values: &[f32], adam: Adam) -> anyhow::Result<()> {
        self.vars.set(values)?;
        self.adam = adam;
        Ok(())
    }

    /// Serializes the parameters as a safetensors file.
    pub(crate) fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        Ok(Embedder::to_bytes(&self.vars.var_map())?)
    }

    /// Computes the codes of a few windows, each `[WINDOW][INPUT_DIMS]`, for a training step.
    ///
    /// # Errors
    /// If a window has another length.
    pub fn forward(&self, windows: &[&[f32]]) -> anyhow::Result<Codes> {
        let batch = Tensor::from_vec(
            windows.concat(),
            (windows.len(), Embedder::WINDOW, Embedder::INPUT_DIMS),
            &Device::Cpu,
        )?;
        let tensor = self.embedder.forward(&batch)?;
        let flat = tensor.flatten_all()?.to_vec1::<f32>()?;
        Ok(Codes { values: flat.as_chunks::<LEARNED_DIMS>().0.to_vec(), tensor })
    }

    /// Takes one optimizer step against `g_codes`, the gradient of the loss with respect to the
    /// codes; `factor` scales the learning rate.
    ///
    /// # Errors
    /// If `g_codes` has another length than `codes`.
    pub fn learn(
        &mut self,
        codes: &Codes,
        g_codes: &[[f32; LEARNED_DIMS]],
        factor: f32,
    ) -> anyhow::Result<()> {
        let g = Tensor::from_slice(g_codes.as_flattened(), codes.tensor.shape(), &Device::Cpu)?;
        // A surrogate loss whose gradient with respect to the codes is `g`.
        let grads = (&codes.tensor * g)?.sum_all()?.backward()?;
        let gradients = self.vars.gradients(&grads)?;
        let mut values = self.vars.values()?;
        let all = [ParameterGroup { range: 0..values.len(), rates: vec![RATE] }];
        self.adam.step(&mut values, &gradients, &all, factor);
        Ok(self.vars.set(&values)?)
    }

    /// Computes the codes of many windows.
    pub(crate) fn codes(&self, windows: &[&[f32]]) -> anyhow::Result<Vec<[f32; LEARNED_DIMS]>> {
        let mut all = Vec::with_capacity(windows.len());
        for batch in windows.chunks(BATCH) {
            all.extend(self.forward(batch)?.values);
        }
        Ok(all)
    }

    /// Computes the codes of all these frames.
    ///
    /// # Errors
    /// If a window has the wrong length.
    pub fn codes_of(&self, frames: &[ObservedFrame]) -> anyhow::Result<Vec<[f32; LEARNED_DIMS]>> {
        let windows: Vec<&[f32]> = frames.iter().map(|frame| &frame.window[..]).collect();
        self.codes(&windows)
    }

    /// Returns the standard deviation of each code number over the training frames.
    pub(crate) fn deviations(
        &self,
        observations: &Observations,
    ) -> anyhow::Result<[f32; LEARNED_DIMS]> {
        let train = &observations.train;
        let stride = train.len().div_ceil(BATCH);
        let windows: Vec<&[f32]> =
            train.iter().step_by(stride).map(|frame| &frame.window[..]).collect();
        let codes = self.codes(&windows)?;
        let n = codes.len() as f32;
        Ok(std::array::from_fn(|d| {
            let mean = codes.iter().map(|c| c[d]).sum::<f32>() / n;
            (codes.iter().map(|c| (c[d] - mean).powi(2)).sum::<f32>() / n).sqrt()
        }))
    }

    /// Fits the motion of the landmarks to the current codes of the training frames by ridge
    /// regression.
    pub(crate) fn landmark_motion(
        &self,
        observations: &Observations,
    ) -> anyhow::Result<LandmarkMotion> {
        let Observations { train, shape, identity, .. } = observations;
        let stride = train.len().div_ceil(MAX_MOTION_FRAMES);
        let chosen: Vec<_> = train.iter().step_by(stride).collect();
        let windows: Vec<&[f32]> = chosen.iter().map(|frame| &frame.window[..]).collect();
        let codes = self.codes(&windows)?;
        let faces: Vec<Vec<[f32; 2]>> =
            chosen.iter().map(|frame| frontal_face(shape, identity, &frame.observation)).collect();
        let inputs: Vec<Vec<f64>> =
            codes.iter().map(|c| c.iter().map(|v| f64::from(*v)).collect()).collect();
        let outputs: Vec<Vec<f64>> = faces
            .iter()
            .map(|f| f.as_flattened().iter().map(|v| f64::from(*v)).collect())
            .collect();
        let displacements = regress(&inputs, &outputs, RIDGE)
            .into_iter()
            .map(|row| row.chunks_exact(2).map(|p| [p[0] as f32, p[1] as f32]).collect())
            .collect();
        let n = faces.len() as f32;
        let mean = (0..LANDMARKS)
            .map(|i| [0, 1].map(|axis| faces.iter().map(|f| f[i][axis]).sum::<f32>() / n))
            .collect();
        Ok(LandmarkMotion { mean, displacements })
    }
}

/// Returns `x, y` in canonical space of the landmarks with the expression of an observation.
fn frontal_face(
    shape: &FaceShape,
    identity: &Identity,
    observation: &Observation,
) -> Vec<[f32; 2]> {
    let points = shape.with_expression(identity.neutral(), &observation.expression);
    points.into_iter().map(|p| [p.x / CANONICAL_M, p.y / CANONICAL_M]).collect()
}
