use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;

use crate::Secret;

/// Random bytes each end brings to a call.
pub const SALT_BYTES: usize = 16;
/// Longest sealed message.
pub const MAX_SEALED_BYTES: usize = 64 * 1024;
const HEADER_BYTES: usize = 2 + SALT_BYTES + 4;
const TAG_BYTES: usize = 16;
const VERSION: u8 = 1;
/// Header flag: the key covers the other end's salt too.
const BOUND: u8 = 1;

/// Which end of a call one is; each seals with its own key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Made the invite.
    Host,
    /// Was invited.
    Guest,
}

impl Role {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Host => b"feathercall v1 signal from host",
            Self::Guest => b"feathercall v1 signal from guest",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Host => Self::Guest,
            Self::Guest => Self::Host,
        }
    }
}

/// Why a sealed message was not opened. Drop it; only [`OpenError::AnotherPeer`] needs an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Not a message of this version, or of an impossible length.
    #[error("not a sealed message of this version")]
    NotSealed,
    /// Sealed with another secret, by the wrong end, or changed on the way.
    #[error("the message was not sealed with this call's secret")]
    Forged,
    /// It was opened before, or one after it was.
    #[error("the message was replayed")]
    Replayed,
    /// It introduces a peer while this seal belongs to another: the peer has started again, so
    /// make a new seal, open the message with that, and begin the call anew.
    #[error("the message comes from a peer that has started again")]
    AnotherPeer,
}

/// Seals what one end of a call says to the other through a stranger, and opens the reverse.
///
/// Each end brings a fresh random salt. The key of a message is HKDF-SHA256 of the invite's secret
/// over both salts (in the first message of a call, the sender's alone), one per direction; the
/// nonce counts. So no key is used twice even if both ends start again, a recording of an earlier
/// call opens nowhere, and within a call no message opens twice.
#[derive(Debug)]
pub struct Seal {
    secret: Secret,
    role: Role,
    salt: [u8; SALT_BYTES],
    peer_salt: Option<[u8; SALT_BYTES]>,
    n_sealed: u32,
    /// The counter the next message from the peer must reach; bound and unbound ones count on.
    expected: u32,
    heard_bound: bool,
}

impl Seal {
    /// A seal for one attempt at one call; `salt` from the operating system.
    pub fn new(secret: Secret, role: Role, salt: [u8; SALT_BYTES]) -> Self {
        Self { secret, role, salt, peer_salt: None, n_sealed: 0, expected: 0, heard_bound: false }
    }

    /// Seals one message.
    ///
    /// # Panics
    /// If `message` is longer than [`MAX_SEALED_BYTES`] allows, or after 2^32 messages.
    pub fn seal(&mut self, message: &[u8]) -> Vec<u8> {
        assert!(
            message.len() <= MAX_SEALED_BYTES - HEADER_BYTES - TAG_BYTES,
            "a signaling message of {} bytes is over the limit",
            message.len()
        );
        let mut out = Vec::with_capacity(HEADER_BYTES + message.len() + TAG_BYTES);
        out.push(VERSION);
        out.push(if self.peer_salt.is_some() { BOUND } else { 0 });
        out.extend(self.salt);
        out.extend(self.n_sealed.to_le_bytes());
        let cipher = self.cipher(self.role, &self.salt, self.peer_salt.as_ref());
        let payload = Payload { msg: message, aad: &out };
        let sealed = cipher
            .encrypt(&nonce(self.n_sealed), payload)
            .expect("a message within the limit can be sealed");
        self.n_sealed = self.n_sealed.checked_add(1).expect("a call has fewer messages");
        out.extend(sealed);
        out
    }

    /// Opens one message of the peer.
    ///
    /// # Errors
    /// If it is not one, not genuine, or not new. The seal has not changed then.
    pub fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        if !(HEADER_BYTES + TAG_BYTES..=MAX_SEALED_BYTES).contains(&sealed.len()) {
            return Err(OpenError::NotSealed);
        }
        let (header, body) = sealed.split_at(HEADER_BYTES);
        let bound = header[1] == BOUND;
        if header[0] != VERSION || header[1] > BOUND {
            return Err(OpenError::NotSealed);
        }
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&header[2..2 + SALT_BYTES]);
        let counter = u32::from_le_bytes([header[18], header[19], header[20], header[21]]);
        let cipher = self.cipher(self.role.other(), &salt, bound.then_some(&self.salt));
        let payload = Payload { msg: body, aad: header };
        let message = cipher.decrypt(&nonce(counter), payload).map_err(|_| OpenError::Forged)?;
        match self.peer_salt {
            Some(known) if known != salt => return Err(OpenError::AnotherPeer),
            _ if counter < self.expected || (self.heard_bound && !bound) => {
                return Err(OpenError::Replayed);
            }
            _ => {}
        }
        self.peer_salt = Some(salt);
        self.expected = counter.saturating_add(1);
        self.heard_bound |= bound;
        Ok(message)
    }

    /// Whether the peer has proved that it is here now: it has sealed with our salt.
    pub fn is_proved(&self) -> bool {
        self.heard_bound
    }

    /// The cipher for what `from` says, whose salt is `salt`, knowing the other's if `other`.
    fn cipher(
        &self,
        from: Role,
        salt: &[u8; SALT_BYTES],
        other: Option<&[u8; SALT_BYTES]>,
    ) -> ChaCha20Poly1305 {
        let mut salts = [0; 2 * SALT_BYTES];
        salts[..SALT_BYTES].copy_from_slice(salt);
        salts[SALT_BYTES..].copy_from_slice(other.unwrap_or(&[0; SALT_BYTES]));
        let mut key = Key::default();
        Hkdf::<Sha256>::new(Some(&salts), self.secret.as_bytes())
            .expand(from.label(), &mut key)
            .expect("32 bytes are less than HKDF's limit");
        ChaCha20Poly1305::new(&key)
    }
}

fn nonce(counter: u32) -> Nonce {
    let mut nonce = Nonce::default();
    nonce[..4].copy_from_slice(&counter.to_le_bytes());
    nonce
}

/// Longest session description.
const MAX_SDP_BYTES: usize = 32 * 1024;
/// Longest candidate line.
const MAX_CANDIDATE_BYTES: usize = 1024;

/// What is sealed: how two peers find each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Signal {
    /// The guest is here: make an offer. Carries the protocol version.
    Here(u16),
    /// A WebRTC session description to answer.
    Offer(String),
    /// The answer to it.
    Answer(String),
    /// One more ICE candidate, as its SDP attribute, with the media section it belongs to.
    Candidate(String),
    /// The peer leaves before the call began.
    Leave,
}

/// Why an opened message is no signal: the peer runs another version.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// Its first byte is unknown.
    #[error("unknown signal {0}")]
    Unknown(u8),
    /// Its body is too long, too short or not text.
    #[error("the signal's body is not sound")]
    BadBody,
}

impl Signal {
    /// Kind, then body.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Here(version) => (0, version.to_le_bytes().to_vec()),
            Self::Offer(sdp) => (1, sdp.clone().into_bytes()),
            Self::Answer(sdp) => (2, sdp.clone().into_bytes()),
            Self::Candidate(line) => (3, line.clone().into_bytes()),
            Self::Leave => (4, Vec::new()),
        };
        [&[kind][..], &body].concat()
    }

    /// The inverse of [`Signal::to_bytes`].
    ///
    /// # Errors
    /// If the bytes are none.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignalError> {
        let (&kind, body) = bytes.split_first().ok_or(SignalError::BadBody)?;
        let text = |limit: usize| {
            let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= limit);
            text.map(str::to_owned).ok_or(SignalError::BadBody)
        };
        match kind {
            0 => {
                let version = body.try_into().map_err(|_| SignalError::BadBody)?;
                Ok(Self::Here(u16::from_le_bytes(version)))
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
    use super::*;
    use proptest::prelude::*;

    fn pair() -> (Seal, Seal) {
        let secret = Secret::new([9; 16]);
        (
            Seal::new(secret.clone(), Role::Host, [1; SALT_BYTES]),
            Seal::new(secret, Role::Guest, [2; SALT_BYTES]),
        )
    }

    #[test]
    fn two_ends_talk_and_prove_themselves() {
        let (mut host, mut guest) = pair();
        let here = guest.seal(b"here");
        assert_eq!(host.open(&here), Ok(b"here".to_vec()));
        assert!(!host.is_proved(), "an introduction could be a recording");
        let offer = host.seal(b"offer");
        assert_eq!(guest.open(&offer), Ok(b"offer".to_vec()));
        let answer = guest.seal(b"answer");
        assert_eq!(host.open(&answer), Ok(b"answer".to_vec()));
        assert!(host.is_proved() && guest.is_proved());
    }

    #[test]
    fn no_message_opens_twice_or_for_its_own_sender() {
        let (mut host, mut guest) = pair();
        let here = guest.seal(b"here");
        assert_eq!(guest.open(&here), Err(OpenError::Forged), "reflected");
        assert!(host.open(&here).is_ok());
        assert_eq!(host.open(&here), Err(OpenError::Replayed));
    }

    #[test]
    fn a_recording_of_an_earlier_call_does_not_open() {
        let (mut host, mut guest) = pair();
        host.open(&guest.seal(b"here")).unwrap();
        guest.open(&host.seal(b"offer")).unwrap();
        let recorded = guest.seal(b"answer");
        let mut host = Seal::new(Secret::new([9; 16]), Role::Host, [3; SALT_BYTES]);
        assert_eq!(host.open(&recorded), Err(OpenError::Forged));
    }

    #[test]
    fn a_peer_that_starts_again_is_told_apart_from_a_forger() {
        let (mut host, mut guest) = pair();
        host.open(&guest.seal(b"here")).unwrap();
        let mut again = Seal::new(Secret::new([9; 16]), Role::Guest, [4; SALT_BYTES]);
        assert_eq!(host.open(&again.seal(b"here")), Err(OpenError::AnotherPeer));
        let mut forger = Seal::new(Secret::new([8; 16]), Role::Guest, [4; SALT_BYTES]);
        assert_eq!(host.open(&forger.seal(b"here")), Err(OpenError::Forged));
    }

    #[test]
    fn one_changed_bit_anywhere_is_noticed() {
        let (mut host, mut guest) = pair();
        let sealed = guest.seal(b"here");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(host.open(&changed).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn a_signal_survives(text in ".{0,200}", version: u16) {
            for signal in [
                Signal::Here(version),
                Signal::Offer(text.clone()),
                Signal::Answer(text.clone()),
                Signal::Candidate(text),
                Signal::Leave,
            ] {
                prop_assert_eq!(Signal::parse(&signal.to_bytes()), Ok(signal));
            }
        }

        #[test]
        fn no_bytes_make_opening_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = pair().0.open(&bytes);
            let _ = Signal::parse(&bytes);
        }
    }
}
