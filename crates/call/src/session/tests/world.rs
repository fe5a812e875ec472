//! Sessions on a virtual clock, with a simulated rendezvous service and network between them.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::{Encoder, Profile};
use face::{FaceFile, FaceModel, PackedModel, Sizes};
use transport::{Control, Role, Secret};
use types::{Code, Feature, HeadPose, MediaTime, Rate};

use crate::event::{Command, LinkError};
use crate::session::{
    EncoderCommand, Exchange, Input, LinkCommand, LinkEvent, LinkId, Output, Session,
    SessionConfig, SignalingEvent, TrackedFrame,
};
use crate::settings::LocalMedia;
use crate::stats::Stats;

/// One-way delay of network and rendezvous service.
const LATENCY: Duration = Duration::from_millis(20);
/// Time that a link takes to gather candidates.
const GATHERING: Duration = Duration::from_millis(50);

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
    pub(super) control_sent: Vec<Control>,
    pub(super) n_signals: usize,
    /// How often it has asked for another connection to the service.
    pub(super) n_reconnects: usize,
    pub(super) n_links: usize,
    pub(super) features: Vec<Feature>,
    pub(super) face: Option<FaceModel>,
    pub(super) media: LocalMedia,
    pub(super) microphone_started: bool,
    pub(super) stats: Stats,
    pub(super) invite_offer: Option<Vec<u8>>,
    /// Whether it still runs; a peer that was killed says no goodbye.
    is_running: bool,
    in_room: bool,
}

impl Peer {
    pub(super) fn take_events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }

    /// Returns how many control messages were sent that `pick` accepts.
    pub(super) fn count_sent(&self, pick: impl Fn(&Control) -> bool) -> usize {
        self.control_sent.iter().filter(|message| pick(message)).count()
    }

    pub(super) fn hellos_sent(&self) -> usize {
        self.count_sent(|message| matches!(message, Control::Hello { .. }))
    }
}

/// An end of a link.
type LinkEnd = (usize, LinkId);

/// A path between two link ends.
struct Connection {
    ends: [LinkEnd; 2],
    is_alive: bool,
    /// Control messages that wait for the network, in order.
    held_back: VecDeque<(LinkEnd, Bytes)>,
}

/// What the network does with a control message: deliver these in its place.
type Tamper = Box<dyn FnMut(usize, Vec<u8>) -> Vec<Vec<u8>>>;

/// Peers, numbered in the order in which they were added, and what connects them.
pub(super) struct World {
    pub(super) now: Instant,
    start: Instant,
    pub(super) peers: Vec<Peer>,
    pub(super) rendezvous_is_up: bool,
    pub(super) network_is_up: bool,
    /// Whether new links find a path.
    pub(super) has_path: bool,
    pub(super) tamper: Tamper,
    /// Sealed messages that have crossed the rendezvous service.
    pub(super) sealed: Vec<Vec<u8>>,
    connections: Vec<Connection>,
    /// Inputs on their way: time, order, peer.
    in_flight: Vec<(Instant, u64, usize, Input)>,
    n_flights: u64,
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
        media: LocalMedia { muted: false, camera_on: true, rate: Rate::Normal },
        face: None,
        wants_microphone: false,
        sound_encoder: None,
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
            tamper: Box::new(|_, message| vec![message]),
            sealed: Vec::new(),
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
        let (media, role) = (config.media, config.role);
        self.peers.push(Peer {
            role,
            session: Session::new(config, self.now),
            events: Vec::new(),
            end: None,
            encoder: Encoder::new(Profile::default()),
            encoder_commands: Vec::new(),
            control_sent: Vec::new(),
            n_signals: 0,
            n_reconnects: 0,
            n_links: 0,
            features: Vec::new(),
            face: None,
            media,
            microphone_started: false,
            stats: Stats::default(),
            invite_offer: None,
            is_running: true,
            in_room: false,
        });
        if wants_room {
            self.take_seat(index);
        }
        self.carry_out_outputs(index);
        index
    }

    /// Gives a peer the seat of its role, and takes it from the one who has it.
    fn take_seat(&mut self, index: usize) {
        for other in 0..self.peers.len() {
            let is_same = self.peers[other].role == self.peers[index].role;
            if other != index && is_same && self.peers[other].in_room {
                self.peers[other].in_room = false;
                self.deliver(other, LATENCY, Input::Signaling(SignalingEvent::Replaced));
            }
        }
        self.peers[index].in_room = true;
    }

    /// Ends a peer without a goodbye.
    pub(super) fn kill(&mut self, index: usize) {
        self.peers[index].is_running = false;
        self.peers[index].in_room = false;
        for connection in &mut self.connections {
            connection.is_alive &= connection.ends.iter().all(|(peer, _)| *peer != index);
        }
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
        for (_, _, index, input) in due {
            if self.peers[index].is_running {
                self.peers[index].session.handle(input, now);
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

    fn deliver(&mut self, index: usize, delay: Duration, input: Input) {
        self.n_flights += 1;
        self.in_flight.push((self.now + delay, self.n_flights, index, input));
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
                Output::StartMicrophone => peer.microphone_started = true,
                Output::PlaySound(_) => {}
                Output::Features { features, .. } => peer.features.extend(features),
                Output::ReadFace(job) => {
                    let read = Input::FaceRead(Box::new(job.run()));
                    self.deliver(index, millis(10), read);
                }
                Output::PeerFace(model) => peer.face = Some((*model).clone()),
                Output::LocalMedia(media) => peer.media = media,
                Output::Stats(stats) => peer.stats = *stats,
                Output::Event(event) => peer.events.push(format!("{event:?}")),
                Output::End(end) => {
                    peer.end = Some(format!("{end:?}"));
                    peer.in_room = false;
                }
            }
        }
    }

    fn forward_sealed(&mut self, from: usize, sealed: &[u8]) {
        if !self.rendezvous_is_up || !self.peers[from].in_room {
            return;
        }
        self.sealed.push(sealed.to_vec());
        for index in 0..self.peers.len() {
            if index != from && self.peers[index].in_room {
                let event = SignalingEvent::Sealed(Bytes::copy_from_slice(sealed));
                self.deliver(index, LATENCY, Input::Signaling(event));
            }
        }
    }

    fn carry_out_command(&mut self, end: LinkEnd, command: LinkCommand) {
        let (index, id) = end;
        let event = |event| Input::Link(id, event);
        let peer = &mut self.peers[index];
        peer.n_links = peer.n_links.max(id.0 as usize);
        match command {
            LinkCommand::Offer => {
                let offer = format!("{index} {}", id.0);
                self.deliver(index, GATHERING, event(LinkEvent::Described(offer)));
            }
            LinkCommand::Answer(offer) => {
                let answer = format!("{offer} {index} {}", id.0);
                self.deliver(index, GATHERING, event(LinkEvent::Described(answer)));
                self.deliver(index, GATHERING, event(LinkEvent::Candidate("late".into())));
            }
            LinkCommand::Accept(answer) => self.accept(end, &answer),
            LinkCommand::AddCandidate(_) => {}
            LinkCommand::SendFeatures(packet) => {
                if let Some((peer, id)) = self.other_end(end).filter(|_| self.network_is_up) {
                    let event = LinkEvent::Features(Bytes::from(packet));
                    self.deliver(peer, LATENCY, Input::Link(id, event));
                }
            }
            LinkCommand::SendControl(message) => {
                peer.control_sent.push(Control::parse(&message).expect("a session's own message"));
                for message in (self.tamper)(index, message) {
                    self.send_control(end, Bytes::from(message));
                }
            }
            LinkCommand::SendSound(packet) => {
                if let Some((peer, id)) = self.other_end(end).filter(|_| self.network_is_up) {
                    self.deliver(peer, LATENCY, Input::Link(id, LinkEvent::Sound(packet)));
                }
            }
            LinkCommand::Close => {
                for connection in &mut self.connections {
                    connection.is_alive &= !connection.ends.contains(&end);
                }
            }
        }
    }

    /// Connects the two link ends that an answer names. Other answers are refused.
    fn accept(&mut self, (index, id): LinkEnd, answer: &str) {
        let numbers: Vec<u32> = answer.split(' ').filter_map(|n| n.parse().ok()).collect();
        let [host, host_link, guest, guest_link] = numbers[..] else {
            let error = LinkError::from(webrtc::error::Error::ErrSDPZeroTransceivers);
            self.handle(index, Input::Link(id, LinkEvent::Error(error)));
            return;
        };
        let ends = [(host as usize, LinkId(host_link)), (guest as usize, LinkId(guest_link))];
        if !self.has_path || !self.network_is_up {
            return;
        }
        self.connections.push(Connection { ends, is_alive: true, held_back: VecDeque::new() });
        for (index, id) in ends {
            self.deliver(index, 2 * LATENCY, Input::Link(id, LinkEvent::Open));
        }
    }

    fn connection_of(&mut self, end: LinkEnd) -> Option<&mut Connection> {
        let mut connections = self.connections.iter_mut();
        connections.find(|connection| connection.is_alive && connection.ends.contains(&end))
    }

    fn other_end(&mut self, end: LinkEnd) -> Option<LinkEnd> {
        let ends = self.connection_of(end)?.ends;
        ends.into_iter().find(|other| *other != end)
    }

    /// Sends a control message; without a network it is held back, as it is sent reliably.
    fn send_control(&mut self, from: LinkEnd, message: Bytes) {
        let Some((index, id)) = self.other_end(from) else { return };
        if self.network_is_up {
            self.deliver(index, LATENCY, Input::Link(id, LinkEvent::Control(message)));
        } else if let Some(connection) = self.connection_of(from) {
            connection.held_back.push_back(((index, id), message));
        }
    }

    /// Ends an outage: what was held back is delivered.
    pub(super) fn restore_network(&mut self) {
        self.network_is_up = true;
        let alive = self.connections.iter_mut().filter(|connection| connection.is_alive);
        let held_back: Vec<_> =
            alive.flat_map(|connection| std::mem::take(&mut connection.held_back)).collect();
        for ((index, id), message) in held_back {
            self.deliver(index, LATENCY, Input::Link(id, LinkEvent::Control(message)));
        }
    }
}
