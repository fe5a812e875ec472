//! Reading of little-endian fields, variable-length integers and wrapped counters.

/// Reader of the fields of a message. Returns `None` when a field is cut off.
pub(crate) struct FieldReader<'a> {
    rest: &'a [u8],
}

impl<'a> FieldReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(n)?;
        self.rest = tail;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[b]| b)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u24(&mut self) -> Option<u32> {
        self.array().map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Reads a variable-length integer: seven bits per byte, low bits first, at most three bytes.
    pub(crate) fn varint(&mut self) -> Option<u32> {
        let mut value = 0;
        for shift in [0, 7, 14] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Largest value of a variable-length integer.
pub(crate) const MAX_VARINT: u32 = (1 << 21) - 1;

/// Appends `value`, limited to [`MAX_VARINT`], as a variable-length integer.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: u32) {
    let mut rest = value.min(MAX_VARINT);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Returns the number nearest to `near` whose low `bits` bits are `low`.
pub(crate) fn unwrap_near(near: u64, low: u64, bits: u32) -> u64 {
    let period = 1_u64 << bits;
    let candidate = (near & !(period - 1)) | (low & (period - 1));
    if candidate > near && candidate - near > period / 2 && candidate >= period {
        candidate - period
    } else if near > candidate && near - candidate > period / 2 {
        candidate.saturating_add(period)
    } else {
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_wrapped_number_unwraps_to_the_nearest_one() {
        for (near, low, bits, want) in [
            (0, 3, 16, 3),
            (0, 0xffff, 16, 0xffff), // there is nothing below 0
            (0x1_0002, 0xffff, 16, 0xffff),
            (0xfffe, 1, 16, 0x1_0001),
            (0x5_8000, 0x8001, 16, 0x5_8001),
        ] {
            assert_eq!(unwrap_near(near, low, bits), want, "{low:#x} near {near:#x}");
        }
    }

    proptest! {
        #[test]
        fn a_varint_survives(value in 0..=MAX_VARINT) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            prop_assert_eq!(FieldReader::new(&bytes).varint(), Some(value));
        }

        #[test]
        fn numbers_within_half_a_period_survive_wrapping(near in 0_u64..1 << 40, step in -32_000_i64..32_000) {
            let number = near.saturating_add_signed(step);
            prop_assert_eq!(unwrap_near(near, number & 0xffff, 16), number);
        }
    }
}
