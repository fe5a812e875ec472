//! The reliable channel: hellos, media state, chat, goodbyes.

use std::time::Instant;

use transport::{Bye, Control, ControlError, VERSION};

use super::Session;
use super::io::{EncoderCommand, LinkCommand, Output};
use super::liveness::HELLO_INTERVAL;
use super::phase::Phase;
use crate::event::{CallFailure, End, Event};

impl Session {
    /// Sends a message, or drops it if the reliable channel is not open.
    pub(super) fn send_control(&mut self, message: &Control) {
        if let Some(link) = self.phase.link().filter(|link| link.control_open) {
            let command = LinkCommand::SendControl(message.to_bytes());
            self.outputs.push_back(Output::Link(link.id, command));
        }
    }

    /// Sends our hello, which says whether the peer's has arrived.
    pub(super) fn send_hello(&mut self, now: Instant) {
        let Some(link) = self.phase.link_mut() else { return };
        link.hellos.sent = Some(now);
        let heard = link.hellos.is_received;
        let name = self.name.clone();
        self.send_control(&Control::Hello { heard, token: None, name });
    }

    pub(super) fn handle_control(&mut self, now: Instant, bytes: &[u8]) {
        let message = match Control::parse(bytes) {
            Ok(message) => message,
            // A later version may send more kinds.
            Err(ControlError::Unknown(_)) => return,
            Err(ControlError::OtherVersion(theirs)) => {
                self.fail(now, CallFailure::OtherVersion { theirs, ours: VERSION });
                return;
            }
            Err(_) => {
                self.statistics.bad_messages += 1;
                return;
            }
        };
        let is_greeted = self.phase.link().is_some_and(|link| link.hellos.is_received);
        match message {
            Control::Hello { heard, name, .. } => self.handle_hello(now, heard, name),
            Control::Bye(bye) => self.handle_bye(now, bye, is_greeted),
            _ if !is_greeted => self.statistics.bad_messages += 1,
            Control::ModelOffer { n_bytes, hash } => self.handle_model_offer(now, n_bytes, hash),
            Control::ModelRequest { hash, from } => self.handle_model_request(hash, from),
            Control::ModelChunk { offset, bytes } => self.handle_model_chunk(offset, &bytes),
            Control::Media { muted, camera_off } => {
                self.emit(Event::PeerMedia { muted, camera_off });
            }
            Control::Chat(text) => self.emit(Event::Chat(text)),
            Control::Admission(_) => self.statistics.bad_messages += 1,
        }
    }

    /// Answers the first hello of a link, and later ones of a peer that has not heard ours, at most
    /// once per [`HELLO_INTERVAL`]. A hello that says that ours was heard is never answered twice,
    /// so that two peers cannot answer each other's answers.
    fn handle_hello(&mut self, now: Instant, heard: bool, name: String) {
        let Some(link) = self.phase.link_mut() else { return };
        link.hellos.is_heard |= heard;
        let is_first = !link.hellos.is_received;
        if is_first {
            link.hellos.is_received = true;
            self.peer_name = name;
        }
        let is_due = link
            .hellos
            .answered
            .is_none_or(|at| now.saturating_duration_since(at) >= HELLO_INTERVAL);
        // Before the channels are open, the hello that follows their opening is the answer.
        if link.is_open() && is_due && (is_first || !heard) {
            link.hellos.answered = Some(now);
            self.send_hello(now);
        }
        if is_first {
            self.connect_if_ready(now);
        }
    }

    /// Enters [`Phase::Connected`] once both channels are open and the peer's hello is here.
    pub(super) fn connect_if_ready(&mut self, now: Instant) {
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Connecting(link) if link.is_ready() => {
                self.phase = Phase::Connected(link);
                self.statistics.connected_at = Some(now);
                let peer_name = self.peer_name.clone();
                self.emit(Event::Connected { peer_name });
            }
            Phase::Lost { link, .. } if link.is_ready() => {
                self.phase = Phase::Connected(link);
                self.emit(Event::PeerBack);
            }
            other => {
                self.phase = other;
                return;
            }
        }
        self.introduce();
        self.outputs.push_back(Output::Encoder(EncoderCommand::Start));
        if std::mem::replace(&mut self.wants_microphone, false) {
            self.outputs.push_back(Output::StartMicrophone);
        }
    }

    /// Sends what a peer needs to know at first: our media state and the offer of our face file.
    pub(super) fn introduce(&mut self) {
        self.send_media();
        self.offer_model();
    }

    pub(super) fn send_media(&mut self) {
        let (muted, camera_off) = (self.media.muted, !self.media.camera_on);
        self.send_control(&Control::Media { muted, camera_off });
    }

    fn handle_bye(&mut self, now: Instant, bye: Bye, is_greeted: bool) {
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
