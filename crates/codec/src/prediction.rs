//! What is known about a unit before it is read: a predicted position and an expected magnitude
//! of the residual for every component.

use types::{FEATURE_DIMS, Rate};

use crate::entropy_model::{LEVEL, class_of_magnitude, expected_magnitude};
use crate::midpoints::Midpoint;
use crate::profile::{AgeModel, ComponentModel, MAX_POSITION, N_AGES, PARTS, Profile, WEIGHT_ONE};

/// Activity of a component whose residuals are as large as the profile expects, in 1/256.
const NOMINAL_ACTIVITY: u32 = 256;
const ACTIVITY_RANGE: std::ops::RangeInclusive<u32> = 16..=4096;
/// Weight of the assumption that a unit's residuals are as large as expected, as a magnitude in
/// 1/4096 levels.
const RATIO_PRIOR: u64 = 6 * LEVEL;
/// Largest [`MagnitudeRatio`], in 1/65536.
const MAX_RATIO: u64 = 1 << 24;

/// Decoder state after a unit: everything that later units can reference, all of it integers.
///
/// It depends only on the unit's bytes and on the states of its references, so two peers that
/// share the references agree on it, whatever else was lost.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct UnitState {
    /// Rate at which the unit was coded.
    pub(crate) rate: Rate,
    /// Positions of the components, in parts from the mean, within [`MAX_POSITION`].
    pub(crate) positions: [i32; FEATURE_DIMS],
    /// Recent residual magnitudes relative to those the profile expects, in 1/256.
    pub(crate) activity: [u32; FEATURE_DIMS],
    /// As `activity`, for midpoint residuals; updated by units that code any.
    pub(crate) midpoint_activity: [u32; FEATURE_DIMS],
    /// Whether the unit codes midpoint residuals.
    pub(crate) has_midpoints: bool,
}

impl UnitState {
    /// Returns the state that a key unit starts from: the mean, at nominal activity.
    pub(crate) fn rest(rate: Rate) -> Self {
        let activity = [NOMINAL_ACTIVITY; FEATURE_DIMS];
        let positions = [0; FEATURE_DIMS];
        Self { rate, positions, activity, midpoint_activity: activity, has_midpoints: false }
    }
}

/// What a unit is predicted from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Base<'a> {
    /// Nothing: a key unit.
    Rest,
    /// The state of the unit `age` units earlier and, for its motion, that of a unit another
    /// `motion_span` units earlier.
    Reference { state: &'a UnitState, age: u32, motion: Option<(&'a UnitState, u32)> },
}

/// Returns the index of the age model for a reference `ticks` 25ths of a second earlier.
pub(crate) fn age_index(ticks: u32) -> usize {
    match ticks {
        0..=2 => (ticks as usize).saturating_sub(1),
        3..=4 => 2,
        5..=8 => 3,
        9..=16 => 4,
        _ => N_AGES - 1,
    }
}

/// Divides to the nearest integer, halves up.
fn rounded(numerator: i64, denominator: i64) -> i64 {
    (2 * numerator + denominator).div_euclid(2 * denominator)
}

/// Predicts a position from a reference `ticks` 25ths of a second earlier.
///
/// The prediction is `position_weight / 16` of the reference's position plus, if the position
/// `motion.0` at `motion.1` ticks before the reference is known, `motion_weight / 16` of the
/// motion since then, extrapolated linearly over `ticks`. In parts from the mean, clamped.
pub(crate) fn predicted_position(
    model: AgeModel,
    reference: i32,
    ticks: u32,
    motion: Option<(i32, u32)>,
) -> i32 {
    let one = i64::from(WEIGHT_ONE);
    let kept = i64::from(reference) * i64::from(model.position_weight);
    let predicted = match motion {
        None => rounded(kept, one),
        Some((earlier, span)) => {
            let moved = i64::from(reference) - i64::from(earlier);
            let span = i64::from(span.max(1));
            let extrapolated = moved * i64::from(model.motion_weight) * i64::from(ticks);
            rounded(kept * span + extrapolated, one * span)
        }
    };
    predicted.clamp(-i64::from(MAX_POSITION), i64::from(MAX_POSITION)) as i32
}

/// Predicts all components of a unit from its base.
pub(crate) struct Predictor<'a> {
    components: &'a [ComponentModel],
    base: Base<'a>,
    rate: Rate,
    /// Mean activity of the reference's components.
    mean_activity: u32,
    mean_midpoint_activity: u32,
}

/// Ratio of the magnitudes coded so far in a unit to those expected: the entropy coder's
/// adaptation within the unit. Kept for residuals and for midpoint residuals separately.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MagnitudeRatio {
    /// Sums in 1/4096 levels.
    coded: u64,
    expected: u64,
    /// `coded / expected` in 1/65536.
    ratio: u64,
}

impl Default for MagnitudeRatio {
    fn default() -> Self {
        Self { coded: RATIO_PRIOR, expected: RATIO_PRIOR, ratio: 1 << 16 }
    }
}

impl MagnitudeRatio {
    /// Returns the scale class of a residual with this expected magnitude.
    pub(crate) fn class(self, expected: &ExpectedMagnitude) -> i32 {
        // Below 2^34 times 2^24, even with a hostile profile.
        class_of_magnitude((expected.adapted * self.ratio) >> 16)
    }

    /// Adds a coded magnitude, in 1/4096 levels.
    pub(crate) fn update(&mut self, magnitude: u64, expected: &ExpectedMagnitude) {
        // Clipped, so that one outlier does not dominate the rest of the unit.
        self.coded += magnitude.min(4 * expected.adapted.max(LEVEL));
        self.expected += expected.adapted;
        self.ratio = ((self.coded << 16) / self.expected).min(MAX_RATIO);
    }
}

/// Expected magnitude of a residual, in 1/4096 levels.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ExpectedMagnitude {
    /// According to the profile alone.
    nominal: u64,
    /// Scaled by the activity of the reference.
    adapted: u64,
}

impl ExpectedMagnitude {
    /// Returns the magnitude of a scale class in levels of `step` parts; `activity` is in 1/256.
    fn new(class: u8, step: i32, activity: u32) -> Self {
        let finer = expected_magnitude(i32::from(class)) * PARTS as u64;
        let nominal = (finer / step as u64).max(1);
        Self { nominal, adapted: nominal * u64::from(activity) / 256 }
    }

    /// Returns the activity that a coded magnitude stands for.
    fn activity_of(&self, magnitude: u64) -> u32 {
        activity(magnitude, self.nominal)
    }
}

/// Prediction of one component.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prediction {
    /// In parts from the mean.
    pub(crate) position: i32,
    /// Of the residual.
    pub(crate) magnitude: ExpectedMagnitude,
}

/// Sums over the midpoint residuals of one component, in 1/4096 levels.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MidpointMagnitude {
    coded: u64,
    nominal: u64,
}

impl MidpointMagnitude {
    /// Adds a coded magnitude.
    pub(crate) fn add(&mut self, magnitude: u64, expected: &ExpectedMagnitude) {
        self.coded += magnitude;
        self.nominal += expected.nominal;
    }
}

impl<'a> Predictor<'a> {
    pub(crate) fn new(profile: &'a Profile, base: Base<'a>, rate: Rate) -> Self {
        let components = profile.components();
        let n = components.len();
        let mean = |activity: &[u32]| activity[..n].iter().sum::<u32>() / n as u32;
        let (mean_activity, mean_midpoint_activity) = match base {
            Base::Rest => (NOMINAL_ACTIVITY, NOMINAL_ACTIVITY),
            Base::Reference { state, .. } => {
                (mean(&state.activity), mean(&state.midpoint_activity))
            }
        };
        Self { components, base, rate, mean_activity, mean_midpoint_activity }
    }

    /// Whether the face moves less than half as much as the profile expects. Residuals are then
    /// mostly tracker noise.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.mean_activity < NOMINAL_ACTIVITY / 2
    }

    /// Predicts component `k`.
    pub(crate) fn predict(&self, k: usize) -> Prediction {
        let model = &self.components[k];
        let (position, class, activity) = match self.base {
            Base::Rest => (0, model.key_class, NOMINAL_ACTIVITY),
            Base::Reference { state, age, motion } => {
                let ticks = age * self.rate.parameters().unit_interval;
                let age_model = &model.ages[age_index(ticks)];
                let motion = motion.map(|(earlier, span)| {
                    (earlier.positions[k], span * state.rate.parameters().unit_interval)
                });
                let class = if motion.is_some() { age_model.class } else { age_model.static_class };
                let activity = u32::midpoint(state.activity[k], self.mean_activity);
                let position = predicted_position(*age_model, state.positions[k], ticks, motion);
                (position, class, activity)
            }
        };
        let step = self.rate.parameters().step();
        Prediction { position, magnitude: ExpectedMagnitude::new(class, step, activity) }
    }

    /// Returns the expected magnitude of a midpoint residual of component `k`, whose residual has
    /// the magnitude `residual`.
    pub(crate) fn midpoint_magnitude(
        &self,
        k: usize,
        midpoint: Midpoint,
        prediction: &Prediction,
        residual: u64,
    ) -> ExpectedMagnitude {
        let [short, long] = self.components[k].midpoint_classes;
        let class = if midpoint.span(self.rate) > 2 { long } else { short };
        let current = prediction.magnitude.activity_of(residual);
        let activity = (self.midpoint_activity(k) + self.mean_midpoint_activity + current) / 3;
        ExpectedMagnitude::new(class, self.rate.parameters().midpoint_step, activity)
    }

    /// Returns the activity of component `k` after a unit with this residual magnitude.
    pub(crate) fn activity_after(&self, k: usize, prediction: &Prediction, residual: u64) -> u32 {
        match self.base {
            Base::Rest => NOMINAL_ACTIVITY,
            Base::Reference { state, .. } => {
                smoothed(state.activity[k], prediction.magnitude.activity_of(residual))
            }
        }
    }

    /// Returns the midpoint activity of component `k` after a unit that codes midpoints.
    pub(crate) fn midpoint_activity_after(&self, k: usize, magnitude: MidpointMagnitude) -> u32 {
        smoothed(self.midpoint_activity(k), activity(magnitude.coded, magnitude.nominal))
    }

    /// Returns the midpoint activity of component `k` before the unit.
    pub(crate) fn midpoint_activity(&self, k: usize) -> u32 {
        match self.base {
            Base::Rest => NOMINAL_ACTIVITY,
            Base::Reference { state, .. } => state.midpoint_activity[k],
        }
    }
}

/// Returns the magnitude of a level, in 1/4096 levels.
pub(crate) fn magnitude_of_level(level: i32) -> u64 {
    u64::from(level.unsigned_abs()) * LEVEL
}

/// Returns the magnitude of a number of half steps, in 1/4096 levels.
pub(crate) fn magnitude_of_half_steps(half_steps: i32) -> u64 {
    u64::from(half_steps.unsigned_abs()) * (LEVEL / 2)
}

fn activity(magnitude: u64, nominal: u64) -> u32 {
    (magnitude * 256 / nominal.max(1)).min(u64::from(*ACTIVITY_RANGE.end())) as u32
}

/// Exponential moving average of an activity, with a weight of 1/8 for the newest.
fn smoothed(average: u32, newest: u32) -> u32 {
    ((7 * average + newest) / 8).clamp(*ACTIVITY_RANGE.start(), *ACTIVITY_RANGE.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_motion_is_extrapolated_by_its_weight() {
        let model = |position_weight, motion_weight| AgeModel {
            position_weight,
            motion_weight,
            class: 0,
            static_class: 0,
        };
        for (position_weight, motion_weight, reference, ticks, motion, want) in [
            (16, 0, 10, 1, Some((4, 1)), 10),
            (16, 16, 10, 1, Some((4, 1)), 16),
            (16, 8, 10, 2, Some((4, 3)), 12),
            (16, 16, -10, 1, Some((-4, 1)), -16),
            (8, 0, 10, 1, None, 5),
            (8, 0, -9, 1, None, -4), // halves go up
            (16, 16, MAX_POSITION, 128, Some((-MAX_POSITION, 1)), MAX_POSITION),
        ] {
            let model = model(position_weight, motion_weight);
            assert_eq!(predicted_position(model, reference, ticks, motion), want);
        }
    }
}
