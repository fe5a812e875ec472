use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use capture::{Source, SourceSpec};
use codec::{Encoder, Profile};
use face::{FaceFile, FaceModel};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use track::PersonTracker;
use transport::{Invite, InviteError, MeetingPoint, PlayoutSource, Role, Seal, Secret, Signal};
use types::{Feature, SquareFrame};

use crate::event::{CallFailure, Command, Event};
use crate::face_coder::FaceCoder;
use crate::link::{Link, LinkError, LinkSettings, local_address};
use crate::offline::{DecodeStreamError, decode_stream};
use crate::rendezvous::{Rendezvous, ServeError};
use crate::sending::{Sending, Showing};
use crate::session::{INPUTS, Input, Parts, Session, Way, random};
use crate::shared::Shared;
use crate::signaling::{Line, LineEvent, SignalingError};
use crate::sound::Playing;
use crate::sound::SoundEncoder;
use crate::wire::WireMeter;
use crate::{Meeting, Settings, Stats};

/// Events nobody has taken yet.
const EVENTS: usize = 1024;

/// Why a call could not be started. Show the message; nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The link is not an invite.
    #[error(transparent)]
    Invite(#[from] InviteError),
    /// Nobody answers where the invite points to.
    #[error(transparent)]
    Signaling(#[from] SignalingError),
    /// The embedded rendezvous service has no place.
    #[error(transparent)]
    Listen(#[from] ServeError),
    /// WebRTC could not be set up.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The camera or clip.
    #[error(transparent)]
    Source(#[from] capture::OpenError),
    /// A recorded stream is not one, or of another face.
    #[error("cannot send the stream {}: {reason}", path.display())]
    Recorded {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        reason: DecodeStreamError,
    },
    /// A recorded stream cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        reason: std::io::Error,
    },
    /// A recorded stream says how a face moves, not whose.
    #[error(
        "a recorded stream is sent with the face it was recorded with: give --face, and no --no-video"
    )]
    StreamWithoutFace,
    /// A peer's copy of a face can be shown, not worn.
    #[error("this face file has no private part, so it cannot be sent; use the one you enrolled")]
    NotOurFace,
    /// The private part is damaged.
    #[error("the private part of the face file: {0}")]
    Sender(#[from] track::PersonError),
    /// The codec's part is damaged.
    #[error("the face file: {0}")]
    Profile(#[from] codec::ProfileError),
    /// No threads to be had.
    #[error("cannot start a call: {0}")]
    System(#[from] std::io::Error),
}

/// A call, from before the peer is there until [`Event::Ended`].
///
/// All methods return at once, but [`Call::next_event`], which waits as long as it is told.
/// Dropping a call hangs up.
pub struct Call {
    commands: mpsc::Sender<Input>,
    events: Mutex<Receiver<Event>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Call {
    /// Opens a call and returns the invite for the other side; then waits for it.
    ///
    /// # Errors
    /// If the meeting place, the face or the source cannot be had.
    #[expect(clippy::needless_pass_by_value, reason = "a call uses its settings up")]
    pub fn host(settings: Settings) -> Result<(Self, Invite), StartError> {
        let runtime = runtime()?;
        let secret = Secret::new(random());
        let mut setup = Setup::new(&settings, Role::Host, secret.clone())?;
        let (way, lines, meeting_point) = match &settings.rendezvous {
            Meeting::Manual => {
                let (link, events, offer) = runtime.block_on(async {
                    let (mut link, events) =
                        Link::new(&setup.parts.link_settings, Arc::clone(&setup.parts.meter))
                            .await?;
                    let offer = link.offer().await?;
                    Ok::<_, LinkError>((link, events, offer))
                })?;
                let offer = setup.parts.seal.seal(&Signal::Offer(offer).to_bytes());
                (Way::ManualHost(link, events), None, MeetingPoint::Manual { offer })
            }
            Meeting::Embedded { listen } => {
                let any: IpAddr = if settings.loopback {
                    Ipv4Addr::LOCALHOST.into()
                } else {
                    Ipv4Addr::UNSPECIFIED.into()
                };
                let listen = listen.unwrap_or(SocketAddr::new(any, 0));
                let address = runtime.block_on(async {
                    let service = Rendezvous::bind(listen).await?;
                    let address = service.address();
                    tokio::spawn(service.run());
                    Ok::<_, ServeError>(address)
                })?;
                let host = SocketAddr::new(reachable(address.ip()), address.port()).to_string();
                let nearby = SocketAddr::new(
                    if address.ip().is_unspecified() {
                        Ipv4Addr::LOCALHOST.into()
                    } else {
                        address.ip()
                    },
                    address.port(),
                );
                let (line, lines) =
                    runtime.block_on(Line::enter(&nearby.to_string(), &secret.room()))?;
                (
                    Way::Line(line),
                    Some(lines),
                    MeetingPoint::Rendezvous { host, room: secret.room() },
                )
            }
            Meeting::Url(host) => {
                let host = host.trim_start_matches("ws://").trim_end_matches('/').to_owned();
                let meeting_point =
                    MeetingPoint::Rendezvous { host: host.clone(), room: secret.room() };
                let (line, lines) = runtime.block_on(Line::enter(&host, &secret.room()))?;
                (Way::Line(line), Some(lines), meeting_point)
            }
        };
        let invite = Invite { meeting_point, secret };
        // An invite that would not open at the other end is noticed here.
        invite.to_string().parse::<Invite>()?;
        Ok((setup.run(runtime, way, lines)?, invite))
    }

    /// Joins the call that an invite leads to.
    ///
    /// # Errors
    /// If the invite is damaged, nobody waits there, or the face or the source cannot be had.
    #[expect(clippy::needless_pass_by_value, reason = "a call uses its settings up")]
    pub fn join(invite: &str, settings: Settings) -> Result<Self, StartError> {
        let invite: Invite = invite.parse()?;
        let runtime = runtime()?;
        let setup = Setup::new(&settings, Role::Guest, invite.secret)?;
        let (way, lines) = match invite.meeting_point {
            MeetingPoint::Manual { offer } => (Way::ManualGuest(offer), None),
            MeetingPoint::Rendezvous { host, room } => {
                let (line, lines) = runtime.block_on(Line::enter(&host, &room))?;
                (Way::Line(line), Some(lines))
            }
        };
        setup.run(runtime, way, lines)
    }

    /// The next event, waiting for one up to `timeout`.
    pub fn next_event(&self, timeout: Duration) -> Option<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(timeout).ok()
    }

    /// Says what the user wants. After the end, nothing happens.
    pub fn command(&self, command: Command) {
        let _ = self.commands.try_send(Input::Command(command));
    }

    /// The peer's face, as fine as the last [`Event::ModelReady`] has said.
    pub fn remote_model(&self) -> Option<Arc<FaceModel>> {
        lock(&self.shared.model).clone()
    }

    /// What the peer's face does at `now`; call with times that do not go back.
    pub fn feature_at(&self, now: Instant) -> Option<Feature> {
        lock(&self.shared.playout).at(now).map(|(feature, _)| feature)
    }

    /// As [`Call::feature_at`], with how the feature came about.
    pub fn shown_at(&self, now: Instant) -> Option<(Feature, PlayoutSource)> {
        lock(&self.shared.playout).at(now)
    }

    /// What our source saw last.
    pub fn preview(&self) -> Option<SquareFrame> {
        lock(&self.shared.preview).clone()
    }

    /// The call in figures, as of its last full second (or of its end).
    pub fn stats(&self) -> Stats {
        lock(&self.shared.stats).clone()
    }

    /// Every feature decoded since the last call, in media-time order: for a recording on the
    /// sender's clock. One of the same time as the one before it is better and takes its place. The
    /// oldest are dropped when over five minutes are left.
    pub fn take_received(&self) -> Vec<Feature> {
        lock(&self.shared.received).drain()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.command(Command::HangUp);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What goes to the peer, or to our own eyes alone.
fn open(source: &SourceSpec, face: Option<&FaceFile>) -> Result<Showing, StartError> {
    let stream = match source {
        SourceSpec::Clip(path) if is_stream(path) => Some(path.clone()),
        _ => None,
    };
    let Some(face) = face else {
        return match stream {
            Some(_) => Err(StartError::StreamWithoutFace),
            None => Ok(Showing::Preview(Source::open(source)?)),
        };
    };
    let sender = face.sender.as_deref().ok_or(StartError::NotOurFace)?;
    let encoder = Encoder::new(Profile::parse(&face.codec_profile)?);
    if let Some(path) = stream {
        let bytes = std::fs::read(&path)
            .map_err(|reason| StartError::Unreadable { path: path.clone(), reason })?;
        let features =
            decode_stream(&bytes, face).map_err(|reason| StartError::Recorded { path, reason })?;
        return Ok(Showing::Recorded(features.iter().copied().collect(), Box::new(encoder)));
    }
    let tracker = PersonTracker::new(sender, &face.model)?;
    Ok(Showing::Face(Source::open(source)?, Box::new(FaceCoder::new(tracker, encoder))))
}

fn is_stream(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("fcs"))
}

/// A call that has not found its way yet.
struct Setup {
    parts: Parts,
    inputs: mpsc::Receiver<Input>,
    events: Receiver<Event>,
}

impl Setup {
    fn new(settings: &Settings, role: Role, secret: Secret) -> Result<Self, StartError> {
        let (inputs_tx, inputs) = mpsc::channel(INPUTS);
        let (events_tx, events): (SyncSender<Event>, _) = sync_channel(EVENTS);
        let shared = Arc::new(Shared::default());
        let face = settings.face.as_ref().filter(|_| settings.video && settings.source.is_some());
        let public = face.map(FaceFile::public_bytes);
        let showing = settings.source.as_ref().map(|source| open(source, face)).transpose()?;
        let start = |showing| {
            let (shared, inputs) = (Arc::clone(&shared), inputs_tx.clone());
            Sending::start(showing, settings.rate, settings.audio, shared, inputs)
        };
        let sending = showing.map(start).transpose()?;
        let parts = Parts {
            role,
            seal: Seal::new(secret.clone(), role, random()),
            secret,
            link_settings: LinkSettings {
                ice_servers: settings.ice_servers.clone(),
                loopback: settings.loopback,
                gather_deadline: settings.gather_deadline,
                audio: settings.audio,
            },
            name: settings.name.clone(),
            rate: settings.rate,
            resolution: settings.resolution,
            face: public.map(Bytes::from),
            camera_off: face.is_none(),
            muted: !settings.audio,
            sending,
            wants_microphone: settings.audio
                && matches!(settings.source, Some(SourceSpec::Camera(_))),
            sound_encoder: settings.audio.then(|| SoundEncoder::new(settings.rate)).flatten(),
            playing: if settings.audio { Some(Playing::start(inputs_tx.clone())?) } else { None },
            shared,
            meter: WireMeter::new(),
            events: events_tx,
            inputs: inputs_tx,
        };
        Ok(Self { parts, inputs, events })
    }

    fn run(
        self,
        runtime: Runtime,
        way: Way,
        lines: Option<mpsc::Receiver<LineEvent>>,
    ) -> Result<Call, StartError> {
        let Self { parts, inputs, events } = self;
        let (commands, shared) = (parts.inputs.clone(), Arc::clone(&parts.shared));
        let thread =
            std::thread::Builder::new().name("feathercall-call".to_owned()).spawn(move || {
                runtime.block_on(async {
                    if let Some(mut lines) = lines {
                        let inputs = parts.inputs.clone();
                        tokio::spawn(async move {
                            while let Some(event) = lines.recv().await {
                                if inputs.send(Input::Line(event)).await.is_err() {
                                    return;
                                }
                            }
                        });
                    }
                    Session::new(parts).run(way, inputs).await;
                });
                runtime.shutdown_timeout(Duration::from_millis(200));
            })?;
        Ok(Call { commands, events: Mutex::new(events), shared, thread: Some(thread) })
    }
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("feathercall-net")
        .enable_all()
        .build()
}

/// The address under which others reach a service that listens on `ip`.
fn reachable(ip: IpAddr) -> IpAddr {
    if ip.is_unspecified() {
        local_address(ip.is_ipv6()).unwrap_or(Ipv4Addr::LOCALHOST.into())
    } else {
        ip
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<CallFailure> for Event {
    fn from(failure: CallFailure) -> Self {
        Self::Ended(crate::End::Failed(failure))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "real calls take real time")]
mod tests {
    use codec::Encoder;
    use face::{FaceFile, Sizes};
    use types::{Code, HeadPose, MediaTime};

    use super::*;
    use crate::End;
    use crate::face_coder::Taken;
    use crate::offline::name_of;

    /// Nothing here takes this long; a test that waits longer is broken.
    const PATIENCE: Duration = Duration::from_mins(1);

    fn settings(rendezvous: Meeting) -> Settings {
        Settings { loopback: true, audio: false, rendezvous, ..Settings::default() }
    }

    /// Events up to the first that `is_it`, which is the last of them.
    fn until(call: &Call, is_it: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            events.push(call.next_event(PATIENCE).expect("something happens"));
            let last = &events[events.len() - 1];
            if is_it(last) {
                return events;
            }
            assert!(!matches!(last, Event::Ended(_)), "{events:?}");
        }
    }

    fn connected(call: &Call) -> String {
        match until(call, |event| matches!(event, Event::Connected { .. })).pop() {
            Some(Event::Connected { peer_name }) => peer_name,
            _ => unreachable!(),
        }
    }

    /// A host as [`Call::host`] makes it, that shows a face without owning one.
    fn host_with_face(face: &FaceFile) -> (Call, Invite) {
        let settings = settings(Meeting::default());
        let runtime = runtime().unwrap();
        let secret = Secret::new([7; 16]);
        let mut setup = Setup::new(&settings, Role::Host, secret.clone()).unwrap();
        setup.parts.face = Some(Bytes::from(face.public_bytes()));
        let (line, lines, host) = runtime.block_on(async {
            let service = Rendezvous::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
            let host = service.address().to_string();
            tokio::spawn(service.run());
            let (line, lines) = Line::enter(&host, &secret.room()).await.unwrap();
            (line, lines, host)
        });
        let meeting_point = MeetingPoint::Rendezvous { host, room: secret.room() };
        (
            setup.run(runtime, Way::Line(line), Some(lines)).unwrap(),
            Invite { meeting_point, secret },
        )
    }

    fn nod(index: u64) -> Feature {
        let angle = (index as f32 * 0.3).sin() * 0.2;
        Feature {
            time: MediaTime::of_frame(index, 25),
            pose: HeadPose::from_array([angle, 0.0, 0.0, 0.0, 0.0, 1.0]).unwrap(),
            code: Code::NEUTRAL,
        }
    }

    #[test]
    fn a_face_and_its_features_cross_and_are_decoded() {
        let model = FaceModel::untrained(Sizes::tiny(), 1);
        let profile = Profile::default();
        let face = FaceFile::new(&model, profile.to_bytes(), None).unwrap();
        let (host, invite) = host_with_face(&face);
        let guest = Call::join(&invite.to_string(), settings(Meeting::default())).unwrap();
        connected(&host);
        let whole = |event: &Event| matches!(event, Event::ModelReady { layers: 3, of: 3 });
        let events = until(&guest, whole);
        assert!(events.iter().any(|event| matches!(event, Event::ModelProgress(_))));
        assert_eq!(*guest.remote_model().unwrap(), face.model);

        let mut encoder = Encoder::new(profile.clone());
        let mut received = Vec::new();
        for index in 0.. {
            let taken = Taken { found: true, unit: encoder.push(&nod(index), true).map(Box::new) };
            let tracked = Input::Tracked { taken, rate: types::Rate::Normal, took: Duration::ZERO };
            host.commands.blocking_send(tracked).unwrap();
            // At the pace of the other side, so that nothing is dropped on the way.
            while host.commands.capacity() < INPUTS {
                std::thread::yield_now();
            }
            received.extend(guest.take_received());
            // Each unit tells of the one before, too.
            if received.len() >= 40 {
                break;
            }
            assert!(index < 1_000_000);
        }
        assert!(received.windows(2).all(|pair| pair[0].time <= pair[1].time));
        assert!(received.windows(3).all(|three| three[0].time < three[2].time));
        for feature in &received {
            let index = feature.time.as_micros() / 40_000;
            let error = feature.pose.rotation().x - nod(index).pose.rotation().x;
            assert!(error.abs() < 0.01, "{error} at feature {index}");
        }
        assert!(guest.feature_at(Instant::now()).is_some());
        host.command(Command::HangUp);
        let end = until(&guest, |event| matches!(event, Event::Ended(_))).pop();
        assert!(matches!(end, Some(Event::Ended(End::PeerHungUp))));
        let stats = guest.stats();
        assert!(stats.features_in >= 20 && stats.decode_errors == 0, "{stats:?}");
        assert!(stats.wire_bytes_in > stats.payload_bytes_in && stats.datagrams_in > 0);
    }

    fn demo() -> FaceFile {
        FaceFile::parse(include_bytes!("../../../assets/demo.face")).unwrap()
    }

    #[test]
    fn a_recorded_stream_is_seen_again() {
        let face = demo();
        let profile = Profile::parse(&face.codec_profile).unwrap();
        let mut encoder = Encoder::with_reference(profile, codec::Reference::Previous);
        let units = (0..20)
            .filter_map(|i| encoder.push(&nod(2 * i), true))
            .map(|unit| (unit.time, unit.unit))
            .collect();
        let stream = codec::Stream { face: name_of(&face), units };
        let path = std::env::temp_dir().join(format!("seen-again-{}.fcs", std::process::id()));
        std::fs::write(&path, stream.to_bytes()).unwrap();
        let source = Some(SourceSpec::Clip(path.clone()));
        let host = Settings { face: Some(face), source, ..settings(Meeting::default()) };
        let (host, invite) = Call::host(host).unwrap();
        std::fs::remove_file(path).unwrap();
        let guest = Call::join(&invite.to_string(), settings(Meeting::default())).unwrap();
        until(&host, |event| matches!(event, Event::SourceEnded { error: None }));
        until(&guest, |event| matches!(event, Event::ModelReady { .. }));
        let deadline = Instant::now() + PATIENCE;
        let mut received = Vec::new();
        while received.last().is_none_or(|last: &Feature| last.time < nod(38).time) {
            assert!(Instant::now() < deadline, "{} came", received.len());
            received.extend(guest.take_received());
            std::thread::yield_now();
        }
        for feature in received {
            let index = feature.time.as_micros() / 40_000;
            let error = feature.pose.rotation().x - nod(index).pose.rotation().x;
            // Quantized twice.
            assert!(error.abs() < 0.03, "{error} at {index}");
        }
    }

    #[test]
    fn a_stream_without_its_face_is_refused() {
        let source = Some(SourceSpec::Clip("none.fcs".into()));
        let call = |face| {
            let settings = Settings { face, source: source.clone(), ..Settings::default() };
            Call::host(settings).map(|_| ()).unwrap_err().to_string()
        };
        assert!(call(None).contains("--face"));
        assert!(call(Some(demo())).contains("cannot read none.fcs"));
        let public = FaceFile::parse(&demo().public_bytes()).unwrap();
        assert!(call(Some(public)).contains("no private part"));
    }

    /// Why no call begins with this stream for a source.
    fn refused(file: &str, face: [u8; 8]) -> StartError {
        let path = std::env::temp_dir().join(format!("{}-{file}", std::process::id()));
        std::fs::write(&path, codec::Stream { face, units: Vec::new() }.to_bytes()).unwrap();
        let source = Some(SourceSpec::Clip(path.clone()));
        let settings = Settings { face: Some(demo()), source, ..Settings::default() };
        let refused = Call::host(settings).map(|_| ()).unwrap_err();
        std::fs::remove_file(path).unwrap();
        refused
    }

    #[test]
    fn a_stream_of_another_face_is_refused() {
        let refused = refused("other.fcs", [7; 8]).to_string();
        assert!(refused.contains("another face"), "{refused}");
    }

    #[test]
    fn a_stream_without_a_feature_is_refused() {
        let refused = refused("empty.FCS", name_of(&demo()));
        assert!(refused.to_string().contains("no face"), "{refused}");
    }

    #[test]
    fn two_peers_meet_talk_and_part() {
        let host_settings = Settings { name: "Ada".into(), ..settings(Meeting::default()) };
        let (host, invite) = Call::host(host_settings).unwrap();
        let guest = Call::join(&invite.to_string(), settings(Meeting::default())).unwrap();
        assert_eq!(connected(&guest), "Ada");
        connected(&host);
        guest.command(Command::Chat("hello".into()));
        let events = until(&host, |event| matches!(event, Event::Chat(_)));
        assert!(matches!(events.last(), Some(Event::Chat(text)) if text == "hello"));
        drop(guest);
        let end = until(&host, |event| matches!(event, Event::Ended(_))).pop();
        assert!(matches!(end, Some(Event::Ended(End::PeerHungUp))));
    }

    #[test]
    fn two_peers_meet_without_a_service() {
        let (host, invite) = Call::host(settings(Meeting::Manual)).unwrap();
        let guest = Call::join(&invite.to_string(), settings(Meeting::Manual)).unwrap();
        let ready = until(&guest, |event| matches!(event, Event::AnswerReady(_))).pop();
        let Some(Event::AnswerReady(answer)) = ready else { unreachable!() };
        host.command(Command::Answer(answer));
        connected(&host);
        connected(&guest);
    }

    #[test]
    fn an_answer_to_another_invite_ends_the_call_with_a_reason() {
        let (host, _) = Call::host(settings(Meeting::Manual)).unwrap();
        host.command(Command::Answer("feathercall-answer:AAAA".into()));
        let end = until(&host, |event| matches!(event, Event::Ended(_))).pop();
        assert!(matches!(end, Some(Event::Ended(End::Failed(CallFailure::WrongAnswer)))));
    }

    #[test]
    fn a_third_peer_is_turned_away() {
        let (host, invite) = Call::host(settings(Meeting::default())).unwrap();
        let guest = Call::join(&invite.to_string(), settings(Meeting::default())).unwrap();
        connected(&host);
        let third = Call::join(&invite.to_string(), settings(Meeting::default())).unwrap();
        let end = until(&third, |event| matches!(event, Event::Ended(_))).pop();
        assert!(matches!(end, Some(Event::Ended(End::Failed(CallFailure::RoomIsFull)))));
        connected(&guest);
    }

    #[test]
    fn a_slip_in_the_invite_is_told_before_anything_is_tried() {
        let (_host, invite) = Call::host(settings(Meeting::default())).unwrap();
        let mut link = invite.to_string();
        link.pop();
        let refused = Call::join(&link, settings(Meeting::default()));
        assert!(matches!(refused, Err(StartError::Invite(InviteError::Checksum))));
    }
}
