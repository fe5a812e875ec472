use bytes::Bytes;

/// Why bytes are not the payload of a sound packet. Drop and count them; the call goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SoundPayloadError {
    /// Longer than [`SoundPayload::MAX_BYTES`].
    #[error("the payload of {0} bytes is longer than {max}", max = SoundPayload::MAX_BYTES)]
    TooLong(usize),
    /// No feature packet and no Opus packet, or a pair of Opus packets without one of them.
    #[error("a part of the payload is empty")]
    Empty,
    /// The feature packet, or the earlier packet of a pair, ends beyond the payload.
    #[error("a part of the payload has {stated} bytes, but {left} are left")]
    Truncated {
        /// Length of the part, as the payload states it.
        stated: usize,
        /// Bytes that follow.
        left: usize,
    },
}

/// Payload of an RTP packet of a call: a feature packet, up to two Opus packets, or both.
///
/// One byte gives the length of the feature packet, 0 if there is none. The feature packet follows, then
/// the Opus packet, which extends to the end. A *pair* of Opus packets is marked in the RTP header; one
/// more byte then precedes the earlier one with its length.
///
/// # Examples
/// ```
/// use transport::SoundPayload;
///
/// let [features, opus] = [b"face".as_slice(), b"voice"].map(Into::into);
/// let payload = SoundPayload { features, opus, ..SoundPayload::default() };
/// let bytes = payload.to_bytes()?;
/// assert_eq!(bytes[..], *b"\x04facevoice");
/// assert_eq!(SoundPayload::parse(&bytes, payload.is_pair())?, payload);
/// # Ok::<(), transport::SoundPayloadError>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SoundPayload {
    /// A feature packet; empty if there is none.
    pub features: Bytes,
    /// The earlier Opus packet of a pair; empty if there is none.
    pub earlier: Bytes,
    /// An Opus packet; empty if there is none.
    pub opus: Bytes,
}

impl SoundPayload {
    /// Largest size of a payload, in bytes: with all headers it fits the minimum MTU of IPv6.
    pub const MAX_BYTES: usize = 1180;
    /// Largest size of a feature packet and of the earlier packet of a pair, in bytes.
    pub const MAX_PART: usize = u8::MAX as usize;
    /// Time from the first audio sample of one packet of a pair to that of the other, in samples at
    /// 48 kHz: 120 ms.
    pub const PAIR_OFFSET: u32 = 5760;

    /// Returns whether the payload has two Opus packets, which the RTP header says.
    pub fn is_pair(&self) -> bool {
        !self.earlier.is_empty()
    }

    /// Returns whether the payload fits into a packet.
    pub fn fits(&self) -> bool {
        self.features.len() <= Self::MAX_PART
            && self.earlier.len() <= Self::MAX_PART
            && self.n_bytes() <= Self::MAX_BYTES
    }

    fn n_bytes(&self) -> usize {
        let earlier = if self.is_pair() { 1 + self.earlier.len() } else { 0 };
        1 + self.features.len() + earlier + self.opus.len()
    }

    /// Serializes the payload, as specified in docs/TRANSPORT.md.
    ///
    /// # Errors
    /// If the payload is empty, has only the earlier packet of a pair, or does not fit
    /// ([`SoundPayload::fits`]).
    pub fn to_bytes(&self) -> Result<Bytes, SoundPayloadError> {
        if !self.fits() {
            return Err(SoundPayloadError::TooLong(self.n_bytes()));
        }
        if self.opus.is_empty() && (self.features.is_empty() || self.is_pair()) {
            return Err(SoundPayloadError::Empty);
        }
        let mut bytes = Vec::with_capacity(self.n_bytes());
        bytes.push(self.features.len() as u8);
        bytes.extend_from_slice(&self.features);
        if self.is_pair() {
            bytes.push(self.earlier.len() as u8);
            bytes.extend_from_slice(&self.earlier);
        }
        bytes.extend_from_slice(&self.opus);
        Ok(bytes.into())
    }

    /// Parses a payload; the inverse of [`SoundPayload::to_bytes`]. The parts share the memory of `bytes`.
    ///
    /// # Errors
    /// If the bytes are not a payload.
    pub fn parse(bytes: &Bytes, is_pair: bool) -> Result<Self, SoundPayloadError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(SoundPayloadError::TooLong(bytes.len()));
        }
        let (features, mut opus) = split(bytes)?;
        let mut earlier = Bytes::new();
        if is_pair {
            (earlier, opus) = split(&opus)?;
            if earlier.is_empty() || opus.is_empty() {
                return Err(SoundPayloadError::Empty);
            }
        }
        Ok(Self { features, earlier, opus })
    }
}

/// Splits off a part whose length the first byte gives.
fn split(bytes: &Bytes) -> Result<(Bytes, Bytes), SoundPayloadError> {
    let (stated, left) = match bytes.split_first() {
        None | Some((_, [])) => return Err(SoundPayloadError::Empty),
        Some((stated, rest)) => (usize::from(*stated), rest.len()),
    };
    if stated > left {
        return Err(SoundPayloadError::Truncated { stated, left });
    }
    Ok((bytes.slice(1..=stated), bytes.slice(1 + stated..)))
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    fn payload(features: &[u8], earlier: &[u8], opus: &[u8]) -> SoundPayload {
        let [features, earlier, opus] = [features, earlier, opus].map(Bytes::copy_from_slice);
        SoundPayload { features, earlier, opus }
    }

    #[test]
    fn v3_sound_payloads_have_exactly_these_bytes() {
        for (payload, bytes) in [
            (payload(&hex!("4005"), &[], &hex!("0bf1")), &hex!("02 4005 0bf1")[..]),
            (payload(&[], &[], &hex!("0bf1")), &hex!("00 0bf1")),
            (payload(&hex!("4005"), &[], &[]), &hex!("02 4005")),
            (
                payload(&hex!("4005"), &hex!("0bf2f3"), &hex!("0bf1")),
                &hex!("02 4005 03 0bf2f3 0bf1"),
            ),
            (payload(&[], &hex!("0bf2f3"), &hex!("0bf1")), &hex!("00 03 0bf2f3 0bf1")),
        ] {
            assert_eq!(payload.to_bytes().as_deref(), Ok(bytes));
            let parsed = SoundPayload::parse(&Bytes::copy_from_slice(bytes), payload.is_pair());
            assert_eq!(parsed, Ok(payload));
        }
    }

    #[test]
    fn bytes_that_are_not_a_payload_are_refused_with_the_reason() {
        for (bytes, is_pair, want) in [
            (&[][..], false, SoundPayloadError::Empty),
            (&[0], false, SoundPayloadError::Empty),
            (&[7], false, SoundPayloadError::Empty),
            (&[3, 1, 2], false, SoundPayloadError::Truncated { stated: 3, left: 2 }),
            (&[0; 1500], false, SoundPayloadError::TooLong(1500)),
            (&[2, 1, 1], true, SoundPayloadError::Empty),
            (&[0, 2, 1], true, SoundPayloadError::Truncated { stated: 2, left: 1 }),
            (&[0, 2, 1, 1], true, SoundPayloadError::Empty),
            (&[0, 0, 1, 1], true, SoundPayloadError::Empty),
        ] {
            let parsed = SoundPayload::parse(&Bytes::copy_from_slice(bytes), is_pair);
            assert_eq!(parsed, Err(want), "{bytes:?}");
        }
    }

    #[test]
    fn a_payload_that_no_receiver_would_take_is_not_made() {
        for (n_features, n_earlier, n_opus, want) in [
            (255, 0, SoundPayload::MAX_BYTES - 256, None),
            (255, 0, SoundPayload::MAX_BYTES - 255, Some(SoundPayloadError::TooLong(1181))),
            (256, 0, 1, Some(SoundPayloadError::TooLong(258))),
            (0, 256, 1, Some(SoundPayloadError::TooLong(259))),
            (0, 0, 0, Some(SoundPayloadError::Empty)),
            (1, 1, 0, Some(SoundPayloadError::Empty)),
        ] {
            let [features, earlier, opus] = [n_features, n_earlier, n_opus].map(|n| vec![7; n]);
            assert_eq!(payload(&features, &earlier, &opus).to_bytes().err(), want);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_survive_a_round_trip(
            bytes in proptest::collection::vec(any::<u8>(), 0..1500),
            is_pair: bool,
        ) {
            let bytes = Bytes::from(bytes);
            if let Ok(payload) = SoundPayload::parse(&bytes, is_pair) {
                prop_assert_eq!(payload.is_pair(), is_pair);
                prop_assert_eq!(payload.to_bytes(), Ok(bytes));
            }
        }
    }
}
