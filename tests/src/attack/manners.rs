//! A rough hand on processes and files: signals, kills, sleep, bad commands.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use capture::{Source, SourceSpec};
use codec::Stream;
use tokio::time::{Instant, sleep};
use types::MediaTime;

use super::arena::{BACK, CONNECTED, FACE, LOST, words};
use super::{Arena, Attack, Conditions, Outcome};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "signals",
            what: "SIGINT, SIGTERM, SIGHUP in a call: exit 0 in 5 s, and the peer hears a goodbye",
            before: "killed without a goodbye, 3 of 3",
            run: |arena| Box::pin(signals(arena)),
        },
        Attack {
            name: "killed-recording",
            what: "kill -9 after 10 s of recording: at least 5 s can be played",
            before: "0.0 s can be played",
            run: |arena| Box::pin(killed_recording(arena)),
        },
        Attack {
            name: "wakes",
            what: "a process that stood still for 8 s, its peer gone: lost, and never \"back\"",
            before: "1 times \"back\"",
            run: |arena| Box::pin(wakes(arena)),
        },
        Attack {
            name: "no-host",
            what: "a guest in a room without a host: says so within 13 s, ends after --wait",
            before: "silent, waits for ever",
            run: |arena| Box::pin(no_host(arena)),
        },
        Attack {
            name: "one-line",
            what: "seven commands that fail: exactly one line on standard error each",
            before: "7 of 7 right",
            run: |arena| Box::pin(one_line(arena)),
        },
        Attack {
            name: "month",
            what: "a stream of 30 units over a month: refused or asked for within 10 s and 500 MB",
            before: "2,050 MB after 7 s, still growing",
            run: |arena| Box::pin(month(arena)),
        },
        Attack {
            name: "file-modes",
            what: "recording and statistics of a call: readable by their owner alone",
            before: "modes 644, 644",
            run: |arena| Box::pin(file_modes(arena)),
        },
    ]
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

async fn signals(arena: &Arena) -> anyhow::Result<Outcome> {
    let (mut said, mut passed) = (Vec::new(), true);
    for name in ["INT", "TERM", "HUP"] {
        let options = words("--no-video");
        let mut call = arena.call(Conditions::clean(millis(20)), 5, &options, &options).await?;
        if call.connected(seconds(20)).await.is_none() {
            return Ok(Outcome::new(false, "not connected"));
        }
        call.host.signal(name);
        let host = call.host.wait_exit(seconds(5)).await.and_then(|status| status.code());
        let guest = call.guest.wait_exit(seconds(3)).await.and_then(|status| status.code());
        passed &= host == Some(0) && guest == Some(0);
        let shown = |code: Option<i32>| code.map_or("none".to_owned(), |code| code.to_string());
        said.push(format!("{name}: {}, peer {}", shown(host), shown(guest)));
    }
    Ok(Outcome::new(passed, said.join("; ")))
}

/// Returns the files in a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Returns the number of frames that can be read from a clip.
fn n_frames(path: &Path) -> usize {
    let Ok(mut source) = Source::open(&SourceSpec::Clip(path.to_owned())) else { return 0 };
    let mut n = 0;
    while let Ok(Some(_)) = source.next_frame() {
        n += 1;
    }
    n
}

async fn killed_recording(arena: &Arena) -> anyhow::Result<Outcome> {
    let folder = arena.path("killed");
    std::fs::create_dir_all(&folder)?;
    let mut recording = words("--resolution 128 --record");
    recording.push(folder.join("call.mp4").into());
    let showing = arena.showing(&arena.stream_path());
    let mut call = arena.call(Conditions::clean(millis(20)), 6, &showing, &recording).await?;
    call.guest.wait_for(FACE, seconds(30)).await.context("the face does not arrive")?;
    sleep(seconds(10)).await;
    call.guest.signal("KILL");
    call.guest.wait_exit(seconds(5)).await;
    let found = files(&folder);
    let best = found.iter().map(|path| n_frames(path)).max().unwrap_or(0);
    let figure = format!("{} files, {:.1} s can be played", found.len(), best as f64 / 25.0);
    Ok(Outcome::new(best >= 125, figure))
}

async fn wakes(arena: &Arena) -> anyhow::Result<Outcome> {
    let showing = arena.showing(&arena.stream_path());
    let mut call = arena.call(Conditions::clean(millis(20)), 7, &showing, &showing).await?;
    if call.connected(seconds(20)).await.is_none() {
        return Ok(Outcome::new(false, "not connected"));
    }
    sleep(seconds(2)).await;
    call.host.signal("STOP");
    sleep(seconds(1)).await;
    call.guest.signal("KILL");
    sleep(seconds(7)).await;
    call.host.signal("CONT");
    let woke = call.host.age();
    let lost = call.host.wait_for(LOST, seconds(10)).await;
    sleep(seconds(3)).await;
    let n_back = call.host.count(BACK);
    let figure = match &lost {
        Some(line) => {
            let after = line.at.saturating_sub(woke).as_secs_f64();
            format!("lost {after:.1} s after waking, {n_back} times \"back\"")
        }
        None => "not lost 10 s after waking".to_owned(),
    };
    Ok(Outcome::new(lost.is_some() && n_back == 0, figure))
}

async fn no_host(arena: &Arena) -> anyhow::Result<Outcome> {
    let (host, link) = arena.host(None, &words("--no-video")).await?;
    let mut service = arena.start(&words("rendezvous --listen 127.0.0.1:0"))?;
    let line = service.wait_for("listening on", seconds(20)).await.context("no service")?;
    let address: String = line.text.chars().skip("listening on ".len()).collect();
    let address: std::net::SocketAddr =
        address.split(": ").next().unwrap_or_default().trim_end_matches(':').parse()?;
    // The same secret at a service where no host waits.
    let mut invite: transport::Invite = link.parse()?;
    let room = match &invite.meeting_point {
        transport::MeetingPoint::Rendezvous { room, .. } => room.clone(),
        transport::MeetingPoint::Manual { .. } => anyhow::bail!("a manual link"),
    };
    drop(host);
    invite.meeting_point =
        transport::MeetingPoint::Rendezvous { hosts: vec![address.to_string()], room };
    let mut options = words("--no-video");
    if arena.has_option("--wait") {
        options.extend(words("--wait 15s"));
    }
    let mut guest = arena.guest(&invite.to_string(), &options)?;
    let told = guest.wait_for("host", seconds(13)).await;
    let ended = guest.wait_exit(seconds(8)).await.and_then(|status| status.code());
    let figure = format!(
        "{}, {}",
        told.as_ref().map_or("silent".to_owned(), |line| format!(
            "told after {:.0} s",
            line.at.as_secs_f64()
        )),
        ended.map_or("waits for ever".to_owned(), |code| format!("exit {code}")),
    );
    Ok(Outcome::new(told.is_some() && ended == Some(1), figure))
}

async fn one_line(arena: &Arena) -> anyhow::Result<Outcome> {
    let missing = arena.path("missing.face");
    let missing = missing.display();
    let garbage = arena.path("garbage.face");
    std::fs::write(&garbage, [9; 5000])?;
    let garbage = garbage.display();
    let commands = [
        "join feathercall://127.0.0.1:9/room-of-nobody#xyz --headless".to_owned(),
        format!("call --headless --face {missing} --source actor"),
        format!("call --headless --face {garbage} --source actor"),
        "call --headless --rendezvous 127.0.0.1:9".to_owned(),
        format!("decode {missing} --face {missing} --out {missing}.mp4"),
        format!("encode {missing} --face {missing} --out {missing}.fcs"),
        format!("model info {garbage}"),
    ];
    let mut bad = Vec::new();
    for command in &commands {
        let mut process = arena.start(&words(command))?;
        let status = process.wait_exit(seconds(15)).await;
        let n_lines = process.lines().iter().filter(|line| !line.text.trim().is_empty()).count();
        let failed = status.is_some_and(|status| status.code() == Some(1));
        if n_lines != 1 || !failed {
            let name = command.split_whitespace().next().unwrap_or_default();
            bad.push(format!("{name}: {n_lines} lines"));
        }
    }
    let figure = format!(
        "{} of {} right{}",
        commands.len() - bad.len(),
        commands.len(),
        if bad.is_empty() { String::new() } else { format!(" ({})", bad.join(", ")) }
    );
    Ok(Outcome::new(bad.is_empty(), figure))
}

async fn month(arena: &Arena) -> anyhow::Result<Outcome> {
    let stream = Stream::parse(&std::fs::read(arena.stream_path())?)?;
    let units = stream.units.iter().take(30).zip(0..);
    let units =
        units.map(|((_, unit), day)| (MediaTime::from_micros(day * 86_400_000_000), unit.clone()));
    let bomb = Stream { face: stream.face, units: units.collect() };
    let path = arena.path("month.fcs");
    std::fs::write(&path, bomb.to_bytes())?;
    let mut arguments = words("decode --resolution 128 --face");
    arguments.insert(1, path.into());
    arguments.push(Arena::face_path().into());
    arguments.push("--out".into());
    arguments.push(arena.path("month.y4m").into());
    let mut decode = arena.start(&arguments)?;
    let (begin, mut peak) = (Instant::now(), 0);
    let mut status = None;
    while status.is_none() && begin.elapsed() < seconds(10) && peak < 2 << 20 {
        peak = peak.max(decode.resources().resident_kib);
        status = decode.exit();
        sleep(millis(20)).await;
    }
    let ending = match status {
        Some(status) => status.code().map_or("killed".to_owned(), |code| format!("exit {code}")),
        None => "still painting".to_owned(),
    };
    let figure =
        format!("{ending} after {:.1} s, {} MB", begin.elapsed().as_secs_f64(), peak / 1024);
    let refused = status.is_some_and(|status| status.code() == Some(1));
    Ok(Outcome::new(refused && peak < 500 * 1024, figure))
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
fn mode(_: &Path) -> u32 {
    0o600
}

async fn file_modes(arena: &Arena) -> anyhow::Result<Outcome> {
    let folder = arena.path("modes");
    std::fs::create_dir_all(&folder)?;
    let mut options = words("--resolution 128 --duration 4s --record");
    options.push(folder.join("call.mp4").into());
    options.push("--stats".into());
    options.push(folder.join("call.jsonl").into());
    let showing = arena.showing(&arena.stream_path());
    let mut call = arena.call(Conditions::clean(millis(20)), 8, &showing, &options).await?;
    call.guest.wait_for(CONNECTED, seconds(20)).await.context("not connected")?;
    call.guest.wait_exit(seconds(15)).await;
    let modes: Vec<u32> = files(&folder).iter().map(|path| mode(path)).collect();
    let shown: Vec<String> = modes.iter().map(|mode| format!("{mode:o}")).collect();
    let figure = format!("modes {}", shown.join(", "));
    Ok(Outcome::new(
        modes.len() == 2 && modes.iter().all(|mode| mode.trailing_zeros() >= 6),
        figure,
    ))
}
