//! What codes will cost on the wire, while they are learned.

use types::LEARNED_DIMS;

use crate::observing::Seen;

/// Time between two units at the codec's normal quality, microseconds.
const UNIT: u64 = 80_000;
/// The frame of a time is this far from it at most, microseconds.
const NEAR: u64 = 20_000;
/// A quantizer step of a learned number, in its standard deviations, at normal quality.
pub(crate) const STEP: f32 = 1.0 / 3.0;
/// What a bit is worth in squared error of the rays learned from. Measured on `dfrf_cnn2` and
/// `edtalk_obama`: four times as much costs more quality than it saves bits, a quarter saves none.
const LAMBDA: f32 = 4e-6;

/// The rate term of the loss: `LAMBDA · Σ ½ log2(1 + (step to the unit before or after / q)²)`, the
/// bits that independent Gaussian innovations of that size take in steps of `q`.
///
/// What each frame's code has of its own costs bits; what neighbors share does not. So the field
/// learns to say with a code that moves smoothly what such a code can say (rate-distortion loss as
/// in Ballé et al. 2018, arXiv:1802.01436, equation 1).
pub(crate) struct RateTerm {
    /// For each frame those of the units before and after it, as far as there are any.
    neighbors: Vec<Vec<usize>>,
}

impl RateTerm {
    /// For the frames learned from, which are in order of time.
    pub(crate) fn new(train: &[Seen]) -> Self {
        let times: Vec<u64> = train.iter().map(|s| s.observation.time.as_micros()).collect();
        Self { neighbors: neighbors(&times) }
    }

    /// Adds the gradient with respect to the code of frame `at`, of which `code` says what it is now,
    /// and `code_of` what the others are. `deviations` are those of each number.
    pub(crate) fn add_gradient(
        &self,
        at: usize,
        code: &[f32; LEARNED_DIMS],
        code_of: impl Fn(usize) -> [f32; LEARNED_DIMS],
        deviations: &[f32; LEARNED_DIMS],
        gradient: &mut [f32; LEARNED_DIMS],
    ) {
        for &neighbor in &self.neighbors[at] {
            let other = code_of(neighbor);
            for (d, g) in gradient.iter_mut().enumerate() {
                let (step, q) = (code[d] - other[d], STEP * deviations[d]);
                *g += LAMBDA * std::f32::consts::LOG2_E * step / (q * q + step * step).max(1e-12);
            }
        }
    }
}

/// For each time the indices of those one unit before and after.
fn neighbors(times: &[u64]) -> Vec<Vec<usize>> {
    let at = |time: u64| {
        let after = times.partition_point(|t| *t < time);
        (after.saturating_sub(1)..times.len().min(after + 1))
            .filter(|i| times[*i].abs_diff(time) <= NEAR)
            .min_by_key(|i| times[*i].abs_diff(time))
    };
    let around = |time: u64| [time.checked_sub(UNIT), Some(time + UNIT)];
    times.iter().map(|t| around(*t).into_iter().flatten().filter_map(at).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbors_are_a_unit_away_in_time_whatever_the_frames_do() {
        let at_25 = [0, 40, 80, 120, 200].map(|ms| ms * 1000);
        assert_eq!(neighbors(&at_25), [vec![2], vec![3], vec![0], vec![1, 4], vec![3]]);
        let at_30: Vec<u64> = (0..5).map(|i| i * 33_333).collect();
        assert_eq!(neighbors(&at_30), [vec![2], vec![3], vec![4], vec![1], vec![2]]);
    }

    #[test]
    fn the_gradient_is_that_of_the_bits() {
        let term = RateTerm { neighbors: vec![vec![], vec![], vec![], vec![1, 4]] };
        let others = |i: usize| [0.1 * i as f32; LEARNED_DIMS];
        let deviations: [f32; LEARNED_DIMS] = std::array::from_fn(|d| 0.2 + 0.05 * d as f32);
        let bits = |code: &[f32; LEARNED_DIMS]| -> f64 {
            [1, 4]
                .iter()
                .flat_map(|i| (0..LEARNED_DIMS).map(move |d| (d, code[d] - others(*i)[d])))
                .map(|(d, step)| f64::from(step / (STEP * deviations[d])))
                .map(|ratio| 0.5 * (1.0 + ratio * ratio).log2())
                .sum()
        };
        let code: [f32; LEARNED_DIMS] = std::array::from_fn(|d| 0.3 - 0.04 * d as f32);
        let mut got = [0.0; LEARNED_DIMS];
        term.add_gradient(3, &code, others, &deviations, &mut got);
        for d in 0..LEARNED_DIMS {
            let nudged = |by: f32| {
                let mut code = code;
                code[d] += by;
                bits(&code)
            };
            let want = f64::from(LAMBDA) * (nudged(1e-3) - nudged(-1e-3)) / 2e-3;
            let got = f64::from(got[d]);
            assert!(
                (got - want).abs() < 1e-3 * f64::from(LAMBDA) + 0.01 * want.abs(),
                "{d}: {got} {want}"
            );
        }
    }
}
