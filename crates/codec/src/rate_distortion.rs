//! The encoder's choice: which levels show the most for their bytes.

use types::FEATURE_DIMS;

use crate::bends::{Bends, Halving, N_POINTS, halvings};
use crate::entropy_model::{MAX_RESIDUAL, cost};
use crate::prediction::{Base, Bent, Expectation, Predictor, State};
use crate::profile::{MAX_POSITION, Profile};
use crate::range_coder::SymbolWriter;
use crate::syntax::{Header, Levels, code_header, code_levels, code_quality};
use crate::{MAX_UNIT_BYTES, Quality};

/// Shares of what a bit is worth ([`Quality::price`]) to choose levels by, in [`WHOLE`] parts.
const SHARES: [i64; 5] = [8, 6, 4, 3, 2];
const WHOLE: i64 = 4;
/// What a price is told in: so many parts make a squared step.
const PRICE_ONE: i64 = 40 * WHOLE;
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
    quality: Quality,
    wanted: &Wanted,
) -> Option<Shortest> {
    let mut tried: Vec<Levels> = Vec::with_capacity(SHARES.len() + 1);
    let mut best: Option<(i64, Shortest)> = None;
    let tries = SHARES.map(|share| (share, true)).into_iter().chain([(WHOLE, false)]);
    for (share, may_bend) in tries {
        let market = Market { quality, price: share * quality.price(), may_bend };
        let (levels, error) = market.levels(profile, base, wanted);
        if tried.contains(&levels) {
            continue;
        }
        let mut writer = SymbolWriter::new();
        code_header(&mut writer, header).ok()?;
        code_quality(&mut writer, base, quality).ok()?;
        let (state, bends) = code_levels(&mut writer, profile, base, quality, &levels).ok()?;
        let coded = writer.finish();
        if coded.len() > MAX_UNIT_BYTES {
            continue;
        }
        let full = Market { price: WHOLE * quality.price(), ..market };
        let total = full.total(error, 256 * 8 * coded.len() as i64);
        if best.as_ref().is_none_or(|(least, _)| total < *least) {
            best = Some((total, Shortest { coded, state, bends }));
        }
        tried.push(levels);
    }
    best.map(|(_, shortest)| shortest)
}

/// Levels to try for what is missing, in steps: the nearest and the one before it.
fn nearest(missing: i32, step: i32) -> [i32; 2] {
    let nearest = ((missing.abs() + step / 2) / step).min(MAX_RESIDUAL) * missing.signum();
    [nearest, nearest - nearest.signum()]
}

/// Levels, the error that they leave and the bits that they cost.
#[derive(Clone, Copy)]
struct Offer<T> {
    levels: T,
    /// Squared, in parts of a level, times [`FRAME`] or [`END`].
    error: i64,
    /// In 1/256.
    bits: i64,
}

/// What a component could be: its residual, and its bends in the order of [`halvings`].
type Component = (i32, [i32; N_POINTS]);

/// What error and bits are worth.
#[derive(Clone, Copy)]
struct Market {
    quality: Quality,
    price: i64,
    may_bend: bool,
}

impl Market {
    /// Error and bits on one scale.
    fn total(self, error: i64, bits: i64) -> i64 {
        let step = i64::from(self.quality.step());
        error * (256 * PRICE_ONE / FRAME) + self.price * step * step * bits
    }

    /// The first of the best.
    fn best<T>(self, offers: impl IntoIterator<Item = Offer<T>>) -> Option<Offer<T>> {
        offers.into_iter().min_by_key(|offer| self.total(offer.error, offer.bits))
    }

    /// Levels that weigh the error they leave against the bits they cost, and that error.
    fn levels(self, profile: &Profile, base: Base<'_>, wanted: &Wanted) -> (Levels, i64) {
        let mut predictor = Predictor::new(profile, base, self.quality);
        let mut residuals = [0; FEATURE_DIMS];
        let (mut all_bends, mut error) = ([[0; FEATURE_DIMS]; N_POINTS], 0);
        for k in 0..profile.n_components() {
            let expectation = predictor.expect(k);
            // The promise itself is always in range.
            let Some(best) = self.component(&predictor, k, &expectation, wanted) else { continue };
            let (residual, bends) = best.levels;
            residuals[k] = residual;
            error += best.error;
            if wanted.way.is_some() {
                let halvings = halvings(self.quality);
                for ((halving, all), bend) in halvings.iter().zip(&mut all_bends).zip(bends) {
                    let expected = predictor.expect_bend(k, *halving, &expectation, residual);
                    predictor.learn_bend(&expected, bend, &mut Bent::default());
                    all[k] = bend;
                }
            }
            predictor.learn(k, &expectation, residual);
        }
        let bends = all_bends.iter().flatten().any(|bend| *bend != 0).then_some(all_bends);
        (Levels { residuals, bends }, error)
    }

    /// The best of component `k`, given those before it.
    fn component(
        self,
        predictor: &Predictor<'_>,
        k: usize,
        expectation: &Expectation,
        wanted: &Wanted,
    ) -> Option<Offer<Component>> {
        let step = self.quality.step();
        let missing = wanted.end[k] - expectation.position;
        let straight = wanted.way.as_ref().map_or(missing, |way| {
            missing_if_straight(self.quality, way, k, expectation.position, missing)
        });
        let [a, b] = nearest(missing, step);
        let [c, d] = nearest(straight, step);
        let residuals = [a, b, c, d, 0];
        self.best(residuals.into_iter().enumerate().filter_map(|(i, residual)| {
            if residuals[..i].contains(&residual) {
                return None;
            }
            let position = expectation.position + residual * step;
            if position.abs() > MAX_POSITION {
                return None;
            }
            let off = i64::from(wanted.end[k] - position);
            let bits = i64::from(cost(expectation.scale.class, residual));
            let Some(way) = &wanted.way else {
                let levels = (residual, [0; N_POINTS]);
                return Some(Offer { levels, error: FRAME * off * off, bits });
            };
            let mut offer =
                Offer { levels: (residual, [0; N_POINTS]), error: END * off * off, bits };
            let mut at = [way.from[k], 0, 0, 0, position];
            for (halving, level) in halvings(self.quality).iter().zip(&mut offer.levels.1) {
                let expected = predictor.expect_bend(k, *halving, expectation, residual);
                let missing = way.points[halving.at - 1][k] - halving.straight(&at);
                let bend = self.bend(expected.class, missing);
                at[halving.at] = halving.bent(&at, bend.levels * self.quality.bend_step());
                *level = bend.levels;
                offer.error += bend.error;
                offer.bits += bend.bits;
            }
            Some(offer)
        }))
    }

    /// The best bend for what is missing from a straight line.
    fn bend(self, class: i32, missing: i32) -> Offer<i32> {
        let offer = |level: i32| {
            let off = i64::from(missing - level * self.quality.bend_step());
            let bits = if self.may_bend { i64::from(cost(class, level)) } else { 0 };
            Offer { levels: level, error: FRAME * off * off, bits }
        };
        let [a, b] = nearest(missing, self.quality.bend_step());
        let bent = [a, b].into_iter().filter(|_| self.may_bend);
        self.best(bent.chain([0]).map(offer)).unwrap_or_else(|| offer(0))
    }
}

/// What would be missing of the end if the frames on the way said where it is, too, and the way did
/// not bend: the least of the errors of all of them.
fn missing_if_straight(quality: Quality, way: &Way, k: usize, promised: i32, missing: i32) -> i32 {
    let (mut sum, mut weights) = (4 * END * i64::from(missing), 4 * END);
    for Halving { at, .. } in halvings(quality) {
        let share = *at as i64;
        let straight = i64::from(way.from[k]) * (4 - share) + i64::from(promised) * share;
        // An error of a frame counts FRAME, which is 4: that of a quarter's share squared, 1.
        sum += share * (4 * i64::from(way.points[at - 1][k]) - straight);
        weights += share * share;
    }
    ((2 * sum + weights).div_euclid(2 * weights)) as i32
}
