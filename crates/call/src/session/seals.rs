//! With whom signals are exchanged: one seal at a time, and a place for the peer that was let in,
//! which another guest cannot take.

use std::time::{Duration, Instant};

use transport::{OpenError, Refusal, Role, SALT_BYTES, Seal, Signal, VERSION};

use super::Session;
use super::io::Output;
use super::phase::Phase;

/// A guest that was heard within this time keeps its place against another one: it announces itself
/// every five seconds.
const PLACE_HELD: Duration = Duration::from_secs(6);
/// Another guest is refused once the one that has the place was heard this long after that guest's
/// first message. Without such a sign of life, the other guest may be the same one, restarted.
const REFUSE_AFTER: Duration = Duration::from_secs(3);
/// Shortest time between two refusals.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(1);

/// A guest with our invite who is neither in the call nor knocks.
#[derive(Debug)]
pub(super) struct OtherGuest {
    salt: [u8; SALT_BYTES],
    /// When its first message arrived.
    since: Instant,
}

fn opened(seal: &mut Seal, sealed: &[u8]) -> Option<Signal> {
    Signal::parse(&seal.open(sealed).ok()?).ok()
}

impl Session {
    /// Opens a sealed signal of the other end, or of one that may take its place.
    pub(super) fn open(&mut self, now: Instant, sealed: &[u8]) -> Option<Signal> {
        // The peer has its place, whoever else has sent signals since it was lost.
        if let Some(signal) = self.peer_seal.as_mut().and_then(|seal| opened(seal, sealed)) {
            self.forget_guest();
            return Some(signal);
        }
        let knocking = self.links.knock.as_mut().and_then(|knock| knock.seal.as_mut());
        if let Some(signal) = knocking.and_then(|seal| opened(seal, sealed)) {
            // It needs no signals while it waits.
            if signal == Signal::Leave {
                self.lose_knock(now);
            }
            return None;
        }
        let mut opened = self.seal.open(sealed);
        if opened == Err(OpenError::AnotherPeer) {
            if !self.accepts_another(now) {
                self.handle_other_guest(now, sealed);
                return None;
            }
            self.give_way_to_another();
            opened = self.seal.open(sealed);
        }
        opened.ok().and_then(|bytes| Signal::parse(&bytes).ok())
    }

    /// Returns whether the other end with another salt may take the place of the one we know.
    fn accepts_another(&self, now: Instant) -> bool {
        let is_held = self.guest_heard.is_some_and(|heard| now < heard + PLACE_HELD);
        let is_taken = self.is_waiting() || self.links.is_attempt_open();
        match self.phase {
            Phase::Meeting => !(is_taken || is_held && self.seal.is_peer_present()),
            Phase::Lost { .. } => !is_taken && !is_held,
            Phase::Connected { .. } | Phase::Ended => false,
        }
    }

    /// Host: returns whether there is a peer that was let in, and it is the one with whom signals
    /// are exchanged.
    pub(super) fn exchanges_signals_with_peer(&self) -> bool {
        self.admission.token.is_some() && self.peer_seal.is_none()
    }

    /// Gives up what was begun with the other end we know, but neither a link that was connected nor
    /// the seal of the peer.
    fn give_way_to_another(&mut self) {
        let is_peer = self.exchanges_signals_with_peer();
        let first_answer = self.first_answer;
        self.drop_attempts();
        match self.role {
            Role::Host => {
                let fresh = self.fresh_seal();
                let before = std::mem::replace(&mut self.seal, fresh);
                if is_peer {
                    self.peer_seal = Some(before);
                }
            }
            // Our announcements name our salt, so it stays.
            Role::Guest => {
                self.newest_offer = None;
                self.seal.forget_peer();
                // A host that has given us up makes offers to whoever comes next. That is no reason
                // to try for ever.
                self.first_answer = first_answer;
            }
        }
    }

    /// Host: waits for another guest, because the one that has sent signals has vanished, or was
    /// given up. The peer that was let in is not forgotten: signals are for it again.
    pub(super) fn forget_guest(&mut self) {
        if !self.exchanges_signals_with_peer() {
            self.guest_heard = None;
            self.drop_attempts();
            self.seal = self.peer_seal.take().unwrap_or_else(|| self.fresh_seal());
        }
    }

    /// Host: exchanges signals with the peer again, if another guest has taken its place in that.
    /// Returns the seal of that guest.
    pub(super) fn resume_signals_with_peer(&mut self) -> Option<Seal> {
        let peer_seal = self.peer_seal.take()?;
        self.guest_heard = None;
        Some(std::mem::replace(&mut self.seal, peer_seal))
    }

    /// Host: forgets the seal of the peer. A guest who knocks is then the one with whom signals are
    /// exchanged.
    pub(super) fn forget_peer_signals(&mut self) {
        self.peer_seal = None;
        self.guest_heard = None;
        self.drop_attempts();
        let knocking = self.links.knock.as_mut().and_then(|knock| knock.seal.take());
        self.seal = knocking.unwrap_or_else(|| self.fresh_seal());
    }

    /// Gives up all links under construction.
    pub(super) fn drop_attempts(&mut self) {
        self.close_attempts();
        self.links.reset_patience();
        self.links.forget_attempt_numbers();
        self.first_answer = None;
        self.link_error = None;
    }

    /// Refuses a guest who is neither in the call nor knocks, once the one who has the place was
    /// heard again: the other guest could be the same one, restarted.
    fn handle_other_guest(&mut self, now: Instant, sealed: &[u8]) {
        let knocking = self.links.knock.as_ref().map(|knock| &knock.link);
        let is_connected = matches!(self.phase, Phase::Connected { .. });
        let in_use = self.links.current.as_ref().filter(|_| is_connected);
        let Some(last_life) = knocking.or(in_use).map(|link| link.last_life) else { return };
        let is_kept = self.admission.keeps_link || knocking.is_some();
        if self.role != Role::Host {
            return;
        }
        let mut seal = self.fresh_seal();
        let signal = opened(&mut seal, sealed);
        let (Some(Signal::Announce(version)), Some(salt)) = (signal, seal.peer_salt()) else {
            return;
        };
        if self.other_guest.as_ref().is_none_or(|other| other.salt != salt) {
            self.other_guest = Some(OtherGuest { salt, since: now });
        }
        let since = self.other_guest.as_ref().map(|other| other.since);
        let refusal = if version != VERSION {
            Refusal::OtherVersion(VERSION)
        } else if since.is_none_or(|since| last_life < since + REFUSE_AFTER) {
            return;
        } else if is_kept {
            Refusal::AnotherGuest
        } else {
            Refusal::LinkClosed
        };
        if self.may_refuse(now) {
            let sealed = seal.seal(&Signal::Refuse(refusal).to_bytes());
            self.outputs.push_back(Output::Signal(sealed));
        }
    }

    /// Returns whether a refusal may be sent now, and counts it.
    pub(super) fn may_refuse(&mut self, now: Instant) -> bool {
        let is_due = self.refused.is_none_or(|at| now >= at + REFUSAL_INTERVAL);
        if is_due {
            self.refused = Some(now);
        }
        is_due
    }

    /// Returns a seal with a salt that was never used.
    pub(super) fn fresh_seal(&mut self) -> Seal {
        Seal::new(self.secret.clone(), self.role, (self.fresh_salt)())
    }
}
