//! Wavelet transform of planes and volumes, which turns smooth data into few large coefficients.

/// Lifting steps of the biorthogonal 9/7 wavelet in the order of the forward transform, on odd,
/// even, odd, even numbers (Cohen, Daubechies and Feauveau 1992; ISO/IEC 15444-1, Annex F).
const LIFTS: [f32; 4] = [-1.586_134_3, -0.052_980_118, 0.882_911_1, 0.443_506_85];
/// Scale of the low-pass band, which makes the transform nearly orthonormal: a quantizer step
/// causes about the same error in every band.
const LOW: f32 = 1.149_604_4;
/// A side at least this long is halved once more.
const MIN_HALVED: usize = 8;
/// Largest number of levels.
const MAX_LEVELS: usize = 5;

/// Depth, height and width; a plane has depth 1.
pub(crate) type Dims = [usize; 3];

/// Box of coefficients of one direction and scale.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct WaveletBand {
    /// First corner.
    pub(crate) low: Dims,
    /// One past the last corner.
    pub(crate) high: Dims,
    /// Scale: 0 is the finest. The band that is low-pass along all axes has the number of levels.
    pub(crate) level: usize,
    /// Bit `2 - axis` is set if the band is high-pass along `axis` (0 is the depth).
    pub(crate) direction: usize,
    /// Corners of the band of the same direction at the next coarser scale, if there is one.
    pub(crate) parent: Option<(Dims, Dims)>,
}

/// Returns the number of levels: how often the sides are halved until the smaller of height and
/// width is below 8.
pub(crate) fn n_levels(dims: Dims) -> usize {
    let mut side = dims[1].min(dims[2]);
    let mut n = 0;
    while side >= MIN_HALVED && n < MAX_LEVELS {
        side = side.div_ceil(2);
        n += 1;
    }
    n
}

/// Returns the sides of the low-pass box after `level` levels.
fn sides(dims: Dims, level: usize) -> Dims {
    (0..level).fold(dims, |dims, _| dims.map(|n| n.div_ceil(2)))
}

/// Returns all bands that are not empty, coarse to fine.
pub(crate) fn bands(dims: Dims, n_levels: usize) -> Vec<WaveletBand> {
    let corners = |level: usize, direction: usize| -> (Dims, Dims) {
        let (outer, inner) = (sides(dims, level), sides(dims, level + 1));
        let high_in = |axis: usize| direction >> (2 - axis) & 1 == 1;
        (
            std::array::from_fn(|axis| if high_in(axis) { inner[axis] } else { 0 }),
            std::array::from_fn(|axis| if high_in(axis) { outer[axis] } else { inner[axis] }),
        )
    };
    let coarsest = sides(dims, n_levels);
    let mut bands = vec![WaveletBand {
        low: [0; 3],
        high: coarsest,
        level: n_levels,
        direction: 0,
        parent: None,
    }];
    for level in (0..n_levels).rev() {
        for direction in 1..8 {
            let (low, high) = corners(level, direction);
            if (0..3).all(|axis| low[axis] < high[axis]) {
                let parent = (level + 1 < n_levels).then(|| corners(level + 1, direction));
                let parent = parent.filter(|(low, high)| (0..3).all(|axis| low[axis] < high[axis]));
                bands.push(WaveletBand { low, high, level, direction, parent });
            }
        }
    }
    bands
}

/// Transforms `values`, `[depth][height][width]`, to bands in place.
pub(crate) fn forward(values: &mut [f32], dims: Dims, n_levels: usize) {
    for level in 0..n_levels {
        for axis in 0..3 {
            along(values, dims, sides(dims, level), axis, split);
        }
    }
}

/// Transforms bands to values in place: the inverse of [`forward`] up to rounding.
pub(crate) fn inverse(values: &mut [f32], dims: Dims, n_levels: usize) {
    for level in (0..n_levels).rev() {
        for axis in (0..3).rev() {
            along(values, dims, sides(dims, level), axis, join);
        }
    }
}

/// Applies `f` to every line along `axis` of the box of `sides` at the origin; its second argument
/// is scratch space.
fn along(
    values: &mut [f32],
    dims: Dims,
    sides: Dims,
    axis: usize,
    f: fn(&mut [f32], &mut Vec<f32>),
) {
    let n = sides[axis];
    if n < 2 {
        return;
    }
    let strides = [dims[1] * dims[2], dims[2], 1];
    let (a, b) = [(1, 2), (0, 2), (0, 1)][axis];
    let mut line = vec![0.0; n];
    let mut spare = Vec::with_capacity(n);
    for i in 0..sides[a] {
        for j in 0..sides[b] {
            let start = i * strides[a] + j * strides[b];
            for (k, v) in line.iter_mut().enumerate() {
                *v = values[start + k * strides[axis]];
            }
            f(&mut line, &mut spare);
            for (k, v) in line.iter().enumerate() {
                values[start + k * strides[axis]] = *v;
            }
        }
    }
}

/// Adds `factor` times the sum of its two neighbors to every second number from `first` on. The
/// line is mirrored about its ends.
fn lift(line: &mut [f32], first: usize, factor: f32) {
    let n = line.len();
    for i in (first..n).step_by(2) {
        let left = if i > 0 { line[i - 1] } else { line[1] };
        let right = if i + 1 < n { line[i + 1] } else { line[i - 1] };
        line[i] += factor * (left + right);
    }
}

/// Transforms a line to its low-pass half followed by its high-pass half.
fn split(line: &mut [f32], spare: &mut Vec<f32>) {
    for (k, factor) in LIFTS.iter().enumerate() {
        lift(line, (k + 1) % 2, *factor);
    }
    spare.clear();
    spare.extend(line.iter().step_by(2).map(|v| v * LOW));
    spare.extend(line[1..].iter().step_by(2).map(|v| v / LOW));
    line.copy_from_slice(spare);
}

/// Inverts [`split`].
fn join(line: &mut [f32], spare: &mut Vec<f32>) {
    spare.clear();
    spare.extend_from_slice(line);
    let (low, high) = spare.split_at(line.len().div_ceil(2));
    for (v, band) in line.iter_mut().step_by(2).zip(low) {
        *v = band / LOW;
    }
    for (v, band) in line[1..].iter_mut().step_by(2).zip(high) {
        *v = band * LOW;
    }
    for (k, factor) in LIFTS.iter().enumerate().rev() {
        lift(line, (k + 1) % 2, -factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use numerics::SplitMix64;

    const SHAPES: [Dims; 5] = [[1, 5, 3], [1, 18, 33], [1, 20, 36], [8, 8, 8], [9, 17, 16]];

    #[test]
    fn inverse_undoes_forward() {
        for dims in SHAPES {
            let mut noise = SplitMix64::new(3);
            let values: Vec<f32> = (0..dims.iter().product()).map(|_| noise.normal()).collect();
            let mut got = values.clone();
            let n = n_levels(dims);
            forward(&mut got, dims, n);
            inverse(&mut got, dims, n);
            for (got, want) in got.iter().zip(&values) {
                assert!((got - want).abs() < 1e-4, "{dims:?}: {got} for {want}");
            }
        }
    }

    #[test]
    fn every_coefficient_is_in_exactly_one_band() {
        for dims in SHAPES {
            let mut times = vec![0; dims.iter().product()];
            for band in bands(dims, n_levels(dims)) {
                for z in band.low[0]..band.high[0] {
                    for y in band.low[1]..band.high[1] {
                        for x in band.low[2]..band.high[2] {
                            times[(z * dims[1] + y) * dims[2] + x] += 1;
                        }
                    }
                }
            }
            assert!(times.iter().all(|&n| n == 1), "{dims:?}");
        }
    }

    #[test]
    fn a_smooth_plane_needs_only_its_coarsest_bands() {
        let dims = [1, 33, 33];
        let n = n_levels(dims);
        let wave = |i: usize| (std::f32::consts::PI * i as f32 / 32.0).cos();
        let plane: Vec<f32> = (0..33 * 33).map(|at| wave(at % 33) + wave(at / 33)).collect();
        let mut values = plane.clone();
        forward(&mut values, dims, n);
        for band in bands(dims, n).iter().filter(|band| band.level < 2) {
            for y in band.low[1]..band.high[1] {
                values[y * 33 + band.low[2]..y * 33 + band.high[2]].fill(0.0);
            }
        }
        inverse(&mut values, dims, n);
        for (got, want) in values.iter().zip(&plane) {
            assert!((got - want).abs() < 0.02, "{got} for {want}");
        }
    }
}
