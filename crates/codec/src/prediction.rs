//! What is known about a unit before it is read: a level and a scale class for every dimension.

use types::{FEATURE_DIMS, LEARNED_DIMS, POSE_DIMS};

use crate::entropy_model::{class_of_magnitude, expected_magnitude};
use crate::profile::{AgeModel, DimModel, MAX_LEVEL, N_AGES, WEIGHT_ONE};

/// Activity of a face that moves as it usually does.
const USUAL: u32 = 256;
const ACTIVITY_RANGE: std::ops::RangeInclusive<u32> = 16..=4096;
/// Expected magnitude, 1/256 levels, that the activity seen so far inside a unit is weighed against.
const RUN_PRIOR: u64 = 16 * 256;

/// Everything a decoded unit hands on to those that build on it, all of it integers.
///
/// A function of the unit's bytes and of its references' states alone: whatever else was lost, two
/// sides that have the reference agree on what follows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct State {
    /// Levels, counted from the profile's mean, within [`MAX_LEVEL`].
    pub(crate) levels: [i32; FEATURE_DIMS],
    /// Residual magnitudes of late over the usual ones, in 1/256.
    pub(crate) activity: [u32; FEATURE_DIMS],
}

impl State {
    /// What a key unit builds on.
    pub(crate) const REST: Self =
        Self { levels: [0; FEATURE_DIMS], activity: [USUAL; FEATURE_DIMS] };
}

/// What a unit builds on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Base<'a> {
    /// Nothing: a key unit.
    Rest,
    /// A unit `age` units ago and, for the motion up to it, one `tap` units before that.
    Reference { state: &'a State, age: u32, before: Option<(&'a State, u32)> },
}

/// The index of the predictor for a reference of this age.
pub(crate) fn age_index(age: u32) -> usize {
    match age {
        0..=4 => (age as usize).saturating_sub(1),
        5..=6 => 4,
        7..=9 => 5,
        10..=15 => 6,
        _ => N_AGES - 1,
    }
}

/// `numerator / denominator`, to the nearest, halves up.
fn rounded(numerator: i64, denominator: i64) -> i64 {
    (2 * numerator + denominator).div_euclid(2 * denominator)
}

/// The level a reference promises.
///
/// `keep / 16` of it, plus `go_on / 16` of `age` units of the motion between it and `before`.
pub(crate) fn promised_level(
    model: AgeModel,
    reference: i32,
    age: u32,
    before: Option<(i32, u32)>,
) -> i32 {
    let one = i64::from(WEIGHT_ONE);
    let kept = i64::from(reference) * i64::from(model.keep);
    let promised = match before {
        None => rounded(kept, one),
        Some((before, tap)) => {
            let motion = i64::from(reference) - i64::from(before);
            let tap = i64::from(tap.max(1));
            rounded(kept * tap + motion * i64::from(model.go_on) * i64::from(age), one * tap)
        }
    };
    promised.clamp(-i64::from(MAX_LEVEL), i64::from(MAX_LEVEL)) as i32
}

/// Walks the dimensions of one unit in order, predicting each from the base and from those before.
pub(crate) struct Predictor<'a> {
    dims: &'a [DimModel; FEATURE_DIMS],
    base: Base<'a>,
    /// Mean activity of pose, learned code and torso in the reference.
    groups: [u32; 3],
    seen: u64,
    expected: u64,
}

/// The expectation for one dimension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expectation {
    pub(crate) level: i32,
    pub(crate) class: i32,
    /// Magnitude the profile expects, 1/256 levels.
    usual: u64,
    /// The same, given the reference's activity.
    prior: u64,
}

fn group_of(dim: usize) -> usize {
    usize::from(dim >= POSE_DIMS) + usize::from(dim >= POSE_DIMS + LEARNED_DIMS)
}

impl<'a> Predictor<'a> {
    pub(crate) fn new(dims: &'a [DimModel; FEATURE_DIMS], base: Base<'a>) -> Self {
        let mut groups = [USUAL; 3];
        if let Base::Reference { state, .. } = base {
            let (mut sums, mut counts) = ([0; 3], [0; 3]);
            for (dim, activity) in state.activity.iter().enumerate() {
                sums[group_of(dim)] += activity;
                counts[group_of(dim)] += 1;
            }
            groups = std::array::from_fn(|g| sums[g] / counts[g]);
        }
        Self { dims, base, groups, seen: 0, expected: 0 }
    }

    /// What to expect of dimension `dim`.
    pub(crate) fn expect(&self, dim: usize) -> Expectation {
        let model = &self.dims[dim];
        let (level, class, activity) = match self.base {
            Base::Rest => (0, model.key_class, USUAL),
            Base::Reference { state, age, before } => {
                let age_model = &model.ages[age_index(age)];
                let before = before.map(|(state, tap)| (state.levels[dim], tap));
                let class = if before.is_some() { age_model.class } else { age_model.still_class };
                let activity = u32::midpoint(state.activity[dim], self.groups[group_of(dim)]);
                (promised_level(*age_model, state.levels[dim], age, before), class, activity)
            }
        };
        let usual = expected_magnitude(i32::from(class));
        let prior = usual * u64::from(activity) / 256;
        let class =
            class_of_magnitude(prior * (self.seen + RUN_PRIOR) / (self.expected + RUN_PRIOR));
        Expectation { level, class, usual, prior }
    }

    /// Learns what came of an expectation; returns the dimension's activity after this unit.
    pub(crate) fn learn(&mut self, dim: usize, expectation: &Expectation, residual: i32) -> u32 {
        let magnitude = u64::from(residual.unsigned_abs()) * 256;
        // One wild number must not speak for all that follow.
        self.seen += magnitude.min(4 * expectation.prior.max(256));
        self.expected += expectation.prior;
        let before = match self.base {
            Base::Rest => return USUAL,
            Base::Reference { state, .. } => state.activity[dim],
        };
        let now = (magnitude * 256 / expectation.usual).min(u64::from(*ACTIVITY_RANGE.end()));
        ((7 * before + now as u32) / 8).clamp(*ACTIVITY_RANGE.start(), *ACTIVITY_RANGE.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_motion_goes_on_as_far_as_the_weight_says() {
        let model = |keep, go_on| AgeModel { keep, go_on, class: 0, still_class: 0 };
        for (keep, go_on, reference, age, before, want) in [
            (16, 0, 10, 1, Some((4, 1)), 10),
            (16, 16, 10, 1, Some((4, 1)), 16),
            (16, 8, 10, 2, Some((4, 3)), 12),
            (16, 16, -10, 1, Some((-4, 1)), -16),
            (8, 0, 10, 1, None, 5),
            (8, 0, -9, 1, None, -4), // halves go up
            (16, 16, MAX_LEVEL, 32, Some((-MAX_LEVEL, 1)), MAX_LEVEL),
        ] {
            assert_eq!(promised_level(model(keep, go_on), reference, age, before), want);
        }
    }
}
