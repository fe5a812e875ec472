//! The Adam optimizer for flat arrays with a learning rate for each group of parameters.

use std::ops::Range;

use rayon::prelude::*;

/// Decay rate of the first moment.
const BETA1: f32 = 0.9;
/// Decay rate of the second moment.
const BETA2: f32 = 0.99;
/// Far below any relevant second moment, so that rarely visible texels still learn.
const EPSILON: f32 = 1e-10;
/// Parameters updated by one parallel task.
const CHUNK: usize = 1 << 14;

/// Range of parameters that share learning rates.
#[derive(Clone, Debug)]
pub struct ParameterGroup {
    /// Indices into the parameter array.
    pub range: Range<usize>,
    /// Learning rates of successive parameters, repeated along the range: one rate for all, or one
    /// for each channel of a texel. Not empty.
    pub rates: Vec<f32>,
}

/// State of the Adam optimizer for one flat array of parameters.
///
/// The moments decay with 0.9 and 0.99; epsilon is 1e-10, so that texels that are rarely visible
/// still learn.
///
/// # Source
/// Kingma & Ba 2015, "Adam" (arXiv:1412.6980), algorithm 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adam {
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
    /// Steps taken so far.
    pub steps: u32,
}

impl Adam {
    /// Creates the state for `len` parameters, all moments zero.
    pub fn new(len: usize) -> Self {
        Self { first: vec![0.0; len], second: vec![0.0; len], steps: 0 }
    }

    /// Takes one step: moves `params` against `grads`, each group at its rates times `factor`.
    ///
    /// Parameters in no group stay as they are.
    ///
    /// # Panics
    /// If a group has no rates, or its range exceeds `params`, `grads` or the length given to
    /// [`Adam::new`].
    pub fn step(
        &mut self,
        params: &mut [f32],
        grads: &[f32],
        groups: &[ParameterGroup],
        factor: f32,
    ) {
        self.steps += 1;
        let steps = self.steps.min(100_000) as i32;
        let first_scale = 1.0 / (1.0 - BETA1.powi(steps));
        let second_scale = 1.0 / (1.0 - BETA2.powi(steps));
        for ParameterGroup { range, rates } in groups {
            // A multiple of the number of channels, so that every chunk starts with the first rate.
            let chunk = CHUNK / rates.len() * rates.len();
            let scaled: Vec<f32> = rates.iter().map(|r| r * factor * first_scale).collect();
            params[range.clone()]
                .par_chunks_mut(chunk)
                .zip(self.first[range.clone()].par_chunks_mut(chunk))
                .zip(self.second[range.clone()].par_chunks_mut(chunk))
                .zip(grads[range.clone()].par_chunks(chunk))
                .for_each(|(((params, first), second), grads)| {
                    let update = |rate: f32, p: &mut f32, m: &mut f32, v: &mut f32, g: f32| {
                        *m += (1.0 - BETA1) * (g - *m);
                        *v += (1.0 - BETA2) * (g * g - *v);
                        *p -= rate * *m / ((*v * second_scale).sqrt() + EPSILON);
                    };
                    let all = params.iter_mut().zip(first).zip(second).zip(grads);
                    if let [rate] = scaled[..] {
                        all.for_each(|(((p, m), v), g)| update(rate, p, m, v, *g));
                    } else {
                        all.zip(scaled.iter().cycle())
                            .for_each(|((((p, m), v), g), rate)| update(*rate, p, m, v, *g));
                    }
                });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adam_minimizes_a_quadratic_at_the_rates_of_each_group() {
        let mut params = vec![1.0_f32; 4];
        let groups = [
            ParameterGroup { range: 0..2, rates: vec![0.05] },
            ParameterGroup { range: 2..4, rates: vec![0.05, 0.0] },
        ];
        let mut adam = Adam::new(4);
        for _ in 0..300 {
            let grads: Vec<f32> = params.iter().map(|p| 2.0 * (p - 0.3)).collect();
            adam.step(&mut params, &grads, &groups, 1.0);
        }
        assert!((params[0] - 0.3).abs() < 0.02 && (params[2] - 0.3).abs() < 0.02);
        assert_eq!(params[3].to_bits(), 1.0_f32.to_bits());
    }
}
