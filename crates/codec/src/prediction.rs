//! What is known about a unit before it is read: a position and a scale class for every component.

use types::FEATURE_DIMS;

use crate::Quality;
use crate::entropy_model::{LEVEL, class_of_magnitude, expected_magnitude};
use crate::profile::{AgeModel, ComponentModel, MAX_POSITION, N_AGES, PARTS, Profile, WEIGHT_ONE};

/// Activity of a face that moves as it usually does.
const USUAL: u32 = 256;
const ACTIVITY_RANGE: std::ops::RangeInclusive<u32> = 16..=4096;
/// Expected magnitude, 1/4096 levels, that the activity seen so far inside a unit is weighed against.
const RUN_PRIOR: u64 = 6 * LEVEL;

/// Everything a decoded unit hands on to those that build on it, all of it integers.
///
/// A function of the unit's bytes and of its references' states alone: whatever else was lost, two
/// sides that have the reference agree on what follows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct State {
    /// How the unit was coded.
    pub(crate) quality: Quality,
    /// Positions, in parts of a level from the mean, within [`MAX_POSITION`].
    pub(crate) positions: [i32; FEATURE_DIMS],
    /// Residual magnitudes of late over the usual ones, in 1/256.
    pub(crate) activity: [u32; FEATURE_DIMS],
}

impl State {
    /// What a key unit builds on.
    pub(crate) fn rest(quality: Quality) -> Self {
        Self { quality, positions: [0; FEATURE_DIMS], activity: [USUAL; FEATURE_DIMS] }
    }
}

/// What a unit builds on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Base<'a> {
    /// Nothing: a key unit.
    Rest,
    /// A unit `age` units ago and, for the motion up to it, one `tap` units before that.
    Reference { state: &'a State, age: u32, before: Option<(&'a State, u32)> },
}

/// The index of the predictor for a reference this long ago, in 25ths of a second.
pub(crate) fn age_index(ticks: u32) -> usize {
    match ticks {
        0..=2 => (ticks as usize).saturating_sub(1),
        3..=4 => 2,
        5..=8 => 3,
        9..=16 => 4,
        _ => N_AGES - 1,
    }
}

/// `numerator / denominator`, to the nearest, halves up.
fn rounded(numerator: i64, denominator: i64) -> i64 {
    (2 * numerator + denominator).div_euclid(2 * denominator)
}

/// The position a reference promises.
///
/// `keep / 16` of it, plus `go_on / 16` of the motion between it and `before`, which is so many
/// ticks earlier, over `ticks`.
pub(crate) fn promised(
    model: AgeModel,
    reference: i32,
    ticks: u32,
    before: Option<(i32, u32)>,
) -> i32 {
    let one = i64::from(WEIGHT_ONE);
    let kept = i64::from(reference) * i64::from(model.keep);
    let promised = match before {
        None => rounded(kept, one),
        Some((before, earlier)) => {
            let motion = i64::from(reference) - i64::from(before);
            let earlier = i64::from(earlier.max(1));
            let gone = motion * i64::from(model.go_on) * i64::from(ticks);
            rounded(kept * earlier + gone, one * earlier)
        }
    };
    promised.clamp(-i64::from(MAX_POSITION), i64::from(MAX_POSITION)) as i32
}

/// Walks the components of one unit in order, predicting each from the base and those before.
pub(crate) struct Predictor<'a> {
    components: &'a [ComponentModel],
    base: Base<'a>,
    quality: Quality,
    /// Mean activity of the reference's components.
    group: u32,
    seen: u64,
    expected: u64,
}

/// The expectation for one component.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expectation {
    pub(crate) position: i32,
    pub(crate) class: i32,
    /// Magnitude the profile expects, 1/4096 levels.
    usual: u64,
    /// The same, given the reference's activity.
    prior: u64,
}

impl<'a> Predictor<'a> {
    pub(crate) fn new(profile: &'a Profile, base: Base<'a>, quality: Quality) -> Self {
        let components = profile.components();
        let group = match base {
            Base::Rest => USUAL,
            Base::Reference { state, .. } => {
                let n = components.len();
                state.activity[..n].iter().sum::<u32>() / n as u32
            }
        };
        Self { components, base, quality, group, seen: 0, expected: 0 }
    }

    /// What to expect of component `k`.
    pub(crate) fn expect(&self, k: usize) -> Expectation {
        let model = &self.components[k];
        let (position, class, activity) = match self.base {
            Base::Rest => (0, model.key_class, USUAL),
            Base::Reference { state, age, before } => {
                let ticks = age * self.quality.ticks();
                let age_model = &model.ages[age_index(ticks)];
                let before =
                    before.map(|(before, tap)| (before.positions[k], tap * state.quality.ticks()));
                let class = if before.is_some() { age_model.class } else { age_model.still_class };
                let activity = u32::midpoint(state.activity[k], self.group);
                (promised(*age_model, state.positions[k], ticks, before), class, activity)
            }
        };
        let finer = expected_magnitude(i32::from(class)) * PARTS as u64;
        let usual = (finer / self.quality.step() as u64).max(1);
        let prior = usual * u64::from(activity) / 256;
        let class =
            class_of_magnitude(prior * (self.seen + RUN_PRIOR) / (self.expected + RUN_PRIOR));
        Expectation { position, class, usual, prior }
    }

    /// Learns what came of an expectation; returns the component's activity after this unit.
    pub(crate) fn learn(&mut self, k: usize, expectation: &Expectation, residual: i32) -> u32 {
        let magnitude = u64::from(residual.unsigned_abs()) * LEVEL;
        // One wild number must not speak for all that follow.
        self.seen += magnitude.min(4 * expectation.prior.max(LEVEL));
        self.expected += expectation.prior;
        let before = match self.base {
            Base::Rest => return USUAL,
            Base::Reference { state, .. } => state.activity[k],
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
        for (keep, go_on, reference, ticks, before, want) in [
            (16, 0, 10, 1, Some((4, 1)), 10),
            (16, 16, 10, 1, Some((4, 1)), 16),
            (16, 8, 10, 2, Some((4, 3)), 12),
            (16, 16, -10, 1, Some((-4, 1)), -16),
            (8, 0, 10, 1, None, 5),
            (8, 0, -9, 1, None, -4), // halves go up
            (16, 16, MAX_POSITION, 128, Some((-MAX_POSITION, 1)), MAX_POSITION),
        ] {
            assert_eq!(promised(model(keep, go_on), reference, ticks, before), want);
        }
    }
}
