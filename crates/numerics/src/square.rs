use crate::eigen_symmetric;

/// Square matrix of a size known at compile time, as rows.
pub type SquareMatrix<const N: usize> = [[f64; N]; N];

/// Returns a matrix of zeros.
pub const fn zero<const N: usize>() -> SquareMatrix<N> {
    [[0.0; N]; N]
}

/// Returns the matrix product `a b`.
pub fn product<const N: usize>(a: &SquareMatrix<N>, b: &SquareMatrix<N>) -> SquareMatrix<N> {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..N).map(|k| a[i][k] * b[k][j]).sum()))
}

/// Returns the inverse of a matrix, or `None` if it is singular or not finite.
///
/// Gauss-Jordan elimination with scaled partial pivoting. The matrix counts as singular if a pivot
/// is smaller than 1e-12 of the largest number that its row has in `a`.
pub fn inverse<const N: usize>(a: &SquareMatrix<N>) -> Option<SquareMatrix<N>> {
    let mut left = *a;
    let mut right = zero();
    for (i, row) in left.iter_mut().enumerate() {
        // Rows may differ in unit: each is scaled by its largest number.
        let size = row.iter().fold(0.0_f64, |max, v| max.max(v.abs()));
        if !(size > 0.0 && size.is_finite()) {
            return None;
        }
        for v in row.iter_mut() {
            *v /= size;
        }
        right[i][i] = 1.0 / size;
    }
    for column in 0..N {
        let pivot =
            (column..N).max_by(|a, b| left[*a][column].abs().total_cmp(&left[*b][column].abs()))?;
        if left[pivot][column].abs() < 1e-12 {
            return None;
        }
        left.swap(column, pivot);
        right.swap(column, pivot);
        let by = 1.0 / left[column][column];
        left[column].iter_mut().chain(&mut right[column]).for_each(|v| *v *= by);
        let (from_left, from_right) = (left[column], right[column]);
        for row in (0..N).filter(|row| *row != column) {
            let by = left[row][column];
            if by != 0.0 {
                for k in 0..N {
                    left[row][k] -= by * from_left[k];
                    right[row][k] -= by * from_right[k];
                }
            }
        }
    }
    right.as_flattened().iter().all(|v| v.is_finite()).then_some(right)
}

/// Returns the eigenvalues of a symmetric matrix, largest first, and its unit eigenvectors as rows.
///
/// See [`eigen_symmetric`].
pub fn eigen<const N: usize>(a: &SquareMatrix<N>) -> ([f64; N], SquareMatrix<N>) {
    let (values, vectors) = eigen_symmetric(a.as_flattened().to_vec(), N);
    (
        std::array::from_fn(|i| values[i]),
        std::array::from_fn(|i| std::array::from_fn(|j| vectors[i * N + j])),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: usize = 36;

    fn symmetric() -> SquareMatrix<N> {
        let root: SquareMatrix<N> = std::array::from_fn(|i| {
            std::array::from_fn(|j| f64::from((i * 7 + j * j * 3) as u32 % 11) - 4.0)
        });
        let mut product = zero();
        for i in 0..N {
            for j in 0..N {
                product[i][j] = (0..N).map(|k| root[i][k] * root[j][k]).sum();
            }
            product[i][i] += 1.0;
        }
        product
    }

    #[test]
    fn a_matrix_times_its_inverse_is_the_identity() {
        let a = symmetric();
        let one = product(&a, &inverse(&a).unwrap());
        for (i, row) in one.iter().enumerate() {
            for (j, v) in row.iter().enumerate() {
                assert!((v - f64::from(u8::from(i == j))).abs() < 1e-8, "{i} {j} {v}");
            }
        }
        assert_eq!(inverse::<N>(&zero()), None);
    }

    #[test]
    fn a_matrix_only_scales_its_eigenvectors() {
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
