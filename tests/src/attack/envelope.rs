//! Sealed signaling messages as an attacker writes them: byte by byte, in either version of the
//! protocol, valid or not.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use bytes::Bytes;
use transport::{OpenError, Role, SALT_BYTES, Seal, Secret};

use super::switchboard::Protocol;

/// Kinds of signals, as in docs/TRANSPORT.md, section 4.2.
pub(super) mod kind {
    /// The guest makes itself known.
    pub(in crate::attack) const ANNOUNCE: u8 = 0;
    /// Session description of the host.
    pub(in crate::attack) const OFFER: u8 = 1;
    /// Session description of the guest.
    pub(in crate::attack) const ANSWER: u8 = 2;
    /// A further candidate.
    pub(in crate::attack) const CANDIDATE: u8 = 3;
    /// The sender leaves.
    pub(in crate::attack) const LEAVE: u8 = 4;
}

/// A signal with its body taken apart as far as the attacks need it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Signal {
    /// Kind, see [`kind`].
    pub(super) kind: u8,
    /// Number of the attempt; 0 in version 1, which has none.
    pub(super) attempt: u8,
    /// The rest of the body.
    pub(super) body: Vec<u8>,
}

impl Signal {
    /// Returns the body as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn has_attempt(kind: u8, protocol: Protocol) -> bool {
        protocol == Protocol::V3 && matches!(kind, kind::OFFER | kind::ANSWER | kind::CANDIDATE)
    }

    fn parse(bytes: &[u8], protocol: Protocol) -> Option<Self> {
        let (&kind, body) = bytes.split_first()?;
        if !Self::has_attempt(kind, protocol) {
            return Some(Self { kind, attempt: 0, body: body.to_vec() });
        }
        let (&attempt, body) = body.split_first()?;
        Some(Self { kind, attempt, body: body.to_vec() })
    }

    fn to_bytes(&self, protocol: Protocol) -> Vec<u8> {
        let mut bytes = vec![self.kind];
        if Self::has_attempt(self.kind, protocol) {
            bytes.push(self.attempt);
        }
        bytes.extend(&self.body);
        bytes
    }
}

/// One end of a sealed exchange, played by the attacker, who holds the link.
pub(super) struct Envelope {
    secret: Secret,
    role: Role,
    seal: Seal,
}

impl Envelope {
    /// Returns an exchange in which the attacker plays `role`.
    pub(super) fn new(secret: Secret, role: Role) -> Self {
        let seal = Seal::new(secret.clone(), role, random());
        Self { secret, role, seal }
    }

    /// Forgets the peer: what follows is sealed as by a process that was just started.
    pub(super) fn restart(&mut self) {
        self.seal = Seal::new(self.secret.clone(), self.role, random());
    }

    /// Seals a signal.
    pub(super) fn seal(&mut self, signal: &Signal, protocol: Protocol) -> Bytes {
        self.seal.seal(&signal.to_bytes(protocol)).into()
    }

    /// Seals the announcement of a guest.
    pub(super) fn announce(&mut self, protocol: Protocol) -> Bytes {
        let body = protocol.version().to_le_bytes().to_vec();
        self.seal(&Signal { kind: kind::ANNOUNCE, attempt: 0, body }, protocol)
    }

    /// Opens a signal. The flag says whether it comes from a peer that has restarted; this end then
    /// starts over too.
    pub(super) fn open(&mut self, sealed: &[u8], protocol: Protocol) -> Option<(Signal, bool)> {
        let mut opened = self.seal.open(sealed);
        let has_restarted = opened == Err(OpenError::AnotherPeer);
        if has_restarted {
            match self.role {
                Role::Host => self.restart(),
                // A guest keeps its salt; otherwise the two would take turns in choosing new ones.
                Role::Guest => self.seal.forget_peer(),
            }
            opened = self.seal.open(sealed);
        }
        Some((Signal::parse(&opened.ok()?, protocol)?, has_restarted))
    }
}

/// Returns a salt. It need not be secret, only new.
fn random() -> [u8; SALT_BYTES] {
    std::array::from_fn(|_| RandomState::new().build_hasher().finish() as u8)
}

/// Returns the candidate lines of a session description.
pub(super) fn candidates(sdp: &str) -> impl Iterator<Item = &str> {
    sdp.lines().filter_map(|line| line.strip_prefix("a=candidate:"))
}

/// Returns address and port of a candidate, if it is one for UDP.
pub(super) fn udp_address(candidate: &str) -> Option<std::net::SocketAddr> {
    let fields: Vec<&str> = candidate.split_whitespace().collect();
    let [_, _, protocol, _, ip, port, ..] = fields[..] else { return None };
    if !protocol.eq_ignore_ascii_case("udp") {
        return None;
    }
    Some(std::net::SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
}

/// Replaces all candidates of a session description by one for UDP at `address`.
pub(super) fn with_candidate(sdp: &str, address: std::net::SocketAddr) -> String {
    let line =
        format!("a=candidate:1 1 udp 2130706431 {} {} typ host", address.ip(), address.port());
    let mut out = String::new();
    let mut is_written = false;
    for old in sdp.lines() {
        if !old.starts_with("a=candidate:") {
            out.push_str(old);
        } else if is_written {
            continue;
        } else {
            out.push_str(&line);
            is_written = true;
        }
        out.push_str("\r\n");
    }
    out
}
