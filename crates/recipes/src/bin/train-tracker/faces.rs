//! The set of labelled faces.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use safetensors::SafeTensors;
use track::{Luma, luma_from_srgb};

/// Side of a stored crop in pixels.
pub(crate) const SIDE: usize = 192;
/// Share of a clip's frames, at its start, that are for training; the rest is for evaluation only.
pub(crate) const CLIP_SHARE: f32 = 0.85;

/// Labelled face.
pub(crate) struct Face {
    /// Luma, `[SIDE][SIDE]`.
    pub(crate) luma: Vec<u8>,
    /// Landmarks in pixels of the crop.
    pub(crate) points: Vec<[f32; 3]>,
    /// Rectangle of the crop that lies inside its source picture, in pixels: x0, y0, x1, y1.
    pub(crate) valid: [f32; 4],
    /// Kind of source.
    pub(crate) kind: String,
    /// Whether the source picture is grayscale.
    pub(crate) gray: bool,
}

impl Luma for Face {
    fn size(&self) -> (usize, usize) {
        (SIDE, SIDE)
    }

    fn luma(&self, x: usize, y: usize) -> f32 {
        f32::from(self.luma[y * SIDE + x])
    }
}

/// Faces for training and evaluation.
pub(crate) struct Faces {
    pub(crate) train: Vec<Face>,
    /// Training faces of each clip.
    pub(crate) clips: Vec<Vec<Face>>,
    /// Training pictures of the synthetic actor.
    pub(crate) actors: Vec<Face>,
    /// Held-out faces for evaluation.
    pub(crate) val: Vec<Face>,
}

/// Row of `index.csv`.
struct IndexRow {
    split: String,
    kind: String,
    clip: String,
    gray: bool,
    frame: usize,
    offset: usize,
    len: usize,
}

/// Reads `crops.tar`, `index.csv` and `landmarks.safetensors` from `folder`.
///
/// # Errors
/// If a file cannot be read or the three do not fit together.
pub(crate) fn load(folder: &Path) -> Result<Faces> {
    let read = |name: &str| {
        fs::read(folder.join(name))
            .with_context(|| format!("cannot read {name} in {}", folder.display()))
    };
    let rows = parse_index(&String::from_utf8(read("index.csv")?)?)?;
    let (tar, labels) = (read("crops.tar")?, read("landmarks.safetensors")?);
    let labels = SafeTensors::deserialize(&labels)?;
    let points = labels.tensor("landmarks_q7")?;
    let valid = labels.tensor("valid_rect")?;
    ensure!(points.shape() == [rows.len(), 478, 3], "landmarks are {:?}", points.shape());
    ensure!(valid.shape() == [rows.len(), 4], "valid_rect is {:?}", valid.shape());
    let (points, valid) = (points.data(), valid.data());
    let mut last = HashMap::new();
    for row in rows.iter().filter(|r| r.kind == "clip_frame") {
        let end = last.entry(row.clip.as_str()).or_insert(0);
        *end = row.frame.max(*end);
    }
    let kept = |row: &&(usize, &IndexRow)| {
        row.1.kind != "clip_frame"
            || (row.1.frame as f32) < CLIP_SHARE * (last[row.1.clip.as_str()] + 1) as f32
    };
    let decode = |&(i, row): &(usize, &IndexRow)| -> Result<(bool, Face)> {
        let jpeg = tar.get(row.offset..row.offset + row.len).context("crops.tar is cut short")?;
        let picture = image::load_from_memory_with_format(jpeg, image::ImageFormat::Jpeg)?;
        let picture = picture.to_rgb8();
        ensure!(
            picture.dimensions() == (SIDE as u32, SIDE as u32),
            "crop {i} is not {SIDE} by {SIDE} pixels"
        );
        let luma = picture.pixels().map(|p| luma_from_srgb(p[0], p[1], p[2]) as u8).collect();
        let q7: Vec<f32> = points[i * 478 * 6..(i + 1) * 478 * 6]
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&b| f32::from(i16::from_le_bytes(b)) / 128.0)
            .collect();
        let rect: Vec<f32> = valid[i * 16..(i + 1) * 16]
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&b| f32::from_le_bytes(b))
            .collect();
        let face = Face {
            luma,
            points: q7.as_chunks::<3>().0.to_vec(),
            valid: [rect[0], rect[1], rect[2], rect[3]],
            kind: row.kind.clone(),
            gray: row.gray,
        };
        Ok((row.split == "val", face))
    };
    let rows: Vec<(usize, &IndexRow)> = rows.iter().enumerate().collect();
    let rows: Vec<(usize, &IndexRow)> = rows.iter().filter(kept).copied().collect();
    let faces = rows.par_iter().map(decode).collect::<Result<Vec<_>>>()?;
    let (val, train): (Vec<_>, Vec<_>) = faces.into_iter().partition(|(val, _)| *val);
    let strip = |faces: Vec<(bool, Face)>| faces.into_iter().map(|(_, face)| face).collect();
    Ok(Faces { train: strip(train), clips: Vec::new(), actors: Vec::new(), val: strip(val) })
}

/// Parses the table by counting fields from both ends, because names in the middle may contain commas.
fn parse_index(text: &str) -> Result<Vec<IndexRow>> {
    text.lines()
        .skip(1)
        .map(|line| {
            let head: Vec<&str> = line.splitn(4, ',').collect();
            let tail: Vec<&str> = line.rsplitn(15, ',').collect();
            ensure!(head.len() == 4 && tail.len() == 15, "short line in index.csv: {line}");
            Ok(IndexRow {
                split: head[1].to_owned(),
                kind: head[2].to_owned(),
                clip: tail[12].to_owned(),
                gray: tail[2] == "1",
                frame: tail[11].parse().unwrap_or(0),
                offset: tail[1].parse().context("tar_offset")?,
                len: tail[0].parse().context("jpeg_bytes")?,
            })
        })
        .collect()
}
