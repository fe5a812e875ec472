//! How the two ends find each other: sealed announcements, offers, answers and candidates.

use std::time::Instant;

use transport::{ManualAnswer, OpenError, Packetizer, Role, Seal, Signal, VERSION};

use super::io::{LinkCommand, LinkId, Output, SignalingEvent};
use super::liveness::LOST_AFTER;
use super::outgoing::packetizer_settings;
use super::peer_face::PeerFace;
use super::phase::{LinkState, Phase};
use super::{Exchange, Session};
use crate::event::{CallFailure, End, Event};

impl Session {
    /// Takes the first step: the guest announces itself or answers the offer in the invite, the
    /// host of a manual call makes an offer.
    pub(super) fn begin(&mut self, now: Instant) {
        match (std::mem::replace(&mut self.exchange, Exchange::Manual(None)), self.role) {
            (Exchange::Rendezvous, role) => {
                self.exchange = Exchange::Rendezvous;
                if role == Role::Guest {
                    self.announce();
                    self.phase = Phase::Waiting { announced: Some(now) };
                }
            }
            (Exchange::Manual(Some(sealed)), Role::Guest) => {
                let opened = self.seal.open(&sealed).ok();
                match opened.and_then(|bytes| Signal::parse(&bytes).ok()) {
                    Some(Signal::Offer(offer)) => self.start_link(now, Some(offer)),
                    _ => self.fail(now, CallFailure::WrongAnswer),
                }
            }
            (Exchange::Manual(_), _) => self.start_link(now, None),
        }
    }

    /// Tells the host that a guest waits for an offer.
    pub(super) fn announce(&mut self) {
        self.send_signal(&Signal::Announce(VERSION));
    }

    /// Seals a signal and sends it over the rendezvous service; without one, does nothing.
    pub(super) fn send_signal(&mut self, signal: &Signal) {
        if self.has_rendezvous() {
            let sealed = self.seal.seal(&signal.to_bytes());
            self.outputs.push_back(Output::Signal(sealed));
        }
    }

    pub(super) fn has_rendezvous(&self) -> bool {
        matches!(self.exchange, Exchange::Rendezvous)
    }

    pub(super) fn handle_signaling(&mut self, now: Instant, event: SignalingEvent) {
        match event {
            SignalingEvent::Sealed(sealed) => self.handle_sealed(now, &sealed),
            // Later the room may be full of ourselves: the service has not noticed yet that our
            // previous connection broke.
            SignalingEvent::RoomIsFull if self.phase.is_first_contact() => {
                self.fail(now, CallFailure::RoomIsFull);
            }
            SignalingEvent::RoomIsFull => {}
        }
    }

    fn handle_sealed(&mut self, now: Instant, sealed: &[u8]) {
        let mut opened = self.seal.open(sealed);
        let is_new_peer = opened == Err(OpenError::AnotherPeer) && self.accepts_new_peer(now);
        if is_new_peer {
            // The peer has restarted. Its old link is dead, so this end starts over too.
            self.seal = self.fresh_seal();
            opened = self.seal.open(sealed);
        }
        // Messages that do not open are late, repeated or forged. None of them may end a call.
        let Some(signal) = opened.ok().and_then(|bytes| Signal::parse(&bytes).ok()) else {
            return;
        };
        match (signal, self.role) {
            (Signal::Announce(version), Role::Host) => {
                self.handle_announce(now, version, is_new_peer);
            }
            (Signal::Offer(offer), Role::Guest) => self.handle_offer(now, offer),
            (Signal::Answer(answer), Role::Host) => self.accept_answer(now, answer),
            (Signal::Candidate(candidate), _) => {
                if let Some(link) = self.phase.link() {
                    let command = LinkCommand::AddCandidate(candidate);
                    self.outputs.push_back(Output::Link(link.id, command));
                }
            }
            (Signal::Leave, _) => self.end(now, End::PeerHungUp),
            (Signal::Announce(_) | Signal::Answer(_), Role::Guest)
            | (Signal::Offer(_), Role::Host) => {}
        }
    }

    /// Returns whether a peer with another salt may take the place of the one we know.
    fn accepts_new_peer(&self, now: Instant) -> bool {
        match &self.phase {
            Phase::Waiting { .. } => true,
            Phase::Connecting(link) | Phase::Lost { link, .. } => {
                !link.is_open() || self.silence(now) >= LOST_AFTER
            }
            Phase::Connected(_) | Phase::Ended => false,
        }
    }

    fn handle_announce(&mut self, now: Instant, version: u16, is_new_peer: bool) {
        if version != VERSION {
            let failure = CallFailure::OtherVersion { theirs: version, ours: VERSION };
            self.fail(now, failure);
            return;
        }
        match &self.phase {
            Phase::Waiting { .. } => self.start_link(now, None),
            Phase::Connecting(link) | Phase::Lost { link, .. } => {
                if is_new_peer || link.hellos.is_received {
                    self.start_link(now, None);
                } else if let Some(offer) = link.offer.clone().filter(|_| !link.is_open()) {
                    // The guest still announces itself, so our offer is under way or was lost
                    // while the guest had no connection to the service.
                    self.send_signal(&Signal::Offer(offer));
                }
            }
            // Late: the guest has found us meanwhile.
            Phase::Connected(_) | Phase::Ended => {}
        }
    }

    fn handle_offer(&mut self, now: Instant, offer: String) {
        let is_repeated = self.phase.link().is_some_and(|link| link.offer.as_ref() == Some(&offer));
        if !is_repeated {
            self.start_link(now, Some(offer));
        }
    }

    /// Replaces the current link, if there is one, by a new one that answers `offer` or makes an
    /// offer itself.
    fn start_link(&mut self, now: Instant, offer: Option<String>) {
        self.close_link();
        self.n_links += 1;
        let id = LinkId(self.n_links);
        let command = match &offer {
            Some(offer) => LinkCommand::Answer(offer.clone()),
            None => LinkCommand::Offer,
        };
        self.outputs.push_back(Output::Link(id, command));
        let link = LinkState::new(id, now, offer);
        if self.phase.is_first_contact() {
            self.phase = Phase::Connecting(link);
        } else {
            if matches!(self.phase, Phase::Connected(_)) {
                self.emit(Event::PeerLost);
            }
            self.phase = Phase::Lost { link, announced: now };
        }
        self.packetizer = Packetizer::new(packetizer_settings(self.media.rate));
        if let Some(model) = &mut self.model_sender {
            model.restart();
        }
        if self.peer_face.is_refused {
            self.peer_face = PeerFace::default();
        }
        self.receiver.restart(self.peer_face.profile.clone());
    }

    /// Sends the description of our link to the peer, or has the user carry it over.
    pub(super) fn handle_description(&mut self, description: String) {
        let signal = match self.role {
            Role::Host => {
                if let Some(link) = self.phase.link_mut() {
                    link.offer = Some(description.clone());
                }
                Signal::Offer(description)
            }
            Role::Guest => Signal::Answer(description),
        };
        if self.has_rendezvous() {
            self.send_signal(&signal);
            return;
        }
        let sealed = self.seal.seal(&signal.to_bytes());
        match self.role {
            Role::Host => self.outputs.push_back(Output::InviteOffer(sealed)),
            Role::Guest => self.emit(Event::AnswerReady(ManualAnswer(sealed).to_string())),
        }
    }

    /// Handles the answer that the user of a manual call has brought over.
    pub(super) fn handle_manual_answer(&mut self, now: Instant, text: &str) {
        let opened = text.parse::<ManualAnswer>().ok().and_then(|answer| {
            let bytes = self.seal.open(&answer.0).ok()?;
            Signal::parse(&bytes).ok()
        });
        match opened {
            Some(Signal::Answer(answer)) if self.phase.link().is_some() => {
                self.accept_answer(now, answer);
            }
            _ => self.fail(now, CallFailure::WrongAnswer),
        }
    }

    fn accept_answer(&mut self, now: Instant, answer: String) {
        if let Some(link) = self.phase.link_mut() {
            link.is_answered = true;
            link.since = now;
            self.outputs.push_back(Output::Link(link.id, LinkCommand::Accept(answer)));
        }
    }

    /// Returns a seal with a salt that was never used.
    pub(super) fn fresh_seal(&mut self) -> Seal {
        Seal::new(self.secret.clone(), self.role, (self.fresh_salt)())
    }
}
