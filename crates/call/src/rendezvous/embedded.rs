use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::limits::Limits;
use super::{ServeError, Service, bind, listen, listen_everywhere};

/// Pause before the next attempt to listen again on a port that is taken.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Rendezvous service inside a host, for one room. It stops when it is dropped.
pub(crate) struct EmbeddedRendezvous {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl EmbeddedRendezvous {
    /// Starts to serve `room` on the runtime of the calling task; without an address, on a free port of every
    /// address of this machine. Port 0 chooses a free port.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub(crate) fn start(address: Option<SocketAddr>, room: String) -> Result<Self, ServeError> {
        let (listener, address) = address.map_or_else(listen_everywhere, listen)?;
        let is_open = watch::Sender::new(true);
        let service = Service::new(Limits::embedded(), Some(room), Box::new(|_| {}));
        let task = tokio::spawn(serve(service, listener, address, is_open.subscribe()));
        Ok(Self { address, is_open, task })
    }

    /// Returns the address it listens on while it is open.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins or stops to listen, always on the same port. Closing leaves the members in their
    /// seats: nobody else can enter, and the two peers can still mend their connection.
    pub(crate) fn set_open(&self, is_open: bool) {
        self.is_open.send_replace(is_open);
    }
}

impl Drop for EmbeddedRendezvous {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    service: Arc<Service>,
    mut listener: TcpListener,
    address: SocketAddr,
    mut is_open: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            () = service.accept(&listener) => {}
            _ = is_open.wait_for(|is_open| !is_open) => {}
        }
        drop(listener);
        if is_open.wait_for(|is_open| *is_open).await.is_err() {
            return;
        }
        listener = loop {
            match bind(address) {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(RETRY_INTERVAL).await,
            }
        };
    }
}
