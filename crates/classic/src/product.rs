//! SIMD products of tall, narrow matrices.
//!
//! Matrices are row-major. Results have a multiple of 16 columns, so that every row consists of
//! whole vectors and no product needs a remainder loop.

use pulp::{Simd, WithSimd};

/// Rows of a result that are accumulated in registers at once: six times two vectors of sums, two of
/// weights and one of inputs fit the sixteen vector registers of most CPUs.
const ROWS: usize = 6;
/// Rows of a transposed product that are accumulated before the next tile, so that they stay in the
/// L1 cache.
const TOGETHER: usize = 64;

/// Matrix view with rows of `width` numbers that start every `stride` numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    pub(crate) numbers: &'a [f32],
    pub(crate) width: usize,
    pub(crate) stride: usize,
}

impl<'a> Rows<'a> {
    /// Views consecutive rows of `width` numbers.
    pub(crate) fn contiguous(numbers: &'a [f32], width: usize) -> Self {
        Self { numbers, width, stride: width }
    }
}

/// Adds `a * b` to `out`: `a` is `[m][k]`, `b` `[k][n]` and `out` `[m][n]` with rows every `stride`
/// numbers.
#[inline(always)]
pub(crate) fn add_product<S: Simd>(
    simd: S,
    out: &mut [f32],
    stride: usize,
    a: Rows<'_>,
    b: &[f32],
    n: usize,
) {
    debug_assert!(n.is_multiple_of(16) && b.len() == a.width * n);
    simd.vectorize(Product { out, stride, a, b, n });
}

/// Kernel of [`add_product`], a type of its own so that its loops are compiled once per instruction
/// set.
struct Product<'a> {
    out: &'a mut [f32],
    stride: usize,
    a: Rows<'a>,
    b: &'a [f32],
    n: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { out, stride, a, b, n } = self;
        for at in (0..n).step_by(2 * S::F32_LANES) {
            let mut tiles = out.chunks_exact_mut(ROWS * stride);
            let mut first = 0;
            for tile in tiles.by_ref() {
                product_tile::<S, ROWS>(simd, tile, stride, a, first, b, n, at);
                first += ROWS;
            }
            for row in tiles.into_remainder().chunks_exact_mut(stride) {
                product_tile::<S, 1>(simd, row, stride, a, first, b, n, at);
                first += 1;
            }
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "two matrices and a position in the third")]
#[inline(always)]
fn product_tile<S: Simd, const M: usize>(
    simd: S,
    out: &mut [f32],
    stride: usize,
    a: Rows<'_>,
    first: usize,
    b: &[f32],
    n: usize,
    at: usize,
) {
    let (k, span) = (a.width, 2 * S::F32_LANES);
    let rows: [&[f32]; M] = std::array::from_fn(|i| &a.numbers[(first + i) * a.stride..][..k]);
    let mut sums = [[simd.splat_f32s(0.0); 2]; M];
    for j in 0..k {
        let [left, right] = pair::<S>(&b[j * n + at..][..span]);
        for (sum, row) in sums.iter_mut().zip(&rows) {
            let x = simd.splat_f32s(row[j]);
            sum[0] = simd.mul_add_e_f32s(left, x, sum[0]);
            sum[1] = simd.mul_add_e_f32s(right, x, sum[1]);
        }
    }
    add_tile(simd, out, stride, at, &sums);
}

/// Adds `aᵀ * b` to `out`: `a` is `[m][k]`, `b` `[m][n]` and `out` `[k][n]`, contiguous.
#[inline(always)]
pub(crate) fn add_transposed_product<S: Simd>(
    simd: S,
    out: &mut [f32],
    a: Rows<'_>,
    b: &[f32],
    n: usize,
) {
    debug_assert!(n.is_multiple_of(16) && out.len() == a.width * n);
    simd.vectorize(TransposedProduct { out, a, b, n });
}

struct TransposedProduct<'a> {
    out: &'a mut [f32],
    a: Rows<'a>,
    b: &'a [f32],
    n: usize,
}

impl WithSimd for TransposedProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { out, a, b, n } = self;
        for (block, b) in b.chunks(TOGETHER * n).enumerate() {
            let a = Rows { numbers: &a.numbers[block * TOGETHER * a.stride..], ..a };
            for at in (0..n).step_by(2 * S::F32_LANES) {
                let mut tiles = out.chunks_exact_mut(ROWS * n);
                let mut first = 0;
                for tile in tiles.by_ref() {
                    transposed_tile::<S, ROWS>(simd, tile, a, first, b, n, at);
                    first += ROWS;
                }
                for row in tiles.into_remainder().chunks_exact_mut(n) {
                    transposed_tile::<S, 1>(simd, row, a, first, b, n, at);
                    first += 1;
                }
            }
        }
    }
}

#[inline(always)]
fn transposed_tile<S: Simd, const M: usize>(
    simd: S,
    out: &mut [f32],
    a: Rows<'_>,
    first: usize,
    b: &[f32],
    n: usize,
    at: usize,
) {
    let span = 2 * S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); 2]; M];
    for (row, b) in b.chunks_exact(n).enumerate() {
        let [left, right] = pair::<S>(&b[at..][..span]);
        let values = &a.numbers[row * a.stride + first..][..M];
        for (sum, x) in sums.iter_mut().zip(values) {
            let x = simd.splat_f32s(*x);
            sum[0] = simd.mul_add_e_f32s(left, x, sum[0]);
            sum[1] = simd.mul_add_e_f32s(right, x, sum[1]);
        }
    }
    add_tile(simd, out, n, at, &sums);
}

#[inline(always)]
fn pair<S: Simd>(numbers: &[f32]) -> [S::f32s; 2] {
    let vectors = S::as_simd_f32s(numbers).0;
    [vectors[0], vectors[1]]
}

#[inline(always)]
fn add_tile<S: Simd, const M: usize>(
    simd: S,
    out: &mut [f32],
    stride: usize,
    at: usize,
    sums: &[[S::f32s; 2]; M],
) {
    for (row, sum) in out.chunks_exact_mut(stride).zip(sums) {
        let to = S::as_mut_simd_f32s(&mut row[at..][..2 * S::F32_LANES]).0;
        to[0] = simd.add_f32s(to[0], sum[0]);
        to[1] = simd.add_f32s(to[1], sum[1]);
    }
}

/// Transposes a `[k][n]` matrix to `[n][k]`.
pub(crate) fn transposed(numbers: &[f32], n: usize) -> Vec<f32> {
    let k = numbers.len() / n;
    (0..n).flat_map(|column| (0..k).map(move |row| numbers[row * n + column])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use numerics::SplitMix64;

    fn noise(n: usize, seed: u64) -> Vec<f32> {
        let mut noise = SplitMix64::new(seed);
        (0..n).map(|_| noise.normal()).collect()
    }

    struct Both<'a> {
        m: usize,
        k: usize,
        n: usize,
        a: &'a [f32],
        b: &'a [f32],
        stride: usize,
    }

    impl WithSimd for Both<'_> {
        type Output = (Vec<f32>, Vec<f32>);

        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let Self { m, k, n, a, b, stride } = self;
            let a = Rows { numbers: a, width: k, stride };
            let mut forward = vec![1.0; m * (n + 16)];
            add_product(simd, &mut forward, n + 16, a, &b[..k * n], n);
            let mut back = vec![1.0; k * n];
            add_transposed_product(simd, &mut back, a, &b[..m * n], n);
            (forward, back)
        }
    }

    #[test]
    fn products_agree_with_the_definition() {
        for (m, k, n) in [(1, 1, 16), (13, 7, 48), (150, 63, 32)] {
            let stride = k + 3;
            let (a, b) = (noise(m * stride, 1), noise(m.max(k) * n, 2));
            let both = Both { m, k, n, a: &a, b: &b, stride };
            let (forward, back) = pulp::Arch::new().dispatch(both);
            for i in 0..m {
                for j in 0..n {
                    let want = 1.0 + (0..k).map(|l| a[i * stride + l] * b[l * n + j]).sum::<f32>();
                    assert!((forward[i * (n + 16) + j] - want).abs() < 1e-4, "{m} {k} {n}");
                }
                let rest = &forward[i * (n + 16) + n..][..16];
                assert!(rest.iter().all(|v| *v == 1.0), "wrote outside its columns");
            }
            for l in 0..k {
                for j in 0..n {
                    let want = 1.0 + (0..m).map(|i| a[i * stride + l] * b[i * n + j]).sum::<f32>();
                    assert!((back[l * n + j] - want).abs() < 1e-3, "{m} {k} {n} transposed");
                }
            }
        }
        assert_eq!(transposed(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
