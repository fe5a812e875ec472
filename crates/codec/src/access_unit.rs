use types::MAX_UNIT_BYTES;

/// The coded bytes of one access unit, 1 to [`MAX_UNIT_BYTES`] of them.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct AccessUnit(Vec<u8>);

/// Why bytes are not an access unit. Drop them.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// There are no bytes.
    #[error("an access unit has at least one byte")]
    Empty,
    /// There are more bytes than any encoder writes.
    #[error("an access unit of {got} bytes is longer than {MAX_UNIT_BYTES}")]
    TooLong { got: usize },
}

impl AccessUnit {
    /// Returns a unit with a copy of these bytes. Only a [`crate::Decoder`] can tell whether they
    /// decode.
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

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn new(coded: Vec<u8>) -> Self {
        debug_assert!(coded.len() <= MAX_UNIT_BYTES, "rate_distortion.rs bounds the length");
        // Symbols that take no bits at all still need a byte to carry.
        Self(if coded.is_empty() { vec![0] } else { coded })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_has_one_to_255_bytes() {
        assert_eq!(AccessUnit::parse(&[]), Err(ParseError::Empty));
        assert_eq!(AccessUnit::parse(&[0; 256]), Err(ParseError::TooLong { got: 256 }));
        assert!(AccessUnit::parse(&[7; 255]).is_ok());
    }
}
