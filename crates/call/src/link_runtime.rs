//! The runtime and the UDP sockets of one link: traffic is metered, and the datagrams that set up the link
//! are repeated.
#![expect(clippy::disallowed_methods, reason = "repetitions are sent on the wall clock")]

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime,
    TokioRuntime, Transmit,
};

use crate::event::LinkError;
use crate::session::LinkEvent;
use crate::setup_repeater::{Datagram, SetupRepeater};
use crate::shared::lock;
use crate::wire_meter::WireMeter;

/// Tokio runtime for the WebRTC connection of one link.
#[derive(Debug)]
pub(crate) struct LinkRuntime {
    tokio: TokioRuntime,
    meter: Arc<WireMeter>,
    repetitions: Arc<Repetitions>,
    /// Address whose scope all link-local addresses of IPv6 have.
    link_local: Option<SocketAddrV6>,
}

impl LinkRuntime {
    pub(crate) fn new(
        meter: Arc<WireMeter>,
        repetitions: Arc<Repetitions>,
        link_local: Option<SocketAddrV6>,
    ) -> Arc<Self> {
        Arc::new(Self { tokio: TokioRuntime, meter, repetitions, link_local })
    }
}

/// Repetitions during the set-up of one link.
#[derive(Debug)]
pub(crate) struct Repetitions {
    repeater: Mutex<SetupRepeater>,
    sockets: Mutex<Vec<Weak<LinkSocket>>>,
    /// Whether the repeater may have another timeout than before.
    is_changed: Notify,
    /// Whether nothing will be repeated any more.
    is_done: AtomicBool,
    failures: mpsc::Sender<LinkEvent>,
}

impl Repetitions {
    /// Creates the state for a link without sockets. Failures that show on the wire go to `failures`.
    pub(crate) fn new(failures: mpsc::Sender<LinkEvent>) -> Arc<Self> {
        Arc::new(Self {
            repeater: Mutex::default(),
            sockets: Mutex::default(),
            is_changed: Notify::new(),
            is_done: AtomicBool::new(false),
            failures,
        })
    }

    /// Notes that the data channels are open: repetitions end soon.
    pub(crate) fn handle_open(&self) {
        lock(&self.repeater).handle_open(Instant::now());
        self.is_changed.notify_one();
    }

    /// Sends repetitions until none will be due any more.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let (due, is_done) = {
                let repeater = lock(&self.repeater);
                (repeater.poll_timeout(), repeater.is_done(Instant::now()))
            };
            if is_done {
                return self.is_done.store(true, Ordering::Relaxed);
            }
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.is_changed.notified() => continue,
                () = wait => {}
            }
            let repeats = lock(&self.repeater).poll_repeats(Instant::now());
            for datagram in repeats {
                let socket = lock(&self.sockets).get(datagram.socket).and_then(Weak::upgrade);
                if let Some(socket) = socket {
                    // Lost, as on a bad network, if it cannot be sent.
                    let _ = std::future::poll_fn(|cx| socket.poll_repeat(cx, &datagram)).await;
                }
            }
        }
    }

    fn handle_sent(&self, socket: usize, transmit: &Transmit<'_>) {
        if self.is_done.load(Ordering::Relaxed) {
            return;
        }
        let mut repeater = lock(&self.repeater);
        let (contents, now) = (transmit.contents, Instant::now());
        for datagram in contents.chunks(transmit.segment_size.unwrap_or(contents.len()).max(1)) {
            repeater.handle_sent(now, socket, transmit.destination, datagram);
        }
        if repeater.has_refused_certificate() {
            // The queue is only full if the link has failed already.
            let _ = self.failures.try_send(LinkEvent::Error(LinkError::WrongCertificate));
        }
        self.is_changed.notify_one();
    }

    fn handle_received(&self, bytes: &[u8], stride: usize) {
        if self.is_done.load(Ordering::Relaxed) {
            return;
        }
        let mut repeater = lock(&self.repeater);
        bytes.chunks(stride.max(1)).for_each(|datagram| repeater.handle_received(datagram));
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Runtime for LinkRuntime {
    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        self.tokio.spawn(future)
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let inner = self.tokio.wrap_udp_socket(socket)?;
        let (meter, repetitions) = (Arc::clone(&self.meter), Arc::clone(&self.repetitions));
        let mut sockets = lock(&self.repetitions.sockets);
        let (index, scope) = (sockets.len(), self.link_local.map(|address| address.scope_id()));
        let socket = Arc::new(LinkSocket { inner, index, scope, meter, repetitions });
        sockets.push(Arc::downgrade(&socket));
        Ok(socket)
    }

    fn wrap_tcp_listener(
        &self,
        _listener: std::net::TcpListener,
    ) -> io::Result<Arc<dyn AsyncTcpListener>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect_tcp(&self, _remote: SocketAddr) -> Boxed<'_, io::Result<Arc<dyn AsyncTcpStream>>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        // The address of a TURN server comes without the brackets of IPv6.
        if let Some((address, port)) = host.rsplit_once(':')
            && let (Ok(address), Ok(port)) = (address.parse::<Ipv6Addr>(), port.parse())
        {
            return Box::pin(std::future::ready(Ok(vec![SocketAddr::new(address.into(), port)])));
        }
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
        "link on tokio"
    }
}

#[derive(Debug)]
struct LinkSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    /// Place among the sockets of the link.
    index: usize,
    /// Number of the interface of link-local peers, which WebRTC does not know.
    scope: Option<u32>,
    meter: Arc<WireMeter>,
    repetitions: Arc<Repetitions>,
}

impl LinkSocket {
    fn poll_repeat(&self, cx: &mut Context<'_>, datagram: &Datagram) -> Poll<io::Result<usize>> {
        self.poll_metered(
            cx,
            &Transmit {
                destination: datagram.destination,
                ecn: None,
                contents: &datagram.bytes,
                segment_size: None,
                src_ip: None,
            },
        )
    }

    fn poll_metered(
        &self,
        cx: &mut Context<'_>,
        transmit: &Transmit<'_>,
    ) -> Poll<io::Result<usize>> {
        let destination = with_scope(transmit.destination, self.scope);
        let polled = self.inner.poll_send(cx, &Transmit { destination, ..*transmit });
        if let Poll::Ready(Ok(_)) = polled {
            self.meter.record_sent(transmit);
        }
        polled
    }
}

impl AsyncUdpSocket for LinkSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let polled = self.poll_metered(cx, transmit);
        if let Poll::Ready(Ok(_)) = polled {
            self.repetitions.handle_sent(self.index, transmit);
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
            for (meta, buf) in meta.iter_mut().zip(bufs.iter()).take(n) {
                meta.addr = with_scope(meta.addr, self.scope.and(Some(0)));
                self.meter.record_received(meta);
                self.repetitions.handle_received(&buf[..meta.len], meta.stride);
            }
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

/// Returns an address with another scope, if it has one and another is given.
fn with_scope(mut address: SocketAddr, scope: Option<u32>) -> SocketAddr {
    if let (SocketAddr::V6(v6), Some(scope)) = (&mut address, scope)
        && v6.ip().is_unicast_link_local()
    {
        v6.set_scope_id(scope);
    }
    address
}
