//! A network of our own between two real processes: datagrams are lost, delayed, repeated, put out
//! of order and counted.
//!
//! The path sits where the attacker with the link sits. It opens the signals, replaces the
//! candidates by sockets of its own, seals the signals again, and passes datagrams on as the
//! conditions of the moment say. It needs no privileges. What only two ends that have been connected
//! can seal it cannot open, and drops: they know each other again by the token in the hello.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use numerics::SplitMix64;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use transport::{Role, Secret};

use super::envelope::{self, Envelope, Signal, kind};
use super::switchboard::{SeatSender, Switchboard};

/// Largest datagram, in bytes.
const MAX_DATAGRAM_BYTES: usize = 2048;
/// Signals that are under way in one direction.
const MAX_SIGNALS: usize = 256;

/// What the network does to datagrams, in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// Share of datagrams lost, 0..=1.
    pub loss: f32,
    /// Round-trip time, also of signals.
    pub round_trip: Duration,
    /// Largest additional delay of a datagram; it puts datagrams out of order.
    pub jitter: Duration,
    /// Share of datagrams that arrive twice, 0..=1.
    pub duplicates: f32,
    /// Nothing passes; signals wait.
    pub outage: bool,
    /// Nothing arrives at this end, and what it sends passes.
    pub deaf: Option<Role>,
}

impl Conditions {
    /// Returns a network that only takes time.
    pub fn clean(round_trip: Duration) -> Self {
        let jitter = Duration::ZERO;
        Self { loss: 0.0, round_trip, jitter, duplicates: 0.0, outage: false, deaf: None }
    }
}

/// What the attacker on the path does with signals.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Meddling {
    /// Nothing but to read them and to replace addresses.
    No,
    /// It tells each end twice a second, in the name of the other, that the other leaves.
    ForgesLeaves,
    /// It has the seat of the host, and tells the guest that this other host leaves.
    PlaysHost,
}

/// Datagrams that the two ends have sent, lost ones included.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Number of datagrams of host and guest.
    datagrams: [AtomicU64; 2],
    /// Their bytes, without headers.
    n_bytes: [AtomicU64; 2],
}

impl Traffic {
    /// Returns the number of datagrams sent so far by both ends.
    pub fn datagrams(&self) -> u64 {
        self.datagrams.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Returns the number of bytes sent so far by both ends, without IP and UDP headers.
    pub fn bytes(&self) -> u64 {
        self.n_bytes.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn add(&self, end: usize, bytes: usize) {
        self.datagrams[end].fetch_add(1, Ordering::Relaxed);
        self.n_bytes[end].fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// The network of one call. Everything stops when it is dropped.
pub struct LossyPath {
    address: SocketAddr,
    conditions: watch::Sender<Conditions>,
    traffic: Arc<Traffic>,
    junk: watch::Sender<bool>,
    secret: watch::Sender<Option<Secret>>,
    meddling: watch::Sender<Meddling>,
    _tasks: JoinSet<()>,
}

impl LossyPath {
    /// Opens the network of one call.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn open(conditions: Conditions, seed: u64) -> std::io::Result<Self> {
        let switchboard = Switchboard::open(Role::Host).await?;
        let address = switchboard.address();
        let (conditions, watched) = watch::channel(conditions);
        let (junk, junk_watched) = watch::channel(false);
        let (secret, secret_watched) = watch::channel(None);
        let (meddling, meddling_watched) = watch::channel(Meddling::No);
        let network = Network::new(watched, junk_watched, seed);
        let traffic = Arc::clone(&network.traffic);
        let mut tasks = JoinSet::new();
        tasks.spawn(relay(switchboard, secret_watched, meddling_watched, network));
        Ok(Self { address, conditions, traffic, junk, secret, meddling, _tasks: tasks })
    }

    /// Returns the address for `--rendezvous`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells the secret of the call. Signals wait until it is known.
    pub fn set_secret(&self, secret: Secret) {
        self.secret.send_replace(Some(secret));
    }

    /// Changes what happens to datagrams from now on.
    pub fn set(&self, conditions: Conditions) {
        self.conditions.send_replace(conditions);
    }

    /// Begins or ends an outage.
    pub fn set_outage(&self, outage: bool) {
        self.conditions.send_modify(|conditions| conditions.outage = outage);
    }

    /// Begins or ends to send meaningless datagrams to both ends, five a second, from the addresses
    /// that they know.
    pub fn set_junk(&self, junk: bool) {
        self.junk.send_replace(junk);
    }

    /// Changes what happens to signals from now on.
    pub fn meddle(&self, meddling: Meddling) {
        self.meddling.send_replace(meddling);
    }

    /// Returns what the two ends have sent.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}

/// What the tasks of a path share.
struct Network {
    conditions: watch::Receiver<Conditions>,
    junk: watch::Receiver<bool>,
    traffic: Arc<Traffic>,
    random: Mutex<SplitMix64>,
}

impl Network {
    fn new(
        conditions: watch::Receiver<Conditions>,
        junk: watch::Receiver<bool>,
        seed: u64,
    ) -> Arc<Self> {
        let random = Mutex::new(SplitMix64::new(seed));
        Arc::new(Self { conditions, junk, traffic: Arc::default(), random })
    }

    /// Returns the delays after which copies of a datagram arrive at an end: none if it is lost.
    fn fate(&self, to: usize) -> Vec<Duration> {
        let conditions = *self.conditions.borrow();
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let is_deaf = conditions.deaf.is_some_and(|role| index(role) == to);
        if conditions.outage || is_deaf || random.chance(conditions.loss) {
            return Vec::new();
        }
        let copies = if random.chance(conditions.duplicates) { 2 } else { 1 };
        (0..copies)
            .map(|_| conditions.round_trip / 2 + conditions.jitter.mul_f32(random.uniform()))
            .collect()
    }
}

/// The sockets of one attempt: each stands for one end.
struct Attempt {
    /// Sockets that stand for host and guest.
    sockets: [Arc<UdpSocket>; 2],
    /// Real addresses of host and guest, as far as they are known.
    ends: Arc<Mutex<[Option<SocketAddr>; 2]>>,
}

impl Attempt {
    /// Opens the sockets that stand for both ends of the attempt that an offer begins.
    async fn open(offer: &str, network: &Arc<Network>, tasks: &mut JoinSet<()>) -> Option<Self> {
        let host = usable_address(offer)?;
        let bind = async || {
            let socket = UdpSocket::bind(SocketAddr::new(host.ip(), 0)).await;
            Some(Arc::new(socket.ok()?))
        };
        let sockets = [bind().await?, bind().await?];
        let ends = Arc::new(Mutex::new([Some(host), None]));
        for to in 0..2 {
            let path = Direction {
                to,
                arrivals: Arc::clone(&sockets[to]),
                departures: Arc::clone(&sockets[1 - to]),
                ends: Arc::clone(&ends),
                network: Arc::clone(network),
            };
            tasks.spawn(path.run());
        }
        Some(Self { sockets, ends })
    }

    /// Returns the offer as the guest gets to see it.
    fn offer(&self, sdp: &str) -> Option<String> {
        Some(envelope::with_candidate(sdp, self.sockets[0].local_addr().ok()?))
    }

    /// Returns the answer as the host gets to see it.
    fn answer(&self, sdp: &str) -> Option<String> {
        let address = usable_address(sdp)?;
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)[1] = Some(address);
        Some(envelope::with_candidate(sdp, self.sockets[1].local_addr().ok()?))
    }
}

/// The network between a host under attack and a hostile guest in this process.
pub(super) struct PeerPath {
    conditions: watch::Sender<Conditions>,
    _junk: watch::Sender<bool>,
    attempt: Attempt,
    _tasks: JoinSet<()>,
}

impl PeerPath {
    /// Opens a network without delay for the attempt that the host's offer begins, and returns it
    /// with the offer for the guest.
    pub(super) async fn open(offer: &str) -> Option<(Self, String)> {
        let (conditions, watched) = watch::channel(Conditions::clean(Duration::ZERO));
        let (junk, junk_watched) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let network = Network::new(watched, junk_watched, 0);
        let attempt = Attempt::open(offer, &network, &mut tasks).await?;
        let offer = attempt.offer(offer)?;
        Some((Self { conditions, _junk: junk, attempt, _tasks: tasks }, offer))
    }

    /// Returns the answer for the host.
    pub(super) fn answer(&self, sdp: &str) -> Option<String> {
        self.attempt.answer(sdp)
    }

    /// Lets nothing arrive at the guest any more; what it sends still passes.
    pub(super) fn make_guest_deaf(&self) {
        self.conditions.send_modify(|conditions| conditions.deaf = Some(Role::Guest));
    }
}

/// Returns the index of an end.
fn index(role: Role) -> usize {
    match role {
        Role::Host => 0,
        Role::Guest => 1,
    }
}

/// Passes signals between the two ends and opens the sockets of each attempt.
async fn relay(
    mut switchboard: Switchboard,
    mut secret: watch::Receiver<Option<Secret>>,
    meddling: watch::Receiver<Meddling>,
    network: Arc<Network>,
) {
    let Ok(secret) = secret.wait_for(Option::is_some).await.map(|secret| secret.clone()) else {
        return;
    };
    let Some(secret) = secret else { return };
    let mut tasks = JoinSet::new();
    let mut envelopes = [Role::Guest, Role::Host].map(|role| Envelope::new(secret.clone(), role));
    let to_ends = [Role::Host, Role::Guest].map(|role| {
        let (sender, receiver) = mpsc::channel(MAX_SIGNALS);
        tasks.spawn(delay_signals(receiver, switchboard.sender(role), Arc::clone(&network)));
        sender
    });
    let mut attempts: HashMap<String, Attempt> = HashMap::new();
    let mut newest_offer: HashMap<u8, String> = HashMap::new();
    let leave = Signal { kind: kind::LEAVE, attempt: 0, body: Vec::new() };
    let mut forgeries = tokio::time::interval(Duration::from_millis(500));
    loop {
        let protocol = switchboard.protocol();
        let (from, sealed) = tokio::select! {
            next = switchboard.next() => match next {
                Some(next) => next,
                None => return,
            },
            _ = forgeries.tick() => {
                if *meddling.borrow() == Meddling::ForgesLeaves {
                    for (envelope, to) in envelopes.iter_mut().zip(&to_ends) {
                        let _ = to.send((Instant::now(), envelope.seal(&leave, protocol))).await;
                    }
                }
                continue;
            }
        };
        let (from, to) = (index(from), 1 - index(from));
        if *meddling.borrow() == Meddling::PlaysHost {
            let mut host = Envelope::new(secret.clone(), Role::Host);
            if from == index(Role::Guest) && host.open(&sealed, protocol).is_some() {
                let _ = to_ends[from].send((Instant::now(), host.seal(&leave, protocol))).await;
            }
            continue;
        }
        let Some((mut signal, has_restarted)) = envelopes[from].open(&sealed, protocol) else {
            continue;
        };
        if has_restarted {
            envelopes[to].restart();
        }
        match signal.kind {
            kind::OFFER => {
                let sdp = signal.text();
                let name = ice_name(&sdp);
                if !attempts.contains_key(&name) {
                    let Some(attempt) = Attempt::open(&sdp, &network, &mut tasks).await else {
                        continue;
                    };
                    attempts.insert(name.clone(), attempt);
                }
                let Some(offer) = attempts[&name].offer(&sdp) else { continue };
                signal.body = offer.into_bytes();
                newest_offer.insert(signal.attempt, name);
            }
            kind::ANSWER => {
                let attempt = newest_offer.get(&signal.attempt).and_then(|name| attempts.get(name));
                let answer = attempt.and_then(|attempt| attempt.answer(&signal.text()));
                let Some(answer) = answer else { continue };
                signal.body = answer.into_bytes();
            }
            // The description has the only candidate that is let through.
            kind::CANDIDATE => continue,
            _ => {}
        }
        let sealed = envelopes[to].seal(&signal, protocol);
        let _ = to_ends[to].send((Instant::now(), sealed)).await;
    }
}

/// Delivers signals late by half a round trip, in order, and not during an outage.
async fn delay_signals(
    mut signals: mpsc::Receiver<(Instant, Bytes)>,
    to: SeatSender,
    network: Arc<Network>,
) {
    let mut conditions = network.conditions.clone();
    while let Some((sent, signal)) = signals.recv().await {
        let half = conditions.borrow().round_trip / 2;
        tokio::time::sleep_until(sent + half).await;
        if conditions.wait_for(|conditions| !conditions.outage).await.is_err() {
            return;
        }
        to.send(signal);
    }
}

/// Returns what distinguishes an offer from others: the user name of ICE.
fn ice_name(sdp: &str) -> String {
    let name = sdp.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:"));
    name.unwrap_or_default().to_owned()
}

/// Returns the candidate to use: on loopback if there is one, else the first of IPv4.
fn usable_address(sdp: &str) -> Option<SocketAddr> {
    let all: Vec<SocketAddr> = envelope::candidates(sdp)
        .filter_map(envelope::udp_address)
        .filter(SocketAddr::is_ipv4)
        .collect();
    all.iter().find(|address| address.ip().is_loopback()).or(all.first()).copied()
}

/// One direction of an attempt.
struct Direction {
    /// Index of the end that datagrams go to.
    to: usize,
    /// Stands for that end: its peer sends to this socket.
    arrivals: Arc<UdpSocket>,
    /// Stands for the peer: datagrams are passed on from this socket.
    departures: Arc<UdpSocket>,
    ends: Arc<Mutex<[Option<SocketAddr>; 2]>>,
    network: Arc<Network>,
}

impl Direction {
    async fn run(self) {
        let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
        let mut flights = JoinSet::new();
        let mut junk = tokio::time::interval(Duration::from_millis(200));
        loop {
            tokio::select! {
                arrived = self.arrivals.recv_from(&mut buffer) => {
                    if let Ok((n, from)) = arrived {
                        self.pass_on(&buffer[..n], from, &mut flights);
                    }
                }
                _ = junk.tick() => {
                    if *self.network.junk.borrow() && let Some(to) = self.end(self.to) {
                        let _ = self.departures.try_send_to(b"meaningless", to);
                    }
                }
                Some(_) = flights.join_next() => {}
            }
        }
    }

    fn end(&self, end: usize) -> Option<SocketAddr> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)[end]
    }

    fn pass_on(&self, datagram: &[u8], from: SocketAddr, flights: &mut JoinSet<()>) {
        // An end may use several sockets; only one of them has an address in the other's eyes.
        if self.end(1 - self.to).is_some_and(|known| known.port() != from.port()) {
            return;
        }
        self.network.traffic.add(1 - self.to, datagram.len());
        let Some(to) = self.end(self.to) else { return };
        for delay in self.network.fate(self.to) {
            let (socket, datagram) =
                (Arc::clone(&self.departures), Bytes::copy_from_slice(datagram));
            flights.spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = socket.send_to(&datagram, to).await;
            });
        }
    }
}
