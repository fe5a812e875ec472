use std::fmt;

/// The longest access unit there is.
pub const MAX_UNIT_BYTES: usize = 255;

/// Number of a unit in its stream: a counter of [`UnitId::BITS`] bits that wraps.
///
/// Each unit's is one more than the last's, so the difference of two ids is an age in units. Two ids
/// are compared along the shorter way around, right while they are fewer than 32,768 apart: 20
/// minutes at 25 a second. A unit does not hold its id: whoever carries it does, as packets and files
/// do.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct UnitId(u16);

impl UnitId {
    /// Bits of the counter.
    pub const BITS: u32 = 16;

    /// From the low [`UnitId::BITS`] bits of a count.
    pub const fn from_count(count: u32) -> Self {
        Self(count as u16)
    }

    /// The counter.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The id `by` units later (earlier when negative).
    #[must_use]
    pub const fn offset(self, by: i32) -> Self {
        Self::from_count((self.0 as i32 + by) as u32)
    }

    /// How many units `self` comes after `earlier`: -32768..32768, negative when it comes before.
    pub const fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed() as i32
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The coded bytes of one feature, 1 to [`MAX_UNIT_BYTES`] of them.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct AccessUnit(Vec<u8>);

/// Why bytes are not an access unit. Drop them.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Nothing at all.
    #[error("an access unit has at least one byte")]
    Empty,
    /// No encoder makes units this long.
    #[error("an access unit of {got} bytes is longer than {MAX_UNIT_BYTES}")]
    TooLong { got: usize },
}

impl AccessUnit {
    /// A unit from bytes off the wire. Whether they decode, only a [`crate::Decoder`] can tell.
    ///
    /// # Errors
    /// If there are no bytes or too many.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        match bytes.len() {
            0 => Err(ParseError::Empty),
            1..=MAX_UNIT_BYTES => Ok(Self(bytes.to_vec())),
            got => Err(ParseError::TooLong { got }),
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn new(coded: Vec<u8>) -> Self {
        debug_assert!(coded.len() <= MAX_UNIT_BYTES, "syntax.rs bounds the length");
        // What takes no bits at all takes a byte, so that there is something to carry.
        Self(if coded.is_empty() { vec![0] } else { coded })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_compared_the_shorter_way_around() {
        for (later, earlier, want) in
            [(5, 3, 2), (1, 65_535, 2), (65_535, 1, -2), (32_768, 0, -32_768)]
        {
            let (later, earlier) = (UnitId::from_count(later), UnitId::from_count(earlier));
            assert_eq!(later.since(earlier), want, "{later} since {earlier}");
            assert_eq!(earlier.offset(want), later);
        }
    }

    #[test]
    fn a_unit_has_one_to_255_bytes() {
        assert_eq!(AccessUnit::parse(&[]), Err(ParseError::Empty));
        assert_eq!(AccessUnit::parse(&[0; 256]), Err(ParseError::TooLong { got: 256 }));
        assert!(AccessUnit::parse(&[7; 255]).is_ok());
    }
}
