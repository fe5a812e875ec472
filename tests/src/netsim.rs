//! Simulated call over a bad network on a virtual clock, with synthetic units: 30 s take
//! milliseconds.

use std::time::{Duration, Instant};

use call::{Path, SimulatedPath};
use transport::{JitterBuffer, Packetizer, PacketizerSettings, Playout, PlayoutSource};
use types::{CODE_DIMS, Code, Feature, HeadPose, MediaTime, UnitNumber};

/// Quality of a simulated call for the receiving peer.
#[derive(Clone, Debug)]
pub struct Received {
    /// Longest time during which a missing feature froze the face.
    pub longest_freeze: Duration,
    /// Share of displayed features that were interpolated between received ones, 0..=1.
    pub share_received: f64,
    /// 95th percentile of the age of displayed features.
    pub latency_p95: Duration,
    /// Share of units that did not arrive in time, 0..=1.
    pub units_lost: f64,
    /// Largest error of the moving code dimension among interpolated features; it moves by at most
    /// 3.8 per second.
    pub worst_error: f32,
    /// Packets per second.
    pub packets_per_s: f64,
    /// Mean size of a packet in bytes, without the headers of lower layers.
    pub bytes_per_packet: f64,
    /// Round-trip time that the sender measured.
    pub rtt: Option<Duration>,
    /// Share of units that the peer confirmed, 0..=1.
    pub confirmed: f64,
}

/// One direction of a call: 25 units of 8 bytes per second, displayed 60 times per second. Reports
/// return over an equal path.
#[derive(Clone, Copy, Debug)]
pub struct SimulatedCall {
    /// Network path in each direction.
    pub path: Path,
    /// Number of new units in a packet.
    pub units_per_packet: usize,
}

impl SimulatedCall {
    /// Returns a call over `path` with one unit per packet.
    pub fn over(path: Path) -> Self {
        Self { path, units_per_packet: 1 }
    }

    /// Sets the number of units per packet.
    #[must_use]
    pub fn units_per_packet(self, units_per_packet: usize) -> Self {
        Self { units_per_packet, ..self }
    }

    /// Runs the call for a number of virtual seconds. The first two, during which the playout delay
    /// settles, do not count.
    #[expect(
        clippy::missing_panics_doc,
        clippy::disallowed_methods,
        reason = "a harness of tests; virtual time has to begin somewhere"
    )]
    pub fn run_for(self, seconds: u64) -> Received {
        let start = Instant::now();
        let settings =
            PacketizerSettings { units_per_packet: self.units_per_packet, ..Default::default() };
        let (mut packetizer, mut peer_packetizer) =
            (Packetizer::new(settings), Packetizer::new(settings));
        let (mut jitter_buffer, mut own_jitter_buffer) = (JitterBuffer::new(), JitterBuffer::new());
        let mut there = SimulatedPath::new(self.path);
        let mut back = SimulatedPath::new(Path { seed: self.path.seed + 1000, ..self.path });
        let mut playout = Playout::new();
        let (mut sent, mut confirmed) = (0_u64, 0_u64);
        let (mut shown, mut frozen, mut longest) = (Vec::new(), 0_u64, 0_u64);
        let mut worst_error = 0.0_f32;
        for ms in 0..seconds * 1000 {
            let now = start + Duration::from_millis(ms);
            if ms % 40 == 0 {
                let time = MediaTime::from_micros(ms * 1000);
                let unit = sent.to_le_bytes();
                packetizer
                    .push_unit(now, UnitNumber(sent), time, &unit)
                    .expect("a unit may have eight bytes");
                sent += 1;
            }
            loop {
                let report = own_jitter_buffer.poll_report(now, packetizer.is_due(now));
                let Some(packet) = packetizer.poll_packet(now, report) else { break };
                there.send(ms, packet);
            }
            for packet in there.arrived(ms) {
                let report =
                    jitter_buffer.handle_packet(now, &packet).expect("a genuine packet parses");
                assert!(
                    report.is_none(),
                    "the packetizer of this direction has no reports to send"
                );
            }
            while let Some(unit) = jitter_buffer.poll_unit(now) {
                jitter_buffer.confirm_decoded(unit.number);
                assert_eq!(unit.time, MediaTime::from_micros(unit.number.0 * 40_000));
                playout.push(unit.arrived, &[truth(unit.time)]);
            }
            loop {
                let report = jitter_buffer.poll_report(now, peer_packetizer.is_due(now));
                let Some(packet) = peer_packetizer.poll_packet(now, report) else { break };
                back.send(ms, packet);
            }
            for packet in back.arrived(ms) {
                let report =
                    own_jitter_buffer.handle_packet(now, &packet).expect("a genuine packet parses");
                packetizer.handle_report(now, &report.expect("the packet contains a report"));
            }
            while packetizer.poll_confirmed().is_some() {
                confirmed += 1;
            }
            let is_frame = ms * 60 / 1000 != (ms + 1) * 60 / 1000;
            if let Some((feature, how)) = playout.at(now).filter(|_| is_frame && ms >= 2000) {
                frozen = if how == PlayoutSource::Held { frozen + 1 } else { 0 };
                longest = longest.max(frozen);
                if how == PlayoutSource::Interpolated {
                    let truth = truth(feature.time);
                    worst_error = worst_error
                        .max((feature.code.as_array()[0] - truth.code.as_array()[0]).abs());
                }
                shown.push((ms - feature.time.as_micros() / 1000, how));
            }
        }
        let received = shown.iter().filter(|(_, how)| *how == PlayoutSource::Interpolated).count();
        let mut ages: Vec<u64> = shown.iter().map(|(age, _)| *age).collect();
        ages.sort_unstable();
        let stats = jitter_buffer.stats();
        Received {
            longest_freeze: Duration::from_millis(longest * 1000 / 60),
            share_received: received as f64 / shown.len() as f64,
            latency_p95: Duration::from_millis(ages[ages.len() * 95 / 100]),
            units_lost: stats.units_lost as f64 / sent as f64,
            worst_error,
            packets_per_s: there.stats().packets as f64 / seconds as f64,
            bytes_per_packet: there.stats().bytes as f64 / there.stats().packets as f64,
            rtt: packetizer.rtt(),
            confirmed: confirmed as f64 / sent as f64,
        }
    }
}

/// The feature at `time`: one code dimension oscillates once per second with amplitude 0.6.
fn truth(time: MediaTime) -> Feature {
    let mut code = [0.0; CODE_DIMS];
    code[0] = 0.6 * (time.as_secs_f64() * std::f64::consts::TAU).sin() as f32;
    Feature {
        time,
        pose: HeadPose::from_array([0.0, 0.0, 0.0, 0.0, 0.0, 0.6])
            .expect("the head is in front of the camera"),
        code: Code::new(code).expect("0.6 is plausible"),
    }
}
