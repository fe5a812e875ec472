/// Largest size of a session description, in bytes.
const MAX_SDP_BYTES: usize = 32 * 1024;
/// Largest size of a candidate, in bytes.
const MAX_CANDIDATE_BYTES: usize = 1024;

/// Signaling message: the content of a sealed message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Signal {
    /// The guest announces itself with its protocol version and waits for an offer.
    Announce(u16),
    /// The host's WebRTC session description.
    Offer {
        /// Number of the connection attempt, chosen by the host: one more than the last, wrapped.
        attempt: u8,
        /// The description.
        sdp: String,
    },
    /// The guest's WebRTC session description.
    Answer {
        /// Attempt of the offer that is answered.
        attempt: u8,
        /// The description.
        sdp: String,
    },
    /// A further ICE candidate.
    Candidate {
        /// Attempt that the candidate belongs to.
        attempt: u8,
        /// The SDP attribute.
        line: String,
    },
    /// The sender leaves.
    Leave,
    /// The host refuses the guest that has announced itself.
    Refuse(Refusal),
}

/// Why a host refuses a guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The host has another version of the protocol, which is given.
    OtherVersion(u16),
    /// Another guest is in the call.
    AnotherGuest,
    /// The link has been used and leads nowhere any more.
    LinkClosed,
}

/// Why an opened message is not a signal: the peer has another version.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// A kind that this version does not know.
    #[error("unknown signal of kind {0}")]
    Unknown(u8),
    /// The body has the wrong length, is too long or is not UTF-8.
    #[error("the signal has an invalid body")]
    BadBody,
}

impl Signal {
    /// Serializes the signal, as specified in docs/TRANSPORT.md.
    pub fn to_bytes(&self) -> Vec<u8> {
        let of_attempt = |attempt: &u8, text: &str| [&[*attempt], text.as_bytes()].concat();
        let (kind, body) = match self {
            Self::Announce(version) => (0, version.to_le_bytes().to_vec()),
            Self::Offer { attempt, sdp } => (1, of_attempt(attempt, sdp)),
            Self::Answer { attempt, sdp } => (2, of_attempt(attempt, sdp)),
            Self::Candidate { attempt, line } => (3, of_attempt(attempt, line)),
            Self::Leave => (4, Vec::new()),
            Self::Refuse(Refusal::OtherVersion(version)) => {
                (5, [&[0][..], &version.to_le_bytes()].concat())
            }
            Self::Refuse(Refusal::AnotherGuest) => (5, vec![1]),
            Self::Refuse(Refusal::LinkClosed) => (5, vec![2]),
        };
        [&[kind][..], &body].concat()
    }

    /// Parses a signal; the inverse of [`Signal::to_bytes`].
    ///
    /// # Errors
    /// If the bytes are not a signal of this version.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignalError> {
        let (&kind, body) = bytes.split_first().ok_or(SignalError::BadBody)?;
        let of_attempt = |limit: usize| {
            let (&attempt, text) = body.split_first().ok_or(SignalError::BadBody)?;
            let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= limit);
            Ok((attempt, text.ok_or(SignalError::BadBody)?.to_owned()))
        };
        match kind {
            0 => {
                let version = body.try_into().map_err(|_| SignalError::BadBody)?;
                Ok(Self::Announce(u16::from_le_bytes(version)))
            }
            1 => of_attempt(MAX_SDP_BYTES).map(|(attempt, sdp)| Self::Offer { attempt, sdp }),
            2 => of_attempt(MAX_SDP_BYTES).map(|(attempt, sdp)| Self::Answer { attempt, sdp }),
            3 => of_attempt(MAX_CANDIDATE_BYTES)
                .map(|(attempt, line)| Self::Candidate { attempt, line }),
            4 if body.is_empty() => Ok(Self::Leave),
            5 => match *body {
                [0, low, high] => {
                    Ok(Self::Refuse(Refusal::OtherVersion(u16::from_le_bytes([low, high]))))
                }
                [1] => Ok(Self::Refuse(Refusal::AnotherGuest)),
                [2] => Ok(Self::Refuse(Refusal::LinkClosed)),
                _ => Err(SignalError::BadBody),
            },
            4 => Err(SignalError::BadBody),
            other => Err(SignalError::Unknown(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_signal_survives(attempt: u8, text in ".{0,200}", version: u16) {
            for signal in [
                Signal::Announce(version),
                Signal::Offer { attempt, sdp: text.clone() },
                Signal::Answer { attempt, sdp: text.clone() },
                Signal::Candidate { attempt, line: text },
                Signal::Leave,
                Signal::Refuse(Refusal::OtherVersion(version)),
                Signal::Refuse(Refusal::AnotherGuest),
                Signal::Refuse(Refusal::LinkClosed),
            ] {
                prop_assert_eq!(Signal::parse(&signal.to_bytes()), Ok(signal));
            }
        }

        #[test]
        fn no_bytes_make_parse_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(signal) = Signal::parse(&bytes) {
                prop_assert_eq!(signal.to_bytes(), bytes, "the encoding of a signal is unique");
            }
        }
    }

    /// If this fails, the wire format has changed: fix the code, or raise the version.
    #[test]
    fn v2_signals_have_exactly_these_bytes() {
        for (signal, bytes) in [
            (Signal::Announce(2), &b"\x00\x02\x00"[..]),
            (Signal::Offer { attempt: 3, sdp: "v=0".into() }, b"\x01\x03v=0"),
            (Signal::Answer { attempt: 3, sdp: "v=0".into() }, b"\x02\x03v=0"),
            (Signal::Candidate { attempt: 3, line: "c".into() }, b"\x03\x03c"),
            (Signal::Leave, b"\x04"),
            (Signal::Refuse(Refusal::OtherVersion(2)), b"\x05\x00\x02\x00"),
            (Signal::Refuse(Refusal::AnotherGuest), b"\x05\x01"),
            (Signal::Refuse(Refusal::LinkClosed), b"\x05\x02"),
        ] {
            assert_eq!(signal.to_bytes(), bytes, "{signal:?}");
        }
    }
}
