//! Labelled shapes, grouped by person.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use recipes::read_clip_labels;
use safetensors::SafeTensors;

use crate::shape::{DIMS, POINTS, Shape};

/// Shapes of one person under one set of conditions.
pub(crate) struct Group {
    pub(crate) shapes: Vec<Shape>,
    /// Whether they are frames of a video, many of the same person in the same light.
    pub(crate) is_video: bool,
}

/// Reads the labels of every clip in a folder; each clip is a group.
pub(crate) fn read_clips(dir: &Path) -> Result<Vec<Group>> {
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .with_context(|| format!("list the clips in {}", dir.display()))?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    paths.retain(|p| p.to_string_lossy().ends_with(".landmarks.npz"));
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let frames = read_clip_labels(path)?.into_iter();
            let labelled = frames.filter(|f| f.as_flattened().iter().all(|v| v.is_finite()));
            let shapes = labelled.map(|frame| frame.iter().map(|p| p.map(f64::from)).collect());
            Ok(Group { shapes: shapes.collect(), is_video: true })
        })
        .collect()
}

/// Reads the labelled pictures of every person with at least three.
pub(crate) fn read_faces(dir: &Path) -> Result<Vec<Group>> {
    let bytes = std::fs::read(dir.join("landmarks.safetensors"))
        .with_context(|| format!("read the labels in {}", dir.display()))?;
    let file = SafeTensors::deserialize(&bytes)?;
    let labels = file.tensor("landmarks_q7")?;
    ensure!(labels.shape().get(1..) == Some(&[POINTS, 3]), "landmarks_q7 is not [faces, 478, 3]");
    let values: Vec<f64> = labels
        .data()
        .chunks_exact(2)
        .map(|b| f64::from(i16::from_le_bytes([b[0], b[1]])) / 128.0)
        .collect();
    let index = std::fs::read_to_string(dir.join("index.csv"))?;
    let mut by_person: BTreeMap<String, Group> = BTreeMap::new();
    for (row, (line, values)) in index.lines().skip(1).zip(values.chunks_exact(DIMS)).enumerate() {
        let columns: Vec<&str> = line.split(',').collect();
        ensure!(columns.len() >= 7, "row {row} of index.csv is too short");
        let (kind, source, identity) = (columns[2], columns[3], columns[5]);
        if kind == "clip_frame" || identity.is_empty() {
            continue; // Clips are read in full elsewhere; single pictures show no variation.
        }
        let key = format!("{kind} {source} {identity}");
        let is_video = kind == "video_frame";
        by_person
            .entry(key)
            .or_insert_with(|| Group { shapes: Vec::new(), is_video })
            .shapes
            .push(shape_of(values));
    }
    Ok(by_person.into_values().filter(|g| g.shapes.len() >= 3).collect())
}

/// Converts flat coordinates to a shape.
fn shape_of(values: &[f64]) -> Shape {
    values.as_chunks::<3>().0.to_vec()
}
