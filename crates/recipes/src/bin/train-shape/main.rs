//! Fits the linear face shape (`assets/face_shape.safetensors`) to labelled faces and clips.
//!
//! ```text
//! cargo run --release -p recipes --bin train-shape -- FACES_DIR CLIPS_DIR OUT.safetensors
//! ```
//!
//! Labels are 478 points per face in pixels, with weak perspective depth. docs/TRACKER.md, "Face shape",
//! describes the method. The result is the same in every run.

mod labels;
mod shape;
mod statistics;
mod triangulation;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use clap::Parser;
use rayon::prelude::*;

use crate::labels::{read_clips, read_faces};
use crate::shape::{
    POINTS, RIGID, Shape, align_to_common_mean, aligned_to, in_head_space, mirror_of, symmetric,
};
use crate::statistics::{components, covariances, metric, point_weights};
use crate::triangulation::triangulate;

/// Number of expression and of identity components.
const N_EXPRESSION: usize = 79;
const N_IDENTITY: usize = 48;

/// Fit the linear face shape to labelled faces and clips
#[derive(clap::Parser)]
struct ShapeArguments {
    /// Folder of labelled faces: `landmarks.safetensors`, `index.csv`
    faces: PathBuf,
    /// Folder of labelled clips: `*.landmarks.npz`
    clips: PathBuf,
    /// Face shape to write
    out: PathBuf,
}

fn main() -> Result<()> {
    let ShapeArguments { faces, clips, out } = ShapeArguments::parse();
    let mut groups = read_clips(&clips)?;
    groups.extend(read_faces(&faces)?);
    let n: usize = groups.iter().map(|g| g.shapes.len()).sum();
    println!("{n} labelled faces in {} groups", groups.len());

    let mut shapes: Vec<_> = groups.iter_mut().map(|g| g.shapes.as_mut_slice()).collect();
    let mean = align_to_common_mean(&mut shapes);
    let mirror = mirror_of(&mean)?;
    let mean = in_head_space(&symmetric(&mean, &mirror));
    for group in &mut groups {
        group.shapes.par_iter_mut().for_each(|s| *s = aligned_to(s, &mean));
    }

    let weights = metric();
    let (within, between) = covariances(&groups, &mean, &mirror, &weights);
    let expression = components(&within, N_EXPRESSION, &weights, "expression");
    let identity = components(&between, N_IDENTITY, &weights, "identity");
    let triangles = triangulate(&mean)?;
    println!("{} triangles", triangles.len());
    write(&out, &mean, &identity, &expression, &triangles)
}

/// Writes the face shape as a safetensors file.
fn write(
    out: &Path,
    mean: &Shape,
    identity: &[f64],
    expression: &[f64],
    triangles: &[[u32; 3]],
) -> Result<()> {
    let device = Device::Cpu;
    let tensor = |values: Vec<f64>, shape: &[usize], dtype| {
        Tensor::from_vec(values, shape, &device)?.to_dtype(DType::F32)?.to_dtype(dtype)
    };
    let n = triangles.len();
    let rigid: Vec<u32> = RIGID.iter().map(|&i| i as u32).collect();
    let tensors = HashMap::from([
        ("mean", tensor(mean.iter().flatten().copied().collect(), &[POINTS, 3], DType::F32)?),
        ("identity", tensor(identity.to_vec(), &[N_IDENTITY, POINTS, 3], DType::F16)?),
        ("expression", tensor(expression.to_vec(), &[N_EXPRESSION, POINTS, 3], DType::F16)?),
        (
            "triangles",
            Tensor::from_vec(triangles.iter().flatten().copied().collect(), (n, 3), &device)?,
        ),
        ("weight", tensor(point_weights().to_vec(), &[POINTS], DType::F32)?),
        ("rigid", Tensor::from_vec(rigid, RIGID.len(), &device)?),
    ]);
    Ok(capture::write_file(out, &safetensors::serialize(&tensors, None)?)?)
}
