//! Small dense matrices, for the one who fits a profile and the one who codes with it.

use types::FEATURE_DIMS;

/// Rows of a square matrix over the numbers of a feature.
pub(crate) type Matrix = [[f64; FEATURE_DIMS]; FEATURE_DIMS];

/// A matrix of zeros.
pub(crate) const ZERO: Matrix = [[0.0; FEATURE_DIMS]; FEATURE_DIMS];

/// The product.
pub(crate) fn product(a: &Matrix, b: &Matrix) -> Matrix {
    std::array::from_fn(|i| {
        std::array::from_fn(|j| (0..FEATURE_DIMS).map(|k| a[i][k] * b[k][j]).sum())
    })
}

/// The inverse, by elimination with scaled row pivots; none if there is no finite one.
pub(crate) fn inverse(of: &Matrix) -> Option<Matrix> {
    let mut left = *of;
    let mut right = ZERO;
    for (i, row) in left.iter_mut().enumerate() {
        // Rows have units of their own: each is measured by its largest number.
        let size = row.iter().fold(0.0_f64, |max, v| max.max(v.abs()));
        if !(size > 0.0 && size.is_finite()) {
            return None;
        }
        for v in row.iter_mut() {
            *v /= size;
        }
        right[i][i] = 1.0 / size;
    }
    for column in 0..FEATURE_DIMS {
        let pivot = (column..FEATURE_DIMS)
            .max_by(|a, b| left[*a][column].abs().total_cmp(&left[*b][column].abs()))?;
        if left[pivot][column].abs() < 1e-12 {
            return None;
        }
        left.swap(column, pivot);
        right.swap(column, pivot);
        let by = 1.0 / left[column][column];
        left[column].iter_mut().chain(&mut right[column]).for_each(|v| *v *= by);
        let (from_left, from_right) = (left[column], right[column]);
        for row in (0..FEATURE_DIMS).filter(|row| *row != column) {
            let by = left[row][column];
            if by != 0.0 {
                for k in 0..FEATURE_DIMS {
                    left[row][k] -= by * from_left[k];
                    right[row][k] -= by * from_right[k];
                }
            }
        }
    }
    right.as_flattened().iter().all(|v| v.is_finite()).then_some(right)
}

/// Eigenvalues of a symmetric matrix, largest first, and its eigenvectors as rows.
///
/// Cyclic Jacobi rotations (Golub, Van Loan, "Matrix Computations", 8.5).
pub(crate) fn eigen(of: &Matrix) -> ([f64; FEATURE_DIMS], Matrix) {
    let mut a = *of;
    let mut vectors = ZERO;
    for (i, row) in vectors.iter_mut().enumerate() {
        row[i] = 1.0;
    }
    for _ in 0..30 {
        for p in 0..FEATURE_DIMS {
            for q in p + 1..FEATURE_DIMS {
                if a[p][q] == 0.0 {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let c = 1.0 / t.hypot(1.0);
                let s = t * c;
                for row in &mut a {
                    (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                }
                for m in [&mut a, &mut vectors] {
                    let (head, tail) = m.split_at_mut(q);
                    for (p, q) in head[p].iter_mut().zip(&mut tail[0]) {
                        (*p, *q) = (c * *p - s * *q, s * *p + c * *q);
                    }
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..FEATURE_DIMS).collect();
    order.sort_by(|i, j| a[*j][*j].total_cmp(&a[*i][*i]));
    (std::array::from_fn(|i| a[order[i]][order[i]]), std::array::from_fn(|i| vectors[order[i]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symmetric() -> Matrix {
        let root: Matrix = std::array::from_fn(|i| {
            std::array::from_fn(|j| f64::from((i * 7 + j * j * 3) as u32 % 11) - 4.0)
        });
        let mut product = ZERO;
        for i in 0..FEATURE_DIMS {
            for j in 0..FEATURE_DIMS {
                product[i][j] = (0..FEATURE_DIMS).map(|k| root[i][k] * root[j][k]).sum();
            }
            product[i][i] += 1.0;
        }
        product
    }

    #[test]
    fn a_matrix_times_its_inverse_is_one() {
        let a = symmetric();
        let one = product(&a, &inverse(&a).unwrap());
        for (i, row) in one.iter().enumerate() {
            for (j, v) in row.iter().enumerate() {
                assert!((v - f64::from(u8::from(i == j))).abs() < 1e-8, "{i} {j} {v}");
            }
        }
        assert_eq!(inverse(&ZERO), None);
    }

    #[test]
    fn eigenvectors_are_only_stretched() {
        let a = symmetric();
        let (values, vectors) = eigen(&a);
        assert!(values.is_sorted_by(|a, b| a >= b));
        for (value, vector) in values.iter().zip(&vectors) {
            for (i, row) in a.iter().enumerate() {
                let stretched: f64 = row.iter().zip(vector).map(|(a, v)| a * v).sum();
                assert!((stretched - value * vector[i]).abs() < 1e-7 * values[0]);
            }
        }
    }
}
