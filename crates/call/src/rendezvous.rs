//! Rendezvous service: rooms of two members, and sealed messages passed from one to the other.
//!
//! The service sees who meets when, and how many bytes they exchange. It cannot read the messages.
//! It forgets a room when its members have left, and drops a message for an absent member.
#![expect(clippy::disallowed_methods, reason = "a service measures message rates")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use transport::MAX_SEALED_BYTES;

/// Rooms that exist at one time.
const MAX_ROOMS: usize = 10_000;
/// Messages that a member may send at once; after that, [`PER_SECOND`].
const BURST: f64 = 64.0;
/// Messages per second that a member may send for ever.
const PER_SECOND: f64 = 8.0;
/// Interval of the pings to a member. One that was silent for three intervals is gone.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Longest membership.
const LIFETIME: Duration = Duration::from_hours(12);
/// Messages that wait for a slow member. More are dropped.
const MAX_MESSAGES: usize = 64;
/// Close code: the room has two members. Codes from 4000 on belong to the application (RFC 6455,
/// section 7.4.2).
pub(crate) const ROOM_IS_FULL: u16 = 4001;
/// Close code: too many messages, or messages of a wrong type.
const TOO_MUCH: u16 = 4002;
/// Close code: the membership has expired.
const EXPIRED: u16 = 4003;

/// The rendezvous service cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for peers on {address}: {reason}")]
pub struct ServeError {
    /// Address that it was to listen on.
    pub address: SocketAddr,
    /// Error of the operating system.
    #[source]
    pub reason: std::io::Error,
}

/// Listening rendezvous service. It answers while [`Rendezvous::run`] is awaited.
pub(crate) struct Rendezvous {
    listener: TcpListener,
    address: SocketAddr,
}

impl Rendezvous {
    /// Starts to listen; port 0 chooses a free port.
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, ServeError> {
        let failed = |reason| ServeError { address, reason };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Returns the address it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the future is dropped or the listener fails.
    pub(crate) async fn run(self) -> Result<(), ServeError> {
        let app =
            Router::new().route("/v1/{room}", get(enter)).with_state(Arc::new(Rooms::default()));
        let address = self.address;
        axum::serve(self.listener, app).await.map_err(|reason| ServeError { address, reason })
    }
}

/// Runs a rendezvous service on `address` until the process ends; port 0 chooses a free port.
///
/// `ready` is called once, with the address that it listens on.
///
/// # Errors
/// If the address cannot be listened on, or the listener fails later.
pub fn serve_rendezvous(
    address: SocketAddr,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|reason| ServeError { address, reason })?;
    runtime.block_on(async {
        let service = Rendezvous::bind(address).await?;
        ready(service.address());
        service.run().await
    })
}

/// Rooms by name.
#[derive(Default)]
struct Rooms(Mutex<HashMap<String, Vec<Member>>>);

/// One of the two in a room.
struct Member {
    /// Different from that of the other member.
    id: u64,
    /// Takes messages for this member.
    outbox: mpsc::Sender<Bytes>,
}

impl Rooms {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Vec<Member>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a member to a room and returns its id and its messages; `None` when the room is full.
    fn join(&self, room: &str) -> Option<(u64, mpsc::Receiver<Bytes>)> {
        self.with(|rooms| {
            if rooms.len() >= MAX_ROOMS && !rooms.contains_key(room) {
                return None;
            }
            let members = rooms.entry(room.to_owned()).or_default();
            if members.len() >= 2 {
                return None;
            }
            let id = members.iter().map(|member| member.id + 1).max().unwrap_or(0);
            let (outbox, inbox) = mpsc::channel(MAX_MESSAGES);
            members.push(Member { id, outbox });
            Some((id, inbox))
        })
    }

    fn leave(&self, room: &str, id: u64) {
        self.with(|rooms| {
            if let Some(members) = rooms.get_mut(room) {
                members.retain(|member| member.id != id);
                if members.is_empty() {
                    rooms.remove(room);
                }
            }
        });
    }

    fn forward(&self, room: &str, from: u64, message: &Bytes) {
        self.with(|rooms| {
            for member in rooms.get(room).into_iter().flatten() {
                if member.id != from {
                    let _ = member.outbox.try_send(message.clone());
                }
            }
        });
    }
}

async fn enter(
    upgrade: WebSocketUpgrade,
    Path(room): Path<String>,
    State(rooms): State<Arc<Rooms>>,
) -> Response {
    if !transport::is_room(&room) {
        return StatusCode::NOT_FOUND.into_response();
    }
    upgrade
        .max_message_size(MAX_SEALED_BYTES)
        .max_frame_size(MAX_SEALED_BYTES)
        .on_upgrade(move |socket| serve_member(socket, room, rooms))
}

/// Serves a member from joining to leaving.
async fn serve_member(mut socket: WebSocket, room: String, rooms: Arc<Rooms>) {
    let Some((id, inbox)) = rooms.join(&room) else {
        let frame = CloseFrame { code: ROOM_IS_FULL, reason: "two peers are here".into() };
        let _ = socket.send(Message::Close(Some(frame))).await;
        return;
    };
    let reason = exchange(&mut socket, &room, id, inbox, &rooms).await;
    rooms.leave(&room, id);
    if let Some((code, reason)) = reason {
        let frame = CloseFrame { code, reason: reason.into() };
        let _ = socket.send(Message::Close(Some(frame))).await;
    }
}

/// Passes messages both ways until the member leaves, or must leave for the reason returned.
async fn exchange(
    socket: &mut WebSocket,
    room: &str,
    id: u64,
    mut inbox: mpsc::Receiver<Bytes>,
    rooms: &Rooms,
) -> Option<(u16, &'static str)> {
    let joined = Instant::now();
    let (mut allowance, mut allowance_updated) = (BURST, joined);
    let mut last_heard = joined;
    let mut ping = tokio::time::interval(PING_INTERVAL);
    loop {
        tokio::select! {
            message = socket.next() => {
                last_heard = Instant::now();
                match message? {
                    Ok(Message::Binary(message)) => {
                        let passed = allowance_updated.elapsed().as_secs_f64();
                        allowance_updated = last_heard;
                        allowance = (allowance + passed * PER_SECOND).min(BURST) - 1.0;
                        if allowance < 0.0 {
                            return Some((TOO_MUCH, "too many messages"));
                        }
                        rooms.forward(room, id, &message);
                    }
                    Ok(Message::Ping(_) | Message::Pong(_)) => {}
                    Ok(Message::Text(_)) => return Some((TOO_MUCH, "messages are binary")),
                    Ok(Message::Close(_)) | Err(_) => return None,
                }
            }
            Some(message) = inbox.recv() => {
                if socket.send(Message::Binary(message)).await.is_err() {
                    return None;
                }
            }
            _ = ping.tick() => {
                if joined.elapsed() > LIFETIME {
                    return Some((EXPIRED, "the room has expired"));
                }
                if last_heard.elapsed() > 3 * PING_INTERVAL
                    || socket.send(Message::Ping(Bytes::new())).await.is_err()
                {
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_has_two_members_who_hear_each_other_alone() {
        let rooms = Rooms::default();
        let (first, mut first_inbox) = rooms.join("room").unwrap();
        let (second, mut second_inbox) = rooms.join("room").unwrap();
        let (_, mut stranger_inbox) = rooms.join("other").unwrap();
        assert!(rooms.join("room").is_none(), "full");
        rooms.forward("room", first, &Bytes::from_static(b"hello"));
        assert_eq!(second_inbox.try_recv().unwrap(), &b"hello"[..]);
        assert!(first_inbox.try_recv().is_err() && stranger_inbox.try_recv().is_err());
        rooms.leave("room", second);
        rooms.forward("room", first, &Bytes::from_static(b"nobody is here"));
        let (third, mut third_inbox) = rooms.join("room").unwrap();
        assert!(third != first && third_inbox.try_recv().is_err());
    }
}
