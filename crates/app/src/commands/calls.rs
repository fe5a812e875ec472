//! `feathercall call`, `join` and `rendezvous`

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use call::{Call, End, Event, Meeting, RendezvousService, Settings, SoundSource, VoiceProcessing};
use capture::{MicrophoneSpec, SourceSpec, SpeakerSpec};
use types::ErrorLine;

use super::questions::Questions;
use crate::cli::{Host, Join, Peer};
use crate::destination::{self, Destination, Kind};
use crate::face_files;
use crate::ice_servers;
use crate::live::{CallOptions, CallSummary, Live};
use crate::output;
use crate::paste::Paste;
use crate::standard_input::{Line, StandardInput};
use crate::termination;
use crate::window;

/// Starts a call and waits for the peer.
pub(super) fn host(args: Host) -> anyhow::Result<()> {
    let meeting = match (args.rendezvous, args.manual) {
        (Some(address), _) => Meeting::Service(address.parse().context("--rendezvous")?),
        (None, true) => Meeting::Manual,
        (None, false) => Meeting::default(),
    };
    let (mut settings, options) = prepare(&args.peer, meeting)?;
    settings.keep_link = args.keep_link;
    if !args.peer.headless {
        return window::open(window::Start::Host(Box::new((settings, options))));
    }
    let is_manual = settings.rendezvous == Meeting::Manual;
    let (call, link) = Call::host(settings)?;
    // Whoever reads the link may already end the call.
    termination::end_well();
    output::deliver(link).context("the invite link reaches nobody")?;
    let live = Live::new(call, options)?;
    let mut questions = Questions::new(args.peer.auto_admit);
    if is_manual {
        questions.ask_for_answer();
    }
    report(&drive(live, questions)?)
}

/// Time that a guest waits for the host if none is given.
const GUEST_WAIT: Duration = Duration::from_mins(10);

/// Joins a call.
pub(super) fn join(args: Join) -> anyhow::Result<()> {
    let (settings, mut options) = prepare(&args.peer, Meeting::default())?;
    options.wait.get_or_insert(GUEST_WAIT);
    let link = if args.link == "-" { read_link()? } else { args.link };
    if !args.peer.headless {
        return window::open(window::Start::Join(link, Box::new((settings, options))));
    }
    let call = Call::join(&link, settings)?;
    let questions = Questions::new(args.peer.auto_admit);
    report(&drive(Live::new(call, options)?, questions)?)
}

/// Reads a text with the invite link from standard input. A person is asked until it is right.
fn read_link() -> anyhow::Result<String> {
    let is_terminal = std::io::stdin().is_terminal();
    if is_terminal {
        eprintln!("paste the invite link and press Enter:");
    }
    let mut input = StandardInput::default();
    let mut paste = Paste::new(call::check_invite, is_terminal);
    let mut is_empty = true;
    loop {
        match input.wait(Duration::from_millis(20)) {
            Line::Text(line) => {
                is_empty &= line.is_empty();
                paste.push(&line, Instant::now());
            }
            Line::NotYet => match paste.poll(Instant::now()) {
                Some(Ok(text)) => return Ok(text),
                Some(Err(error)) => eprintln!("{error}; paste it again:"),
                None => {}
            },
            Line::End if is_empty => anyhow::bail!("there is no link on standard input"),
            Line::End => return Ok(paste.finish()?),
        }
    }
}

/// Runs the rendezvous service until the program is asked to end.
pub(super) fn rendezvous(listen: SocketAddr) -> anyhow::Result<()> {
    let service = RendezvousService::start(listen, |line| eprintln!("{line}"))?;
    let address = service.address();
    let here = std::thread::current();
    termination::wake_with(move || here.unpark());
    termination::end_well();
    let published = service.published_address();
    println!("listening on {address}: start calls with --rendezvous {published}");
    while !termination::is_requested() {
        std::thread::park();
    }
    service.stop();
    Ok(())
}

fn prepare(peer: &Peer, rendezvous: Meeting) -> anyhow::Result<(Settings, CallOptions)> {
    check_places(peer)?;
    let face = peer.face.as_deref().map(face_files::read).transpose()?;
    if face.is_some() && peer.source.is_none() {
        anyhow::bail!("--face needs --source: camera, actor or a clip that animates it");
    }
    // The actor has a face of its own.
    let face = match (&face, &peer.source) {
        (None, Some(SourceSpec::Actor)) => Some(face_files::read_or_demo(None)?),
        (None, Some(_)) => {
            anyhow::bail!("--source needs --face: your own, from `feathercall enroll`")
        }
        _ => face,
    };
    let settings = Settings {
        face,
        source: peer.source.clone(),
        audio: !peer.no_audio,
        sound_source: sound_source(peer)?,
        voice_processing: voice_processing(peer),
        speaker: peer.speaker.clone().unwrap_or_default(),
        video: !peer.no_video,
        show_face: !peer.hide_face,
        auto_admit: peer.auto_admit,
        name: peer.name.clone(),
        rendezvous,
        ice_servers: ice_servers::collect(
            &peer.ice_server,
            peer.ice_servers_from.as_deref(),
            std::env::var(ice_servers::VARIABLE).ok().as_deref(),
        )?,
        relay_only: peer.relay_only,
        rate: peer.rate,
        ..Settings::default()
    };
    let options = CallOptions {
        record: peer.record.clone(),
        sound: !peer.no_audio,
        resolution: peer.resolution,
        background: peer.background.clone(),
        stats: peer.stats.clone(),
        duration: peer.duration,
        wait: peer.wait,
        script: peer.at.clone(),
        max_fps: Some(peer.max_fps),
    };
    Ok((settings, options))
}

/// Returns what the peer hears. A clip brings its own sound, unless another one is named; the actor's
/// voice is never taken for a person's by itself.
fn sound_source(peer: &Peer) -> anyhow::Result<SoundSource> {
    let has_sound = match &peer.source {
        Some(SourceSpec::Clip(path)) => !call::is_stream(path),
        Some(SourceSpec::Actor) => true,
        _ => false,
    };
    match &peer.microphone {
        Some(SoundSource::Source) if !has_sound => {
            anyhow::bail!("--microphone source needs --source: a clip, or actor")
        }
        Some(source) => Ok(source.clone()),
        None if has_sound && peer.source != Some(SourceSpec::Actor) => Ok(SoundSource::Source),
        None => Ok(SoundSource::default()),
    }
}

/// Returns what is done with our sound. That of a file needs nothing: there is no room around it.
fn voice_processing(peer: &Peer) -> VoiceProcessing {
    let is_file = matches!(peer.microphone, Some(SoundSource::Microphone(MicrophoneSpec::File(_))));
    let usual = if is_file { VoiceProcessing::OFF } else { VoiceProcessing::ON };
    peer.voice_processing.unwrap_or(usual)
}

/// Checks where a call writes.
fn check_places(peer: &Peer) -> anyhow::Result<()> {
    let stats = |path| Destination { option: "--stats", path, kind: Kind::Statistics };
    let record = peer.record.as_deref().map(recorded_to);
    let sound = |path| Destination { option: "--speaker", path, kind: Kind::Sound };
    let speaker = match &peer.speaker {
        Some(SpeakerSpec::File(path)) => Some(sound(path.as_path())),
        _ => None,
    };
    let destinations: Vec<_> =
        record.into_iter().chain(peer.stats.as_deref().map(stats)).chain(speaker).collect();
    let microphone = match &peer.microphone {
        Some(SoundSource::Microphone(MicrophoneSpec::File(path))) => Some(path),
        _ => None,
    };
    let clip = match &peer.source {
        Some(SourceSpec::Clip(clip)) => Some(clip),
        _ => None,
    };
    let inputs: Vec<&Path> = peer
        .face
        .iter()
        .chain(clip)
        .chain(microphone)
        .chain(&peer.ice_servers_from)
        .map(PathBuf::as_path)
        .collect();
    destination::check(&destinations, &inputs, peer.overwrite.force)
}

/// Describes a recording.
pub(super) fn recorded_to(path: &Path) -> Destination<'_> {
    Destination { option: "--record", path, kind: Kind::Recording }
}

/// Runs a call without a window until it ends, or until somebody asks the program to. Its questions
/// are asked on standard error.
///
/// # Errors
/// If a question is open and nobody can answer it, or the answer for the host cannot be printed; the
/// call is then over and its summary printed.
pub(super) fn drive(mut live: Live, mut questions: Questions) -> anyhow::Result<CallSummary> {
    termination::end_well();
    loop {
        let tick = live.tick(Duration::from_millis(20));
        for event in &tick.events {
            if let Err(error) = print_event(event) {
                report(&live.finish())?;
                return Err(error);
            }
            if let Some(command) = questions.note(event) {
                live.command(command);
            }
        }
        for note in tick.notes {
            eprintln!("{}", ErrorLine::new(&note));
        }
        if live.ended().is_some() {
            break;
        }
        match questions.poll() {
            Ok(Some(command)) => live.command(command),
            Ok(None) => {}
            // A terminal that is closed ends standard input, too: the next tick hangs up.
            Err(_) if termination::is_requested() => {}
            Err(error) => {
                report(&live.finish())?;
                return Err(error);
            }
        }
    }
    if live.is_recording() {
        eprintln!("rendering the rest of the recording");
    }
    Ok(live.finish())
}

fn print_event(event: &Event) -> anyhow::Result<()> {
    match event {
        Event::Connected { peer_name } if peer_name.is_empty() => eprintln!("connected"),
        Event::Connected { peer_name } => eprintln!("connected to {peer_name}"),
        Event::AdmissionPending => eprintln!("waiting for the host to let you in"),
        Event::CheckWords(words) => eprintln!("check words: {words}"),
        Event::GuestLeft => eprintln!("the guest has left, waiting for the next one"),
        Event::GuestFailed(failure) => {
            eprintln!("a guest did not get in: {}", ErrorLine::new(&failure.to_string()));
        }
        Event::AnswerReady(answer) => {
            return output::deliver(answer).context("the answer reaches nobody");
        }
        Event::ModelReady { layers, of } if layers == of => eprintln!("received the peer's face"),
        Event::ModelReady { layers, of } => {
            eprintln!("received layer {layers} of {of} of the peer's face");
        }
        Event::ModelRefused(refusal) => eprintln!("{}", ErrorLine::new(&refusal.to_string())),
        Event::Chat(text) => println!("{text}"),
        Event::SourceEnded { error: None } => eprintln!("the clip has ended, the call goes on"),
        Event::SourceEnded { error: Some(error) } => {
            eprintln!("no more pictures: {}", ErrorLine::new(error));
        }
        Event::SoundOnly => eprintln!("the peer has no face to show: sound only"),
        Event::SoundDevice(change) => eprintln!("{}", ErrorLine::new(&change.to_string())),
        Event::NoSound(why) => eprintln!("no sound: {}", ErrorLine::new(why)),
        Event::NoHostYet => eprintln!("no host here yet, waiting"),
        Event::PeerLost => eprintln!("connection lost, waiting for the peer"),
        Event::PeerBack => eprintln!("the peer is back"),
        _ => {}
    }
    Ok(())
}

/// Prints a summary of a call.
///
/// # Errors
/// If the call failed, or its recording or statistics are incomplete.
pub(super) fn report(summary: &CallSummary) -> anyhow::Result<()> {
    let stats = &summary.stats;
    if let Some(seconds) = summary.seconds {
        let kbps = |bytes: u64| bytes as f64 * 8e-3 / seconds.max(1e-3);
        eprintln!(
            "{seconds:.1} s of call: sent {:.2} kbit/s on the wire, {:.2} of it payload; received {:.2}, {:.2} of it payload",
            kbps(stats.wire_bytes_out),
            kbps(stats.payload_bytes_out),
            kbps(stats.wire_bytes_in),
            kbps(stats.payload_bytes_in),
        );
    }
    if let Some(bytes) = stats.model_bytes_in {
        eprintln!("received {bytes} bytes of the peer's face");
    }
    for recorded in &summary.recorded {
        for path in &recorded.paths {
            println!("recorded {}", path.display());
        }
        println!(
            "{} pictures, the first shows media time {:.3} s",
            recorded.n_frames,
            recorded.first.as_secs_f64()
        );
    }
    if let Some(wait) = summary.given_up_after {
        anyhow::bail!("nobody came within {} s; --wait sets how long to wait", wait.as_secs_f64());
    }
    match &summary.ended {
        End::Failed(_) | End::PeerVanished => anyhow::bail!("{}", summary.ended),
        _ => {}
    }
    match summary.failures.first() {
        Some(failure) => Err(anyhow::anyhow!("{failure}")),
        None => Ok(()),
    }
}
