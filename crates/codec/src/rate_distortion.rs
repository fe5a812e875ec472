//! The encoder's choice: which levels show the most for their bytes.

use std::ops::Range;

use types::{FEATURE_DIMS, MAX_UNIT_BYTES, Rate};

use crate::bends::{Bends, Halving, N_POINTS, caught_up, halvings};
use crate::entropy_model::{Costs, MAX_LEVEL, Symbol};
use crate::prediction::{
    Base, Expectation, Predictor, Run, Scale, State, of_half_steps, of_levels,
};
use crate::profile::{MAX_POSITION, Profile};
use crate::range_coder::SymbolWriter;
use crate::syntax::{Header, Levels, code_header, code_levels, code_rate};
use crate::trellis::{Quantizer, Trellis};

/// Shares of what a bit is worth ([`types::RateParameters::lambda`]) to choose levels by, in [`WHOLE`] parts.
const SHARES: [i64; 5] = [8, 6, 4, 3, 2];
const WHOLE: i64 = 4;
/// What a price is told in: so many parts make a squared step.
const PRICE_ONE: i64 = 40 * WHOLE;
/// Paths that are worse than the best by what so many bits are worth are given up, in 1/256.
const HOPELESS: i64 = 6 * 256;
/// What the error of a frame on the way counts, and that of its end, which bends the next way, too.
const FRAME: i64 = 4;
const END: i64 = 6;

/// What a unit should say.
pub(crate) struct Wanted {
    /// Positions of its feature.
    pub(crate) end: [i32; FEATURE_DIMS],
    pub(crate) way: Option<Way>,
}

/// How the face got there.
pub(crate) struct Way {
    /// Positions that the peer has from the unit before.
    pub(crate) from: [i32; FEATURE_DIMS],
    /// Positions at the quarters of the way.
    pub(crate) points: [[i32; FEATURE_DIMS]; N_POINTS],
}

/// A unit, and what it says.
pub(crate) struct Shortest {
    pub(crate) coded: Vec<u8>,
    pub(crate) state: State,
    pub(crate) bends: Option<Bends>,
}

/// The shortest good code of what is wanted; none if no unit can hold one.
///
/// A unit's length is a whole number of bytes, so several prices of a bit are tried, and once no bend
/// at all; what counts in the end are the bytes.
pub(crate) fn shortest(
    profile: &Profile,
    header: Header,
    base: Base<'_>,
    rate: Rate,
    wanted: &Wanted,
) -> Option<Shortest> {
    let predictor = Predictor::new(profile, base, rate);
    let choices = Choices::new(&predictor, profile.n_components(), rate, wanted);
    let costs = Costs::new();
    let price = rate.parameters().lambda * if predictor.is_at_rest() { 2 } else { 1 };
    let mut tried: Vec<Levels> = Vec::with_capacity(SHARES.len() + 1);
    let mut best: Option<(i64, Shortest)> = None;
    let straight = wanted.way.as_ref().map(|_| (WHOLE, false));
    let tries = SHARES.map(|share| (share, true)).into_iter().chain(straight);
    for (share, may_bend) in tries {
        let market = Market { rate, price: share * price, may_bend, costs };
        let (levels, error) = market.levels(&choices, wanted.way.as_ref());
        if tried.contains(&levels) {
            continue;
        }
        let mut writer = SymbolWriter::new();
        code_header(&mut writer, header).ok()?;
        code_rate(&mut writer, base, rate).ok()?;
        let (state, bends) = code_levels(&mut writer, profile, base, rate, &levels).ok()?;
        let coded = writer.finish();
        if coded.len() > MAX_UNIT_BYTES {
            continue;
        }
        let full = Market { price: WHOLE * price, ..market };
        let total = full.total(error, 256 * 8 * coded.len() as i64);
        if best.as_ref().is_none_or(|(least, _)| total < *least) {
            best = Some((total, Shortest { coded, state, bends }));
        }
        tried.push(levels);
    }
    best.map(|(_, shortest)| shortest)
}

/// Levels, the error that they leave and the bits that they cost.
#[derive(Clone, Copy)]
struct Offer<T> {
    levels: T,
    /// Squared, in parts, times [`FRAME`] or [`END`].
    error: i64,
    /// In 1/256.
    bits: i64,
}

/// What a component says: its level, and its bends in the order of [`halvings`].
type Component = (i32, [i32; N_POINTS]);

/// A level that a component could have, whatever those before it are.
#[derive(Clone, Copy)]
struct Candidate {
    level: i32,
    /// How large the residual is, in 1/4096 levels.
    residual: u64,
    /// Where it leads to, in parts.
    position: i32,
    /// Of the end alone.
    error: i64,
    /// What to expect of the bends, in the order of [`halvings`].
    bends: [Scale; N_POINTS],
}

impl Candidate {
    /// This level of component `k`; none if it leads out of range.
    fn new(
        predictor: &Predictor<'_>,
        expectation: &Expectation,
        k: usize,
        rate: Rate,
        quantizer: Quantizer,
        level: i32,
        wanted: &Wanted,
    ) -> Option<Self> {
        let half_steps = quantizer.half_steps(level);
        let position = expectation.position + half_steps * rate.parameters().half_step;
        if position.abs() > MAX_POSITION {
            return None;
        }
        let off = i64::from(wanted.end[k] - position);
        let counts = if wanted.way.is_some() { END } else { FRAME };
        let residual = of_half_steps(half_steps);
        let mut bends = [Scale::default(); N_POINTS];
        if wanted.way.is_some() {
            for (halving, bend) in halvings(rate).iter().zip(&mut bends) {
                *bend = predictor.expect_bend(k, *halving, expectation, residual);
            }
        }
        Some(Self { level, residual, position, error: counts * off * off, bends })
    }
}

/// What can be said of each component, whatever is said of those before it.
struct Choices {
    /// What is expected of the components.
    scales: Vec<Scale>,
    candidates: Vec<Candidate>,
    /// Where the candidates of each component and quantizer are.
    ranges: Vec<[Range<usize>; 2]>,
}

impl Choices {
    /// Levels nearest to what is missing of the end, and of where it would be if the way did not bend,
    /// those before them, and 0.
    fn new(predictor: &Predictor<'_>, n: usize, rate: Rate, wanted: &Wanted) -> Self {
        let mut scales = Vec::with_capacity(n);
        let mut candidates = Vec::with_capacity(8 * n);
        let mut ranges = Vec::with_capacity(n);
        for k in 0..n {
            let expectation = predictor.expect(k);
            let promised = expectation.position;
            let missing = wanted.end[k] - promised;
            let straight = wanted
                .way
                .as_ref()
                .map_or(missing, |way| missing_if_straight(rate, way, k, promised, missing));
            ranges.push(Quantizer::ALL.map(|quantizer| {
                let start = candidates.len();
                let [a, b] = quantizer.nearest(missing, rate.parameters().step(), MAX_LEVEL);
                let [c, d] = quantizer.nearest(straight, rate.parameters().step(), MAX_LEVEL);
                let levels = [a, b, c, d, 0];
                for (i, level) in levels.into_iter().enumerate() {
                    if !levels[..i].contains(&level) {
                        candidates.extend(Candidate::new(
                            predictor,
                            &expectation,
                            k,
                            rate,
                            quantizer,
                            level,
                            wanted,
                        ));
                    }
                }
                start..candidates.len()
            }));
            scales.push(expectation.scale);
        }
        Self { scales, candidates, ranges }
    }

    fn of(&self, k: usize, quantizer: Quantizer) -> &[Candidate] {
        &self.candidates[self.ranges[k][quantizer.index()].clone()]
    }
}

/// The best way to a state of the trellis.
#[derive(Clone, Copy, Default)]
struct Path {
    run: Run,
    bend_run: Run,
    /// Error and bits on one scale.
    total: i64,
}

/// The last step of a path: the state it goes on from, and what is said.
#[derive(Clone, Copy)]
struct Step<'a> {
    from: Trellis,
    candidate: &'a Candidate,
    offer: Offer<Component>,
    /// Error and bits of the whole path on one scale.
    total: i64,
}

/// What error and bits are worth.
#[derive(Clone, Copy)]
struct Market {
    rate: Rate,
    price: i64,
    may_bend: bool,
    costs: Costs,
}

impl Market {
    /// Error and bits on one scale.
    fn total(self, error: i64, bits: i64) -> i64 {
        let step = i64::from(self.rate.parameters().step());
        let shown = error.saturating_mul(256 * PRICE_ONE / FRAME);
        shown.saturating_add(self.price * step * step * bits)
    }

    /// Levels that weigh the error they leave against the bits they cost, and that error: the best
    /// path through the trellis (Viterbi).
    fn levels(self, choices: &Choices, way: Option<&Way>) -> (Levels, i64) {
        let n = choices.scales.len();
        // By state: the best way there, and after each component the last step of it.
        let mut paths = [None; Trellis::STATES];
        paths[Trellis::default().index()] = Some(Path::default());
        let mut steps: Vec<[Option<Step<'_>>; Trellis::STATES]> = vec![[None; Trellis::STATES]; n];
        for (k, (scale, best)) in choices.scales.iter().zip(&mut steps).enumerate() {
            for (from, path) in Trellis::all().zip(&paths) {
                let Some(path) = path else { continue };
                let quantizer = from.quantizer();
                let class = path.run.class(scale);
                for candidate in choices.of(k, quantizer) {
                    let bits = self.costs.of(Symbol::Residual(quantizer), class, candidate.level);
                    let offer = self.offer(path.bend_run, k, candidate, i64::from(bits), way);
                    let total = path.total.saturating_add(self.total(offer.error, offer.bits));
                    let best = &mut best[from.after(candidate.level).index()];
                    if best.as_ref().is_none_or(|best| total < best.total) {
                        *best = Some(Step { from, candidate, offer, total });
                    }
                }
            }
            paths = best.each_ref().map(|step| {
                let Step { from, candidate, offer, total } = step.as_ref()?;
                let Path { mut run, mut bend_run, .. } = paths[from.index()]?;
                run.learn(candidate.residual, scale);
                for (scale, bend) in candidate.bends.iter().zip(offer.levels.1) {
                    bend_run.learn(of_levels(bend), scale);
                }
                Some(Path { run, bend_run, total: *total })
            });
            let least = paths.iter().flatten().map(|path| path.total).min();
            let most = least.unwrap_or(0).saturating_add(self.total(0, HOPELESS));
            for path in &mut paths {
                path.take_if(|path| path.total > most);
            }
        }
        let ends = Trellis::all().zip(&paths).filter_map(|(at, path)| Some((at, path.as_ref()?)));
        let best = ends.min_by_key(|(_, path)| path.total);
        let (mut at, _) = best.expect("a promise kept is always in range");
        let mut residuals = [0; FEATURE_DIMS];
        let mut all_bends = [[0; FEATURE_DIMS]; N_POINTS];
        let mut error = 0_i64;
        for (k, steps) in steps.iter().enumerate().rev() {
            let Some(Step { from, offer, .. }) = &steps[at.index()] else { break };
            let (level, bends) = offer.levels;
            residuals[k] = level;
            all_bends.iter_mut().zip(bends).for_each(|(all, bend)| all[k] = bend);
            error = error.saturating_add(offer.error);
            at = *from;
        }
        let bends = all_bends.iter().flatten().any(|bend| *bend != 0).then_some(all_bends);
        (Levels { residuals, bends }, error)
    }

    /// A candidate for component `k` whose level takes so many bits, and the best bends to it.
    fn offer(
        self,
        bend_run: Run,
        k: usize,
        candidate: &Candidate,
        bits: i64,
        way: Option<&Way>,
    ) -> Offer<Component> {
        let levels = (candidate.level, [0; N_POINTS]);
        let mut offer = Offer { levels, error: candidate.error, bits };
        let Some(way) = way else { return offer };
        let from = caught_up(self.rate, way.from[k], candidate.position);
        let mut at = [from, 0, 0, 0, candidate.position];
        let halvings = halvings(self.rate).iter().zip(&candidate.bends);
        for ((halving, scale), level) in halvings.zip(&mut offer.levels.1) {
            let missing = way.points[halving.at - 1][k] - halving.straight(&at);
            let bend = self.bend(bend_run.class(scale), missing);
            at[halving.at] = halving.bent(&at, bend.levels * self.rate.parameters().midpoint_step);
            *level = bend.levels;
            offer.error += bend.error;
            offer.bits += bend.bits;
        }
        offer
    }

    /// The best bend for what is missing from a straight line.
    fn bend(self, class: i32, missing: i32) -> Offer<i32> {
        let offer = |level: i32| {
            let off = i64::from(missing - level * self.rate.parameters().midpoint_step);
            let bits = if self.may_bend { self.costs.of(Symbol::Bend, class, level) } else { 0 };
            Offer { levels: level, error: FRAME * off * off, bits: i64::from(bits) }
        };
        if !self.may_bend || 2 * missing.abs() < self.rate.parameters().midpoint_step {
            return offer(0);
        }
        let [nearest, before] =
            Quantizer::Whole.nearest(missing, self.rate.parameters().midpoint_step, MAX_LEVEL);
        let total = |offer: &Offer<i32>| self.total(offer.error, offer.bits);
        let smaller = [offer(before), offer(0)].into_iter();
        smaller.fold(offer(nearest), |a, b| if total(&b) < total(&a) { b } else { a })
    }
}

/// What would be missing of the end if the frames on the way said where it is, too, and the way did
/// not bend: the least of the errors of all of them.
fn missing_if_straight(rate: Rate, way: &Way, k: usize, promised: i32, missing: i32) -> i32 {
    let (mut sum, mut weights) = (4 * END * i64::from(missing), 4 * END);
    for Halving { at, .. } in halvings(rate) {
        let share = *at as i64;
        let straight = i64::from(way.from[k]) * (4 - share) + i64::from(promised) * share;
        // An error of a frame counts FRAME, which is 4: that of a quarter's share squared, 1.
        sum += share * (4 * i64::from(way.points[at - 1][k]) - straight);
        weights += share * share;
    }
    ((2 * sum + weights).div_euclid(2 * weights)) as i32
}
