/// Returns the eigenvalues, largest first, and the unit eigenvectors of a symmetric matrix.
///
/// `matrix` is row-major, `[n, n]`. Returns `n` eigenvalues and `[n, n]` eigenvectors, row `k`
/// belonging to eigenvalue `k`. Accurate to rounding; meant for `n` up to a few hundred.
///
/// # Source
/// Cyclic Jacobi rotations: Golub, Van Loan, "Matrix Computations", 4th edition, section 8.5.
///
/// # Panics
/// If `matrix` does not hold `n * n` numbers.
pub fn eigen_symmetric(mut matrix: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    assert_eq!(matrix.len(), n * n, "a symmetric matrix is square");
    let m = &mut matrix;
    let mut v: Vec<f64> = (0..n * n).map(|i| f64::from(u8::from(i / n == i % n))).collect();
    for _ in 0..SWEEPS {
        for p in 0..n {
            for q in p + 1..n {
                if m[p * n + q] == 0.0 {
                    continue;
                }
                let theta = (m[q * n + q] - m[p * n + p]) / (2.0 * m[p * n + q]);
                let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let c = 1.0 / t.hypot(1.0);
                let s = t * c;
                for k in 0..n {
                    let (a, b) = (m[k * n + p], m[k * n + q]);
                    (m[k * n + p], m[k * n + q]) = (c * a - s * b, s * a + c * b);
                }
                for k in 0..n {
                    let (a, b) = (m[p * n + k], m[q * n + k]);
                    (m[p * n + k], m[q * n + k]) = (c * a - s * b, s * a + c * b);
                    let (a, b) = (v[p * n + k], v[q * n + k]);
                    (v[p * n + k], v[q * n + k]) = (c * a - s * b, s * a + c * b);
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| m[b * n + b].total_cmp(&m[a * n + a]));
    let values = order.iter().map(|&i| m[i * n + i]).collect();
    let vectors = order.iter().flat_map(|&i| v[i * n..(i + 1) * n].iter().copied()).collect();
    (values, vectors)
}

/// Convergence is quadratic: about ten sweeps reach rounding errors; the others are a reserve for
/// matrices whose rows differ by many orders of magnitude.
const SWEEPS: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_the_sum_of_its_eigenvalues_times_their_vectors() {
        let n = 7;
        let m: Vec<f64> =
            (0..n * n).map(|i| 1.0 / (1.0 + (i / n) as f64 + (i % n) as f64)).collect();
        let (values, vectors) = eigen_symmetric(m.clone(), n);
        assert!(values.is_sorted_by(|a, b| a >= b));
        for i in 0..n * n {
            let sum: f64 =
                (0..n).map(|k| values[k] * vectors[k * n + i / n] * vectors[k * n + i % n]).sum();
            assert!((sum - m[i]).abs() < 1e-12, "element {i}");
        }
    }
}
