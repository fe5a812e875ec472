//! Training of a baseline field together with the embedder.

use enroll::{
    Ablation, Adam, BudgetClock, Codes, Embedding, FRAMES_PER_STEP, Observations, ObservedFrame,
    ParameterGroup, RayCounts, learning_rate,
};
use numerics::SplitMix64;
use rayon::prelude::*;
use types::{CANONICAL_M, EXPRESSION_DIMS, HeadPose, LEARNED_DIMS, POSE_DIMS, TORSO_DIMS};

use crate::frame::ClassicFrame;
use crate::model::ClassicModel;
use crate::options::ClassicOptions;
use crate::ray_pass::{ClassicJob, Lane, PackedField};
use crate::sizes::ClassicSizes;

/// Rays for one frame in one step, in the proportions of the product's training.
const RAYS: RayCounts = RayCounts { uniform: 40, head: 56, mouth: 19, eyes: 13 };
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
    seen: &Observations,
    clock: &mut BudgetClock<'_>,
) -> anyhow::Result<TrainedClassic> {
    let seed = options.enroll.seed;
    let sizes = sizes_for(options, seen);
    let background = seen.background(sizes.background).as_chunks::<3>().0.to_vec();
    let first = ClassicModel::untrained(sizes.clone(), seed);
    let (mut params, layout) = (first.params().to_vec(), first.layout().clone());
    if !options.uses(Ablation::ConsistencyCode) {
        params[layout.shared.clone()].fill(0.0);
    }
    let mut embedding =
        if options.uses(Ablation::Embedding) { Some(Embedding::new(seen, seed)?) } else { None };
    let learned =
        if options.uses(Ablation::ConsistencyCode) { layout.len } else { layout.shared.start };
    let groups = [ParameterGroup { range: 0..learned, rates: vec![RATE] }];
    let mut adam = Adam::new(layout.len);
    let mut grads = vec![0.0; layout.len];
    let mut lanes: Vec<Lane> = (0..FRAMES_PER_STEP).map(|_| Lane::new(&sizes, &layout)).collect();
    let regions = seen.regions();
    let mut noise = SplitMix64::new(seed);
    let span = clock.start_training(std::time::Duration::ZERO, 0.0);
    let (mut error, mut rays): (Option<f64>, u64) = (None, 0);
    loop {
        let progress = clock.training_progress(&span, adam.steps);
        if progress >= 1.0 {
            break;
        }
        let chosen: Vec<usize> = (0..FRAMES_PER_STEP)
            .map(|_| (noise.bits() % seen.train.len() as u64) as usize)
            .collect();
        let windows: Vec<&[f32]> = chosen.iter().map(|&i| &seen.train[i].window[..]).collect();
        let codes = embedding.as_ref().map(|e| e.forward(&windows)).transpose()?;
        let field = PackedField::new(&sizes, &layout, &params, &background);
        let jobs: Vec<ClassicJob<'_>> = chosen
            .iter()
            .enumerate()
            .map(|(k, &i)| {
                let ObservedFrame { frame, observation, .. } = &seen.train[i];
                let expression = match &codes {
                    Some(codes) => &codes.values()[k][..],
                    None => observation.expression.as_array(),
                };
                let (pose, code) =
                    (observation.pose.to_array(), code(expression, &observation.torso));
                ClassicJob {
                    frame: ClassicFrame::new(&sizes, &layout, &params, &pose, &code),
                    pixels: regions[i].draw(frame.rgb(), seen.side, &RAYS, &mut noise),
                    seed: noise.bits(),
                    field: &field,
                    scale: 1.0 / (FRAMES_PER_STEP * RAYS.total()) as f32,
                }
            })
            .collect();
        lanes.par_iter_mut().zip(&jobs).for_each(|(lane, job)| lane.run(job));
        // Summed in a fixed order, so that the result does not depend on the threads.
        grads.fill(0.0);
        for lane in &lanes {
            grads.iter_mut().zip(&lane.grads).for_each(|(sum, g)| *sum += g);
        }
        let factor = learning_rate(adam.steps, progress);
        adam.step(&mut params, &grads, &groups, factor);
        if let (Some(embedding), Some(codes)) = (&mut embedding, &codes) {
            embedding.learn(codes, &code_gradients(&lanes, codes), factor)?;
        }
        rays += (FRAMES_PER_STEP * RAYS.total()) as u64;

        let squared = lanes.iter().map(|l| l.squared_error).sum::<f64>()
            / (FRAMES_PER_STEP * RAYS.total()) as f64;
        let smoothed = error.map_or(squared, |e| ERROR_DECAY * e + (1.0 - ERROR_DECAY) * squared);
        error = Some(smoothed);
        let db = (-10.0 * smoothed.max(1e-10).log10()) as f32;
        clock.report("learning", progress, adam.steps.into(), Some(db))?;
    }
    let steps = adam.steps;
    Ok(TrainedClassic {
        model: ClassicModel::new(sizes, params, background)?,
        embedding,
        steps,
        rays,
    })
}

/// Returns the gradient of each frame's learned code, including the regularization of its square.
fn code_gradients(lanes: &[Lane], codes: &Codes) -> Vec<[f32; LEARNED_DIMS]> {
    let small = 2.0 * CODE_SMALL / FRAMES_PER_STEP as f32;
    lanes
        .iter()
        .zip(codes.values())
        .map(|(lane, code)| std::array::from_fn(|i| lane.g_code[i] + small * code[i]))
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
