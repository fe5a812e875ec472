//! A rendezvous service that works for the attacker: it takes everything that the two ends of a
//! call say and hands it over.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use transport::Role;

/// Messages that wait to be read by the attack, or to be written to a member.
const MAX_MESSAGES: usize = 256;
/// How long a member may take to enter.
const ENTER_TIMEOUT: Duration = Duration::from_secs(10);

/// Version of the protocol that the program under attack speaks, as its path at the service says:
/// that of version 2 is still the one of version 3.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// Version 1: no attempt numbers, no admission.
    V1,
    /// Version 3.
    V3,
}

impl Protocol {
    /// Returns the version number.
    pub fn version(self) -> u16 {
        match self {
            Self::V1 => 1,
            Self::V3 => 3,
        }
    }

    /// Returns the path of a room at a rendezvous service.
    pub(super) fn path(self, room: &str) -> String {
        match self {
            Self::V1 => format!("/v1/{room}"),
            Self::V3 => format!("/v2/{room}"),
        }
    }
}

type Seats = Arc<Mutex<[Option<mpsc::Sender<Bytes>>; 2]>>;

/// The service of one call. It listens on loopback until it is dropped.
pub struct Switchboard {
    address: SocketAddr,
    inbox: mpsc::Receiver<(Role, Bytes)>,
    seats: Seats,
    protocol: Arc<OnceLock<Protocol>>,
    task: tokio::task::JoinHandle<()>,
}

/// Sends to one end of a call, whichever socket it uses now.
#[derive(Clone)]
pub struct SeatSender {
    role: Role,
    seats: Seats,
}

impl SeatSender {
    /// Sends a message to the end, or drops it if nobody is there.
    pub fn send(&self, message: Bytes) {
        let seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outbox) = &seats[seat(self.role)] {
            let _ = outbox.try_send(message);
        }
    }
}

impl Switchboard {
    /// Opens a service on a free port. A client of version 1 does not say who it is: the first one
    /// gets the seat of `first`.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn open(first: Role) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (sender, inbox) = mpsc::channel(MAX_MESSAGES);
        let (seats, protocol) = (Seats::default(), Arc::new(OnceLock::new()));
        let task = tokio::spawn(accept(
            listener,
            first,
            Arc::clone(&seats),
            Arc::clone(&protocol),
            sender,
        ));
        Ok(Self { address, inbox, seats, protocol, task })
    }

    /// Returns the address for `--rendezvous`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the version of the first client; version 3 before there was one.
    pub fn protocol(&self) -> Protocol {
        self.protocol.get().copied().unwrap_or(Protocol::V3)
    }

    /// Returns the next message and who sent it; `None` only after the service was closed.
    pub async fn next(&mut self) -> Option<(Role, Bytes)> {
        self.inbox.recv().await
    }

    /// Returns a sender to one end.
    pub fn sender(&self, role: Role) -> SeatSender {
        SeatSender { role, seats: Arc::clone(&self.seats) }
    }
}

impl Drop for Switchboard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn seat(role: Role) -> usize {
    match role {
        Role::Host => 0,
        Role::Guest => 1,
    }
}

async fn accept(
    listener: TcpListener,
    first: Role,
    seats: Seats,
    protocol: Arc<OnceLock<Protocol>>,
    inbox: mpsc::Sender<(Role, Bytes)>,
) {
    let mut members = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (seats, protocol, inbox) = (Arc::clone(&seats), Arc::clone(&protocol), inbox.clone());
        members.spawn(async move {
            let _ = serve(stream, first, seats, protocol, inbox).await;
        });
    }
}

/// Serves one member until its socket closes.
async fn serve(
    stream: TcpStream,
    first: Role,
    seats: Seats,
    protocol: Arc<OnceLock<Protocol>>,
    inbox: mpsc::Sender<(Role, Bytes)>,
) -> Option<()> {
    let mut version = Protocol::V1;
    #[expect(clippy::result_large_err, reason = "the type is that of the library")]
    let note_path = |request: &Request, response: Response| {
        if request.uri().path().starts_with("/v2/") {
            version = Protocol::V3;
        }
        Ok(response)
    };
    let entering = accept_hdr_async(stream, note_path);
    let mut socket = tokio::time::timeout(ENTER_TIMEOUT, entering).await.ok()?.ok()?;
    let _ = protocol.set(version);
    let role = match version {
        Protocol::V1 => {
            let seats = seats.lock().unwrap_or_else(PoisonError::into_inner);
            let is_taken = seats[seat(first)].as_ref().is_some_and(|outbox| !outbox.is_closed());
            if is_taken { first.other() } else { first }
        }
        // The proof is not checked: this service works for the attacker.
        Protocol::V3 => {
            socket.send(Message::Binary(Bytes::from_static(&[7; 32]))).await.ok()?;
            let proof = tokio::time::timeout(ENTER_TIMEOUT, socket.next()).await.ok()??.ok()?;
            if proof.into_data().first() == Some(&0) { Role::Host } else { Role::Guest }
        }
    };
    let (outbox, mut outgoing) = mpsc::channel(MAX_MESSAGES);
    seats.lock().unwrap_or_else(PoisonError::into_inner)[seat(role)] = Some(outbox);
    loop {
        tokio::select! {
            message = outgoing.recv() => socket.send(Message::Binary(message?)).await.ok()?,
            message = socket.next() => {
                if let Message::Binary(bytes) = message?.ok()? {
                    inbox.send((role, bytes)).await.ok()?;
                }
            }
        }
    }
}
