use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{Init, Linear, Module, VarBuilder, VarMap, linear, ops::softmax};
use face_shape::FaceShape;
use types::LEARNED_DIMS;

use crate::history::{INPUT_DIMS, Observation, WINDOW};
use crate::whitening::{CLAMP, WHITE_DIMS, Whitening};

/// Width of queries, keys, values and the hidden layer.
const WIDTH: usize = 64;
const HEADS: usize = 4;
/// Factors of the whitened expression and pose at the network's input.
const EXPRESSION_GAIN: f64 = 0.5;
const POSE_GAIN: f64 = 0.25;
/// Bound of the learned numbers.
const LIMIT: f64 = 3.0;

/// Network from the expressions and poses of a window of frames to the 24 learned numbers of the
/// newest frame's code.
///
/// Whitens the input with the person's statistics (see [`Embedder::whiten`]), lets the newest frame
/// attend over the window, and adds a small perceptron to a linear map of the newest frame's 24
/// most visible expression components: `code = 3 tanh((linear + perceptron) / 3)`. Causal.
/// docs/TRACKER.md, "Embedder", has all shapes.
///
/// # Source
/// Vaswani et al. 2017, "Attention is all you need", eq. 1 (arXiv:1706.03762), with a learned bias
/// per head and position.
#[derive(Clone, Debug)]
pub struct Embedder {
    mean: Tensor,
    basis: Tensor,
    scale: Tensor,
    gain: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    position: Tensor,
    attended: Linear,
    hidden: Linear,
    out: Linear,
    skip: Tensor,
}

impl Embedder {
    /// Number of frames in a window: the newest one and its 7 predecessors.
    pub const WINDOW: usize = WINDOW;
    /// Number of inputs per frame: 79 expression coefficients, then 6 numbers of the head pose.
    ///
    /// Those of the pose are not the values of a [`types::HeadPose`]: the rotation vector in
    /// radians, the position of the head in the image from its center, in image sides, and the
    /// natural logarithm of its distance in meters. [`crate::History`] computes them.
    pub const INPUT_DIMS: usize = INPUT_DIMS;

    /// Creates the network with the weights of `vb`: those of a `VarMap` in training, those of a
    /// file in inference.
    ///
    /// Weights that a `VarMap` does not have yet are initialized: once whitened
    /// ([`Embedder::whiten`]), the network is then the linear map plus a small random perceptron.
    ///
    /// # Errors
    /// If a stored weight is missing or has another shape.
    pub fn new(vb: &VarBuilder<'_>) -> Result<Self> {
        let white = vb.pp("whitening");
        let gains: Vec<f32> = (0..WHITE_DIMS)
            .map(|i| if i < WHITE_DIMS - 6 { EXPRESSION_GAIN as f32 } else { POSE_GAIN as f32 })
            .collect();
        let small = Init::Randn { mean: 0.0, stdev: 0.01 };
        Ok(Self {
            mean: white.get_with_hints(INPUT_DIMS, "mean", Init::Const(0.0))?,
            basis: white.get_with_hints((INPUT_DIMS, WHITE_DIMS), "basis", Init::Const(0.0))?,
            scale: white.get_with_hints(WHITE_DIMS, "scale", Init::Const(1.0))?,
            gain: Tensor::from_vec(gains, WHITE_DIMS, vb.device())?.to_dtype(vb.dtype())?,
            query: linear(WHITE_DIMS, WIDTH, vb.pp("query"))?,
            key: linear(WHITE_DIMS, WIDTH, vb.pp("key"))?,
            value: linear(WHITE_DIMS, WIDTH, vb.pp("value"))?,
            position: vb.get_with_hints((HEADS, WINDOW), "position", Init::Const(0.0))?,
            attended: linear(WIDTH, WIDTH, vb.pp("attended"))?,
            hidden: linear(WHITE_DIMS + WIDTH, WIDTH, vb.pp("hidden"))?,
            out: Linear::new(
                vb.get_with_hints((LEARNED_DIMS, WIDTH), "out.weight", small)?,
                Some(vb.get_with_hints(LEARNED_DIMS, "out.bias", Init::Const(0.0))?),
            ),
            skip: vb.get_with_hints(LEARNED_DIMS, "skip", Init::Const(1.0))?,
        })
    }

    /// Sets the whitening of an embedder made over `vars` (under no prefix) to the statistics of a
    /// person's observations.
    ///
    /// # Errors
    /// If no embedder was made over the variables.
    pub fn whiten(vars: &VarMap, shape: &FaceShape, observations: &[Observation]) -> Result<()> {
        Whitening::new(shape, observations).store(vars)
    }

    /// Parses a network for the CPU from the bytes of a safetensors file.
    ///
    /// # Errors
    /// If the bytes are no safetensors file with the weights of this network.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::new(&VarBuilder::from_slice_safetensors(bytes, DType::F32, &Device::Cpu)?)
    }

    /// Returns the safetensors file of an embedder made over `vars` (under no prefix); the variables
    /// must hold nothing else.
    ///
    /// # Errors
    /// If a variable cannot be read.
    pub fn to_bytes(vars: &VarMap) -> Result<Vec<u8>> {
        let vars = vars.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let named: std::collections::BTreeMap<_, _> =
            vars.iter().map(|(name, var)| (name, var.as_tensor())).collect();
        safetensors::serialize(named, None).map_err(candle_core::Error::wrap)
    }

    /// Runs the network on a batch of windows, `[B, WINDOW, INPUT_DIMS]`, newest frame last, as
    /// [`crate::History`] makes them; returns the learned numbers, `[B, 24]`, each within ±3.
    ///
    /// # Errors
    /// If the shape is wrong.
    pub fn forward(&self, windows: &Tensor) -> Result<Tensor> {
        let (batch, frames, dims) = windows.dims3()?;
        let white = self.whitened(&windows.reshape((batch * frames, dims))?)?;
        let newest = white.reshape((batch, frames, WHITE_DIMS))?.narrow(1, frames - 1, 1)?;
        let newest = newest.squeeze(1)?.contiguous()?;

        let each = WIDTH / HEADS;
        let heads =
            |t: Tensor, n: usize| t.reshape((batch, n, HEADS, each))?.transpose(1, 2)?.contiguous();
        let query = heads(self.query.forward(&newest)?, 1)?;
        let key = heads(self.key.forward(&white)?, frames)?;
        let value = heads(self.value.forward(&white)?, frames)?;
        let scores = (query.matmul(&key.transpose(2, 3)?.contiguous()?)? / (each as f64).sqrt())?;
        let position = self.position.reshape((1, HEADS, 1, WINDOW))?;
        let shares = softmax(&scores.broadcast_add(&position)?, D::Minus1)?;
        let seen = shares.matmul(&value)?.transpose(1, 2)?.reshape((batch, WIDTH))?;
        let seen = self.attended.forward(&seen)?;

        let hidden = self.hidden.forward(&Tensor::cat(&[&newest, &seen], 1)?)?.silu()?;
        let line = newest.narrow(1, 0, LEARNED_DIMS)?.broadcast_mul(&self.skip)?;
        ((line + self.out.forward(&hidden)?)? / LIMIT)?.tanh()? * LIMIT
    }

    /// Returns the learned numbers for one window of `WINDOW * INPUT_DIMS` numbers.
    ///
    /// # Errors
    /// If the window has another length.
    pub fn embed(&self, window: &[f32]) -> Result<[f32; LEARNED_DIMS]> {
        let window = Tensor::from_slice(window, (1, WINDOW, INPUT_DIMS), &Device::Cpu)?;
        let code = self.forward(&window)?.flatten_all()?.to_vec1::<f32>()?;
        let mut out = [0.0; LEARNED_DIMS];
        out.copy_from_slice(&code);
        Ok(out)
    }

    /// Whitens and clamps input rows, `[N, INPUT_DIMS]`, to `[N, WHITE_DIMS]`; the statistics are not
    /// trained.
    fn whitened(&self, rows: &Tensor) -> Result<Tensor> {
        let centered = rows.broadcast_sub(&self.mean.detach())?;
        let white = centered.matmul(&self.basis.detach())?.broadcast_div(&self.scale.detach())?;
        white.clamp(-f64::from(CLAMP), f64::from(CLAMP))?.broadcast_mul(&self.gain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::History;
    use candle_nn::Optimizer;
    use types::{Expression, HeadPose, MediaTime};

    fn observations(n: u64) -> Vec<Observation> {
        (0..n)
            .map(|i| {
                let t = i as f32 * 0.3;
                let mut e = [0.0; 79];
                e.iter_mut().enumerate().for_each(|(k, v)| *v = (t * (1.0 + k as f32 * 0.1)).sin());
                let turn = glam::Vec3::new(0.0, 0.1 * t.cos(), 0.0);
                Observation {
                    time: MediaTime::of_frame(i, 25),
                    pose: HeadPose::new(turn, glam::Vec3::new(0.0, 0.0, 1.0)).unwrap(),
                    expression: Expression::new(e).unwrap(),
                    torso: [0.0; 6],
                    torso_correlation: 1.0,
                    landmarks: types::Landmarks::exact(vec![]),
                }
            })
            .collect()
    }

    fn whitened_by(seen: &[Observation]) -> (VarMap, Embedder) {
        let vars = VarMap::new();
        let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
        let embedder = Embedder::new(&vb).unwrap();
        Embedder::whiten(&vars, &FaceShape::builtin().unwrap(), seen).unwrap();
        (vars, embedder)
    }

    #[test]
    fn a_batch_equals_single_windows_and_stays_within_three() {
        let seen = observations(12);
        let (_, embedder) = whitened_by(&seen);
        let windows = History::windows(&seen);
        let batch =
            Tensor::from_vec(windows.concat(), (12, WINDOW, INPUT_DIMS), &Device::Cpu).unwrap();
        let codes = embedder.forward(&batch).unwrap().to_vec2::<f32>().unwrap();
        for (window, code) in windows.iter().zip(codes) {
            let single = embedder.embed(window).unwrap();
            assert!(code.iter().all(|c| c.abs() <= 3.0));
            assert!(code.iter().zip(single).all(|(a, b)| (a - b).abs() < 1e-5));
        }
        assert!(embedder.embed(&windows[0][1..]).is_err());
    }

    #[test]
    fn training_changes_the_network_but_not_the_whitening_and_both_survive_the_file() {
        let seen = observations(16);
        let (vars, embedder) = whitened_by(&seen);
        let windows = History::windows(&seen);
        let batch =
            Tensor::from_vec(windows.concat(), (16, WINDOW, INPUT_DIMS), &Device::Cpu).unwrap();
        let whitening = embedder.basis.to_vec2::<f32>().unwrap();
        let loss = |e: &Embedder| (e.forward(&batch)? - 0.5)?.sqr()?.mean_all();
        let before = loss(&embedder).unwrap().to_scalar::<f32>().unwrap();
        let params = candle_nn::ParamsAdamW { lr: 1e-2, ..Default::default() };
        let mut adam = candle_nn::AdamW::new(vars.all_vars(), params).unwrap();
        for _ in 0..30 {
            adam.backward_step(&loss(&embedder).unwrap()).unwrap();
        }
        let after = loss(&embedder).unwrap().to_scalar::<f32>().unwrap();
        assert!(after < 0.5 * before, "{before} to {after}");
        assert_eq!(embedder.basis.to_vec2::<f32>().unwrap(), whitening);

        let bytes = Embedder::to_bytes(&vars).unwrap();
        let loaded = Embedder::parse(&bytes).unwrap();
        let code = loaded.embed(&windows[15]).unwrap();
        let want = embedder.embed(&windows[15]).unwrap();
        assert_eq!(code, want);
        assert!(Embedder::parse(&bytes[..bytes.len() / 2]).is_err());
    }
}
