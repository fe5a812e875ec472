//! Coding of the levels of one part, layer by layer.
//!
//! Bit planes of wavelet coefficients in contexts of their neighbors and of their parent at the
//! next coarser scale (Shapiro 1993, "Embedded image coding using zerotrees of wavelet
//! coefficients"; Taubman 2000, "High performance scalable image compression with EBCOT").

use crate::bin_coder::{BinCoder, Context, InvalidCode};
use crate::wavelet::{Dims, WaveletBand, bands};

/// Largest magnitude of a level.
pub(crate) const MAX_LEVEL: i32 = (1 << 21) - 1;
/// Bits of the largest magnitude.
const MAX_BITS: usize = 21;
/// Number of classes of a sum of neighboring magnitudes.
const CLASSES: usize = 24;
/// Number of band levels with separate contexts; coarser levels share the last.
const SCALES: usize = 4;
/// Kinds of bins of one magnitude: "longer than `n` bits", and the second bit by length.
const BIN_KINDS: usize = MAX_BITS + 10;
/// Largest shift of a layer, bits.
pub(crate) const MAX_SHIFT: u8 = 12;

/// Grids of one part: `[images][channels]`, each `[depth][height][width]`, transformed to bands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grids {
    pub(crate) images: usize,
    pub(crate) channels: usize,
    pub(crate) dims: Dims,
    /// Levels of the wavelet transform; 0 for values that are not transformed.
    pub(crate) n_levels: usize,
}

/// Codes one layer of a part, which refines `known` to `target >> shift`.
///
/// On entry `known` holds the levels in units of `2^before` steps, or zeros if `before` is `None`;
/// on return, in units of `2^shift` steps, magnitudes rounded down. A reader passes an empty
/// `target`. All grids of a band are coded before the next finer band.
///
/// # Errors
/// If the stream does not decode.
pub(crate) fn code_layer(
    coder: &mut impl BinCoder,
    grids: Grids,
    before: Option<u8>,
    shift: u8,
    known: &mut [i32],
    target: &[i32],
) -> Result<(), InvalidCode> {
    let n_bits = u32::from(before.unwrap_or(MAX_BITS as u8) - shift);
    if n_bits == 0 {
        return Ok(());
    }
    if before.is_some() {
        for level in known.iter_mut() {
            *level <<= n_bits;
        }
    }
    let mut coder = LevelCoder { coder, contexts: Contexts::new(), n_bits };
    let [_, height, width] = grids.dims;
    let n = grids.dims.iter().product::<usize>();
    for band in bands(grids.dims, grids.n_levels) {
        for grid in 0..grids.images * grids.channels {
            let start = grid * n;
            // Starts of the same grid one channel before and one image before.
            let channel = (grid % grids.channels > 0).then(|| start - n);
            let image = (grid >= grids.channels).then(|| start - n * grids.channels);
            for z in band.low[0]..band.high[0] {
                for y in band.low[1]..band.high[1] {
                    for x in band.low[2]..band.high[2] {
                        let offset = (z * height + y) * width + x;
                        let at = start + offset;
                        let size = |at: usize| known[at].unsigned_abs();
                        let near = around(&known[start..start + n], grids.dims, &band, [z, y, x]);
                        let parent = parent_of(&band, [z, y, x])
                            .map_or(0, |[z, y, x]| size(start + (z * height + y) * width + x));
                        let beside = 2 * channel.map_or(0, |grid| size(grid + offset))
                            + image.map_or(0, |grid| size(grid + offset));
                        let neighborhood = Neighborhood {
                            band: band.level.min(SCALES - 1) * 8 + band.direction,
                            classes: [
                                class(near),
                                class(near / 2 + 2 * parent),
                                class(near / 3 + beside),
                            ],
                        };
                        let want = target.get(at).map_or(0, |level| {
                            let size = (level.unsigned_abs() >> shift) as i32;
                            if *level < 0 { -size } else { size }
                        });
                        known[at] = coder.level(&neighborhood, known[at], want)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Returns the position of the parent of a coefficient, if its band has one.
fn parent_of(band: &WaveletBand, position: [usize; 3]) -> Option<[usize; 3]> {
    let (low, high) = band.parent?;
    Some(std::array::from_fn(|axis| {
        (low[axis] + (position[axis] - band.low[axis]) / 2).min(high[axis] - 1)
    }))
}

/// Returns the weighted sum of magnitudes around a position, inside its band: weight 2 for
/// neighbors along an axis, 1 for diagonal neighbors in the same plane. Levels still to be coded
/// count as known from the layers before.
fn around(known: &[i32], dims: Dims, band: &WaveletBand, [z, y, x]: [usize; 3]) -> u32 {
    let [_, height, width] = dims;
    let size = |z: usize, y: usize, x: usize| known[(z * height + y) * width + x].unsigned_abs();
    let (west, east) = (x > band.low[2], x + 1 < band.high[2]);
    let sides = |y: usize| {
        (if west { size(z, y, x - 1) } else { 0 }) + (if east { size(z, y, x + 1) } else { 0 })
    };
    let mut sum = 2 * sides(y);
    if y > band.low[1] {
        sum += 2 * size(z, y - 1, x) + sides(y - 1);
    }
    if y + 1 < band.high[1] {
        sum += 2 * size(z, y + 1, x) + sides(y + 1);
    }
    if z > band.low[0] {
        sum += 2 * size(z - 1, y, x);
    }
    if z + 1 < band.high[0] {
        sum += 2 * size(z + 1, y, x);
    }
    sum
}

/// Returns the class of a sum of magnitudes: 0, 1, then two classes an octave.
fn class(sum: u32) -> usize {
    let class = if sum < 2 {
        sum
    } else {
        let octave = sum.ilog2();
        2 * octave + (sum >> (octave - 1) & 1)
    };
    (class as usize).min(CLASSES - 1)
}

/// What selects the contexts of a level.
struct Neighborhood {
    band: usize,
    classes: [usize; 3],
}

/// Contexts of one layer of one part.
struct Contexts {
    /// By band, class and kind of bin; with the class of the neighbors, of neighbors and parent,
    /// and of neighbors and the grids before.
    magnitudes: [Vec<Context>; 3],
    /// By the magnitude so far (1, 2, 3 or more) and the number of bits that follow.
    refinements: [[Context; MAX_SHIFT as usize + 1]; 4],
}

impl Contexts {
    fn new() -> Self {
        let new = || vec![Context::NEW; SCALES * 8 * CLASSES * BIN_KINDS];
        Self {
            magnitudes: [new(), new(), new()],
            refinements: [[Context::NEW; MAX_SHIFT as usize + 1]; 4],
        }
    }
}

struct LevelCoder<'a, C> {
    coder: &'a mut C,
    contexts: Contexts,
    /// Bits that this layer adds to a magnitude; in the first layer, the most it can have.
    n_bits: u32,
}

impl<C: BinCoder> LevelCoder<'_, C> {
    /// Codes one level. `known` is the level so far in units of this layer, `target` its value
    /// after this layer.
    fn level(&mut self, near: &Neighborhood, known: i32, target: i32) -> Result<i32, InvalidCode> {
        if known == 0 {
            let size = self.magnitude(near, target.unsigned_abs())?;
            if size == 0 {
                return Ok(0);
            }
            let negative = self.coder.equiprobable(target < 0)?;
            return Ok(if negative { -(size as i32) } else { size as i32 });
        }
        let target = target.unsigned_abs();
        let mut size = known.unsigned_abs() >> self.n_bits;
        for bit in (0..self.n_bits).rev() {
            let context = &mut self.contexts.refinements[size.min(3) as usize][bit as usize];
            let bin = self.coder.bin(Context::mean([*context]), target >> bit & 1 == 1)?;
            context.update(bin);
            size = size << 1 | u32::from(bin);
        }
        Ok(size as i32 * known.signum())
    }

    /// Codes a magnitude of at most `n_bits` bits: its length, then its bits from the second
    /// highest on.
    fn magnitude(&mut self, near: &Neighborhood, target: u32) -> Result<u32, InvalidCode> {
        let target_length = 32 - target.leading_zeros();
        let mut length = 0;
        while length < self.n_bits && self.bin(near, length as usize, target_length > length)? {
            length += 1;
        }
        if length < 2 {
            return Ok(length);
        }
        let bit = |n: u32| target >> n & 1 == 1;
        let kind = MAX_BITS + (length as usize - 2).min(9);
        let mut size = 2 | u32::from(self.bin(near, kind, bit(length - 2))?);
        for n in (0..length - 2).rev() {
            size = size << 1 | u32::from(self.coder.equiprobable(bit(n))?);
        }
        Ok(size)
    }

    /// Codes a bin of a magnitude with the mean of three contexts.
    fn bin(&mut self, near: &Neighborhood, kind: usize, bin: bool) -> Result<bool, InvalidCode> {
        let at = near.classes.map(|c| (near.band * CLASSES + c) * BIN_KINDS + kind);
        let contexts = &mut self.contexts.magnitudes;
        let mean = Context::mean([contexts[0][at[0]], contexts[1][at[1]], contexts[2][at[2]]]);
        let bin = self.coder.bin(mean, bin)?;
        for (contexts, at) in contexts.iter_mut().zip(at) {
            contexts[at].update(bin);
        }
        Ok(bin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bin_coder::{BinReader, BinWriter};
    use crate::wavelet::n_levels;
    use numerics::SplitMix64;

    fn grids(dims: Dims) -> Grids {
        Grids { images: 2, channels: 3, dims, n_levels: n_levels(dims) }
    }

    /// Returns levels with a heavy-tailed distribution, like those of wavelet bands.
    fn levels(grids: Grids, scale: f32) -> Vec<i32> {
        let mut noise = SplitMix64::new(9);
        let n = grids.images * grids.channels * grids.dims.iter().product::<usize>();
        (0..n).map(|_| (noise.normal().powi(3) * scale) as i32).collect()
    }

    #[test]
    fn levels_round_trip_in_one_layer_or_several() {
        for (dims, scale) in [([1, 9, 20], 2.0), ([8, 8, 8], 40.0), ([1, 4, 3], 30_000.0)] {
            let grids = grids(dims);
            let target = levels(grids, scale);
            for shifts in [&[0_u8][..], &[4, 2, 0], &[12, 0]] {
                let mut decoded = vec![0; target.len()];
                let mut written = decoded.clone();
                let mut before = None;
                for &shift in shifts {
                    let mut writer = BinWriter::new();
                    code_layer(&mut writer, grids, before, shift, &mut written, &target).unwrap();
                    let bytes = writer.finish();
                    let mut reader = BinReader::new(&bytes, u64::MAX);
                    code_layer(&mut reader, grids, before, shift, &mut decoded, &[]).unwrap();
                    assert_eq!(decoded, written, "{dims:?} at {shift}");
                    before = Some(shift);
                }
                assert_eq!(decoded, target, "{dims:?} {shifts:?}");
            }
        }
    }

    #[test]
    fn several_layers_take_hardly_more_bytes_than_one() {
        let grids = grids([1, 40, 40]);
        let target = levels(grids, 6.0);
        let cost = |shifts: &[u8]| {
            let mut known = vec![0; target.len()];
            let mut before = None;
            let mut bytes = 0;
            for &shift in shifts {
                let mut writer = BinWriter::new();
                code_layer(&mut writer, grids, before, shift, &mut known, &target).unwrap();
                bytes += writer.finish().len();
                before = Some(shift);
            }
            bytes as f32
        };
        assert!(cost(&[4, 2, 0]) < 1.08 * cost(&[0]));
    }

    #[test]
    fn classes_increase_with_the_sum_of_magnitudes() {
        let classes: Vec<usize> = [0, 1, 2, 3, 4, 5, 6, 8, 12, 16, 1 << 25].map(class).into();
        assert!(classes.is_sorted());
        assert_eq!(classes[..7], [0, 1, 2, 3, 4, 4, 5]);
        assert_eq!(class(u32::MAX), CLASSES - 1);
    }
}
