//! Ridge regression with few inputs.

/// Fits each output as a linear function of the inputs, both relative to their means; returns the
/// weights, `[inputs][outputs]`.
///
/// `inputs` and `outputs` are `[samples][numbers]`. Solves `(XᵀX + ridge · mean(diag XᵀX) · I) W = XᵀY`.
pub(crate) fn regress(inputs: &[Vec<f64>], outputs: &[Vec<f64>], ridge: f64) -> Vec<Vec<f64>> {
    let n_in = inputs.first().map_or(0, Vec::len);
    let n_out = outputs.first().map_or(0, Vec::len);
    let (x_mean, y_mean) = (mean(inputs, n_in), mean(outputs, n_out));
    // The matrix, followed in each row by the right-hand sides.
    let mut rows = vec![vec![0.0; n_in + n_out]; n_in];
    for (x, y) in inputs.iter().zip(outputs) {
        for i in 0..n_in {
            let xi = x[i] - x_mean[i];
            for j in 0..n_in {
                rows[i][j] += xi * (x[j] - x_mean[j]);
            }
            for j in 0..n_out {
                rows[i][n_in + j] += xi * (y[j] - y_mean[j]);
            }
        }
    }
    let trace: f64 = (0..n_in).map(|i| rows[i][i]).sum();
    let more = ridge * trace / n_in.max(1) as f64 + 1e-12;
    for (i, row) in rows.iter_mut().enumerate() {
        row[i] += more;
    }
    // Gauss-Jordan elimination without pivoting; the matrix is positive definite.
    for i in 0..n_in {
        let scale = 1.0 / rows[i][i];
        rows[i].iter_mut().for_each(|v| *v *= scale);
        let pivot = rows[i].clone();
        for (j, row) in rows.iter_mut().enumerate() {
            if j != i {
                let factor = row[i];
                row.iter_mut().zip(&pivot).for_each(|(v, p)| *v -= factor * p);
            }
        }
    }
    rows.into_iter().map(|row| row[n_in..].to_vec()).collect()
}

fn mean(samples: &[Vec<f64>], n: usize) -> Vec<f64> {
    let mut sum = vec![0.0; n];
    for sample in samples {
        sum.iter_mut().zip(sample).for_each(|(s, v)| *s += v / samples.len() as f64);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_of_a_linear_function_are_recovered() {
        let inputs: Vec<Vec<f64>> =
            (0..20).map(|i| vec![f64::from(i), f64::from(i * i % 7)]).collect();
        let outputs: Vec<Vec<f64>> = inputs.iter().map(|x| vec![2.0 * x[0] - x[1] + 5.0]).collect();
        let weights = regress(&inputs, &outputs, 1e-9);
        assert!((weights[0][0] - 2.0).abs() < 1e-4 && (weights[1][0] + 1.0).abs() < 1e-4);
    }
}
