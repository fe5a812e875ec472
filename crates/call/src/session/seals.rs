//! With whom signals are exchanged: with the peer, which proves by its token that it is the one that
//! was let in, and with newcomers, who have nothing but the invite.

use std::time::{Duration, Instant};

use transport::{
    OpenError, PeerSeal, Refusal, ResumeToken, Role, SALT_BYTES, Seal, Signal, VERSION,
};

use super::Session;
use super::io::Output;
use super::phase::{Party, Phase};

/// Whoever was heard within this time keeps its place against another one: a guest announces itself
/// every five seconds.
const PLACE_HELD: Duration = Duration::from_secs(6);
/// Another guest is refused once the one that has the place was heard this long after that guest's
/// first message. Without such a sign of life, the other guest may be the same one, restarted.
const REFUSE_AFTER: Duration = Duration::from_secs(3);
/// Shortest time between two refusals.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(1);

/// What has crossed between this end and a party.
#[derive(Debug, Default)]
pub(super) struct Exchanged {
    /// Number of the newest connection attempt: of the last offer, made or answered.
    pub(super) newest_attempt: Option<u8>,
    /// When a signal of the party last arrived.
    pub(super) heard: Option<Instant>,
}

/// The seals of a session, one for each party.
#[derive(Debug)]
pub(super) struct Signals {
    /// For newcomers. There is one of them at a time.
    pub(super) seal: Seal,
    /// For the peer, as long as there is one that may come back.
    pub(super) peer_seal: Option<PeerSeal>,
    peer: Exchanged,
    newcomer: Exchanged,
    /// Host: to whom the next link is offered.
    pub(super) addressee: Party,
    /// Guest: another host has turned it away while its own is lost. It waits for its own alone.
    pub(super) ignores_newcomers: bool,
}

/// A guest with our invite who is neither in the call nor knocks.
#[derive(Debug)]
pub(super) struct OtherGuest {
    salt: [u8; SALT_BYTES],
    /// When its first message arrived.
    since: Instant,
}

impl Signals {
    pub(super) fn new(seal: Seal) -> Self {
        Self {
            seal,
            peer_seal: None,
            peer: Exchanged::default(),
            newcomer: Exchanged::default(),
            addressee: Party::Newcomer,
            ignores_newcomers: false,
        }
    }

    pub(super) fn of(&self, party: Party) -> &Exchanged {
        match party {
            Party::Peer => &self.peer,
            Party::Newcomer => &self.newcomer,
        }
    }

    pub(super) fn of_mut(&mut self, party: Party) -> &mut Exchanged {
        match party {
            Party::Peer => &mut self.peer,
            Party::Newcomer => &mut self.newcomer,
        }
    }
}

fn opened(seal: &mut Seal, sealed: &[u8]) -> Option<Signal> {
    Signal::parse(&seal.open(sealed).ok()?).ok()
}

impl Session {
    /// Returns whether there is a peer that was let in, or has let us in, and may come back.
    pub(super) fn has_peer(&self) -> bool {
        self.signals.peer_seal.is_some()
    }

    /// Knows the peer by a token from now on. With the same token its seal stays: the counters must
    /// not start over.
    pub(super) fn know_peer(&mut self, token: ResumeToken) {
        if self.admission.token.replace(token) != Some(token) {
            let seal = PeerSeal::new(self.secret.clone(), self.role, token);
            self.signals.peer_seal = Some(seal);
            self.signals.peer = Exchanged::default();
        }
    }

    /// Opens a sealed signal of the peer or of a newcomer, if it is one that counts now.
    pub(super) fn open(&mut self, now: Instant, sealed: &[u8]) -> Option<(Party, Signal)> {
        let from_peer = self.signals.peer_seal.as_mut().and_then(|seal| seal.open(sealed).ok());
        if let Some(signal) = from_peer.and_then(|bytes| Signal::parse(&bytes).ok()) {
            // The peer has its place, whoever else has sent signals since it was lost.
            if self.role == Role::Host {
                self.forget_newcomer();
            }
            return Some((Party::Peer, signal));
        }
        self.open_of_newcomer(now, sealed).map(|signal| (Party::Newcomer, signal))
    }

    fn open_of_newcomer(&mut self, now: Instant, sealed: &[u8]) -> Option<Signal> {
        if !self.hears_newcomers() {
            self.handle_other_guest(now, sealed);
            return None;
        }
        let mut opened = self.signals.seal.open(sealed);
        if opened == Err(OpenError::AnotherPeer) {
            if !self.accepts_another(now) {
                self.handle_other_guest(now, sealed);
                return None;
            }
            self.give_way_to_another();
            opened = self.signals.seal.open(sealed);
        }
        let signal = Signal::parse(&opened.ok()?).ok()?;
        if self.role == Role::Host && self.signals.addressee == Party::Peer {
            let is_knocking = self.links.knock.is_some();
            if !is_knocking && !self.accepts_another(now) {
                return None;
            }
            if !is_knocking {
                self.signals.addressee = Party::Newcomer;
            }
        }
        Some(signal)
    }

    /// Returns whether signals of newcomers count at all. They need none while the peer is here.
    fn hears_newcomers(&self) -> bool {
        match self.phase {
            Phase::Meeting => true,
            Phase::Lost { .. } => !self.signals.ignores_newcomers,
            Phase::Connected { .. } | Phase::Ended => false,
        }
    }

    /// Returns whether a newcomer may take the place of the other end with which signals are
    /// exchanged.
    fn accepts_another(&self, now: Instant) -> bool {
        let is_held = |party| {
            self.signals.of(party).heard.is_some_and(|heard: Instant| now < heard + PLACE_HELD)
        };
        let is_taken = self.is_waiting() || self.links.is_attempt_open();
        match (self.role, self.phase) {
            (Role::Guest, _) => !is_taken,
            (Role::Host, Phase::Meeting) => {
                !(is_taken || is_held(Party::Newcomer) && self.signals.seal.is_peer_present())
            }
            (Role::Host, _) => !(is_taken || is_held(Party::Newcomer) || is_held(Party::Peer)),
        }
    }

    /// Gives up what was begun with the newcomer we know, for the next one.
    fn give_way_to_another(&mut self) {
        let first_answer = self.first_answer;
        self.drop_attempts(Party::Newcomer);
        self.renew_seal();
        match self.role {
            Role::Host => self.signals.addressee = Party::Newcomer,
            // A host that has given us up makes offers to whoever comes next. That is no reason to
            // try for ever.
            Role::Guest => self.first_answer = first_answer,
        }
    }

    /// Gives up the newcomer who has sent signals, because it has vanished or left, or the peer is
    /// heard again. The peer is not forgotten: links are made with it again. A guest who knocks at
    /// this host stays.
    pub(super) fn forget_newcomer(&mut self) {
        let is_host = self.role == Role::Host;
        if is_host && self.signals.addressee == Party::Peer {
            return;
        }
        self.drop_attempts(Party::Newcomer);
        self.renew_seal();
        if is_host && self.has_peer() {
            self.signals.addressee = Party::Peer;
        }
    }

    /// Host: forgets the peer. A guest who knocks is then the one with whom signals are exchanged.
    pub(super) fn forget_peer_signals(&mut self) {
        self.signals.peer_seal = None;
        self.signals.addressee = Party::Newcomer;
        self.drop_attempts(Party::Peer);
        self.drop_attempts(Party::Newcomer);
        if self.links.knock.is_none() {
            self.renew_seal();
        }
    }

    /// Lets the next newcomer be another one.
    fn renew_seal(&mut self) {
        self.signals.newcomer.heard = None;
        match self.role {
            Role::Host => self.signals.seal = self.fresh_seal(),
            // Our announcements name our salt, so it stays.
            Role::Guest => {
                self.signals.newcomer.newest_attempt = None;
                self.signals.seal.forget_peer();
            }
        }
    }

    /// Gives up all links under construction with a party.
    pub(super) fn drop_attempts(&mut self, party: Party) {
        let attempts = self.links.take_attempts(party);
        self.close_links(attempts);
        self.links.reset_patience();
        self.links.forget_attempt_numbers(party);
        self.first_answer = None;
        self.link_error = None;
    }

    /// Host: refuses a guest who is neither in the call nor knocks, once the one who has the place
    /// was heard again: the other guest could be the same one, restarted.
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
