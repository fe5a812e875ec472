use std::fmt;

/// Largest size of an access unit, in bytes.
pub const MAX_UNIT_BYTES: usize = 255;

/// Number of an access unit in its stream, counted from 0 by the encoder without wrapping.
///
/// Units do not contain their number; packets carry its low 16 bits and a stream file implies it
/// by position.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UnitNumber(pub u64);

impl UnitNumber {
    /// Returns the number `by` units later, or earlier when `by` is negative.
    ///
    /// Wraps around at the ends of `u64`. If a damaged unit references a unit before unit 0, the
    /// result is therefore a number that no unit has.
    #[must_use]
    pub const fn offset(self, by: i64) -> Self {
        Self(self.0.wrapping_add_signed(by))
    }

    /// Returns how many units `self` comes after `earlier`; negative when it comes before.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }
}

impl fmt::Display for UnitNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_the_inverse_of_offset() {
        for (number, by) in [(5, 3), (5, -5), (5, -6), (u64::MAX, 1)] {
            let number = UnitNumber(number);
            assert_eq!(number.offset(by).since(number), by);
        }
    }
}
