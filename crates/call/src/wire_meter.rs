//! The UDP sockets of a call, with a meter on each: traffic is counted where it is handed to the
//! operating system.

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime,
    TokioRuntime, Transmit,
};

use crate::session::WireCount;

/// IPv4 and UDP headers of a datagram, in bytes, without options.
const HEADERS_V4: u64 = 28;
/// IPv6 and UDP headers of a datagram, in bytes.
const HEADERS_V6: u64 = 48;

/// Traffic meter shared by all sockets of a call.
#[derive(Debug, Default)]
pub(crate) struct WireMeter {
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
    datagrams_out: AtomicU64,
    datagrams_in: AtomicU64,
}

impl WireMeter {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Returns the totals so far.
    pub(crate) fn count(&self) -> WireCount {
        WireCount {
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            datagrams_out: self.datagrams_out.load(Ordering::Relaxed),
            datagrams_in: self.datagrams_in.load(Ordering::Relaxed),
        }
    }

    fn record_sent(&self, transmit: &Transmit<'_>) {
        let n = datagrams(transmit.contents.len(), transmit.segment_size);
        let headers = headers(transmit.destination) * n;
        self.bytes_out.fetch_add(transmit.contents.len() as u64 + headers, Ordering::Relaxed);
        self.datagrams_out.fetch_add(n, Ordering::Relaxed);
    }

    fn record_received(&self, meta: &RecvMeta) {
        let n = datagrams(meta.len, Some(meta.stride));
        self.bytes_in.fetch_add(meta.len as u64 + headers(meta.addr) * n, Ordering::Relaxed);
        self.datagrams_in.fetch_add(n, Ordering::Relaxed);
    }
}

/// Returns the number of datagrams in a buffer that the system cuts into segments.
fn datagrams(len: usize, segment: Option<usize>) -> u64 {
    segment.map_or(1, |size| len.div_ceil(size.max(1)).max(1)) as u64
}

/// Returns the size of IP and UDP headers towards `peer`, in bytes.
fn headers(peer: SocketAddr) -> u64 {
    match peer {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_none() => HEADERS_V6,
        _ => HEADERS_V4,
    }
}

/// Tokio runtime for WebRTC whose UDP sockets are metered.
#[derive(Debug)]
pub(crate) struct MeteredRuntime {
    tokio: TokioRuntime,
    meter: Arc<WireMeter>,
}

impl MeteredRuntime {
    pub(crate) fn new(meter: Arc<WireMeter>) -> Arc<Self> {
        Arc::new(Self { tokio: TokioRuntime, meter })
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Runtime for MeteredRuntime {
    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        self.tokio.spawn(future)
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let inner = self.tokio.wrap_udp_socket(socket)?;
        Ok(Arc::new(MeteredSocket { inner, meter: Arc::clone(&self.meter) }))
    }

    fn wrap_tcp_listener(
        &self,
        listener: std::net::TcpListener,
    ) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.tokio.wrap_tcp_listener(listener)
    }

    fn connect_tcp(&self, remote: SocketAddr) -> Boxed<'_, io::Result<Arc<dyn AsyncTcpStream>>> {
        self.tokio.connect_tcp(remote)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        self.tokio.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        self.tokio.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.tokio.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.tokio.block_on(future);
    }

    fn yield_now(&self) -> Boxed<'static, ()> {
        self.tokio.yield_now()
    }

    fn name(&self) -> &'static str {
        "metered tokio"
    }
}

#[derive(Debug)]
struct MeteredSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    meter: Arc<WireMeter>,
}

impl AsyncUdpSocket for MeteredSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let polled = self.inner.poll_send(cx, transmit);
        if let Poll::Ready(Ok(_)) = polled {
            self.meter.record_sent(transmit);
        }
        polled
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let polled = self.inner.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(n)) = polled {
            meta.iter().take(n).for_each(|meta| self.meter.record_received(meta));
        }
        polled
    }

    fn max_gso_segments(&self) -> usize {
        self.inner.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.inner.max_gro_segments()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datagram_is_counted_with_its_headers() {
        let meter = WireMeter::new();
        let transmit = |destination: &str, segment_size| Transmit {
            destination: destination.parse().unwrap(),
            ecn: None,
            contents: &[0; 250],
            segment_size,
            src_ip: None,
        };
        meter.record_sent(&transmit("127.0.0.1:9", None));
        meter.record_sent(&transmit("127.0.0.1:9", Some(100)));
        meter.record_sent(&transmit("[2001:db8::1]:9", None));
        let count = meter.count();
        assert_eq!(count.datagrams_out, 5);
        assert_eq!(count.bytes_out, (250 + 28) + (250 + 3 * 28) + (250 + 48));
        assert_eq!(count.bytes_in, 0);
    }
}
