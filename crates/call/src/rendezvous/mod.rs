//! Rendezvous service: rooms with a seat for the host and one for the guest, and sealed messages
//! passed from one to the other.
//!
//! The service sees who meets when, and how many bytes they exchange. It cannot read the messages,
//! and a seat is given only to those who prove the key of the room (docs/TRANSPORT.md, section
//! 4.3). It forgets a room when its members have left, and drops a message for an absent member.
//!
//! Everything a stranger can use up is limited: sockets in all and by address (`limits.rs`), bytes
//! and time before the proof, messages and bytes after it, time to receive (`member.rs`).
#![expect(clippy::disallowed_methods, reason = "a service measures rates and silence")]

mod address_group;
mod embedded;
mod limits;
mod member;
mod metered_stream;
mod metrics;
mod refusals;
mod request;
mod rooms;
mod standalone;
#[cfg(test)]
mod wall_clock_tests;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::http::StatusCode;

use address_group::AddressGroup;
pub(crate) use embedded::EmbeddedRendezvous;
use limits::{Limits, SocketTable};
use metrics::Metrics;
use refusals::{AbuseLog, Refusal};
use rooms::{Rooms, Seat};
pub use standalone::RendezvousService;

use crate::shared::lock;

/// Pause after the operating system had no descriptor for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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

/// Takes lines about abuse.
type Log = Box<dyn Fn(&str) + Send + Sync>;

/// State that all connections share. Each lock is held for microseconds, and never two at once.
struct Service {
    sockets: Mutex<SocketTable>,
    rooms: Mutex<Rooms>,
    metrics: Arc<Metrics>,
    abuse: Mutex<AbuseLog>,
    log: Log,
    /// The only room that is served; none serves all.
    only_room: Option<String>,
    /// Becomes true when all members are to leave.
    stopping: watch::Sender<bool>,
}

impl Service {
    fn new(limits: Limits, only_room: Option<String>, log: Log) -> Arc<Self> {
        Arc::new(Self {
            sockets: Mutex::new(SocketTable::new(limits)),
            rooms: Mutex::default(),
            metrics: Arc::default(),
            abuse: Mutex::default(),
            log,
            only_room,
            stopping: watch::Sender::new(false),
        })
    }

    /// Accepts connections until the future is dropped.
    async fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((tcp, from)) => self.open(tcp, address_of(from)),
                Err(error) if is_of_client(error.kind()) => {}
                Err(_) => {
                    self.refuse(Refusal::Descriptors, None);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Starts to serve a connection, or refuses it.
    fn open(self: &Arc<Self>, tcp: TcpStream, address: AddressGroup) {
        let opened = lock(&self.sockets).open(address, Instant::now());
        if let Err(refusal) = opened {
            self.refuse(refusal, Some(address));
            let status = match refusal {
                Refusal::Full => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::TOO_MANY_REQUESTS,
            };
            // A new connection has room for a few bytes. Nobody waits for a refused one.
            let _ = tcp.try_write(request::response(status, "too many connections").as_bytes());
            return;
        }
        let _ = tcp.set_nodelay(true);
        let service = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(refusal) = member::serve(&service, tcp).await {
                service.refuse(refusal, Some(address));
            }
            lock(&service.sockets).close(address);
        });
    }

    fn refuse(&self, refusal: Refusal, address: Option<AddressGroup>) {
        self.metrics.refuse(refusal);
        let line = lock(&self.abuse).note(refusal, address, Instant::now());
        if let Some(line) = line {
            (self.log)(&line);
        }
    }

    fn forward(&self, from: &Seat, message: &[u8]) {
        let is_queued = lock(&self.rooms).forward(from, message);
        self.metrics.messages.add(1);
        self.metrics.dropped_messages.add(usize::from(!is_queued));
    }

    fn metrics_text(&self) -> String {
        let n_sockets = lock(&self.sockets).n_sockets();
        let n_rooms = lock(&self.rooms).len();
        self.metrics.text(n_sockets, n_rooms)
    }
}

/// Returns the address to which a connection is counted.
fn address_of(from: SocketAddr) -> AddressGroup {
    AddressGroup::of(from.ip())
}

/// Whether an error of `accept` concerns one client only.
fn is_of_client(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |reason| ServeError { address, reason };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}
