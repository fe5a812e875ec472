//! The way to a rendezvous service: one WebSocket, opened again when it breaks.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use transport::MAX_SEALED_BYTES;

use crate::rendezvous::ROOM_IS_FULL;

/// A service that has not answered by then is not there.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Pause before the next try.
const RETRY: Duration = Duration::from_secs(2);
/// Sealed messages that wait for the service.
const WAITING: usize = 64;

/// Why the rendezvous service cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalingError {
    /// It did not answer in time.
    #[error("no rendezvous service answers at {0}; is the other side still waiting?")]
    Timeout(String),
    /// It refused, or is none.
    #[error("cannot reach the rendezvous service at {host}: {reason}")]
    Refused {
        /// `HOST:PORT`.
        host: String,
        /// What went wrong.
        #[source]
        reason: Box<tungstenite::Error>,
    },
}

/// What comes from the service.
#[derive(Debug)]
pub(crate) enum LineEvent {
    Sealed(Bytes),
    RoomIsFull,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A line that carries sealed messages while it is held.
pub(crate) struct Line {
    out: mpsc::Sender<Vec<u8>>,
}

impl Line {
    /// Enters a room; `host` is `HOST:PORT`, `ws://` before it understood.
    pub(crate) async fn enter(
        host: &str,
        room: &str,
    ) -> Result<(Self, mpsc::Receiver<LineEvent>), SignalingError> {
        let host = host.trim_start_matches("ws://").trim_end_matches('/').to_owned();
        let url = format!("ws://{host}/v1/{room}");
        let socket = connect(&host, &url).await?;
        let (out, outgoing) = mpsc::channel(WAITING);
        let (events, incoming) = mpsc::channel(WAITING);
        tokio::spawn(keep(socket, host, url, outgoing, events));
        Ok((Self { out }, incoming))
    }

    /// Hands over a sealed message; one too many is dropped, and the peer asks again.
    pub(crate) fn send(&self, sealed: Vec<u8>) {
        let _ = self.out.try_send(sealed);
    }
}

async fn connect(host: &str, url: &str) -> Result<Socket, SignalingError> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_SEALED_BYTES))
        .max_frame_size(Some(MAX_SEALED_BYTES));
    let connecting = connect_async_with_config(url, Some(config), true);
    match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(reason)) => {
            Err(SignalingError::Refused { host: host.to_owned(), reason: Box::new(reason) })
        }
        Err(_) => Err(SignalingError::Timeout(host.to_owned())),
    }
}

/// Pumps until nobody holds the line any more.
async fn keep(
    mut socket: Socket,
    host: String,
    url: String,
    mut outgoing: mpsc::Receiver<Vec<u8>>,
    events: mpsc::Sender<LineEvent>,
) {
    loop {
        if pump(&mut socket, &mut outgoing, &events).await {
            let _ = socket.close(None).await;
            return;
        }
        socket = loop {
            tokio::time::sleep(RETRY).await;
            if outgoing.is_closed() || events.is_closed() {
                return;
            }
            if let Ok(socket) = connect(&host, &url).await {
                break socket;
            }
        };
    }
}

/// Pumps until the socket breaks (`false`) or the line is put down (`true`).
async fn pump(
    socket: &mut Socket,
    outgoing: &mut mpsc::Receiver<Vec<u8>>,
    events: &mpsc::Sender<LineEvent>,
) -> bool {
    loop {
        tokio::select! {
            sealed = outgoing.recv() => {
                let Some(sealed) = sealed else { return true };
                if socket.send(Message::Binary(sealed.into())).await.is_err() {
                    return false;
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Binary(sealed))) => {
                    if events.send(LineEvent::Sealed(sealed)).await.is_err() {
                        return true;
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    if frame.is_some_and(|frame| u16::from(frame.code) == ROOM_IS_FULL) {
                        let _ = events.send(LineEvent::RoomIsFull).await;
                    }
                    return false;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return false,
            },
        }
    }
}
