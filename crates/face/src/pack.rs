//! Layers: parameters to wavelet bands, levels and bits, and back, part by part.

use rayon::prelude::*;

use crate::bin_coder::{BinReader, BinWriter};
use crate::file_error::FaceFileError;
use crate::layout::Layout;
use crate::levels::{MAX_LEVEL, MAX_SHIFT, code_layer};
use crate::model::FaceModel;
use crate::model_error::ModelError;
use crate::parts::{FieldPart, parts};
use crate::sizes::Sizes;
use crate::steps::steps;
use crate::wavelet::{forward, inverse};

/// Number of layers that are written.
const LAYERS: usize = 3;
/// Largest number of layers that are read.
pub(crate) const MAX_LAYERS: usize = 8;
/// Limit of the first layer, bytes. With sizes and codec profile it then ends before byte 60,000,
/// which a link of 32 kbit/s transfers in 15 s.
const FIRST_LAYER: usize = 54_000;
/// Smallest shift of the first layer.
const MIN_SHIFT: u8 = 2;
/// Largest shift of the first layer, even if the layer then exceeds its limit.
const MAX_FIRST_SHIFT: u8 = 8;
/// Added to a magnitude in steps before it is rounded down: less than one half, because small
/// levels are likelier and cost fewer bits.
const ROUNDING: f32 = 0.42;
/// Position of the reconstructed value in the interval of a magnitude rounded down, 0..1: below the
/// center, because small values are likelier.
const WITHIN: f32 = 3.0 / 8.0;
/// Bytes before the stream of a part: shift and length.
const PART_HEAD: usize = 5;
/// Most bins of all layers together: four times as many as those of the built-in face. A short stream
/// can hold any number of them.
const MAX_BINS: u64 = 24_000_000;
/// Largest magnitude of a parameter.
const MAX_VALUE: f32 = 6e4;

/// Bytes of each part, by name.
pub(crate) type PartLengths = Vec<(&'static str, usize)>;

/// Returns the layers of a field, coarse to fine.
///
/// The first layer begins with the step of every channel of every part (f32). Each layer then holds
/// for each part its shift (u8), a length (u32) and that many bytes of the range coder. Weights are
/// complete in the first layer.
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

/// One part of one layer, as written.
struct Written {
    shift: u8,
    stream: Vec<u8>,
    /// Levels that a reader knows after this layer.
    known: Vec<i32>,
}

impl Written {
    /// Codes the levels from those known after `before` to `levels >> shift`.
    fn new(part: &FieldPart, before: Option<Self>, shift: u8, levels: &[i32]) -> Self {
        let (before, mut known) = match before {
            Some(before) => (Some(before.shift), before.known),
            None => (None, vec![0; levels.len()]),
        };
        let mut writer = BinWriter::new();
        code_layer(&mut writer, part.grids, before, shift, &mut known, levels)
            .expect("no bin has probability zero");
        Self { shift, stream: writer.finish(), known }
    }

    fn len(&self) -> usize {
        PART_HEAD + self.stream.len()
    }
}

/// Returns the finest first layer of at most `limit` bytes: the same shift for all parts, then a
/// shift smaller by one for those, in file order, that still fit.
fn first_layer(parts: &[FieldPart], levels: &[Vec<i32>], limit: usize) -> Vec<Written> {
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
    let mut shift = MIN_SHIFT;
    let mut written = write(shift);
    while length(&written) > limit && shift < MAX_FIRST_SHIFT {
        shift += 1;
        written = write(shift);
    }
    let mut room = limit.saturating_sub(length(&written));
    if shift > MIN_SHIFT {
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

/// Decodes the parameters from the first layers of a field, or from all of them. Also returns the
/// bytes of each part, layer by layer.
///
/// # Errors
/// If a layer is truncated, corrupted, out of order, or has too many bins.
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
    let mut n_left = MAX_BINS;
    for (idx, layer) in layers.iter().enumerate() {
        let mut bytes = *layer;
        let mut taken = PartLengths::new();
        if idx == 0 {
            (steps, bytes) = read_steps(&parts, bytes).ok_or(damaged)?;
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
        let n_bins: Vec<u64> = parts
            .par_iter()
            .zip(&mut known)
            .zip(&streams)
            .zip(&mut shifts)
            .map(|(((part, known), (shift, stream)), known_shift)| {
                let before = known_shift.replace(*shift);
                let mut reader = BinReader::new(stream, n_left);
                code_layer(&mut reader, part.grids, before, *shift, known, &[]).map_err(|_| {
                    match reader.n_left() {
                        0 => too_many_bins(),
                        _ => FaceFileError::Unpack { part: part.name },
                    }
                })?;
                Ok(n_left - reader.n_left())
            })
            .collect::<Result<_, FaceFileError>>()?;
        n_left = n_left.checked_sub(n_bins.iter().sum()).ok_or_else(too_many_bins)?;
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

fn too_many_bins() -> FaceFileError {
    ModelError::Cost { what: "coded bins", got: MAX_BINS + 1, limit: MAX_BINS }.into()
}

/// Reads the steps at the start of the first layer; also returns the bytes after them. `None` if
/// they are truncated or out of range.
fn read_steps<'a>(parts: &[FieldPart], mut bytes: &'a [u8]) -> Option<(Vec<Vec<f32>>, &'a [u8])> {
    let mut all = Vec::new();
    for part in parts {
        let (steps, rest) = bytes.split_at_checked(part.grids.channels * 4)?;
        bytes = rest;
        let steps: Vec<f32> =
            steps.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if !steps.iter().all(|step| (0.0..=1e4).contains(step)) {
            return None;
        }
        all.push(steps);
    }
    Some((all, bytes))
}

/// Returns the levels, `[images][channels][depth][height][width]`, of values
/// `[images][depth][height][width][channels]`.
fn to_levels(part: &FieldPart, steps: &[f32], values: &[f32]) -> Vec<i32> {
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

/// Inverts [`to_levels`] up to rounding, for levels in units of `2^shift` steps.
fn from_levels(part: &FieldPart, steps: &[f32], shift: u8, levels: &[i32]) -> Vec<f32> {
    let (n, channels) = (part.grid_len(), part.grids.channels);
    let mut values = vec![0.0; levels.len()];
    let within = WITHIN * ((1_u32 << shift) - 1) as f32;
    for (idx, grid) in levels.chunks_exact(n).enumerate() {
        let (image, channel) = (idx / channels, idx % channels);
        let value = |level: &i32| {
            let size = (i64::from(level.abs()) << shift) as f32 + within;
            // The sign of zero is zero.
            size * steps[channel] * level.signum() as f32
        };
        let mut grid: Vec<f32> = grid.iter().map(value).collect();
        inverse(&mut grid, part.grids.dims, part.grids.n_levels);
        let image = &mut values[image * n * channels..];
        for (v, out) in grid.iter().zip(image[channel..].iter_mut().step_by(channels)) {
            // Protects renderers from values that no trained field has.
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
    fn every_layer_improves_the_image() {
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
    fn a_layer_of_more_bins_than_any_face_has_is_refused() {
        // An empty stream decodes to the largest level everywhere, in 42 bins each.
        let sizes = Sizes { n_expression: 32, expression_xy: 70, ..Sizes::tiny() };
        let layout = Layout::new(&sizes);
        let parts = parts(&layout, &sizes);
        let n_steps: usize = parts.iter().map(|part| part.grids.channels).sum();
        let empty = vec![0; n_steps * 4 + parts.len() * PART_HEAD];
        let error = unpack(&sizes, &layout, &[&empty]).unwrap_err();
        assert!(error.to_string().contains("coded bins"), "{error}");
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
        // The second layer after the third: its levels are known already, and finer.
        assert!(of(&[0, 1, 2, 1]).is_err());
        assert!(of(&[1]).is_err());
        assert!(of(&[]).is_err());
    }
}
