//! One connection to the service, from its request to its end.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role as SocketRole};
use tokio_tungstenite::tungstenite::{Error, Message, http::StatusCode};
use transport::{CHALLENGE_BYTES, Role};

use super::Service;
use super::limits::Budget;
use super::metered_stream::MeteredStream;
use super::refusals::Refusal;
use super::request::{self, Request};
use super::rooms::{Next, Seat};
use crate::random::random;
use crate::shared::lock;
use crate::web_socket::{self, REPLACED, send_message};

/// How long a client may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to answer the challenge.
const PROOF_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to receive what was sent to it.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a closed client may take to confirm.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Messages, pings and pongs that a member may send at once; after that, [`PER_SECOND`].
const BURST: f64 = 64.0;
/// Messages, pings and pongs per second that a member may send for ever.
const PER_SECOND: f64 = 8.0;
/// Interval of the pings to a member.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// A member that was silent for this long is gone.
const SILENCE: Duration = Duration::from_secs(50);
/// A message of which more than this has arrived, and which is not complete after one to two
/// intervals of pings, is given up with its sender. The pongs of a whole membership are fewer.
const MAX_UNFINISHED_BYTES: usize = 16 * 1024;
/// Longest membership.
const LIFETIME: Duration = Duration::from_hours(12);

/// Close code: the service ends.
const GOING_AWAY: u16 = 1001;
/// Close code: too many messages or bytes, or messages of a wrong type.
const TOO_MUCH: u16 = 4002;
/// Close code: the membership has expired.
const EXPIRED: u16 = 4003;
/// Close code: the proof does not match the room.
const NO_PROOF: u16 = 4006;

type Socket = WebSocketStream<MeteredStream>;

/// Why a member leaves.
enum Leaving {
    /// It has left.
    Gone,
    /// It is told to go, without a fault of its own.
    Closed(u16, &'static str),
    Refused(Refusal),
}

/// Serves a connection until it ends.
pub(super) async fn serve(service: &Service, tcp: TcpStream) -> Result<(), Refusal> {
    let mut stream = MeteredStream::new(tcp, Arc::clone(&service.metrics), Instant::now());
    let reading = tokio::time::timeout(REQUEST_TIMEOUT, Request::read(&mut stream)).await;
    // A client that hangs up within its request did no harm.
    let Ok(request) = reading.map_err(|_| Refusal::SlowStart)? else { return Ok(()) };
    match request {
        Request::Room { room, upgrade, rest } => {
            if service.only_room.as_ref().is_some_and(|only| *only != room) {
                let answer = request::answer(&mut stream, StatusCode::GONE, "another call is here");
                let _ = in_time(answer).await?;
                return Err(Refusal::BadProof);
            }
            if in_time(request::accept(&mut stream, &upgrade)).await?.is_err() {
                return Ok(());
            }
            let config = Some(web_socket::config());
            let mut socket =
                Socket::from_partially_read(stream, rest, SocketRole::Server, config).await;
            serve_socket(service, &mut socket, &room).await
        }
        Request::Metrics if service.only_room.is_none() => {
            let text = service.metrics_text();
            let _ = in_time(request::answer(&mut stream, StatusCode::OK, &text)).await?;
            Ok(())
        }
        Request::Metrics => {
            let answer = request::answer(&mut stream, StatusCode::NOT_FOUND, "no metrics here");
            let _ = in_time(answer).await?;
            Ok(())
        }
        Request::Refused(refusal, status, text) => {
            let _ = in_time(request::answer(&mut stream, status, text)).await?;
            Err(refusal)
        }
    }
}

/// Serves a WebSocket: the proof, then the exchange of messages.
async fn serve_socket(service: &Service, socket: &mut Socket, room: &str) -> Result<(), Refusal> {
    let challenge = random::<CHALLENGE_BYTES>();
    let asking = ask_for_proof(socket, room, &challenge);
    let role = match tokio::time::timeout(PROOF_TIMEOUT, asking).await {
        Ok(Some(Ok(role))) => role,
        Ok(Some(Err(refusal))) => {
            close(socket, NO_PROOF, "the proof does not match the room").await;
            return Err(refusal);
        }
        Ok(None) => return Ok(()),
        Err(_) => return Err(Refusal::SlowStart),
    };
    socket.get_mut().grant_seat(Instant::now());
    let (seat, wake) = lock(&service.rooms).take_seat(room, role);
    service.metrics.joins.add(1);
    let Err(leaving) = exchange(service, socket, &seat, &wake).await;
    lock(&service.rooms).leave(&seat);
    match leaving {
        Leaving::Gone => Ok(()),
        Leaving::Closed(code, reason) => {
            close(socket, code, reason).await;
            Ok(())
        }
        Leaving::Refused(refusal) => {
            if matches!(refusal, Refusal::Flood | Refusal::BadRequest) {
                close(socket, TOO_MUCH, "too many messages, or not of the protocol").await;
            }
            Err(refusal)
        }
    }
}

/// Sends the challenge and checks the answer. Returns `None` if the client leaves.
async fn ask_for_proof(
    socket: &mut Socket,
    room: &str,
    challenge: &[u8; CHALLENGE_BYTES],
) -> Option<Result<Role, Refusal>> {
    send_message(socket, Bytes::copy_from_slice(challenge)).await.ok()?;
    loop {
        match socket.next().await? {
            Ok(Message::Binary(proof)) => {
                let verified = transport::verify_seat_proof(&proof, room, challenge);
                return Some(verified.map_err(|_| Refusal::BadProof));
            }
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Close(_)) => return None,
            Ok(Message::Text(_) | Message::Frame(_)) => return Some(Err(Refusal::BadProof)),
            Err(error) => return refusal_of(&error).map(Err),
        }
    }
}

/// Passes messages both ways until the member leaves or must leave.
async fn exchange(
    service: &Service,
    socket: &mut Socket,
    seat: &Seat,
    wake: &Notify,
) -> Result<Infallible, Leaving> {
    let joined = Instant::now();
    let mut budget = Budget::new(BURST, PER_SECOND, joined);
    let mut last_heard = joined;
    let mut is_unfinished = false;
    let mut ping = tokio::time::interval_at((joined + PING_INTERVAL).into(), PING_INTERVAL);
    let mut stopping = service.stopping.subscribe();
    loop {
        tokio::select! {
            message = socket.next() => {
                let message = match message {
                    Some(Ok(message)) => message,
                    Some(Err(error)) => return Err(leaving_of(&error)),
                    None => return Err(Leaving::Gone),
                };
                last_heard = Instant::now();
                if !budget.spend(1.0, last_heard) {
                    return Err(Leaving::Refused(Refusal::Flood));
                }
                match message {
                    Message::Binary(message) => {
                        socket.get_mut().restart_count();
                        is_unfinished = false;
                        service.forward(seat, &message);
                    }
                    Message::Ping(_) | Message::Pong(_) => {}
                    Message::Close(_) => return Err(Leaving::Gone),
                    Message::Text(_) | Message::Frame(_) => {
                        return Err(Leaving::Refused(Refusal::BadRequest));
                    }
                }
            }
            () = wake.notified() => loop {
                let next = lock(&service.rooms).next(seat);
                match next {
                    Next::Message(message) => send(send_message(socket, message)).await?,
                    Next::Nothing => break,
                    Next::Replaced => {
                        service.metrics.replacements.add(1);
                        return Err(Leaving::Closed(REPLACED, "replaced"));
                    }
                }
            },
            _ = ping.tick() => {
                if joined.elapsed() > LIFETIME {
                    return Err(Leaving::Closed(EXPIRED, "the membership has expired"));
                }
                if last_heard.elapsed() > SILENCE {
                    return Err(Leaving::Refused(Refusal::Silent));
                }
                let was_unfinished = is_unfinished;
                is_unfinished = socket.get_ref().n_received() > MAX_UNFINISHED_BYTES;
                if was_unfinished && is_unfinished {
                    return Err(Leaving::Refused(Refusal::Flood));
                }
                send(socket.send(Message::Ping(Bytes::new()))).await?;
            }
            () = stop(&mut stopping) => {
                return Err(Leaving::Closed(GOING_AWAY, "the service ends"));
            }
        }
    }
}

/// Waits until the service stops.
async fn stop(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stops| *stops).await;
}

/// Waits until something was sent, but not for ever.
async fn send(sending: impl Future<Output = Result<(), Error>>) -> Result<(), Leaving> {
    match tokio::time::timeout(SEND_TIMEOUT, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(leaving_of(&error)),
        Err(_) => Err(Leaving::Refused(Refusal::SlowReceiver)),
    }
}

/// Waits until an HTTP response was written, but not for ever.
async fn in_time<T>(writing: impl Future<Output = T>) -> Result<T, Refusal> {
    tokio::time::timeout(SEND_TIMEOUT, writing).await.map_err(|_| Refusal::SlowReceiver)
}

/// Closes a socket, and waits a little for the client to receive the reason.
async fn close(socket: &mut Socket, code: u16, reason: &'static str) {
    let frame = CloseFrame { code: code.into(), reason: reason.into() };
    let closing = async {
        if socket.close(Some(frame)).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
}

fn leaving_of(error: &Error) -> Leaving {
    refusal_of(error).map_or(Leaving::Gone, Leaving::Refused)
}

/// Returns what an error of the socket says about the client, if it says more than that the client
/// is gone.
fn refusal_of(error: &Error) -> Option<Refusal> {
    match error {
        Error::Io(error) if error.kind() == std::io::ErrorKind::QuotaExceeded => {
            Some(Refusal::Flood)
        }
        Error::Capacity(_) | Error::WriteBufferFull(_) => Some(Refusal::Flood),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) | Error::Utf8(_) => Some(Refusal::BadRequest),
        _ => None,
    }
}
