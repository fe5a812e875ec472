//! The reliable channel: hellos, media state, chat, goodbyes.

use std::time::Instant;

use transport::{Bye, Control, ControlError, ResumeToken, Role, VERSION};
use types::{ChatText, PeerName};

use super::Session;
use super::io::{LinkCommand, LinkId, Output};
use super::liveness::HELLO_INTERVAL;
use super::phase::Party;
use crate::event::{CallFailure, End, Event};

impl Session {
    /// Sends a message over the link in use; without one, drops it.
    pub(super) fn send_control(&mut self, now: Instant, message: &Control) {
        self.send_on_link(now, LinkCommand::SendControl(message.to_bytes()));
    }

    /// Sends our hello over a link. It says whether the peer's has arrived, and carries the token of
    /// a guest that was let in before.
    pub(super) fn send_hello(&mut self, now: Instant, id: LinkId) {
        let Some(link) = self.links.get_mut(id) else { return };
        link.hellos.sent = Some(now);
        let heard = link.hellos.is_received;
        // The token is for the peer that gave it: over a link with other certificates somebody else
        // could take it and be let in with it.
        let is_same_peer = link.party == Party::Peer || self.admission.knows(link.check_words);
        let token = self.admission.token.filter(|_| self.role == Role::Guest && is_same_peer);
        let hello = Control::Hello { heard, token, name: self.name.clone() };
        self.outputs.push_back(Output::Link(id, LinkCommand::SendControl(hello.to_bytes())));
    }

    /// Handles a message that has arrived over a link, in use or under construction.
    pub(super) fn handle_control(&mut self, now: Instant, id: LinkId, bytes: &[u8]) {
        let message = match Control::parse(bytes) {
            Ok(message) => message,
            // A later version may send more kinds.
            Err(ControlError::Unknown(_)) => return,
            Err(ControlError::OtherVersion(theirs)) => {
                let failure = CallFailure::OtherVersion { theirs, ours: VERSION };
                self.reject_link(now, id, failure);
                return;
            }
            Err(_) => {
                self.statistics.bad_messages += 1;
                return;
            }
        };
        let is_greeted = self.links.get(id).is_some_and(|link| link.hellos.is_received);
        match message {
            Control::Hello { heard, token, name } => {
                self.handle_hello(now, id, heard, token, &name);
                return;
            }
            Control::Bye(bye) => {
                self.handle_bye(now, id, bye);
                return;
            }
            _ if !is_greeted => {
                self.statistics.bad_messages += 1;
                return;
            }
            _ => self.follow_host(now, id),
        }
        match message {
            Control::Hello { .. } | Control::Bye(_) => {}
            Control::Admission(admission) => self.handle_admission(now, id, admission),
            // Nobody is let in over this link.
            _ if !self.links.is_current(id) => self.statistics.bad_messages += 1,
            Control::ModelOffer { n_bytes, hash } => self.handle_model_offer(now, n_bytes, hash),
            Control::ModelRequest { hash, from } => self.handle_model_request(hash, from),
            Control::ModelChunk { offset, bytes } => self.handle_model_chunk(now, offset, &bytes),
            Control::Media { muted, camera_off, has_sound, has_face } => {
                if let Some(link) = &mut self.links.current {
                    link.has_sound = has_sound;
                }
                if !has_face && !std::mem::replace(&mut self.is_sound_only, true) {
                    self.emit(Event::SoundOnly);
                }
                self.emit(Event::PeerMedia { muted, camera_off });
            }
            Control::Chat(text) => self.emit(Event::Chat(ChatText::new(&text))),
        }
    }

    /// Answers the first hello of a link, and later ones of a peer that has not heard ours, at most
    /// once per [`HELLO_INTERVAL`]. A hello that says that ours was heard is never answered twice,
    /// so that two peers cannot answer each other's answers.
    fn handle_hello(
        &mut self,
        now: Instant,
        id: LinkId,
        heard: bool,
        token: Option<ResumeToken>,
        name: &str,
    ) {
        let Some(link) = self.links.get_mut(id) else { return };
        link.hellos.is_heard |= heard;
        let is_first = !link.hellos.is_received;
        if is_first {
            link.hellos.is_received = true;
            link.hellos.name = PeerName::new(name);
            link.hellos.token = token;
        }
        let is_due = link
            .hellos
            .answered
            .is_none_or(|at| now.saturating_duration_since(at) >= HELLO_INTERVAL);
        if is_due && (is_first || !heard) {
            link.hellos.answered = Some(now);
            self.send_hello(now, id);
        }
        // Of several links the host chooses the first over which it is greeted.
        if is_first && self.role == Role::Host {
            self.receive_guest(now, id);
        }
    }

    /// Sends what a peer needs to know at first: our media state and the offer of our face file.
    pub(super) fn introduce(&mut self, now: Instant) {
        self.send_media(now);
        if self.media.shows_face {
            self.offer_model(now);
        }
    }

    pub(super) fn send_media(&mut self, now: Instant) {
        let (muted, camera_off) = (!self.media.sends_sound(), !self.media.sends_face());
        let has_sound = self.sound.has_track();
        let has_face = self.model_sender.is_some();
        self.send_control(now, &Control::Media { muted, camera_off, has_sound, has_face });
    }

    fn handle_bye(&mut self, now: Instant, id: LinkId, bye: Bye) {
        let is_greeted = self.links.get(id).is_some_and(|link| link.hellos.is_received);
        if self.dismiss_link(now, id) {
            return;
        }
        match bye {
            Bye::Failed => self.fail(now, CallFailure::PeerFailed),
            // The peer's hello names its version and comes first. Without one it is unknown.
            Bye::OtherVersion if !is_greeted => {
                self.fail(now, CallFailure::OtherVersion { theirs: 0, ours: VERSION });
            }
            Bye::HungUp | Bye::OtherVersion => self.end(now, End::PeerHungUp),
        }
    }
}
