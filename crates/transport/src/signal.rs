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
    Offer(String),
    /// The guest's WebRTC session description.
    Answer(String),
    /// A further ICE candidate, as its SDP attribute.
    Candidate(String),
    /// The sender leaves before the peers are connected.
    Leave,
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
        let (kind, body) = match self {
            Self::Announce(version) => (0, version.to_le_bytes().to_vec()),
            Self::Offer(sdp) => (1, sdp.clone().into_bytes()),
            Self::Answer(sdp) => (2, sdp.clone().into_bytes()),
            Self::Candidate(line) => (3, line.clone().into_bytes()),
            Self::Leave => (4, Vec::new()),
        };
        [&[kind][..], &body].concat()
    }

    /// Parses a signal; the inverse of [`Signal::to_bytes`].
    ///
    /// # Errors
    /// If the bytes are not a signal of this version.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignalError> {
        let (&kind, body) = bytes.split_first().ok_or(SignalError::BadBody)?;
        let text = |limit: usize| {
            let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= limit);
            text.map(str::to_owned).ok_or(SignalError::BadBody)
        };
        match kind {
            0 => {
                let version = body.try_into().map_err(|_| SignalError::BadBody)?;
                Ok(Self::Announce(u16::from_le_bytes(version)))
            }
            1 => Ok(Self::Offer(text(MAX_SDP_BYTES)?)),
            2 => Ok(Self::Answer(text(MAX_SDP_BYTES)?)),
            3 => Ok(Self::Candidate(text(MAX_CANDIDATE_BYTES)?)),
            4 if body.is_empty() => Ok(Self::Leave),
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
        fn a_signal_survives(text in ".{0,200}", version: u16) {
            for signal in [
                Signal::Announce(version),
                Signal::Offer(text.clone()),
                Signal::Answer(text.clone()),
                Signal::Candidate(text),
                Signal::Leave,
            ] {
                prop_assert_eq!(Signal::parse(&signal.to_bytes()), Ok(signal));
            }
        }

        #[test]
        fn no_bytes_make_parse_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Signal::parse(&bytes);
        }
    }
}
