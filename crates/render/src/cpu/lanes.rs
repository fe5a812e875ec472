//! Eight neighboring pixels at a time, as plain arrays that the compiler keeps in registers.

/// Number of neighboring pixels of a row that are processed together.
pub(super) const LANES: usize = 8;

/// One number for each pixel.
pub(super) type Lanes = [f32; LANES];

/// Returns `f(i)` for each lane.
#[inline(always)]
pub(super) fn each(f: impl Fn(usize) -> f32) -> Lanes {
    let mut out = [0.0; LANES];
    for (i, o) in out.iter_mut().enumerate() {
        *o = f(i);
    }
    out
}

/// Returns `a * b + c`, as one fused operation if `FUSED`.
#[inline(always)]
pub(super) fn fused<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Returns the larger of two numbers, neither of them NaN. One instruction, where `f32::max` takes
/// three.
#[inline(always)]
pub(super) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Returns the smaller of two numbers, neither of them NaN.
#[inline(always)]
pub(super) fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// Returns, for each position in texels, the lower of the two enclosing texels of `n`, and the
/// share of the upper. Positions are clamped. A position exactly on a texel may have it as the
/// lower (share 0) or as the upper (share 1).
#[inline(always)]
pub(super) fn cells(at: &Lanes, n: usize) -> ([u32; LANES], Lanes) {
    /// 2^23: added to a number, it leaves the nearest integer in the lowest mantissa bits.
    const WHOLE: f32 = 8_388_608.0;
    let (last, most) = ((n - 1) as f32, (n - 2) as f32);
    let mut low = [0; LANES];
    let mut share = [0.0; LANES];
    for i in 0..LANES {
        let p = smaller(larger(at[i], 0.0), last);
        let shifted = smaller(larger(p - 0.5, 0.0), most) + WHOLE;
        low[i] = shifted.to_bits() & 0x007f_ffff;
        share[i] = p - (shifted - WHOLE);
    }
    (low, share)
}

/// The four texels around each of eight positions in a grid, and their bilinear shares.
pub(super) struct LaneTaps {
    at: [u32; LANES],
    /// Shares of the upper left, upper right, lower left and lower right texel.
    shares: [Lanes; 4],
    stride: usize,
}

impl LaneTaps {
    /// Returns the taps of positions in texels (`x` columns, `y` rows), clamped.
    #[inline(always)]
    pub(super) fn new(x: &Lanes, y: &Lanes, width: usize, height: usize) -> Self {
        let (x, fx) = cells(x, width);
        let (y, fy) = cells(y, height);
        let mut at = [0; LANES];
        for i in 0..LANES {
            at[i] = y[i] * width as u32 + x[i];
        }
        Self {
            at,
            shares: [
                each(|i| (1.0 - fx[i]) * (1.0 - fy[i])),
                each(|i| fx[i] * (1.0 - fy[i])),
                each(|i| (1.0 - fx[i]) * fy[i]),
                each(|i| fx[i] * fy[i]),
            ],
            stride: width,
        }
    }

    /// Reads the grid bilinearly for one lane.
    #[inline(always)]
    pub(super) fn read<const FUSED: bool, const N: usize>(
        &self,
        texels: &[[f32; N]],
        lane: usize,
    ) -> [f32; N] {
        let at = self.at[lane] as usize;
        let upper = &texels[at..at + 2];
        let lower = &texels[at + self.stride..at + self.stride + 2];
        let s = &self.shares;
        let mut sum = [0.0; N];
        for i in 0..N {
            sum[i] = upper[0][i] * s[0][lane];
        }
        for i in 0..N {
            sum[i] = fused::<FUSED>(upper[1][i], s[1][lane], sum[i]);
        }
        for i in 0..N {
            sum[i] = fused::<FUSED>(lower[0][i], s[2][lane], sum[i]);
        }
        for i in 0..N {
            sum[i] = fused::<FUSED>(lower[1][i], s[3][lane], sum[i]);
        }
        sum
    }
}
