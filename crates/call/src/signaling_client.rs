//! Client of a rendezvous service: one WebSocket, opened again when it breaks.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use transport::{CHALLENGE_BYTES, Role, RoomKey};

use crate::happy_eyeballs::{Target, first_success, resolve};
use crate::session::{Input, SignalingEvent};
use crate::signaling_error::SignalingError;
use crate::web_socket::{self, REPLACED, send_message};

/// How long to wait for an address to answer.
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

type Socket = WebSocketStream<TcpStream>;

/// Connection to one seat at a rendezvous service, while it is held.
pub(crate) struct SignalingClient {
    socket: Socket,
    address: SeatAddress,
}

/// Which seat at which service.
struct SeatAddress {
    /// Addresses of the service, each `HOST:PORT`, in the order in which they are tried.
    hosts: Vec<String>,
    /// The address that worked last time.
    last: Option<SocketAddr>,
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
    /// Takes the seat of `role` in the room of `key` at the service of which `hosts` are the addresses,
    /// each `HOST:PORT`.
    pub(crate) async fn enter(
        hosts: Vec<String>,
        key: RoomKey,
        role: Role,
    ) -> Result<Self, SignalingError> {
        let mut address = SeatAddress { hosts, last: None, key, role };
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
    /// Connects to the service at the first address that works, and proves the right to the seat.
    async fn connect(&mut self) -> Result<Socket, SignalingError> {
        let mut targets = resolve(&self.hosts).await;
        if let Some(at) = targets.iter().position(|target| Some(target.address) == self.last) {
            targets[..=at].rotate_right(1);
        }
        let room = self.key.room();
        let attempts: Vec<_> =
            targets.into_iter().map(|target| open(target, room.clone())).collect();
        let connected = first_success(attempts).await;
        let Opened { mut socket, challenge, target } =
            connected.map_err(|errors| SignalingError::most_telling(&self.hosts, errors))?;
        let proof = self.key.prove_seat(self.role, &challenge);
        send_message(&mut socket, proof.to_vec().into())
            .await
            .map_err(|error| SignalingError::of(target.host, error))?;
        self.last = Some(target.address);
        Ok(socket)
    }
}

/// A connection to a service that waits for the proof. Nothing has changed at the service yet, so any
/// number of them may be opened and dropped.
struct Opened {
    socket: Socket,
    challenge: [u8; CHALLENGE_BYTES],
    target: Target,
}

/// Connects to the service at one address and waits for its challenge.
async fn open(target: Target, room: String) -> Result<Opened, SignalingError> {
    let url = format!("ws://{}/v2/{room}", without_zone(&target.host));
    let host = target.host.clone();
    let opening = async {
        let tcp = TcpStream::connect(target.address).await?;
        tcp.set_nodelay(true)?;
        let config = Some(web_socket::config());
        let (mut socket, _) = client_async_with_config(url, tcp, config).await?;
        loop {
            let message = socket.next().await.unwrap_or(Err(tungstenite::Error::ConnectionClosed));
            if let Message::Binary(challenge) = message? {
                let challenge =
                    challenge[..].try_into().map_err(|_| tungstenite::Error::AttackAttempt)?;
                return Ok(Opened { socket, challenge, target });
            }
        }
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, opening).await {
        Ok(opened) => opened.map_err(|error| SignalingError::of(host, error)),
        Err(_) => Err(SignalingError::Timeout(host)),
    }
}

/// Returns `HOST:PORT` without the zone of a link-local address, which is none of a URL.
fn without_zone(host: &str) -> String {
    match (host.split_once('%'), host.rsplit_once(']')) {
        (Some((address, _)), Some((_, port))) => format!("{address}]{port}"),
        _ => host.to_owned(),
    }
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
