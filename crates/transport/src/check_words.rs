use std::fmt;

use bip39::Language;
use hkdf::Hkdf;
use sha2::Sha256;

use crate::invite::Secret;

/// SHA-256 fingerprint of a DTLS certificate (RFC 8122, section 5).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Returns the SHA-256 fingerprint in a session description; `None` unless there is exactly
    /// one, though it may be repeated: of two, WebRTC might check the other.
    pub fn of_sdp(sdp: &str) -> Option<Self> {
        let lines = sdp.split(['\r', '\n']).map(str::trim);
        let mut all = lines.filter_map(|line| line.strip_prefix("a=fingerprint:"));
        let first = all.next()?;
        if all.any(|other| other != first) {
            return None;
        }
        let (hash, digits) = first.split_once(' ')?;
        let octets: Vec<_> = digits.split(':').map(octet).collect::<Option<_>>()?;
        let bytes = octets.try_into().ok()?;
        hash.eq_ignore_ascii_case("sha-256").then_some(Self(bytes))
    }
}

/// Reads two hexadecimal digits.
fn octet(digits: &str) -> Option<u8> {
    let is_octet = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| is_octet)
}

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
/// use transport::{CheckWords, Fingerprint, Secret};
/// let (ours, theirs) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
/// let words = CheckWords::new(&Secret::new([7; 16]), ours, theirs);
/// assert_eq!(words, CheckWords::new(&Secret::new([7; 16]), theirs, ours));
/// assert_eq!(words.to_string().split(' ').count(), 4);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CheckWords([&'static str; 4]);

impl CheckWords {
    /// Returns the words of a call with this secret between the owners of two certificates, in
    /// either order.
    #[expect(clippy::missing_panics_doc, reason = "HKDF can always expand to eight bytes")]
    pub fn new(secret: &Secret, one: Fingerprint, other: Fingerprint) -> Self {
        let salt = [one.min(other).0, one.max(other).0].concat();
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
    use proptest::prelude::*;

    use super::*;

    fn words(secret: u8, one: u8, other: u8) -> String {
        let secret = Secret::new([secret; 16]);
        CheckWords::new(&secret, Fingerprint([one; 32]), Fingerprint([other; 32])).to_string()
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

    #[test]
    fn the_one_fingerprint_of_a_description_is_read() {
        let digits = ["0A"; 32].join(":");
        let line = format!("a=fingerprint:SHA-256 {digits}\r\n");
        for sdp in [format!("v=0\r\n{line}m=audio\r\n"), format!("{line}m=audio\r\n{line}")] {
            assert_eq!(Fingerprint::of_sdp(&sdp), Some(Fingerprint([10; 32])), "{sdp}");
        }
        for wrong in [
            "v=0\r\n".to_owned(),
            line.replacen("0A", "0", 1),
            line.replacen("0A", "+1", 1),
            line.replacen("0A", "0A:0A", 1),
            line.replace("256", "1"),
            line.clone() + &line.replace("0A", "0B"),
            line.clone() + "a=fingerprint:sha-1 AA:BB\r\n",
            line.clone() + "s=-\ra=fingerprint:sha-1 AA:BB\r\n",
        ] {
            assert_eq!(Fingerprint::of_sdp(&wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,200}") {
            let _ = Fingerprint::of_sdp(&format!("a=fingerprint:sha-256 {text}"));
            let _ = Fingerprint::of_sdp(&text);
        }
    }
}
