//! The symbols of a unit, in order. Run by the encoder to write them, by the decoder to read them.

use std::sync::LazyLock;

use types::{FEATURE_DIMS, Rate, UnitNumber};

use crate::bends::{Bends, N_POINTS, halvings};
use crate::entropy_model::{Symbol, code_level};
use crate::prediction::{Base, Bent, Predictor, Run, State, of_half_steps, of_levels};
use crate::profile::{MAX_POSITION, Profile};
use crate::range_coder::{InvalidCode, PRECISION, SymbolCoder, Table};
use crate::trellis::Trellis;

/// The oldest reference a unit may name.
pub(crate) const MAX_AGE: u32 = 32;
/// The farthest back from the reference that a unit looks for the motion.
pub(crate) const MAX_TAP: u32 = 7;

/// What a unit says about its references.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    /// How many units ago the reference was, 0 in a key unit.
    pub(crate) age: u32,
    /// How far before the reference its motion began, 0 if unknown.
    pub(crate) tap: u32,
}

impl Header {
    /// A key unit's.
    pub(crate) const KEY: Self = Self { age: 0, tap: 0 };

    /// The unit that unit `id` builds on.
    pub(crate) fn reference(self, id: UnitNumber) -> Option<UnitNumber> {
        (self.age > 0).then(|| id.offset(-i64::from(self.age)))
    }

    /// The unit its motion is measured from.
    pub(crate) fn before(self, id: UnitNumber) -> Option<UnitNumber> {
        let start = self.reference(id)?;
        (self.tap > 0).then(|| start.offset(-i64::from(self.tap)))
    }
}

/// Codes what the unit builds on.
pub(crate) fn code_header(
    coder: &mut impl SymbolCoder,
    header: Header,
) -> Result<Header, InvalidCode> {
    let age = coder.symbol(&AGES, header.age as usize)? as u32;
    let tap = if age == 0 { 0 } else { coder.symbol(&TAPS, header.tap as usize)? as u32 };
    Ok(Header { age, tap })
}

/// Codes the rate, which is most often the reference's.
pub(crate) fn code_rate(
    coder: &mut impl SymbolCoder,
    base: Base<'_>,
    rate: Rate,
) -> Result<Rate, InvalidCode> {
    let (table, usual) = match base {
        Base::Rest => (&ANY_RATE, Rate::Normal),
        Base::Reference { state, .. } => (&SAME_RATE, state.rate),
    };
    let further = (rate.index() + 3 - usual.index()) % 3;
    let further = coder.symbol(table, further)?;
    Rate::ALL.get((usual.index() + further) % 3).copied().ok_or(InvalidCode)
}

/// Levels of a unit: residuals of what was promised, and how the way to there bends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Levels {
    pub(crate) residuals: [i32; FEATURE_DIMS],
    pub(crate) bends: Option<Bends>,
}

impl Levels {
    /// Just as promised.
    pub(crate) const NONE: Self = Self { residuals: [0; FEATURE_DIMS], bends: None };
}

/// Codes levels on top of a base; gives the unit's state, and its bends if it has any.
pub(crate) fn code_levels(
    coder: &mut impl SymbolCoder,
    profile: &Profile,
    base: Base<'_>,
    rate: Rate,
    levels: &Levels,
) -> Result<(State, Option<Bends>), InvalidCode> {
    let halvings = halvings(rate);
    let predictor = Predictor::new(profile, base, rate);
    let (mut run, mut bend_run) = (Run::default(), Run::default());
    let mut state = State::rest(rate);
    if let Base::Reference { state: reference, .. } = base
        && !halvings.is_empty()
    {
        let table = if reference.bends { &STILL_BENDS } else { &BENDS };
        state.bends = coder.symbol(table, usize::from(levels.bends.is_some()))? == 1;
    }
    let mut trellis = Trellis::default();
    let mut bends = levels.bends.unwrap_or([[0; FEATURE_DIMS]; N_POINTS]);
    for k in 0..profile.n_components() {
        let expectation = predictor.expect(k);
        let scale = &expectation.scale;
        let quantizer = trellis.quantizer();
        let symbol = Symbol::Residual(quantizer);
        let level = code_level(coder, symbol, run.class(scale), levels.residuals[k])?;
        trellis = trellis.after(level);
        let half_steps = quantizer.half_steps(level);
        // Below 2^20 and 2^25.
        let position = expectation.position + half_steps * rate.parameters().half_step;
        if position.abs() > MAX_POSITION {
            return Err(InvalidCode);
        }
        let residual = of_half_steps(half_steps);
        run.learn(residual, scale);
        state.positions[k] = position;
        state.activity[k] = predictor.activity_after(k, &expectation, residual);
        state.bend_activity[k] = predictor.bend_activity(k);
        if state.bends {
            let mut bent = Bent::default();
            for (halving, bends) in halvings.iter().zip(&mut bends) {
                let scale = predictor.expect_bend(k, *halving, &expectation, residual);
                bends[k] = code_level(coder, Symbol::Bend, bend_run.class(&scale), bends[k])?;
                bend_run.learn(of_levels(bends[k]), &scale);
                bent.learn(of_levels(bends[k]), &scale);
            }
            state.bend_activity[k] = predictor.bend_activity_after(k, bent);
        }
    }
    let bends = state.bends.then_some(bends);
    Ok((state, bends))
}

static AGES: LazyLock<Table> = LazyLock::new(|| {
    // 0 is a key unit; 1 is normal while nothing is lost, 2 to 4 after, the rest when nothing is
    // heard from the peer.
    let mut frequencies = [24; MAX_AGE as usize + 1];
    frequencies[..9].copy_from_slice(&[300, 0, 1300, 900, 500, 300, 150, 150, 150]);
    rest_to(&mut frequencies, 1)
});

static TAPS: LazyLock<Table> = LazyLock::new(|| {
    let mut frequencies = [100; MAX_TAP as usize + 1];
    frequencies[..4].copy_from_slice(&[300, 0, 700, 300]);
    rest_to(&mut frequencies, 1)
});

static ANY_RATE: LazyLock<Table> = LazyLock::new(|| rest_to(&mut [0, 4096, 4096], 0));
static SAME_RATE: LazyLock<Table> = LazyLock::new(|| rest_to(&mut [0, 128, 128], 0));
/// Whether the way to a unit bends, where that to its reference did not and where it did.
static BENDS: LazyLock<Table> = LazyLock::new(|| rest_to(&mut [0, 2048], 0));
static STILL_BENDS: LazyLock<Table> = LazyLock::new(|| rest_to(&mut [1024, 0], 1));

/// The table in which `symbol` has whatever the others leave of `2^14`.
fn rest_to(frequencies: &mut [u16], symbol: usize) -> Table {
    frequencies[symbol] = 0;
    let others: u16 = frequencies.iter().sum();
    frequencies[symbol] = (1 << PRECISION) - others;
    Table::from_nonzero_fixed_point_probabilities(&*frequencies, false)
        .expect("the frequencies above leave something")
}
