//! Attacks by a peer that holds the link.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Context;
use codec::{Encoder, Profile};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use transport::Role;

use super::arena::{FACE, words};
use super::envelope;
use super::peer::{Answering, control};
use super::{Arena, Attack, HostilePeer, Outcome, Process, Switchboard};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "parked",
            what: "2,000 requests for the face, nothing acknowledged: --duration 8s ends within 14 s",
            before: "still running after 14 s",
            run: |arena| Box::pin(parked(arena)),
        },
        Attack {
            name: "requests",
            what: "200 requests for the whole face in 5 s: it is sent at most three times over",
            before: "13.0 times the face",
            run: |arena| Box::pin(requests(arena)),
        },
        Attack {
            name: "hello-flood",
            what: "1,000 hellos in 5 s: at most 20 control messages come back",
            before: "0 messages",
            run: |arena| Box::pin(hello_flood(arena)),
        },
        Attack {
            name: "face-bomb",
            what: "a face that costs more than any honest one: refused, the call ends on time",
            before: "face shown",
            run: |arena| Box::pin(face_bomb(arena)),
        },
        Attack {
            name: "bomb-file",
            what: "the same face to `decode`, one picture of 256 px: refused within 15 s",
            before: "exit 0",
            run: |arena| Box::pin(bomb_file(arena)),
        },
        Attack {
            name: "media-time",
            what: "media time runs 100 times too fast for 8 s: at most 400 pictures are recorded",
            before: "still rendering 12 s after the call",
            run: |arena| Box::pin(media_time(arena)),
        },
        Attack {
            name: "data-channels",
            what: "5,000 data channels nobody asked for, 16 kB on each: less than 20 MB more memory",
            before: "105 MB",
            run: |arena| Box::pin(data_channels(arena)),
        },
        Attack {
            name: "tcp-candidates",
            what: "50 candidates of type TCP: no connection to any of their ports",
            before: "25 connections",
            run: |arena| Box::pin(tcp_candidates(arena)),
        },
        Attack {
            name: "escapes",
            what: "name and chat with escape sequences: no control character is printed",
            before: "12 control characters, 2 faked lines",
            run: |arena| Box::pin(escapes(arena)),
        },
        Attack {
            name: "answers",
            what: "damaged and second answers before and in the call: the call goes on",
            before: "survived 0 of 5, exit 1",
            run: |arena| Box::pin(answers(arena)),
        },
        Attack {
            name: "face-exchange",
            what: "a second face in mid-call: it is not fetched, or the user is told",
            before: "fetched without a word",
            run: |arena| Box::pin(face_exchange(arena)),
        },
        Attack {
            name: "addresses",
            what: "no loopback candidate is offered where there is another address",
            before: "2 of 6 on loopback",
            run: |arena| Box::pin(addresses(arena)),
        },
    ]
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Starts a host with these options and lets a hostile guest into its call.
async fn meet(
    arena: &Arena,
    options: &[OsString],
    answering: &Answering<'_>,
    name: &[u8],
) -> anyhow::Result<(Process, HostilePeer)> {
    let switchboard = Switchboard::open(Role::Host).await?;
    let (host, link) = arena.host(Some(switchboard.address()), options).await?;
    let peer = HostilePeer::join(switchboard, &link, answering, name).await?;
    Ok((host, peer))
}

/// Says how a process ended.
fn ending(process: &mut Process) -> String {
    match process.exit() {
        Some(status) => status.code().map_or("killed".to_owned(), |code| format!("exit {code}")),
        None => "running".to_owned(),
    }
}

/// The hostile peer acknowledges nothing while it goes on asking.
async fn parked(arena: &Arena) -> anyhow::Result<Outcome> {
    let answering = Answering { is_controlled: true, ..Answering::default() };
    let mut options = arena.showing(&arena.stream_path());
    options.extend(words("--duration 8s"));
    let (mut host, mut peer) = meet(arena, &options, &answering, b"eve").await?;
    let offer = peer.wait_for(control::OFFER, seconds(5)).await;
    let offer = offer.context("the victim offers no face")?;
    // Messages of an unknown kind, so that much may be under way unacknowledged later.
    for _ in 0..500 {
        peer.send(&[200; 1000]).await?;
    }
    sleep(millis(500)).await;
    peer.become_deaf();
    for _ in 0..1000 {
        peer.request(&offer, 1).await?;
        peer.request(&offer, 0).await?;
        sleep(millis(1)).await;
    }
    let begin = Instant::now();
    let ended = host.wait_exit(seconds(14)).await.is_some();
    let after = begin.elapsed().as_secs_f64();
    let figure = if ended {
        format!("ended after {after:.1} s")
    } else {
        "still running after 14 s".to_owned()
    };
    Ok(Outcome::new(ended, figure))
}

async fn requests(arena: &Arena) -> anyhow::Result<Outcome> {
    let showing = arena.showing(&arena.still_path());
    let (mut host, mut peer) = meet(arena, &showing, &Answering::default(), b"eve").await?;
    let offer = peer.wait_for(control::OFFER, seconds(10)).await;
    let offer = offer.context("the victim offers no face")?;
    let size: [u8; 4] = offer[1..5].try_into()?;
    let size = u64::from(u32::from_le_bytes(size));
    let before = peer.arrivals().control_bytes();
    for round in 0..100 {
        peer.request(&offer, 1 + round).await?;
        peer.request(&offer, 0).await?;
        sleep(millis(50)).await;
    }
    sleep(seconds(2)).await;
    let times = (peer.arrivals().control_bytes() - before) as f64 / size as f64;
    // What is asked for more bytes than were asked with: 37 bytes each.
    let figure = format!("{times:.1} times the face, {}", ending(&mut host));
    Ok(Outcome::new(times <= 3.0, figure))
}

async fn hello_flood(arena: &Arena) -> anyhow::Result<Outcome> {
    let showing = arena.showing(&arena.still_path());
    let (mut host, mut peer) = meet(arena, &showing, &Answering::default(), b"eve").await?;
    peer.listen(seconds(2)).await;
    let (before, processor) = (peer.arrivals().control(), host.resources().processor);
    for round in 0..1000 {
        peer.send_hello(b"eve", false).await?;
        if round % 10 == 0 {
            sleep(millis(50)).await;
        }
    }
    peer.listen(seconds(1)).await;
    let answers = peer.arrivals().control() - before;
    let busy = host.resources().processor.saturating_sub(processor).as_secs_f64();
    let figure = format!("{answers} messages, {busy:.2} s of processor, {}", ending(&mut host));
    Ok(Outcome::new(answers <= 20 && host.exit().is_none(), figure))
}

async fn face_bomb(arena: &Arena) -> anyhow::Result<Outcome> {
    let bomb = super::bomb::render_bomb(&arena.face().codec_profile)?;
    let recording = arena.path("bomb.y4m");
    let mut options = words("--duration 10s --resolution 256 --record");
    options.push(recording.into());
    let (mut host, mut peer) = meet(arena, &options, &Answering::default(), b"eve").await?;
    // A victim that refuses the face early does not fetch all of it.
    let _ = peer.show_face(&bomb).await;
    let is_shown = host.wait_for(FACE, seconds(2)).await.is_some();
    send_units(&peer, &units(arena, 1.0)?, seconds(7)).await;
    let ended = host.wait_exit(seconds(15)).await;
    let shown = if is_shown { "face shown" } else { "face refused" };
    let figure = match ended {
        Some(_) => format!("{shown}, call ended on time"),
        None => format!("{shown}, still rendering 12 s after the call"),
    };
    Ok(Outcome::new(ended.is_some() && !is_shown, figure))
}

/// The same face in a file, with a stream of one unit.
async fn bomb_file(arena: &Arena) -> anyhow::Result<Outcome> {
    let bomb = super::bomb::render_bomb(&arena.face().codec_profile)?;
    let hash = transport::content_hash(&bomb).0;
    let mut stream = codec::Stream::parse(&std::fs::read(arena.still_path())?)?;
    stream.face = std::array::from_fn(|i| hash[i]);
    let [face, units, out] =
        ["bomb.face", "bomb.fcs", "bomb-file.y4m"].map(|name| arena.path(name));
    std::fs::write(&face, &bomb)?;
    std::fs::write(&units, stream.to_bytes())?;
    let mut arguments = words("decode");
    arguments.push(units.into());
    arguments.extend(words("--resolution 256 --face"));
    arguments.push(face.into());
    arguments.extend([OsString::from("--out"), out.into()]);
    let mut decode = arena.start(&arguments)?;
    let begin = Instant::now();
    let ended = decode.wait_exit(seconds(15)).await;
    let took = begin.elapsed().as_secs_f64();
    let figure = format!("{} after {took:.1} s", ending(&mut decode));
    Ok(Outcome::new(ended.is_some_and(|status| status.code() == Some(1)), figure))
}

/// A packet with one key unit for each frame of the actor, 25 per second of media time that runs
/// `speed` times too fast.
fn units(arena: &Arena, speed: f64) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut encoder = Encoder::new(Profile::parse(&arena.face().codec_profile)?);
    let mut packets = Vec::new();
    for (i, feature) in crate::actor::features().iter().enumerate() {
        encoder.request_key();
        let Some(unit) = encoder.push(feature, false) else { continue };
        // Ticks of 1/3000 s.
        let ticks = (i as f64 * 120.0 * speed) as u32;
        let bytes = unit.unit.as_bytes();
        let mut packet = vec![0b0100_0001, i as u8];
        packet.extend((unit.number.0 as u16).to_le_bytes());
        packet.extend(&ticks.to_le_bytes()[..3]);
        // A length below 128 is one byte, a longer one two.
        if bytes.len() < 128 {
            packet.push(bytes.len() as u8);
        } else {
            packet.extend([bytes.len() as u8 | 0x80, (bytes.len() >> 7) as u8]);
        }
        packet.extend(bytes);
        packets.push(packet);
    }
    Ok(packets)
}

/// Sends a packet every 40 ms for some time.
async fn send_units(peer: &HostilePeer, packets: &[Vec<u8>], time: Duration) {
    let mut ticks = tokio::time::interval(millis(40));
    let begin = Instant::now();
    for packet in packets {
        if begin.elapsed() > time {
            return;
        }
        ticks.tick().await;
        let _ = peer.features.try_send(bytes::BytesMut::from(&packet[..])).await;
    }
}

async fn media_time(arena: &Arena) -> anyhow::Result<Outcome> {
    let recording = arena.path("media-time.y4m");
    let mut options = words("--duration 11s --resolution 128 --record");
    options.push(recording.into());
    let (mut host, mut peer) = meet(arena, &options, &Answering::default(), b"eve").await?;
    peer.show_face(&arena.face().public_bytes()).await?;
    host.wait_for(FACE, seconds(5)).await;
    send_units(&peer, &units(arena, 100.0)?, seconds(8)).await;
    let ended = host.wait_exit(seconds(12)).await.is_some();
    let pictures = host
        .line_with("pictures, the first")
        .and_then(|line| line.text.split_whitespace().next()?.parse::<u64>().ok());
    Ok(match pictures {
        Some(n) => {
            Outcome::new(ended && n <= 400, format!("{n} pictures = {:.0} s", n as f64 / 25.0))
        }
        None if ended => Outcome::new(true, "nothing recorded"),
        None => Outcome::new(false, "still rendering 12 s after the call"),
    })
}

async fn data_channels(arena: &Arena) -> anyhow::Result<Outcome> {
    let (mut host, peer) = meet(arena, &[], &Answering::default(), b"eve").await?;
    let before = host.resources().resident_kib;
    let (mut n_opened, begin) = (0, Instant::now());
    let mut channels = Vec::new();
    while n_opened < 5000 && begin.elapsed() < seconds(15) && host.exit().is_none() {
        let Ok(channel) = peer.open_channel(&"x".repeat(200)).await else { break };
        n_opened += 1;
        // What is sent on a channel that nobody reads waits somewhere.
        for _ in 0..4 {
            let _ = channel.try_send(bytes::BytesMut::from(&[7; 4000][..])).await;
        }
        channels.push(channel);
        if n_opened % 50 == 0 {
            sleep(millis(50)).await;
        }
    }
    sleep(seconds(2)).await;
    let grown = host.resources().resident_kib.saturating_sub(before) / 1024;
    let figure = format!("{grown} MB for {n_opened} channels, {}", ending(&mut host));
    Ok(Outcome::new(grown < 20, figure))
}

async fn tcp_candidates(arena: &Arena) -> anyhow::Result<Outcome> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let line = |i: u32| {
        format!(
            "candidate:{i} 1 tcp {} 127.0.0.1 {port} typ host tcptype passive",
            2_000_000_000 - i
        )
    };
    let with_tcp = |answer: &str| {
        let lines: Vec<String> = (100..125).map(|i| format!("a={}\r\n", line(i))).collect();
        let lines = lines.concat();
        answer.replacen("a=candidate:", &format!("{lines}a=candidate:"), 1)
    };
    let answering = Answering { answer: &with_tcp, ..Answering::default() };
    let switchboard = Switchboard::open(Role::Host).await?;
    let (host, link) = arena.host(Some(switchboard.address()), &[]).await?;
    let mut peer = HostilePeer::answer(switchboard, &link, &answering).await?;
    for i in 125..150 {
        peer.send_candidate(&line(i));
    }
    let mut n_connections = 0;
    let until = Instant::now() + seconds(6);
    while let Ok(Ok(_)) = tokio::time::timeout_at(until, listener.accept()).await {
        n_connections += 1;
    }
    drop(host);
    Ok(Outcome::new(n_connections == 0, format!("{n_connections} connections")))
}

async fn escapes(arena: &Arena) -> anyhow::Result<Outcome> {
    let name = b"\x1b]0;owned\x07\x1b[2J\xe2\x80\xaeeve\r\nhost: all is well";
    let (mut host, peer) = meet(arena, &[], &Answering::default(), name).await?;
    let chat = b"\x1b]52;c;cm0gLXJm\x07\x1b[31m\x9b\xc2\x9b5nhello\x08\x08\n\nhost: send money";
    let mut message = vec![control::CHAT];
    message.extend(chat.iter().filter(|byte| byte.is_ascii() || **byte == 0xc2));
    message.retain(|byte| *byte != 0xc2);
    peer.send(&message).await?;
    peer.send(&[&[control::CHAT][..], "\u{9b}5n\u{202e}hello".as_bytes()].concat()).await?;
    host.wait_for("hello", seconds(5)).await;
    sleep(millis(500)).await;
    let printed = String::from_utf8_lossy(&host.raw()).into_owned();
    let is_hostile =
        |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
    let n_hostile = printed.chars().filter(|c| is_hostile(*c)).count();
    let n_faked = printed.lines().filter(|line| line.starts_with("host:")).count();
    let figure = format!("{n_hostile} control characters, {n_faked} faked lines");
    Ok(Outcome::new(n_hostile == 0 && n_faked == 0, figure))
}

async fn answers(arena: &Arena) -> anyhow::Result<Outcome> {
    let bad = |answer: &str| {
        vec![String::new(), "v=0".to_owned(), answer.replace("a=ice-pwd:", "a=ice-pwx:")]
    };
    let mut survived = Vec::new();
    // Damaged answers cost their attempt only: the host makes another one.
    let answering = Answering { before: &bad, ..Answering::default() };
    let switchboard = Switchboard::open(Role::Host).await?;
    let (_host, link) = arena.host(Some(switchboard.address()), &[]).await?;
    let mut peer = HostilePeer::answer(switchboard, &link, &answering).await?;
    survived.push(peer.is_offered_again().await);
    // In the call: the same answer again, another one and a damaged one.
    let (mut host, mut peer) = meet(arena, &[], &Answering::default(), b"eve").await?;
    let own = peer.own_answer().to_owned();
    for answer in [own.clone(), own.replace("a=ice-ufrag:", "a=ice-ufrag:x"), "v=0".to_owned()] {
        peer.send_answer(&answer);
        sleep(millis(500)).await;
        survived.push(host.exit().is_none());
    }
    let _ = peer.send(&[&[control::CHAT][..], b"still here"].concat()).await;
    survived.push(host.wait_for("still here", seconds(3)).await.is_some());
    let n = survived.iter().filter(|survived| **survived).count();
    let figure = format!("survived {n} of {}, {}", survived.len(), ending(&mut host));
    Ok(Outcome::new(n == survived.len(), figure))
}

async fn face_exchange(arena: &Arena) -> anyhow::Result<Outcome> {
    let (mut host, mut peer) = meet(arena, &[], &Answering::default(), b"eve").await?;
    peer.show_face(&arena.face().public_bytes()).await?;
    host.wait_for(FACE, seconds(30)).await.context("the first face is not shown")?;
    sleep(millis(500)).await;
    let before = host.lines().len();
    let other = vec![7; 100_000];
    peer.offer_face(&other).await?;
    let is_fetched = peer.wait_for(control::REQUEST, seconds(4)).await.is_some();
    let told = host.lines().get(before).map(|line| line.text.clone());
    let figure = match (is_fetched, &told) {
        (true, None) => "fetched without a word".to_owned(),
        (true, Some(_)) => "fetched, the user was told".to_owned(),
        (false, None) => "not fetched".to_owned(),
        (false, Some(_)) => "not fetched, the user was told".to_owned(),
    };
    Ok(Outcome::new(!is_fetched || told.is_some(), figure))
}

async fn addresses(arena: &Arena) -> anyhow::Result<Outcome> {
    let mut switchboard = Switchboard::open(Role::Host).await?;
    let (_host, link) = arena.host(Some(switchboard.address()), &[]).await?;
    let secret = super::arena::secret(&link)?;
    let mut envelope = envelope::Envelope::new(secret, Role::Guest);
    let offer = super::peer::offer_of_host(&mut switchboard, &mut envelope).await?.0.text();
    let (on_loopback, all) = super::peer::addresses(&offer);
    let n_tcp = envelope::candidates(&offer).filter(|c| c.to_lowercase().contains(" tcp ")).count();
    let figure = format!("{} of {} on loopback, {n_tcp} of type TCP", on_loopback.len(), all.len());
    Ok(Outcome::new(
        n_tcp == 0 && (on_loopback.is_empty() || on_loopback.len() == all.len()),
        figure,
    ))
}
