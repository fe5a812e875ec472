//! Fixed-point probabilities of residual levels, one table per scale class.
//!
//! A *scale class* is the quantized expected magnitude of a residual: the context of its symbol.

use std::sync::LazyLock;

use crate::range_coder::{InvalidSymbol, PRECISION, SymbolCoder, Table};
use crate::trellis::Quantizer;

/// Number of scale classes. Class `c` stands for a mean magnitude of `2^((c - 28) / 4)` levels.
pub(crate) const N_CLASSES: i32 = 84;

/// Fixed-point scale of magnitudes: the magnitude of level 1.
pub(crate) const LEVEL: u64 = 4096;

/// Largest magnitude of a level, so that no position overflows.
pub(crate) const MAX_LEVEL: i32 = (1 << 19) - 1;

/// Number of classes with their own table. Larger classes use one of the last four tables for the
/// high bits and code the low bits without a model.
const N_TABLES: i32 = 36;
/// Largest magnitude with its own symbol; larger ones take an escape symbol, one per sign.
const REACH: i32 = 20;
/// Symbols in a table: 0, the magnitudes of both signs, and two escapes.
const N_SYMBOLS: usize = 2 * REACH as usize + 3;
/// Bits that code the length of an escaped magnitude.
const ESCAPE_BITS: u32 = 5;

/// Kind of a level. Each has its own set of tables.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SymbolKind {
    /// Level of a feature residual under this quantizer.
    Residual(Quantizer),
    /// Level of a midpoint residual.
    Midpoint,
}

impl SymbolKind {
    const ALL: [Self; 3] =
        [Self::Residual(Quantizer::Whole), Self::Residual(Quantizer::Half), Self::Midpoint];

    fn index(self) -> usize {
        match self {
            Self::Residual(Quantizer::Whole) => 0,
            Self::Residual(Quantizer::Half) => 1,
            Self::Midpoint => 2,
        }
    }
}

/// Probability of level 0 by kind and class, in 1/65536.
///
/// This and the ratios below are logistic functions of a cubic in the class. They were fitted to
/// units of four people and the actor, alternating with the encoder's choices, and rounded.
const ZERO: [[u32; N_TABLES as usize]; 3] = [
    [
        65_031, 65_034, 65_021, 64_991, 64_943, 64_873, 64_777, 64_647, 64_473, 64_243, 63_939,
        63_536, 63_005, 62_308, 61_397, 60_219, 58_714, 56_824, 54_503, 51_729, 48_518, 44_936,
        41_094, 37_142, 33_244, 29_550, 26_179, 23_208, 20_674, 18_582, 16_916, 15_652, 14_767,
        14_244, 14_081, 14_290,
    ],
    [
        61_103, 59_864, 58_402, 56_711, 54_796, 52_674, 50_366, 47_907, 45_333, 42_685, 40_004,
        37_327, 34_688, 32_114, 29_628, 27_245, 24_977, 22_829, 20_803, 18_900, 17_117, 15_450,
        13_896, 12_449, 11_106, 9861, 8712, 7653, 6683, 5798, 4994, 4269, 3619, 3042, 2533, 2088,
    ],
    [
        65_200, 65_200, 65_200, 65_200, 65_200, 65_200, 65_200, 65_089, 64_878, 64_583, 64_181,
        63_640, 62_926, 62_000, 60_820, 59_344, 57_531, 55_349, 52_777, 49_813, 46_476, 42_812,
        38_891, 34_808, 30_671, 26_592, 22_681, 19_029, 15_705, 12_754, 10_194, 8021, 6214, 4741,
        3562, 2636,
    ],
];
/// Ratio of the probabilities of successive magnitudes from 1 on, by kind and class, in 1/65536.
const TAIL: [[u32; N_TABLES as usize]; 3] = [
    [
        1, 1, 1, 1, 1, 1, 2, 3, 5, 9, 15, 26, 44, 73, 120, 194, 310, 490, 764, 1173, 1773, 2634,
        3838, 5473, 7623, 10_345, 13_647, 17_472, 21_694, 26_131, 30_577, 34_841, 38_775, 42_286,
        45_335, 47_925,
    ],
    [
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 5, 13, 31, 68, 145, 289, 549, 988, 1694, 2762, 4288, 6342,
        8949, 12_064, 15_580, 19_344, 23_187, 26_956, 30_536, 33_855, 36_879, 39_607, 42_059,
        44_265, 46_262,
    ],
    [
        47, 47, 48, 51, 56, 64, 74, 87, 106, 131, 165, 212, 276, 365, 488, 660, 899, 1233, 1697,
        2339, 3220, 4413, 6001, 8068, 10_682, 13_874, 17_616, 21_806, 26_273, 30_802, 35_178,
        39_221, 42_811, 45_891, 48_457, 50_536,
    ],
];
/// The ratio of the mixture's wide part, by class: that of whole steps eight classes higher.
const WIDE_TAIL: [u32; N_TABLES as usize] = [
    5, 9, 15, 26, 44, 73, 120, 194, 310, 490, 764, 1173, 1773, 2634, 3838, 5473, 7623, 10_345,
    13_647, 17_472, 21_694, 26_131, 30_577, 34_841, 38_775, 42_286, 45_335, 47_925, 50_086, 51_862,
    53_302, 54_452, 55_352, 56_037, 56_532, 56_857,
];

/// Returns the expected magnitude of a class, in 1/4096 levels.
pub(crate) fn expected_magnitude(class: i32) -> u64 {
    const QUARTER_OCTAVES: [u64; 4] = [32, 38, 45, 54];
    let class = class.clamp(0, N_CLASSES - 1) as usize;
    QUARTER_OCTAVES[class % 4] << (class / 4)
}

/// Returns the class nearest to an expected magnitude in 1/4096 levels.
pub(crate) fn class_of_magnitude(magnitude: u64) -> i32 {
    // The class is one of the four in this octave, or the first of the next.
    let octave = (magnitude.max(32).ilog2() as i32 - 5).min(N_CLASSES / 4 - 1);
    // Thresholds: sums of neighboring magnitudes.
    let beyond = |sum: u64| i32::from(2 * magnitude > sum << octave);
    let class = 4 * octave + beyond(70) + beyond(83) + beyond(99) + beyond(118);
    class.min(N_CLASSES - 1)
}

/// Returns how many low bits a class codes without a model, and the index of its table.
fn split(class: i32) -> (u32, usize) {
    let class = class.clamp(0, N_CLASSES - 1);
    let n_low = if class < N_TABLES { 0 } else { ((class - N_TABLES) / 4 + 1) as u32 };
    (n_low, (class - 4 * n_low as i32) as usize)
}

/// Rate of levels, for the encoder's search.
#[derive(Clone, Copy)]
pub(crate) struct Costs(&'static [Vec<[u32; N_SYMBOLS]>; SymbolKind::ALL.len()]);

impl Costs {
    pub(crate) fn new() -> Self {
        Self(&COSTS)
    }

    /// Returns the bits that a level takes under a class, in 1/256.
    pub(crate) fn of(self, kind: SymbolKind, class: i32, level: i32) -> u32 {
        let (n_low, table) = split(class);
        let high = (level + ((1 << n_low) >> 1)) >> n_low;
        let symbol = high.clamp(-REACH - 1, REACH + 1) + REACH + 1;
        let mut cost = self.0[kind.index()][table][symbol as usize] + 256 * n_low;
        if high.abs() > REACH {
            let excess = (high.abs() - REACH - 1) as u32;
            cost += 256 * (ESCAPE_BITS + 32 - excess.leading_zeros());
        }
        cost
    }
}

/// Codes a level under a scale class.
pub(crate) fn code_level(
    coder: &mut impl SymbolCoder,
    kind: SymbolKind,
    class: i32,
    level: i32,
) -> Result<i32, InvalidSymbol> {
    let (n_low, table) = split(class);
    let table = &TABLES[kind.index()][table];
    let half = (1 << n_low) >> 1;
    let shifted = level + half;
    let high = shifted >> n_low;

    let symbol = high.clamp(-REACH - 1, REACH + 1) + REACH + 1;
    let clamped = coder.symbol(table, symbol as usize)? as i32 - REACH - 1;
    let high = if clamped.abs() <= REACH {
        clamped
    } else {
        // Escape: the number of bits of the excess magnitude, then those bits.
        let excess = high.abs().saturating_sub(REACH + 1) as u32;
        let n_bits = coder.bits(ESCAPE_BITS, 32 - excess.leading_zeros())?;
        if n_bits > 20 {
            return Err(InvalidSymbol);
        }
        let excess = coder.bits(n_bits, excess)?;
        clamped.signum() * (excess as i32 + REACH + 1)
    };
    let low = coder.bits(n_low, shifted as u32 & ((1 << n_low) - 1))?;
    let level = (i64::from(high) << n_low) + i64::from(low) - i64::from(half);
    i32::try_from(level).ok().filter(|l| l.abs() <= MAX_LEVEL).ok_or(InvalidSymbol)
}

/// By kind and class.
static TABLES: LazyLock<[Vec<Table>; SymbolKind::ALL.len()]> = LazyLock::new(|| {
    SymbolKind::ALL.map(|kind| {
        let table = |class| {
            Table::from_nonzero_fixed_point_probabilities(frequencies(kind, class), false)
                .expect("the center completes the frequencies to 2^14")
        };
        (0..N_TABLES as usize).map(table).collect()
    })
});

/// Bits of the symbols of each table, in 1/256.
static COSTS: LazyLock<[Vec<[u32; N_SYMBOLS]>; SymbolKind::ALL.len()]> = LazyLock::new(|| {
    let cost = |f: u16| 256 * PRECISION as u32 - log2(u32::from(f));
    SymbolKind::ALL.map(|kind| {
        (0..N_TABLES as usize).map(|class| frequencies(kind, class).map(cost)).collect()
    })
});

/// Returns `256 log2(x)`, rounded down. In integers, so that encoders on all machines agree.
fn log2(x: u32) -> u32 {
    let octave = x.max(1).ilog2();
    let mut mantissa = u64::from(x.max(1)) << (31 - octave);
    let mut log = octave;
    for _ in 0..8 {
        mantissa = (mantissa * mantissa) >> 31;
        let carry = (mantissa >> 32) as u32;
        mantissa >>= carry;
        log = log << 1 | carry;
    }
    log
}

/// Returns the frequencies of a table, which sum to `2^14`.
///
/// Level 0 has the probability [`ZERO`]; the others follow a mixture of two geometric
/// distributions, 63/64 with the ratio [`TAIL`] and 1/64 with [`WIDE_TAIL`], four times as wide for
/// sudden movements. Every symbol has at least a frequency of 1. Normative, see docs/BITSTREAM.md.
fn frequencies(kind: SymbolKind, class: usize) -> [u16; N_SYMBOLS] {
    let center = (REACH + 1) as usize;
    let zero = u64::from(ZERO[kind.index()][class]);
    let mut mass = [0_u64; N_SYMBOLS];
    mass[center] = (64 * zero) << 16;
    for (parts, tail) in [(63, TAIL[kind.index()][class]), (1, WIDE_TAIL[class])] {
        let tail = u64::from(tail);
        // p(1) = (1 - zero) / 2 * (1 - tail), in 2^-32.
        let mut p = (65_536 - zero) * (65_536 - tail) / 2;
        for k in 1..=REACH as usize {
            mass[center + k] += parts * p;
            mass[center - k] += parts * p;
            p = (p * tail) >> 16;
        }
        // The sum over all larger magnitudes: p / (1 - tail).
        let beyond = (p << 16) / (65_536 - tail);
        mass[0] += parts * beyond;
        mass[N_SYMBOLS - 1] += parts * beyond;
    }
    let total: u64 = mass.iter().sum();
    let free = (1 << PRECISION) - N_SYMBOLS as u64;
    let mut frequencies = mass.map(|m| (1 + m * free / total) as u16);
    let used: u64 = frequencies.iter().map(|&f| u64::from(f)).sum();
    frequencies[center] += ((1 << PRECISION) - used) as u16;
    frequencies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_is_the_first_with_the_nearest_magnitude() {
        let nearest = |magnitude: u64| {
            let is_far = |c: i32| expected_magnitude(c) + expected_magnitude(c + 1) < 2 * magnitude;
            (0..N_CLASSES - 1).find(|c| !is_far(*c)).unwrap_or(N_CLASSES - 1)
        };
        for class in 0..N_CLASSES {
            let middle = u64::midpoint(expected_magnitude(class), expected_magnitude(class + 1));
            for magnitude in [expected_magnitude(class), middle - 1, middle, middle + 1] {
                assert_eq!(class_of_magnitude(magnitude), nearest(magnitude), "{magnitude}");
            }
        }
        assert_eq!(class_of_magnitude(0), 0);
        assert_eq!(class_of_magnitude(u64::MAX / 4), N_CLASSES - 1);
    }

    #[test]
    fn every_level_has_a_cost_that_does_not_depend_on_its_sign() {
        let costs = Costs::new();
        for kind in SymbolKind::ALL {
            for class in 0..N_TABLES {
                for level in [1, 3, 20, 21, 5000, MAX_LEVEL] {
                    let cost = costs.of(kind, class, level);
                    assert_eq!(cost, costs.of(kind, class, -level), "{kind:?} {class} {level}");
                    assert!((1..60 * 256).contains(&cost), "{kind:?} {class} {level}: {cost}");
                }
            }
        }
    }
}
