//! The container of an encrypted file. `docs/FACE_FILE.md`, section 8, is the specification.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::key::{Key, KeyId, RandomError};

/// First bytes of every encrypted file.
const MAGIC: &[u8; 8] = b"FEATSEAL";
/// Version of the container; no other is read.
const VERSION: u16 = 1;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// Magic, version u16, content u8, zero u8, key ID, nonce.
const HEADER_BYTES: usize = MAGIC.len() + 2 + 1 + 1 + 8 + NONCE_BYTES;

/// Bytes by which an encrypted file is longer than its content.
pub const SEALED_OVERHEAD: usize = HEADER_BYTES + TAG_BYTES;

/// What an encrypted file contains. Authenticated, so that one cannot pass for the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Content {
    /// A face file.
    Face = 1,
    /// The training state of an unfinished enrollment.
    TrainingState = 2,
}

impl std::fmt::Display for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Face => "a face",
            Self::TrainingState => "training state",
        })
    }
}

/// Why an encrypted file cannot be opened. Nothing of its content is known.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The bytes are something else, or end within the header.
    #[error("not an encrypted file of this program")]
    NotSealed,
    /// Written by another version. Use that version.
    #[error("encrypted file of version {found}; this program reads version {newest}")]
    UnsupportedVersion { found: u16, newest: u16 },
    /// The file contains something else.
    #[error("the encrypted file does not contain {wanted}")]
    OtherContent { wanted: Content },
    /// Another key is needed; see [`crate::Keys`].
    #[error("the file was encrypted with key {wanted}, not with key {got}")]
    OtherKey { wanted: KeyId, got: KeyId },
    /// Authentication failed although the key is right. Copy the file again, or enroll again.
    #[error("the encrypted file is damaged")]
    Damaged,
}

/// Returns whether a file begins like an encrypted one.
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Returns what an encrypted file says that it contains, from its first [`SEALED_OVERHEAD`] bytes or
/// more; `None` if it is something else. Nobody has authenticated it yet.
pub fn sealed_content(bytes: &[u8]) -> Option<Content> {
    let contents = [Content::Face, Content::TrainingState];
    contents.into_iter().find(|content| Header::parse(*content, bytes).is_ok())
}

/// The checked header of an encrypted file.
struct Header<'a> {
    key_id: KeyId,
    nonce: XNonce,
    associated: &'a [u8],
    encrypted: &'a [u8],
}

impl<'a> Header<'a> {
    fn parse(content: Content, bytes: &'a [u8]) -> Result<Self, OpenError> {
        if !is_sealed(bytes) {
            return Err(OpenError::NotSealed);
        }
        let (associated, encrypted) =
            bytes.split_at_checked(HEADER_BYTES).ok_or(OpenError::NotSealed)?;
        let mut at = MAGIC.len();
        let mut field = |n: usize| {
            at += n;
            &associated[at - n..at]
        };
        let found = u16::from_le_bytes(array(field(2)));
        if found != VERSION {
            return Err(OpenError::UnsupportedVersion { found, newest: VERSION });
        }
        if field(2) != [content as u8, 0] {
            return Err(OpenError::OtherContent { wanted: content });
        }
        let key_id = KeyId(array(field(8)));
        let nonce = XNonce::from(array::<NONCE_BYTES>(field(NONCE_BYTES)));
        Ok(Self { key_id, nonce, associated, encrypted })
    }
}

/// Returns bytes whose number is known as an array.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

/// Returns the key that opens an encrypted file with this content.
pub(crate) fn key_id(content: Content, bytes: &[u8]) -> Result<KeyId, OpenError> {
    Ok(Header::parse(content, bytes)?.key_id)
}

impl Key {
    /// Encrypts the content of a file with XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) under a
    /// random nonce of 24 bytes, with the header as associated data. The result is
    /// [`SEALED_OVERHEAD`] bytes longer.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn seal(&self, content: Content, plain: &[u8]) -> Result<Vec<u8>, RandomError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(RandomError)?;
        Ok(self.seal_with(content, nonce, plain))
    }

    fn seal_with(&self, content: Content, nonce: [u8; NONCE_BYTES], plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(plain.len() + SEALED_OVERHEAD);
        sealed.extend(MAGIC);
        sealed.extend(VERSION.to_le_bytes());
        sealed.extend([content as u8, 0]);
        sealed.extend(self.id().0);
        sealed.extend(nonce);
        let payload = Payload { msg: plain, aad: &sealed };
        let encrypted = XChaCha20Poly1305::new(self.bytes().into())
            .encrypt(&nonce.into(), payload)
            .expect("files are shorter than the cipher's limit of 256 GiB");
        sealed.extend(encrypted);
        sealed
    }

    /// Decrypts a file that [`Key::seal`] encrypted with the same key and content.
    ///
    /// # Errors
    /// If the bytes are something else, were sealed with another key, or were changed.
    pub fn open(&self, content: Content, bytes: &[u8]) -> Result<Vec<u8>, OpenError> {
        let header = Header::parse(content, bytes)?;
        if header.key_id != self.id() {
            return Err(OpenError::OtherKey { wanted: header.key_id, got: self.id() });
        }
        let payload = Payload { msg: header.encrypted, aad: header.associated };
        XChaCha20Poly1305::new(self.bytes().into())
            .decrypt(&header.nonce, payload)
            .map_err(|_| OpenError::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    fn key(byte: &str) -> Key {
        Key::from_text(&byte.repeat(32)).unwrap()
    }

    #[test]
    fn a_sealed_file_opens_with_its_key_only() {
        let plain = b"the sender part of a face".repeat(40);
        let sealed = key("11").seal(Content::Face, &plain).unwrap();
        assert_eq!(sealed.len(), plain.len() + SEALED_OVERHEAD);
        const { assert!(SEALED_OVERHEAD < 100) };
        assert_eq!(key("11").open(Content::Face, &sealed), Ok(plain.clone()));
        let wrong = key("22");
        let error = OpenError::OtherKey { wanted: key("11").id(), got: wrong.id() };
        assert_eq!(wrong.open(Content::Face, &sealed), Err(error));
        let error = OpenError::OtherContent { wanted: Content::TrainingState };
        assert_eq!(key("11").open(Content::TrainingState, &sealed), Err(error));
        // Nothing of the content is legible, and a second seal has another nonce.
        assert!(!sealed.windows(11).any(|window| window == b"sender part"));
        assert_ne!(key("11").seal(Content::Face, &plain).unwrap(), sealed);
    }

    #[test]
    fn a_sealed_file_says_what_it_contains() {
        for content in [Content::Face, Content::TrainingState] {
            let mut sealed = key("11").seal(content, b"of a person").unwrap();
            assert_eq!(sealed_content(&sealed[..SEALED_OVERHEAD]), Some(content));
            assert_eq!(sealed_content(&sealed[..10]), None);
            sealed[10] = 3;
            assert_eq!(sealed_content(&sealed), None);
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let sealed = key("11").seal(Content::Face, b"a face").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key("11").open(Content::Face, &changed).is_err(), "byte {at}");
            assert!(key("11").open(Content::Face, &sealed[..at]).is_err(), "cut at {at}");
        }
        let mut newer = sealed;
        newer[8] = 2;
        let error = OpenError::UnsupportedVersion { found: 2, newest: 1 };
        assert_eq!(key("11").open(Content::Face, &newer), Err(error));
    }

    /// If this fails, the container changed: fix the code, or add a version. Never edit the vector.
    #[test]
    fn version_1_has_exactly_these_bytes() {
        let sealed = key("11").seal_with(Content::Face, [7; NONCE_BYTES], b"face");
        assert_eq!(
            sealed,
            hex!(
                "46454154 5345414c" // magic
                "0100"              // version
                "01 00"             // a face
                "5958beef71d5b7ca"  // key ID
                "070707070707070707070707070707070707070707070707" // nonce
                "6984b998"          // content
                "9ca163c78b5e655d5579416870756d87" // tag
            )
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes: Vec<u8>, is_headed: bool) {
            if is_headed {
                bytes.splice(0..0, *b"FEATSEAL\x01\x00\x01\x00");
            }
            prop_assert!(key("11").open(Content::Face, &bytes).is_err());
        }
    }
}
