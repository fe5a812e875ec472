//! The levels of one part, layer by layer, each finer than the one before.

use crate::bit_coder::{BitCoder, Guess, InvalidCode};
use crate::wavelet::{Band, Dims, bands};

/// Largest magnitude of a level.
pub(crate) const MAX_LEVEL: i32 = (1 << 21) - 1;
/// Bits of the largest magnitude.
const MAX_BITS: usize = 21;
/// Classes of what surrounds a level.
const CLASSES: usize = 24;
/// Band levels that are told apart; the coarser ones share.
const FINENESSES: usize = 4;
/// Questions about one magnitude: is it longer than `n` bits? And its second bit, by length.
const QUESTIONS: usize = MAX_BITS + 10;
/// Levels known from one layer are refined by so many bits at most in the next.
pub(crate) const MAX_SHIFT: u8 = 12;

/// The grids of one part: `[images][channels]`, each `[depth][height][width]` in bands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grids {
    pub(crate) images: usize,
    pub(crate) channels: usize,
    pub(crate) dims: Dims,
    /// Halvings of the transform; 0 for numbers that were not transformed.
    pub(crate) n_levels: usize,
}

/// Codes one layer of a part: brings `known` from what it was to `target >> shift`.
///
/// `known` are levels in units of `2^before` steps (of which nothing is known yet, all zero, if
/// `before` is `None`) and leaves in units of `2^shift` steps; magnitudes are rounded down. The
/// reader's `target` is empty. Every grid of a band is coded before the next finer band is.
pub(crate) fn code_layer(
    coder: &mut impl BitCoder,
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
    let mut walk = Walk { coder, contexts: Contexts::new(), n_bits };
    let [_, height, width] = grids.dims;
    let n = grids.dims.iter().product::<usize>();
    for band in bands(grids.dims, grids.n_levels) {
        for grid in 0..grids.images * grids.channels {
            let start = grid * n;
            // The grid of the channel before, and that of the image before.
            let channel = (grid % grids.channels > 0).then(|| start - n);
            let image = (grid >= grids.channels).then(|| start - n * grids.channels);
            for z in band.low[0]..band.high[0] {
                for y in band.low[1]..band.high[1] {
                    for x in band.low[2]..band.high[2] {
                        let offset = (z * height + y) * width + x;
                        let at = start + offset;
                        let size = |at: usize| known[at].unsigned_abs();
                        let near = around(&known[start..start + n], grids.dims, &band, [z, y, x]);
                        let above = band.parent.map_or(0, |(low, high)| {
                            let to = |axis: usize, i: usize| {
                                (low[axis] + (i - band.low[axis]) / 2).min(high[axis] - 1)
                            };
                            size(start + (to(0, z) * height + to(1, y)) * width + to(2, x))
                        });
                        let beside = 2 * channel.map_or(0, |grid| size(grid + offset))
                            + image.map_or(0, |grid| size(grid + offset));
                        let situation = Situation {
                            band: band.level.min(FINENESSES - 1) * 8 + band.direction,
                            classes: [
                                class(near),
                                class(near / 2 + 2 * above),
                                class(near / 3 + beside),
                            ],
                        };
                        let want = target.get(at).map_or(0, |level| {
                            let size = (level.unsigned_abs() >> shift) as i32;
                            if *level < 0 { -size } else { size }
                        });
                        known[at] = walk.level(&situation, known[at], want)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Weighted magnitudes around a place, inside its band: 2 for those that share a side, 1 for those
/// that share a corner in the picture. Those still to come count with what is known of them.
fn around(known: &[i32], dims: Dims, band: &Band, [z, y, x]: [usize; 3]) -> u32 {
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

/// 0, 1, then two classes an octave.
fn class(sum: u32) -> usize {
    let class = if sum < 2 {
        sum
    } else {
        let octave = sum.ilog2();
        2 * octave + (sum >> (octave - 1) & 1)
    };
    (class as usize).min(CLASSES - 1)
}

/// What is known about a level before it is coded.
struct Situation {
    band: usize,
    classes: [usize; 3],
}

/// Every guess of one layer of one part.
struct Contexts {
    /// By what is asked and one of three views of what surrounds it: alone, with the parent, with
    /// the grids before.
    sizes: [Vec<Guess>; 3],
    /// By the bits known of a magnitude (1, 2, 3 or more) and the bits still to come.
    more: [[Guess; MAX_SHIFT as usize + 1]; 4],
}

impl Contexts {
    fn new() -> Self {
        let fresh = || vec![Guess::NEW; FINENESSES * 8 * CLASSES * QUESTIONS];
        Self { sizes: [fresh(), fresh(), fresh()], more: [[Guess::NEW; MAX_SHIFT as usize + 1]; 4] }
    }
}

struct Walk<'a, C> {
    coder: &'a mut C,
    contexts: Contexts,
    /// Bits that this layer adds; in the first layer all that there may be.
    n_bits: u32,
}

impl<C: BitCoder> Walk<'_, C> {
    /// Codes one level; `known` is what the layers before say, in this layer's units.
    fn level(&mut self, around: &Situation, known: i32, want: i32) -> Result<i32, InvalidCode> {
        if known == 0 {
            let size = self.size(around, want.unsigned_abs())?;
            if size == 0 {
                return Ok(0);
            }
            let negative = self.coder.even(want < 0)?;
            return Ok(if negative { -(size as i32) } else { size as i32 });
        }
        let (known_size, want) = (known.unsigned_abs(), want.unsigned_abs());
        let mut size = known_size >> self.n_bits;
        for bit in (0..self.n_bits).rev() {
            let guess = &mut self.contexts.more[size.min(3) as usize][bit as usize];
            let yes = self.coder.bit(Guess::together([*guess]), want >> bit & 1 == 1)?;
            guess.learn(yes);
            size = size << 1 | u32::from(yes);
        }
        Ok(size as i32 * known.signum())
    }

    /// Codes a magnitude of at most `n_bits` bits: its length, then its bits from the second on.
    fn size(&mut self, around: &Situation, want: u32) -> Result<u32, InvalidCode> {
        let want_length = 32 - want.leading_zeros();
        let mut length = 0;
        while length < self.n_bits && self.ask(around, length as usize, want_length > length)? {
            length += 1;
        }
        if length < 2 {
            return Ok(length);
        }
        let bit = |n: u32| want >> n & 1 == 1;
        let question = MAX_BITS + (length as usize - 2).min(9);
        let mut size = 2 | u32::from(self.ask(around, question, bit(length - 2))?);
        for n in (0..length - 2).rev() {
            size = size << 1 | u32::from(self.coder.even(bit(n))?);
        }
        Ok(size)
    }

    fn ask(&mut self, around: &Situation, question: usize, yes: bool) -> Result<bool, InvalidCode> {
        let at = around.classes.map(|c| (around.band * CLASSES + c) * QUESTIONS + question);
        let sizes = &mut self.contexts.sizes;
        let chance = Guess::together([sizes[0][at[0]], sizes[1][at[1]], sizes[2][at[2]]]);
        let yes = self.coder.bit(chance, yes)?;
        for (guesses, at) in sizes.iter_mut().zip(at) {
            guesses[at].learn(yes);
        }
        Ok(yes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bit_coder::{BitReader, BitWriter};
    use crate::wavelet::n_levels;
    use numerics::SplitMix64;

    fn grids(dims: Dims) -> Grids {
        Grids { images: 2, channels: 3, dims, n_levels: n_levels(dims) }
    }

    /// Levels with long tails, as bands have.
    fn levels(grids: Grids, scale: f32) -> Vec<i32> {
        let mut noise = SplitMix64::new(9);
        let n = grids.images * grids.channels * grids.dims.iter().product::<usize>();
        (0..n).map(|_| (noise.normal().powi(3) * scale) as i32).collect()
    }

    #[test]
    fn levels_survive_in_one_layer_or_in_several() {
        for (dims, scale) in [([1, 9, 20], 2.0), ([8, 8, 8], 40.0), ([1, 4, 3], 30_000.0)] {
            let grids = grids(dims);
            let target = levels(grids, scale);
            for shifts in [&[0_u8][..], &[4, 2, 0], &[12, 0]] {
                let mut seen = vec![0; target.len()];
                let mut told = seen.clone();
                let mut before = None;
                for &shift in shifts {
                    let mut writer = BitWriter::new();
                    code_layer(&mut writer, grids, before, shift, &mut told, &target).unwrap();
                    let bytes = writer.finish();
                    let mut reader = BitReader::new(&bytes);
                    code_layer(&mut reader, grids, before, shift, &mut seen, &[]).unwrap();
                    assert_eq!(seen, told, "{dims:?} at {shift}");
                    before = Some(shift);
                }
                assert_eq!(seen, target, "{dims:?} {shifts:?}");
            }
        }
    }

    #[test]
    fn layers_cost_little_more_than_one() {
        let grids = grids([1, 40, 40]);
        let target = levels(grids, 6.0);
        let cost = |shifts: &[u8]| {
            let mut known = vec![0; target.len()];
            let mut before = None;
            let mut bytes = 0;
            for &shift in shifts {
                let mut writer = BitWriter::new();
                code_layer(&mut writer, grids, before, shift, &mut known, &target).unwrap();
                bytes += writer.finish().len();
                before = Some(shift);
            }
            bytes as f32
        };
        assert!(cost(&[4, 2, 0]) < 1.08 * cost(&[0]));
    }

    #[test]
    fn classes_rise_with_what_surrounds() {
        let classes: Vec<usize> = [0, 1, 2, 3, 4, 5, 6, 8, 12, 16, 1 << 25].map(class).into();
        assert!(classes.is_sorted());
        assert_eq!(classes[..7], [0, 1, 2, 3, 4, 4, 5]);
        assert_eq!(class(u32::MAX), CLASSES - 1);
    }
}
