//! The few functions the field is made of, branch-free so that they vectorise.

use crate::CHANNELS;

/// `e^x` to a relative error of 1e-6 near zero and 1e-5 far off, the same on every machine; `x` is clamped to -87..=87.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 87.0) * std::f32::consts::LOG2_E;
    // Rounds to the nearest integer: adding 1.5 * 2^23 leaves no room for a fraction.
    let shifted = x + 12_582_912.0;
    let whole = shifted - 12_582_912.0;
    let f = x - whole;
    let p = 1.0
        + f * (std::f32::consts::LN_2
            + f * (0.240_226_5
                + f * (0.055_504_11 + f * (0.009_618_13 + f * (0.001_333_36 + f * 0.000_154)))));
    f32::from_bits((shifted.to_bits() << 23).wrapping_add(p.to_bits()))
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The greatest integer not above `x`, which is in `0..2^22`.
#[inline(always)]
pub(crate) fn floor(x: f32) -> u32 {
    /// Added to a number, it leaves no room for a fraction: the lowest bits are the integer.
    const WHOLE: f32 = 8_388_608.0;
    let nearest = x + WHOLE;
    // It may have been rounded up.
    let above = u32::from(nearest - WHOLE > x);
    (nearest.to_bits() & 0x007f_ffff) - above
}

/// A texel of a plane.
pub type Texel = [f32; CHANNELS];

/// `sum += weight * value`, lane by lane.
#[inline(always)]
pub fn add_scaled<const N: usize>(sum: &mut [f32; N], weight: f32, value: &[f32; N]) {
    for (s, v) in sum.iter_mut().zip(value) {
        *s += weight * v;
    }
}

/// Where between two texels of `n` a relative position falls: the lower index, and the share of
/// the upper. Align-corners: 0 is the first texel's middle, 1 the last's; outside is clamped.
#[inline(always)]
pub fn between_texels(relative: f32, n: usize) -> (usize, f32) {
    let at = (relative * (n - 1) as f32).clamp(0.0, (n - 1) as f32);
    let low = (at as usize).min(n - 2);
    (low, at - low as f32)
}

/// The four texels around a position of a `height * width` picture and their shares.
#[derive(Clone, Copy, Debug)]
pub struct Taps {
    /// Index of the texel at the lower row and column.
    pub at: usize,
    /// Distance to the next row.
    pub stride: usize,
    /// Shares: this, right, below, below right.
    pub shares: [f32; 4],
    /// Shares of the right column and of the lower row.
    pub fraction: [f32; 2],
}

impl Taps {
    /// Of relative positions `u` (columns) and `v` (rows), align-corners, clamped.
    #[inline(always)]
    pub fn new(u: f32, v: f32, width: usize, height: usize) -> Self {
        let (x, fx) = between_texels(u, width);
        let (y, fy) = between_texels(v, height);
        Self {
            at: y * width + x,
            stride: width,
            shares: [(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy],
            fraction: [fx, fy],
        }
    }

    /// The indices of the four texels.
    #[inline(always)]
    pub fn indices(&self) -> [usize; 4] {
        [self.at, self.at + 1, self.at + self.stride, self.at + self.stride + 1]
    }

    /// The bilinear reading.
    #[inline(always)]
    pub fn read<const N: usize>(&self, texels: &[[f32; N]]) -> [f32; N] {
        let mut sum = [0.0; N];
        for (at, share) in self.indices().into_iter().zip(self.shares) {
            add_scaled(&mut sum, share, &texels[at]);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_integer_below() {
        for i in [0_u16, 1, 2, 3, 64, 4095, u16::MAX] {
            let whole = f32::from(i);
            for x in [whole, whole + 0.25, whole + 0.5, whole + 0.75, (whole + 1.0).next_down()] {
                assert_eq!(floor(x), u32::from(i), "{x}");
            }
        }
    }

    #[test]
    fn our_exponential_is_the_exponential() {
        for i in -800..=800 {
            let x = i as f32 * 0.1;
            let want = f64::from(x).exp();
            assert!(
                (f64::from(exp(x)) - want).abs() <= (1e-6 + 1e-7 * f64::from(x.abs())) * want,
                "{x}"
            );
        }
    }

    #[test]
    fn corners_are_texel_middles_and_outside_is_clamped() {
        assert_eq!(between_texels(0.0, 5), (0, 0.0));
        assert_eq!(between_texels(1.0, 5), (3, 1.0));
        assert_eq!(between_texels(-3.0, 5), (0, 0.0));
        assert_eq!(between_texels(f32::NAN, 5).0, 0);
    }
}
