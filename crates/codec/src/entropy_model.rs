//! Integer distributions of a residual, one for each *scale class*.

use std::sync::LazyLock;

use crate::range_coder::{InvalidCode, PRECISION, SymbolCoder, Table};

/// Scale classes: class `c` expects a mean magnitude of `2^((c - 28) / 4)` levels.
pub(crate) const N_CLASSES: i32 = 84;

/// Magnitudes are counted in this part of a level.
pub(crate) const LEVEL: u64 = 4096;

/// Residuals are never larger in magnitude: two levels of 17 bits and a sign apart.
pub(crate) const MAX_RESIDUAL: i32 = (1 << 19) - 1;

/// Classes with a table of their own. From here up, classes code low bits as they are.
const N_TABLES: i32 = 36;
/// Largest magnitude with a symbol of its own; beyond it an escape on either side.
const REACH: i32 = 20;
/// Bits of the length of what is beyond.
const ESCAPE_BITS: u32 = 5;
/// `theta` of the two-sided geometric distribution `p(k) ~ theta^|k|` whose mean magnitude is
/// that of class `c`, in 1/65536: `(sqrt(1 + m²) - 1) / m`, rounded, written down once.
const THETA: [u32; 44] = [
    256, 304, 362, 431, 512, 609, 724, 861, 1024, 1217, 1447, 1721, 2046, 2432, 2891, 3435, 4080,
    4844, 5748, 6814, 8068, 9536, 11244, 13217, 15471, 18012, 20830, 23892, 27146, 30518, 33924,
    37278, 40503, 43539, 46341, 48887, 51169, 53191, 54967, 56514, 57854, 59008, 59999, 60846,
];

/// Expected magnitude of a class in 1/4096 levels.
pub(crate) fn expected_magnitude(class: i32) -> u64 {
    const QUARTER_OCTAVES: [u64; 4] = [32, 38, 45, 54];
    let class = class.clamp(0, N_CLASSES - 1) as usize;
    QUARTER_OCTAVES[class % 4] << (class / 4)
}

/// The class nearest to an expected magnitude in 1/4096 levels.
pub(crate) fn class_of_magnitude(magnitude: u64) -> i32 {
    // The octave first: its four classes, or the first of the next, hold the answer.
    let octave = (magnitude.max(32).ilog2() as i32 - 5).min(N_CLASSES / 4 - 1);
    let mut class = octave * 4;
    while class + 1 < N_CLASSES
        && magnitude * 2 > expected_magnitude(class) + expected_magnitude(class + 1)
    {
        class += 1;
    }
    class
}

/// Low bits that a class codes as they are, and its table.
fn split(class: i32) -> (u32, usize) {
    let class = class.clamp(0, N_CLASSES - 1);
    let n_low = if class < N_TABLES { 0 } else { ((class - N_TABLES) / 4 + 1) as u32 };
    (n_low, (class - 4 * n_low as i32) as usize)
}

/// What a residual costs under a class, in 1/256 bits.
pub(crate) fn cost(class: i32, residual: i32) -> u32 {
    let (n_low, table) = split(class);
    let high = (residual + ((1 << n_low) >> 1)) >> n_low;
    let symbol = high.clamp(-REACH - 1, REACH + 1) + REACH + 1;
    let mut cost = COSTS[table][symbol as usize] + 256 * n_low;
    if high.abs() > REACH {
        let excess = (high.abs() - REACH - 1) as u32;
        cost += 256 * (ESCAPE_BITS + 32 - excess.leading_zeros());
    }
    cost
}

/// Codes a residual under a scale class.
pub(crate) fn code_residual(
    coder: &mut impl SymbolCoder,
    class: i32,
    residual: i32,
) -> Result<i32, InvalidCode> {
    let (n_low, table) = split(class);
    let table = &TABLES[table];
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
        let n_bits = coder.bits(ESCAPE_BITS, 32 - excess.leading_zeros())?;
        if n_bits > 20 {
            return Err(InvalidCode);
        }
        let excess = coder.bits(n_bits, excess)?;
        symbol.signum() * (excess as i32 + REACH + 1)
    };
    let low = coder.bits(n_low, shifted as u32 & ((1 << n_low) - 1))?;
    let residual = (i64::from(high) << n_low) + i64::from(low) - i64::from(half);
    i32::try_from(residual).ok().filter(|r| r.abs() <= MAX_RESIDUAL).ok_or(InvalidCode)
}

static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
    (0..N_TABLES as usize)
        .map(|class| {
            Table::from_nonzero_fixed_point_probabilities(frequencies(class), false)
                .expect("the center took what was missing from 2^14")
        })
        .collect()
});

/// Costs of the symbols of each table, 1/256 bits.
static COSTS: LazyLock<Vec<Vec<u32>>> = LazyLock::new(|| {
    let cost = |f: &u16| 256 * PRECISION as u32 - log2(u32::from(*f));
    (0..N_TABLES as usize).map(|class| frequencies(class).iter().map(cost).collect()).collect()
});

/// `256 log2(x)`, rounded down, in integers: an encoder's choices are alike on all machines.
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

/// 63 parts a two-sided geometric distribution of the class's scale, one part of four times
/// that scale (faces jerk), nothing impossible. Computed in integers as docs/BITSTREAM.md says.
fn frequencies(class: usize) -> Vec<u16> {
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
    frequencies
}
