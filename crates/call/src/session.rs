//! One call from the first signal to the last: a single task that owns all of its state.
#![expect(clippy::disallowed_methods, reason = "the call's clock is read here")]

mod meeting;
mod peer_face;
mod watching;

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::EncodedUnit;
use tokio::sync::mpsc;
use transport::{
    Bye, Control, ControlError, ManualAnswer, ModelReceiver, ModelSender, Packetizer,
    ReceiverReport, Role, Seal, Secret, Signal, VERSION,
};
use types::{Rate, Sound};

use crate::event::{CallFailure, Command, End, Event};
use crate::face_coder::Taken;
use crate::link::{Link, LinkEvent, LinkSettings};
use crate::order::{Order, orders_of, settings};
use crate::receiving::Receiving;
use crate::sending::Sending;
use crate::shared::Shared;
use crate::signaling::{Line, LineEvent};
use crate::sound::{Listening, Playing, SoundEncoder};
use crate::tally::Tally;
use crate::wire::WireMeter;
use peer_face::{PeerFace, ReadFace};

/// Things that wait for the session. Feature packets beyond are lost, as on a bad network.
pub(crate) const INPUTS: usize = 512;
/// Index of the features channel among those that are open.
const FEATURES: usize = 0;
/// Index of the control channel.
const CONTROL: usize = 1;
/// The session looks around at least this often.
const TICK: Duration = Duration::from_millis(40);
/// The goodbye has this long to arrive.
const FAREWELL: Duration = Duration::from_millis(600);

/// Everything that can happen to a session.
#[derive(Debug)]
pub(crate) enum Input {
    /// On the link of this generation.
    Link(u32, LinkEvent),
    Line(LineEvent),
    Command(Command),
    /// A frame went through the tracker, or a recorded feature through the encoder.
    Tracked {
        taken: Taken,
        /// How it wants to be packed.
        rate: Rate,
        took: Duration,
    },
    Sounds(Vec<Sound>),
    /// A device for sound is missing.
    NoSound(String),
    SourceEnded(Option<String>),
    /// Layers of the peer's face were read.
    PeerFace(Box<ReadFace>),
}

/// How the two ends meet.
pub(crate) enum Way {
    Line(Line),
    /// The host holds the link it has offered, the guest the offer to answer.
    ManualHost(Link, mpsc::Receiver<LinkEvent>),
    ManualGuest(Vec<u8>),
}

/// What a session is made of.
pub(crate) struct Parts {
    pub(crate) role: Role,
    pub(crate) secret: Secret,
    pub(crate) seal: Seal,
    pub(crate) link_settings: LinkSettings,
    pub(crate) name: String,
    pub(crate) rate: Rate,
    pub(crate) resolution: u32,
    /// Public bytes of our face, if the peer is to see it.
    pub(crate) face: Option<Bytes>,
    pub(crate) camera_off: bool,
    pub(crate) muted: bool,
    pub(crate) sending: Option<Sending>,
    /// Sound of a camera's owner comes from a microphone, once the peer is there.
    pub(crate) wants_microphone: bool,
    pub(crate) sound_encoder: Option<SoundEncoder>,
    pub(crate) playing: Option<Playing>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) meter: Arc<WireMeter>,
    pub(crate) events: SyncSender<Event>,
    pub(crate) inputs: mpsc::Sender<Input>,
}

/// Fresh randomness for a seal.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

pub(crate) struct Session {
    parts: Parts,
    line: Option<Line>,
    link: Option<Link>,
    generation: u32,
    /// When the link in the making was begun, until it is up.
    linking_since: Option<Instant>,
    /// Which channels are known to be open: features, control.
    open: [bool; 2],
    greeted: bool,
    ever_connected: bool,
    lost: bool,
    last_here: Option<Instant>,
    last_rejoin: Option<Instant>,
    packetizer: Packetizer,
    receiving: Receiving,
    model_out: Option<ModelSender>,
    model_in: Option<ModelReceiver>,
    peer_face: PeerFace,
    listening: Option<Listening>,
    tally: Tally,
    end: Option<End>,
}

impl Session {
    pub(crate) fn new(parts: Parts) -> Self {
        let now = Instant::now();
        Self {
            packetizer: Packetizer::new(settings(parts.rate)),
            receiving: Receiving::new(Arc::clone(&parts.shared)),
            tally: Tally::new(now, Arc::clone(&parts.meter)),
            parts,
            line: None,
            link: None,
            generation: 0,
            linking_since: None,
            open: [false; 2],
            greeted: false,
            ever_connected: false,
            lost: false,
            last_here: None,
            last_rejoin: None,
            model_out: None,
            model_in: None,
            peer_face: PeerFace::default(),
            listening: None,
            end: None,
        }
    }

    /// Runs until the call has ended, and says so.
    pub(crate) async fn run(mut self, way: Way, mut inputs: mpsc::Receiver<Input>) {
        if let Err(failure) = self.begin(way).await {
            self.end = Some(End::Failed(failure));
        }
        let mut next_second = Instant::now() + Duration::from_secs(1);
        while self.end.is_none() {
            let now = Instant::now();
            let due = [self.packetizer.timeout(), self.receiving.jitter_buffer.timeout()];
            let due = due.into_iter().flatten().fold(next_second.min(now + TICK), Instant::min);
            match tokio::time::timeout_at(due.into(), inputs.recv()).await {
                Ok(Some(input)) => self.take(input).await,
                Ok(None) => self.end = Some(End::HungUp),
                Err(_) => {}
            }
            for _ in 0..64 {
                let Ok(input) = inputs.try_recv() else { break };
                self.take(input).await;
            }
            let now = Instant::now();
            self.pump(now).await;
            self.watch(now);
            if now >= next_second {
                next_second += Duration::from_secs(1);
                self.second(now).await;
            }
        }
        // Whoever waits to tell us something waits no longer.
        drop(inputs);
        self.leave().await;
    }

    async fn begin(&mut self, way: Way) -> Result<(), CallFailure> {
        match way {
            Way::Line(line) => {
                self.line = Some(line);
                if self.parts.role == Role::Guest {
                    self.say_here(Instant::now());
                }
            }
            Way::ManualHost(link, events) => self.adopt(link, events),
            Way::ManualGuest(offer) => {
                let opened = self.parts.seal.open(&offer).ok();
                let Some(Ok(Signal::Offer(offer))) = opened.map(|bytes| Signal::parse(&bytes))
                else {
                    return Err(CallFailure::WrongAnswer);
                };
                let answer = self.answer(offer).await?;
                let sealed = self.parts.seal.seal(&Signal::Answer(answer).to_bytes());
                self.tell(Event::AnswerReady(ManualAnswer(sealed).to_string()));
            }
        }
        Ok(())
    }

    async fn take(&mut self, input: Input) {
        let now = Instant::now();
        match input {
            Input::Link(generation, event) if generation == self.generation => {
                self.take_link(now, event).await;
            }
            Input::Link(..) => {}
            Input::Line(LineEvent::Sealed(sealed)) => {
                if let Err(failure) = self.take_sealed(now, &sealed).await {
                    self.fail(failure);
                }
            }
            Input::Line(LineEvent::RoomIsFull) => {
                if !self.ever_connected {
                    self.fail(CallFailure::RoomIsFull);
                }
            }
            Input::Command(command) => self.obey(command).await,
            Input::Tracked { taken, rate, took } => {
                self.tally.tracked(took, taken.found);
                self.take_coded(now, taken.unit, rate);
            }
            Input::Sounds(sounds) => self.take_sounds(&sounds).await,
            Input::NoSound(why) => self.tell(Event::NoSound(why)),
            Input::SourceEnded(error) => self.tell(Event::SourceEnded { error }),
            Input::PeerFace(read) => self.take_face(now, *read),
        }
    }

    // The link.

    async fn take_link(&mut self, now: Instant, event: LinkEvent) {
        match event {
            LinkEvent::FeaturesOpen => self.opened(FEATURES).await,
            LinkEvent::ControlOpen => self.opened(CONTROL).await,
            LinkEvent::Features(packet) => {
                self.opened(FEATURES).await;
                self.tally.packets_in += 1;
                if let Some(report) = self.receiving.take_packet(now, &packet) {
                    self.take_report(now, report);
                }
            }
            LinkEvent::Control(bytes) => {
                self.opened(CONTROL).await;
                match Control::parse(&bytes) {
                    Ok(message) => self.take_control(now, message).await,
                    Err(ControlError::Unknown(_)) => {}
                    Err(_) => self.tally.bad_messages += 1,
                }
            }
            LinkEvent::Sound(packet) => {
                self.tally.sound_packets_in += 1;
                self.tally.sound_bytes_in += packet.opus.len() as u64;
                if let Some(playing) = &self.parts.playing {
                    playing.push(packet);
                }
            }
            LinkEvent::Candidate(candidate) => self.signal(&Signal::Candidate(candidate)),
            LinkEvent::Failed => {
                if !self.ever_connected {
                    self.fail(CallFailure::NoPath);
                }
            }
        }
    }

    /// A channel is open: it said so, or something came over it. With both open the link is made.
    async fn opened(&mut self, channel: usize) {
        if !std::mem::replace(&mut self.open[channel], true) && self.open == [true; 2] {
            self.linking_since = None;
            self.introduce().await;
            if self.greeted {
                self.present().await;
            }
        }
    }

    /// Says hello. Repeated until the peer's own has come, which asks it for its answer again:
    /// what is sent before the other end listens may be lost.
    async fn introduce(&mut self) {
        let name = self.parts.name.clone();
        self.control(&Control::Hello { version: VERSION, name }).await;
    }

    async fn control(&mut self, message: &Control) {
        if let Some(link) = &self.link
            && self.open == [true; 2]
        {
            // A message that cannot be sent has no link to go over; the watch will notice.
            let _ = link.send_control(&message.to_bytes()).await;
        }
    }

    async fn take_control(&mut self, now: Instant, message: Control) {
        if !self.greeted && !matches!(message, Control::Hello { .. } | Control::Bye(_)) {
            self.tally.bad_messages += 1;
            return;
        }
        match message {
            Control::Hello { version, name } => self.greet(now, version, name).await,
            Control::ModelOffer { n_bytes, hash } => {
                let before = self.model_in.take();
                match ModelReceiver::new(n_bytes, hash, before) {
                    Ok((receiver, want)) => {
                        self.tally.model_bytes_in = Some(u64::from(n_bytes));
                        self.model_in = Some(receiver);
                        self.control(&want).await;
                        self.model_moved(now);
                    }
                    Err(refusal) => self.tell(Event::ModelRefused(refusal.into())),
                }
            }
            Control::ModelRequest { hash, from } => {
                if let Some(model) = &mut self.model_out {
                    model.handle_request(hash, from);
                }
            }
            Control::ModelChunk { offset, bytes } => {
                let Some(receiver) = &mut self.model_in else { return };
                match receiver.handle_chunk(offset, &bytes) {
                    Ok(reply) => {
                        if let Some(reply) = reply {
                            self.control(&reply).await;
                        }
                        self.model_moved(now);
                    }
                    Err(refusal) => {
                        self.model_in = None;
                        self.tell(Event::ModelRefused(refusal.into()));
                    }
                }
            }
            Control::Media { muted, camera_off } => {
                self.tell(Event::PeerMedia { muted, camera_off });
            }
            Control::Chat(text) => self.tell(Event::Chat(text)),
            Control::Bye(Bye::Failed) => self.fail(CallFailure::PeerFailed),
            Control::Bye(Bye::OtherVersion) if !self.greeted => {
                // Its hello says which, and comes first; without one we can only guess.
                self.fail(CallFailure::OtherVersion { theirs: 0, ours: VERSION });
            }
            Control::Bye(Bye::HungUp | Bye::OtherVersion) => self.end = Some(End::PeerHungUp),
        }
    }

    async fn greet(&mut self, now: Instant, version: u16, name: String) {
        if version != VERSION {
            self.control(&Control::Bye(Bye::OtherVersion)).await;
            self.fail(CallFailure::OtherVersion { theirs: version, ours: VERSION });
            return;
        }
        if std::mem::replace(&mut self.greeted, true) {
            // It has not heard ours.
            self.introduce().await;
            self.present().await;
            return;
        }
        if std::mem::replace(&mut self.ever_connected, true) {
            if std::mem::replace(&mut self.lost, false) {
                self.tell(Event::PeerBack);
            }
        } else {
            self.tally.connected_at = Some(now);
            self.tell(Event::Connected { peer_name: name });
        }
        self.present().await;
        if let Some(sending) = &self.parts.sending {
            sending.order(Order::Start);
        }
        if self.parts.wants_microphone && self.listening.is_none() {
            // Without a thread there is no sound, as without a microphone.
            self.listening = Listening::start(self.parts.inputs.clone()).ok();
        }
    }

    /// Tells the peer what it needs to know of us, and offers our face.
    async fn present(&mut self) {
        self.say_media().await;
        if let Some(face) = &self.parts.face
            && let Ok(model) = ModelSender::new(face.clone())
        {
            let offer = model.offer();
            self.model_out = Some(model);
            self.control(&offer).await;
        }
    }

    async fn say_media(&mut self) {
        let (muted, camera_off) = (self.parts.muted, self.parts.camera_off);
        self.control(&Control::Media { muted, camera_off }).await;
    }

    // Features.

    fn take_coded(&mut self, now: Instant, coded: Option<Box<EncodedUnit>>, rate: Rate) {
        let Some(coded) = coded.filter(|_| self.greeted) else { return };
        self.packetizer.set_settings(settings(rate));
        let bytes = coded.unit.as_bytes();
        if self.packetizer.push_unit(now, coded.number, coded.time, bytes).is_ok() {
            self.tally.payload_bytes_out += bytes.len() as u64;
        }
    }

    async fn take_sounds(&mut self, sounds: &[Sound]) {
        let Some(encoder) = &mut self.parts.sound_encoder else { return };
        let muted = self.parts.muted || !self.greeted;
        for packet in sounds.iter().flat_map(|sound| encoder.encode(sound, muted)) {
            if let Some(link) = &self.link
                && link.send_sound(&packet).await
            {
                self.tally.sound_packets_out += 1;
                self.tally.sound_bytes_out += packet.opus.len() as u64;
            }
        }
    }

    fn take_report(&mut self, now: Instant, report: ReceiverReport) {
        self.tally.key_requests += u64::from(report.key_requested());
        for order in orders_of(&mut self.packetizer, now, report) {
            if let Some(sending) = &self.parts.sending {
                sending.order(order);
            }
        }
    }

    /// Moves everything that can move now.
    async fn pump(&mut self, now: Instant) {
        self.receiving.pump(now);
        let Some(link) = self.link.as_ref().filter(|_| self.greeted) else { return };
        loop {
            let is_due = self.packetizer.is_due(now);
            let report = self.receiving.jitter_buffer.poll_report(now, is_due);
            let Some(packet) = self.packetizer.poll_packet(now, report) else { break };
            if link.send_features(&packet).await {
                self.tally.packets_out += 1;
            }
        }
        if let Some(model) = &mut self.model_out {
            while let Some(chunk) = model.poll_chunk() {
                let _ = link.send_control(&chunk.to_bytes()).await;
            }
        }
    }

    // Commands.

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Mute(muted) => {
                self.parts.muted = muted;
                self.say_media().await;
            }
            Command::CameraOff(off) => {
                self.parts.camera_off = off;
                if let Some(sending) = &self.parts.sending {
                    sending.order(Order::CameraOff(off));
                }
                self.say_media().await;
            }
            Command::Resolution(side) => self.parts.resolution = side,
            Command::Rate(rate) => self.set_rate(rate),
            Command::Chat(text) => self.control(&Control::Chat(text)).await,
            Command::Answer(text) => {
                if let Err(failure) = self.take_answer(&text).await {
                    self.fail(failure);
                }
            }
            Command::HangUp => self.end = Some(End::HungUp),
        }
    }

    /// From the next feature and sound on.
    fn set_rate(&mut self, rate: Rate) {
        self.parts.rate = rate;
        if let Some(sending) = &self.parts.sending {
            sending.order(Order::Rate(rate));
        }
        if let Some(encoder) = &mut self.parts.sound_encoder {
            encoder.set_rate(rate);
        }
    }

    async fn take_answer(&mut self, text: &str) -> Result<(), CallFailure> {
        let sealed = text.parse::<ManualAnswer>().map_err(|_| CallFailure::WrongAnswer)?;
        let opened = self.parts.seal.open(&sealed.0).map_err(|_| CallFailure::WrongAnswer)?;
        match (Signal::parse(&opened), &self.link) {
            (Ok(Signal::Answer(answer)), Some(link)) => Ok(link.accept(answer).await?),
            _ => Err(CallFailure::WrongAnswer),
        }
    }

    // The end.

    fn fail(&mut self, failure: CallFailure) {
        self.end.get_or_insert(End::Failed(failure));
    }

    fn tell(&self, event: Event) {
        // Nobody who leaves a thousand events unread misses one.
        let _ = self.parts.events.try_send(event);
    }

    async fn leave(mut self) {
        let bye = match &self.end {
            Some(End::HungUp) | None => Some(Bye::HungUp),
            Some(End::Failed(CallFailure::OtherVersion { .. })) => Some(Bye::OtherVersion),
            Some(End::Failed(_)) => Some(Bye::Failed),
            Some(End::PeerHungUp | End::PeerVanished) => None,
        };
        self.listening = None;
        self.parts.sending = None;
        if let Some(bye) = bye {
            if self.open == [true; 2] && !self.lost {
                self.control(&Control::Bye(bye)).await;
                let until = Instant::now() + FAREWELL;
                while let Some(link) = &self.link
                    && link.control_under_way().await > 0
                    && Instant::now() < until
                {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            } else {
                self.signal(&Signal::Leave);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        self.publish(Instant::now());
        if let Some(link) = self.link.take() {
            link.close().await;
        }
        let end = self.end.take().unwrap_or(End::HungUp);
        self.tell(Event::Ended(end));
    }
}
