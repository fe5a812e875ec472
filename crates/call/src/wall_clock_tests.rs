//! Tests that need real sockets and the wall clock. Everything else is tested on a virtual clock,
//! in `session/tests`.
#![expect(clippy::disallowed_methods, reason = "real calls take real time")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use capture::{DeviceChange, SourceSpec, SpeakerSpec};
use codec::{Encoder, Profile, Reference, Stream};
use face::FaceFile;
use transport::InviteError;
use types::{Code, Feature, HeadPose, MediaTime};

use crate::offline::name_of;
use crate::{Call, Command, End, Event, Meeting, Settings, SoundSource, StartError};

mod links;

/// Longest wait for anything. A test that waits longer is broken.
const PATIENCE: Duration = Duration::from_mins(1);

fn settings(rendezvous: Meeting) -> Settings {
    Settings { loopback: true, audio: false, auto_admit: true, rendezvous, ..Settings::default() }
}

/// Returns events up to the first that `is_last` accepts.
fn events_until(call: &Call, is_last: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        events.push(call.next_event(PATIENCE).expect("something happens"));
        let last = &events[events.len() - 1];
        if is_last(last) {
            return events;
        }
        assert!(!matches!(last, Event::Ended(_)), "{events:?}");
    }
}

/// Waits for the connection and returns the peer's name.
fn connected(call: &Call) -> String {
    match events_until(call, |event| matches!(event, Event::Connected { .. })).pop() {
        Some(Event::Connected { peer_name }) => peer_name.to_string(),
        _ => unreachable!(),
    }
}

fn end_of(call: &Call) -> End {
    match events_until(call, |event| matches!(event, Event::Ended(_))).pop() {
        Some(Event::Ended(end)) => end,
        _ => unreachable!(),
    }
}

fn nod(frame: u64) -> Feature {
    let angle = (frame as f32 * 0.3).sin() * 0.2;
    Feature {
        time: MediaTime::of_frame(frame, 25),
        pose: HeadPose::from_array([angle, 0.0, 0.0, 0.0, 0.0, 1.0]).unwrap(),
        code: Code::NEUTRAL,
    }
}

fn demo_face() -> FaceFile {
    FaceFile::parse(include_bytes!("../../../assets/demo.face")).unwrap()
}

/// Writes a stream to a file of its own.
fn stream_file(name: &str, stream: &Stream) -> PathBuf {
    let path = std::env::temp_dir().join(format!("{}-{name}", std::process::id()));
    std::fs::write(&path, stream.to_bytes()).unwrap();
    path
}

#[test]
fn a_recorded_stream_and_its_face_reach_the_peer() {
    let face = demo_face();
    let profile = Profile::parse(&face.codec_profile).unwrap();
    let mut encoder = Encoder::with_reference(profile, Reference::Previous);
    let units = (0..20).filter_map(|i| encoder.push(&nod(2 * i), false));
    let units = units.map(|unit| (unit.time, unit.unit)).collect();
    let path = stream_file("recorded.fcs", &Stream { face: name_of(&face), units });
    let source = Some(SourceSpec::Clip(path.clone()));
    let model = face.model.clone();
    let host = Settings { face: Some(face), source, ..settings(Meeting::default()) };
    let (host, invite) = Call::host(host).unwrap();
    std::fs::remove_file(path).unwrap();
    let guest = Call::join(&invite, settings(Meeting::default())).unwrap();
    events_until(&host, |event| matches!(event, Event::SourceEnded { error: None }));
    events_until(&guest, |event| matches!(event, Event::ModelReady { layers, of } if layers == of));
    assert_eq!(*guest.remote_model().unwrap(), model);
    let deadline = Instant::now() + PATIENCE;
    let mut received = Vec::new();
    while received.last().is_none_or(|last: &Feature| last.time < nod(38).time) {
        assert!(Instant::now() < deadline, "{} features", received.len());
        received.extend(guest.take_received().0);
        std::thread::yield_now();
    }
    for feature in received {
        let frame = feature.time.as_micros() / 40_000;
        let error = feature.pose.rotation().x - nod(frame).pose.rotation().x;
        // Quantized twice.
        assert!(error.abs() < 0.03, "{error} at frame {frame}");
    }
    assert!(guest.feature_at(Instant::now()).is_some());
    host.command(Command::HangUp);
    assert!(matches!(end_of(&guest), End::PeerHungUp));
    let stats = guest.stats();
    assert!(stats.features_in >= 20 && stats.decode_errors == 0, "{stats:?}");
    assert!(stats.wire_bytes_in > stats.payload_bytes_in && stats.datagrams_in > 0);
}

#[test]
fn two_peers_meet_chat_and_part() {
    let host_settings = Settings { name: "Ada".into(), ..settings(Meeting::default()) };
    let (host, invite) = Call::host(host_settings).unwrap();
    let guest = Call::join(&invite, settings(Meeting::default())).unwrap();
    assert_eq!(connected(&guest), "Ada");
    connected(&host);
    guest.command(Command::SendChat("hello".into()));
    let events = events_until(&host, |event| matches!(event, Event::Chat(_)));
    assert!(matches!(events.last(), Some(Event::Chat(text)) if &**text == "hello"));
    drop(guest);
    assert!(matches!(end_of(&host), End::PeerHungUp));
    assert!(host.next_event(Duration::ZERO).is_none(), "nothing follows the end");
}

#[test]
fn a_speaker_file_that_cannot_be_completed_is_told_before_the_end() {
    let folder = std::env::temp_dir().join(format!("{}-speaker-file", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (path, part) = (folder.join("heard.wav"), folder.join("heard.part.wav"));
    let sounding = |speaker| Settings {
        audio: true,
        sound_source: SoundSource::None,
        speaker,
        ..settings(Meeting::default())
    };
    let (host, invite) = Call::host(sounding(SpeakerSpec::File(path.clone()))).unwrap();
    let guest = Call::join(&invite, sounding(SpeakerSpec::Silent)).unwrap();
    connected(&host);
    let deadline = Instant::now() + PATIENCE;
    while std::fs::metadata(&part).unwrap().len() < 10_000 {
        assert!(Instant::now() < deadline, "nothing is played");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::write(&path, "something else").unwrap();
    host.command(Command::HangUp);
    let events = events_until(&host, |event| matches!(event, Event::Ended(_)));
    drop(guest);
    let is_told = |event: &Event| matches!(event, Event::SoundDevice(DeviceChange::NotCompleted { why }) if why.contains("heard.part.wav"));
    assert!(events.iter().any(is_told), "{events:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"something else");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn two_peers_meet_without_a_service() {
    let (host, invite) = Call::host(settings(Meeting::Manual)).unwrap();
    let guest = Call::join(&invite, settings(Meeting::Manual)).unwrap();
    let ready = events_until(&guest, |event| matches!(event, Event::AnswerReady(_))).pop();
    let Some(Event::AnswerReady(answer)) = ready else { unreachable!() };
    host.command(Command::AcceptAnswer(answer));
    connected(&host);
    connected(&guest);
}

#[test]
fn while_a_call_is_up_nobody_else_reaches_its_host() {
    let (host, invite) = Call::host(settings(Meeting::default())).unwrap();
    let guest = Call::join(&invite, settings(Meeting::default())).unwrap();
    connected(&host);
    connected(&guest);
    // The service inside the host closes a moment after the call has begun. A peer that comes
    // before takes the guest's seat, but gets no call.
    let deadline = Instant::now() + PATIENCE;
    while Call::join(&invite, settings(Meeting::default())).is_ok() {
        assert!(Instant::now() < deadline);
    }
    guest.command(Command::SendChat("still here".into()));
    events_until(&host, |event| matches!(event, Event::Chat(_)));
}

#[test]
fn a_mistyped_invite_is_refused_at_once() {
    let (_host, mut invite) = Call::host(settings(Meeting::default())).unwrap();
    invite.pop();
    let refused = Call::join(&invite, settings(Meeting::default()));
    assert!(matches!(refused, Err(StartError::Invite(InviteError::CutOff { .. }))));
}

/// Returns why no call begins with this source.
fn refusal(face: Option<FaceFile>, stream: PathBuf) -> StartError {
    let source = Some(SourceSpec::Clip(stream));
    let settings = Settings { face, source, ..settings(Meeting::default()) };
    Call::host(settings).map(|_| ()).unwrap_err()
}

#[test]
fn a_stream_that_cannot_be_sent_is_refused_with_a_reason() {
    let public = FaceFile::parse(&demo_face().public_bytes()).unwrap();
    let other = stream_file("other.fcs", &Stream { face: [7; 8], units: Vec::new() });
    let empty = Stream { face: name_of(&demo_face()), units: Vec::new() };
    let empty = stream_file("empty.FCS", &empty);
    for (face, stream, reason) in [
        (None, "none.fcs".into(), "--face"),
        (Some(demo_face()), "none.fcs".into(), "cannot read none.fcs"),
        (Some(public), "none.fcs".into(), "no private part"),
        (Some(demo_face()), other.clone(), "another face"),
        (Some(demo_face()), empty.clone(), "no face"),
    ] {
        let refusal = refusal(face, stream).to_string();
        assert!(refusal.contains(reason), "{refusal}");
    }
    std::fs::remove_file(other).unwrap();
    std::fs::remove_file(empty).unwrap();
}
