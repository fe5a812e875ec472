//! A call over a bad network on a virtual clock.
//!
//! Two sessions, encoders and playouts run as in a [`Call`](crate::Call); only the link between
//! them is simulated. Half a minute takes a fraction of a second.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::{Encoder, Profile};
use transport::{Playout, PlayoutSource, Role, Secret};
use types::{Feature, MediaTime, Rate};

use crate::session::{
    EncoderCommand, Exchange, Input, LinkCommand, LinkEvent, LinkId, Output, Session,
    SessionConfig, TrackedFrame,
};
use crate::settings::LocalMedia;
use crate::simulated_path::{Path, SimulatedPath};

/// The only link of both sessions.
const LINK: LinkId = LinkId(1);
/// Time in which the playout delay settles. It does not count as frozen.
const SETTLING_MS: u64 = 2000;
/// Time that the simulation goes on after the last feature: more than the longest playout delay.
const DRAIN_MS: u64 = 700;

/// Result of a simulated call, as the receiver of the features has experienced it.
#[derive(Clone, Debug, Default)]
pub struct SimulationReport {
    /// For each feature sent, the first feature shown that is not older, and whether it was
    /// interpolated, extrapolated or held; `None` if there was none.
    pub shown: Vec<Option<(Feature, PlayoutSource)>>,
    /// Longest time for which the face was held still because no feature had arrived. The first two
    /// seconds do not count, because the playout delay settles in them.
    pub longest_freeze: Duration,
    /// 95th percentile of the time from capture to display, after the first two seconds.
    pub latency_p95: Duration,
    /// Units sent.
    pub units: usize,
    /// Key units among them.
    pub key_units: usize,
    /// Total size of the units, bytes, each counted once.
    pub payload_bytes: usize,
    /// Packets sent.
    pub packets: usize,
    /// Total size of the packets, bytes, without lower headers.
    pub packet_bytes: usize,
    /// Units decoded.
    pub decoded: usize,
    /// Decoded features that differ from those of the encoder in any bit.
    pub diverged: usize,
    /// Number of milliseconds of the simulation in which units arrived and none could be decoded.
    pub stranded: usize,
}

/// One end of the call.
struct Peer<'a> {
    session: Session,
    encoder: Encoder,
    /// Features that were not captured yet.
    features: std::iter::Peekable<std::slice::Iter<'a, Feature>>,
    /// Capture time of the last unit.
    last_unit: Option<MediaTime>,
    /// Features as the encoder reconstructed them, by time: from their own unit, and from the
    /// correction in the next.
    reconstructed: HashMap<MediaTime, Vec<Feature>>,
    playout: Playout,
    /// Features decoded since they were last taken.
    received: Vec<Feature>,
    sent: SimulationReport,
}

impl<'a> Peer<'a> {
    fn new(
        role: Role,
        features: &'a [Feature],
        profile: &Profile,
        rate: Rate,
        now: Instant,
    ) -> Self {
        let config = SessionConfig {
            role,
            secret: Secret::new([0; 16]),
            fresh_salt: Box::new(|| [0; 16]),
            // Nobody meets again: the simulation has no signaling.
            exchange: Exchange::Manual(None),
            name: String::new(),
            media: LocalMedia {
                muted: true,
                talks: false,
                camera_on: true,
                shows_face: true,
                rate,
            },
            face: None,
            auto_admit: true,
            keep_link: false,
            sends_sound: false,
            has_sound: false,
        };
        let mut encoder = Encoder::new(profile.clone());
        EncoderCommand::SetRate(rate).apply(&mut encoder);
        Self {
            session: Session::connected(config, profile.clone(), now),
            encoder,
            features: features.iter().peekable(),
            last_unit: None,
            reconstructed: HashMap::new(),
            playout: Playout::new(),
            received: Vec::new(),
            sent: SimulationReport::default(),
        }
    }

    /// Encodes the features captured by now, and sends what is due.
    fn send(&mut self, now: Instant, ms: u64, outgoing: &mut SimulatedPath) {
        while let Some(feature) = self.features.next_if(|f| f.time.as_micros() <= ms * 1000) {
            if let Some(frame) = self.encode(feature) {
                self.session.handle(Input::Frame(Box::new(frame)), now);
            }
        }
        self.session.handle(Input::Timeout, now);
        self.carry_out_outputs(ms, outgoing);
    }

    /// Handles the packets that have arrived, and decodes the units that are due.
    fn receive(
        &mut self,
        now: Instant,
        ms: u64,
        incoming: &mut SimulatedPath,
        outgoing: &mut SimulatedPath,
    ) {
        for packet in incoming.arrived(ms) {
            let event = LinkEvent::Features(Bytes::from(packet));
            self.session.handle(Input::Link(LINK, event), now);
        }
        self.session.handle(Input::Decode, now);
        self.carry_out_outputs(ms, outgoing);
    }

    fn encode(&mut self, feature: &Feature) -> Option<TrackedFrame> {
        let unit = self.encoder.push(feature, false)?;
        let previous_time = self.last_unit.replace(unit.time);
        for feature in unit.decoded.features(previous_time, unit.time) {
            self.reconstructed.entry(feature.time).or_default().push(feature);
        }
        self.sent.units += 1;
        self.sent.key_units += usize::from(unit.decoded.is_key);
        self.sent.payload_bytes += unit.unit.as_bytes().len();
        Some(TrackedFrame { face_found: true, unit: Some(unit), took: Duration::ZERO })
    }

    fn carry_out_outputs(&mut self, ms: u64, outgoing: &mut SimulatedPath) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Link(_, LinkCommand::SendFeatures(packet)) => {
                    outgoing.send(ms, packet.into());
                }
                Output::Encoder(command) => command.apply(&mut self.encoder),
                Output::Features { arrived, features, .. } => {
                    self.playout.push(arrived, &features);
                    self.received.extend(features);
                }
                _ => {}
            }
        }
    }

    fn decode_errors(&self) -> u64 {
        self.session.receiver().counts.decode_errors
    }
}

/// Sends `features` over `path`, and `answer` back over a path of the same kind, and reports what
/// the receiver of `features` has seen.
///
/// Both sides use `profile` and `rate`. `start` is any instant; the virtual clock begins there.
pub fn simulate(
    start: Instant,
    features: &[Feature],
    answer: &[Feature],
    profile: &Profile,
    rate: Rate,
    path: Path,
) -> SimulationReport {
    let mut sender = Peer::new(Role::Host, features, profile, rate, start);
    let mut receiver = Peer::new(Role::Guest, answer, profile, rate, start);
    let mut there = SimulatedPath::new(path);
    let mut back = SimulatedPath::new(Path { seed: path.seed.wrapping_add(1000), ..path });
    let mut shown = vec![None; features.len()];
    let mut unseen = features.iter().zip(&mut shown).peekable();
    let (mut frozen_ms, mut longest_ms, mut ages_ms) = (0, 0, Vec::new());
    let (mut diverged, mut stranded) = (0, 0);
    let last_ms = features.last().map_or(0, |last| last.time.as_micros() / 1000);
    for ms in 0..last_ms + DRAIN_MS {
        let now = start + Duration::from_millis(ms);
        let errors_before = receiver.decode_errors();
        sender.send(now, ms, &mut there);
        receiver.send(now, ms, &mut back);
        receiver.receive(now, ms, &mut there, &mut back);
        sender.receive(now, ms, &mut back, &mut there);

        let received = std::mem::take(&mut receiver.received);
        stranded += usize::from(receiver.decode_errors() > errors_before && received.is_empty());
        let is_exact = |feature: &Feature| {
            let features = sender.reconstructed.get(&feature.time);
            features.is_some_and(|features| features.contains(feature))
        };
        diverged += received.iter().filter(|feature| !is_exact(feature)).count();

        let Some((feature, source)) = receiver.playout.at(now) else { continue };
        while let Some((_, shown)) = unseen.next_if(|(unseen, _)| unseen.time <= feature.time) {
            *shown = Some((feature, source));
        }
        if (SETTLING_MS..last_ms).contains(&ms) {
            frozen_ms = if source == PlayoutSource::Held { frozen_ms + 1 } else { 0 };
            longest_ms = longest_ms.max(frozen_ms);
            ages_ms.push(ms.saturating_sub(feature.time.as_micros() / 1000));
        }
    }
    ages_ms.sort_unstable();
    let p95_ms = ages_ms.get(ages_ms.len() * 95 / 100).copied().unwrap_or(0);
    SimulationReport {
        longest_freeze: Duration::from_millis(longest_ms),
        latency_p95: Duration::from_millis(p95_ms),
        packets: there.stats().packets,
        packet_bytes: there.stats().bytes,
        decoded: receiver.session.receiver().counts.features as usize,
        diverged,
        stranded,
        shown,
        ..sender.sent
    }
}
