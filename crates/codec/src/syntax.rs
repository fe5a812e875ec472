//! Syntax of an access unit: its symbols in order. The encoder runs it to write them, the decoder
//! to read them.

use std::sync::LazyLock;

use types::{FEATURE_DIMS, Rate, UnitNumber};

use crate::entropy_model::{SymbolKind, code_level};
use crate::midpoints::{MidpointLevels, N_MIDPOINTS, midpoints};
use crate::prediction::{
    Base, MagnitudeRatio, MidpointMagnitude, Predictor, UnitState, magnitude_of_half_steps,
    magnitude_of_level,
};
use crate::profile::{MAX_POSITION, Profile};
use crate::range_coder::{InvalidSymbol, PRECISION, SymbolCoder, Table};
use crate::trellis::Trellis;

/// Age of the oldest reference that a unit can name, in units.
pub(crate) const MAX_AGE: u32 = 32;
/// Largest distance from the reference back to the motion reference, in units.
pub(crate) const MAX_MOTION_SPAN: u32 = 7;

/// References that a unit names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct UnitHeader {
    /// Units from this one back to its reference; 0 in a key unit.
    pub(crate) age: u32,
    /// Units from the reference back to the motion reference; 0 if there is none.
    pub(crate) motion_span: u32,
}

impl UnitHeader {
    /// The header of a key unit.
    pub(crate) const KEY: Self = Self { age: 0, motion_span: 0 };

    /// Returns the reference of unit `number`.
    pub(crate) fn reference(self, number: UnitNumber) -> Option<UnitNumber> {
        (self.age > 0).then(|| number.offset(-i64::from(self.age)))
    }

    /// Returns the unit from which the motion up to the reference is measured.
    pub(crate) fn motion_reference(self, number: UnitNumber) -> Option<UnitNumber> {
        let reference = self.reference(number)?;
        (self.motion_span > 0).then(|| reference.offset(-i64::from(self.motion_span)))
    }
}

/// Codes the header.
pub(crate) fn code_header(
    coder: &mut impl SymbolCoder,
    header: UnitHeader,
) -> Result<UnitHeader, InvalidSymbol> {
    let age = coder.symbol(&AGES, header.age as usize)? as u32;
    let motion_span =
        if age == 0 { 0 } else { coder.symbol(&MOTION_SPANS, header.motion_span as usize)? as u32 };
    Ok(UnitHeader { age, motion_span })
}

/// Codes the rate relative to the reference's, or to the normal rate in a key unit.
pub(crate) fn code_rate(
    coder: &mut impl SymbolCoder,
    base: Base<'_>,
    rate: Rate,
) -> Result<Rate, InvalidSymbol> {
    let (table, expected) = match base {
        Base::Rest => (&KEY_RATE, Rate::Normal),
        Base::Reference { state, .. } => (&DELTA_RATE, state.rate),
    };
    let difference = (rate.code() + 3 - expected.code()) % 3;
    let difference = coder.symbol(table, difference)?;
    Rate::CODED.get((expected.code() + difference) % 3).copied().ok_or(InvalidSymbol)
}

/// Quantized residuals of a unit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Levels {
    /// Of the unit's own positions.
    pub(crate) residuals: [i32; FEATURE_DIMS],
    /// Of the midpoints, if the unit codes any.
    pub(crate) midpoints: Option<MidpointLevels>,
}

impl Levels {
    /// All zero.
    pub(crate) const ZERO: Self = Self { residuals: [0; FEATURE_DIMS], midpoints: None };
}

/// Codes the levels of a unit; returns the unit's state, and its midpoint levels if it codes any.
pub(crate) fn code_levels(
    coder: &mut impl SymbolCoder,
    profile: &Profile,
    base: Base<'_>,
    rate: Rate,
    levels: &Levels,
) -> Result<(UnitState, Option<MidpointLevels>), InvalidSymbol> {
    let midpoints = midpoints(rate);
    let predictor = Predictor::new(profile, base, rate);
    let (mut ratio, mut midpoint_ratio) = (MagnitudeRatio::default(), MagnitudeRatio::default());
    let mut state = UnitState::rest(rate);
    if let Base::Reference { state: reference, .. } = base
        && !midpoints.is_empty()
    {
        let table = if reference.has_midpoints { &MIDPOINTS_AGAIN } else { &MIDPOINTS_AFTER_NONE };
        state.has_midpoints = coder.symbol(table, usize::from(levels.midpoints.is_some()))? == 1;
    }
    let mut trellis = Trellis::default();
    let mut midpoint_levels = levels.midpoints.unwrap_or([[0; FEATURE_DIMS]; N_MIDPOINTS]);
    for k in 0..profile.n_components() {
        let prediction = predictor.predict(k);
        let expected = &prediction.magnitude;
        let quantizer = trellis.quantizer();
        let kind = SymbolKind::Residual(quantizer);
        let level = code_level(coder, kind, ratio.class(expected), levels.residuals[k])?;
        trellis = trellis.after(level);
        let half_steps = quantizer.half_steps(level);
        // Below 2^20 and 2^25.
        let position = prediction.position + half_steps * rate.parameters().half_step;
        if position.abs() > MAX_POSITION {
            return Err(InvalidSymbol);
        }
        let residual = magnitude_of_half_steps(half_steps);
        ratio.update(residual, expected);
        state.positions[k] = position;
        state.activity[k] = predictor.activity_after(k, &prediction, residual);
        state.midpoint_activity[k] = predictor.midpoint_activity(k);
        if state.has_midpoints {
            let mut magnitude = MidpointMagnitude::default();
            for (midpoint, levels) in midpoints.iter().zip(&mut midpoint_levels) {
                let expected = predictor.midpoint_magnitude(k, *midpoint, &prediction, residual);
                let class = midpoint_ratio.class(&expected);
                levels[k] = code_level(coder, SymbolKind::Midpoint, class, levels[k])?;
                midpoint_ratio.update(magnitude_of_level(levels[k]), &expected);
                magnitude.add(magnitude_of_level(levels[k]), &expected);
            }
            state.midpoint_activity[k] = predictor.midpoint_activity_after(k, magnitude);
        }
    }
    let midpoint_levels = state.has_midpoints.then_some(midpoint_levels);
    Ok((state, midpoint_levels))
}

static AGES: LazyLock<Table> = LazyLock::new(|| {
    // 0 is a key unit; 1 is usual while nothing is lost, 2 to 4 after a loss, the others while no
    // report arrives.
    let mut frequencies = [24; MAX_AGE as usize + 1];
    frequencies[..9].copy_from_slice(&[300, 0, 1300, 900, 500, 300, 150, 150, 150]);
    completed(&mut frequencies, 1)
});

static MOTION_SPANS: LazyLock<Table> = LazyLock::new(|| {
    let mut frequencies = [100; MAX_MOTION_SPAN as usize + 1];
    frequencies[..4].copy_from_slice(&[300, 0, 700, 300]);
    completed(&mut frequencies, 1)
});

static KEY_RATE: LazyLock<Table> = LazyLock::new(|| completed(&mut [0, 4096, 4096], 0));
static DELTA_RATE: LazyLock<Table> = LazyLock::new(|| completed(&mut [0, 128, 128], 0));
/// Whether a unit codes midpoints, if its reference codes none.
static MIDPOINTS_AFTER_NONE: LazyLock<Table> = LazyLock::new(|| completed(&mut [0, 2048], 0));
/// Whether a unit codes midpoints, if its reference does.
static MIDPOINTS_AGAIN: LazyLock<Table> = LazyLock::new(|| completed(&mut [1024, 0], 1));

/// Returns the table in which `symbol` has what the other frequencies leave of `2^14`.
fn completed(frequencies: &mut [u16], symbol: usize) -> Table {
    frequencies[symbol] = 0;
    let others: u16 = frequencies.iter().sum();
    frequencies[symbol] = (1 << PRECISION) - others;
    Table::from_nonzero_fixed_point_probabilities(&*frequencies, false)
        .expect("the frequencies above leave something")
}
