use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use super::limits::Limits;
use super::{ServeError, Service, listen};
use crate::addresses::published_addresses;
use crate::shared::lock;

/// Most sockets of a service, however many descriptors the process may have.
const MAX_SOCKETS: usize = 16_384;
/// Descriptors that are not for sockets of clients.
const RESERVED_DESCRIPTORS: u64 = 64;
/// How long the members may take to leave when the service stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a service that stops looks whether they have left.
const STOP_INTERVAL: Duration = Duration::from_millis(20);

/// A rendezvous service for everybody, with threads of its own.
///
/// It serves from [`RendezvousService::start`] until [`RendezvousService::stop`] or until it is
/// dropped. Its counters are at `/metrics`, in the text format of Prometheus.
pub struct RendezvousService {
    runtime: Runtime,
    service: Arc<Service>,
    accepting: JoinHandle<()>,
    address: SocketAddr,
}

impl RendezvousService {
    /// Starts to serve on `address`; port 0 chooses a free port. Raises this process's limit of
    /// open files to what the system allows.
    ///
    /// `log` takes a line about abuse, at most once a minute for each kind. A line may name the
    /// address that was refused, but no room.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub fn start(
        address: SocketAddr,
        log: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, ServeError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("feathercall-rendezvous")
            .enable_all()
            .build()
            .map_err(|reason| ServeError { address, reason })?;
        let (listener, address) = runtime.block_on(async { listen(address) })?;
        let service = Service::new(Limits::public(max_sockets()), None, Box::new(log));
        let accepting = runtime.spawn({
            let service = Arc::clone(&service);
            async move { service.accept(&listener).await }
        });
        Ok(Self { runtime, service, accepting, address })
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns an address by which other machines may reach it.
    pub fn published_address(&self) -> SocketAddr {
        let ip = published_addresses(self.address.ip())[0];
        SocketAddr::new(ip, self.address.port())
    }

    /// Tells all clients that the service ends, and waits up to two seconds until they have left.
    pub fn stop(self) {
        self.accepting.abort();
        self.service.stopping.send_replace(true);
        let all_left = async {
            while lock(&self.service.sockets).n_sockets() > 0 {
                tokio::time::sleep(STOP_INTERVAL).await;
            }
        };
        self.runtime.block_on(async {
            let _ = tokio::time::timeout(STOP_TIMEOUT, all_left).await;
        });
        self.runtime.shutdown_background();
    }
}

/// Returns how many sockets the descriptors of this process suffice for.
fn max_sockets() -> usize {
    let wanted = MAX_SOCKETS as u64 + RESERVED_DESCRIPTORS;
    // On an error the limit is what most systems begin with.
    let descriptors = rlimit::increase_nofile_limit(wanted).unwrap_or(1024);
    let sockets = descriptors.saturating_sub(RESERVED_DESCRIPTORS);
    usize::try_from(sockets).map_or(MAX_SOCKETS, |sockets| sockets.min(MAX_SOCKETS))
}
