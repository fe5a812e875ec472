//! Whether a guest may join: the host is asked, the guest waits. Nothing of a person leaves either
//! end before the host has let the guest in.

use std::time::Instant;

use transport::{Admission, CheckWords, Control, ResumeToken, Role, SALT_BYTES};

use super::Session;
use super::io::{EncoderCommand, LinkId, Output};
use super::peer_face::PeerFace;
use super::phase::Phase;
use crate::event::{CallFailure, End, Event};

/// What a session knows about admission.
#[derive(Debug, Default)]
pub(super) struct AdmissionState {
    /// Whether guests are let in, and other faces accepted, without a question.
    pub(super) auto_admit: bool,
    /// Host: whether to wait for another guest after one has left.
    pub(super) keeps_link: bool,
    /// Token of the guest that was let in: at the host the one to compare with, at the guest the
    /// one to present.
    pub(super) token: Option<ResumeToken>,
    /// Host: salt of the seal of the guest that was let in.
    admitted_salt: Option<[u8; SALT_BYTES]>,
    /// Whether the host's user is being asked about the guest over the link in use.
    is_asking: bool,
    /// The words that were shown last.
    check_words: Option<CheckWords>,
}

impl AdmissionState {
    pub(super) fn new(auto_admit: bool, keeps_link: bool) -> Self {
        Self { auto_admit, keeps_link, ..Self::default() }
    }

    /// Returns whether these are the check words of the last admission, so that the certificates of
    /// both ends are still the same.
    pub(super) fn knows(&self, words: Option<CheckWords>) -> bool {
        words.is_some() && words == self.check_words
    }
}

impl Session {
    /// Returns whether features, sound, face and messages of the user may be sent.
    pub(super) fn is_admitted(&self) -> bool {
        self.links.current.as_ref().is_some_and(|link| link.is_admitted)
    }

    /// Returns whether the peers have met over a link, but the guest was not let in over it yet.
    pub(super) fn is_knocking(&self) -> bool {
        self.links.current.as_ref().is_some_and(|link| !link.is_admitted)
    }

    /// Returns whether the guest waits for a decision, so that no other link is begun. A guest that
    /// was let in before does not wait: the answer to its token is under way, and may come after an
    /// outage.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_knocking() && (self.admission.is_asking || matches!(self.phase, Phase::Meeting))
    }

    /// Host: lets the guest in who has greeted us over the link in use, or asks the user. A guest
    /// that was let in before presents its token.
    pub(super) fn receive_guest(&mut self, now: Instant) {
        self.admission.is_asking = false;
        let Some(link) = &self.links.current else { return };
        let (token, name) = (link.hellos.token, link.hellos.name.clone());
        let is_same_peer = self.admission.knows(link.check_words);
        if token.is_none() || token != self.admission.token || !is_same_peer {
            // Another guest, or the same one restarted: earlier tokens are void.
            self.admission.token = None;
            if !self.admission.auto_admit {
                self.admission.is_asking = true;
                self.send_control(now, &Control::Admission(Admission::Wait));
                self.emit(Event::Knock { name });
                return;
            }
        }
        self.admit(now);
    }

    /// Host: carries out what the user has decided about the guest, if one still asks.
    pub(super) fn handle_decision(&mut self, now: Instant, lets_in: bool) {
        if self.role == Role::Guest || !std::mem::take(&mut self.admission.is_asking) {
            return;
        }
        if lets_in {
            // Whoever it is may have another face than a guest before.
            self.peer_face = PeerFace::default();
            self.receiver.restart(None);
            self.admit(now);
            return;
        }
        self.send_control(now, &Control::Admission(Admission::TurnedAway));
        if self.has_rendezvous() {
            self.restart_absence(now);
            self.lose_knock(now);
        } else {
            self.end(now, End::HungUp);
        }
    }

    /// Gives a lost peer its whole time again: it had no chance to come back while another guest was
    /// asked about.
    fn restart_absence(&mut self, now: Instant) {
        if let Phase::Lost { .. } = self.phase {
            self.phase = Phase::Lost { since: now };
        }
    }

    fn admit(&mut self, now: Instant) {
        let token = self.admission.token.unwrap_or_else(|| ResumeToken((self.fresh_salt)()));
        self.admission.token = Some(token);
        self.admission.admitted_salt = self.seal.peer_salt();
        self.send_control(now, &Control::Admission(Admission::Admitted(token)));
        self.connect(now);
    }

    /// Guest: handles what the host says about our admission over the link in use.
    pub(super) fn handle_admission(&mut self, now: Instant, admission: Admission) {
        if self.role == Role::Host || !self.is_knocking() {
            self.statistics.bad_messages += 1;
            return;
        }
        match admission {
            Admission::Wait => {
                // The host has restarted, so it does not know us any more.
                if let Phase::Connected { .. } = self.phase {
                    self.lose_peer(now);
                }
                self.admission.is_asking = true;
                self.emit(Event::AdmissionPending);
            }
            Admission::Admitted(token) => {
                self.admission.token = Some(token);
                self.connect(now);
            }
            Admission::TurnedAway => self.fail(now, CallFailure::TurnedAway),
        }
    }

    /// Enters [`Phase::Connected`] over the link in use: the guest is let in.
    fn connect(&mut self, now: Instant) {
        let Some(link) = &mut self.links.current else { return };
        link.is_admitted = true;
        self.admission.is_asking = false;
        let peer_name = link.hellos.name.clone();
        match self.phase {
            Phase::Meeting => {
                self.statistics.connected_at = Some(now);
                self.emit(Event::Connected { peer_name });
            }
            Phase::Lost { .. } => self.emit(Event::PeerBack),
            // The peer had lost us, but not we the peer.
            Phase::Connected { .. } => {}
            Phase::Ended => return,
        }
        self.phase = Phase::Connected { since: now };
        self.links.reset_patience();
        self.other_guest = None;
        self.show_check_words();
        self.introduce(now);
        self.outputs.push_back(Output::Encoder(EncoderCommand::Start));
        if std::mem::replace(&mut self.wants_microphone, false) {
            self.outputs.push_back(Output::StartMicrophone);
        }
    }

    /// Shows the check words of the link in use, unless they are the same as before: both ends keep
    /// their certificates for the whole call.
    fn show_check_words(&mut self) {
        let words = self.links.current.as_ref().and_then(|link| link.check_words);
        if let Some(words) = words.filter(|words| self.admission.check_words != Some(*words)) {
            self.admission.check_words = Some(words);
            self.emit(Event::CheckWords(words.to_string()));
        }
    }

    /// Gives up a link over which the guest was not let in: it was turned away, or an end has
    /// vanished or left.
    pub(super) fn lose_knock(&mut self, now: Instant) {
        let knock = self.links.current.take().map(|link| link.id);
        self.close_links(knock);
        if std::mem::take(&mut self.admission.is_asking) {
            self.restart_absence(now);
            match self.role {
                Role::Host => self.emit(Event::KnockWithdrawn),
                Role::Guest => self.alone_since = Some(now),
            }
        }
        if !self.has_rendezvous() {
            // The invite contains the offer of the only link there is.
            self.end(now, End::PeerVanished);
            return;
        }
        self.announced = None;
        self.forget_guest();
    }

    /// Host: handles that the guest who sent the last signal has left. Returns whether the call goes
    /// on, because that guest was not let in.
    pub(super) fn dismiss_guest(&mut self, now: Instant) -> bool {
        let is_admitted = self.admission.admitted_salt.is_some()
            && self.admission.admitted_salt == self.seal.peer_salt();
        if self.role == Role::Guest || is_admitted || !self.has_rendezvous() {
            return false;
        }
        if self.is_knocking() {
            self.lose_knock(now);
        } else {
            self.forget_guest();
        }
        true
    }

    /// Host: handles a goodbye over a link over which the guest was not let in. Returns whether it
    /// was one.
    pub(super) fn dismiss_link(&mut self, now: Instant, id: LinkId) -> bool {
        let is_admitted = self.links.get(id).is_none_or(|link| link.is_admitted);
        if self.role == Role::Guest || is_admitted || !self.has_rendezvous() {
            return false;
        }
        if self.links.is_current(id) {
            self.lose_knock(now);
        } else if self.links.remove_attempt(id) {
            self.close_links([id]);
        }
        true
    }

    /// Host: returns whether the call goes on after this end, because its link is kept.
    pub(super) fn keeps_link_after(&self, end: &End) -> bool {
        self.admission.keeps_link
            && self.role == Role::Host
            && self.has_rendezvous()
            && matches!(
                end,
                End::PeerHungUp | End::PeerVanished | End::Failed(CallFailure::PeerFailed)
            )
            && !matches!(self.phase, Phase::Meeting)
    }

    /// Host: waits for another guest, and knows nothing of the last one.
    pub(super) fn wait_for_next_guest(&mut self) {
        let current = self.links.current.take().map(|link| link.id);
        self.close_links(current);
        let AdmissionState { auto_admit, keeps_link, .. } = self.admission;
        self.admission = AdmissionState::new(auto_admit, keeps_link);
        self.phase = Phase::Meeting;
        self.peer_face = PeerFace::default();
        self.receiver.restart(None);
        self.forget_guest();
        // The service may have been closed for the time of the call.
        self.reconnect_signaling();
        self.outputs.push_back(Output::ForgetPeer);
        self.emit(Event::GuestLeft);
    }
}
