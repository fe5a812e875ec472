use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};

/// Slope of an activation below zero: `max(x, LEAK * x)`.
pub const LEAK: f32 = 0.1;

/// What a convolution does about the shortcut of a residual block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Nothing.
    Plain,
    /// Its input is also the shortcut.
    Opens,
    /// The shortcut is added before its activation.
    Closes,
}

/// One convolution, channels last: `[side, side, input]` to `[side / stride, .., output]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are the usual ones")]
pub struct Conv {
    pub name: &'static str,
    pub kernel: usize,
    pub stride: usize,
    /// Side of its input.
    pub side: usize,
    pub input: usize,
    pub output: usize,
    pub role: Role,
}

impl Conv {
    /// Side of its output.
    pub const fn side_out(&self) -> usize {
        self.side / self.stride
    }

    /// Numbers under its kernel: rows of its weight matrix, ordered `[ky, kx, channel]`.
    pub const fn patch(&self) -> usize {
        self.kernel * self.kernel * self.input
    }

    /// Numbers it gives for one picture.
    pub const fn len_out(&self) -> usize {
        self.side_out() * self.side_out() * self.output
    }

    /// How many pictures' patches are laid out at once: about 200 KB, so they stay in cache.
    pub fn pictures_at_once(&self) -> usize {
        (49_152 / (self.side_out() * self.side_out() * self.patch())).max(1)
    }

    /// Lays out the patch under the kernel at every place of one picture, zeros outside it.
    ///
    /// `input` is `[side, side, input]`, `patches` becomes `[side_out^2, patch]`.
    pub fn gather(&self, input: &[f32], patches: &mut [f32]) {
        let (row, line) = (self.side * self.input, self.kernel * self.input);
        for (place, patch) in patches.chunks_exact_mut(self.patch()).enumerate() {
            for (ky, out) in patch.chunks_exact_mut(line).enumerate() {
                let Some((y, from, to, skip)) = self.span(place, ky) else {
                    out.fill(0.0);
                    continue;
                };
                out[..skip].fill(0.0);
                out[skip..skip + to - from].copy_from_slice(&input[y * row + from..y * row + to]);
                out[skip + to - from..].fill(0.0);
            }
        }
    }

    /// The transpose of [`Conv::gather`]: adds each patch back to where it was taken from.
    pub fn scatter(&self, patches: &[f32], input: &mut [f32]) {
        let (row, line) = (self.side * self.input, self.kernel * self.input);
        for (place, patch) in patches.chunks_exact(self.patch()).enumerate() {
            for (ky, values) in patch.chunks_exact(line).enumerate() {
                let Some((y, from, to, skip)) = self.span(place, ky) else { continue };
                let target = &mut input[y * row + from..y * row + to];
                for (t, v) in target.iter_mut().zip(&values[skip..]) {
                    *t += v;
                }
            }
        }
    }

    /// Row `ky` of the kernel at `place`: the input row, the stretch of it that lies inside, and
    /// how many numbers of the patch come before. `None` if the row lies outside.
    fn span(&self, place: usize, ky: usize) -> Option<(usize, usize, usize, usize)> {
        let reach = self.kernel / 2;
        let (oy, ox) = (place / self.side_out(), place % self.side_out());
        let y = (oy * self.stride + ky).checked_sub(reach).filter(|&y| y < self.side)?;
        let x = ox * self.stride;
        let first = x.saturating_sub(reach);
        let end = (x + self.kernel - reach).min(self.side);
        let skip = first + reach - x;
        Some((y, first * self.input, end * self.input, skip * self.input))
    }
}

const fn conv(
    name: &'static str,
    [kernel, stride]: [usize; 2],
    side: usize,
    [input, output]: [usize; 2],
    role: Role,
) -> Conv {
    Conv { name, kernel, stride, side, input, output, role }
}

/// The convolutions in order. About 29 million multiply-adds a crop.
///
/// After them: `hidden` (with activation), from it `presence`, `spread` and `coefficients`, and from
/// the last `offsets`.
pub const CONVS: [Conv; 13] = [
    conv("stem", [3, 2], 96, [1, 16], Role::Plain),
    conv("down1", [3, 2], 48, [16, 24], Role::Plain),
    conv("block1a", [3, 1], 24, [24, 24], Role::Opens),
    conv("block1b", [3, 1], 24, [24, 24], Role::Closes),
    conv("down2", [3, 2], 24, [24, 48], Role::Plain),
    conv("block2a", [3, 1], 12, [48, 48], Role::Opens),
    conv("block2b", [3, 1], 12, [48, 48], Role::Closes),
    conv("block3a", [3, 1], 12, [48, 48], Role::Opens),
    conv("block3b", [3, 1], 12, [48, 48], Role::Closes),
    conv("down3", [3, 2], 12, [48, 96], Role::Plain),
    conv("block4a", [3, 1], 6, [96, 96], Role::Opens),
    conv("block4b", [3, 1], 6, [96, 96], Role::Closes),
    conv("squeeze", [1, 1], 6, [96, 64], Role::Plain),
];
/// Numbers the convolutions hand on for one picture.
pub const FLAT: usize = CONVS[CONVS.len() - 1].len_out();

pub(crate) fn activate(value: f32) -> f32 {
    value.max(LEAK * value)
}

pub(crate) fn convolve(
    conv: &Conv,
    input: &[f32],
    weight: &[f32],
    patches: &mut Vec<f32>,
    out: &mut [f32],
) {
    let (len_in, places) = (conv.side * conv.side * conv.input, conv.side_out() * conv.side_out());
    let at_once = conv.pictures_at_once();
    let weight = matrix(weight, conv.patch(), conv.output);
    for (input, out) in input.chunks(at_once * len_in).zip(out.chunks_mut(at_once * conv.len_out()))
    {
        let rows = input.len() / len_in * places;
        let source = if conv.kernel == 1 {
            input
        } else {
            patches.resize((rows * conv.patch()).max(patches.len()), 0.0);
            for (picture, patches) in
                input.chunks_exact(len_in).zip(patches.chunks_exact_mut(places * conv.patch()))
            {
                conv.gather(picture, patches);
            }
            &patches[..rows * conv.patch()]
        };
        multiply(
            &matrix(source, rows, conv.patch()),
            &weight,
            0.0,
            &mut matrix_mut(out, rows, conv.output),
        );
    }
}

pub(crate) fn add_bias_and_activate(out: &mut [f32], bias: &[f32], shortcut: Option<&[f32]>) {
    let channels = bias.len();
    if let Some(shortcut) = shortcut {
        for (line, add) in out.chunks_exact_mut(channels).zip(shortcut.chunks_exact(channels)) {
            for ((v, b), s) in line.iter_mut().zip(bias).zip(add) {
                *v = activate(*v + b + s);
            }
        }
    } else {
        for line in out.chunks_exact_mut(channels) {
            for (v, b) in line.iter_mut().zip(bias) {
                *v = activate(*v + b);
            }
        }
    }
}

/// `out = a b + keep * out`.
pub fn multiply(
    a: &ArrayView2<'_, f32>,
    b: &ArrayView2<'_, f32>,
    keep: f32,
    out: &mut ArrayViewMut2<'_, f32>,
) {
    general_mat_mul(1.0, a, b, keep, out);
}

/// Numbers seen as a matrix, row by row.
///
/// # Panics
/// If there are not `rows * columns` of them.
pub fn matrix(values: &[f32], rows: usize, columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, columns), values).expect("as many numbers as the shape says")
}

/// The same, to be written.
///
/// # Panics
/// If there are not `rows * columns` of them.
pub fn matrix_mut(values: &mut [f32], rows: usize, columns: usize) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((rows, columns), values).expect("as many numbers as the shape says")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A convolution by its definition.
    fn slow(conv: &Conv, input: &[f32], weight: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        for place in 0..conv.side_out() * conv.side_out() {
            let (oy, ox) = (place / conv.side_out(), place % conv.side_out());
            for o in 0..conv.output {
                let mut sum = 0.0;
                for k in 0..conv.patch() {
                    let (ky, rest) =
                        (k / (conv.kernel * conv.input), k % (conv.kernel * conv.input));
                    let (kx, c) = (rest / conv.input, rest % conv.input);
                    let y = (oy * conv.stride + ky).wrapping_sub(conv.kernel / 2);
                    let x = (ox * conv.stride + kx).wrapping_sub(conv.kernel / 2);
                    if x < conv.side && y < conv.side {
                        let value = input[(y * conv.side + x) * conv.input + c];
                        sum += value * weight[k * conv.output + o];
                    }
                }
                out.push(sum);
            }
        }
        out
    }

    #[test]
    fn a_convolution_is_what_its_definition_says() {
        for (kernel, stride) in [(3, 1), (3, 2), (1, 1)] {
            let conv = conv("", [kernel, stride], 6, [2, 3], Role::Plain);
            let wave = |n: usize| (0..n).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
            let (input, weight) = (wave(6 * 6 * 2), wave(conv.patch() * 3));
            let mut out = vec![0.0; conv.len_out()];
            convolve(&conv, &input, &weight, &mut Vec::new(), &mut out);
            for (a, b) in out.iter().zip(slow(&conv, &input, &weight)) {
                assert!((a - b).abs() < 1e-5, "kernel {kernel}, stride {stride}: {a} {b}");
            }
        }
    }

    #[test]
    fn scattering_is_the_transpose_of_gathering() {
        let conv = conv("", [3, 2], 6, [2, 1], Role::Plain);
        let x: Vec<f32> = (0..72).map(|i| (i as f32).cos()).collect();
        let y: Vec<f32> = (0..9 * 18).map(|i| (i as f32 * 1.3).sin()).collect();
        let (mut gathered, mut scattered) = (vec![0.0; y.len()], vec![0.0; x.len()]);
        conv.gather(&x, &mut gathered);
        conv.scatter(&y, &mut scattered);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        assert!((dot(&gathered, &y) - dot(&x, &scattered)).abs() < 1e-4);
    }
}
