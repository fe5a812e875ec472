use bytes::Bytes;

/// Why bytes are not the payload of a sound packet. Drop and count them; the call goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SoundPayloadError {
    /// Longer than [`SoundPayload::MAX_BYTES`].
    #[error("the payload of {0} bytes is longer than {max}", max = SoundPayload::MAX_BYTES)]
    TooLong(usize),
    /// Neither a feature packet nor an Opus packet.
    #[error("the payload is empty")]
    Empty,
    /// The feature packet ends beyond the payload.
    #[error("the feature packet has {stated} bytes, but {left} are left")]
    Truncated {
        /// Length of the feature packet, as the payload states it.
        stated: usize,
        /// Bytes that follow.
        left: usize,
    },
}

/// Payload of an RTP packet of a call: a feature packet, an Opus packet, or both.
///
/// One byte gives the length of the feature packet, 0 if there is none. The feature packet follows, then
/// the Opus packet, which extends to the end.
///
/// # Examples
/// ```
/// use transport::SoundPayload;
///
/// let payload = SoundPayload { features: b"face".as_slice().into(), opus: b"voice".as_slice().into() };
/// let bytes = payload.to_bytes()?;
/// assert_eq!(bytes[..], *b"\x04facevoice");
/// assert_eq!(SoundPayload::parse(&bytes)?, payload);
/// # Ok::<(), transport::SoundPayloadError>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SoundPayload {
    /// A feature packet; empty if there is none.
    pub features: Bytes,
    /// An Opus packet; empty if there is none.
    pub opus: Bytes,
}

impl SoundPayload {
    /// Largest size of a payload, in bytes: with all headers it fits the minimum MTU of IPv6.
    pub const MAX_BYTES: usize = 1180;
    /// Largest size of a feature packet in a payload, in bytes.
    pub const MAX_FEATURES: usize = u8::MAX as usize;

    /// Returns whether the payload fits into a packet.
    pub fn fits(&self) -> bool {
        self.features.len() <= Self::MAX_FEATURES
            && 1 + self.features.len() + self.opus.len() <= Self::MAX_BYTES
    }

    /// Serializes the payload, as specified in docs/TRANSPORT.md.
    ///
    /// # Errors
    /// If the payload is empty or longer than [`SoundPayload::MAX_BYTES`], or its feature packet longer
    /// than [`SoundPayload::MAX_FEATURES`].
    pub fn to_bytes(&self) -> Result<Bytes, SoundPayloadError> {
        let length = 1 + self.features.len() + self.opus.len();
        if !self.fits() {
            return Err(SoundPayloadError::TooLong(length));
        }
        if length == 1 {
            return Err(SoundPayloadError::Empty);
        }
        let n_features = self.features.len() as u8;
        Ok([&[n_features][..], &self.features, &self.opus].concat().into())
    }

    /// Parses a payload; the inverse of [`SoundPayload::to_bytes`]. The parts share the memory of `bytes`.
    ///
    /// # Errors
    /// If the bytes are not a payload.
    pub fn parse(bytes: &Bytes) -> Result<Self, SoundPayloadError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(SoundPayloadError::TooLong(bytes.len()));
        }
        let (stated, left) = match bytes.split_first() {
            None | Some((_, [])) => return Err(SoundPayloadError::Empty),
            Some((stated, rest)) => (usize::from(*stated), rest.len()),
        };
        if stated > left {
            return Err(SoundPayloadError::Truncated { stated, left });
        }
        Ok(Self { features: bytes.slice(1..=stated), opus: bytes.slice(1 + stated..) })
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn v3_sound_payloads_have_exactly_these_bytes() {
        for (features, opus, bytes) in [
            (&hex!("4005")[..], &hex!("0bf1")[..], &hex!("02 4005 0bf1")[..]),
            (&[], &hex!("0bf1"), &hex!("00 0bf1")),
            (&hex!("4005"), &[], &hex!("02 4005")),
        ] {
            let [features, opus] = [features, opus].map(Bytes::copy_from_slice);
            let payload = SoundPayload { features, opus };
            assert_eq!(payload.to_bytes().as_deref(), Ok(bytes));
            assert_eq!(SoundPayload::parse(&Bytes::copy_from_slice(bytes)), Ok(payload));
        }
    }

    #[test]
    fn bytes_that_are_not_a_payload_are_refused_with_the_reason() {
        for (bytes, want) in [
            (&[][..], SoundPayloadError::Empty),
            (&[0], SoundPayloadError::Empty),
            (&[7], SoundPayloadError::Empty),
            (&[3, 1, 2], SoundPayloadError::Truncated { stated: 3, left: 2 }),
            (&[0; 1500], SoundPayloadError::TooLong(1500)),
        ] {
            assert_eq!(SoundPayload::parse(&Bytes::copy_from_slice(bytes)), Err(want), "{bytes:?}");
        }
    }

    #[test]
    fn a_payload_that_no_receiver_would_take_is_not_made() {
        for (n_features, n_opus, want) in [
            (255, SoundPayload::MAX_BYTES - 256, None),
            (255, SoundPayload::MAX_BYTES - 255, Some(SoundPayloadError::TooLong(1181))),
            (256, 1, Some(SoundPayloadError::TooLong(258))),
            (0, 0, Some(SoundPayloadError::Empty)),
        ] {
            let [features, opus] = [n_features, n_opus].map(|n| Bytes::from(vec![7; n]));
            assert_eq!(SoundPayload { features, opus }.to_bytes().err(), want);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_survive_a_round_trip(
            bytes in proptest::collection::vec(any::<u8>(), 0..1500),
        ) {
            let bytes = Bytes::from(bytes);
            if let Ok(payload) = SoundPayload::parse(&bytes) {
                prop_assert_eq!(payload.to_bytes(), Ok(bytes));
            }
        }
    }
}
