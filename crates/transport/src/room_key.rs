use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};

use crate::invite::{Secret, base32};
use crate::seal::Role;

/// Size of the challenge that a rendezvous service sends to each client, in bytes.
pub const CHALLENGE_BYTES: usize = 32;
/// Size of the answer to a challenge, in bytes.
pub const SEAT_PROOF_BYTES: usize = 1 + KEY_BYTES + SIGNATURE_BYTES;
const KEY_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;
/// Size of the hash of the public key that names a room, in bytes.
const NAME_BYTES: usize = 10;
/// Length of a room's name: [`NAME_BYTES`] in base 32.
const NAME_LENGTH: usize = 16;
/// Begins every signed text, so that no signature of another protocol serves as a proof.
const DOMAIN: &[u8] = b"feathercall v2 seat\0";

impl Secret {
    /// Returns the key of the room in which the two peers of the secret meet.
    pub fn room_key(&self) -> RoomKey {
        RoomKey::derive(self)
    }

    /// Returns the name of that room at a rendezvous service: 16 letters and digits, which do not
    /// reveal the secret.
    pub fn room(&self) -> String {
        self.room_key().room()
    }
}

/// Ed25519 key of a room at a rendezvous service, derived from the secret of an invite.
///
/// Both peers of a call have it, and nobody else. The room is named after its public half, so the
/// service recognizes who may enter without knowing a secret (docs/TRANSPORT.md, section 4.3).
///
/// ```
/// use transport::{Role, Secret, verify_seat_proof};
/// let key = Secret::new([7; 16]).room_key();
/// let proof = key.prove_seat(Role::Guest, &[1; 32]);
/// assert_eq!(verify_seat_proof(&proof, &key.room(), &[1; 32]), Ok(Role::Guest));
/// assert!(verify_seat_proof(&proof, &key.room(), &[2; 32]).is_err());
/// ```
pub struct RoomKey(SigningKey);

impl RoomKey {
    pub(crate) fn derive(secret: &Secret) -> Self {
        let mut seed = [0; KEY_BYTES];
        Hkdf::<Sha256>::new(None, secret.as_bytes())
            .expand(b"feathercall v2 room key", &mut seed)
            .expect("32 bytes are less than HKDF's limit");
        Self(SigningKey::from_bytes(&seed))
    }

    /// Returns the name of the room: 16 letters and digits, which do not reveal the secret.
    pub fn room(&self) -> String {
        room_of(self.0.verifying_key().as_bytes())
    }

    /// Returns the proof that claims the seat of `role`, in answer to the service's challenge.
    pub fn prove_seat(
        &self,
        role: Role,
        challenge: &[u8; CHALLENGE_BYTES],
    ) -> [u8; SEAT_PROOF_BYTES] {
        let seat = seat_of(role);
        let signature = self.0.sign(&signed_text(seat, challenge, &self.room()));
        let mut proof = [0; SEAT_PROOF_BYTES];
        proof[0] = seat;
        proof[1..=KEY_BYTES].copy_from_slice(self.0.verifying_key().as_bytes());
        proof[1 + KEY_BYTES..].copy_from_slice(&signature.to_bytes());
        proof
    }
}

impl fmt::Debug for RoomKey {
    /// Hides the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomKey(..)")
    }
}

/// Why a client gets no seat. Close its connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SeatProofError {
    /// The length is wrong, or the seat is neither host nor guest.
    #[error("not a seat proof")]
    Malformed,
    /// The room is named after another key.
    #[error("the room belongs to another key")]
    OtherRoom,
    /// The signature does not match the challenge, the seat and the room.
    #[error("the signature is wrong")]
    WrongSignature,
}

/// Checks a client's answer to `challenge` and returns whose seat in `room` it claims.
///
/// # Errors
/// If the answer does not prove the key after which the room is named.
///
/// # Source
/// RFC 8032 (Ed25519), with the strict checks of `ed25519-dalek`: no key or commitment of small
/// order.
pub fn verify_seat_proof(
    proof: &[u8],
    room: &str,
    challenge: &[u8; CHALLENGE_BYTES],
) -> Result<Role, SeatProofError> {
    let proof: &[u8; SEAT_PROOF_BYTES] = proof.try_into().map_err(|_| SeatProofError::Malformed)?;
    let role = match proof[0] {
        0 => Role::Host,
        1 => Role::Guest,
        _ => return Err(SeatProofError::Malformed),
    };
    let (key, signature) = proof[1..].split_first_chunk().ok_or(SeatProofError::Malformed)?;
    if room != room_of(key) {
        return Err(SeatProofError::OtherRoom);
    }
    let key = VerifyingKey::from_bytes(key).map_err(|_| SeatProofError::Malformed)?;
    let signature = Signature::from_slice(signature).map_err(|_| SeatProofError::Malformed)?;
    key.verify_strict(&signed_text(proof[0], challenge, room), &signature)
        .map_err(|_| SeatProofError::WrongSignature)?;
    Ok(role)
}

/// Returns whether `room` can be the name of a room: 16 characters of Crockford's base 32 in lower
/// case (`0` to `9`, `a` to `z` without `i`, `l`, `o` and `u`).
pub fn is_room(room: &str) -> bool {
    room.len() == NAME_LENGTH
        && room.bytes().all(|b| base32().specification().symbols.as_bytes().contains(&b))
}

fn seat_of(role: Role) -> u8 {
    match role {
        Role::Host => 0,
        Role::Guest => 1,
    }
}

/// Returns the name of the room of a public key.
fn room_of(public_key: &[u8; KEY_BYTES]) -> String {
    base32().encode(&Sha256::digest(public_key)[..NAME_BYTES])
}

/// Returns what a proof signs. The room is last, because its length is not fixed by the format.
fn signed_text(seat: u8, challenge: &[u8; CHALLENGE_BYTES], room: &str) -> Vec<u8> {
    [DOMAIN, challenge, &[seat], room.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    fn key() -> RoomKey {
        Secret::new(std::array::from_fn(|i| i as u8 * 17)).room_key()
    }

    /// If this fails, peers of another build take no seat in the same room.
    #[test]
    fn v2_room_and_proof_are_exactly_these_bytes() {
        assert_eq!(key().room(), "6544j2tadb5bpr2t");
        let proof = key().prove_seat(Role::Guest, &std::array::from_fn(|i| i as u8));
        assert_eq!(
            proof,
            hex!(
                "01"
                "8095da5b8e93f694d801577337dee18e9222cb095964b60951845950be3d0c89"
                "da0699cae73eb2d08e5f6be8922610edd7f53ed22cfab8f44171c838c743455b"
                "65c6ecae5106526ceec227df100e80ef4ccad8dec4bdde672cb38d1080825005"
            )
        );
    }

    #[test]
    fn a_proof_holds_for_its_seat_room_and_challenge_alone() {
        let (key, challenge) = (key(), [9; CHALLENGE_BYTES]);
        let room = key.room();
        let proof = key.prove_seat(Role::Host, &challenge);
        assert_eq!(verify_seat_proof(&proof, &room, &challenge), Ok(Role::Host));
        let wrong = Err(SeatProofError::WrongSignature);
        assert_eq!(verify_seat_proof(&proof, &room, &[8; CHALLENGE_BYTES]), wrong, "replayed");
        let mut other_seat = proof;
        other_seat[0] = 1;
        assert_eq!(verify_seat_proof(&other_seat, &room, &challenge), wrong);
        other_seat[0] = 2;
        let malformed = Err(SeatProofError::Malformed);
        assert_eq!(verify_seat_proof(&other_seat, &room, &challenge), malformed);
        assert_eq!(verify_seat_proof(&proof[..96], &room, &challenge), malformed);
        let stranger = Secret::new([1; 16]).room_key();
        let stolen = stranger.prove_seat(Role::Host, &challenge);
        let other_room = Err(SeatProofError::OtherRoom);
        assert_eq!(verify_seat_proof(&stolen, &room, &challenge), other_room);
    }

    #[test]
    fn a_name_has_16_characters_of_the_alphabet() {
        assert!(is_room("0123456789abcdef") && is_room(&key().room()));
        for room in [
            "",
            "room",
            "0123456789abcde",
            "0123456789abcdefg",
            "0123456789ABCDEF",
            "0123456789abcdeu",
        ] {
            assert!(!is_room(room), "{room}");
        }
    }

    #[test]
    fn the_debug_output_hides_the_key() {
        assert_eq!(format!("{:?}", key()), "RoomKey(..)");
    }

    proptest! {
        #[test]
        fn no_changed_proof_is_accepted(at in 0..SEAT_PROOF_BYTES, mask in 1..=255_u8) {
            let mut proof = key().prove_seat(Role::Guest, &[3; CHALLENGE_BYTES]);
            proof[at] ^= mask;
            prop_assert!(verify_seat_proof(&proof, &key().room(), &[3; CHALLENGE_BYTES]).is_err());
        }
    }
}
