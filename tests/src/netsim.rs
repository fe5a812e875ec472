//! A call of made-up units over a bad network, on a virtual clock: thirty seconds in milliseconds.

use std::time::{Duration, Instant};

use call::{Path, SimulatedPath};
use transport::{JitterBuffer, Packetizer, PacketizerSettings, Playout, PlayoutSource};
use types::{CODE_DIMS, Code, Feature, HeadPose, MediaTime, UnitNumber};

/// What a call looked like to the one who watched it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Longest stretch in which the face stood still for want of features.
    pub longest_freeze: Duration,
    /// Share of displayed frames that were received or between two received.
    pub share_received: f64,
    /// 95th percentile of the age of what was shown.
    pub latency_p95: Duration,
    /// Share of units that never came, or too late.
    pub units_lost: f64,
    /// Largest difference of a displayed number from the truth at its media time; the face moves
    /// by 3.8 a second at most.
    pub worst_error: f32,
    /// Packets a second.
    pub packets_per_s: f64,
    /// Bytes of a packet, on average, without the headers below it.
    pub bytes_per_packet: f64,
    /// Round trip the sender measured.
    pub rtt: Option<Duration>,
    /// Units the peer confirmed, share of those sent.
    pub confirmed: f64,
}

/// One direction of a call at 25 features a second, reports going back over the same path, shown
/// 60 times a second. Units are 8 bytes, about what a feature takes.
#[derive(Clone, Copy, Debug)]
pub struct SimulatedCall {
    /// Both ways.
    pub path: Path,
    /// New units in a packet.
    pub units_per_packet: usize,
}

impl SimulatedCall {
    /// A call over this path, a packet per feature.
    pub fn over(path: Path) -> Self {
        Self { path, units_per_packet: 1 }
    }

    /// The same with this many features a packet.
    #[must_use]
    pub fn units_per_packet(self, units_per_packet: usize) -> Self {
        Self { units_per_packet, ..self }
    }

    /// Runs for so many virtual seconds; the first two, in which the delay settles, are not
    /// judged.
    #[expect(
        clippy::missing_panics_doc,
        clippy::disallowed_methods,
        reason = "part of tests, whose time has to begin somewhere"
    )]
    pub fn run_for(self, seconds: u64) -> Seen {
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
                    .expect("eight bytes are a unit");
                sent += 1;
            }
            loop {
                let report = own_jitter_buffer.poll_report(now, packetizer.is_due(now));
                let Some(packet) = packetizer.poll_packet(now, report) else { break };
                there.send(ms, packet);
            }
            for packet in there.arrived(ms) {
                let report = jitter_buffer.handle_packet(now, &packet).expect("a packet of ours");
                assert!(report.is_none(), "the watched side sends no features");
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
                    own_jitter_buffer.handle_packet(now, &packet).expect("a packet of ours");
                packetizer.handle_report(now, &report.expect("it holds nothing else"));
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
        Seen {
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

/// A face that nods: one number swings by 0.6 once a second.
fn truth(time: MediaTime) -> Feature {
    let mut code = [0.0; CODE_DIMS];
    code[0] = 0.6 * (time.as_secs_f64() * std::f64::consts::TAU).sin() as f32;
    Feature {
        time,
        pose: HeadPose::from_array([0.0, 0.0, 0.0, 0.0, 0.0, 0.6])
            .expect("a head in front of the camera"),
        code: Code::new(code).expect("a small number"),
    }
}
