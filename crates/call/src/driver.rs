//! The driver of a call: gives a [`Session`] its inputs and the time, and carries out its outputs.
//! It owns the links, the signaling connection, the threads and the clock, and decides nothing.
#![expect(clippy::disallowed_methods, reason = "the clock of a call is read here")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use capture::DeviceChange;
use rayon::ThreadPoolBuilder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use transport::Playout;

use crate::call_clock::CallClock;
use crate::certificate::generate_certificate;
use crate::connection::LinkSettings;
use crate::event::{End, Event};
use crate::face_sender::FaceSender;
use crate::link::LinkHandle;
use crate::rendezvous::EmbeddedRendezvous;
use crate::session::{
    EncoderCommand, FaceReadJob, Input, LinkCommand, LinkEvent, LinkId, Output, ReadFace, Session,
    SessionConfig,
};
use crate::shared::{Shared, lock};
use crate::signaling_client::RunningClient;
use crate::sound::{
    ListenThread, Listened, PlayThread, PlayedOn, Sounding, Wanted, lower_priority,
};
use crate::stats::Stats;
use crate::wire_meter::WireMeter;

/// Inputs that wait for the session. When the queue is full, threads and links wait.
pub(crate) const MAX_INPUTS: usize = 512;
/// Inputs handled before the session may send.
const MAX_BATCH: usize = 64;
/// How long links may take to close at the end of a call.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the file in place of a speaker may take to reach the disk.
const FILE_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything outside the session that a call consists of.
pub(crate) struct Driver {
    pub(crate) link_settings: LinkSettings,
    pub(crate) signaling: Option<RunningClient>,
    /// Service inside this host, at which the peers meet.
    pub(crate) rendezvous: Option<EmbeddedRendezvous>,
    pub(crate) face_sender: Option<FaceSender>,
    /// What the threads of sound need, until they start.
    pub(crate) sound: Option<SoundSetup>,
    /// Starts when the peers are connected.
    pub(crate) clock: CallClock,
    pub(crate) shared: Arc<Shared>,
    pub(crate) meter: Arc<WireMeter>,
    pub(crate) events: SyncSender<Event>,
    /// For the threads and tasks that the driver starts.
    pub(crate) inputs: mpsc::Sender<Input>,
    /// Receives the sealed offer for the invite of a manual call.
    pub(crate) invite_offer: Option<oneshot::Sender<Vec<u8>>>,
}

/// What the threads of sound start with.
pub(crate) struct SoundSetup {
    /// What is listened to; `None` if no sound is sent.
    pub(crate) listened: Option<Listened>,
    pub(crate) speaker: PlayedOn,
    pub(crate) sounding: Sounding,
}

/// A driver with its session and what it has started.
struct Running {
    session: Session,
    driver: Driver,
    /// Links that were not closed.
    links: HashMap<LinkId, LinkHandle>,
    /// Tasks of all links, those that are closing included.
    link_tasks: Vec<JoinHandle<()>>,
    listening: Option<ListenThread>,
    playing: Option<PlayThread>,
}

impl Driver {
    /// Runs the session until it has ended, closes everything, and publishes how it ended.
    pub(crate) async fn run(self, config: SessionConfig, mut inputs: mpsc::Receiver<Input>) {
        let mut running = Running {
            session: Session::new(config, Instant::now()),
            driver: self,
            links: HashMap::new(),
            link_tasks: Vec::new(),
            listening: None,
            playing: None,
        };
        loop {
            if let Some(end) = running.carry_out_outputs() {
                // Threads that wait to hand over an input must not wait any longer.
                drop(inputs);
                return running.close(end).await;
            }
            running.handle_inputs(&mut inputs).await;
        }
    }
}

impl Running {
    /// Waits for inputs or for the session's timeout, and hands over everything that has come.
    async fn handle_inputs(&mut self, inputs: &mut mpsc::Receiver<Input>) {
        let session = &mut self.session;
        let first = match session.poll_timeout() {
            Some(due) => tokio::time::timeout_at(due.into(), inputs.recv()).await.ok().flatten(),
            None => inputs.recv().await,
        };
        let now = Instant::now();
        let others = std::iter::from_fn(|| inputs.try_recv().ok()).take(MAX_BATCH);
        for input in first.into_iter().chain(others) {
            session.handle(input, now);
        }
        session.handle(Input::Wire(self.driver.meter.count()), now);
        session.handle(Input::Decode, now);
        session.handle(Input::Timeout, now);
    }

    /// Carries out the session's outputs. Returns how it has ended, once it has.
    fn carry_out_outputs(&mut self) -> Option<End> {
        while let Some(output) = self.session.poll_output() {
            let driver = &mut self.driver;
            match output {
                Output::Link(id, command) => self.command_link(id, command),
                Output::Signal(sealed) => {
                    if let Some(signaling) = &driver.signaling {
                        signaling.send(sealed);
                    }
                }
                Output::ReconnectSignaling => driver.reconnect_signaling(),
                Output::InviteOffer(sealed) => {
                    if let Some(invite_offer) = driver.invite_offer.take() {
                        let _ = invite_offer.send(sealed);
                    }
                }
                Output::Encoder(command) => {
                    if command == EncoderCommand::Start {
                        driver.clock.start(Instant::now());
                    }
                    if let Some(sender) = &driver.face_sender {
                        sender.command(command);
                    }
                }
                Output::RenewCertificate => {
                    // Without a new one the old one stays: the call is then as safe as its invite.
                    if let Ok(certificate) = generate_certificate() {
                        driver.link_settings.certificate = certificate;
                    }
                }
                Output::StartSound => self.start_sound(),
                Output::Voice(command) => {
                    if let Some(listening) = &self.listening {
                        listening.update(|wanted| command.apply(wanted));
                    }
                }
                Output::PlaySound { arrived, packet } => {
                    if let Some(playing) = &self.playing {
                        playing.push(arrived, packet);
                    }
                }
                Output::Features { arrived, features, clock_shift } => {
                    if let Some(playing) = &self.playing {
                        playing.set_clock_shift(clock_shift);
                    }
                    lock(&driver.shared.playout).push(arrived, &features);
                    lock(&driver.shared.received).extend(features);
                }
                Output::ReadFace(job) => {
                    let (inputs, broken_off) = (driver.inputs.clone(), job.broken_off());
                    let reading = tokio::task::spawn_blocking(move || run_on_one_thread(job));
                    tokio::spawn(async move {
                        let read = reading.await.unwrap_or(broken_off);
                        let _ = inputs.send(Input::FaceRead(Box::new(read))).await;
                    });
                }
                Output::PeerFace(model) => *lock(&driver.shared.model) = Some(model),
                Output::ForgetPeer => {
                    lock(&driver.shared.received).end_peer();
                    *lock(&driver.shared.model) = None;
                    *lock(&driver.shared.playout) = Playout::new();
                    if let Some(playing) = &self.playing {
                        playing.forget_peer();
                    }
                }
                Output::LocalMedia(media) => *lock(&driver.shared.media) = media,
                Output::Stats(stats) => self.publish(*stats),
                Output::Event(event) => {
                    if let (Event::Connected { .. }, Some(playing)) = (&event, &self.playing) {
                        // What was heard before it came is not on its clock.
                        let mut mixer = lock(&driver.shared.mixer);
                        playing.begin_peer(driver.clock.at(Instant::now()));
                        mixer.forget_peer();
                    }
                    driver.emit(event);
                }
                Output::End(end) => return Some(end),
            }
        }
        None
    }

    /// Passes a command to its link, without waiting. An offer or an answer creates the link; other
    /// commands for a link that was closed are dropped.
    fn command_link(&mut self, id: LinkId, command: LinkCommand) {
        if matches!(command, LinkCommand::Offer | LinkCommand::Answer(_)) {
            let driver = &self.driver;
            let (settings, meter) = (driver.link_settings.clone(), Arc::clone(&driver.meter));
            let (handle, task) = LinkHandle::start(id, settings, meter, driver.inputs.clone());
            self.links.insert(id, handle);
            self.link_tasks.retain(|task| !task.is_finished());
            self.link_tasks.push(task);
        }
        if command == LinkCommand::Close {
            self.links.remove(&id);
        } else if let Some(link) = self.links.get(&id)
            && let Err(error) = link.command(command)
        {
            self.links.remove(&id);
            self.session.handle(Input::Link(id, LinkEvent::Error(error)), Instant::now());
        }
    }

    /// Starts the threads of sound. Without one of them there is no sound, as without its device.
    fn start_sound(&mut self) {
        let Some(SoundSetup { listened, speaker, sounding }) = self.driver.sound.take() else {
            return;
        };
        let media = *lock(&self.driver.shared.media);
        let wanted = Wanted::new(!media.sends_sound(), media.rate);
        self.listening = listened.and_then(|listened| {
            started(ListenThread::start(listened, wanted, sounding.clone()), &sounding)
        });
        self.playing = started(PlayThread::start(speaker, sounding.clone()), &sounding);
    }

    /// Publishes statistics, completed by what the session does not know.
    fn publish(&self, mut stats: Stats) {
        let shared = &self.driver.shared;
        let delay = lock(&shared.playout).delay();
        stats.playout_delay_ms = delay.as_secs_f64() * 1000.0;
        if let Some(playing) = &self.playing {
            playing.figures().complete(&mut stats);
        }
        let sound = *lock(&shared.sound);
        stats.microphone_delay_ms = sound.microphone_delay.as_secs_f64() * 1000.0;
        stats.microphone_gaps = sound.n_dropped;
        *lock(&shared.stats) = stats;
    }

    async fn close(self, end: End) {
        let Self { mut driver, links, link_tasks, listening, playing, .. } = self;
        // Joining a thread takes a moment. It must not hold up the goodbye.
        drop((links, listening));
        let played = playing.map(|playing| tokio::task::spawn_blocking(|| playing.finish()));
        let face_sender = driver.face_sender.take();
        let tracked = tokio::task::spawn_blocking(move || drop(face_sender));
        let all_closed = async {
            for task in link_tasks {
                let _ = task.await;
            }
            let _ = tracked.await;
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, all_closed).await;
        if let Some(signaling) = driver.signaling.take() {
            signaling.close().await;
        }
        if let Some(played) = played {
            let why =
                "the disk does not answer; what there is has \".part\" in its name".to_owned();
            let changes = match tokio::time::timeout(FILE_TIMEOUT, played).await {
                Ok(changes) => changes.unwrap_or_default(),
                Err(_) => vec![DeviceChange::NotCompleted { why }],
            };
            for change in changes {
                driver.emit(Event::SoundDevice(change));
            }
        }
        *lock(&driver.shared.end) = Some(end);
    }
}

/// Returns a thread of sound, or tells the session why there is none.
fn started<T>(thread: std::io::Result<T>, sounding: &Sounding) -> Option<T> {
    let report = |error| sounding.report(Input::NoSound(format!("no thread for sound: {error}")));
    thread.map_err(report).ok()
}

/// Reads a face on one thread, behind everything that is urgent: in the pool of all threads it would be
/// before the tracker of our own face. The thread has the name of those that run tasks of the network,
/// whose panics end no call.
fn run_on_one_thread(job: FaceReadJob) -> ReadFace {
    let pool = ThreadPoolBuilder::new()
        .num_threads(1)
        .thread_name(|_| "feathercall-net".to_owned())
        .start_handler(|_| lower_priority());
    match pool.build() {
        Ok(pool) => pool.install(|| job.run()),
        Err(_) => job.run(),
    }
}

impl Driver {
    /// Opens the embedded rendezvous service, and takes our seat again.
    fn reconnect_signaling(&self) {
        if let Some(rendezvous) = &self.rendezvous {
            rendezvous.set_open(true);
        }
        if let Some(signaling) = &self.signaling {
            signaling.reconnect();
        }
    }

    /// Queues an event, or drops it when a thousand others wait already. While the peers are
    /// connected, nobody else can reach the embedded rendezvous service.
    fn emit(&self, event: Event) {
        if let (Some(rendezvous), Event::Connected { .. } | Event::PeerBack) =
            (&self.rendezvous, &event)
        {
            rendezvous.set_open(false);
        }
        let _ = self.events.try_send(event);
    }
}
