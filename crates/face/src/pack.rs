//! Parameters to few bytes and back: levels for pictures, f16 for small networks, then deflate.

use half::f16;
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use crate::file::FaceFileError;
use crate::sizes::Storage;
use crate::{Layout, Sizes};

/// Deflate effort; the file is written once and read often.
const EFFORT: u8 = 9;

/// Each part of the parameters as a u32 length and that many bytes of zlib stream.
pub(crate) fn pack(sizes: &Sizes, layout: &Layout, params: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (_, range, storage) in layout.parts(sizes) {
        let raw = match storage {
            Storage::Pictures { images, height, width, channels, levels } => {
                pack_pictures(&params[range], images, height, width, channels, levels)
            }
            Storage::Weights => {
                params[range].iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()
            }
        };
        let packed = compress_to_vec_zlib(&raw, EFFORT);
        bytes.extend((packed.len() as u32).to_le_bytes());
        bytes.extend(packed);
    }
    bytes
}

/// Parts and the bytes they took.
pub(crate) type PartLengths = Vec<(&'static str, usize)>;

/// The inverse of [`pack`], up to rounding. Also gives the bytes each part took.
pub(crate) fn unpack(
    sizes: &Sizes,
    layout: &Layout,
    mut bytes: &[u8],
) -> Result<(Vec<f32>, PartLengths), FaceFileError> {
    let mut params = vec![0.0; layout.len];
    let mut lengths = Vec::new();
    for (part, range, storage) in layout.parts(sizes) {
        let damaged = FaceFileError::Unpack { part };
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or(damaged)?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > rest.len() {
            return Err(damaged);
        }
        let (packed, rest) = rest.split_at(length);
        bytes = rest;
        let want = match storage {
            Storage::Pictures { channels, .. } => range.len() + channels * 8,
            Storage::Weights => range.len() * 2,
        };
        let raw = decompress_to_vec_zlib_with_limit(packed, want).map_err(|_| damaged)?;
        if raw.len() != want {
            return Err(damaged);
        }
        match storage {
            Storage::Pictures { images, height, width, channels, .. } => {
                unpack_pictures(&raw, images, height, width, channels, &mut params[range]);
            }
            Storage::Weights => {
                for (p, b) in params[range].iter_mut().zip(raw.as_chunks::<2>().0) {
                    *p = f16::from_le_bytes(*b).to_f32();
                }
            }
        }
        lengths.push((part, length + 4));
    }
    if bytes.is_empty() {
        Ok((params, lengths))
    } else {
        Err(FaceFileError::Unpack { part: "end of the field" })
    }
}

/// For each channel its lowest value and step (f32), then the residuals of the levels, channel by
/// channel, against their neighbors.
pub(crate) fn pack_pictures(
    values: &[f32],
    images: usize,
    height: usize,
    width: usize,
    channels: usize,
    n_levels: u16,
) -> Vec<u8> {
    let mut raw = Vec::with_capacity(values.len() + channels * 8);
    let ranges: Vec<(f32, f32)> = (0..channels)
        .map(|c| {
            let channel = || values[c..].iter().step_by(channels);
            let low = channel().copied().fold(f32::INFINITY, f32::min);
            let high = channel().copied().fold(f32::NEG_INFINITY, f32::max);
            (low, (high - low) / f32::from(n_levels - 1))
        })
        .collect();
    for (low, step) in &ranges {
        raw.extend(low.to_le_bytes());
        raw.extend(step.to_le_bytes());
    }
    let mut levels = vec![0_u8; height * width];
    for (c, &(low, step)) in ranges.iter().enumerate() {
        let scale = if step > 0.0 { 1.0 / step } else { 0.0 };
        for image in values.chunks_exact(height * width * channels).take(images) {
            for (level, value) in levels.iter_mut().zip(image[c..].iter().step_by(channels)) {
                *level = ((value - low) * scale + 0.5) as u8;
            }
            for at in 0..levels.len() {
                raw.push(levels[at].wrapping_sub(predict(&levels, at, width)));
            }
        }
    }
    raw
}

pub(crate) fn unpack_pictures(
    raw: &[u8],
    images: usize,
    height: usize,
    width: usize,
    channels: usize,
    values: &mut [f32],
) {
    let (ranges, mut residuals) = raw.split_at(channels * 8);
    let number = |b: &[u8; 4]| {
        let v = f32::from_le_bytes(*b);
        if v.is_finite() { v.clamp(-1e4, 1e4) } else { 0.0 }
    };
    let ranges = ranges.as_chunks::<4>().0;
    let mut levels = vec![0_u8; height * width];
    for c in 0..channels {
        let (low, step) = (number(&ranges[2 * c]), number(&ranges[2 * c + 1]));
        for image in values.chunks_exact_mut(height * width * channels).take(images) {
            let (these, rest) = residuals.split_at(height * width);
            residuals = rest;
            for at in 0..levels.len() {
                levels[at] = these[at].wrapping_add(predict(&levels, at, width));
            }
            for (value, level) in image[c..].iter_mut().step_by(channels).zip(&levels) {
                *value = low + step * f32::from(*level);
            }
        }
    }
}

/// What to expect of a level from those to its left and above: the median of left, above and
/// left + above - above left (LOCO-I).
#[inline]
fn predict(levels: &[u8], at: usize, width: usize) -> u8 {
    match (!at.is_multiple_of(width), at >= width) {
        (false, false) => 0,
        (true, false) => levels[at - 1],
        (false, true) => levels[at - width],
        (true, true) => {
            let (left, above, corner) =
                (levels[at - 1], levels[at - width], levels[at - width - 1]);
            if corner >= left.max(above) {
                left.min(above)
            } else if corner <= left.min(above) {
                left.max(above)
            } else {
                // Between the two, so the sum stays between them as well.
                left.wrapping_add(above).wrapping_sub(corner)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FaceModel;

    #[test]
    fn packing_costs_at_most_half_a_step() {
        let model = FaceModel::noise(Sizes::tiny(), 5);
        let packed = pack(model.sizes(), model.layout(), model.params());
        let (params, lengths) = unpack(model.sizes(), model.layout(), &packed).unwrap();
        assert_eq!(lengths.iter().map(|(_, n)| n).sum::<usize>(), packed.len());
        let range = model.layout().plane_xy.clone();
        for (got, want) in params[range.clone()].iter().zip(&model.params()[range]) {
            assert!((got - want).abs() < 0.03);
        }
    }

    #[test]
    fn pictures_survive_their_residuals() {
        let levels: Vec<f32> = (0..2 * 3 * 4 * 2).map(|i| ((i * 37) % 256) as f32).collect();
        let mut all = levels.clone();
        all[..4].copy_from_slice(&[0.0, 0.0, 255.0, 255.0]);
        let raw = pack_pictures(&all, 2, 3, 4, 2, 256);
        let mut got = vec![0.0; all.len()];
        unpack_pictures(&raw, 2, 3, 4, 2, &mut got);
        assert_eq!(got, all);
    }
}
