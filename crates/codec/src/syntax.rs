//! The symbols of a unit, in order. Run by the encoder to write them, by the decoder to read them.

use std::sync::LazyLock;

use types::FEATURE_DIMS;

use crate::UnitId;
use crate::entropy_model::code_residual;
use crate::prediction::{Base, Predictor, State};
use crate::profile::{MAX_LEVEL, Profile};
use crate::range_coder::{InvalidCode, PRECISION, SymbolCoder, Table};

/// The oldest reference a unit may name.
pub(crate) const MAX_AGE: u32 = 32;
/// The farthest back from the reference that a unit looks for the motion.
pub(crate) const MAX_TAP: u32 = 7;

/// What a unit says about itself before its levels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) id: UnitId,
    /// How many units ago the reference was, 0 in a key unit.
    pub(crate) age: u32,
    /// How far before the reference its motion began, 0 if unknown.
    pub(crate) tap: u32,
}

impl Header {
    /// The unit this one builds on.
    pub(crate) fn reference(&self) -> Option<UnitId> {
        (self.age > 0).then(|| self.id.offset(-(self.age as i32)))
    }

    /// The unit its motion is measured from.
    pub(crate) fn before(&self) -> Option<UnitId> {
        let start = self.reference()?;
        (self.tap > 0).then(|| start.offset(-(self.tap as i32)))
    }
}

/// Codes the header. The low byte of the id stands before the coded bytes, as it is.
pub(crate) fn code_header(
    coder: &mut impl SymbolCoder,
    low_id: u8,
    header: Header,
) -> Result<Header, InvalidCode> {
    let high_id = coder.bits(4, u32::from(header.id.get() >> 8))?;
    let age = coder.symbol(&AGES, header.age as usize)? as u32;
    let tap = if age == 0 { 0 } else { coder.symbol(&TAPS, header.tap as usize)? as u32 };
    Ok(Header { id: UnitId::from_count(high_id << 8 | u32::from(low_id)), age, tap })
}

/// Codes the levels on top of a base and gives the unit's state.
pub(crate) fn code_levels(
    coder: &mut impl SymbolCoder,
    profile: &Profile,
    base: Base<'_>,
    levels: &[i32; FEATURE_DIMS],
) -> Result<State, InvalidCode> {
    let mut predictor = Predictor::new(profile.dims(), base);
    let mut state = State::REST;
    for (dim, &level) in levels.iter().enumerate() {
        let expectation = predictor.expect(dim);
        let residual = code_residual(coder, expectation.class, level - expectation.level)?;
        let level = expectation.level + residual;
        if level.abs() > MAX_LEVEL {
            return Err(InvalidCode);
        }
        state.levels[dim] = level;
        state.activity[dim] = predictor.learn(dim, &expectation, residual);
    }
    Ok(state)
}

static AGES: LazyLock<Table> = LazyLock::new(|| {
    // 0 is a key unit; 1 is normal offline, 2 to 6 in a call, the rest without acknowledgements.
    let mut frequencies = [60; MAX_AGE as usize + 1];
    frequencies[..9].copy_from_slice(&[400, 0, 1900, 1900, 1500, 1000, 700, 400, 300]);
    rest_to(&mut frequencies, 1)
});

static TAPS: LazyLock<Table> = LazyLock::new(|| {
    let mut frequencies = [200; MAX_TAP as usize + 1];
    frequencies[..4].copy_from_slice(&[1500, 0, 800, 400]);
    rest_to(&mut frequencies, 1)
});

/// The table in which `symbol` has whatever the others leave of `2^14`.
fn rest_to(frequencies: &mut [u16], symbol: usize) -> Table {
    frequencies[symbol] = 0;
    let others: u16 = frequencies.iter().sum();
    frequencies[symbol] = (1 << PRECISION) - others;
    Table::from_nonzero_fixed_point_probabilities(&*frequencies, false)
        .expect("the frequencies above leave something")
}
