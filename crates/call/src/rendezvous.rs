//! The rendezvous service: a room of two, and sealed messages passed from one to the other.
//!
//! It sees who meets when and how much they say, and nothing of what: messages are opaque. It
//! keeps nothing once they have left, and a message for a peer that is not there is dropped.
#![expect(clippy::disallowed_methods, reason = "a service measures rates")]

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

/// Rooms at one time.
const MAX_ROOMS: usize = 10_000;
/// Messages of a peer: this many at once, then [`PER_SECOND`].
const BURST: f64 = 64.0;
const PER_SECOND: f64 = 8.0;
/// A peer is asked for a sign of life this often, and gone after three times without.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Nobody waits longer than this.
const LIFETIME: Duration = Duration::from_hours(12);
/// Messages that wait for a slow peer.
const WAITING: usize = 64;
/// Close codes, 4000 and up being the application's.
pub(crate) const ROOM_IS_FULL: u16 = 4001;
const TOO_MUCH: u16 = 4002;
const EXPIRED: u16 = 4003;

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for peers on {address}: {reason}")]
pub struct ServeError {
    /// Where it was to listen.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub reason: std::io::Error,
}

/// A service that listens, and answers while [`Rendezvous::run`] is awaited.
pub struct Rendezvous {
    listener: TcpListener,
    address: SocketAddr,
}

impl Rendezvous {
    /// Starts to listen; port 0 takes a free one.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub async fn bind(address: SocketAddr) -> Result<Self, ServeError> {
        let failed = |reason| ServeError { address, reason };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the future is dropped.
    ///
    /// # Errors
    /// If the listener fails for good.
    pub async fn run(self) -> Result<(), ServeError> {
        let app =
            Router::new().route("/v1/{room}", get(enter)).with_state(Arc::new(Rooms::default()));
        let address = self.address;
        axum::serve(self.listener, app).await.map_err(|reason| ServeError { address, reason })
    }
}

/// Runs the service on `address` until the process ends.
///
/// # Errors
/// If the address cannot be had, or the listener fails for good.
pub fn serve(address: SocketAddr, ready: impl FnOnce(SocketAddr)) -> Result<(), ServeError> {
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

#[derive(Default)]
struct Rooms(Mutex<HashMap<String, Vec<Seat>>>);

/// Whose seat it is, and where messages for it go.
type Seat = (u64, mpsc::Sender<Bytes>);

impl Rooms {
    fn with<T>(
        &self,
        act: impl FnOnce(&mut HashMap<String, Vec<(u64, mpsc::Sender<Bytes>)>>) -> T,
    ) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a seat; `None` when two are taken.
    fn enter(&self, room: &str) -> Option<(u64, mpsc::Receiver<Bytes>)> {
        self.with(|rooms| {
            if rooms.len() >= MAX_ROOMS && !rooms.contains_key(room) {
                return None;
            }
            let seats = rooms.entry(room.to_owned()).or_default();
            if seats.len() >= 2 {
                return None;
            }
            let seat = seats.iter().map(|(seat, _)| seat + 1).max().unwrap_or(0);
            let (sender, receiver) = mpsc::channel(WAITING);
            seats.push((seat, sender));
            Some((seat, receiver))
        })
    }

    fn leave(&self, room: &str, seat: u64) {
        self.with(|rooms| {
            if let Some(seats) = rooms.get_mut(room) {
                seats.retain(|(other, _)| *other != seat);
                if seats.is_empty() {
                    rooms.remove(room);
                }
            }
        });
    }

    fn pass_on(&self, room: &str, from: u64, message: &Bytes) {
        self.with(|rooms| {
            for (seat, sender) in rooms.get(room).into_iter().flatten() {
                if *seat != from {
                    let _ = sender.try_send(message.clone());
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
        .on_upgrade(move |socket| sit(socket, room, rooms))
}

async fn sit(mut socket: WebSocket, room: String, rooms: Arc<Rooms>) {
    let Some((seat, inbox)) = rooms.enter(&room) else {
        let frame = CloseFrame { code: ROOM_IS_FULL, reason: "two peers are here".into() };
        let _ = socket.send(Message::Close(Some(frame))).await;
        return;
    };
    let reason = talk(&mut socket, &room, seat, inbox, &rooms).await;
    rooms.leave(&room, seat);
    if let Some((code, reason)) = reason {
        let frame = CloseFrame { code, reason: reason.into() };
        let _ = socket.send(Message::Close(Some(frame))).await;
    }
}

/// Passes messages both ways until the peer leaves (`None`) or has to.
async fn talk(
    socket: &mut WebSocket,
    room: &str,
    seat: u64,
    mut inbox: mpsc::Receiver<Bytes>,
    rooms: &Rooms,
) -> Option<(u16, &'static str)> {
    let entered = Instant::now();
    let (mut allowance, mut counted) = (BURST, entered);
    let mut last_heard = entered;
    let mut ping = tokio::time::interval(PING_EVERY);
    loop {
        tokio::select! {
            message = socket.next() => {
                last_heard = Instant::now();
                match message? {
                    Ok(Message::Binary(message)) => {
                        let passed = counted.elapsed().as_secs_f64();
                        counted = last_heard;
                        allowance = (allowance + passed * PER_SECOND).min(BURST) - 1.0;
                        if allowance < 0.0 {
                            return Some((TOO_MUCH, "too many messages"));
                        }
                        rooms.pass_on(room, seat, &message);
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
                if entered.elapsed() > LIFETIME {
                    return Some((EXPIRED, "the room has expired"));
                }
                if last_heard.elapsed() > 3 * PING_EVERY
                    || socket.send(Message::Ping(Bytes::new())).await.is_err()
                {
                    return None;
                }
            }
        }
    }
}
