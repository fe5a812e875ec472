//! Adam over flat arrays, a learning rate for each group of numbers.

use std::ops::Range;

use rayon::prelude::*;

/// Decay of the first moment.
const BETA1: f32 = 0.9;
/// Decay of the second moment.
const BETA2: f32 = 0.99;
/// Far below any second moment that matters: rarely seen texels still move.
const EPSILON: f32 = 1e-10;
/// Numbers updated by one task.
const CHUNK: usize = 1 << 14;

/// Numbers that learn at the same rate.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) range: Range<usize>,
    /// Rates of successive channels, repeated along the range.
    pub(crate) rates: Vec<f32>,
}

/// Moments of the gradient (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Adam {
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
    pub(crate) steps: u32,
}

impl Adam {
    pub(crate) fn new(len: usize) -> Self {
        Self { first: vec![0.0; len], second: vec![0.0; len], steps: 0 }
    }

    /// Moves `params` against `grads`, each group by its rates times `factor`.
    pub(crate) fn step(
        &mut self,
        params: &mut [f32],
        grads: &[f32],
        groups: &[Group],
        factor: f32,
    ) {
        self.steps += 1;
        let steps = self.steps.min(100_000) as i32;
        let first_scale = 1.0 / (1.0 - BETA1.powi(steps));
        let second_scale = 1.0 / (1.0 - BETA2.powi(steps));
        for Group { range, rates } in groups {
            // A chunk is a multiple of the channels, so that each starts with the first rate.
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
    fn adam_finds_the_bottom_of_a_bowl_at_each_groups_pace() {
        let mut params = vec![1.0_f32; 4];
        let groups = [
            Group { range: 0..2, rates: vec![0.05] },
            Group { range: 2..4, rates: vec![0.05, 0.0] },
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
