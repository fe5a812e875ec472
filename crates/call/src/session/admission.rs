//! Whether a guest may join: the host is asked, the guest waits. Nothing of a person leaves either
//! end before the host has let the guest in.
//!
//! The peer that was let in and a guest who knocks are two, with a link each: whatever the guest
//! does, the peer keeps its link, its token and its place (`departures.rs`, `seals.rs`).

use std::time::{Duration, Instant};

use transport::{Admission, CheckWords, Control, Packetizer, ResumeToken, Role};

use super::Session;
use super::io::{EncoderCommand, LinkCommand, LinkId, Output, VoiceCommand};
use super::outgoing::packetizer_settings;
use super::peer_face::PeerFace;
use super::phase::{LinkState, Party, Phase};
use crate::event::{CallFailure, End, Event, QuestionId};

/// Shortest time from one question about a guest to the next: six a minute, whoever knocks.
const QUESTION_INTERVAL: Duration = Duration::from_secs(10);

/// What a session knows about admission.
#[derive(Debug, Default)]
pub(super) struct AdmissionState {
    /// Whether guests are let in, and other faces accepted, without a question.
    pub(super) auto_admit: bool,
    /// Host: whether to wait for another guest after one has left.
    pub(super) keeps_link: bool,
    /// Token of the guest that was let in: at the host the one to compare with, at the guest the
    /// one to present. The host has one as long as there is a peer that may come back.
    pub(super) token: Option<ResumeToken>,
    /// The words that were shown last.
    check_words: Option<CheckWords>,
    /// Host: when the user was last asked about a guest.
    asked: Option<Instant>,
    n_questions: u32,
}

/// A guest who waits to be let in, seen from either end.
#[derive(Debug)]
pub(super) struct Knock {
    /// The link over which both ends have greeted each other.
    pub(super) link: LinkState,
    /// When it began.
    began: Instant,
    /// Makes the keep-alives. Its count goes on when the guest is let in.
    pub(super) packetizer: Packetizer,
    /// Host: what the user is asked; none while another question was asked a moment ago.
    pub(super) question: Option<QuestionId>,
    /// Guest: whether the host has said that its user is asked.
    pub(super) is_pending: bool,
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

    /// Forgets the peer: nobody is let in without a question any more.
    pub(super) fn forget_peer(&mut self) {
        self.token = None;
        self.check_words = None;
    }
}

impl Session {
    /// Returns whether features, sound, face and messages of the user may be sent.
    pub(super) fn is_admitted(&self) -> bool {
        self.links.current.is_some()
    }

    /// Returns whether a guest waits for a decision. A guest that was let in before does not wait
    /// until it is told to: the answer to its token is under way, and may come after an outage.
    pub(super) fn is_waiting(&self) -> bool {
        let Some(knock) = &self.links.knock else { return false };
        let is_asked = self.role == Role::Host || knock.is_pending;
        is_asked || matches!(self.phase, Phase::Meeting)
    }

    /// Returns for how long a guest who is asked about, or will be, has waited.
    pub(super) fn knocking_for(&self, now: Instant) -> Duration {
        let began = self.links.knock.as_ref().map(|knock| knock.began);
        began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began))
    }

    /// Returns a number for a question, which no other question of this call has.
    pub(super) fn next_question(&mut self) -> QuestionId {
        self.admission.n_questions += 1;
        QuestionId(self.admission.n_questions)
    }

    /// Host: lets the guest in who has greeted us over this link, or asks the user. A guest that
    /// was let in before presents its token.
    pub(super) fn receive_guest(&mut self, now: Instant, id: LinkId) {
        let Some(link) = self.links.get(id) else { return };
        let token = link.hellos.token;
        let has_token = token.is_some()
            && token == self.admission.token
            && self.admission.knows(link.check_words);
        if link.party == Party::Peer || has_token {
            self.admit(now, id, false);
        } else if self.links.knock.is_some() {
            // Another guest waits.
            self.close_attempt(id);
        } else if self.admission.auto_admit && !self.has_peer() {
            self.admit(now, id, true);
        } else {
            self.begin_knock(now, id);
        }
    }

    /// Makes a link that of a guest who knocks, and gives up the others that are under construction;
    /// those with the peer only for a link of the peer.
    fn begin_knock(&mut self, now: Instant, id: LinkId) {
        let Some(mut link) = self.links.take_attempt(id) else { return };
        if link.party == Party::Peer {
            self.close_attempts();
        } else {
            let others = self.links.take_attempts(Party::Newcomer);
            self.close_links(others);
        }
        link.last_life = now;
        let earlier = self.links.knock.replace(Knock {
            link,
            began: now,
            packetizer: Packetizer::new(packetizer_settings(self.media.rate)),
            question: None,
            is_pending: false,
        });
        self.close_links(earlier.map(|knock| knock.link.id));
        if self.role == Role::Host {
            if self.has_peer() {
                self.signals.addressee = Party::Peer;
            }
            self.send_control_over(now, id, &Control::Admission(Admission::Wait));
            self.ask_if_due(now);
        }
    }

    /// Host: when the user is asked about the guest who knocks, if that is to come.
    pub(super) fn question_deadline(&self) -> Option<Instant> {
        let knock = self.links.knock.as_ref()?;
        let is_unasked =
            self.role == Role::Host && !self.admission.auto_admit && knock.question.is_none();
        let due = self.admission.asked.map_or(self.last_step, |asked| asked + QUESTION_INTERVAL);
        is_unasked.then_some(due)
    }

    pub(super) fn ask_if_due(&mut self, now: Instant) {
        if self.question_deadline().is_none_or(|due| now < due) {
            return;
        }
        let question = self.next_question();
        let Some(knock) = &mut self.links.knock else { return };
        knock.question = Some(question);
        let name = knock.link.hellos.name.clone();
        self.admission.asked = Some(now);
        self.emit(Event::Knock { question, name });
    }

    /// Host: carries out what the user has decided, if that question is still open.
    pub(super) fn handle_decision(&mut self, now: Instant, question: QuestionId, lets_in: bool) {
        let knock = self.links.knock.as_ref().filter(|knock| knock.question == Some(question));
        let Some(id) = knock.map(|knock| knock.link.id) else { return };
        if lets_in {
            self.admit(now, id, true);
            return;
        }
        self.send_control_over(now, id, &Control::Admission(Admission::TurnedAway));
        if self.has_rendezvous() {
            self.end_knock(now);
        } else {
            self.end(now, End::HungUp);
        }
    }

    /// Host: lets the guest of a link in, who is another person than the peer before (`is_new`), or
    /// the peer itself.
    pub(super) fn admit(&mut self, now: Instant, id: LinkId, is_new: bool) {
        if is_new {
            if self.admission.token.is_some() {
                self.forget_person();
            }
            self.admission.forget_peer();
        }
        let token = self.admission.token.unwrap_or_else(|| ResumeToken((self.fresh_salt)()));
        self.know_peer(token);
        self.use_link(now, id);
        self.send_control(now, &Control::Admission(Admission::Admitted(token)));
        self.connect(now, is_new);
    }

    /// Guest: handles what the host says about our admission over the link on which we knock.
    pub(super) fn handle_admission(&mut self, now: Instant, id: LinkId, admission: Admission) {
        let knock = self.links.knock.as_mut().filter(|knock| knock.link.id == id);
        let Some(knock) = knock.filter(|_| self.role == Role::Guest) else {
            self.statistics.bad_messages += 1;
            return;
        };
        match admission {
            Admission::Wait => {
                if std::mem::replace(&mut knock.is_pending, true) {
                    return;
                }
                // The host has restarted, so it does not know us any more.
                if let Phase::Connected { .. } = self.phase {
                    self.lose_peer(now);
                }
                self.emit(Event::AdmissionPending);
            }
            Admission::Admitted(token) => {
                // Only the peer knows the token that it has given us.
                let is_new = self.admission.token != Some(token);
                if is_new && self.has_peer() {
                    self.forget_person();
                }
                self.know_peer(token);
                self.use_link(now, id);
                self.connect(now, is_new);
            }
            Admission::TurnedAway if self.can_do_without(id) => {
                self.signals.ignores_newcomers = true;
                self.end_knock(now);
            }
            Admission::TurnedAway => self.fail(now, CallFailure::TurnedAway),
        }
    }

    /// Guest: knocks over the link on which the host sends more than hellos: it has chosen that
    /// one. Without this rule, each end could choose another of two links. A host that has let us in
    /// comes first.
    pub(super) fn follow_host(&mut self, now: Instant, id: LinkId) {
        let is_attempt = !self.links.is_current(id) && !self.links.is_knocking(id);
        let is_peers = |link: &LinkState| link.party == Party::Peer;
        let is_second = self.links.knock.as_ref().is_some_and(|knock| is_peers(&knock.link))
            && !self.links.get(id).is_some_and(is_peers);
        if self.role == Role::Guest && is_attempt && !is_second {
            self.begin_knock(now, id);
        }
    }

    /// Puts a link into use over which the guest is let in, and gives up all others.
    fn use_link(&mut self, now: Instant, id: LinkId) {
        let knock = self.links.knock.take_if(|knock| knock.link.id == id);
        let settings = packetizer_settings(self.media.rate);
        let (link, packetizer) = match knock {
            Some(knock) => (Some(knock.link), knock.packetizer),
            None => (self.links.take_attempt(id), Packetizer::new(settings)),
        };
        let Some(mut link) = link else { return };
        self.withdraw_knock();
        self.close_attempts();
        link.last_life = now;
        link.last_sent = now;
        link.party = Party::Peer;
        let newest = &mut self.signals.of_mut(Party::Peer).newest_attempt;
        *newest = link.attempt.or(*newest);
        let replaced = self.links.current.replace(link);
        self.close_links(replaced.map(|link| link.id));
        self.packetizer = packetizer;
        if let Some(model) = &mut self.model_sender {
            model.restart();
        }
        if self.peer_face.is_refused {
            // It may be offered again. The face that was shown stays known, so that another one
            // does not take its place without a word.
            let PeerFace { hash, profile, .. } = std::mem::take(&mut self.peer_face);
            self.peer_face = PeerFace { hash, profile, ..PeerFace::default() };
        }
        self.receiver.restart(self.peer_face.profile.clone());
    }

    /// Enters [`Phase::Connected`] over the link in use: the guest is let in.
    fn connect(&mut self, now: Instant, is_new: bool) {
        let Some(link) = &self.links.current else { return };
        let peer_name = link.hellos.name.clone();
        if is_new {
            self.statistics.connected_at = Some(now);
            self.is_sound_only = false;
            self.emit(Event::Connected { peer_name });
        } else if let Phase::Lost { .. } = self.phase {
            self.emit(Event::PeerBack);
        }
        self.phase = Phase::Connected { since: now };
        self.links.reset_patience();
        self.other_guest = None;
        self.signals.addressee = Party::Peer;
        self.signals.ignores_newcomers = false;
        self.show_check_words();
        self.introduce(now);
        self.outputs.push_back(Output::Encoder(EncoderCommand::Start));
        self.outputs.push_back(if std::mem::replace(&mut self.is_sound_started, true) {
            Output::Voice(VoiceCommand::Pause(false))
        } else {
            Output::StartSound
        });
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

    fn send_control_over(&mut self, now: Instant, id: LinkId, message: &Control) {
        self.send_over(now, id, LinkCommand::SendControl(message.to_bytes()));
    }
}
