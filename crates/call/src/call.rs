mod thread;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use capture::{Microphone, SoundError, Source, SourceSpec, Speaker, SpeakerSpec};
use codec::{Encoder, Profile};
use face::{FaceFile, FaceModel};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use track::PersonTracker;
use transport::{Invite, InviteError, MeetingPoint, Role, Secret};
use types::{Feature, Sound, SquareFrame};

use crate::addresses::published_addresses;
use crate::call_clock::CallClock;
use crate::certificate::generate_certificate;
use crate::connection::LinkSettings;
use crate::driver::{Driver, MAX_INPUTS, SoundSetup};
use crate::event::{CallFailure, Command, End, Event, LinkError};
use crate::face_encoder::FaceEncoder;
use crate::face_sender::{FaceSender, FaceSource};
use crate::offline::{DecodeStreamError, StreamDecoder};
use crate::random::random;
use crate::rendezvous::{EmbeddedRendezvous, ServeError};
use crate::session::{Exchange, Input, SessionConfig};
use crate::settings::{IceServer, LocalMedia, Meeting, Settings, SoundLevels, SoundSource};
use crate::shared::{Shared, lock};
use crate::signaling_client::SignalingClient;
use crate::signaling_error::SignalingError;
use crate::sound::{Listened, PlayedOn, Sounding, raise_priority};
use crate::stats::Stats;
use crate::wire_meter::WireMeter;
use thread::spawn;

/// Events that wait to be taken. More are dropped.
const MAX_EVENTS: usize = 1024;

/// Why a call could not be started. Show the message; nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The link is not an invite.
    #[error(transparent)]
    Invite(#[from] InviteError),
    /// The rendezvous service cannot be reached.
    #[error(transparent)]
    Signaling(#[from] SignalingError),
    /// The embedded rendezvous service cannot listen.
    #[error(transparent)]
    Listen(#[from] ServeError),
    /// WebRTC could not be set up.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The camera or clip cannot be opened.
    #[error(transparent)]
    Source(#[from] capture::OpenError),
    /// The microphone or speaker cannot be used as it was named.
    #[error(transparent)]
    Sound(#[from] SoundError),
    /// The file is not a recorded stream, or belongs to another face.
    #[error("cannot send the stream {}: {reason}", path.display())]
    Recorded {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        reason: DecodeStreamError,
    },
    /// A recorded stream cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        reason: std::io::Error,
    },
    /// [`Settings::relay_only`] needs a relay.
    #[error(
        "with relays alone there must be a relay: give a TURN server (--ice-server turn:HOST:PORT)"
    )]
    RelayWithoutServer,
    /// A recorded stream contains how a face moves, but not the face.
    #[error(
        "a recorded stream is sent with the face it was recorded with: give --face, and no --no-video"
    )]
    StreamWithoutFace,
    /// The face file is a peer's copy, which can be shown but not sent.
    #[error("this face file has no private part, so it cannot be sent; use the one you enrolled")]
    NotOurFace,
    /// The private part of the face file is damaged.
    #[error("the private part of the face file: {0}")]
    Sender(#[from] track::PersonError),
    /// The codec profile of the face file is damaged.
    #[error("the face file: {0}")]
    Profile(#[from] codec::ProfileError),
    /// The operating system cannot start threads.
    #[error("cannot start a call: {0}")]
    System(#[from] std::io::Error),
}

/// Handle of a call, from the wait for the peer until [`Event::Ended`].
///
/// Methods of a call return at once, except [`Call::next_event`], which waits up to its timeout.
/// [`Call::host`] and [`Call::join`] wait for the rendezvous service, and a host of a manual
/// meeting for its offer. Dropping a call hangs up and waits until its threads have ended.
pub struct Call {
    inputs: mpsc::Sender<Input>,
    events: Mutex<Receiver<Event>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Call {
    /// Opens a call and returns it with the invite link for the other side.
    ///
    /// # Errors
    /// If the rendezvous service, the face or the source cannot be used.
    #[expect(clippy::needless_pass_by_value, reason = "a call uses its settings up")]
    pub fn host(settings: Settings) -> Result<(Self, String), StartError> {
        let runtime = runtime()?;
        let secret = Secret::new(random());
        let room = secret.room();
        let (embedded, nearby, public) = match &settings.rendezvous {
            Meeting::Manual => return Self::host_manually(&settings, runtime, secret),
            Meeting::Embedded { listen } => {
                let loopback = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
                let listen = listen.or(settings.loopback.then_some(loopback));
                let start = async { EmbeddedRendezvous::start(listen, room.clone()) };
                let embedded = runtime.block_on(start)?;
                let (nearby, public) = addresses_of(&embedded);
                (Some(embedded), nearby, public)
            }
            Meeting::Service(address) => (None, address.to_connect(), vec![address.to_string()]),
        };
        let invite = Invite {
            meeting_point: MeetingPoint::Rendezvous { hosts: public, room },
            secret: secret.clone(),
        }
        .to_string();
        // An invite that would not open at the other end is noticed here.
        invite.parse::<Invite>()?;
        let key = secret.room_key();
        let setup = Setup::new(&settings, Role::Host, secret)?;
        let client = runtime.block_on(SignalingClient::enter(vec![nearby], key, Role::Host))?;
        let call = setup.start(runtime, Connection::Rendezvous(Box::new(client), embedded))?;
        Ok((call, invite))
    }

    /// Opens a call without a rendezvous service: the invite contains the offer.
    fn host_manually(
        settings: &Settings,
        runtime: Runtime,
        secret: Secret,
    ) -> Result<(Self, String), StartError> {
        let (sender, offer) = oneshot::channel();
        let setup = Setup::new(settings, Role::Host, secret.clone())?;
        let call = setup.start(runtime, Connection::ManualHost(sender))?;
        let Ok(offer) = offer.blocking_recv() else { return Err(call.failure()) };
        let invite = Invite { meeting_point: MeetingPoint::Manual { offer }, secret }.to_string();
        invite.parse::<Invite>()?;
        Ok((call, invite))
    }

    /// Joins the call that an invite link leads to; `invite` is what was pasted, with the text around the
    /// link.
    ///
    /// # Errors
    /// If the invite is damaged, the rendezvous service cannot be reached, or the face or the
    /// source cannot be used.
    #[expect(clippy::needless_pass_by_value, reason = "a call uses its settings up")]
    pub fn join(invite: &str, settings: Settings) -> Result<Self, StartError> {
        let invite = Invite::find(invite)?;
        let runtime = runtime()?;
        let key = invite.secret.room_key();
        let setup = Setup::new(&settings, Role::Guest, invite.secret)?;
        let connection = match invite.meeting_point {
            MeetingPoint::Manual { offer } => Connection::ManualGuest(offer),
            MeetingPoint::Rendezvous { hosts, .. } => {
                let client = runtime.block_on(SignalingClient::enter(hosts, key, Role::Guest))?;
                Connection::Rendezvous(Box::new(client), None)
            }
        };
        setup.start(runtime, connection)
    }

    /// Returns the next event, or `None` if there is none within `timeout`. After
    /// [`Event::Ended`] there is none any more.
    pub fn next_event(&self, timeout: Duration) -> Option<Event> {
        match lock(&self.events).recv_timeout(timeout) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => lock(&self.shared.end).take().map(Event::Ended),
        }
    }

    /// Queues a command; the call carries it out soon. It is dropped if the call has ended or its
    /// queue is full.
    pub fn command(&self, command: Command) {
        let _ = self.inputs.try_send(Input::Command(command));
    }

    /// Returns the peer's face with the layers of the last [`Event::ModelReady`]; `None` before
    /// the first.
    pub fn remote_model(&self) -> Option<Arc<FaceModel>> {
        lock(&self.shared.model).clone()
    }

    /// Returns the feature to show at `now`, on the local clock; `None` before the first. Times
    /// of successive calls must not decrease.
    pub fn feature_at(&self, now: Instant) -> Option<Feature> {
        lock(&self.shared.playout).at(now).map(|(feature, _)| feature)
    }

    /// Returns the newest frame of our own source; `None` while the camera is off, before the first
    /// frame, and if the source is a recorded stream, which has no pictures.
    pub fn preview(&self) -> Option<SquareFrame> {
        lock(&self.shared.preview).clone()
    }

    /// Returns the state of our microphone and camera, and our rate. A command shows here only
    /// after it was carried out.
    pub fn local_media(&self) -> LocalMedia {
        *lock(&self.shared.media)
    }

    /// Returns how loud both ends are now, for meters.
    pub fn sound_levels(&self) -> SoundLevels {
        lock(&self.shared.sound).levels
    }

    /// Returns statistics as of the last full second, or of the end.
    pub fn stats(&self) -> Stats {
        lock(&self.shared.stats).clone()
    }

    /// Removes and returns all features decoded since `take_received` was last called, oldest
    /// first, for a recording on the sender's clock. If the first has the same time as the last one
    /// that was returned before, it replaces that one. At most 8192 are kept; the oldest are
    /// dropped.
    ///
    /// The features are those of one peer. The flag says that it has left: the ones after these,
    /// with the next call, belong to another, whose clock has another beginning.
    pub fn take_received(&self) -> (Vec<Feature>, bool) {
        lock(&self.shared.received).take()
    }

    /// Removes and returns what was heard and said since the last call, mixed, in blocks of 10 ms with
    /// the peer's media time, oldest first. Sound is kept from the first call on, for at most a minute.
    /// It is ready half a second after it was heard.
    pub fn take_sound(&self) -> Vec<Sound> {
        lock(&self.shared.mixer).take()
    }

    /// Waits for the end of a call that could not be set up, and returns why.
    fn failure(&self) -> StartError {
        loop {
            let is_over = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            match self.next_event(Duration::from_millis(100)) {
                Some(Event::Ended(End::Failed(CallFailure::Link(error)))) => return error.into(),
                Some(Event::Ended(end)) => return std::io::Error::other(end.to_string()).into(),
                None if is_over => return std::io::Error::other("the call has stopped").into(),
                Some(_) | None => {}
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Waits for room in the queue: without this command, the join below would never return.
        let _ = self.inputs.blocking_send(Input::Command(Command::HangUp));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How this end is connected to the other before there is a link.
enum Connection {
    /// At a rendezvous service, which a host may run itself.
    Rendezvous(Box<SignalingClient>, Option<EmbeddedRendezvous>),
    /// Where the offer for the invite goes.
    ManualHost(oneshot::Sender<Vec<u8>>),
    /// The sealed offer of the invite.
    ManualGuest(Vec<u8>),
}

/// A call that is not running yet.
struct Setup {
    role: Role,
    secret: Secret,
    settings: Settings,
    face: Option<Bytes>,
    source: Option<FaceSource>,
    speaker: PlayedOn,
}

impl Setup {
    /// Opens the source and prepares tracker and encoder. Checks the names of microphone and speaker.
    fn new(settings: &Settings, role: Role, secret: Secret) -> Result<Self, StartError> {
        if settings.relay_only && !settings.ice_servers.iter().any(IceServer::is_relay) {
            return Err(StartError::RelayWithoutServer);
        }
        let has_source = settings.source.is_some();
        let face = settings.face.as_ref().filter(|_| settings.video && has_source);
        let source = settings.source.as_ref().map(|source| open(source, face)).transpose()?;
        let face = face.map(|face| Bytes::from(face.public_bytes()));
        // The bytes suffice from here on.
        let settings = Settings { face: None, ..settings.clone() };
        let speaker = check_sound(&settings)?;
        Ok(Self { role, secret, settings, face, source, speaker })
    }

    /// Starts the threads and the session.
    fn start(self, runtime: Runtime, connection: Connection) -> Result<Call, StartError> {
        let Self { role, secret, settings, face, source, speaker } = self;
        let (inputs, receiver) = mpsc::channel(MAX_INPUTS);
        let (events, event_receiver) = sync_channel(MAX_EVENTS);
        let audio = settings.audio;
        let sends_sound = audio && settings.sound_source != SoundSource::None;
        let media = LocalMedia {
            muted: !sends_sound,
            talks: false,
            camera_on: face.is_some(),
            shows_face: settings.show_face,
            rate: settings.rate,
        };
        let shared = Arc::new(Shared::new(media));
        let (exchange, signaling, rendezvous, invite_offer) = match connection {
            Connection::Rendezvous(client, embedded) => {
                (Exchange::Rendezvous, Some(client), embedded, None)
            }
            Connection::ManualHost(sender) => (Exchange::Manual(None), None, None, Some(sender)),
            Connection::ManualGuest(offer) => (Exchange::Manual(Some(offer)), None, None, None),
        };
        let clock = CallClock::default();
        let sounding = Sounding::new(clock.clone(), Arc::clone(&shared), inputs.clone());
        let is_heard = audio && matches!(settings.sound_source, SoundSource::Source);
        let source = source.map(|source| if is_heard { source } else { source.without_sound() });
        let mut face_sender = match source {
            Some(source) => Some(FaceSender::start(source, media, sounding.clone())?),
            None => None,
        };
        let listened = match settings.sound_source {
            SoundSource::Microphone(spec) if audio => {
                Some(Listened::Microphone(spec, settings.voice_processing))
            }
            SoundSource::Source if audio => {
                face_sender.as_mut().and_then(FaceSender::take_sounds).map(Listened::Source)
            }
            _ => None,
        };
        let sound = audio.then_some(SoundSetup { listened, speaker, sounding });
        let config = SessionConfig {
            role,
            secret,
            fresh_salt: Box::new(random),
            exchange,
            name: settings.name,
            media,
            face,
            auto_admit: settings.auto_admit,
            keep_link: settings.keep_link,
            sends_sound,
            has_sound: audio,
        };
        let link_settings = LinkSettings {
            ice_servers: settings.ice_servers,
            loopback: settings.loopback,
            relay_only: settings.relay_only,
            certificate: generate_certificate()?,
            gather_deadline: settings.gather_deadline,
            audio,
        };
        let (commands, published) = (inputs.clone(), Arc::clone(&shared));
        let work = async move {
            let signaling = signaling.map(|client| client.start(inputs.clone()));
            let driver = Driver {
                link_settings,
                signaling,
                rendezvous,
                face_sender,
                sound,
                clock,
                shared,
                meter: WireMeter::new(),
                events,
                inputs,
                invite_offer,
            };
            driver.run(config, receiver).await;
        };
        let thread = Some(spawn(runtime, Arc::clone(&published), work)?);
        let events = Mutex::new(event_receiver);
        Ok(Call { inputs: commands, events, shared: published, thread })
    }
}

/// Checks the microphone and the speaker: a file or a name that nobody can use is better known before there
/// is a peer. Files in place of a speaker are opened; devices are not.
fn check_sound(settings: &Settings) -> Result<PlayedOn, SoundError> {
    let spec = &settings.speaker;
    if settings.audio
        && let SoundSource::Microphone(spec) = &settings.sound_source
    {
        Microphone::check(spec)?;
    }
    match spec {
        _ if !settings.audio => Ok(PlayedOn::Device(SpeakerSpec::Silent)),
        SpeakerSpec::File(_) | SpeakerSpec::Silent => {
            Ok(PlayedOn::Open(Box::new(Speaker::open(spec)?)))
        }
        SpeakerSpec::Named(_) | SpeakerSpec::Default => {
            Speaker::check(spec)?;
            Ok(PlayedOn::Device(spec.clone()))
        }
    }
}

/// Opens a source, with tracker and encoder if there is a face to send.
fn open(source: &SourceSpec, face: Option<&FaceFile>) -> Result<FaceSource, StartError> {
    let stream = match source {
        SourceSpec::Clip(path) if is_stream(path) => Some(path.clone()),
        _ => None,
    };
    let Some(face) = face else {
        return match stream {
            Some(_) => Err(StartError::StreamWithoutFace),
            None => Ok(FaceSource::Preview(Source::open(source)?)),
        };
    };
    let sender = face.sender.as_deref().ok_or(StartError::NotOurFace)?;
    let encoder = Encoder::new(Profile::parse(&face.codec_profile)?);
    if let Some(path) = stream {
        let bytes = capture::read_file(&path, StreamDecoder::MAX_BYTES)
            .map_err(|reason| StartError::Unreadable { path: path.clone(), reason })?;
        let features = StreamDecoder::new(bytes, face)
            .map_err(|reason| StartError::Recorded { path, reason })?;
        return Ok(FaceSource::Recorded(Box::new(features), Box::new(encoder)));
    }
    let tracker = PersonTracker::new(sender, &face.model)?;
    let encoder = FaceEncoder::new(tracker, encoder);
    Ok(FaceSource::Tracked(Source::open(source)?, Box::new(encoder)))
}

/// Returns whether a path is that of a recorded stream, which has no sound.
pub fn is_stream(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("fcs"))
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("feathercall-net")
        .on_thread_start(raise_priority)
        .enable_all()
        .build()
}

/// Returns the address by which this machine reaches a service inside it, and those by which other
/// machines may, each as `HOST:PORT`.
fn addresses_of(service: &EmbeddedRendezvous) -> (String, Vec<String>) {
    let address = service.address();
    let with_port = |ip: IpAddr| SocketAddr::new(ip, address.port()).to_string();
    let nearby = match address.ip() {
        ip if ip == Ipv4Addr::UNSPECIFIED => Ipv4Addr::LOCALHOST.into(),
        ip if ip == Ipv6Addr::UNSPECIFIED => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let public = published_addresses(address.ip()).into_iter().map(with_port).collect();
    (with_port(nearby), public)
}
