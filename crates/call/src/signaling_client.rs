//! Client of a rendezvous service: one WebSocket, opened again when it breaks.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use transport::MAX_SEALED_BYTES;

use crate::rendezvous::ROOM_IS_FULL;
use crate::session::{Input, SignalingEvent};

/// How long to wait for a service to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before the next attempt to connect again.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// Sealed messages that wait for the service. More are dropped; peers repeat what matters.
const MAX_MESSAGES: usize = 64;
/// How long a client that is closed may take to send what waits.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(600);

/// Why a rendezvous service cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalingError {
    /// It did not answer in time.
    #[error("no rendezvous service answers at {0}; is the other side still waiting?")]
    Timeout(String),
    /// It refused the connection, or is not a rendezvous service.
    #[error("cannot reach the rendezvous service at {host}: {reason}")]
    Refused {
        /// Address of the service, `HOST:PORT`.
        host: String,
        /// Error of the WebSocket.
        #[source]
        reason: Box<tungstenite::Error>,
    },
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Connection to one room of a rendezvous service, while it is held.
pub(crate) struct SignalingClient {
    socket: Socket,
    host: String,
    url: String,
}

/// Running client: sends sealed messages and passes received ones to the session.
pub(crate) struct RunningClient {
    out: mpsc::Sender<Vec<u8>>,
    reconnect: Arc<Notify>,
    task: JoinHandle<()>,
}

impl SignalingClient {
    /// Enters a room; `host` is `HOST:PORT`, with or without `ws://`.
    pub(crate) async fn enter(host: &str, room: &str) -> Result<Self, SignalingError> {
        let host = without_scheme(host).to_owned();
        let url = format!("ws://{host}/v1/{room}");
        let socket = connect(&host, &url).await?;
        Ok(Self { socket, host, url })
    }

    /// Starts the task that serves the connection.
    pub(crate) fn start(self, inputs: mpsc::Sender<Input>) -> RunningClient {
        let (out, outgoing) = mpsc::channel(MAX_MESSAGES);
        let reconnect = Arc::new(Notify::new());
        let task = tokio::spawn(self.run(outgoing, inputs, Arc::clone(&reconnect)));
        RunningClient { out, reconnect, task }
    }

    /// Serves the connection, and connects again when it breaks, until the client is closed.
    async fn run(
        mut self,
        mut outgoing: mpsc::Receiver<Vec<u8>>,
        inputs: mpsc::Sender<Input>,
        reconnect: Arc<Notify>,
    ) {
        loop {
            let mut is_asked = false;
            let is_closed = tokio::select! {
                is_closed = serve(&mut self.socket, &mut outgoing, &inputs) => is_closed,
                () = reconnect.notified() => { is_asked = true; false }
            };
            if is_closed {
                break;
            }
            self.socket = loop {
                if !std::mem::take(&mut is_asked) {
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                if outgoing.is_closed() {
                    return;
                }
                if let Ok(socket) = connect(&self.host, &self.url).await {
                    break socket;
                }
            };
        }
        let _ = self.socket.close(None).await;
    }
}

impl RunningClient {
    /// Queues a sealed message, or drops it when the queue is full.
    pub(crate) fn send(&self, sealed: Vec<u8>) {
        let _ = self.out.try_send(sealed);
    }

    /// Connects again at once: the connection may be dead without knowing it.
    pub(crate) fn reconnect(&self) {
        self.reconnect.notify_one();
    }

    /// Sends what waits, but not for long, and closes.
    pub(crate) async fn close(self) {
        drop(self.out);
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, self.task).await;
    }
}

/// Returns `HOST:PORT` of a service's address.
pub(crate) fn without_scheme(host: &str) -> &str {
    host.trim_start_matches("ws://").trim_end_matches('/')
}

async fn connect(host: &str, url: &str) -> Result<Socket, SignalingError> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_SEALED_BYTES))
        .max_frame_size(Some(MAX_SEALED_BYTES));
    let connecting = connect_async_with_config(url, Some(config), true);
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(reason)) => {
            Err(SignalingError::Refused { host: host.to_owned(), reason: Box::new(reason) })
        }
        Err(_) => Err(SignalingError::Timeout(host.to_owned())),
    }
}

/// Passes messages both ways. Returns `true` when the client was closed, `false` when the socket
/// broke.
async fn serve(
    socket: &mut Socket,
    outgoing: &mut mpsc::Receiver<Vec<u8>>,
    inputs: &mpsc::Sender<Input>,
) -> bool {
    loop {
        let event = tokio::select! {
            sealed = outgoing.recv() => {
                let Some(sealed) = sealed else { return true };
                if socket.send(Message::Binary(sealed.into())).await.is_err() {
                    return false;
                }
                continue;
            }
            message = socket.next() => match message {
                Some(Ok(Message::Binary(sealed))) => SignalingEvent::Sealed(sealed),
                Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == ROOM_IS_FULL => {
                    SignalingEvent::RoomIsFull
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return false,
                Some(Ok(_)) => continue,
            },
        };
        // A session that has ended does not listen, but its last messages are still sent.
        let _ = inputs.send(Input::Signaling(event)).await;
    }
}
