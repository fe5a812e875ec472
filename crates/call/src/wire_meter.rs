//! Counts the traffic of a call where it is handed to the operating system, by `link_runtime.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use webrtc::runtime::{RecvMeta, Transmit};

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

    pub(crate) fn record_sent(&self, transmit: &Transmit<'_>) {
        let n = datagrams(transmit.contents.len(), transmit.segment_size);
        let headers = headers(transmit.destination) * n;
        self.bytes_out.fetch_add(transmit.contents.len() as u64 + headers, Ordering::Relaxed);
        self.datagrams_out.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn record_received(&self, meta: &RecvMeta) {
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
