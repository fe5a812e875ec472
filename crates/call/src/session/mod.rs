//! One call from the first signal to the last, as a state machine without I/O.
//!
//! A session owns no socket, thread or clock. The driver (`driver.rs`) or a simulation hands it
//! every [`Input`] with the current time, carries out its [`Output`]s in order, and calls it again
//! at [`Session::poll_timeout`]. The same inputs give the same outputs.

mod admission;
mod control;
mod departures;
mod face_receiver;
mod face_transfer;
mod io;
mod links;
mod liveness;
mod media_clock;
mod outgoing;
mod peer_face;
mod phase;
mod seals;
mod signaling;
mod sound;
mod statistics;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::Profile;
use transport::{Bye, Control, ModelSender, Packetizer, Role, SALT_BYTES, Seal, Secret, Signal};

use crate::description::Fingerprint;
use crate::event::{CallFailure, Command, End, Event, LinkError};
use crate::settings::LocalMedia;

use admission::AdmissionState;
use departures::Notices;
pub(crate) use face_receiver::FaceReceiver;
pub(crate) use io::{
    EncoderCommand, Input, LinkCommand, LinkEvent, LinkId, Output, SignalingEvent, SoundPacket,
    TrackedFrame, VoiceCommand, WireCount,
};
use links::Links;
use outgoing::packetizer_settings;
use peer_face::PeerFace;
pub(crate) use peer_face::{FaceReadJob, ReadFace};
use phase::{Party, Phase};
use seals::{OtherGuest, Signals};
use sound::OutgoingSound;
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
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
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
    /// Public bytes of our face file, if there is one.
    pub(crate) face: Option<Bytes>,
    /// Whether to accept without a question what the user would be asked.
    pub(crate) auto_admit: bool,
    /// Host: whether to wait for another guest after one has left.
    pub(crate) keep_link: bool,
    /// Whether this end has sound to send.
    pub(crate) sends_sound: bool,
    /// Whether links have a sound track, so that this end sends and receives sound.
    pub(crate) has_sound: bool,
}

/// State machine of one end of a call.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Session {
    role: Role,
    secret: Secret,
    fresh_salt: Box<dyn FnMut() -> [u8; SALT_BYTES] + Send>,
    exchange: Exchange,
    name: String,
    sends_sound: bool,
    /// Whether the threads of sound were started.
    is_sound_started: bool,
    /// Whether it is known that the peer has no face to show.
    is_sound_only: bool,
    media: LocalMedia,
    signals: Signals,
    phase: Phase,
    links: Links,
    /// Guest: fingerprint of the certificate in the offer that was answered last.
    host_fingerprint: Option<Fingerprint>,
    /// Guest: when it last announced itself.
    announced: Option<Instant>,
    /// Guest at a rendezvous service: when it began to wait for an offer; none once it has said that
    /// there is none.
    alone_since: Option<Instant>,
    /// When the first answer of the first contact was given or accepted.
    first_answer: Option<Instant>,
    /// Why WebRTC refused the last description that it refused.
    link_error: Option<LinkError>,
    /// Host: a guest who is neither in the call nor knocks.
    other_guest: Option<OtherGuest>,
    /// Host: when a guest was last refused.
    refused: Option<Instant>,
    notices: Notices,
    /// When the connection to the rendezvous service was replaced by another of our role, which has
    /// the seat since then.
    replaced: Option<Instant>,
    /// Arrivals before this time are no sign of life: they waited while the process stood still.
    stale_until: Instant,
    /// Time of the last input.
    last_step: Instant,
    admission: AdmissionState,
    packetizer: Packetizer,
    receiver: FaceReceiver,
    sound: OutgoingSound,
    /// Our face file, if the peer is to see us.
    model_sender: Option<ModelSender>,
    peer_face: PeerFace,
    /// Whether a job reads a face. There is one at a time, whatever is offered meanwhile.
    is_reading_face: bool,
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
        let (id, _) = session.links.begin(now, Party::Peer, 0, None);
        session.links.current = session.links.take_attempt(id);
        session.receiver.set_profile(peer_profile);
        session.phase = Phase::Connected { since: now };
        session
    }

    fn waiting(config: SessionConfig, now: Instant) -> Self {
        let SessionConfig { role, secret, mut fresh_salt, media, .. } = config;
        let is_lonely = role == Role::Guest && matches!(config.exchange, Exchange::Rendezvous);
        let alone_since = is_lonely.then_some(now);
        Self {
            signals: Signals::new(Seal::new(secret.clone(), role, fresh_salt())),
            role,
            secret,
            fresh_salt,
            exchange: config.exchange,
            name: config.name,
            sends_sound: config.sends_sound,
            is_sound_started: false,
            is_sound_only: false,
            packetizer: Packetizer::new(packetizer_settings(media.rate)),
            media,
            phase: Phase::Meeting,
            links: Links::default(),
            host_fingerprint: None,
            announced: None,
            alone_since,
            first_answer: None,
            link_error: None,
            other_guest: None,
            refused: None,
            notices: Notices::default(),
            replaced: None,
            stale_until: now,
            last_step: now,
            admission: AdmissionState::new(config.auto_admit, config.keep_link),
            receiver: FaceReceiver::new(),
            sound: OutgoingSound::new(config.has_sound),
            // A file over the limit is not offered; the peer hears but does not see us.
            model_sender: config.face.and_then(|face| ModelSender::new(face).ok()),
            peer_face: PeerFace::default(),
            is_reading_face: false,
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
        self.check_standstill(now);
        self.next_poll = now;
        match input {
            Input::Decode => self.decode(now),
            Input::Timeout => self.handle_timeout(now),
            Input::Link(id, event) => self.handle_link(now, id, event),
            Input::Signaling(event) => self.handle_signaling(now, event),
            Input::Command(command) => self.handle_command(now, command),
            Input::Frame(frame) => self.handle_frame(now, *frame),
            Input::Voice { voice, listener } => self.handle_voice(now, voice, listener),
            Input::NoSound(reason) => self.emit(Event::NoSound(reason)),
            Input::SoundDevice(change) => self.emit(Event::SoundDevice(change)),
            Input::SourceEnded(error) => self.emit(Event::SourceEnded { error }),
            Input::FaceRead(read) => self.handle_face_read(now, *read),
            Input::Wire(count) => self.statistics.wire = count,
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
        if self.is_admitted() {
            let timeouts = [self.packets_timeout(), self.receiver.jitter_buffer.timeout()];
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
            let clock_shift = self.receiver.clock_shift();
            self.outputs.push_back(Output::Features { arrived, features, clock_shift });
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.is_admitted() {
            self.send_packets(now);
            self.send_chunks(now);
        }
        self.check_deadlines(now);
        if !matches!(self.phase, Phase::Ended) && now >= self.statistics.next_second {
            self.statistics.update_rates(now, &self.receiver);
            self.emit_stats(now);
        }
        self.next_poll = self.statistics.next_second;
        if self.is_admitted() {
            self.next_poll = self.next_poll.min(now + POLL_INTERVAL);
        }
    }

    fn handle_link(&mut self, now: Instant, id: LinkId, event: LinkEvent) {
        let Some(link) = self.links.get(id) else { return };
        let (attempt, party) = (link.attempt, link.party);
        if matches!(event, LinkEvent::Features(_) | LinkEvent::Sound(_)) && link.hellos.is_received
        {
            self.follow_host(now, id);
        }
        let is_current = self.links.is_current(id);
        match event {
            LinkEvent::Described(sdp) => self.handle_description(now, id, sdp),
            LinkEvent::Open => self.handle_open(now, id),
            LinkEvent::Control(bytes) => {
                self.handle_open(now, id);
                self.record_life(now, id);
                self.handle_control(now, id, &bytes);
            }
            // Nobody is let in over this link, so this is nothing but a sign of life.
            LinkEvent::Features(_) | LinkEvent::Sound(_) if !is_current => {
                self.record_life(now, id);
            }
            LinkEvent::Features(packet) => {
                self.record_life(now, id);
                self.handle_packet(now, &packet);
            }
            LinkEvent::Sound(packet) => {
                self.record_life(now, id);
                self.handle_sound(now, packet);
            }
            LinkEvent::Candidate(line) => {
                if let Some(attempt) = attempt {
                    self.send_signal(party, &Signal::Candidate { attempt, line });
                }
            }
            LinkEvent::Failed => self.handle_link_failure(now, id, None),
            LinkEvent::Error(error) => self.handle_link_failure(now, id, Some(error)),
        }
    }

    /// Handles a link whose channels are open, because it reports that or because something arrived
    /// over it.
    fn handle_open(&mut self, now: Instant, id: LinkId) {
        if let Some(link) = self.links.get_mut(id)
            && !std::mem::replace(&mut link.is_open, true)
        {
            self.send_hello(now, id);
            // A manual guest has known of no answer until now.
            self.first_answer.get_or_insert(now);
        }
    }

    fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::SetMuted(muted) => {
                // Without a microphone there is nothing to say.
                self.media.muted = muted || !self.sends_sound;
                self.apply_mute(now);
            }
            Command::Talk(talks) => {
                self.media.talks = talks && self.sends_sound;
                self.apply_mute(now);
            }
            Command::SetCameraOn(on) => {
                self.media.camera_on = on;
                self.apply_camera(now);
            }
            Command::ShowFace(shows) => {
                self.media.shows_face = shows;
                self.apply_camera(now);
                if shows && self.is_admitted() {
                    self.offer_model(now);
                    self.outputs.push_back(Output::Encoder(EncoderCommand::RequestKey));
                }
            }
            Command::Admit { question, lets_in } => self.handle_decision(now, question, lets_in),
            Command::AcceptFace { question, accepts } => {
                self.handle_face_decision(now, question, accepts);
            }
            Command::SetRate(rate) => {
                self.media.rate = rate;
                self.outputs.push_back(Output::Encoder(EncoderCommand::SetRate(rate)));
                self.outputs.push_back(Output::Voice(VoiceCommand::ChangeRate(rate)));
                self.outputs.push_back(Output::LocalMedia(self.media));
            }
            Command::SendChat(text) => {
                if self.is_admitted() {
                    self.send_control(now, &Control::Chat(text));
                }
            }
            Command::AcceptAnswer(text) => self.handle_manual_answer(now, &text),
            Command::HangUp => self.end(now, End::HungUp),
        }
    }

    /// Starts or stops the camera, which runs while our face is shown.
    fn apply_camera(&mut self, now: Instant) {
        let is_on = self.media.sends_face();
        self.outputs.push_back(Output::Encoder(EncoderCommand::SetCameraOn(is_on)));
        self.apply_media(now);
    }

    /// Starts or stops sending sound.
    fn apply_mute(&mut self, now: Instant) {
        let is_muted = !self.media.sends_sound();
        self.outputs.push_back(Output::Voice(VoiceCommand::Mute(is_muted)));
        self.apply_media(now);
    }

    /// Makes a change of microphone or camera known to the application and to the peer.
    fn apply_media(&mut self, now: Instant) {
        self.outputs.push_back(Output::LocalMedia(self.media));
        if self.is_admitted() {
            self.send_media(now);
        }
    }

    fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn emit_stats(&mut self, now: Instant) {
        let mut stats = self.statistics.stats(now, &self.receiver, &self.packetizer);
        stats.connected = matches!(self.phase, Phase::Connected { .. });
        stats.rate = self.media.rate;
        stats.sound_loss_out = f64::from(self.sound.loss);
        stats.muted = !self.media.sends_sound();
        stats.camera_off = !self.media.sends_face();
        self.outputs.push_back(Output::Stats(Box::new(stats)));
    }

    fn fail(&mut self, now: Instant, failure: CallFailure) {
        self.end(now, End::Failed(failure));
    }

    /// Says goodbye, over every open link and over the rendezvous service, and ends the session.
    fn end(&mut self, now: Instant, end: End) {
        if self.keeps_link_after(&end) {
            self.wait_for_next_guest(now);
            return;
        }
        let bye = match &end {
            End::HungUp => Some(Bye::HungUp),
            End::Failed(CallFailure::OtherVersion { .. }) => Some(Bye::OtherVersion),
            End::Failed(_) => Some(Bye::Failed),
            End::PeerHungUp | End::PeerVanished => None,
        };
        if let Some(bye) = bye {
            let bye = LinkCommand::SendControl(Control::Bye(bye).to_bytes());
            let open = self.links.iter().filter(|link| link.is_open);
            self.outputs.extend(open.map(|link| Output::Link(link.id, bye.clone())));
            self.send_signal(Party::Peer, &Signal::Leave);
            if !matches!(self.phase, Phase::Connected { .. }) {
                self.send_signal(Party::Newcomer, &Signal::Leave);
            }
        }
        self.emit_stats(now);
        let knocking = self.links.knock.take().map(|knock| knock.link.id);
        let current = self.links.current.take().map(|link| link.id);
        self.close_links(knocking.into_iter().chain(current));
        self.close_attempts();
        self.phase = Phase::Ended;
        self.outputs.push_back(Output::End(end));
    }
}
