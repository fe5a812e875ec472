use std::fmt;

/// Size of a [`ResumeToken`], in bytes.
pub const RESUME_TOKEN_BYTES: usize = 16;

/// Proof of a guest that the host has admitted it on an earlier link of the same call. Whoever has
/// it, and the certificate with which it was given, joins without a question. It travels only over
/// links with the certificates of both peers, and those whose signals were sealed with it
/// ([`PeerSeal`](crate::PeerSeal)).
///
/// The bytes must come from a cryptographically secure random source. Comparison takes the same
/// time wherever two tokens differ.
#[derive(Clone, Copy, Eq)]
pub struct ResumeToken(pub [u8; RESUME_TOKEN_BYTES]);

impl PartialEq for ResumeToken {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

impl fmt::Debug for ResumeToken {
    /// Hides the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_differ_in_any_bit_are_different() {
        let token = ResumeToken([0x5a; RESUME_TOKEN_BYTES]);
        assert_eq!(token, token.clone());
        for bit in 0..8 * RESUME_TOKEN_BYTES {
            let mut other = token;
            other.0[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(token, other, "bit {bit}");
        }
    }
}
