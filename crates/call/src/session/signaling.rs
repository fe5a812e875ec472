//! How the two ends find each other: sealed announcements, offers, answers and candidates.

use std::time::{Duration, Instant};

use transport::{CheckWords, ManualAnswer, OpenError, Refusal, Role, Secret, Signal, VERSION};

use super::io::{LinkCommand, LinkId, Output, SignalingEvent};
use super::phase::{Party, Phase};
use super::{Exchange, Session};
use crate::description::fingerprint;
use crate::event::{CallFailure, End, Event, LinkError};

/// In this time after the beginning of a connection, announcements and offers may be late ones.
const LATE_SIGNALS: Duration = Duration::from_secs(5);
/// Shortest time between links that a guest begins. An honest host waits for five seconds.
const OFFER_INTERVAL: Duration = Duration::from_secs(2);
/// A first contact that fails after this time is reported as a missing path through the network,
/// whichever end gives up first.
const NO_PATH_AFTER: Duration = Duration::from_secs(20);

impl Session {
    /// Takes the first step: the guest announces itself or answers the offer in the invite, the
    /// host of a manual call makes an offer.
    pub(super) fn begin(&mut self, now: Instant) {
        match (std::mem::replace(&mut self.exchange, Exchange::Manual(None)), self.role) {
            (Exchange::Rendezvous, role) => {
                self.exchange = Exchange::Rendezvous;
                if role == Role::Guest {
                    self.announce(now);
                }
            }
            (Exchange::Manual(Some(sealed)), Role::Guest) => {
                let opened = self.signals.seal.open(&sealed).ok();
                match opened.and_then(|bytes| Signal::parse(&bytes).ok()) {
                    Some(Signal::Offer { attempt, sdp }) => {
                        self.answer_link(now, Party::Newcomer, attempt, sdp);
                    }
                    _ => self.fail(now, CallFailure::WrongAnswer),
                }
            }
            (Exchange::Manual(_), _) => self.offer_link(now),
        }
    }

    /// Tells the host that a guest waits for an offer: one that has let us in before, and any other.
    /// The message for others also opens in a host that has restarted.
    pub(super) fn announce(&mut self, now: Instant) {
        self.announced = Some(now);
        if self.replaced.is_some() {
            self.reconnect_signaling();
        }
        let announcement = Signal::Announce(VERSION);
        self.send_signal(Party::Peer, &announcement);
        if !self.signals.ignores_newcomers && !self.is_waiting() {
            let sealed = self.signals.seal.seal_unbound(&announcement.to_bytes());
            self.outputs.push_back(Output::Signal(sealed));
        }
    }

    /// Seals a signal for a party and sends it over the rendezvous service; without one, or without
    /// a peer, does nothing.
    pub(super) fn send_signal(&mut self, party: Party, signal: &Signal) {
        if !self.has_rendezvous() {
            return;
        }
        let bytes = signal.to_bytes();
        let sealed = match party {
            Party::Peer => self.signals.peer_seal.as_mut().map(|seal| seal.seal(&bytes)),
            Party::Newcomer => Some(self.signals.seal.seal(&bytes)),
        };
        self.outputs.extend(sealed.map(Output::Signal));
    }

    pub(super) fn has_rendezvous(&self) -> bool {
        matches!(self.exchange, Exchange::Rendezvous)
    }

    /// Asks for a working connection to the rendezvous service.
    pub(super) fn reconnect_signaling(&mut self) {
        if self.has_rendezvous() {
            self.replaced = None;
            self.outputs.push_back(Output::ReconnectSignaling);
        }
    }

    pub(super) fn handle_signaling(&mut self, now: Instant, event: SignalingEvent) {
        match event {
            SignalingEvent::Sealed(sealed) => self.handle_sealed(now, &sealed),
            SignalingEvent::Replaced => self.handle_replaced(now),
        }
    }

    /// Handles that another client has our seat. A connected call needs no signals, nor does a guest
    /// who knocks; a guest that has lost its host asks for the seat with its next message. A host is
    /// the only one with its invite who is a host: somebody else with the link has taken its seat,
    /// and it takes it back after a while.
    fn handle_replaced(&mut self, now: Instant) {
        let is_meeting = matches!(self.phase, Phase::Meeting) && self.links.knock.is_none();
        if is_meeting && self.role == Role::Guest {
            self.fail(now, CallFailure::Replaced);
            return;
        }
        self.replaced = Some(now);
        let is_lost = matches!(self.phase, Phase::Lost { .. });
        if self.role == Role::Host && (is_meeting || is_lost) {
            self.tell_of_guest(now, CallFailure::Replaced);
        }
    }

    fn handle_sealed(&mut self, now: Instant, sealed: &[u8]) {
        // Messages that do not open are late, repeated or forged. None of them may end a call.
        let Some((party, signal)) = self.open(now, sealed) else { return };
        self.signals.of_mut(party).heard = Some(now);
        match (signal, self.role) {
            (Signal::Announce(version), Role::Host) => self.handle_announce(now, party, version),
            (Signal::Offer { attempt, sdp }, Role::Guest) => {
                self.handle_offer(now, party, attempt, sdp);
            }
            (Signal::Answer { attempt, sdp }, Role::Host) => {
                self.accept_answer(now, party, attempt, sdp);
            }
            (Signal::Candidate { attempt, line }, _) => self.add_candidate(party, attempt, line),
            (Signal::Leave, _) => self.handle_leave(now, party),
            (Signal::Refuse(refusal), Role::Guest) => self.handle_refusal(now, refusal),
            (Signal::Announce(_) | Signal::Answer { .. } | Signal::Refuse(_), _)
            | (Signal::Offer { .. }, Role::Host) => {}
        }
    }

    fn handle_announce(&mut self, now: Instant, party: Party, version: u16) {
        if version != VERSION {
            if self.may_refuse(now) {
                self.send_signal(party, &Signal::Refuse(Refusal::OtherVersion(VERSION)));
            }
            self.forget_newcomer();
            let failure = CallFailure::OtherVersion { theirs: version, ours: VERSION };
            self.tell_of_guest(now, failure);
            return;
        }
        if let Phase::Connected { since } = self.phase {
            // The guest does not hear us, although we hear it.
            if now >= since + LATE_SIGNALS && self.links.next_attempt().is_none_or(|at| at <= now) {
                self.offer_link(now);
            }
            return;
        }
        // A link that is due begins with the other deadlines. Until then our newest offer may have
        // been lost while the guest had no connection to the service.
        let newest = self.links.newest_attempt(party).filter(|link| !link.is_answered);
        if let Some(link) = newest
            && let (Some(attempt), Some(sdp)) = (link.attempt, link.offer.clone())
        {
            self.send_signal(party, &Signal::Offer { attempt, sdp });
        }
    }

    fn handle_offer(&mut self, now: Instant, party: Party, attempt: u8, sdp: String) {
        if let Some(link) = self.links.of_attempt(party, attempt) {
            let answer = link.answer.clone().filter(|_| link.offer.as_ref() == Some(&sdp));
            if let Some(sdp) = answer {
                self.send_signal(party, &Signal::Answer { attempt, sdp });
            }
            return;
        }
        let is_late =
            matches!(self.phase, Phase::Connected { since } if now < since + LATE_SIGNALS);
        let is_newer = |newest: u8| (1..=i8::MAX as u8).contains(&attempt.wrapping_sub(newest));
        let newest = self.signals.of(party).newest_attempt;
        let is_known = newest.is_some_and(|newest| !is_newer(newest));
        let last = self.links.newest_attempt(party);
        let is_early = last.is_some_and(|link| now < link.began + OFFER_INTERVAL);
        if !is_late && !is_known && !is_early {
            self.answer_link(now, party, attempt, sdp);
        }
    }

    /// Host: begins a link with an offer.
    pub(super) fn offer_link(&mut self, now: Instant) {
        if self.replaced.is_some() {
            self.reconnect_signaling();
        }
        let party = self.signals.addressee;
        let newest = self.signals.of(party).newest_attempt;
        let attempt = newest.map_or(0, |newest| newest.wrapping_add(1));
        let id = self.begin_link(now, party, attempt, None);
        self.outputs.push_back(Output::Link(id, LinkCommand::Offer));
    }

    /// Guest: begins a link that answers an offer. To an offer of a newcomer with another certificate
    /// it answers with another one of its own: whoever is in between could otherwise learn both
    /// certificates from one attempt and search for two of its own that give the same check words at
    /// both ends.
    fn answer_link(&mut self, now: Instant, party: Party, attempt: u8, sdp: String) {
        let offered = fingerprint(&sdp);
        if party == Party::Newcomer {
            if self.host_fingerprint.is_some() && offered != self.host_fingerprint {
                self.outputs.push_back(Output::RenewCertificate);
            }
            self.host_fingerprint = offered.or(self.host_fingerprint);
        }
        let id = self.begin_link(now, party, attempt, Some(sdp.clone()));
        self.outputs.push_back(Output::Link(id, LinkCommand::Answer(sdp)));
    }

    fn begin_link(
        &mut self,
        now: Instant,
        party: Party,
        attempt: u8,
        offer: Option<String>,
    ) -> LinkId {
        self.signals.of_mut(party).newest_attempt = Some(attempt);
        let (id, given_up) = self.links.begin(now, party, attempt, offer);
        self.close_links(given_up);
        id
    }

    /// Sends the description of our link to the peer, or has the user carry it over.
    pub(super) fn handle_description(&mut self, now: Instant, id: LinkId, sdp: String) {
        let Some(link) = self.links.get_mut(id) else { return };
        let (Some(attempt), party) = (link.attempt, link.party) else { return };
        let signal = match self.role {
            Role::Host => {
                link.offer = Some(sdp.clone());
                Signal::Offer { attempt, sdp }
            }
            Role::Guest => {
                link.answer = Some(sdp.clone());
                link.check_words = check_words(&self.secret, link.offer.as_deref(), &sdp);
                Signal::Answer { attempt, sdp }
            }
        };
        if self.has_rendezvous() {
            if self.role == Role::Guest {
                self.first_answer.get_or_insert(now);
            }
            self.send_signal(party, &signal);
            return;
        }
        let sealed = self.signals.seal.seal(&signal.to_bytes());
        match self.role {
            Role::Host => self.outputs.push_back(Output::InviteOffer(sealed)),
            Role::Guest => self.emit(Event::AnswerReady(ManualAnswer(sealed).to_string())),
        }
    }

    /// Handles the answer that the user of a manual call has brought over.
    pub(super) fn handle_manual_answer(&mut self, now: Instant, text: &str) {
        let is_accepted = match self.open_manual_answer(text) {
            Some(Signal::Answer { attempt, sdp }) => {
                self.accept_answer(now, Party::Newcomer, attempt, sdp)
            }
            _ => false,
        };
        if !is_accepted {
            self.emit(Event::AnswerRefused);
        }
    }

    fn open_manual_answer(&mut self, text: &str) -> Option<Signal> {
        let answer = ManualAnswer::find(text).ok()?;
        let seal = &mut self.signals.seal;
        let mut opened = seal.open(&answer.0);
        if opened == Err(OpenError::AnotherPeer) && matches!(self.phase, Phase::Meeting) {
            // The guest has opened the invite again.
            seal.forget_peer();
            opened = seal.open(&answer.0);
        }
        Signal::parse(&opened.ok()?).ok()
    }

    /// Host: passes the first answer of an attempt to its link. Returns whether there was a link
    /// that waits for it.
    fn accept_answer(&mut self, now: Instant, party: Party, attempt: u8, sdp: String) -> bool {
        let link = self.links.of_attempt(party, attempt);
        let Some(link) = link.filter(|link| link.offer.is_some() && !link.is_answered) else {
            return false;
        };
        link.is_answered = true;
        link.check_words = check_words(&self.secret, link.offer.as_deref(), &sdp);
        self.outputs.push_back(Output::Link(link.id, LinkCommand::Accept(sdp)));
        self.first_answer.get_or_insert(now);
        true
    }

    fn add_candidate(&mut self, party: Party, attempt: u8, line: String) {
        let link = self.links.of_attempt(party, attempt);
        if let Some(link) = link.filter(|link| link.candidates_left > 0) {
            link.candidates_left -= 1;
            self.outputs.push_back(Output::Link(link.id, LinkCommand::AddCandidate(line)));
        }
    }

    fn handle_leave(&mut self, now: Instant, party: Party) {
        if self.has_peer() {
            match party {
                Party::Peer => self.end(now, End::PeerHungUp),
                // It ends nothing but what was begun with it.
                Party::Newcomer if self.links.is_newcomer_knocking() => self.lose_knock(now),
                Party::Newcomer => self.forget_newcomer(),
            }
            return;
        }
        let took = self.first_answer.map(|at| now.saturating_duration_since(at));
        let is_without_path = matches!(self.phase, Phase::Meeting) && self.links.knock.is_none();
        if self.role == Role::Host && !self.signals.seal.is_peer_present() {
            // Perhaps a recording of an earlier call. A guest that has answered nothing may go.
            self.forget_newcomer();
        } else if is_without_path && took >= Some(NO_PATH_AFTER) {
            self.give_up_path(now);
        } else if !self.dismiss_guest(now) {
            self.end(now, End::PeerHungUp);
        }
    }

    fn handle_refusal(&mut self, now: Instant, refusal: Refusal) {
        // One that was let in may still come back: whoever refuses it may not be its host.
        if matches!(self.phase, Phase::Meeting) {
            let failure = match refusal {
                Refusal::OtherVersion(theirs) => {
                    CallFailure::OtherVersion { theirs, ours: VERSION }
                }
                Refusal::AnotherGuest => CallFailure::AnotherGuest,
                Refusal::LinkClosed => CallFailure::LinkClosed,
            };
            self.fail(now, failure);
        }
    }

    /// Handles the failure of a link, with the error if WebRTC refused an operation. Others may
    /// still succeed, and a link in use is replaced once the peer is silent.
    pub(super) fn handle_link_failure(
        &mut self,
        now: Instant,
        id: LinkId,
        mut error: Option<LinkError>,
    ) {
        // Somebody is in between, or the peer attacks: another link would lead to the same.
        let is_current = self.links.is_current(id);
        let is_attack = |error: &mut LinkError| match error {
            LinkError::WrongCertificate => true,
            LinkError::UnknownChannels => is_current,
            _ => false,
        };
        if let Some(error) = error.take_if(is_attack) {
            self.reject_link(now, id, error.into());
            return;
        }
        // Over a link in use, the peer may still be heard, or comes back over another. A guest who
        // knocks over a link that WebRTC refuses has lost it.
        if is_current || self.links.is_knocking(id) {
            if error.is_some() {
                self.dismiss_link(now, id);
            }
            return;
        }
        let is_meeting = matches!(self.phase, Phase::Meeting);
        let Some(link) = self.links.get_mut(id) else { return };
        let has_described =
            link.offer.is_some() && (self.role == Role::Host || link.answer.is_some());
        let is_refused_answer = error.is_some() && std::mem::take(&mut link.is_answered);
        if is_meeting && !self.has_rendezvous() && is_refused_answer {
            // The right one may still come.
            self.first_answer = None;
            self.emit(Event::AnswerRefused);
            return;
        }
        self.close_attempt(id);
        self.link_error = error.or(self.link_error.take());
        if is_meeting && (!self.has_rendezvous() || (self.role == Role::Host && !has_described)) {
            // There is no other attempt, or nothing can be offered at all.
            self.fail_without_path(now);
        } else if is_meeting && !has_described {
            self.first_answer.get_or_insert(now);
        }
    }
}

/// Returns the check words of a link with these two descriptions.
fn check_words(secret: &Secret, offer: Option<&str>, answer: &str) -> Option<CheckWords> {
    let (host, guest) = (fingerprint(offer?)?, fingerprint(answer)?);
    Some(CheckWords::new(secret, host, guest))
}
