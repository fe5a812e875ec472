//! How guests and the peer go: who was not let in is forgotten and never ends the call of a host
//! that can wait for another guest; the peer may come back, or makes room for the next one.

use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use transport::{Admission, Bye, Control, Role};

use super::Session;
use super::io::{LinkCommand, LinkId, Output, VoiceCommand};
use super::peer_face::PeerFace;
use super::phase::{Party, Phase};
use crate::event::{CallFailure, End, Event, LinkError};

/// In this time the user is told the same about a guest who did not get in at most once.
const NOTICE_INTERVAL: Duration = Duration::from_secs(30);
/// Most notices of different kinds in that time.
const MAX_NOTICES: usize = 4;

/// A kind of failure, whatever versions or texts it names: a guest may choose those.
type Kind = (Discriminant<CallFailure>, Option<Discriminant<LinkError>>);

/// What the user was told lately about guests who did not get in.
#[derive(Debug, Default)]
pub(super) struct Notices(Vec<(Instant, Kind)>);

impl Notices {
    /// Returns whether the user is to be told this now. That somebody may be in between is told
    /// whatever else was.
    fn admit(&mut self, now: Instant, failure: &CallFailure) -> bool {
        self.0.retain(|(at, _)| now < *at + NOTICE_INTERVAL);
        let error = match failure {
            CallFailure::Link(error) => Some(error),
            _ => None,
        };
        let kind = (discriminant(failure), error.map(discriminant));
        let is_warning = matches!(error, Some(LinkError::WrongCertificate));
        let has_room = self.0.len() < MAX_NOTICES || is_warning;
        let is_new = has_room && self.0.iter().all(|(_, told)| *told != kind);
        if is_new {
            self.0.push((now, kind));
        }
        is_new
    }
}

impl Session {
    /// Returns whether the call goes on without a guest who was not let in: another one can come.
    pub(super) fn can_wait_for_another(&self) -> bool {
        self.role == Role::Host && self.has_rendezvous()
    }

    /// Returns whether the call goes on without whoever is at the other end of a link: a host waits
    /// for another guest, and a guest whose host is lost for that host.
    pub(super) fn can_do_without(&self, id: LinkId) -> bool {
        let is_newcomers = self.links.get(id).is_none_or(|link| link.party == Party::Newcomer);
        !self.links.is_current(id)
            && (self.can_wait_for_another()
                || self.has_rendezvous() && self.has_peer() && is_newcomers)
    }

    /// Host: tells the user why a guest did not get in, now and then.
    pub(super) fn tell_of_guest(&mut self, now: Instant, failure: CallFailure) {
        if self.notices.admit(now, &failure) {
            self.emit(Event::GuestFailed(failure));
        }
    }

    /// Handles that a link has failed for good. If the call goes on without whoever made it, that
    /// one is given up.
    pub(super) fn reject_link(&mut self, now: Instant, id: LinkId, failure: CallFailure) {
        if !self.can_do_without(id) {
            self.fail(now, failure);
            return;
        }
        if let CallFailure::OtherVersion { .. } = failure {
            let bye = LinkCommand::SendControl(Control::Bye(Bye::OtherVersion).to_bytes());
            self.outputs.push_back(Output::Link(id, bye));
        }
        self.dismiss_link(now, id);
        self.forget_newcomer();
        self.links.shorten_patience();
        if self.role == Role::Host {
            self.tell_of_guest(now, failure);
        }
    }

    /// Gives up the first contact: WebRTC refused the descriptions, or found no path.
    pub(super) fn give_up_path(&mut self, now: Instant) {
        if self.can_wait_for_another() {
            let failure = self.no_path();
            self.forget_newcomer();
            self.links.shorten_patience();
            self.tell_of_guest(now, failure);
        } else {
            self.fail_without_path(now);
        }
    }

    pub(super) fn fail_without_path(&mut self, now: Instant) {
        let failure = self.no_path();
        self.fail(now, failure);
    }

    fn no_path(&mut self) -> CallFailure {
        self.link_error.take().map_or(CallFailure::NoPath, CallFailure::Link)
    }

    /// Gives up a knock: the guest was turned away, or an end has vanished or left.
    pub(super) fn end_knock(&mut self, now: Instant) {
        self.resume_absence(now);
        let Some(knock) = self.links.knock.take() else { return };
        self.close_links([knock.link.id]);
        if !self.has_rendezvous() {
            // The invite contains the offer of the only link there is.
            self.end(now, End::PeerVanished);
            return;
        }
        match (self.role, self.phase) {
            (Role::Host, Phase::Meeting) => self.forget_newcomer(),
            // The host may be the same: then it believes to have let us in, and this did not arrive.
            (Role::Guest, Phase::Meeting | Phase::Lost { .. }) => {
                self.announced = None;
                self.drop_attempts(knock.link.party);
                if knock.link.party == Party::Newcomer {
                    self.signals.of_mut(Party::Newcomer).newest_attempt = None;
                }
            }
            _ => {}
        }
    }

    /// As [`Session::end_knock`], if nobody has decided about the guest.
    pub(super) fn lose_knock(&mut self, now: Instant) {
        self.void_question();
        if self.links.knock.as_ref().is_some_and(|knock| knock.is_pending) {
            self.alone_since = Some(now);
        }
        self.end_knock(now);
    }

    /// Ends a knock because the peer is back.
    pub(super) fn withdraw_knock(&mut self) {
        self.void_question();
        let Some(knock) = self.links.knock.take() else { return };
        if self.role == Role::Host {
            let message = Control::Admission(Admission::TurnedAway);
            let message = LinkCommand::SendControl(message.to_bytes());
            self.outputs.push_back(Output::Link(knock.link.id, message));
        }
        self.close_links([knock.link.id]);
    }

    fn void_question(&mut self) {
        let question = self.links.knock.as_mut().and_then(|knock| knock.question.take());
        if let Some(question) = question {
            self.emit(Event::KnockWithdrawn { question });
        }
    }

    /// Host: handles that the guest who sent the last signal has left. Returns whether the call goes
    /// on, because that guest was not let in.
    pub(super) fn dismiss_guest(&mut self, now: Instant) -> bool {
        if !self.can_wait_for_another() {
            return false;
        }
        if self.links.knock.is_some() {
            self.lose_knock(now);
        } else {
            self.forget_newcomer();
        }
        true
    }

    /// Gives up a link over which nobody was let in, if the call goes on without whoever made it.
    /// Returns whether it does.
    pub(super) fn dismiss_link(&mut self, now: Instant, id: LinkId) -> bool {
        if !self.can_do_without(id) {
            return false;
        }
        if self.links.is_knocking(id) {
            self.lose_knock(now);
        } else {
            self.close_attempt(id);
        }
        true
    }

    /// Host: returns whether the call goes on after this end, because its link is kept.
    pub(super) fn keeps_link_after(&self, end: &End) -> bool {
        self.admission.keeps_link
            && self.can_wait_for_another()
            && matches!(
                end,
                End::PeerHungUp | End::PeerVanished | End::Failed(CallFailure::PeerFailed)
            )
            && !matches!(self.phase, Phase::Meeting)
    }

    /// Host: waits for another guest, and knows nothing of the last one.
    pub(super) fn wait_for_next_guest(&mut self, now: Instant) {
        let current = self.links.current.take().map(|link| link.id);
        self.close_links(current);
        self.admission.forget_peer();
        self.phase = Phase::Meeting;
        self.forget_person();
        self.forget_peer_signals();
        self.outputs.push_back(Output::Voice(VoiceCommand::Pause(true)));
        // The service may have been closed for the time of the call.
        self.reconnect_signaling();
        self.emit(Event::GuestLeft);
        self.admit_waiting(now);
    }

    /// Host that asks nobody: lets in the guest who has waited for the place of the peer. Returns
    /// whether there is one.
    pub(super) fn admit_waiting(&mut self, now: Instant) -> bool {
        let knock = self.links.knock.as_ref().filter(|_| self.admission.auto_admit);
        let id = knock.map(|knock| knock.link.id).filter(|_| self.role == Role::Host);
        if let Some(id) = id {
            self.admit(now, id, true);
        }
        id.is_some()
    }

    /// Forgets what the peer has shown: whoever comes next is another person.
    pub(super) fn forget_person(&mut self) {
        self.peer_face = PeerFace::default();
        self.receiver.forget_peer();
        let listener = self.sound.forget_listener();
        self.outputs.push_back(Output::Voice(VoiceCommand::NewListener(listener)));
        self.outputs.push_back(Output::ForgetPeer);
    }
}
