//! Elementary functions of the field, branch-free so that loops over them vectorize.

/// Returns `e^x`, with bit-identical results on every machine.
///
/// `x` is clamped to -87..=87. The relative error is at most `1e-6 + 1e-7 |x|`. Splits off the
/// power of two and evaluates a polynomial of degree six on the rest, -0.5..=0.5 octaves.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 87.0) * std::f32::consts::LOG2_E;
    // Adding 1.5 * 2^23 rounds to the nearest integer: no mantissa bit is left for a fraction.
    let shifted = x + 12_582_912.0;
    let whole = shifted - 12_582_912.0;
    let f = x - whole;
    let p = 1.0
        + f * (std::f32::consts::LN_2
            + f * (0.240_226_5
                + f * (0.055_504_11 + f * (0.009_618_13 + f * (0.001_333_36 + f * 0.000_154)))));
    f32::from_bits((shifted.to_bits() << 23).wrapping_add(p.to_bits()))
}

/// Returns the logistic function `1 / (1 + e^-x)`, 0..=1.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Returns the largest integer not above `x`, which must be in `0..2^22`.
#[inline(always)]
pub(crate) fn floor(x: f32) -> u32 {
    /// 2^23: added to a number, it leaves the nearest integer in the lowest mantissa bits.
    const WHOLE: f32 = 8_388_608.0;
    let nearest = x + WHOLE;
    // The nearest integer may be the one above.
    let above = u32::from(nearest - WHOLE > x);
    (nearest.to_bits() & 0x007f_ffff) - above
}

/// Adds `weight * value` to `sum`, element by element.
#[inline(always)]
pub fn add_scaled<const N: usize>(sum: &mut [f32; N], weight: f32, value: &[f32; N]) {
    for (s, v) in sum.iter_mut().zip(value) {
        *s += weight * v;
    }
}

/// Returns the dot product, summed in sixteen lanes so that it vectorizes.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let (a, a_rest) = a.as_chunks::<16>();
    let (b, b_rest) = b.as_chunks::<16>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..16 {
            lanes[i] += a[i] * b[i];
        }
    }
    lanes.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floor_is_the_integer_below() {
        for i in [0_u16, 1, 2, 3, 64, 4095, u16::MAX] {
            let whole = f32::from(i);
            for x in [whole, whole + 0.25, whole + 0.5, whole + 0.75, (whole + 1.0).next_down()] {
                assert_eq!(floor(x), u32::from(i), "{x}");
            }
        }
    }

    #[test]
    fn exp_agrees_with_the_standard_library() {
        for i in -800..=800 {
            let x = i as f32 * 0.1;
            let want = f64::from(x).exp();
            assert!(
                (f64::from(exp(x)) - want).abs() <= (1e-6 + 1e-7 * f64::from(x.abs())) * want,
                "{x}"
            );
        }
    }
}
