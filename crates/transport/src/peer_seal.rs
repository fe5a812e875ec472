use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key};
use hkdf::Hkdf;
use sha2::Sha256;

use crate::invite::{SECRET_BYTES, Secret};
use crate::resume_token::{RESUME_TOKEN_BYTES, ResumeToken};
use crate::seal::{MAX_SEALED_BYTES, OpenError, Role, TAG_BYTES, VERSION, nonce};

const HEADER_BYTES: usize = 6;
/// Header flag: the key is derived from the token of an admission.
const FROM_TOKEN: u8 = 2;

/// Authenticated encryption of signaling messages between two peers of which one has let the other
/// in. Nobody else can seal for them or open what they seal, not even with the invite.
///
/// As [`Seal`](crate::Seal), but the key of each direction is derived from the secret of the invite
/// and the token of the admission, which has crossed a link between the two alone. A token is never
/// used by two processes in one role, so the counters need no salt.
#[derive(Debug)]
pub struct PeerSeal {
    secret: Secret,
    token: ResumeToken,
    role: Role,
    n_sealed: u32,
    /// Smallest counter that the next message of the peer may have.
    expected: u32,
}

impl PeerSeal {
    /// Returns the seal of an admission. Make one for each token: the counters must not start over.
    pub fn new(secret: Secret, role: Role, token: ResumeToken) -> Self {
        Self { secret, token, role, n_sealed: 0, expected: 0 }
    }

    /// Seals one message for the peer.
    ///
    /// # Panics
    /// If the sealed message would be longer than [`MAX_SEALED_BYTES`], or after 2^32 messages.
    pub fn seal(&mut self, message: &[u8]) -> Vec<u8> {
        assert!(
            message.len() <= MAX_SEALED_BYTES - HEADER_BYTES - TAG_BYTES,
            "a signaling message of {} bytes is too long",
            message.len()
        );
        let mut out = vec![VERSION, FROM_TOKEN];
        out.extend(self.n_sealed.to_le_bytes());
        let payload = Payload { msg: message, aad: &out };
        let sealed = self
            .cipher(self.role)
            .encrypt(&nonce(self.n_sealed), payload)
            .expect("a message within the limit can be sealed");
        self.n_sealed = self.n_sealed.checked_add(1).expect("a call has fewer than 2^32 messages");
        out.extend(sealed);
        out
    }

    /// Opens a message of the peer.
    ///
    /// # Errors
    /// If it is malformed, not of the peer or not new. The seal is then unchanged.
    pub fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let is_sealed = (HEADER_BYTES + TAG_BYTES..=MAX_SEALED_BYTES).contains(&sealed.len())
            && sealed[..2] == [VERSION, FROM_TOKEN];
        if !is_sealed {
            return Err(OpenError::NotSealed);
        }
        let (header, body) = sealed.split_at(HEADER_BYTES);
        let counter = u32::from_le_bytes([header[2], header[3], header[4], header[5]]);
        let payload = Payload { msg: body, aad: header };
        let message = self
            .cipher(self.role.other())
            .decrypt(&nonce(counter), payload)
            .map_err(|_| OpenError::Forged)?;
        if counter < self.expected {
            return Err(OpenError::Replayed);
        }
        self.expected = counter.saturating_add(1);
        Ok(message)
    }

    /// Returns the cipher of the messages from a role.
    fn cipher(&self, from: Role) -> ChaCha20Poly1305 {
        let label: &[u8] = match from {
            Role::Host => b"feathercall v3 peer signal from host",
            Role::Guest => b"feathercall v3 peer signal from guest",
        };
        let mut input = [0; SECRET_BYTES + RESUME_TOKEN_BYTES];
        input[..SECRET_BYTES].copy_from_slice(self.secret.as_bytes());
        input[SECRET_BYTES..].copy_from_slice(&self.token.0);
        let mut key = Key::default();
        Hkdf::<Sha256>::new(None, &input)
            .expand(label, &mut key)
            .expect("32 bytes are less than HKDF's limit");
        ChaCha20Poly1305::new(&key)
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;
    use crate::seal::Seal;

    fn pair(token: u8) -> (PeerSeal, PeerSeal) {
        let token = ResumeToken([token; RESUME_TOKEN_BYTES]);
        let seal = |role| PeerSeal::new(Secret::new([9; 16]), role, token);
        (seal(Role::Host), seal(Role::Guest))
    }

    #[test]
    fn what_peers_seal_opens_once_and_for_each_other_alone() {
        let (mut host, mut guest) = pair(1);
        let offer = host.seal(b"offer");
        assert_eq!(host.open(&offer), Err(OpenError::Forged), "reflected");
        assert_eq!(guest.open(&offer), Ok(b"offer".to_vec()));
        assert_eq!(guest.open(&offer), Err(OpenError::Replayed));
        assert_eq!(pair(2).1.open(&offer), Err(OpenError::Forged), "another token");
        assert_eq!(host.open(&guest.seal(b"answer")), Ok(b"answer".to_vec()));
    }

    #[test]
    fn whoever_has_the_invite_alone_neither_opens_nor_forges_what_peers_seal() {
        let (mut host, mut guest) = pair(1);
        let mut stranger = Seal::new(Secret::new([9; 16]), Role::Guest, [7; 16]);
        assert!(stranger.open(&host.seal(b"offer")).is_err());
        let mut forged = stranger.seal(b"leave");
        assert_eq!(host.open(&forged), Err(OpenError::NotSealed));
        forged[1] = FROM_TOKEN;
        assert_eq!(host.open(&forged), Err(OpenError::Forged));
        assert_eq!(host.open(&guest.seal(b"answer")), Ok(b"answer".to_vec()));
    }

    #[test]
    fn every_changed_bit_is_detected() {
        let (mut host, mut guest) = pair(1);
        let sealed = guest.seal(b"announce");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(host.open(&changed).is_err(), "byte {at}");
        }
    }

    /// If this fails, the wire format has changed: fix the code, or raise the version.
    #[test]
    fn v3_peer_signal_has_exactly_these_bytes() {
        let sealed = pair(1).0.seal(b"\x04");
        assert_eq!(sealed, hex!("010200000000a8a9400df3c794793c7baac4a14e355d50"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_opening_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = pair(1).0.open(&bytes);
        }
    }
}
