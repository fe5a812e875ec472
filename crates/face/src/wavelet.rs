//! The transform between a picture or a volume and its bands: smooth fields become few numbers.

/// Lifting steps of the 9/7 filters, in the order of the forward transform: on odd, even, odd,
/// even numbers (Cohen, Daubechies and Feauveau 1992; ISO/IEC 15444-1, annex F).
const LIFTS: [f32; 4] = [-1.586_134_3, -0.052_980_118, 0.882_911_1, 0.443_506_85];
/// Scale of the low band; with it a step in any band costs the picture about the same.
const LOW: f32 = 1.149_604_4;
/// A side this long or longer is halved once more.
const HALVED_FROM: usize = 8;
/// Most halvings.
const MOST_LEVELS: usize = 5;

/// Depth, height and width; a picture has depth 1.
pub(crate) type Dims = [usize; 3];

/// A box of numbers after the transform, all of one direction and fineness.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Band {
    /// Its first corner.
    pub(crate) low: Dims,
    /// One past its last.
    pub(crate) high: Dims,
    /// 0 the finest; the coarsest band of all has the number of levels.
    pub(crate) level: usize,
    /// Bit `2 - axis` is set where it holds the differences along `axis` (0 the depth).
    pub(crate) direction: usize,
    /// The corners of the band of the same direction one level up, if there is one.
    pub(crate) parent: Option<(Dims, Dims)>,
}

/// How often the sides are halved: until the shorter one of height and width is under 8.
pub(crate) fn n_levels(dims: Dims) -> usize {
    let mut side = dims[1].min(dims[2]);
    let mut n = 0;
    while side >= HALVED_FROM && n < MOST_LEVELS {
        side = side.div_ceil(2);
        n += 1;
    }
    n
}

fn sides(dims: Dims, level: usize) -> Dims {
    (0..level).fold(dims, |dims, _| dims.map(|n| n.div_ceil(2)))
}

/// All bands that hold anything, coarse to fine.
pub(crate) fn bands(dims: Dims, n_levels: usize) -> Vec<Band> {
    let corners = |level: usize, direction: usize| -> (Dims, Dims) {
        let (outer, inner) = (sides(dims, level), sides(dims, level + 1));
        let high_in = |axis: usize| direction >> (2 - axis) & 1 == 1;
        (
            std::array::from_fn(|axis| if high_in(axis) { inner[axis] } else { 0 }),
            std::array::from_fn(|axis| if high_in(axis) { outer[axis] } else { inner[axis] }),
        )
    };
    let coarsest = sides(dims, n_levels);
    let mut bands =
        vec![Band { low: [0; 3], high: coarsest, level: n_levels, direction: 0, parent: None }];
    for level in (0..n_levels).rev() {
        for direction in 1..8 {
            let (low, high) = corners(level, direction);
            if (0..3).all(|axis| low[axis] < high[axis]) {
                let parent = (level + 1 < n_levels).then(|| corners(level + 1, direction));
                let parent = parent.filter(|(low, high)| (0..3).all(|axis| low[axis] < high[axis]));
                bands.push(Band { low, high, level, direction, parent });
            }
        }
    }
    bands
}

/// Values to bands, in place; `values` is `[depth][height][width]`.
pub(crate) fn forward(values: &mut [f32], dims: Dims, n_levels: usize) {
    for level in 0..n_levels {
        for axis in 0..3 {
            along(values, dims, sides(dims, level), axis, split);
        }
    }
}

/// Bands to values, in place: the inverse of [`forward`] up to rounding of f32.
pub(crate) fn inverse(values: &mut [f32], dims: Dims, n_levels: usize) {
    for level in (0..n_levels).rev() {
        for axis in (0..3).rev() {
            along(values, dims, sides(dims, level), axis, join);
        }
    }
}

/// Calls `f` on every line along `axis` of the box of `sides` at the origin.
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

/// Adds `factor` times its two neighbors to every second number; beyond the ends the line is
/// mirrored.
fn lift(line: &mut [f32], first: usize, factor: f32) {
    let n = line.len();
    for i in (first..n).step_by(2) {
        let left = if i > 0 { line[i - 1] } else { line[1] };
        let right = if i + 1 < n { line[i + 1] } else { line[i - 1] };
        line[i] += factor * (left + right);
    }
}

fn split(line: &mut [f32], spare: &mut Vec<f32>) {
    for (k, factor) in LIFTS.iter().enumerate() {
        lift(line, (k + 1) % 2, *factor);
    }
    spare.clear();
    spare.extend(line.iter().step_by(2).map(|v| v * LOW));
    spare.extend(line[1..].iter().step_by(2).map(|v| v / LOW));
    line.copy_from_slice(spare);
}

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
    fn values_survive_their_bands() {
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
    fn every_number_lies_in_exactly_one_band() {
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
    fn a_smooth_picture_lives_in_its_coarsest_bands() {
        let dims = [1, 33, 33];
        let n = n_levels(dims);
        let wave = |i: usize| (std::f32::consts::PI * i as f32 / 32.0).cos();
        let picture: Vec<f32> = (0..33 * 33).map(|at| wave(at % 33) + wave(at / 33)).collect();
        let mut values = picture.clone();
        forward(&mut values, dims, n);
        for band in bands(dims, n).iter().filter(|band| band.level < 2) {
            for y in band.low[1]..band.high[1] {
                values[y * 33 + band.low[2]..y * 33 + band.high[2]].fill(0.0);
            }
        }
        inverse(&mut values, dims, n);
        for (got, want) in values.iter().zip(&picture) {
            assert!((got - want).abs() < 0.02, "{got} for {want}");
        }
    }
}
