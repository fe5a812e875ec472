use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::limits::Budget;
use super::metrics::Metrics;

/// Bytes that a client may send before it has a seat: request and proof.
const START_BYTES: f64 = 8.0 * 1024.0;
/// Bytes that a member may send at once; after that, [`BYTES_PER_SECOND`].
const BURST_BYTES: f64 = 256.0 * 1024.0;
/// Bytes per second that a member may send for ever.
const BYTES_PER_SECOND: f64 = 16.0 * 1024.0;

/// TCP connection whose bytes are counted, and whose client may send a limited number of them:
/// whatever it sends, even frames that never become a message. Reading beyond the budget fails with
/// [`ErrorKind::QuotaExceeded`].
pub(super) struct MeteredStream {
    tcp: TcpStream,
    metrics: Arc<Metrics>,
    budget: Budget,
    /// Bytes received since the last complete message.
    n_received: usize,
}

impl MeteredStream {
    /// Wraps the connection of a client without a seat.
    pub(super) fn new(tcp: TcpStream, metrics: Arc<Metrics>, now: Instant) -> Self {
        let budget = Budget::new(START_BYTES, 0.0, now);
        Self { tcp, metrics, budget, n_received: 0 }
    }

    /// Grants the budget of a member.
    pub(super) fn grant_seat(&mut self, now: Instant) {
        self.budget = Budget::new(BURST_BYTES, BYTES_PER_SECOND, now);
    }

    /// Returns the number of bytes received since the last [`MeteredStream::restart_count`].
    pub(super) fn n_received(&self) -> usize {
        self.n_received
    }

    pub(super) fn restart_count(&mut self) {
        self.n_received = 0;
    }
}

impl AsyncRead for MeteredStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.tcp).poll_read(context, buffer))?;
        let n = buffer.filled().len() - before;
        this.n_received += n;
        this.metrics.bytes_in.add(n);
        let is_granted = this.budget.spend(n as f64, Instant::now());
        Poll::Ready(if is_granted { Ok(()) } else { Err(Error::from(ErrorKind::QuotaExceeded)) })
    }
}

impl AsyncWrite for MeteredStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let n = ready!(Pin::new(&mut this.tcp).poll_write(context, bytes))?;
        this.metrics.bytes_out.add(n);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(context)
    }
}
