//! Sessions on a virtual clock, with a simulated rendezvous service and network between them
//! (`network.rs`, `path.rs`).

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::{Encoder, Profile};
use face::{FaceFile, FaceModel, PackedModel, Sizes};
use numerics::SplitMix64;
use transport::{Control, Role, Secret};
use types::{Code, Feature, HeadPose, MediaTime, Rate};
use voice::{EncodedVoice, VoicePacket};

use super::path::{Arrival, Conditions, Connection};
use crate::event::{Command, Event, QuestionId};
use crate::session::phase::Phase;
use crate::session::{
    EncoderCommand, Exchange, Input, LinkEvent, LinkId, Output, Session, SessionConfig,
    SignalingEvent, TrackedFrame, VoiceCommand,
};
use crate::settings::LocalMedia;
use crate::stats::Stats;

pub(super) fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

pub(super) fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One end, with everything its session has asked for.
pub(super) struct Peer {
    role: Role,
    pub(super) session: Session,
    /// Debug form of the events since they were last taken.
    pub(super) events: Vec<String>,
    /// Debug form of how the session has ended.
    pub(super) end: Option<String>,
    pub(super) encoder: Encoder,
    pub(super) encoder_commands: Vec<EncoderCommand>,
    pub(super) voice_commands: Vec<VoiceCommand>,
    /// What was handed over to be played.
    pub(super) heard: Vec<VoicePacket>,
    /// Feature packets sent over the data channel.
    pub(super) n_feature_messages: usize,
    pub(super) control_sent: Vec<Control>,
    pub(super) n_signals: usize,
    /// How often it has asked for another connection to the service.
    pub(super) n_reconnects: usize,
    /// How often it has changed its certificate.
    pub(super) n_certificates: usize,
    pub(super) n_links: usize,
    pub(super) features: Vec<Feature>,
    pub(super) face: Option<FaceModel>,
    pub(super) media: LocalMedia,
    pub(super) sound_started: bool,
    pub(super) stats: Stats,
    pub(super) invite_offer: Option<Vec<u8>>,
    /// Links that it has made and not closed.
    pub(super) links: Vec<LinkId>,
    /// Whether it still runs; a peer that was killed says no goodbye.
    is_running: bool,
    pub(super) in_room: bool,
    /// Faces that are being read.
    pub(super) n_reading: usize,
    /// Number of the last question of each kind.
    knock: QuestionId,
    other_face: QuestionId,
}

impl Peer {
    fn new(config: SessionConfig, now: Instant) -> Self {
        let (media, role) = (config.media, config.role);
        Self {
            role,
            session: Session::new(config, now),
            events: Vec::new(),
            end: None,
            encoder: Encoder::new(Profile::default()),
            encoder_commands: Vec::new(),
            voice_commands: Vec::new(),
            heard: Vec::new(),
            n_feature_messages: 0,
            control_sent: Vec::new(),
            n_signals: 0,
            n_reconnects: 0,
            n_certificates: 0,
            n_links: 0,
            features: Vec::new(),
            face: None,
            media,
            sound_started: false,
            stats: Stats::default(),
            invite_offer: None,
            is_running: true,
            in_room: false,
            n_reading: 0,
            knock: QuestionId(0),
            other_face: QuestionId(0),
            links: Vec::new(),
        }
    }

    pub(super) fn take_events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }

    /// Returns whether it is connected to the other peer now.
    pub(super) fn is_connected(&self) -> bool {
        matches!(self.session.phase, Phase::Connected { .. })
    }

    pub(super) fn open_link(&mut self, id: LinkId) {
        self.n_links = self.n_links.max(id.0 as usize);
        self.links.push(id);
        assert!(self.links.len() <= 4, "in use, knocking, and two under construction");
    }

    /// Returns how many control messages were sent that `pick` accepts.
    pub(super) fn count_sent(&self, pick: impl Fn(&Control) -> bool) -> usize {
        self.control_sent.iter().filter(|message| pick(message)).count()
    }

    pub(super) fn hellos_sent(&self) -> usize {
        self.count_sent(|message| matches!(message, Control::Hello { .. }))
    }
}

/// What the network does with a control message: deliver these in its place.
type Tamper = Box<dyn FnMut(usize, Vec<u8>) -> Vec<Vec<u8>>>;

/// Peers, numbered in the order in which they were added, and what connects them.
#[expect(clippy::struct_excessive_bools, reason = "each is a condition of its own")]
pub(super) struct World {
    pub(super) now: Instant,
    start: Instant,
    pub(super) peers: Vec<Peer>,
    pub(super) rendezvous_is_up: bool,
    pub(super) network_is_up: bool,
    /// Whether new links find a path.
    pub(super) has_path: bool,
    /// A peer that does not reach the rendezvous service.
    pub(super) unserved: Option<usize>,
    /// Whether the reading of faces panics.
    pub(super) reading_breaks_off: bool,
    /// A peer that no datagram reaches, although it can send.
    pub(super) deaf: Option<usize>,
    pub(super) tamper: Tamper,
    /// Sealed messages that have crossed the rendezvous service.
    pub(super) sealed: Vec<Vec<u8>>,
    pub(super) conditions: Conditions,
    /// Decides about each datagram.
    pub(super) random: SplitMix64,
    /// Datagrams sent by all peers, lost ones included.
    pub(super) n_datagrams: usize,
    pub(super) connections: Vec<Connection>,
    /// What is on its way: time, order, and what it is.
    pub(super) in_flight: Vec<(Instant, u64, Arrival)>,
    pub(super) n_flights: u64,
    /// Debug form of every output of every peer, if somebody wants it.
    pub(super) log: Option<Vec<String>>,
}

pub(super) const HOST: usize = 0;
pub(super) const GUEST: usize = 1;

pub(super) fn config(role: Role, salt: u8) -> SessionConfig {
    let mut salts = (0..).map(move |n| {
        let mut bytes = [salt; 16];
        bytes[0] = n;
        bytes
    });
    SessionConfig {
        role,
        secret: Secret::new([9; 16]),
        fresh_salt: Box::new(move || salts.next().expect("a test needs few salts")),
        exchange: Exchange::Rendezvous,
        name: if role == Role::Host { "Ada" } else { "Bob" }.into(),
        media: LocalMedia {
            muted: false,
            talks: false,
            camera_on: true,
            shows_face: true,
            rate: Rate::Normal,
        },
        face: None,
        auto_admit: true,
        keep_link: false,
        sends_sound: true,
        has_sound: false,
    }
}

/// Returns a small face file with three layers.
pub(super) fn face_file(seed: usize) -> &'static FaceFile {
    static FILES: [OnceLock<FaceFile>; 8] = [const { OnceLock::new() }; 8];
    FILES[seed].get_or_init(|| {
        let model = FaceModel::untrained(Sizes::tiny(), seed as u64);
        let packed = PackedModel::new(&model).unwrap();
        FaceFile::new(packed, Profile::default().to_bytes(), None).unwrap()
    })
}

pub(super) fn nod(frame: u64) -> Feature {
    let angle = (frame as f32 * 0.3).sin() * 0.2;
    Feature {
        time: MediaTime::of_frame(frame, 25),
        pose: HeadPose::from_array([angle, 0.0, 0.0, 0.0, 0.0, 1.0]).unwrap(),
        code: Code::NEUTRAL,
    }
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
    pub(super) fn new() -> Self {
        let start = Instant::now();
        Self {
            now: start,
            start,
            peers: Vec::new(),
            rendezvous_is_up: true,
            network_is_up: true,
            has_path: true,
            unserved: None,
            reading_breaks_off: false,
            deaf: None,
            tamper: Box::new(|_, message| vec![message]),
            sealed: Vec::new(),
            conditions: Conditions::clean(),
            random: SplitMix64::new(1),
            n_datagrams: 0,
            connections: Vec::new(),
            in_flight: Vec::new(),
            n_flights: 0,
            log: None,
        }
    }

    /// Returns a host and a guest who have not met yet.
    pub(super) fn of_two() -> Self {
        let mut world = Self::new();
        world.add(config(Role::Host, 1));
        world.add(config(Role::Guest, 2));
        world
    }

    /// Returns a host and a guest who are connected, without the events of that.
    pub(super) fn connected() -> Self {
        let mut world = Self::of_two();
        world.run_for(secs(1));
        for peer in &mut world.peers {
            let events = peer.take_events();
            assert!(events.iter().any(|event| event.starts_with("Connected")), "{events:?}");
        }
        world
    }

    /// Returns a host and a guest who meet by hand, and the answer that the host has not got yet.
    pub(super) fn manual() -> (Self, String) {
        let mut world = Self::new();
        world.add(SessionConfig { exchange: Exchange::Manual(None), ..config(Role::Host, 1) });
        world.run_until(secs(1), |world| world.peers[HOST].invite_offer.is_some());
        let offer = world.peers[HOST].invite_offer.clone();
        world.add(SessionConfig { exchange: Exchange::Manual(offer), ..config(Role::Guest, 2) });
        world.run_for(secs(1));
        let events = world.peers[GUEST].take_events();
        let answer = events[0].strip_prefix("AnswerReady(\"").unwrap();
        let answer = answer.strip_suffix("\")").unwrap().to_owned();
        (world, answer)
    }

    /// Adds a peer, which enters the room if it uses a rendezvous service.
    pub(super) fn add(&mut self, config: SessionConfig) -> usize {
        let index = self.peers.len();
        let wants_room = matches!(config.exchange, Exchange::Rendezvous);
        self.peers.push(Peer::new(config, self.now));
        if wants_room {
            self.take_seat(index);
        }
        self.carry_out_outputs(index);
        index
    }

    /// Gives a peer the seat of its role, and takes it from the one who has it.
    fn take_seat(&mut self, index: usize) {
        if self.unserved == Some(index) {
            return;
        }
        for other in 0..self.peers.len() {
            let is_same = self.peers[other].role == self.peers[index].role;
            if other != index && is_same && self.peers[other].in_room {
                self.peers[other].in_room = false;
                self.deliver(
                    other,
                    self.conditions.latency,
                    Input::Signaling(SignalingEvent::Replaced),
                );
            }
        }
        self.peers[index].in_room = true;
    }

    /// Lets a peer reach the rendezvous service again.
    pub(super) fn serve_again(&mut self, index: usize) {
        self.unserved = None;
        self.take_seat(index);
    }

    /// Replaces a peer by a new process, which knows nothing of the old one.
    pub(super) fn restart(&mut self, index: usize, config: SessionConfig) {
        self.kill(index);
        self.in_flight
            .retain(|(.., arrival)| !matches!(arrival, Arrival::Input(peer, _) if *peer == index));
        self.peers[index] = Peer::new(config, self.now);
        self.take_seat(index);
        self.carry_out_outputs(index);
    }

    /// Ends a peer without a goodbye.
    pub(super) fn kill(&mut self, index: usize) {
        self.peers[index].is_running = false;
        self.peers[index].in_room = false;
        for connection in &mut self.connections {
            connection.is_alive &= !connection.is_of(index);
        }
    }

    /// Ends a peer's connection to the service alone.
    pub(super) fn leave_room(&mut self, index: usize) {
        self.peers[index].in_room = false;
    }

    /// Ends all paths that exist; new links find new ones.
    pub(super) fn break_links(&mut self) {
        self.connections.iter_mut().for_each(|connection| connection.is_alive = false);
    }

    pub(super) fn seconds(&self) -> f64 {
        self.now.duration_since(self.start).as_secs_f64()
    }

    pub(super) fn command(&mut self, index: usize, command: Command) {
        self.handle(index, Input::Command(command));
    }

    /// Answers the last question about a guest.
    pub(super) fn admit(&mut self, index: usize, lets_in: bool) {
        self.command(index, Command::Admit { question: self.peers[index].knock, lets_in });
    }

    /// Answers the last question about another face.
    pub(super) fn accept_face(&mut self, index: usize, accepts: bool) {
        let question = self.peers[index].other_face;
        self.command(index, Command::AcceptFace { question, accepts });
    }

    /// Hands an input to a session now.
    pub(super) fn handle(&mut self, index: usize, input: Input) {
        if self.peers[index].is_running {
            let now = self.now;
            for input in [input, Input::Decode, Input::Timeout] {
                self.peers[index].session.handle(input, now);
            }
            self.carry_out_outputs(index);
        }
    }

    /// Hands a control message to a session as if its peer had sent it.
    pub(super) fn handle_control(&mut self, index: usize, bytes: &[u8]) {
        let id = LinkId(self.peers[index].n_links as u32);
        let event = LinkEvent::Control(Bytes::copy_from_slice(bytes));
        self.handle(index, Input::Link(id, event));
    }

    /// Encodes a feature and hands its unit, if it becomes one, to the session.
    pub(super) fn send_feature(&mut self, index: usize, feature: &Feature) {
        let unit = self.peers[index].encoder.push(feature, false);
        let frame = TrackedFrame { face_found: true, unit, took: millis(3) };
        self.handle(index, Input::Frame(Box::new(frame)));
    }

    /// Hands the session a packet of voice that was captured `ms` after the beginning.
    pub(super) fn speak(&mut self, index: usize, ms: u64) {
        let new_listener = |command: &VoiceCommand| match command {
            VoiceCommand::NewListener(listener) => Some(*listener),
            _ => None,
        };
        let listener = self.peers[index].voice_commands.iter().rev().find_map(new_listener);
        self.speak_to(index, ms, listener.unwrap_or(1));
    }

    /// Speaks to a listener of this number, who may have left.
    pub(super) fn speak_to(&mut self, index: usize, ms: u64, listener: u32) {
        let time = MediaTime::from_micros(ms * 1000);
        let opus = Bytes::from_static(&[7; 60]);
        let voice = EncodedVoice { time, opus };
        self.handle(index, Input::Voice { voice, listener });
    }

    /// Sends frames of a nod at 25 per second while time passes.
    pub(super) fn nod_for(&mut self, index: usize, frames: std::ops::Range<u64>) {
        for frame in frames {
            self.send_feature(index, &nod(frame));
            self.run_for(millis(40));
        }
    }

    pub(super) fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.step(until) {}
    }

    /// Runs until `is_done`, but at most for `limit`.
    pub(super) fn run_until(&mut self, limit: Duration, is_done: impl Fn(&Self) -> bool) {
        let until = self.now + limit;
        while !is_done(self) {
            assert!(self.step(until), "nothing of the kind within {limit:?}");
        }
    }

    /// Goes to the next moment at which something happens; returns whether that is before `until`.
    fn step(&mut self, until: Instant) -> bool {
        let running = self.peers.iter().filter(|peer| peer.is_running);
        let timeouts = running.filter_map(|peer| peer.session.poll_timeout());
        let arrivals = self.in_flight.iter().map(|(at, ..)| *at);
        let next = timeouts.chain(arrivals).min();
        let Some(next) = next.filter(|next| *next < until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(next);
        let now = self.now;
        let mut due: Vec<_> = self.in_flight.extract_if(.., |(at, ..)| *at <= now).collect();
        due.sort_by_key(|(at, order, ..)| (*at, *order));
        for (_, _, arrival) in due {
            match arrival {
                Arrival::Input(index, input) if self.peers[index].is_running => {
                    let is_read = matches!(input, Input::FaceRead(_));
                    self.peers[index].n_reading -= usize::from(is_read);
                    self.peers[index].session.handle(input, now);
                }
                Arrival::Input(..) => {}
                Arrival::Step(connection, step) => self.handle_step(connection, step),
                Arrival::Repeat(connection, step, n) => self.repeat_step(connection, step, n),
            }
        }
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            if peer.is_running && peer.session.poll_timeout().is_some_and(|due| due <= now) {
                peer.session.handle(Input::Decode, now);
                peer.session.handle(Input::Timeout, now);
            }
            self.carry_out_outputs(index);
        }
        true
    }

    fn carry_out_outputs(&mut self, index: usize) {
        while let Some(output) = self.peers[index].session.poll_output() {
            if let Some(log) = &mut self.log {
                log.push(format!("{index}: {output:?}"));
            }
            let peer = &mut self.peers[index];
            assert!(peer.end.is_none(), "{output:?} after the end");
            match output {
                Output::Link(id, command) => self.carry_out_command((index, id), command),
                Output::Signal(sealed) => {
                    peer.n_signals += 1;
                    self.forward_sealed(index, &sealed);
                }
                Output::ReconnectSignaling => {
                    peer.n_reconnects += 1;
                    self.take_seat(index);
                }
                Output::InviteOffer(sealed) => peer.invite_offer = Some(sealed),
                Output::Encoder(command) => {
                    command.apply(&mut peer.encoder);
                    peer.encoder_commands.push(command);
                }
                Output::RenewCertificate => peer.n_certificates += 1,
                Output::Voice(command) => peer.voice_commands.push(command),
                Output::StartSound => peer.sound_started = true,
                Output::PlaySound { packet, .. } => peer.heard.push(packet),
                Output::Features { features, .. } => peer.features.extend(features),
                Output::ReadFace(job) => {
                    peer.n_reading += 1;
                    let read = if self.reading_breaks_off { job.broken_off() } else { job.run() };
                    let read = Input::FaceRead(Box::new(read));
                    self.deliver(index, millis(10), read);
                }
                Output::PeerFace(model) => peer.face = Some((*model).clone()),
                Output::ForgetPeer => peer.face = None,
                Output::LocalMedia(media) => peer.media = media,
                Output::Stats(stats) => peer.stats = *stats,
                Output::Event(event) => {
                    match event {
                        Event::Knock { question, .. } => peer.knock = question,
                        Event::PeerFaceReplaced { question } => peer.other_face = question,
                        _ => {}
                    }
                    peer.events.push(format!("{event:?}"));
                }
                Output::End(end) => {
                    peer.end = Some(format!("{end:?}"));
                    peer.in_room = false;
                }
            }
        }
    }
}
