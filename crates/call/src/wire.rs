//! The sockets of a call, with a meter on each: what the wire carries is counted where it is
//! handed to the operating system.
#![expect(clippy::disallowed_methods, reason = "a socket's arrivals are stamped here")]

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime,
    TokioRuntime, Transmit,
};

/// IPv4 and UDP headers of a datagram, without options.
const HEADERS_V4: u64 = 28;
/// IPv6 and UDP headers.
const HEADERS_V6: u64 = 48;

/// What crossed a call's UDP sockets so far, headers of IP and UDP included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct WireCount {
    pub(crate) bytes_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) datagrams_out: u64,
    pub(crate) datagrams_in: u64,
}

/// The meter itself, shared by all sockets of a call.
#[derive(Debug)]
pub(crate) struct WireMeter {
    start: Instant,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
    datagrams_out: AtomicU64,
    datagrams_in: AtomicU64,
    /// Milliseconds from `start` to the last arrival, plus one; 0 before the first.
    last_in: AtomicU64,
}

impl WireMeter {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            bytes_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            datagrams_out: AtomicU64::new(0),
            datagrams_in: AtomicU64::new(0),
            last_in: AtomicU64::new(0),
        })
    }

    pub(crate) fn count(&self) -> WireCount {
        WireCount {
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            datagrams_out: self.datagrams_out.load(Ordering::Relaxed),
            datagrams_in: self.datagrams_in.load(Ordering::Relaxed),
        }
    }

    /// When the last datagram came.
    pub(crate) fn last_in(&self) -> Option<Instant> {
        let ms = self.last_in.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.start + Duration::from_millis(ms))
    }

    fn sent(&self, transmit: &Transmit<'_>) {
        let n = datagrams(transmit.contents.len(), transmit.segment_size);
        let headers = headers(transmit.destination) * n;
        self.bytes_out.fetch_add(transmit.contents.len() as u64 + headers, Ordering::Relaxed);
        self.datagrams_out.fetch_add(n, Ordering::Relaxed);
    }

    fn received(&self, meta: &RecvMeta) {
        let n = datagrams(meta.len, Some(meta.stride));
        self.bytes_in.fetch_add(meta.len as u64 + headers(meta.addr) * n, Ordering::Relaxed);
        self.datagrams_in.fetch_add(n, Ordering::Relaxed);
        let ms = self.start.elapsed().as_millis() as u64 + 1;
        self.last_in.store(ms, Ordering::Relaxed);
    }
}

fn datagrams(len: usize, segment: Option<usize>) -> u64 {
    segment.map_or(1, |size| len.div_ceil(size.max(1)).max(1)) as u64
}

fn headers(peer: SocketAddr) -> u64 {
    match peer {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_none() => HEADERS_V6,
        _ => HEADERS_V4,
    }
}

/// Tokio, with every UDP socket metered.
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
            self.meter.sent(transmit);
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
            meta.iter().take(n).for_each(|meta| self.meter.received(meta));
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
        meter.sent(&transmit("127.0.0.1:9", None));
        meter.sent(&transmit("127.0.0.1:9", Some(100)));
        meter.sent(&transmit("[2001:db8::1]:9", None));
        let count = meter.count();
        assert_eq!(count.datagrams_out, 5);
        assert_eq!(count.bytes_out, (250 + 28) + (250 + 3 * 28) + (250 + 48));
        assert_eq!((count.bytes_in, meter.last_in()), (0, None));
    }
}
