/// Cholesky factor `L` of a symmetric positive definite matrix `A = L Lᵀ`.
///
/// # Source
/// Golub, Van Loan, "Matrix Computations", 4th edition, section 4.2.
#[derive(Clone, Debug, Default)]
pub struct Cholesky {
    n: usize,
    /// `[n, n]`, row-major; only the lower triangle is read.
    factor: Vec<f64>,
}

impl Cholesky {
    /// Factorizes a row-major `[n, n]` matrix, of which only the lower triangle is read.
    ///
    /// Returns `None` if the matrix is not positive definite.
    ///
    /// # Panics
    /// If `matrix` holds fewer than `n * n` numbers.
    pub fn new(matrix: Vec<f64>, n: usize) -> Option<Self> {
        let mut cholesky = Self { n, factor: matrix };
        cholesky.factorize()?;
        Some(cholesky)
    }

    /// Replaces the factor by that of another `[n, n]` matrix, reusing the memory.
    ///
    /// `element(row, column)` returns an element of the lower triangle of the matrix. Returns
    /// `None` if the matrix is not positive definite; the factor is then meaningless.
    pub fn refactor(&mut self, n: usize, element: impl Fn(usize, usize) -> f64) -> Option<()> {
        self.n = n;
        self.factor.resize(n * n, 0.0);
        for i in 0..n {
            for j in 0..=i {
                self.factor[i * n + j] = element(i, j);
            }
        }
        self.factorize()
    }

    fn factorize(&mut self) -> Option<()> {
        let (a, n) = (&mut self.factor, self.n);
        for i in 0..n {
            for j in 0..=i {
                let (upper, lower) = a.split_at(i * n);
                let (row_i, row_j) =
                    (&lower[..j], if j < i { &upper[j * n..j * n + j] } else { &lower[..j] });
                let sum = dot(row_i, row_j);
                let rest = a[i * n + j] - sum;
                a[i * n + j] = if i == j {
                    if rest <= 0.0 || !rest.is_finite() {
                        return None;
                    }
                    rest.sqrt()
                } else {
                    rest / a[j * n + j]
                };
            }
        }
        Some(())
    }

    /// Solves `A x = b` in place: `b`, of length `n`, becomes `x`.
    ///
    /// # Panics
    /// If `b` holds fewer than `n` numbers.
    pub fn solve(&self, b: &mut [f64]) {
        let n = self.n;
        for i in 0..n {
            let sum = dot(&self.factor[i * n..i * n + i], &b[..i]);
            b[i] = (b[i] - sum) / self.factor[i * n + i];
        }
        for i in (0..n).rev() {
            let x = b[i] / self.factor[i * n + i];
            b[i] = x;
            for (value, l) in b[..i].iter_mut().zip(&self.factor[i * n..i * n + i]) {
                *value -= l * x;
            }
        }
    }

    /// Returns the product `L v`; `v` has length `n`.
    ///
    /// # Panics
    /// If `v` holds fewer than `n` numbers.
    pub fn lower_times(&self, v: &[f64]) -> Vec<f64> {
        (0..self.n).map(|i| dot(&self.factor[i * self.n..=i * self.n + i], &v[..=i])).collect()
    }

    /// Returns the product `Lᵀ v`; `v` has length `n`.
    ///
    /// # Panics
    /// If `v` holds fewer than `n` numbers.
    pub fn upper_times(&self, v: &[f64]) -> Vec<f64> {
        (0..self.n).map(|i| (i..self.n).map(|k| self.factor[k * self.n + i] * v[k]).sum()).collect()
    }
}

/// Dot product, summed in four lanes; the order of the sum is fixed.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<4>();
    let (b, b_rest) = b.as_chunks::<4>();
    let mut lanes = [0.0; 4];
    for (a, b) in a.iter().zip(b) {
        (0..4).for_each(|i| lanes[i] += a[i] * b[i]);
    }
    lanes.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_solution_satisfies_its_equations() {
        let n = 9;
        let a: Vec<f64> =
            (0..n * n)
                .map(|i: usize| {
                    if i / n == i % n { 3.0 } else { 1.0 / (1.0 + (i / n).abs_diff(i % n) as f64) }
                })
                .collect();
        let x: Vec<f64> = (0..n).map(|i| i as f64 - 3.5).collect();
        let b: Vec<f64> = (0..n).map(|i| (0..n).map(|j| a[i * n + j] * x[j]).sum()).collect();
        let factor = Cholesky::new(a, n).unwrap();
        let mut solved = b.clone();
        factor.solve(&mut solved);
        assert!(solved.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-12));
        // L (Lᵀ x) = A x = b.
        let product = factor.lower_times(&factor.upper_times(&x));
        assert!(product.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    #[test]
    fn an_indefinite_matrix_has_no_factor() {
        assert!(Cholesky::new(vec![1.0, 2.0, 2.0, 1.0], 2).is_none());
    }
}
