//! Classic field and embedder, learned together.

use face::{ClassicFrame, ClassicModel, ClassicSizes};
use numerics::SplitMix64;
use rayon::prelude::*;
use track::Observation;
use types::{CANONICAL_M, EXPRESSION_DIMS, HeadPose, LEARNED_DIMS, POSE_DIMS, TORSO_DIMS};

use super::ClassicOptions;
use super::ray_pass::{ClassicJob, Lane, PackedField};
use crate::adam::{Adam, Group};
use crate::clock::Clock;
use crate::embedding::{Codes, Embedding};
use crate::observing::{Observations, Seen};
use crate::options::{Budget, Part};
use crate::pixels::RayCounts;
use crate::trainer::{FRAMES_PER_STEP, learning_rate};

/// Rays of a frame in one step: the shares of our own field's training.
const RAYS: RayCounts = RayCounts { uniform: 40, head: 56, mouth: 19, eyes: 13 };
/// Learning rate of all networks.
const RATE: f32 = 2e-3;
/// Weight of the code's square, as in our own field's training.
const CODE_SMALL: f32 = 1e-5;
/// How slowly the shown quality follows that of each step.
const SHOWN: f64 = 0.98;

/// What learning leaves.
pub(crate) struct ClassicLearned {
    pub(crate) model: ClassicModel,
    /// `None` where the coefficients themselves are the code.
    pub(crate) embedding: Option<Embedding>,
    pub(crate) steps: u32,
    pub(crate) rays: u64,
}

/// What a frame is drawn from.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) pose: HeadPose,
    /// Expression code, torso track.
    pub(crate) code: Vec<f32>,
}

/// What landmarks, torso tracker and embedder see in these frames.
pub(crate) fn features(
    seen: &[Seen],
    embedding: Option<&Embedding>,
) -> anyhow::Result<Vec<Measured>> {
    let codes = embedding.map(|e| e.codes_of(seen)).transpose()?;
    let measured = seen.iter().enumerate().map(|(i, s)| {
        let expression = match &codes {
            Some(codes) => &codes[i][..],
            None => s.observation.expression.as_array(),
        };
        Measured { pose: s.observation.pose, code: code(expression, &s.observation) }
    });
    Ok(measured.collect())
}

fn code(expression: &[f32], observation: &Observation) -> Vec<f32> {
    [expression, &observation.torso].concat()
}

/// Learns until the budget is used up.
pub(crate) fn learn(
    options: &ClassicOptions,
    seen: &Observations,
    clock: &mut Clock<'_>,
) -> anyhow::Result<ClassicLearned> {
    let seed = options.enroll.seed;
    let sizes = sizes_for(options, seen);
    let background = seen.background(sizes.background).as_chunks::<3>().0.to_vec();
    let first = ClassicModel::untrained(sizes.clone(), seed);
    let (mut params, layout) = (first.params().to_vec(), first.layout().clone());
    if !options.has(Part::ConsistencyCode) {
        params[layout.shared.clone()].fill(0.0);
    }
    let mut embedding =
        if options.has(Part::Embedding) { Some(seen.embedding(seed)?) } else { None };
    let learned = if options.has(Part::ConsistencyCode) { layout.len } else { layout.shared.start };
    let groups = [Group { range: 0..learned, rates: vec![RATE] }];
    let mut adam = Adam::new(layout.len);
    let mut grads = vec![0.0; layout.len];
    let mut lanes: Vec<Lane> = (0..FRAMES_PER_STEP).map(|_| Lane::new(&sizes, &layout)).collect();
    let regions = seen.regions();
    let mut noise = SplitMix64::new(seed);
    let begun = clock.elapsed();
    let (mut error, mut rays): (Option<f64>, u64) = (None, 0);
    loop {
        let progress = match options.enroll.budget {
            Budget::Steps(steps) => adam.steps as f32 / steps.max(1) as f32,
            Budget::Time(all) => {
                let span = all.saturating_sub(begun).as_secs_f32().max(1e-3);
                clock.elapsed().saturating_sub(begun).as_secs_f32() / span
            }
        };
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
                let Seen { frame, observation, .. } = &seen.train[i];
                let expression = match &codes {
                    Some(codes) => &codes.values()[k][..],
                    None => observation.expression.as_array(),
                };
                let (pose, code) = (observation.pose.to_array(), code(expression, observation));
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
        // In a fixed order, whatever the threads.
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
        let shown = error.map_or(squared, |e| SHOWN * e + (1.0 - SHOWN) * squared);
        error = Some(shown);
        let db = (-10.0 * shown.max(1e-10).log10()) as f32;
        clock.report("learning", progress, adam.steps.into(), Some(db))?;
    }
    let steps = adam.steps;
    Ok(ClassicLearned {
        model: ClassicModel::new(sizes, params, background)?,
        embedding,
        steps,
        rays,
    })
}

/// Gradients of the learned numbers, those of their square included.
fn code_gradients(lanes: &[Lane], codes: &Codes) -> Vec<[f32; LEARNED_DIMS]> {
    let small = 2.0 * CODE_SMALL / FRAMES_PER_STEP as f32;
    lanes
        .iter()
        .zip(codes.values())
        .map(|(lane, code)| std::array::from_fn(|i| lane.g_code[i] + small * code[i]))
        .collect()
}

/// The sizes asked for, with what is the person's own.
fn sizes_for(options: &ClassicOptions, seen: &Observations) -> ClassicSizes {
    let expression = if options.has(Part::Embedding) { LEARNED_DIMS } else { EXPRESSION_DIMS };
    let mut sizes = ClassicSizes {
        code: expression + TORSO_DIMS,
        background: seen.side as usize,
        ..options.sizes.clone()
    };
    (sizes.pose_mean, sizes.pose_scale) = seen.pose_spread();
    sizes.torso_distance = (sizes.pose_mean[POSE_DIMS - 1] / CANONICAL_M).max(sizes.near);
    sizes
}
