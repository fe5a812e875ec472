//! The person's embedder in training.

use candle_core::{Device, Tensor};
use face_shape::FaceShape;
use track::{Embedder, INPUT_DIMS, Identity, Observation, WINDOW, Whitening};
use types::{LANDMARKS, LEARNED_DIMS};

use crate::adam::{Adam, Group};
use crate::observing::{Observations, Seen};
use crate::regression::regress;
use crate::trainer::canonical;
use crate::vars::Vars;

/// Learning rate of the embedder.
const RATE: f32 = 2e-3;
/// Frames embedded at once when all of them are.
const BATCH: usize = 256;
/// Frames that the landmarks' motion is fitted to.
const MAX_MOTION_FRAMES: usize = 400;
/// Ridge of that fit.
const RIDGE: f64 = 0.02;

/// The embedder and what its training needs.
pub(crate) struct Embedding {
    vars: Vars,
    embedder: Embedder,
    pub(crate) adam: Adam,
}

/// The codes of one step, still tied to the embedder that made them.
pub(crate) struct Codes {
    tensor: Tensor,
    values: Vec<[f32; LEARNED_DIMS]>,
}

impl Codes {
    pub(crate) fn values(&self) -> &[[f32; LEARNED_DIMS]] {
        &self.values
    }
}

/// How the landmarks move with the code; canonical `x, y`.
pub(crate) struct Motion {
    /// Mean place of each landmark.
    pub(crate) at: Vec<[f32; 2]>,
    /// For each code number the displacement of each landmark for one unit of it.
    pub(crate) moves: Vec<Vec<[f32; 2]>>,
}

impl Embedding {
    /// An embedder that knows how the enrolled person's face varies, and nothing else yet.
    pub(crate) fn new(shape: &FaceShape, seen: &[Observation], seed: u64) -> anyhow::Result<Self> {
        let vars = Vars::new(seed);
        let embedder = Embedder::new(&vars.builder())?;
        Whitening::of(shape, seen).store(&vars.var_map())?;
        let numbers = vars.values()?.len();
        Ok(Self { vars, embedder, adam: Adam::new(numbers) })
    }

    /// All its numbers, whitening included.
    pub(crate) fn values(&self) -> anyhow::Result<Vec<f32>> {
        Ok(self.vars.values()?)
    }

    /// Goes on from a checkpoint.
    pub(crate) fn restore(&mut self, values: &[f32], adam: Adam) -> anyhow::Result<()> {
        self.vars.set(values)?;
        self.adam = adam;
        Ok(())
    }

    /// Its weights as a safetensors file.
    pub(crate) fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        Ok(Embedder::to_bytes(&self.vars.var_map())?)
    }

    /// Codes of a few windows, for a training step.
    pub(crate) fn forward(&self, windows: &[&[f32]]) -> anyhow::Result<Codes> {
        let batch =
            Tensor::from_vec(windows.concat(), (windows.len(), WINDOW, INPUT_DIMS), &Device::Cpu)?;
        let tensor = self.embedder.forward(&batch)?;
        let flat = tensor.flatten_all()?.to_vec1::<f32>()?;
        Ok(Codes { values: flat.as_chunks::<LEARNED_DIMS>().0.to_vec(), tensor })
    }

    /// Moves the embedder against the gradient of the codes.
    pub(crate) fn learn(
        &mut self,
        codes: &Codes,
        g_codes: &[[f32; LEARNED_DIMS]],
        factor: f32,
    ) -> anyhow::Result<()> {
        let g = Tensor::from_slice(g_codes.as_flattened(), codes.tensor.shape(), &Device::Cpu)?;
        // Its gradient with respect to the codes is `g`, whatever the loss was.
        let grads = (&codes.tensor * g)?.sum_all()?.backward()?;
        let gradients = self.vars.gradients(&grads)?;
        let mut values = self.vars.values()?;
        let all = [Group { range: 0..values.len(), rates: vec![RATE] }];
        self.adam.step(&mut values, &gradients, &all, factor);
        Ok(self.vars.set(&values)?)
    }

    /// Codes of all windows.
    pub(crate) fn codes(&self, windows: &[&[f32]]) -> anyhow::Result<Vec<[f32; LEARNED_DIMS]>> {
        let mut all = Vec::with_capacity(windows.len());
        for batch in windows.chunks(BATCH) {
            all.extend(self.forward(batch)?.values);
        }
        Ok(all)
    }

    /// Codes of all these frames.
    pub(crate) fn codes_of(&self, seen: &[Seen]) -> anyhow::Result<Vec<[f32; LEARNED_DIMS]>> {
        let windows: Vec<&[f32]> = seen.iter().map(|s| &s.window[..]).collect();
        self.codes(&windows)
    }

    /// Standard deviation of each learned number over the frames learned from.
    pub(crate) fn deviations(&self, seen: &Observations) -> anyhow::Result<[f32; LEARNED_DIMS]> {
        let stride = seen.train.len().div_ceil(BATCH);
        let windows: Vec<&[f32]> =
            seen.train.iter().step_by(stride).map(|s| &s.window[..]).collect();
        let codes = self.codes(&windows)?;
        let n = codes.len() as f32;
        Ok(std::array::from_fn(|d| {
            let mean = codes.iter().map(|c| c[d]).sum::<f32>() / n;
            (codes.iter().map(|c| (c[d] - mean).powi(2)).sum::<f32>() / n).sqrt()
        }))
    }

    /// How the landmarks move with the code as it is now, by least squares.
    pub(crate) fn landmark_moves(&self, seen: &Observations) -> anyhow::Result<Motion> {
        let stride = seen.train.len().div_ceil(MAX_MOTION_FRAMES);
        let chosen: Vec<_> = seen.train.iter().step_by(stride).collect();
        let windows: Vec<&[f32]> = chosen.iter().map(|s| &s.window[..]).collect();
        let codes = self.codes(&windows)?;
        let faces: Vec<Vec<[f32; 2]>> =
            chosen.iter().map(|s| face(&seen.shape, &seen.identity, &s.observation)).collect();
        let inputs: Vec<Vec<f64>> =
            codes.iter().map(|c| c.iter().map(|v| f64::from(*v)).collect()).collect();
        let outputs: Vec<Vec<f64>> = faces
            .iter()
            .map(|f| f.as_flattened().iter().map(|v| f64::from(*v)).collect())
            .collect();
        let moves = regress(&inputs, &outputs, RIDGE)
            .into_iter()
            .map(|row| row.chunks_exact(2).map(|p| [p[0] as f32, p[1] as f32]).collect())
            .collect();
        let n = faces.len() as f32;
        let at = (0..LANDMARKS)
            .map(|i| [0, 1].map(|axis| faces.iter().map(|f| f[i][axis]).sum::<f32>() / n))
            .collect();
        Ok(Motion { at, moves })
    }
}

/// The landmarks of a frame's expression on the resting head.
fn face(shape: &FaceShape, identity: &Identity, seen: &Observation) -> Vec<[f32; 2]> {
    let points = shape.with_expression(identity.neutral(), &seen.expression);
    points.into_iter().map(|p| canonical(p.to_array())).collect()
}
