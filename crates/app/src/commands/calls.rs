//! `feathercall call`, `join` and `rendezvous`

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use call::{Call, Command, End, Event, IceServer, Meeting, RendezvousService, Settings};

use crate::cli::{Host, Join, Peer};
use crate::face_files;
use crate::live::{CallOptions, CallSummary, Live};
use crate::window;

/// Starts a call and waits for the peer.
pub(super) fn host(args: Host) -> anyhow::Result<()> {
    let meeting = match (args.rendezvous, args.manual) {
        (Some(url), _) => Meeting::Url(url),
        (None, true) => Meeting::Manual,
        (None, false) => Meeting::default(),
    };
    let (settings, options) = prepare(&args.peer, meeting)?;
    if !args.peer.headless {
        return window::open(window::Start::Host(Box::new((settings, options))));
    }
    let is_manual = settings.rendezvous == Meeting::Manual;
    let (call, link) = Call::host(settings)?;
    println!("{link}");
    std::io::stdout().flush()?;
    let live = Live::new(call, options)?;
    if is_manual {
        eprintln!(
            "send this link to your peer, then paste the answer you get back and press Enter:"
        );
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
        live.call().command(Command::AcceptAnswer(answer.trim().to_owned()));
    }
    report(&drive(live)?)
}

/// Joins a call.
pub(super) fn join(args: Join) -> anyhow::Result<()> {
    let (settings, options) = prepare(&args.peer, Meeting::default())?;
    if !args.peer.headless {
        return window::open(window::Start::Join(args.link, Box::new((settings, options))));
    }
    let call = Call::join(&args.link, settings)?;
    report(&drive(Live::new(call, options)?)?)
}

/// Runs the rendezvous service.
pub(super) fn rendezvous(listen: SocketAddr) -> anyhow::Result<()> {
    let service = RendezvousService::start(listen, |line| eprintln!("{line}"))?;
    let address = service.address();
    println!("listening on {address}: start calls with --rendezvous {address}");
    loop {
        std::thread::park();
    }
}

fn prepare(peer: &Peer, rendezvous: Meeting) -> anyhow::Result<(Settings, CallOptions)> {
    let face = peer.face.as_deref().map(face_files::read).transpose()?;
    if face.is_some() && peer.source.is_none() {
        anyhow::bail!("--face needs --source: camera, actor or a clip that animates it");
    }
    // The actor has a face of its own.
    let face = match (&face, &peer.source) {
        (None, Some(capture::SourceSpec::Actor)) => Some(face_files::read_or_demo(None)?),
        (None, Some(_)) => {
            anyhow::bail!("--source needs --face: your own, from `feathercall enroll`")
        }
        _ => face,
    };
    let settings = Settings {
        face,
        source: peer.source.clone(),
        audio: !peer.no_audio,
        video: !peer.no_video,
        rendezvous,
        ice_servers: peer.ice_server.iter().map(|url| ice_server(url)).collect(),
        relay_only: peer.relay_only,
        rate: peer.rate,
        ..Settings::default()
    };
    let options = CallOptions {
        record: peer.record.clone(),
        resolution: peer.resolution,
        background: peer.background.clone(),
        stats: peer.stats.clone(),
        duration: peer.duration,
        script: peer.at.clone(),
        max_fps: Some(peer.max_fps),
    };
    Ok((settings, options))
}

/// Parses a STUN or TURN URL; `turn:user:password@host:port` contains credentials.
fn ice_server(text: &str) -> IceServer {
    let plain = || IceServer { url: text.to_owned(), ..IceServer::default() };
    let Some((scheme, rest)) = text.split_once(':') else { return plain() };
    let Some((login, host)) = rest.rsplit_once('@') else { return plain() };
    let (username, credential) = login.split_once(':').unwrap_or((login, ""));
    IceServer {
        url: format!("{scheme}:{host}"),
        username: username.to_owned(),
        credential: credential.to_owned(),
    }
}

/// Runs a call without a window until it ends.
pub(super) fn drive(mut live: Live) -> anyhow::Result<CallSummary> {
    while live.ended().is_none() {
        for event in live.tick(Duration::from_millis(20))? {
            print_event(&event);
        }
    }
    if live.is_recording() {
        eprintln!("rendering the rest of the recording");
    }
    live.finish()
}

fn print_event(event: &Event) {
    match event {
        Event::Connected { peer_name } if peer_name.is_empty() => eprintln!("connected"),
        Event::Connected { peer_name } => eprintln!("connected to {peer_name}"),
        Event::AnswerReady(answer) => println!("{answer}"),
        Event::ModelReady { layers, of } if layers == of => eprintln!("received the peer's face"),
        Event::ModelReady { layers, of } => {
            eprintln!("received layer {layers} of {of} of the peer's face");
        }
        Event::ModelRefused(refusal) => eprintln!("{refusal}"),
        Event::Chat(text) => println!("{text}"),
        Event::SourceEnded { error: None } => eprintln!("the clip has ended, the call goes on"),
        Event::SourceEnded { error: Some(error) } => eprintln!("no more pictures: {error}"),
        Event::NoSound(why) => eprintln!("no sound: {why}"),
        Event::PeerLost => eprintln!("connection lost, waiting for the peer"),
        Event::PeerBack => eprintln!("the peer is back"),
        _ => {}
    }
}

/// Prints a summary of a call.
///
/// # Errors
/// If the call failed.
pub(super) fn report(summary: &CallSummary) -> anyhow::Result<()> {
    let stats = &summary.stats;
    let kbps = |bytes: u64| bytes as f64 * 8e-3 / summary.seconds.max(1e-3);
    eprintln!(
        "{:.1} s of call: sent {:.2} kbit/s on the wire, {:.2} of it payload; received {:.2}, {:.2} of it payload",
        summary.seconds,
        kbps(stats.wire_bytes_out),
        kbps(stats.payload_bytes_out),
        kbps(stats.wire_bytes_in),
        kbps(stats.payload_bytes_in),
    );
    if let Some(bytes) = stats.model_bytes_in {
        eprintln!("received {bytes} bytes of the peer's face");
    }
    if let Some(recorded) = &summary.recorded {
        for path in &recorded.paths {
            println!("recorded {}", path.display());
        }
        println!(
            "{} pictures, the first shows media time {:.3} s",
            recorded.n_frames,
            recorded.first.as_secs_f64()
        );
    }
    match &summary.ended {
        End::Failed(_) | End::PeerVanished => anyhow::bail!("{}", summary.ended),
        _ => Ok(()),
    }
}
