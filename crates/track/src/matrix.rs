//! Row-major matrices over slices, for the products of network and fit.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};

/// Computes `out = a b + keep · out`.
pub(crate) fn multiply(
    a: &ArrayView2<'_, f32>,
    b: &ArrayView2<'_, f32>,
    keep: f32,
    out: &mut ArrayViewMut2<'_, f32>,
) {
    general_mat_mul(1.0, a, b, keep, out);
}

/// Adds the rows of a matrix to `sums`.
pub(crate) fn add_rows(values: &ArrayView2<'_, f32>, sums: &mut [f32]) {
    for row in values.rows() {
        for (s, v) in sums.iter_mut().zip(row) {
            *s += v;
        }
    }
}

/// Views `rows * columns` numbers as a row-major matrix.
pub(crate) fn matrix(values: &[f32], rows: usize, columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, columns), values).expect("the length is rows times columns")
}

/// Views `rows * columns` numbers as a writable row-major matrix.
pub(crate) fn matrix_mut(
    values: &mut [f32],
    rows: usize,
    columns: usize,
) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((rows, columns), values).expect("the length is rows times columns")
}
