//! Rate-distortion optimized quantization: the encoder's search for the levels of a unit.
//!
//! Minimizes `D + lambda * R` over all paths through the trellis with the Viterbi algorithm, as
//! for the trellis-coded quantization of JPEG 2000 part 2 and ITU-T H.266. Integer arithmetic, so
//! every machine makes the same choice.

use std::ops::Range;

use types::{FEATURE_DIMS, MAX_UNIT_BYTES, Rate};

use crate::entropy_model::{Costs, MAX_LEVEL, SymbolKind};
use crate::midpoints::{Midpoint, MidpointLevels, N_MIDPOINTS, corrected_start, midpoints};
use crate::prediction::{
    Base, ExpectedMagnitude, MagnitudeRatio, Prediction, Predictor, UnitState,
    magnitude_of_half_steps, magnitude_of_level,
};
use crate::profile::{MAX_POSITION, Profile};
use crate::range_coder::SymbolWriter;
use crate::syntax::{Levels, UnitHeader, code_header, code_levels, code_rate};
use crate::trellis::{Quantizer, Trellis};

/// Factors of lambda that are tried, in 1/4.
const LAMBDA_FACTORS: [i64; 5] = [8, 6, 4, 3, 2];
const FACTOR_ONE: i64 = 4;
/// Denominator of a scaled lambda: it is in this part of a squared step per bit.
const LAMBDA_ONE: i64 = 40 * FACTOR_ONE;
/// Paths that cost more than the best one by lambda times this many bits are pruned, in 1/256 bits.
const PRUNING_MARGIN: i64 = 6 * 256;
/// Weight of the squared error of one frame.
const FRAME_WEIGHT: i64 = 4;
/// Weight of the unit's own frame if the unit codes midpoints: its error also moves the midpoints
/// of the next unit.
const END_WEIGHT: i64 = 6;

/// Positions that a unit should reproduce, in parts from the mean.
pub(crate) struct UnitTarget {
    /// Of the unit's own feature.
    pub(crate) end: [i32; FEATURE_DIMS],
    /// Of the frames before it, if the unit may code midpoints.
    pub(crate) intermediates: Option<Intermediates>,
}

/// Motion since the previous unit.
pub(crate) struct Intermediates {
    /// Decoded positions of the previous unit.
    pub(crate) start: [i32; FEATURE_DIMS],
    /// Positions at the quarters of the interval.
    pub(crate) points: [[i32; FEATURE_DIMS]; N_MIDPOINTS],
}

/// A coded unit and what it decodes to.
pub(crate) struct EncodedLevels {
    pub(crate) coded: Vec<u8>,
    pub(crate) state: UnitState,
    pub(crate) midpoints: Option<MidpointLevels>,
}

/// Encodes a target at the lowest cost `D + lambda * R`; `None` if the unit would be too long or
/// cannot represent the target.
///
/// The search prices fractional bits but a unit has whole bytes, so it is run with several
/// multiples of lambda, and once without midpoints; the candidates are compared by their size in
/// bytes.
pub(crate) fn encode_levels(
    profile: &Profile,
    header: UnitHeader,
    base: Base<'_>,
    rate: Rate,
    target: &UnitTarget,
) -> Option<EncodedLevels> {
    let predictor = Predictor::new(profile, base, rate);
    let candidates = Candidates::new(&predictor, profile.n_components(), rate, target);
    let costs = Costs::new();
    let lambda = rate.parameters().lambda * if predictor.is_at_rest() { 2 } else { 1 };
    let mut tried: Vec<Levels> = Vec::with_capacity(LAMBDA_FACTORS.len() + 1);
    let mut best: Option<(i64, EncodedLevels)> = None;
    let without_midpoints = target.intermediates.as_ref().map(|_| (FACTOR_ONE, false));
    let searches = LAMBDA_FACTORS.map(|factor| (factor, true)).into_iter().chain(without_midpoints);
    for (factor, with_midpoints) in searches {
        let search = RateDistortion { rate, lambda: factor * lambda, with_midpoints, costs };
        let (levels, distortion) = search.levels(&candidates, target.intermediates.as_ref());
        if tried.contains(&levels) {
            continue;
        }
        let mut writer = SymbolWriter::new();
        code_header(&mut writer, header).ok()?;
        code_rate(&mut writer, base, rate).ok()?;
        let (state, midpoints) = code_levels(&mut writer, profile, base, rate, &levels).ok()?;
        let coded = writer.finish();
        if coded.len() > MAX_UNIT_BYTES {
            continue;
        }
        let unscaled = RateDistortion { lambda: FACTOR_ONE * lambda, ..search };
        let cost = unscaled.cost(distortion, 256 * 8 * coded.len() as i64);
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, EncodedLevels { coded, state, midpoints }));
        }
        tried.push(levels);
    }
    best.map(|(_, encoded)| encoded)
}

/// Levels with their distortion and rate.
#[derive(Clone, Copy)]
struct Choice<T> {
    levels: T,
    /// Squared errors in parts, times [`FRAME_WEIGHT`] or [`END_WEIGHT`].
    distortion: i64,
    /// In 1/256 bits.
    bits: i64,
}

/// The level of one component, and its midpoint levels in coding order.
type ComponentLevels = (i32, [i32; N_MIDPOINTS]);

/// A level that a component may take, with everything that does not depend on other components.
#[derive(Clone, Copy)]
struct Candidate {
    level: i32,
    /// Magnitude of the residual, in 1/4096 levels.
    residual: u64,
    /// Reconstructed position, in parts.
    position: i32,
    /// Distortion of the unit's own frame.
    distortion: i64,
    /// Expected magnitudes of the midpoint residuals, in coding order.
    midpoints: [ExpectedMagnitude; N_MIDPOINTS],
}

impl Candidate {
    /// Returns the candidate for `level` of component `k`; `None` if its position is out of range.
    fn new(
        predictor: &Predictor<'_>,
        prediction: &Prediction,
        k: usize,
        rate: Rate,
        quantizer: Quantizer,
        level: i32,
        target: &UnitTarget,
    ) -> Option<Self> {
        let half_steps = quantizer.half_steps(level);
        let position = prediction.position + half_steps * rate.parameters().half_step;
        if position.abs() > MAX_POSITION {
            return None;
        }
        let error = i64::from(target.end[k] - position);
        let weight = if target.intermediates.is_some() { END_WEIGHT } else { FRAME_WEIGHT };
        let residual = magnitude_of_half_steps(half_steps);
        let mut expected = [ExpectedMagnitude::default(); N_MIDPOINTS];
        if target.intermediates.is_some() {
            for (midpoint, expected) in midpoints(rate).iter().zip(&mut expected) {
                *expected = predictor.midpoint_magnitude(k, *midpoint, prediction, residual);
            }
        }
        let distortion = weight * error * error;
        Some(Self { level, residual, position, distortion, midpoints: expected })
    }
}

/// Candidates of all components for both quantizers.
struct Candidates {
    /// Expected magnitude of each component's residual.
    expected: Vec<ExpectedMagnitude>,
    all: Vec<Candidate>,
    /// Where in `all` those of each component and quantizer are.
    ranges: Vec<[Range<usize>; 2]>,
}

impl Candidates {
    /// For each component: the levels next to the residual, those next to the residual of the best
    /// straight line through the intermediate frames, and 0.
    fn new(predictor: &Predictor<'_>, n: usize, rate: Rate, target: &UnitTarget) -> Self {
        let step = rate.parameters().step();
        let mut expected = Vec::with_capacity(n);
        let mut all = Vec::with_capacity(8 * n);
        let mut ranges = Vec::with_capacity(n);
        for k in 0..n {
            let prediction = predictor.predict(k);
            let residual = target.end[k] - prediction.position;
            let straight = target.intermediates.as_ref().map_or(residual, |intermediates| {
                straight_line_residual(rate, intermediates, k, prediction.position, residual)
            });
            ranges.push(Quantizer::ALL.map(|quantizer| {
                let start = all.len();
                let [a, b] = quantizer.nearest(residual, step, MAX_LEVEL);
                let [c, d] = quantizer.nearest(straight, step, MAX_LEVEL);
                let levels = [a, b, c, d, 0];
                for (i, level) in levels.into_iter().enumerate() {
                    if !levels[..i].contains(&level) {
                        all.extend(Candidate::new(
                            predictor,
                            &prediction,
                            k,
                            rate,
                            quantizer,
                            level,
                            target,
                        ));
                    }
                }
                start..all.len()
            }));
            expected.push(prediction.magnitude);
        }
        Self { expected, all, ranges }
    }

    fn of(&self, k: usize, quantizer: Quantizer) -> &[Candidate] {
        &self.all[self.ranges[k][quantizer.index()].clone()]
    }
}

/// The best path to one state of the trellis.
#[derive(Clone, Copy, Default)]
struct TrellisPath {
    ratio: MagnitudeRatio,
    midpoint_ratio: MagnitudeRatio,
    cost: i64,
}

/// The last step of a path.
#[derive(Clone, Copy)]
struct TrellisStep<'a> {
    from: Trellis,
    candidate: &'a Candidate,
    choice: Choice<ComponentLevels>,
    /// Cost of the whole path.
    cost: i64,
}

/// Rate-distortion search at one lambda.
#[derive(Clone, Copy)]
struct RateDistortion {
    rate: Rate,
    /// In [`LAMBDA_ONE`]ths of a squared step per bit.
    lambda: i64,
    with_midpoints: bool,
    costs: Costs,
}

impl RateDistortion {
    /// Returns `D + lambda * R`, for `bits` in 1/256.
    fn cost(self, distortion: i64, bits: i64) -> i64 {
        let step = i64::from(self.rate.parameters().step());
        let scaled = distortion.saturating_mul(256 * LAMBDA_ONE / FRAME_WEIGHT);
        scaled.saturating_add(self.lambda * step * step * bits)
    }

    /// Returns the levels of the cheapest path through the trellis, and their distortion.
    fn levels(
        self,
        candidates: &Candidates,
        intermediates: Option<&Intermediates>,
    ) -> (Levels, i64) {
        let n = candidates.expected.len();
        // The best path to each state, and its last step after each component.
        let mut paths = [None; Trellis::STATES];
        paths[Trellis::default().index()] = Some(TrellisPath::default());
        let mut steps: Vec<[Option<TrellisStep<'_>>; Trellis::STATES]> =
            vec![[None; Trellis::STATES]; n];
        for (k, (expected, best)) in candidates.expected.iter().zip(&mut steps).enumerate() {
            for (from, path) in Trellis::all().zip(&paths) {
                let Some(path) = path else { continue };
                let quantizer = from.quantizer();
                let class = path.ratio.class(expected);
                for candidate in candidates.of(k, quantizer) {
                    let kind = SymbolKind::Residual(quantizer);
                    let bits = i64::from(self.costs.of(kind, class, candidate.level));
                    let choice =
                        self.choice(path.midpoint_ratio, k, candidate, bits, intermediates);
                    let cost = path.cost.saturating_add(self.cost(choice.distortion, choice.bits));
                    let best = &mut best[from.after(candidate.level).index()];
                    if best.as_ref().is_none_or(|best| cost < best.cost) {
                        *best = Some(TrellisStep { from, candidate, choice, cost });
                    }
                }
            }
            paths = best.each_ref().map(|step| {
                let TrellisStep { from, candidate, choice, cost } = step.as_ref()?;
                let TrellisPath { mut ratio, mut midpoint_ratio, .. } = paths[from.index()]?;
                ratio.update(candidate.residual, expected);
                for (expected, level) in candidate.midpoints.iter().zip(choice.levels.1) {
                    midpoint_ratio.update(magnitude_of_level(level), expected);
                }
                Some(TrellisPath { ratio, midpoint_ratio, cost: *cost })
            });
            let least = paths.iter().flatten().map(|path| path.cost).min();
            let most = least.unwrap_or(0).saturating_add(self.cost(0, PRUNING_MARGIN));
            for path in &mut paths {
                path.take_if(|path| path.cost > most);
            }
        }
        let ends = Trellis::all().zip(&paths).filter_map(|(at, path)| Some((at, path.as_ref()?)));
        let best = ends.min_by_key(|(_, path)| path.cost);
        let (mut at, _) = best.expect("level 0 is always in range");
        let mut residuals = [0; FEATURE_DIMS];
        let mut midpoints = [[0; FEATURE_DIMS]; N_MIDPOINTS];
        let mut distortion = 0_i64;
        for (k, steps) in steps.iter().enumerate().rev() {
            let Some(TrellisStep { from, choice, .. }) = &steps[at.index()] else { break };
            let (level, of_midpoints) = choice.levels;
            residuals[k] = level;
            midpoints.iter_mut().zip(of_midpoints).for_each(|(all, level)| all[k] = level);
            distortion = distortion.saturating_add(choice.distortion);
            at = *from;
        }
        let has_midpoints = midpoints.iter().flatten().any(|level| *level != 0);
        (Levels { residuals, midpoints: has_midpoints.then_some(midpoints) }, distortion)
    }

    /// Returns a candidate of component `k`, whose level takes `bits`, with the best midpoint
    /// levels for it.
    fn choice(
        self,
        midpoint_ratio: MagnitudeRatio,
        k: usize,
        candidate: &Candidate,
        bits: i64,
        intermediates: Option<&Intermediates>,
    ) -> Choice<ComponentLevels> {
        let levels = (candidate.level, [0; N_MIDPOINTS]);
        let mut choice = Choice { levels, distortion: candidate.distortion, bits };
        let Some(intermediates) = intermediates else { return choice };
        let start = corrected_start(self.rate, intermediates.start[k], candidate.position);
        let mut quarters = [start, 0, 0, 0, candidate.position];
        let midpoints = midpoints(self.rate).iter().zip(&candidate.midpoints);
        for ((midpoint, expected), level) in midpoints.zip(&mut choice.levels.1) {
            let residual = intermediates.points[midpoint.at - 1][k] - midpoint.predicted(&quarters);
            let best = self.midpoint_choice(midpoint_ratio.class(expected), residual);
            let reconstructed = best.levels * self.rate.parameters().midpoint_step;
            quarters[midpoint.at] = midpoint.reconstructed(&quarters, reconstructed);
            *level = best.levels;
            choice.distortion += best.distortion;
            choice.bits += best.bits;
        }
        choice
    }

    /// Returns the best level for a midpoint residual in parts.
    fn midpoint_choice(self, class: i32, residual: i32) -> Choice<i32> {
        let step = self.rate.parameters().midpoint_step;
        let choice = |level: i32| {
            let error = i64::from(residual - level * step);
            let bits = if self.with_midpoints {
                self.costs.of(SymbolKind::Midpoint, class, level)
            } else {
                0
            };
            Choice {
                levels: level,
                distortion: FRAME_WEIGHT * error * error,
                bits: i64::from(bits),
            }
        };
        if !self.with_midpoints || 2 * residual.abs() < step {
            return choice(0);
        }
        let [nearest, smaller] = Quantizer::Whole.nearest(residual, step, MAX_LEVEL);
        let cost = |choice: &Choice<i32>| self.cost(choice.distortion, choice.bits);
        [choice(smaller), choice(0)]
            .into_iter()
            .fold(choice(nearest), |a, b| if cost(&b) < cost(&a) { b } else { a })
    }
}

/// Returns the residual of component `k` that minimizes the weighted squared error of the unit's
/// own frame and of the intermediate frames if no midpoint residual is coded.
///
/// `predicted` is the predicted position of the unit, `residual` what is left of its own frame.
fn straight_line_residual(
    rate: Rate,
    intermediates: &Intermediates,
    k: usize,
    predicted: i32,
    residual: i32,
) -> i32 {
    let (mut sum, mut weights) = (4 * END_WEIGHT * i64::from(residual), 4 * END_WEIGHT);
    for Midpoint { at, .. } in midpoints(rate) {
        let quarters = *at as i64;
        let straight =
            i64::from(intermediates.start[k]) * (4 - quarters) + i64::from(predicted) * quarters;
        // FRAME_WEIGHT is 4, so the squared share of one quarter weighs 1.
        sum += quarters * (4 * i64::from(intermediates.points[at - 1][k]) - straight);
        weights += quarters * quarters;
    }
    ((2 * sum + weights).div_euclid(2 * weights)) as i32
}
