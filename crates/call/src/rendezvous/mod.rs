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

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
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

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Pause after the operating system had no descriptor for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The rendezvous service cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for peers on {address}: {}", words_for(reason))]
pub struct ServeError {
    /// Address that it was to listen on.
    pub address: SocketAddr,
    /// Error of the operating system; the message says it in plain words.
    pub reason: io::Error,
}

/// Says what to do about the errors that are the user's to mend.
fn words_for(reason: &io::Error) -> String {
    match reason.kind() {
        ErrorKind::AddrInUse => "another program uses this port; choose another one".to_owned(),
        ErrorKind::AddrNotAvailable => {
            "this machine does not have this address; 0.0.0.0 or [::] stand for all it has"
                .to_owned()
        }
        ErrorKind::PermissionDenied => {
            "the system does not let you use this port; choose one above 1023".to_owned()
        }
        _ => reason.to_string(),
    }
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

/// Listens on an address and returns it with its port; port 0 chooses a free one.
fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |reason| ServeError { address, reason };
    let listener = bind(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Listens on a free port of every address of this machine, of both families where there are both.
fn listen_everywhere() -> Result<(TcpListener, SocketAddr), ServeError> {
    let on = |ip: IpAddr| listen(SocketAddr::new(ip, 0));
    // A system may be without IPv6.
    on(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| on(Ipv4Addr::UNSPECIFIED.into()))
}

/// Listens. Unlike the functions of the standard library, a wildcard of IPv6 covers IPv4 on every system.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // On Windows, this would let two programs have one port.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
