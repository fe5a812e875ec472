//! The key of a user's files.

use std::fmt;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Separates the hash behind a [`KeyId`] from every other use of SHA-256.
const ID_LABEL: &[u8] = b"feathercall v1 key id";

/// Key of 32 random bytes with which a user's files are encrypted. It is erased from memory when
/// dropped, and never printed.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

/// The system has no random numbers. Nothing can be encrypted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the system gives no random numbers: {0}")]
pub struct RandomError(pub(crate) getrandom::Error);

/// Public name of a key: the first 8 bytes of a hash of it. Tells which key opens a file.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct KeyId(pub(crate) [u8; 8]);

impl Key {
    /// Creates a random key.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub(crate) fn random() -> Result<Self, RandomError> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut bytes[..]).map_err(RandomError)?;
        Ok(Self(bytes))
    }

    /// Returns the name of the key.
    pub fn id(&self) -> KeyId {
        let hash = Sha256::new().chain_update(ID_LABEL).chain_update(&self.0[..]).finalize();
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        KeyId(id)
    }

    /// Returns the key as 64 hexadecimal digits, as key files and key stores keep it.
    pub(crate) fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(HEXLOWER.encode(&self.0[..]))
    }

    /// Parses [`Key::to_text`]; white space around it is ignored. `None` if the text is no key.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(HEXLOWER.decode(text.trim().as_bytes()).ok()?);
        Some(Self(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Two keys are the same if their public names are; the comparison tells nothing of the keys.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_form_and_is_not_printed() {
        let key = Key::random().unwrap();
        let text = key.to_text();
        assert_eq!(Key::from_text(&format!(" {}\n", *text)), Some(key.clone()));
        assert_ne!(Key::random().unwrap(), key);
        assert!(!format!("{key:?}").contains(&text[..16]), "{key:?}");
        for wrong in ["", "00", &text[1..], &format!("{}00", *text), &"g".repeat(64)] {
            assert_eq!(Key::from_text(wrong), None, "{wrong}");
        }
    }
}
