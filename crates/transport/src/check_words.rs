use std::fmt;

use bip39::Language;
use hkdf::Hkdf;
use sha2::Sha256;

use crate::invite::Secret;

/// Four words that both ends of a call can read to each other: if they are the same, nobody who
/// has the invite has come in between.
///
/// They are 44 bits of HKDF-SHA256 (RFC 5869) of the invite's secret with the DTLS fingerprints of
/// both ends, so whoever decrypts the call in between would have to find a certificate with the same
/// 44 bits during set-up. The words are from the English list of BIP-39, which differ in their
/// first four letters.
///
/// # Examples
/// ```
/// use transport::{CheckWords, Secret};
/// let (ours, theirs) = ([1; 32], [2; 32]);
/// let words = CheckWords::new(&Secret::new([7; 16]), ours, theirs);
/// assert_eq!(words, CheckWords::new(&Secret::new([7; 16]), theirs, ours));
/// assert_eq!(words.to_string().split(' ').count(), 4);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CheckWords([&'static str; 4]);

impl CheckWords {
    /// Returns the words of a call with this secret between the owners of two certificates with these
    /// SHA-256 fingerprints (RFC 8122, section 5), in either order.
    #[expect(clippy::missing_panics_doc, reason = "HKDF can always expand to eight bytes")]
    pub fn new(secret: &Secret, one: [u8; 32], other: [u8; 32]) -> Self {
        let salt = [one.min(other), one.max(other)].concat();
        let mut bits = [0; 8];
        Hkdf::<Sha256>::new(Some(&salt), secret.as_bytes())
            .expand(b"feathercall v2 check words", &mut bits)
            .expect("eight bytes are less than HKDF's limit");
        let bits = u64::from_be_bytes(bits);
        let words = Language::English.word_list();
        Self(std::array::from_fn(|i| words[(bits >> (53 - 11 * i)) as usize & 0x7ff]))
    }
}

impl fmt::Display for CheckWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(secret: u8, one: u8, other: u8) -> String {
        let secret = Secret::new([secret; 16]);
        CheckWords::new(&secret, [one; 32], [other; 32]).to_string()
    }

    /// If this fails, the two ends of a call with an older build see different words.
    #[test]
    fn the_words_of_a_call_are_these() {
        assert_eq!(words(0x11, 0x22, 0x33), "cry athlete stay wage");
        assert_eq!(words(0x11, 0x33, 0x22), words(0x11, 0x22, 0x33));
    }

    #[test]
    fn another_secret_or_certificate_gives_other_words() {
        let ours = words(1, 2, 3);
        for theirs in [words(9, 2, 3), words(1, 9, 3), words(1, 2, 9), words(1, 2, 2)] {
            assert_ne!(ours, theirs);
        }
    }
}
