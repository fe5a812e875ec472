//! One call from the first signal to the last, as a state machine without I/O.
//!
//! A session owns no socket, thread or clock. The driver (`driver.rs`) or a simulation hands it
//! every [`Input`] with the current time, carries out its [`Output`]s in order, and calls it again
//! at [`Session::poll_timeout`]. The same inputs give the same outputs.

mod control;
mod face_receiver;
mod face_transfer;
mod io;
mod liveness;
mod outgoing;
mod peer_face;
mod phase;
mod signaling;
mod statistics;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::Profile;
use transport::{Bye, Control, ModelSender, Packetizer, Role, SALT_BYTES, Seal, Secret, Signal};

use crate::event::{CallFailure, Command, End, Event};
use crate::settings::LocalMedia;
use crate::sound::SoundEncoder;

pub(crate) use face_receiver::FaceReceiver;
pub(crate) use io::{
    EncoderCommand, Input, LinkCommand, LinkEvent, LinkId, Output, SignalingEvent, TrackedFrame,
    WireCount,
};
use outgoing::packetizer_settings;
use peer_face::PeerFace;
use phase::{Hellos, LinkState, Phase};
use statistics::Statistics;

/// While connected, a session wants a [`Input::Timeout`] at least this often: reports have no
/// deadline of their own.
const POLL_INTERVAL: Duration = Duration::from_millis(40);

/// How offers and answers travel.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// Over a rendezvous service.
    Rendezvous,
    /// By hand. The guest has the sealed offer from the invite.
    Manual(Option<Vec<u8>>),
}

/// Everything a session needs to know at its start.
pub(crate) struct SessionConfig {
    pub(crate) role: Role,
    pub(crate) secret: Secret,
    /// Returns bytes that were never used as a salt with this secret: random ones in a call, a
    /// count in a test.
    pub(crate) fresh_salt: Box<dyn FnMut() -> [u8; SALT_BYTES] + Send>,
    pub(crate) exchange: Exchange,
    /// Name of this end, for the peer.
    pub(crate) name: String,
    /// State of microphone, camera and rate at the start.
    pub(crate) media: LocalMedia,
    /// Public bytes of our face file, if the peer is to see us.
    pub(crate) face: Option<Bytes>,
    /// Whether to start the microphone once the peer is connected.
    pub(crate) wants_microphone: bool,
    /// Encodes [`Input::Sounds`]; without one, no sound is sent.
    pub(crate) sound_encoder: Option<SoundEncoder>,
}

/// State machine of one end of a call.
pub(crate) struct Session {
    role: Role,
    secret: Secret,
    fresh_salt: Box<dyn FnMut() -> [u8; SALT_BYTES] + Send>,
    exchange: Exchange,
    name: String,
    wants_microphone: bool,
    media: LocalMedia,
    seal: Seal,
    phase: Phase,
    /// Links made so far; the number of the current one.
    n_links: u32,
    /// When anything last arrived from the peer, on any link.
    last_arrival: Option<Instant>,
    peer_name: String,
    packetizer: Packetizer,
    receiver: FaceReceiver,
    sound_encoder: Option<SoundEncoder>,
    /// Our face file, if the peer is to see us.
    model_sender: Option<ModelSender>,
    peer_face: PeerFace,
    statistics: Statistics,
    outputs: VecDeque<Output>,
    /// When [`Input::Timeout`] is due because other inputs have come or time has passed.
    next_poll: Instant,
}

impl Session {
    /// Creates a session and takes its first step.
    pub(crate) fn new(config: SessionConfig, now: Instant) -> Self {
        let mut session = Self::waiting(config, now);
        session.begin(now);
        session
    }

    /// Creates a session that is connected on link 1 and knows its peer's codec profile, for a
    /// simulation of the connected phase alone.
    pub(crate) fn connected(config: SessionConfig, peer_profile: Profile, now: Instant) -> Self {
        let mut session = Self::waiting(config, now);
        session.n_links = 1;
        session.last_arrival = Some(now);
        session.receiver.set_profile(peer_profile);
        session.phase = Phase::Connected(LinkState {
            features_open: true,
            control_open: true,
            hellos: Hellos { is_received: true, is_heard: true, ..Hellos::default() },
            ..LinkState::new(LinkId(1), now, None)
        });
        session
    }

    fn waiting(config: SessionConfig, now: Instant) -> Self {
        let SessionConfig { role, secret, mut fresh_salt, media, .. } = config;
        Self {
            seal: Seal::new(secret.clone(), role, fresh_salt()),
            role,
            secret,
            fresh_salt,
            exchange: config.exchange,
            name: config.name,
            wants_microphone: config.wants_microphone,
            packetizer: Packetizer::new(packetizer_settings(media.rate)),
            media,
            phase: Phase::Waiting { announced: None },
            n_links: 0,
            last_arrival: None,
            peer_name: String::new(),
            receiver: FaceReceiver::new(),
            sound_encoder: config.sound_encoder,
            // A file over the limit is not offered; the peer hears but does not see us.
            model_sender: config.face.and_then(|face| ModelSender::new(face).ok()),
            peer_face: PeerFace::default(),
            statistics: Statistics::new(now),
            outputs: VecDeque::new(),
            next_poll: now,
        }
    }

    /// Handles one input. After a batch of inputs, and at [`Session::poll_timeout`], hand over
    /// [`Input::Decode`] and [`Input::Timeout`].
    pub(crate) fn handle(&mut self, input: Input, now: Instant) {
        if matches!(self.phase, Phase::Ended) {
            return;
        }
        self.next_poll = now;
        match input {
            Input::Decode => self.decode(now),
            Input::Timeout => self.handle_timeout(now),
            Input::Link(id, event) => {
                if self.phase.link().is_some_and(|link| link.id == id) {
                    self.handle_link(now, event);
                }
            }
            Input::Signaling(event) => self.handle_signaling(now, event),
            Input::Command(command) => self.handle_command(now, command),
            Input::Frame(frame) => self.handle_frame(now, *frame),
            Input::Sounds(sounds) => self.handle_sounds(&sounds),
            Input::NoSound(reason) => self.emit(Event::NoSound(reason)),
            Input::SourceEnded(error) => self.emit(Event::SourceEnded { error }),
            Input::FaceRead(read) => self.handle_face_read(now, *read),
            Input::Wire(count) => {
                self.statistics.wire = count;
                self.last_arrival = self.last_arrival.max(count.last_in);
            }
        }
    }

    /// Returns the next thing to do, in order; none until there is another input.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`Input::Decode`] and [`Input::Timeout`] are due if no other input comes; none
    /// after the end.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if matches!(self.phase, Phase::Ended) {
            return None;
        }
        let mut due = self.next_poll;
        if self.is_link_ready() {
            let timeouts = [self.packetizer.timeout(), self.receiver.jitter_buffer.timeout()];
            due = timeouts.into_iter().flatten().fold(due, Instant::min);
        }
        Some(self.next_deadline().map_or(due, |deadline| deadline.min(due)))
    }

    /// Returns the receive side.
    pub(crate) fn receiver(&self) -> &FaceReceiver {
        &self.receiver
    }

    fn decode(&mut self, now: Instant) {
        while let Some(unit) = self.receiver.poll_decoded(now) {
            let (arrived, features) = (unit.arrived, unit.features);
            self.outputs.push_back(Output::Features { arrived, features });
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.is_link_ready() {
            self.send_packets(now);
            self.send_chunks();
        }
        self.check_deadlines(now);
        if !matches!(self.phase, Phase::Ended) && now >= self.statistics.next_second {
            self.statistics.update_rates(now, &self.receiver);
            self.emit_stats(now);
        }
        self.next_poll = self.statistics.next_second;
        if self.is_link_ready() {
            self.next_poll = self.next_poll.min(now + POLL_INTERVAL);
        }
    }

    fn handle_link(&mut self, now: Instant, event: LinkEvent) {
        match event {
            LinkEvent::Described(description) => self.handle_description(description),
            LinkEvent::FeaturesOpen => self.handle_open(now, true, false),
            LinkEvent::ControlOpen => self.handle_open(now, false, true),
            LinkEvent::Features(packet) => {
                self.handle_open(now, true, false);
                self.handle_packet(now, &packet);
            }
            LinkEvent::Control(bytes) => {
                self.handle_open(now, false, true);
                self.handle_control(now, &bytes);
            }
            LinkEvent::Sound(packet) => {
                self.last_arrival = Some(now);
                self.statistics.sound_packets_in += 1;
                self.statistics.sound_bytes_in += packet.opus.len() as u64;
                self.outputs.push_back(Output::PlaySound(packet));
            }
            LinkEvent::Candidate(candidate) => self.send_signal(&Signal::Candidate(candidate)),
            LinkEvent::Failed if self.phase.is_first_contact() => {
                self.fail(now, CallFailure::NoPath);
            }
            // A peer that was connected may come back over another link.
            LinkEvent::Failed => {}
            LinkEvent::Error(error) => self.fail(now, error.into()),
        }
    }

    /// Handles a channel that is open, because it has opened or because something arrived over it.
    fn handle_open(&mut self, now: Instant, features: bool, control: bool) {
        self.last_arrival = Some(now);
        let Some(link) = self.phase.link_mut() else { return };
        let was_open = link.is_open();
        link.features_open |= features;
        link.control_open |= control;
        if !was_open && link.is_open() {
            self.send_hello(now);
            self.connect_if_ready(now);
        }
    }

    /// Returns whether features, sound and control messages may be sent.
    fn is_link_ready(&self) -> bool {
        self.phase.link().is_some_and(LinkState::is_ready)
    }

    fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::SetMuted(muted) => {
                self.media.muted = muted;
                self.apply_media();
            }
            Command::SetCameraOn(on) => {
                self.media.camera_on = on;
                self.outputs.push_back(Output::Encoder(EncoderCommand::SetCameraOn(on)));
                self.apply_media();
            }
            Command::SetRate(rate) => {
                self.media.rate = rate;
                self.outputs.push_back(Output::Encoder(EncoderCommand::SetRate(rate)));
                if let Some(encoder) = &mut self.sound_encoder {
                    encoder.set_rate(rate);
                }
                self.outputs.push_back(Output::LocalMedia(self.media));
            }
            Command::SendChat(text) => {
                if self.is_link_ready() {
                    self.send_control(&Control::Chat(text));
                }
            }
            Command::AcceptAnswer(text) => self.handle_manual_answer(now, &text),
            Command::HangUp => self.end(now, End::HungUp),
        }
    }

    /// Makes a change of microphone or camera known to the application and to the peer.
    fn apply_media(&mut self) {
        self.outputs.push_back(Output::LocalMedia(self.media));
        if self.is_link_ready() {
            self.send_media();
        }
    }

    fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn emit_stats(&mut self, now: Instant) {
        let mut stats = self.statistics.stats(now, &self.receiver, &self.packetizer);
        stats.connected = matches!(self.phase, Phase::Connected(_));
        stats.rate = self.media.rate;
        stats.muted = self.media.muted;
        stats.camera_off = !self.media.camera_on;
        self.outputs.push_back(Output::Stats(Box::new(stats)));
    }

    fn fail(&mut self, now: Instant, failure: CallFailure) {
        self.end(now, End::Failed(failure));
    }

    /// Says goodbye, over the link if it works, and ends the session.
    fn end(&mut self, now: Instant, end: End) {
        let bye = match &end {
            End::HungUp => Some(Bye::HungUp),
            End::Failed(CallFailure::OtherVersion { .. }) => Some(Bye::OtherVersion),
            End::Failed(_) => Some(Bye::Failed),
            End::PeerHungUp | End::PeerVanished => None,
        };
        if let Some(bye) = bye {
            match &self.phase {
                Phase::Connecting(link) | Phase::Connected(link) if link.control_open => {
                    self.send_control(&Control::Bye(bye));
                }
                _ => self.send_signal(&Signal::Leave),
            }
        }
        self.emit_stats(now);
        self.close_link();
        self.phase = Phase::Ended;
        self.outputs.push_back(Output::End(end));
    }

    fn close_link(&mut self) {
        if let Some(link) = self.phase.link() {
            self.outputs.push_back(Output::Link(link.id, LinkCommand::Close));
        }
    }
}
