//! The symbols of a unit, in order. Run by the encoder to write them, by the decoder to read them.

use std::sync::LazyLock;

use types::FEATURE_DIMS;

use crate::entropy_model::code_residual;
use crate::prediction::{Base, Predictor, State};
use crate::profile::{MAX_POSITION, Profile};
use crate::range_coder::{InvalidCode, PRECISION, SymbolCoder, Table};
use crate::{Quality, UnitId};

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
    pub(crate) fn reference(self, id: UnitId) -> Option<UnitId> {
        (self.age > 0).then(|| id.offset(-(self.age as i32)))
    }

    /// The unit its motion is measured from.
    pub(crate) fn before(self, id: UnitId) -> Option<UnitId> {
        let start = self.reference(id)?;
        (self.tap > 0).then(|| start.offset(-(self.tap as i32)))
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

/// Codes the quality, which is most often the reference's.
pub(crate) fn code_quality(
    coder: &mut impl SymbolCoder,
    base: Base<'_>,
    quality: Quality,
) -> Result<Quality, InvalidCode> {
    let (table, usual) = match base {
        Base::Rest => (&ANY_QUALITY, Quality::Normal),
        Base::Reference { state, .. } => (&SAME_QUALITY, state.quality),
    };
    let further = (quality.index() + 3 - usual.index()) % 3;
    let further = coder.symbol(table, further)?;
    Quality::ALL.get((usual.index() + further) % 3).copied().ok_or(InvalidCode)
}

/// Codes the residuals on top of a base and gives the unit's state.
pub(crate) fn code_residuals(
    coder: &mut impl SymbolCoder,
    profile: &Profile,
    base: Base<'_>,
    quality: Quality,
    residuals: &[i32; FEATURE_DIMS],
) -> Result<State, InvalidCode> {
    let mut predictor = Predictor::new(profile, base, quality);
    let mut state = State::rest(quality);
    for (k, &residual) in residuals.iter().enumerate().take(profile.n_components()) {
        let expectation = predictor.expect(k);
        let residual = code_residual(coder, expectation.class, residual)?;
        // Below 2^20 and 2^24.
        let position = expectation.position + residual * quality.step();
        if position.abs() > MAX_POSITION {
            return Err(InvalidCode);
        }
        state.positions[k] = position;
        state.activity[k] = predictor.learn(k, &expectation, residual);
    }
    Ok(state)
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

static ANY_QUALITY: LazyLock<Table> = LazyLock::new(|| rest_to(&mut [0, 4096, 4096], 0));
static SAME_QUALITY: LazyLock<Table> = LazyLock::new(|| rest_to(&mut [0, 128, 128], 0));

/// The table in which `symbol` has whatever the others leave of `2^14`.
fn rest_to(frequencies: &mut [u16], symbol: usize) -> Table {
    frequencies[symbol] = 0;
    let others: u16 = frequencies.iter().sum();
    frequencies[symbol] = (1 << PRECISION) - others;
    Table::from_nonzero_fixed_point_probabilities(&*frequencies, false)
        .expect("the frequencies above leave something")
}
