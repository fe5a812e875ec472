//! Parameters to layers and back: bands, levels, and the range coder, part by part.

use rayon::prelude::*;

use crate::bit_coder::{BitReader, BitWriter};
use crate::file_error::FaceFileError;
use crate::levels::{MAX_LEVEL, MAX_SHIFT, code_layer};
use crate::parts::{Part, parts};
use crate::steps::steps;
use crate::wavelet::{forward, inverse};
use crate::{FaceModel, Layout, Sizes};

/// Layers that are written.
const LAYERS: usize = 3;
/// Most layers that are read.
pub(crate) const MAX_LAYERS: usize = 8;
/// What the first layer may take, in bytes, so that with sizes and codec profile it stays under
/// 60 kB: what a line of 32 kbit/s brings in a quarter of a minute.
const FIRST_LAYER: usize = 54_000;
/// The first layer leaves out at least so many bits of every level.
const LEAST_SHIFT: u8 = 2;
/// The first layer leaves out at most so many bits, even where it is then over its limit.
const MOST_SHIFT: u8 = 8;
/// Added to a magnitude in steps before it is rounded down: a little less than a half, because
/// small numbers are likelier than large ones and cost less.
const ROUNDING: f32 = 0.42;
/// Where in the range of a rounded-down magnitude its value is taken to be, in eighths.
const WITHIN: f32 = 3.0 / 8.0;
/// Shift and length of a part of a layer.
const PART_HEAD: usize = 5;
/// No parameter is larger.
const MAX_VALUE: f32 = 6e4;

/// Parts and the bytes they took.
pub(crate) type PartLengths = Vec<(&'static str, usize)>;

/// A field in layers, coarse to fine.
///
/// The first layer: the step of every channel of every part (f32), then as all others for each
/// part its shift (u8), a u32 length and that many bytes of the range coder. Weights are whole in
/// the first layer.
pub(crate) fn pack(model: &FaceModel) -> Vec<Vec<u8>> {
    let parts = parts(model.layout(), model.sizes());
    let steps = steps(model, &parts);
    let levels: Vec<Vec<i32>> = parts
        .par_iter()
        .zip(&steps)
        .map(|(part, steps)| to_levels(part, steps, &model.params()[part.range.clone()]))
        .collect();
    let mut head = Vec::new();
    for step in steps.iter().flatten() {
        head.extend(step.to_le_bytes());
    }
    let mut written = first_layer(&parts, &levels, FIRST_LAYER - head.len());
    let mut layers = vec![[head, assemble(&written)].concat()];
    let first: Vec<u8> = written.iter().map(|w| w.shift).collect();
    for left in (0..LAYERS as u8 - 1).rev() {
        written = parts
            .par_iter()
            .zip(written)
            .zip(&levels)
            .zip(&first)
            .map(|(((part, before), levels), first)| {
                Written::new(part, Some(before), first * left / (LAYERS as u8 - 1), levels)
            })
            .collect();
        layers.push(assemble(&written));
    }
    layers
}

/// One part of one layer.
struct Written {
    shift: u8,
    stream: Vec<u8>,
    /// What its reader knows by now.
    known: Vec<i32>,
}

impl Written {
    /// Brings what is known from `before` to `levels >> shift`.
    fn new(part: &Part, before: Option<Self>, shift: u8, levels: &[i32]) -> Self {
        let (before, mut known) = match before {
            Some(before) => (Some(before.shift), before.known),
            None => (None, vec![0; levels.len()]),
        };
        let mut writer = BitWriter::new();
        code_layer(&mut writer, part.grids, before, shift, &mut known, levels)
            .expect("every answer has a chance");
        Self { shift, stream: writer.finish(), known }
    }

    fn len(&self) -> usize {
        PART_HEAD + self.stream.len()
    }
}

/// The finest first layer of at most `most` bytes: one shift for all parts, and then one less for
/// those, in file order, for which there is room.
fn first_layer(parts: &[Part], levels: &[Vec<i32>], most: usize) -> Vec<Written> {
    let write = |shift: u8| -> Vec<Written> {
        parts
            .par_iter()
            .zip(levels)
            .map(|(part, levels)| {
                Written::new(part, None, if part.is_weights() { 0 } else { shift }, levels)
            })
            .collect()
    };
    let length = |written: &[Written]| written.iter().map(Written::len).sum::<usize>();
    let mut shift = LEAST_SHIFT;
    let mut written = write(shift);
    while length(&written) > most && shift < MOST_SHIFT {
        shift += 1;
        written = write(shift);
    }
    let mut room = most.saturating_sub(length(&written));
    if shift > LEAST_SHIFT {
        for ((part, levels), written) in parts.iter().zip(levels).zip(&mut written) {
            if part.is_weights() {
                continue;
            }
            let finer = Written::new(part, None, shift - 1, levels);
            let more = finer.len().saturating_sub(written.len());
            if more <= room {
                room -= more;
                *written = finer;
            }
        }
    }
    written
}

fn assemble(written: &[Written]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Written { shift, stream, .. } in written {
        bytes.push(*shift);
        bytes.extend((stream.len() as u32).to_le_bytes());
        bytes.extend(stream);
    }
    bytes
}

/// The field of the first layers; all of them give its final values. Also gives the bytes each
/// part took, layer by layer.
pub(crate) fn unpack(
    sizes: &Sizes,
    layout: &Layout,
    layers: &[&[u8]],
) -> Result<(Vec<f32>, Vec<PartLengths>), FaceFileError> {
    let parts = parts(layout, sizes);
    let damaged = FaceFileError::Unpack { part: "first layer" };
    if layers.is_empty() {
        return Err(damaged);
    }
    let mut lengths = Vec::new();
    let mut known: Vec<Vec<i32>> = parts.iter().map(|p| vec![0; p.range.len()]).collect();
    let mut steps: Vec<Vec<f32>> = Vec::new();
    let mut shifts: Vec<Option<u8>> = vec![None; parts.len()];
    for (idx, layer) in layers.iter().enumerate() {
        let mut bytes = *layer;
        let mut taken = PartLengths::new();
        if idx == 0 {
            for part in &parts {
                let (these, rest) =
                    bytes.split_at_checked(part.grids.channels * 4).ok_or(damaged)?;
                bytes = rest;
                let these: Vec<f32> =
                    these.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
                if !these.iter().all(|step| (0.0..=1e4).contains(step)) {
                    return Err(damaged);
                }
                steps.push(these);
            }
            taken.push(("steps", layer.len() - bytes.len()));
        }
        let mut streams = Vec::new();
        for (part, before) in parts.iter().zip(&shifts) {
            let damaged = FaceFileError::Unpack { part: part.name };
            let (&[shift, a, b, c, d], rest) =
                bytes.split_first_chunk::<PART_HEAD>().ok_or(damaged)?;
            if shift > before.unwrap_or(MAX_SHIFT) {
                return Err(FaceFileError::Unpack { part: "order of layers" });
            }
            let length = u32::from_le_bytes([a, b, c, d]) as usize;
            let (stream, rest) = rest.split_at_checked(length).ok_or(damaged)?;
            bytes = rest;
            streams.push((shift, stream));
            taken.push((part.name, stream.len() + PART_HEAD));
        }
        if !bytes.is_empty() {
            return Err(FaceFileError::Unpack { part: "end of a layer" });
        }
        parts.par_iter().zip(&mut known).zip(&streams).zip(&mut shifts).try_for_each(
            |(((part, known), (shift, stream)), known_shift)| {
                let before = known_shift.replace(*shift);
                code_layer(&mut BitReader::new(stream), part.grids, before, *shift, known, &[])
                    .map_err(|_| FaceFileError::Unpack { part: part.name })
            },
        )?;
        lengths.push(taken);
    }
    let values: Vec<Vec<f32>> = parts
        .par_iter()
        .zip(&steps)
        .zip(&known)
        .zip(&shifts)
        .map(|(((part, steps), known), shift)| from_levels(part, steps, shift.unwrap_or(0), known))
        .collect();
    Ok((values.concat(), lengths))
}

/// `[images][depth][height][width][channels]` to levels `[images][channels][..]`.
fn to_levels(part: &Part, steps: &[f32], values: &[f32]) -> Vec<i32> {
    let (n, channels) = (part.grid_len(), part.grids.channels);
    let mut levels = Vec::with_capacity(values.len());
    for image in values.chunks_exact(n * channels) {
        for (channel, step) in steps.iter().enumerate() {
            let mut grid: Vec<f32> = image[channel..].iter().step_by(channels).copied().collect();
            forward(&mut grid, part.grids.dims, part.grids.n_levels);
            levels.extend(grid.iter().map(|v| {
                let size = ((v.abs() / step + ROUNDING) as i32).min(MAX_LEVEL);
                if *v < 0.0 { -size } else { size }
            }));
        }
    }
    levels
}

/// The inverse of [`to_levels`], up to rounding, from levels in units of `2^shift` steps.
fn from_levels(part: &Part, steps: &[f32], shift: u8, levels: &[i32]) -> Vec<f32> {
    let (n, channels) = (part.grid_len(), part.grids.channels);
    let mut values = vec![0.0; levels.len()];
    let within = WITHIN * ((1_u32 << shift) - 1) as f32;
    for (idx, grid) in levels.chunks_exact(n).enumerate() {
        let (image, channel) = (idx / channels, idx % channels);
        let value = |level: &i32| {
            let size = (i64::from(level.abs()) << shift) as f32 + within;
            // Zero stays zero.
            size * steps[channel] * level.signum() as f32
        };
        let mut grid: Vec<f32> = grid.iter().map(value).collect();
        inverse(&mut grid, part.grids.dims, part.grids.n_levels);
        let image = &mut values[image * n * channels..];
        for (v, out) in grid.iter().zip(image[channel..].iter_mut().step_by(channels)) {
            // What no field holds is kept from the renderer.
            *out = v.clamp(-MAX_VALUE, MAX_VALUE);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DEFAULT_SAMPLES, render_cpu};
    use types::{Code, Feature, HeadPose, MediaTime};

    fn model() -> FaceModel {
        FaceModel::noise(Sizes::tiny(), 5)
    }

    fn slices(layers: &[Vec<u8>]) -> Vec<&[u8]> {
        layers.iter().map(Vec::as_slice).collect()
    }

    #[test]
    fn every_layer_brings_the_picture_closer() {
        let model = model();
        let layers = pack(&model);
        assert_eq!(layers.len(), LAYERS);
        let pose = HeadPose::new(glam::Vec3::ZERO, glam::Vec3::new(0.0, 0.0, 1.0)).unwrap();
        let feature = Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL };
        let draw = |model: &FaceModel| {
            render_cpu(model, &model.frame_inputs(&feature), 32, DEFAULT_SAMPLES)
        };
        let whole = draw(&model);
        let mut last = 20.0;
        for n in 1..=LAYERS {
            let (params, lengths) =
                unpack(model.sizes(), model.layout(), &slices(&layers)[..n]).unwrap();
            for (lengths, layer) in lengths.iter().zip(&layers) {
                assert_eq!(lengths.iter().map(|(_, n)| n).sum::<usize>(), layer.len());
            }
            let coarse = FaceModel::new(model.sizes().clone(), params).unwrap();
            let drawn = draw(&coarse);
            let squares = drawn.as_flattened().iter().zip(whole.as_flattened());
            let sum: f32 = squares.map(|(a, b)| (a - b) * (a - b)).sum();
            let quality = -10.0 * (sum / (3.0 * whole.len() as f32)).log10();
            assert!(quality > last + 2.0, "{n} layers: {quality} dB after {last}");
            last = quality;
        }
        assert!(last > 40.0, "{last} dB");
    }

    #[test]
    fn layers_out_of_order_are_refused() {
        let model = model();
        let layers = pack(&model);
        let of = |order: &[usize]| {
            let layers: Vec<&[u8]> = order.iter().map(|&i| &layers[i][..]).collect();
            unpack(model.sizes(), model.layout(), &layers).map(|_| ())
        };
        assert!(of(&[0, 1, 2]).is_ok());
        // The second again, after the last: its levels are known already, finer.
        assert!(of(&[0, 1, 2, 1]).is_err());
        assert!(of(&[1]).is_err());
        assert!(of(&[]).is_err());
    }
}
