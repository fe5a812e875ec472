use std::collections::VecDeque;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;

use crate::invite::Secret;

/// Size of the random salt of each peer, in bytes.
pub const SALT_BYTES: usize = 16;
/// Largest size of a sealed message, in bytes.
pub const MAX_SEALED_BYTES: usize = 64 * 1024;
const HEADER_BYTES: usize = 2 + SALT_BYTES + 4;
pub(crate) const TAG_BYTES: usize = 16;
pub(crate) const VERSION: u8 = 1;
/// Header flag: the key is derived from the salts of both peers.
const BOUND: u8 = 1;
/// Forgotten peers whose salts are remembered.
const MAX_FORGOTTEN: usize = 8;

/// Role of a peer in a call. Each direction has its own key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// The peer that made the invite.
    Host,
    /// The peer that was invited.
    Guest,
}

impl Role {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Host => b"feathercall v1 signal from host",
            Self::Guest => b"feathercall v1 signal from guest",
        }
    }

    /// Returns the role of the other peer.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Host => Self::Guest,
            Self::Guest => Self::Host,
        }
    }
}

/// Why a sealed message was not opened. Drop it; only [`OpenError::AnotherPeer`] needs a reaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another version, or an invalid length.
    #[error("not a sealed message of this version")]
    NotSealed,
    /// Authentication failed: sealed with another secret, by the wrong role, for another salt, or
    /// modified.
    #[error("the message was not sealed with the secret of this call")]
    Forged,
    /// Its counter is not newer than that of an opened message.
    #[error("the message was replayed")]
    Replayed,
    /// Genuine, but with another salt: the peer has restarted, or it is another peer with the same
    /// invite. To accept it, call [`Seal::forget_peer`] or make a new seal, and open the message
    /// again.
    #[error("the message comes from another peer, or from one that has restarted")]
    AnotherPeer,
}

/// Authenticated encryption of signaling messages, which pass through an untrusted service.
///
/// `ChaCha20-Poly1305` (RFC 8439) with a counter as nonce. The key of each direction is derived
/// with HKDF-SHA256 (RFC 5869) from the secret of the invite and the random salts of both peers, or
/// of the sender alone until it has opened a message of the other peer.
///
/// Keys are therefore never reused after a restart, and a seal opens no message twice. Of messages
/// recorded in an earlier call with the same invite, only those sealed with the sender's salt alone
/// ([`Seal::seal_unbound`]) open in a new seal; [`Seal::is_peer_present`] distinguishes a live peer
/// from a recording.
#[derive(Debug)]
pub struct Seal {
    secret: Secret,
    role: Role,
    salt: [u8; SALT_BYTES],
    peer_salt: Option<[u8; SALT_BYTES]>,
    n_sealed: u32,
    /// Smallest counter that the next message of the peer may have.
    expected: u32,
    /// Whether a message sealed with our salt was opened.
    opened_bound: bool,
    /// Salts of peers that were forgotten, oldest first; their messages stay closed.
    forgotten: VecDeque<[u8; SALT_BYTES]>,
}

impl Seal {
    /// Returns a seal for one connection attempt. `salt` must come from a cryptographically secure
    /// random source.
    pub fn new(secret: Secret, role: Role, salt: [u8; SALT_BYTES]) -> Self {
        Self {
            secret,
            role,
            salt,
            peer_salt: None,
            n_sealed: 0,
            expected: 0,
            opened_bound: false,
            forgotten: VecDeque::new(),
        }
    }

    /// Seals one message for the peer, as far as it is known.
    ///
    /// # Panics
    /// If the sealed message would be longer than [`MAX_SEALED_BYTES`], or after 2^32 messages.
    pub fn seal(&mut self, message: &[u8]) -> Vec<u8> {
        self.seal_for(self.peer_salt, message)
    }

    /// Seals one message for whoever has the role of the peer: the known one, or another one that
    /// has taken its place.
    ///
    /// # Panics
    /// As [`Seal::seal`].
    pub fn seal_unbound(&mut self, message: &[u8]) -> Vec<u8> {
        self.seal_for(None, message)
    }

    fn seal_for(&mut self, receiver: Option<[u8; SALT_BYTES]>, message: &[u8]) -> Vec<u8> {
        assert!(
            message.len() <= MAX_SEALED_BYTES - HEADER_BYTES - TAG_BYTES,
            "a signaling message of {} bytes is too long",
            message.len()
        );
        let mut out = Vec::with_capacity(HEADER_BYTES + message.len() + TAG_BYTES);
        out.push(VERSION);
        out.push(if receiver.is_some() { BOUND } else { 0 });
        out.extend(self.salt);
        out.extend(self.n_sealed.to_le_bytes());
        let cipher = self.cipher(self.role, &self.salt, receiver.as_ref());
        let payload = Payload { msg: message, aad: &out };
        let sealed = cipher
            .encrypt(&nonce(self.n_sealed), payload)
            .expect("a message within the limit can be sealed");
        self.n_sealed = self.n_sealed.checked_add(1).expect("a call has fewer than 2^32 messages");
        out.extend(sealed);
        out
    }

    /// Opens a message of the peer.
    ///
    /// # Errors
    /// If it is malformed, not genuine or not new. The seal is then unchanged.
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
            _ if self.forgotten.contains(&salt) => return Err(OpenError::Replayed),
            Some(known) if known != salt => return Err(OpenError::AnotherPeer),
            _ if counter < self.expected => return Err(OpenError::Replayed),
            _ => {}
        }
        self.peer_salt = Some(salt);
        self.expected = counter.saturating_add(1);
        self.opened_bound |= bound;
        Ok(message)
    }

    /// Returns whether the peer has proved to be present: it has sealed a message with our salt, so
    /// that message is no recording of an earlier call.
    pub fn is_peer_present(&self) -> bool {
        self.opened_bound
    }

    /// Returns the salt of the peer; `None` before its first message.
    pub fn peer_salt(&self) -> Option<[u8; SALT_BYTES]> {
        self.peer_salt
    }

    /// Forgets the peer, so that the next message may come from another one. Messages of the last
    /// eight forgotten peers do not open any more.
    pub fn forget_peer(&mut self) {
        if let Some(salt) = self.peer_salt.take() {
            if self.forgotten.len() == MAX_FORGOTTEN {
                self.forgotten.pop_front();
            }
            self.forgotten.push_back(salt);
        }
        self.expected = 0;
        self.opened_bound = false;
    }

    /// Returns the cipher of the messages from a role with this salt; `other` is the salt of their
    /// receiver, if the sender knows it.
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

/// Returns the nonce of a message with this counter.
pub(crate) fn nonce(counter: u32) -> Nonce {
    let mut nonce = Nonce::default();
    nonce[..4].copy_from_slice(&counter.to_le_bytes());
    nonce
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
    fn two_peers_exchange_messages_and_prove_their_presence() {
        let (mut host, mut guest) = pair();
        let announce = guest.seal(b"announce");
        assert_eq!(host.open(&announce), Ok(b"announce".to_vec()));
        assert!(!host.is_peer_present(), "the first message could be a recording");
        let offer = host.seal(b"offer");
        assert_eq!(guest.open(&offer), Ok(b"offer".to_vec()));
        let answer = guest.seal(b"answer");
        assert_eq!(host.open(&answer), Ok(b"answer".to_vec()));
        assert!(host.is_peer_present() && guest.is_peer_present());
    }

    #[test]
    fn no_message_opens_twice_or_for_its_sender() {
        let (mut host, mut guest) = pair();
        let announce = guest.seal(b"announce");
        assert_eq!(guest.open(&announce), Err(OpenError::Forged), "reflected");
        assert!(host.open(&announce).is_ok());
        assert_eq!(host.open(&announce), Err(OpenError::Replayed));
    }

    #[test]
    fn a_recording_of_an_earlier_call_does_not_open() {
        let (mut host, mut guest) = pair();
        host.open(&guest.seal(b"announce")).unwrap();
        guest.open(&host.seal(b"offer")).unwrap();
        let recorded = guest.seal(b"answer");
        let mut host = Seal::new(Secret::new([9; 16]), Role::Host, [3; SALT_BYTES]);
        assert_eq!(host.open(&recorded), Err(OpenError::Forged));
    }

    #[test]
    fn a_restarted_peer_is_distinguished_from_a_forger() {
        let (mut host, mut guest) = pair();
        host.open(&guest.seal(b"announce")).unwrap();
        let mut restarted = Seal::new(Secret::new([9; 16]), Role::Guest, [4; SALT_BYTES]);
        assert_eq!(host.open(&restarted.seal(b"announce")), Err(OpenError::AnotherPeer));
        let mut forger = Seal::new(Secret::new([8; 16]), Role::Guest, [4; SALT_BYTES]);
        assert_eq!(host.open(&forger.seal(b"announce")), Err(OpenError::Forged));
    }

    #[test]
    fn an_unbound_message_reaches_the_known_peer_and_one_that_has_restarted() {
        let (mut host, mut guest) = pair();
        host.open(&guest.seal(b"announce")).unwrap();
        guest.open(&host.seal(b"offer")).unwrap();
        host.open(&guest.seal(b"answer")).unwrap();
        let again = guest.seal_unbound(b"announce");
        assert_eq!(host.open(&again), Ok(b"announce".to_vec()));
        assert_eq!(host.open(&again), Err(OpenError::Replayed));
        let mut restarted = Seal::new(Secret::new([9; 16]), Role::Host, [5; SALT_BYTES]);
        assert_eq!(restarted.open(&again), Ok(b"announce".to_vec()));
        let (late, offer) = (host.seal(b"late"), restarted.seal(b"offer"));
        assert_eq!(guest.open(&offer), Err(OpenError::AnotherPeer));
        guest.forget_peer();
        assert!(!guest.is_peer_present());
        assert_eq!(guest.open(&late), Err(OpenError::Replayed), "the old host is forgotten");
        assert_eq!(guest.open(&offer), Ok(b"offer".to_vec()));
        assert_eq!(guest.open(&host.seal(b"late")), Err(OpenError::Replayed));
    }

    #[test]
    fn every_changed_bit_is_detected() {
        let (mut host, mut guest) = pair();
        let sealed = guest.seal(b"announce");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(host.open(&changed).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_opening_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = pair().0.open(&bytes);
        }
    }
}
