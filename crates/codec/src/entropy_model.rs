//! Integer distributions of a residual, one for each *scale class*.

use std::sync::LazyLock;

use crate::range_coder::{InvalidCode, PRECISION, SymbolCoder, Table};

/// Scale classes: class `c` expects a mean magnitude of `2^((c - 16) / 4)` levels.
pub(crate) const N_CLASSES: i32 = 72;

/// Residuals are never larger in magnitude: two levels of 16 bits and a sign apart.
pub(crate) const MAX_RESIDUAL: i32 = (1 << 18) - 1;

/// Classes with a table of their own. From here up, classes code low bits as they are.
const N_TABLES: i32 = 24;
/// Largest magnitude with a symbol of its own; beyond it an escape on either side.
const REACH: i32 = 20;
/// `theta` of the two-sided geometric distribution `p(k) ~ theta^|k|` whose mean magnitude is
/// that of class `c`, in 1/65536: `(sqrt(1 + m²) - 1) / m`, rounded, written down once.
const THETA: [u32; 32] = [
    2046, 2432, 2891, 3435, 4080, 4844, 5748, 6814, 8068, 9536, 11244, 13217, 15471, 18012, 20830,
    23892, 27146, 30518, 33924, 37278, 40503, 43539, 46341, 48887, 51169, 53191, 54967, 56514,
    57854, 59008, 59999, 60846,
];

/// Expected magnitude of a class in 1/256 levels.
pub(crate) fn expected_magnitude(class: i32) -> u64 {
    const QUARTER_OCTAVES: [u64; 4] = [256, 304, 362, 431];
    let class = class.clamp(0, N_CLASSES - 1) as usize;
    (QUARTER_OCTAVES[class % 4] << (class / 4)) >> 4
}

/// The class nearest to an expected magnitude in 1/256 levels.
pub(crate) fn class_of_magnitude(magnitude: u64) -> i32 {
    let mut class = 0;
    while class + 1 < N_CLASSES
        && magnitude * 2 > expected_magnitude(class) + expected_magnitude(class + 1)
    {
        class += 1;
    }
    class
}

/// Codes a residual under a scale class.
pub(crate) fn code_residual(
    coder: &mut impl SymbolCoder,
    class: i32,
    residual: i32,
) -> Result<i32, InvalidCode> {
    let class = class.clamp(0, N_CLASSES - 1);
    // Above the tables: four classes a bit, which is coded as it is.
    let n_low = if class < N_TABLES { 0 } else { ((class - N_TABLES) / 4 + 1) as u32 };
    let table = &TABLES[(class - 4 * n_low as i32) as usize];
    let half = (1 << n_low) >> 1;
    let shifted = residual + half;
    let high = shifted >> n_low;

    let symbol = high.clamp(-REACH - 1, REACH + 1) + REACH + 1;
    let symbol = coder.symbol(table, symbol as usize)? as i32 - REACH - 1;
    let high = if symbol.abs() <= REACH {
        symbol
    } else {
        // Escape: bits of the excess magnitude, then the magnitude.
        let excess = high.abs().saturating_sub(REACH + 1) as u32;
        let n_bits = coder.bits(5, 32 - excess.leading_zeros())?;
        if n_bits > 19 {
            return Err(InvalidCode);
        }
        let excess = coder.bits(n_bits, excess)?;
        symbol.signum() * (excess as i32 + REACH + 1)
    };
    let low = coder.bits(n_low, shifted as u32 & ((1 << n_low) - 1))?;
    let residual = (i64::from(high) << n_low) + i64::from(low) - i64::from(half);
    i32::try_from(residual).ok().filter(|r| r.abs() <= MAX_RESIDUAL).ok_or(InvalidCode)
}

static TABLES: LazyLock<Vec<Table>> =
    LazyLock::new(|| (0..N_TABLES as usize).map(residual_table).collect());

/// 63 parts a two-sided geometric distribution of the class's scale, one part of four times
/// that scale (faces jerk), nothing impossible. Computed in integers as docs/BITSTREAM.md says.
fn residual_table(class: usize) -> Table {
    let n_symbols = (2 * REACH + 3) as usize;
    let center = (REACH + 1) as usize;
    let mut mass = vec![0_u64; n_symbols];
    for (parts, theta) in [(63, THETA[class]), (1, THETA[class + 8])] {
        let theta = u64::from(theta);
        // p(0) = (1 - theta) / (1 + theta), in 2^-32.
        let mut p = ((65_536 - theta) << 32) / (65_536 + theta);
        mass[center] += parts * p;
        for k in 1..=REACH as usize {
            p = (p * theta) >> 16;
            mass[center + k] += parts * p;
            mass[center - k] += parts * p;
        }
        // All that lies beyond: theta / (1 - theta) times the last one.
        let beyond = p * theta / (65_536 - theta);
        mass[0] += parts * beyond;
        mass[n_symbols - 1] += parts * beyond;
    }
    let total: u64 = mass.iter().sum();
    let free = (1 << PRECISION) - n_symbols as u64;
    let mut frequencies: Vec<u16> = mass.iter().map(|m| (1 + m * free / total) as u16).collect();
    let used: u64 = frequencies.iter().map(|&f| u64::from(f)).sum();
    frequencies[center] += ((1 << PRECISION) - used) as u16;
    Table::from_nonzero_fixed_point_probabilities(&frequencies, false)
        .expect("the center took what was missing from 2^14")
}
