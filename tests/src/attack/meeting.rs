//! Attacks by strangers on the rendezvous service, and by those who see a room's name.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};
use transport::Role;

use super::arena::{CONNECTED, words};
use super::{Arena, Attack, Outcome, Process, Protocol};

type Socket = WebSocketStream<TcpStream>;

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "dead-seat",
            what: "the first guest stands still before it is connected: a second one gets in",
            before: "not connected: the invite is in use",
            run: |arena| Box::pin(dead_seat(arena)),
        },
        Attack {
            name: "seat-theft",
            what: "a stranger who knows the room takes every seat: the guest still gets in",
            before: "not connected: the invite is in use",
            run: |arena| Box::pin(seat_theft(arena)),
        },
        Attack {
            name: "idle-sockets",
            what: "200 sockets that say nothing or one byte a second: closed within 25 s",
            before: "200 of 200 open after 25 s",
            run: |arena| Box::pin(idle_sockets(arena)),
        },
        Attack {
            name: "ping-flood",
            what: "5,000 pings from one member: its socket is closed",
            before: "still open",
            run: |arena| Box::pin(ping_flood(arena)),
        },
        Attack {
            name: "junk-at-the-door",
            what: "junk on 200 sockets of a stranger: an honest call succeeds meanwhile",
            before: "connected after 0.4 s",
            run: |arena| Box::pin(junk_at_the_door(arena)),
        },
        Attack {
            name: "closed-door",
            what: "while a call is up, its own rendezvous service lets nobody in",
            before: "0 of 100 refused, 101 descriptors taken",
            run: |arena| Box::pin(closed_door(arena)),
        },
    ]
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Starts a rendezvous service and returns it with its address.
async fn service(arena: &Arena) -> anyhow::Result<(Process, SocketAddr)> {
    let mut service = arena.start(&words("rendezvous --listen 127.0.0.1:0"))?;
    let line = service.wait_for("listening on", seconds(20)).await.context("no service")?;
    let address = line.text.split([' ', ':']).skip_while(|word| *word != "on").nth(1);
    let port = line.text.split(':').find_map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u16>().ok().filter(|port| *port > 255)
    });
    let ip = address.and_then(|ip| ip.parse().ok()).context("no address")?;
    Ok((service, SocketAddr::new(ip, port.context("no port")?)))
}

/// Connects from an address of this machine that no honest client has: limits count addresses.
async fn connect_as_stranger(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0)))?;
    Ok(timeout(seconds(2), socket.connect(address)).await??)
}

/// Returns the first address and the room of a link.
fn door(link: &str) -> Option<(SocketAddr, String)> {
    let (address, room) =
        link.strip_prefix("feathercall://")?.split('#').next()?.split_once('/')?;
    Some((address.split(',').next()?.parse().ok()?, room.to_owned()))
}

async fn enter(arena: &Arena, address: SocketAddr, room: &str) -> anyhow::Result<Socket> {
    let url = format!("ws://{address}{}", arena.protocol().path(room));
    let stream = connect_as_stranger(address).await?;
    Ok(timeout(seconds(5), client_async(url, stream)).await??.0)
}

async fn dead_seat(arena: &Arena) -> anyhow::Result<Outcome> {
    let (_service, address) = service(arena).await?;
    let options = words("--no-video");
    let (host, link) = arena.host(Some(address), &options).await?;
    host.signal("STOP");
    let first = arena.guest(&link, &options)?;
    sleep(seconds(2)).await;
    first.signal("STOP");
    host.signal("CONT");
    sleep(seconds(1)).await;
    let mut second = arena.guest(&link, &options)?;
    let connected = second.wait_for(CONNECTED, seconds(25)).await;
    let figure = match (&connected, second.lines().last()) {
        (Some(line), _) => format!("connected after {:.1} s", line.at.as_secs_f64()),
        (None, Some(line)) => format!("not connected: {}", line.text),
        (None, None) => "not connected in 25 s".to_owned(),
    };
    Ok(Outcome::new(connected.is_some(), figure))
}

async fn seat_theft(arena: &Arena) -> anyhow::Result<Outcome> {
    let options = words("--no-video");
    let (_host, link) = arena.host(None, &options).await?;
    let (address, room) = door(&link).context("the link has no address")?;
    let proof: Bytes = [&[1][..], &[9; 96]].concat().into();
    let thief = async {
        let mut sockets = Vec::new();
        loop {
            if let Ok(mut socket) = enter(arena, address, &room).await {
                let _ = socket.send(Message::Binary(proof.clone())).await;
                sockets.push(socket);
            }
            sockets.drain(..sockets.len().saturating_sub(50));
            sleep(millis(100)).await;
        }
    };
    let honest = async {
        sleep(seconds(1)).await;
        let mut guest = arena.guest(&link, &options)?;
        let connected = guest.wait_for(CONNECTED, seconds(15)).await;
        anyhow::Ok((connected, guest.lines().last().map(|line| line.text.clone())))
    };
    let (connected, last) = tokio::select! {
        result = honest => result?,
        () = thief => unreachable!("a thief never gives up"),
    };
    let figure = match &connected {
        Some(line) => format!("connected after {:.1} s", line.at.as_secs_f64()),
        None => format!("not connected: {}", last.unwrap_or_default()),
    };
    Ok(Outcome::new(connected.is_some(), figure))
}

/// Whether the other end has closed a socket.
fn is_closed(socket: &TcpStream) -> bool {
    let mut buffer = [0; 512];
    loop {
        match socket.try_read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

async fn idle_sockets(arena: &Arena) -> anyhow::Result<Outcome> {
    let (_service, address) = service(arena).await?;
    let mut sockets = Vec::new();
    for i in 0..200 {
        let mut socket = TcpStream::connect(address).await?;
        if i % 2 == 0 {
            let _ = socket.write_all(b"GET /v1/room-of-nobody HTTP/1.1\r\nHost: x\r\n").await;
        }
        sockets.push(socket);
    }
    let until = Instant::now() + seconds(25);
    let mut n_open = sockets.len();
    while Instant::now() < until && n_open > 0 {
        sleep(seconds(1)).await;
        for socket in sockets.iter_mut().step_by(2) {
            let _ = timeout(millis(10), socket.write_all(b"X")).await;
        }
        n_open = sockets.iter().filter(|socket| !is_closed(socket)).count();
    }
    Ok(Outcome::new(n_open == 0, format!("{n_open} of 200 open after 25 s")))
}

async fn ping_flood(arena: &Arena) -> anyhow::Result<Outcome> {
    let (service, address) = service(arena).await?;
    // A member like any other: only in version 1 was that possible without a secret.
    let secret = transport::Secret::new([3; transport::SECRET_BYTES]);
    let mut socket = enter(arena, address, &secret.room()).await?;
    if arena.protocol() == Protocol::V3 {
        let challenge = socket.next().await.context("no challenge")??.into_data();
        let proof = secret.room_key().prove_seat(Role::Guest, challenge[..].try_into()?);
        socket.send(Message::Binary(Bytes::copy_from_slice(&proof))).await?;
        sleep(millis(200)).await;
    }
    let before = service.resources().processor;
    let (mut n_sent, begin) = (0, Instant::now());
    while n_sent < 5000 && begin.elapsed() < seconds(10) {
        let ping = Message::Ping(Bytes::from_static(&[0; 100]));
        match timeout(seconds(1), socket.send(ping)).await {
            Ok(Ok(())) => n_sent += 1,
            _ => break,
        }
        if n_sent % 500 == 0 {
            sleep(millis(100)).await;
        }
    }
    sleep(millis(500)).await;
    let is_closed = is_closed(socket.get_ref());
    let busy = service.resources().processor.saturating_sub(before).as_secs_f64();
    let figure = format!(
        "{} after {n_sent} pings, {busy:.2} s of processor",
        if is_closed { "closed" } else { "still open" }
    );
    Ok(Outcome::new(is_closed, figure))
}

async fn junk_at_the_door(arena: &Arena) -> anyhow::Result<Outcome> {
    let (mut service, address) = service(arena).await?;
    let options = words("--no-video");
    let junk = async {
        let mut sockets = Vec::new();
        for i in 0_usize.. {
            if let Ok(mut socket) = connect_as_stranger(address).await {
                let noise: Vec<u8> = (0..2000).map(|j| (i * 31 + j * j * 7) as u8).collect();
                let _ = timeout(millis(100), socket.write_all(&noise)).await;
                sockets.push(socket);
            }
            sockets.drain(..sockets.len().saturating_sub(200));
            sleep(millis(5)).await;
        }
    };
    let honest = async {
        sleep(millis(500)).await;
        let (mut host, link) = arena.host(Some(address), &options).await?;
        let mut guest = arena.guest(&link, &options)?;
        let connected = guest.wait_for(CONNECTED, seconds(15)).await;
        host.wait_for(CONNECTED, seconds(2)).await;
        anyhow::Ok(connected)
    };
    let connected = tokio::select! {
        result = honest => result,
        () = junk => unreachable!("junk never ends"),
    };
    let is_alive = service.exit().is_none();
    let figure = match &connected {
        Ok(Some(line)) => format!("connected after {:.1} s", line.at.as_secs_f64()),
        Ok(None) => "not connected in 15 s".to_owned(),
        Err(error) => format!("{error:#}").lines().next().unwrap_or_default().to_owned(),
    };
    Ok(Outcome::new(is_alive && matches!(connected, Ok(Some(_))), figure))
}

async fn closed_door(arena: &Arena) -> anyhow::Result<Outcome> {
    let options = words("--no-video");
    let (mut host, link) = arena.host(None, &options).await?;
    let (address, room) = door(&link).context("the link has no address")?;
    let mut guest = arena.guest(&link, &options)?;
    if guest.wait_for(CONNECTED, seconds(20)).await.is_none()
        || host.wait_for(CONNECTED, seconds(5)).await.is_none()
    {
        return Ok(Outcome::new(false, "not connected"));
    }
    sleep(seconds(3)).await;
    let before = host.resources().descriptors;
    let (mut sockets, mut n_refused) = (Vec::new(), 0);
    for _ in 0..100 {
        match timeout(seconds(1), TcpStream::connect(address)).await {
            Ok(Ok(socket)) => sockets.push(socket),
            _ => n_refused += 1,
        }
    }
    sleep(seconds(1)).await;
    let is_served = enter(arena, address, &room).await.is_ok();
    let taken = host.resources().descriptors.saturating_sub(before);
    let figure = format!("{n_refused} of 100 refused, {taken} descriptors taken");
    Ok(Outcome::new(!is_served && taken <= 10, figure))
}
