//! A call over a bad channel, on a virtual clock: the real parts, without sockets and threads.
//!
//! Coding, packing, reports, decoding and playout are those of a [`Call`](crate::Call), so what is
//! lost here is lost there. Half a minute takes a fraction of a second.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use codec::{EncodedUnit, Encoder, Profile};
use numerics::SplitMix64;
use transport::{Packetizer, PlayoutSource};
use types::{Feature, MediaTime, Rate};

use crate::order::{Order, orders_of, settings};
use crate::receiving::Receiving;
use crate::shared::Shared;

/// How packets get lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Each with this probability, whatever became of the others.
    Random(f64),
    /// All of them for `length`, at the end of every `period`.
    Bursts {
        /// From one burst to the next.
        period: Duration,
        /// How long a burst lasts.
        length: Duration,
    },
}

/// One direction of a network path. Jitter reorders packets.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Least time a packet takes.
    pub latency: Duration,
    /// It takes up to this much longer, uniformly.
    pub jitter: Duration,
    /// How packets get lost.
    pub loss: Loss,
    /// Same seed, same fate of every packet.
    pub seed: u64,
}

impl Path {
    /// A short way without faults.
    pub fn clean() -> Self {
        Self {
            latency: Duration::from_millis(20),
            jitter: Duration::ZERO,
            loss: Loss::Random(0.0),
            seed: 1,
        }
    }

    /// The same with this loss.
    #[must_use]
    pub fn with_loss(self, loss: Loss) -> Self {
        Self { loss, ..self }
    }

    /// The same with this jitter.
    #[must_use]
    pub fn with_jitter(self, jitter: Duration) -> Self {
        Self { jitter, ..self }
    }
}

/// Packets under way on a [`Path`].
#[derive(Debug)]
pub struct Wire {
    path: Path,
    random: SplitMix64,
    under_way: Vec<(u64, Vec<u8>)>,
    bytes: usize,
    packets: usize,
}

impl Wire {
    /// An empty one.
    pub fn new(path: Path) -> Self {
        Self {
            path,
            random: SplitMix64::new(path.seed),
            under_way: Vec::new(),
            bytes: 0,
            packets: 0,
        }
    }

    /// Sends a packet at so many milliseconds.
    pub fn send(&mut self, ms: u64, packet: Vec<u8>) {
        self.bytes += packet.len();
        self.packets += 1;
        let is_lost = match self.path.loss {
            Loss::Random(share) => self.random.uniform_f64() < share,
            Loss::Bursts { period, length } => {
                let period = period.as_millis().max(1) as u64;
                ms % period >= period.saturating_sub(length.as_millis() as u64)
            }
        };
        let jitter = self.random.uniform_f64() * self.path.jitter.as_millis() as f64;
        if !is_lost {
            let arrival = ms + self.path.latency.as_millis() as u64 + jitter as u64;
            self.under_way.push((arrival, packet));
        }
    }

    /// What has arrived by then, in order of arrival.
    pub fn arrived(&mut self, ms: u64) -> Vec<Vec<u8>> {
        let mut here: Vec<_> = self.under_way.extract_if(.., |(at, _)| *at <= ms).collect();
        here.sort_by_key(|(at, _)| *at);
        here.into_iter().map(|(_, packet)| packet).collect()
    }

    /// Bytes sent, without the headers below them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Packets sent.
    pub fn packets(&self) -> usize {
        self.packets
    }
}

/// What became of a clip's features on their way.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// What the peer showed for each feature's time, and how it came about; none before the first.
    pub shown: Vec<Option<(Feature, PlayoutSource)>>,
    /// Longest stretch in which the face stood still for want of features.
    pub longest_freeze: Duration,
    /// 95th percentile of the age of what was shown.
    pub latency_p95: Duration,
    /// Units sent, and those of them that stood alone.
    pub units: usize,
    /// Of them, those that stood alone.
    pub key_units: usize,
    /// Bytes of all units, each counted once.
    pub payload_bytes: usize,
    /// Packets sent.
    pub packets: usize,
    /// Their bytes, without the headers below them.
    pub packet_bytes: usize,
    /// Units that the peer decoded.
    pub decoded: usize,
    /// Features, of units and of ways, that were not bit for bit what the encoder had meant.
    pub diverged: usize,
    /// Times that units arrived and none of them could be decoded.
    pub stranded: usize,
}

/// One end of the call.
struct Peer<'a> {
    features: std::iter::Peekable<std::slice::Iter<'a, Feature>>,
    encoder: Encoder,
    packetizer: Packetizer,
    receiving: Receiving,
    shared: Arc<Shared>,
    /// When the feature of the last unit was captured.
    last: Option<MediaTime>,
    /// What was said of each moment, by its own unit and by the next one.
    meant: HashMap<MediaTime, Vec<Feature>>,
    sent: Replayed,
}

impl<'a> Peer<'a> {
    fn new(features: &'a [Feature], profile: &Profile, rate: Rate) -> Self {
        let shared = Arc::new(Shared::default());
        let mut receiving = Receiving::new(Arc::clone(&shared));
        receiving.restart(Some(profile.clone()));
        let mut encoder = Encoder::new(profile.clone());
        Order::Rate(rate).apply(&mut encoder);
        Self {
            features: features.iter().peekable(),
            encoder,
            packetizer: Packetizer::new(settings(rate)),
            receiving,
            shared,
            last: None,
            meant: HashMap::new(),
            sent: Replayed::default(),
        }
    }

    /// Codes what was captured by then and sends what is due.
    fn send(&mut self, now: Instant, ms: u64, wire: &mut Wire) {
        while let Some(feature) = self.features.next_if(|f| f.time.as_micros() <= ms * 1000) {
            let Some(EncodedUnit { number, time, unit, decoded }) =
                self.encoder.push(feature, false)
            else {
                continue;
            };
            let before = self.last.replace(time);
            for said in decoded.features(before, time) {
                self.meant.entry(said.time).or_default().push(said);
            }
            self.sent.units += 1;
            self.sent.key_units += usize::from(decoded.is_key);
            self.sent.payload_bytes += unit.as_bytes().len();
            // Units are within a packet's limits.
            let _ = self.packetizer.push_unit(now, number, time, unit.as_bytes());
        }
        loop {
            let is_due = self.packetizer.is_due(now);
            let report = self.receiving.jitter_buffer.poll_report(now, is_due);
            let Some(packet) = self.packetizer.poll_packet(now, report) else { break };
            wire.send(ms, packet);
        }
    }

    /// Takes what has arrived; gives the features decoded from it.
    fn receive(&mut self, now: Instant, ms: u64, wire: &mut Wire) -> Vec<Feature> {
        for packet in wire.arrived(ms) {
            if let Some(report) = self.receiving.take_packet(now, &packet) {
                for order in orders_of(&mut self.packetizer, now, report) {
                    order.apply(&mut self.encoder);
                }
            }
        }
        self.receiving.pump(now);
        let mut received = self.shared.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.drain()
    }
}

/// Sends `features` over `path` and the peer's `answer` back over its like, and tells what the peer
/// sees of the features.
///
/// The first two seconds, in which the playout delay settles, do not count as freezes. `start` is
/// any instant: time is virtual from there.
pub fn replay(
    start: Instant,
    features: &[Feature],
    answer: &[Feature],
    profile: &Profile,
    rate: Rate,
    path: Path,
) -> Replayed {
    const SETTLING_MS: u64 = 2000;
    /// The longest playout delay, and then some.
    const AFTERWARDS_MS: u64 = 700;
    let (mut ours, mut theirs) =
        (Peer::new(features, profile, rate), Peer::new(answer, profile, rate));
    let mut there = Wire::new(path);
    let mut back = Wire::new(Path { seed: path.seed.wrapping_add(1000), ..path });
    let mut seen = Replayed { shown: vec![None; features.len()], ..Replayed::default() };
    let mut wanted = features.iter().zip(&mut seen.shown).peekable();
    let (mut frozen, mut longest, mut ages) = (0, 0, Vec::new());
    let last_ms = features.last().map_or(0, |last| last.time.as_micros() / 1000);
    let (mut diverged, mut stranded, mut n_failed) = (0, 0, 0);
    for ms in 0..last_ms + AFTERWARDS_MS {
        let now = start + Duration::from_millis(ms);
        ours.send(now, ms, &mut there);
        theirs.send(now, ms, &mut back);
        let received = theirs.receive(now, ms, &mut there);
        let failed = std::mem::replace(&mut n_failed, theirs.receiving.counts.decode_errors);
        stranded += usize::from(n_failed > failed && received.is_empty());
        for got in received {
            let meant = ours.meant.get(&got.time);
            diverged += usize::from(meant.is_none_or(|meant| !meant.contains(&got)));
        }
        ours.receive(now, ms, &mut back);
        let mut playout = theirs.shared.playout.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((feature, how)) = playout.at(now) else { continue };
        while let Some((_, shown)) = wanted.next_if(|(f, _)| f.time <= feature.time) {
            *shown = Some((feature, how));
        }
        if (SETTLING_MS..last_ms).contains(&ms) {
            frozen = if how == PlayoutSource::Held { frozen + 1 } else { 0 };
            longest = longest.max(frozen);
            ages.push(ms.saturating_sub(feature.time.as_micros() / 1000));
        }
    }
    ages.sort_unstable();
    let p95 = ages.get(ages.len() * 95 / 100).copied().unwrap_or(0);
    Replayed {
        longest_freeze: Duration::from_millis(longest),
        latency_p95: Duration::from_millis(p95),
        packets: there.packets(),
        packet_bytes: there.bytes(),
        decoded: theirs.receiving.counts.features as usize,
        diverged,
        stranded,
        shown: seen.shown,
        ..ours.sent
    }
}
