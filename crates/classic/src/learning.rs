//! Training of a baseline field together with the embedder.

use std::time::Duration;

use enroll::{
    Ablation, Adam, BudgetClock, Codes, Embedding, FRAMES_PER_STEP, Observations, ObservedFrame,
    ParameterGroup, RayCounts, Regions, Stage, learning_rate,
};
use numerics::SplitMix64;
use rayon::prelude::*;
use types::{CANONICAL_M, EXPRESSION_DIMS, HeadPose, LEARNED_DIMS, POSE_DIMS, TORSO_DIMS};

use crate::frame::ClassicFrame;
use crate::model::ClassicModel;
use crate::options::ClassicOptions;
use crate::ray_pass::{ClassicJob, FrameWorker, PackedField};
use crate::sizes::{ClassicLayout, ClassicSizes};

/// Rays for one frame in one step, in the proportions of the product's training.
const RAYS: RayCounts = RayCounts { uniform: 40, head: 56, mouth: 19, eyes: 13 };
/// Rays for all frames in one step.
const RAYS_PER_STEP: usize = FRAMES_PER_STEP * RAYS.total();
/// Learning rate of all parameters.
const RATE: f32 = 2e-3;
/// Weight of the squared code in the loss, as in the product's training.
const CODE_SMALL: f32 = 1e-5;
/// Decay of the running mean of the error that progress reports show.
const ERROR_DECAY: f64 = 0.98;

/// Result of the training.
pub(crate) struct TrainedClassic {
    pub(crate) model: ClassicModel,
    /// `None` in the ablation without an embedder, where the expression coefficients are the code.
    pub(crate) embedding: Option<Embedding>,
    pub(crate) steps: u32,
    pub(crate) rays: u64,
}

/// Pose and code from which a frame is rendered.
#[derive(Clone, Debug)]
pub(crate) struct MeasuredFrame {
    pub(crate) pose: HeadPose,
    /// Expression code, then torso track.
    pub(crate) code: Vec<f32>,
}

/// Computes the pose and code of each frame from its observation and the embedder.
pub(crate) fn measured_frames(
    seen: &[ObservedFrame],
    embedding: Option<&Embedding>,
) -> anyhow::Result<Vec<MeasuredFrame>> {
    let codes = embedding.map(|e| e.codes_of(seen)).transpose()?;
    let measured = seen.iter().enumerate().map(|(i, s)| {
        let expression = match &codes {
            Some(codes) => &codes[i][..],
            None => s.observation.expression.as_array(),
        };
        MeasuredFrame { pose: s.observation.pose, code: code(expression, &s.observation.torso) }
    });
    Ok(measured.collect())
}

/// Joins an expression code and a torso track.
fn code(expression: &[f32], torso: &[f32; TORSO_DIMS]) -> Vec<f32> {
    [expression, torso].concat()
}

/// Trains until the budget is used up.
///
/// # Errors
/// If the progress callback asks to stop or a parameter is no longer finite.
pub(crate) fn learn(
    options: &ClassicOptions,
    observations: &Observations,
    clock: &mut BudgetClock<'_>,
) -> anyhow::Result<TrainedClassic> {
    let mut training = ClassicTraining::new(options, observations)?;
    let span = clock.start_training(Duration::ZERO, 0.0);
    let (mut error, mut rays): (Option<f64>, u64) = (None, 0);
    loop {
        let progress = clock.training_progress(&span, training.adam.steps);
        if progress >= 1.0 {
            break;
        }
        let squared = training.step(progress)?;
        rays += RAYS_PER_STEP as u64;
        let smoothed = error.map_or(squared, |e| ERROR_DECAY * e + (1.0 - ERROR_DECAY) * squared);
        error = Some(smoothed);
        let db = (-10.0 * smoothed.max(1e-10).log10()) as f32;
        clock.report(Stage::Learning, progress, training.adam.steps.into(), Some(db))?;
    }
    let ClassicTraining { sizes, params, background, embedding, adam, .. } = training;
    let model = ClassicModel::new(sizes, params, background)?;
    Ok(TrainedClassic { model, embedding, steps: adam.steps, rays })
}

/// State of the training.
struct ClassicTraining<'a> {
    observations: &'a Observations,
    regions: Vec<Regions>,
    sizes: ClassicSizes,
    layout: ClassicLayout,
    params: Vec<f32>,
    background: Vec<[f32; 3]>,
    embedding: Option<Embedding>,
    adam: Adam,
    groups: [ParameterGroup; 1],
    grads: Vec<f32>,
    workers: Vec<FrameWorker>,
    noise: SplitMix64,
}

impl<'a> ClassicTraining<'a> {
    fn new(options: &ClassicOptions, observations: &'a Observations) -> anyhow::Result<Self> {
        let seed = options.enroll.seed;
        let sizes = sizes_for(options, observations);
        let background = observations.background(sizes.background).as_chunks::<3>().0.to_vec();
        let initial = ClassicModel::untrained(sizes.clone(), seed);
        let (mut params, layout) = (initial.params().to_vec(), initial.layout().clone());
        let mut n_trained = layout.len;
        if !options.uses(Ablation::ConsistencyCode) {
            params[layout.shared.clone()].fill(0.0);
            n_trained = layout.shared.start;
        }
        let embedding = if options.uses(Ablation::Embedding) {
            Some(Embedding::new(observations, seed)?)
        } else {
            None
        };
        Ok(Self {
            observations,
            regions: observations.regions(),
            embedding,
            adam: Adam::new(layout.len),
            groups: [ParameterGroup { range: 0..n_trained, rates: vec![RATE] }],
            grads: vec![0.0; layout.len],
            workers: (0..FRAMES_PER_STEP).map(|_| FrameWorker::new(&sizes, &layout)).collect(),
            noise: SplitMix64::new(seed),
            sizes,
            layout,
            params,
            background,
        })
    }

    /// Takes one step on random training frames; returns the mean squared error of its pixels.
    fn step(&mut self, progress: f32) -> anyhow::Result<f64> {
        let train = &self.observations.train;
        let noise = &mut self.noise;
        let chosen: Vec<usize> =
            (0..FRAMES_PER_STEP).map(|_| (noise.bits() % train.len() as u64) as usize).collect();
        let windows: Vec<&[f32]> = chosen.iter().map(|&i| &train[i].window[..]).collect();
        let codes = self.embedding.as_ref().map(|e| e.forward(&windows)).transpose()?;
        let field = PackedField::new(&self.sizes, &self.layout, &self.params, &self.background);
        let jobs: Vec<ClassicJob<'_>> = chosen
            .iter()
            .enumerate()
            .map(|(k, &i)| {
                let ObservedFrame { frame, observation, .. } = &train[i];
                let expression = match &codes {
                    Some(codes) => &codes.values()[k][..],
                    None => observation.expression.as_array(),
                };
                let pose = observation.pose.to_array();
                let code = code(expression, &observation.torso);
                ClassicJob {
                    frame: ClassicFrame::new(&self.sizes, &self.layout, &self.params, &pose, &code),
                    pixels: self.regions[i].draw(frame, &RAYS, noise),
                    seed: noise.bits(),
                    field: &field,
                    scale: 1.0 / RAYS_PER_STEP as f32,
                }
            })
            .collect();
        self.workers.par_iter_mut().zip(&jobs).for_each(|(worker, job)| worker.run(job));
        // Summed in a fixed order, so that the result does not depend on the threads.
        self.grads.fill(0.0);
        for worker in &self.workers {
            self.grads.iter_mut().zip(&worker.grads).for_each(|(sum, g)| *sum += g);
        }
        let factor = learning_rate(self.adam.steps, progress);
        self.adam.step(&mut self.params, &self.grads, &self.groups, factor);
        if let (Some(embedding), Some(codes)) = (&mut self.embedding, &codes) {
            embedding.learn(codes, &code_gradients(&self.workers, codes), factor)?;
        }
        let squared: f64 = self.workers.iter().map(|worker| worker.squared_error).sum();
        Ok(squared / RAYS_PER_STEP as f64)
    }
}

/// Returns the gradient of each frame's learned code, including the regularization of its square.
fn code_gradients(workers: &[FrameWorker], codes: &Codes) -> Vec<[f32; LEARNED_DIMS]> {
    let small = 2.0 * CODE_SMALL / FRAMES_PER_STEP as f32;
    workers
        .iter()
        .zip(codes.values())
        .map(|(worker, code)| std::array::from_fn(|i| worker.g_code[i] + small * code[i]))
        .collect()
}

/// Completes the requested sizes with those that depend on the person.
fn sizes_for(options: &ClassicOptions, seen: &Observations) -> ClassicSizes {
    let expression = if options.uses(Ablation::Embedding) { LEARNED_DIMS } else { EXPRESSION_DIMS };
    let mut sizes = ClassicSizes {
        code: expression + TORSO_DIMS,
        background: seen.side as usize,
        ..options.sizes.clone()
    };
    (sizes.pose_mean, sizes.pose_scale) = seen.pose_spread();
    sizes.torso_distance = (sizes.pose_mean[POSE_DIMS - 1] / CANONICAL_M).max(sizes.near);
    sizes
}
