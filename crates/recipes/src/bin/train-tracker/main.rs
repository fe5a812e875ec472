//! Trains the landmark network that ships in `assets/tracker.safetensors`.
//!
//! ```text
//! cargo run --release -p recipes --bin train-tracker -- --faces DIR --clips DIR
//! ```
//!
//! Every minute the program saves its state (weights, optimizer moments, step); `--resume`
//! continues from it, also with another `--steps`. Each sample is drawn from the seed and its own
//! number, so a resumed run sees the samples that an uninterrupted run would see. Forward and
//! backward passes are matrix products on two cores. docs/TRACKER.md describes the recipe.

#![expect(
    clippy::disallowed_methods,
    reason = "the program times itself and saves its state every minute"
)]

mod actors;
mod augment;
mod clips;
mod evaluate;
mod faces;
mod follow;
mod gradient;
mod optimizer;
mod shapes;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use rayon::prelude::*;
use track::{LandmarkNet, Parameter};
use types::LANDMARKS;

use crate::augment::TrainingSample;
use crate::faces::Face;
use crate::gradient::BatchWorker;
use crate::optimizer::Optimizer;
use crate::shapes::MeanShape;
use numerics::SplitMix64;

/// Samples in a batch.
const BATCH: usize = 64;
/// Parallel parts of a batch, independent of the number of cores so that sums are deterministic.
const WORKERS: usize = 4;
/// Samples that pass the network together; few enough that their activations fit the cache.
const TOGETHER: usize = 8;
/// Steps of the linear warm-up.
const WARM_UP: u64 = 200;

/// Train the landmark network
#[derive(clap::Parser)]
struct TrackerArguments {
    /// Folder of labelled faces: `crops.tar`, `index.csv`, `landmarks.safetensors`
    #[arg(long, value_name = "DIR")]
    faces: PathBuf,
    /// Folder of labelled clips, each `NAME.mp4` with `NAME.landmarks.npz`; the first 85 % of a
    /// clip are for training
    #[arg(long, value_name = "DIR")]
    clips: Option<PathBuf>,
    /// Number of training pictures of the synthetic actor
    #[arg(long, value_name = "N", default_value_t = 4000)]
    actors: usize,
    /// Weights to write
    #[arg(long, value_name = "FILE", default_value = "assets/tracker.safetensors")]
    out: PathBuf,
    /// Training state to write every minute
    #[arg(long, value_name = "FILE", default_value = "target/train-tracker.state")]
    state: PathBuf,
    /// Continue from the training state
    #[arg(long)]
    resume: bool,
    /// Start from these weights instead of random ones
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Number of training steps
    #[arg(long, value_name = "N", default_value_t = 8000)]
    steps: u64,
    /// Seed of all random numbers
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Peak learning rate
    #[arg(long, value_name = "RATE", default_value_t = 1.5e-3)]
    rate: f32,
    /// Only report the accuracy of the weights in `--out` on the held-out faces and clips
    #[arg(long)]
    evaluate_only: bool,
}

fn main() -> Result<()> {
    let options = TrackerArguments::parse();
    let started = Instant::now();
    let mut faces = faces::load(&options.faces)?;
    let (n_train, n_val) = (faces.train.len(), faces.val.len());
    println!("{n_train} faces to train on, {n_val} held out, {:.0?}", started.elapsed());
    if options.evaluate_only {
        let net = LandmarkNet::parse(&std::fs::read(&options.out)?)?;
        println!("held out: {}", evaluate::evaluate(&net, &faces.val).line());
        if let Some(folder) = &options.clips {
            follow::evaluate_clips(&net, folder)?;
        }
        return Ok(());
    }
    if let Some(folder) = &options.clips {
        faces.clips = clips::faces(folder)?;
        let n: usize = faces.clips.iter().map(Vec::len).sum();
        println!(
            "{n} frames of {} clips to train on, {:.0?}",
            faces.clips.len(),
            started.elapsed()
        );
    }
    faces.actors = actors::faces(options.actors, options.seed);
    println!("{} pictures of the actor, {:.0?}", faces.actors.len(), started.elapsed());
    let mean = shapes::mean_shape(&faces.train)?;
    let weights = landmark_weights(&mean);
    let mut optimizer = if options.resume {
        Optimizer::load(&options.state)?
    } else if let Some(path) = &options.from {
        Optimizer::from_weights(path, options.seed)?
    } else {
        Optimizer::new(first_parameters(&faces.train, &mean, options.seed))
    };
    println!("{} parameters, at step {}", optimizer.parameters.len(), optimizer.step);
    train(&options, &faces, &mean, &weights, &mut optimizer)
}

/// Trains until `options.steps` is reached.
fn train(
    options: &TrackerArguments,
    faces: &faces::Faces,
    mean: &MeanShape,
    weights: &[f32],
    optimizer: &mut Optimizer,
) -> Result<()> {
    let mut net = LandmarkNet::new(optimizer.parameters.clone(), mean.points.clone())?;
    let mut workers: Vec<BatchWorker> = (0..WORKERS).map(|_| BatchWorker::new()).collect();
    let (started, first_step) = (Instant::now(), optimizer.step);
    let (mut saved, mut sums, mut reported) = (Instant::now(), [0.0_f32; 5], optimizer.step);
    while optimizer.step < options.steps {
        let step = optimizer.step;
        workers.par_iter_mut().enumerate().for_each(|(worker_idx, worker)| {
            worker.clear();
            for part in 0..BATCH / WORKERS / TOGETHER {
                let samples: Vec<TrainingSample> = (0..TOGETHER)
                    .map(|i| {
                        let slot = (worker_idx * BATCH / WORKERS + part * TOGETHER + i) as u64;
                        let mut rng =
                            SplitMix64::stream(options.seed, 1 + step * BATCH as u64 + slot);
                        augment::draw(faces, mean, &mut rng)
                    })
                    .collect();
                worker.add(&net, &samples, weights, BATCH);
            }
        });
        let gradients: Vec<&[f32]> =
            workers.iter().map(|worker| worker.gradient.as_slice()).collect();
        optimizer.descend(&gradients, rate(options, step));
        net.parameters_mut().copy_from_slice(&optimizer.parameters);
        for worker in &workers {
            sums.iter_mut().zip(worker.sums).for_each(|(a, b)| *a += b);
        }
        let last = optimizer.step == options.steps;
        if optimizer.step - reported >= 100 || last {
            let rate_of = (optimizer.step - first_step) as f32 * BATCH as f32
                / started.elapsed().as_secs_f32();
            println!(
                "step {} of {}: landmarks {:.4}, presence {:.4}, spread {:.3}, {rate_of:.0} samples/s, {:.0?}",
                optimizer.step,
                options.steps,
                sums[0] / sums[1],
                sums[2] / sums[3],
                sums[4] / sums[1],
                started.elapsed(),
            );
            (sums, reported) = ([0.0; 5], optimizer.step);
        }
        if saved.elapsed().as_secs() >= 60 || last {
            optimizer.save(&options.state)?;
            saved = Instant::now();
        }
        if optimizer.step.is_multiple_of(1000) && !last {
            export(options, faces, mean, optimizer)?;
        }
    }
    export(options, faces, mean, optimizer)
}

/// Writes the averaged weights in the format of the tracker and reports their accuracy.
fn export(
    options: &TrackerArguments,
    faces: &faces::Faces,
    mean: &MeanShape,
    optimizer: &Optimizer,
) -> Result<()> {
    let net = LandmarkNet::new(optimizer.average.clone(), mean.points.clone())?;
    capture::write_file(&options.out, &net.to_bytes()?)?;
    println!("  held out: {}", evaluate::evaluate(&net, &faces.val).line());
    let some = &faces.train[..faces.train.len().min(600)];
    println!("  training: {}", evaluate::evaluate(&net, some).line());
    Ok(())
}

/// Returns the learning rate: linear warm-up over [`WARM_UP`] steps, then cosine decay to a hundredth.
fn rate(options: &TrackerArguments, step: u64) -> f32 {
    let warm = ((step + 1) as f32 / WARM_UP as f32).min(1.0);
    let done = step as f32 / options.steps as f32;
    let cosine = f32::midpoint(1.0, (std::f32::consts::PI * done).cos());
    options.rate * warm * (0.01 + 0.99 * cosine)
}

/// Creates random parameters with the last layer set to the principal components of its targets.
fn first_parameters(faces: &[Face], mean: &MeanShape, seed: u64) -> Vec<f32> {
    let mut parameters = optimizer::random_parameters(seed);
    let shapes: Vec<Vec<f32>> = (0..6000_u64)
        .into_par_iter()
        .filter_map(|i| {
            let mut rng = SplitMix64::stream(seed ^ 0x5EED, i);
            let face = &faces[rng.index(faces.len())];
            let mirrored = rng.chance(0.5);
            augment::place(face, mean, mirrored, &mut rng).map(|(_, target)| target.offsets)
        })
        .collect();
    let components = shapes::principal_components(&shapes);
    if let Some(layer) = Parameter::layout().iter().find(|p| p.name == "offsets.weight") {
        for (p, v) in parameters[layer.range()].iter_mut().zip(&components) {
            *p = *v;
        }
    }
    parameters
}

/// Returns the weight of each landmark in the loss, with sum one; eyes, irises and lips weigh more.
fn landmark_weights(mean: &MeanShape) -> Vec<f32> {
    let is_near = |p: [f32; 3], q: [f32; 3], reach: f32| (p[0] - q[0]).hypot(p[1] - q[1]) < reach;
    let eyes = (mean.points[263][0] - mean.points[33][0]).abs();
    let weights: Vec<f32> = (0..LANDMARKS)
        .map(|i| {
            let p = mean.points[i];
            let is_eye = [468, 473].iter().any(|&iris| is_near(p, mean.points[iris], 0.2 * eyes));
            let is_mouth = is_near(p, mean.points[13], 0.3 * eyes);
            match i {
                468.. => 3.0,
                _ if is_eye => 2.0,
                _ if is_mouth => 1.6,
                _ => 1.0,
            }
        })
        .collect();
    let sum: f32 = weights.iter().sum();
    weights.iter().map(|w| w / sum).collect()
}
