//! Client of a rendezvous service: one WebSocket, opened again when it breaks.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use transport::{CHALLENGE_BYTES, Role, RoomKey};

use crate::session::{Input, SignalingEvent};
use crate::web_socket::{self, REPLACED, send_message};

/// How long to wait for a service to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before the first attempt to connect again. Each further pause is twice as long.
const FIRST_RETRY: Duration = Duration::from_millis(125);
/// Longest pause before an attempt to connect again.
const MAX_RETRY: Duration = Duration::from_secs(2);
/// A service that sends nothing for this long is gone: it sends a ping every 20 s.
const SILENCE: Duration = Duration::from_secs(50);
/// Orders that wait for the client. More are dropped; peers repeat what matters.
const MAX_ORDERS: usize = 64;
/// How long a client that is closed may take to send what waits.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(600);

/// Why a rendezvous service cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalingError {
    /// It did not answer in time.
    #[error("no rendezvous service answers at {0}; is the other side still waiting?")]
    Timeout(String),
    /// It does not know the path of this version.
    #[error(
        "the service at {0} is no rendezvous service of this version; update Feathercall there or here"
    )]
    OtherVersion(String),
    /// It has too many connections, from this address or in all.
    #[error("the rendezvous service at {0} has too many connections; try again in a minute")]
    Busy(String),
    /// It refused the connection, or is not a rendezvous service.
    #[error(
        "cannot reach the rendezvous service at {host}: {reason}; is it running, and is the other side not in a call already?"
    )]
    Refused {
        /// Address of the service, `HOST:PORT`.
        host: String,
        /// Error of the WebSocket.
        #[source]
        reason: Box<tungstenite::Error>,
    },
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Connection to one seat at a rendezvous service, while it is held.
pub(crate) struct SignalingClient {
    socket: Socket,
    address: SeatAddress,
}

/// Which seat at which service.
struct SeatAddress {
    /// `HOST:PORT`.
    host: String,
    key: RoomKey,
    role: Role,
}

/// Running client: sends sealed messages and passes received ones to the session.
pub(crate) struct RunningClient {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

/// What a running client is asked to do.
enum Order {
    Send(Vec<u8>),
    Reconnect,
}

/// Why a connection is no longer served.
enum End {
    /// The client was closed.
    Closed,
    /// The socket broke: connect again.
    Broken,
    /// The session asks for a new connection.
    Asked,
    /// Another client has a newer proof for the seat. Wait for [`Order::Reconnect`]; two clients that
    /// both came back by themselves would push each other out for ever.
    Replaced,
}

impl SignalingClient {
    /// Takes the seat of `role` in the room of `key`; `host` is `HOST:PORT`, with or without
    /// `ws://`.
    pub(crate) async fn enter(
        host: &str,
        key: RoomKey,
        role: Role,
    ) -> Result<Self, SignalingError> {
        let address = SeatAddress { host: without_scheme(host).to_owned(), key, role };
        let socket = address.connect().await?;
        Ok(Self { socket, address })
    }

    /// Starts the task that serves the connection.
    pub(crate) fn start(self, inputs: mpsc::Sender<Input>) -> RunningClient {
        let (orders, waiting) = mpsc::channel(MAX_ORDERS);
        RunningClient { orders, task: tokio::spawn(self.run(waiting, inputs)) }
    }

    /// Serves the connection, and connects again when it breaks, until the client is closed.
    async fn run(mut self, mut orders: mpsc::Receiver<Order>, inputs: mpsc::Sender<Input>) {
        loop {
            let mut pause = Duration::ZERO;
            match serve(&mut self.socket, &mut orders, &inputs).await {
                End::Closed => break,
                End::Broken => pause = FIRST_RETRY,
                End::Asked => {}
                End::Replaced => {
                    report(&inputs, SignalingEvent::Replaced).await;
                    if !wait_for_reconnect(&mut orders).await {
                        return;
                    }
                }
            }
            self.socket = loop {
                tokio::time::sleep(pause).await;
                pause = (2 * pause).clamp(FIRST_RETRY, MAX_RETRY);
                if orders.is_closed() {
                    return;
                }
                if let Ok(socket) = self.address.connect().await {
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
        let _ = self.orders.try_send(Order::Send(sealed));
    }

    /// Takes the seat again, over a new connection: the old one may be dead without knowing it, or
    /// another client may have taken the seat.
    pub(crate) fn reconnect(&self) {
        let _ = self.orders.try_send(Order::Reconnect);
    }

    /// Sends what waits, but not for long, and closes.
    pub(crate) async fn close(self) {
        drop(self.orders);
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, self.task).await;
    }
}

impl SeatAddress {
    /// Connects to the service and proves the right to the seat.
    async fn connect(&self) -> Result<Socket, SignalingError> {
        let url = format!("ws://{}/v2/{}", self.host, self.key.room());
        let connecting = async {
            let config = Some(web_socket::config());
            let (mut socket, _) = connect_async_with_config(url, config, true).await?;
            self.prove_seat(&mut socket).await?;
            Ok(socket)
        };
        let host = || self.host.clone();
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err(tungstenite::Error::Http(response))) => Err(match response.status() {
                StatusCode::NOT_FOUND | StatusCode::UPGRADE_REQUIRED => {
                    SignalingError::OtherVersion(host())
                }
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                    SignalingError::Busy(host())
                }
                _ => {
                    let reason = Box::new(tungstenite::Error::Http(response));
                    SignalingError::Refused { host: host(), reason }
                }
            }),
            Ok(Err(reason)) => {
                Err(SignalingError::Refused { host: host(), reason: Box::new(reason) })
            }
            Err(_) => Err(SignalingError::Timeout(host())),
        }
    }

    /// Answers the challenge with which the service begins.
    async fn prove_seat(&self, socket: &mut Socket) -> Result<(), tungstenite::Error> {
        loop {
            let message = socket.next().await.unwrap_or(Err(tungstenite::Error::ConnectionClosed));
            if let Message::Binary(challenge) = message? {
                let challenge: &[u8; CHALLENGE_BYTES] =
                    challenge[..].try_into().map_err(|_| tungstenite::Error::AttackAttempt)?;
                let proof = self.key.prove_seat(self.role, challenge);
                return send_message(socket, proof.to_vec().into()).await;
            }
        }
    }
}

/// Returns `HOST:PORT` of a service's address.
pub(crate) fn without_scheme(host: &str) -> &str {
    host.trim_start_matches("ws://").trim_end_matches('/')
}

/// Passes messages both ways, until the client is closed or the socket has come to its end.
async fn serve(
    socket: &mut Socket,
    orders: &mut mpsc::Receiver<Order>,
    inputs: &mpsc::Sender<Input>,
) -> End {
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                None => return End::Closed,
                Some(Order::Reconnect) => return End::Asked,
                Some(Order::Send(sealed)) => {
                    if send_message(socket, sealed.into()).await.is_err() {
                        return End::Broken;
                    }
                }
            },
            message = tokio::time::timeout(SILENCE, socket.next()) => match message {
                Ok(Some(Ok(Message::Binary(sealed)))) => {
                    report(inputs, SignalingEvent::Sealed(sealed)).await;
                }
                Ok(Some(Ok(Message::Close(Some(frame))))) if u16::from(frame.code) == REPLACED => {
                    return End::Replaced;
                }
                Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) | Err(_) => return End::Broken,
                Ok(Some(Ok(_))) => {}
            },
        }
    }
}

/// Waits until the session asks for the seat again. Returns `false` when the client was closed.
async fn wait_for_reconnect(orders: &mut mpsc::Receiver<Order>) -> bool {
    loop {
        match orders.recv().await {
            Some(Order::Reconnect) => return true,
            // There is no way to the peer, and nobody waits for this message any more.
            Some(Order::Send(_)) => {}
            None => return false,
        }
    }
}

/// Tells the session. One that has ended does not listen, but its last messages are still sent.
async fn report(inputs: &mpsc::Sender<Input>, event: SignalingEvent) {
    let _ = inputs.send(Input::Signaling(event)).await;
}
