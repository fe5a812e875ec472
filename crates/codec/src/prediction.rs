//! What is known about a unit before it is read: a position and a scale class for every component.

use types::{FEATURE_DIMS, Rate};

use crate::bends::Halving;
use crate::entropy_model::{LEVEL, class_of_magnitude, expected_magnitude};
use crate::profile::{AgeModel, ComponentModel, MAX_POSITION, N_AGES, PARTS, Profile, WEIGHT_ONE};

/// Activity of a face that moves as it usually does.
const USUAL: u32 = 256;
const ACTIVITY_RANGE: std::ops::RangeInclusive<u32> = 16..=4096;
/// Expected magnitude, 1/4096 levels, that the activity seen so far inside a unit is weighed against.
const RUN_PRIOR: u64 = 6 * LEVEL;
/// What a unit may be taken to be livelier than expected, at most, in 1/65536.
const MAX_RATIO: u64 = 1 << 24;

/// Everything a decoded unit hands on to those that build on it, all of it integers.
///
/// A function of the unit's bytes and of its references' states alone: whatever else was lost, two
/// sides that have the reference agree on what follows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct State {
    /// How the unit was coded.
    pub(crate) rate: Rate,
    /// Positions, in parts of the profile's scale from the mean, within [`MAX_POSITION`].
    pub(crate) positions: [i32; FEATURE_DIMS],
    /// Residual magnitudes of late over the usual ones, in 1/256.
    pub(crate) activity: [u32; FEATURE_DIMS],
    /// The same of bends, in units that had any.
    pub(crate) bend_activity: [u32; FEATURE_DIMS],
    /// Whether the way to this unit bends.
    pub(crate) bends: bool,
}

impl State {
    /// What a key unit builds on.
    pub(crate) fn rest(rate: Rate) -> Self {
        let activity = [USUAL; FEATURE_DIMS];
        let positions = [0; FEATURE_DIMS];
        Self { rate, positions, activity, bend_activity: activity, bends: false }
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

/// What a unit builds on says of each of its components.
pub(crate) struct Predictor<'a> {
    components: &'a [ComponentModel],
    base: Base<'a>,
    rate: Rate,
    /// Mean activities of the reference's components, of residuals and of bends.
    group: u32,
    bend_group: u32,
}

/// Magnitudes inside a unit so far, of residuals or of bends, and what they were expected to be,
/// 1/4096 levels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    seen: u64,
    expected: u64,
    /// Of the two, in 1/65536.
    ratio: u64,
}

impl Default for Run {
    fn default() -> Self {
        Self { seen: RUN_PRIOR, expected: RUN_PRIOR, ratio: 1 << 16 }
    }
}

impl Run {
    /// The class of what is expected to be so large, given how the unit went so far.
    pub(crate) fn class(self, scale: &Scale) -> i32 {
        // Below 2^34 and 2^24, whatever a hostile profile expects.
        class_of_magnitude((scale.prior * self.ratio) >> 16)
    }

    /// Learns what came of what was expected to be so large.
    pub(crate) fn learn(&mut self, magnitude: u64, scale: &Scale) {
        // One wild number must not speak for all that follow.
        self.seen += magnitude.min(4 * scale.prior.max(LEVEL));
        self.expected += scale.prior;
        self.ratio = ((self.seen << 16) / self.expected).min(MAX_RATIO);
    }
}

/// How large a residual or a bend is expected to be, 1/4096 levels.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scale {
    /// As the profile has it.
    usual: u64,
    /// As the reference has it.
    prior: u64,
}

impl Scale {
    /// What the profile gives `class`, in levels of `step`, times the activity, in 1/256.
    fn new(class: u8, step: i32, activity: u32) -> Self {
        let finer = expected_magnitude(i32::from(class)) * PARTS as u64;
        let usual = (finer / step as u64).max(1);
        Self { usual, prior: usual * u64::from(activity) / 256 }
    }

    /// How much larger this is than usual, 1/256.
    fn activity_of(&self, magnitude: u64) -> u32 {
        activity(magnitude, self.usual)
    }
}

/// The expectation for one component.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expectation {
    pub(crate) position: i32,
    pub(crate) scale: Scale,
}

/// What came of the bends of one component, 1/4096 levels.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bent {
    magnitude: u64,
    usual: u64,
}

impl Bent {
    /// Learns what came of an expected bend.
    pub(crate) fn learn(&mut self, magnitude: u64, scale: &Scale) {
        self.magnitude += magnitude;
        self.usual += scale.usual;
    }
}

impl<'a> Predictor<'a> {
    pub(crate) fn new(profile: &'a Profile, base: Base<'a>, rate: Rate) -> Self {
        let components = profile.components();
        let n = components.len();
        let mean = |activity: &[u32]| activity[..n].iter().sum::<u32>() / n as u32;
        let (group, bend_group) = match base {
            Base::Rest => (USUAL, USUAL),
            Base::Reference { state, .. } => (mean(&state.activity), mean(&state.bend_activity)),
        };
        Self { components, base, rate, group, bend_group }
    }

    /// Whether the face has moved less than half as much as usual of late: more of that is the tracker's
    /// noise than a motion.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.group < USUAL / 2
    }

    /// What to expect of component `k`.
    pub(crate) fn expect(&self, k: usize) -> Expectation {
        let model = &self.components[k];
        let (position, class, activity) = match self.base {
            Base::Rest => (0, model.key_class, USUAL),
            Base::Reference { state, age, before } => {
                let ticks = age * self.rate.parameters().unit_interval;
                let age_model = &model.ages[age_index(ticks)];
                let before = before.map(|(before, tap)| {
                    (before.positions[k], tap * state.rate.parameters().unit_interval)
                });
                let class = if before.is_some() { age_model.class } else { age_model.still_class };
                let activity = u32::midpoint(state.activity[k], self.group);
                (promised(*age_model, state.positions[k], ticks, before), class, activity)
            }
        };
        Expectation { position, scale: Scale::new(class, self.rate.parameters().step(), activity) }
    }

    /// What to expect of a bend of component `k` whose residual was so large.
    pub(crate) fn expect_bend(
        &self,
        k: usize,
        halving: Halving,
        expectation: &Expectation,
        residual: u64,
    ) -> Scale {
        let [short, long] = self.components[k].bend_classes;
        let class = if halving.ticks(self.rate) > 2 { long } else { short };
        let now = expectation.scale.activity_of(residual);
        let activity = (self.bend_activity(k) + self.bend_group + now) / 3;
        Scale::new(class, self.rate.parameters().midpoint_step, activity)
    }

    /// The activity of component `k` after a unit in which its residual was so large.
    pub(crate) fn activity_after(&self, k: usize, expectation: &Expectation, residual: u64) -> u32 {
        match self.base {
            Base::Rest => USUAL,
            Base::Reference { state, .. } => {
                followed(state.activity[k], expectation.scale.activity_of(residual))
            }
        }
    }

    /// The activity of component `k`'s bends after a unit that has some.
    pub(crate) fn bend_activity_after(&self, k: usize, bent: Bent) -> u32 {
        followed(self.bend_activity(k), activity(bent.magnitude, bent.usual))
    }

    /// The activity of component `k`'s bends so far.
    pub(crate) fn bend_activity(&self, k: usize) -> u32 {
        match self.base {
            Base::Rest => USUAL,
            Base::Reference { state, .. } => state.bend_activity[k],
        }
    }
}

/// How large so many levels are, 1/4096 of one.
pub(crate) fn of_levels(levels: i32) -> u64 {
    u64::from(levels.unsigned_abs()) * LEVEL
}

/// How large so many half steps are, 1/4096 of a level.
pub(crate) fn of_half_steps(half_steps: i32) -> u64 {
    u64::from(half_steps.unsigned_abs()) * (LEVEL / 2)
}

fn activity(magnitude: u64, usual: u64) -> u32 {
    (magnitude * 256 / usual.max(1)).min(u64::from(*ACTIVITY_RANGE.end())) as u32
}

/// Activity that was `before`, after a unit in which it was `now`.
fn followed(before: u32, now: u32) -> u32 {
    ((7 * before + now) / 8).clamp(*ACTIVITY_RANGE.start(), *ACTIVITY_RANGE.end())
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
