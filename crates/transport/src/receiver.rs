use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};
use types::{MediaTime, UnitNumber};

use crate::packet::{Packet, PacketError, Report, time_of};
use crate::wire::unwrap_near;

/// Units that wait behind a gap, at most.
const MAX_WAITING: usize = 256;
/// A gap is given up after this long: the packet that held it is lost, or useless by now.
const REORDER_WAIT: Duration = Duration::from_millis(30);
/// A report rides on a packet of units this often: what it costs, units that build on newer ones
/// and are not repeated save.
const REPORT_EVERY: Duration = Duration::from_millis(60);
/// A report goes alone when it could not ride for this long.
const REPORT_ALONE: Duration = Duration::from_millis(500);
/// A key request is repeated this often until it is answered.
const KEY_REQUEST_EVERY: Duration = Duration::from_millis(150);

/// One unit that arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unit {
    /// Its place in the sender's order.
    pub number: UnitNumber,
    /// When the frame it describes was captured, on the sender's clock.
    pub time: MediaTime,
    /// When it arrived here.
    pub arrived: Instant,
    /// The access unit.
    pub bytes: Bytes,
}

/// What a receiver has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReceiverStats {
    /// Packets that parsed.
    pub packets: u64,
    /// Packets that never came.
    pub packets_lost: u64,
    /// Units given to the decoder.
    pub units: u64,
    /// Units that no packet brought in time.
    pub units_lost: u64,
    /// Share of packets lost lately, 0..=1.
    pub loss: f32,
}

/// Puts units back in order: takes packets as they come, gives every unit once, and gives up on
/// what stays missing.
#[derive(Debug, Default)]
pub struct Receiver {
    waiting: BTreeMap<u64, Unit>,
    /// The next number to give out; `None` before the first packet.
    next: Option<u64>,
    newest: u64,
    newest_ticks: u64,
    newest_arrived: Option<Instant>,
    confirmed: BTreeSet<u64>,
    newest_packet: u64,
    recent_packets: VecDeque<u64>,
    reported: Option<Instant>,
    unreported: bool,
    key_wanted: bool,
    stats: ReceiverStats,
}

impl Receiver {
    /// A receiver that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one packet and gives back the report that rode on it, which is for the
    /// [`Sender`](crate::Sender) of the other direction.
    ///
    /// # Errors
    /// If the bytes are not a packet; nothing has changed then.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        bytes: &[u8],
    ) -> Result<Option<Report>, PacketError> {
        let packet = Packet::parse(bytes)?;
        self.count(packet.number);
        if !packet.units.is_empty() {
            self.take_units(now, &packet);
        }
        Ok(packet.report)
    }

    fn take_units(&mut self, now: Instant, packet: &Packet) {
        let newest = unwrap_near(self.newest, u64::from(packet.newest), 16);
        let mut ticks = unwrap_near(self.newest_ticks, u64::from(packet.newest_ticks), 24);
        if self.newest_arrived.is_none() || newest > self.newest {
            (self.newest, self.newest_ticks, self.newest_arrived) = (newest, ticks, Some(now));
        }
        self.unreported = true;
        let oldest = newest.saturating_sub(packet.units.len() as u64 - 1);
        let next = *self.next.get_or_insert(oldest);
        for (number, (ticks_back, bytes)) in (0..=newest).rev().zip(&packet.units) {
            ticks = ticks.saturating_sub(u64::from(*ticks_back));
            if number >= next {
                self.waiting.entry(number).or_insert_with(|| Unit {
                    number: UnitNumber(number),
                    time: time_of(ticks),
                    arrived: now,
                    bytes: bytes.clone(),
                });
            }
        }
    }

    /// The next unit in order, if it is there or the ones before it are given up.
    pub fn poll_unit(&mut self, now: Instant) -> Option<Unit> {
        let next = self.next?;
        let oldest = self.waiting.first_entry()?;
        let gap = oldest.key() - next;
        let waited = now.saturating_duration_since(oldest.get().arrived);
        if gap > 0 && waited < REORDER_WAIT && self.waiting.len() < MAX_WAITING {
            return None;
        }
        let (number, unit) = self.waiting.pop_first()?;
        self.next = Some(number + 1);
        self.stats.units += 1;
        self.stats.units_lost += gap;
        Some(unit)
    }

    /// When [`Receiver::poll_unit`] will give up on a gap, if nothing fills it.
    pub fn timeout(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(_, unit)| unit.arrived + REORDER_WAIT)
    }

    /// Says that a unit was decoded; only such units may serve the sender as references.
    pub fn confirm(&mut self, number: UnitNumber) {
        self.confirmed.insert(number.0);
        while self.confirmed.len() > 64 {
            self.confirmed.pop_first();
        }
        self.key_wanted = false;
        self.unreported = true;
    }

    /// Asks the sender for a key unit, until a unit is confirmed.
    pub fn want_key(&mut self) {
        self.key_wanted = true;
    }

    /// The report to send now, if one is due; `rides` if a packet goes out anyway.
    pub fn poll_report(&mut self, now: Instant, rides: bool) -> Option<Report> {
        let arrived = self.newest_arrived?;
        let wait = match (self.key_wanted, rides) {
            (true, _) => KEY_REQUEST_EVERY,
            (false, true) => REPORT_EVERY,
            (false, false) => REPORT_ALONE,
        };
        let last = *self.reported.get_or_insert(arrived);
        let is_due = now.saturating_duration_since(last) >= wait;
        if !(is_due && (self.unreported || self.key_wanted)) {
            return None;
        }
        self.reported = Some(now);
        self.unreported = false;
        let decoded = (0..16)
            .filter(|back| {
                self.newest.checked_sub(*back).is_some_and(|n| self.confirmed.contains(&n))
            })
            .fold(0_u16, |bits, back| bits | 1 << back);
        let held = now.saturating_duration_since(arrived).as_millis() / 4;
        Some(Report {
            newest: self.newest as u16,
            decoded,
            held: held.min(255) as u8,
            loss: (self.stats.loss * 127.0).round() as u8,
            key_wanted: self.key_wanted,
        })
    }

    /// What it has seen so far.
    pub fn stats(&self) -> ReceiverStats {
        self.stats
    }

    /// Counts lost packets by their numbers, over the last 64 that came.
    fn count(&mut self, number: u8) {
        self.stats.packets += 1;
        let number = if self.recent_packets.is_empty() {
            u64::from(number) + 256
        } else {
            unwrap_near(self.newest_packet, u64::from(number), 8)
        };
        if self.recent_packets.is_empty() || number > self.newest_packet {
            if !self.recent_packets.is_empty() {
                self.stats.packets_lost += number - self.newest_packet - 1;
            }
            self.newest_packet = number;
        } else {
            self.stats.packets_lost = self.stats.packets_lost.saturating_sub(1);
        }
        self.recent_packets.push_back(number);
        if self.recent_packets.len() > 64 {
            self.recent_packets.pop_front();
        }
        let first = self.recent_packets.iter().min().copied().unwrap_or(number);
        let span = (self.newest_packet - first + 1) as f32;
        self.stats.loss = (1.0 - self.recent_packets.len() as f32 / span).clamp(0.0, 1.0);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's time has to begin somewhere")]
mod tests {
    use super::*;
    use crate::{Sender, SenderSettings};
    use proptest::prelude::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    /// One packet a frame at 25 fps, each with `redundancy` earlier units.
    fn packets(start: Instant, n: u64, redundancy: usize) -> Vec<Vec<u8>> {
        let mut sender = Sender::new(SenderSettings {
            units_per_packet: 1,
            min_redundancy: redundancy,
            max_redundancy: redundancy,
            ..SenderSettings::default()
        });
        (0..n)
            .map(|i| {
                let now = at(start, i * 40);
                sender
                    .push_unit(now, UnitNumber(i), MediaTime::of_frame(i, 25), &[i as u8 + 1])
                    .unwrap();
                sender.poll_packet(now, &mut Receiver::new()).unwrap()
            })
            .collect()
    }

    fn drain(receiver: &mut Receiver, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| receiver.poll_unit(now)).map(|unit| unit.number.0).collect()
    }

    #[test]
    fn a_lost_packet_is_repaired_by_the_next_one() {
        let start = Instant::now();
        let packets = packets(start, 4, 2);
        let mut receiver = Receiver::new();
        receiver.handle_packet(start, &packets[0]).unwrap();
        assert_eq!(drain(&mut receiver, start), [0]);
        receiver.handle_packet(start, &packets[3]).unwrap();
        let units: Vec<_> = std::iter::from_fn(|| receiver.poll_unit(start)).collect();
        let times: Vec<_> = units.iter().map(|unit| unit.time).collect();
        assert_eq!(times, [1, 2, 3].map(|i| MediaTime::of_frame(i, 25)));
        assert_eq!(units[0].bytes[..], [2]);
        assert_eq!(receiver.stats().units_lost, 0);
        assert_eq!(receiver.stats().packets_lost, 2);
    }

    #[test]
    fn packets_out_of_order_and_twice_give_every_unit_once_in_order() {
        let start = Instant::now();
        let packets = packets(start, 6, 1);
        let mut receiver = Receiver::new();
        let mut got = Vec::new();
        for i in [0, 2, 1, 1, 5, 4, 3, 0] {
            receiver.handle_packet(start, &packets[i]).unwrap();
            got.extend(drain(&mut receiver, start));
        }
        assert_eq!(got, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_gap_nobody_fills_is_given_up_after_a_moment() {
        let start = Instant::now();
        let packets = packets(start, 9, 1);
        let mut receiver = Receiver::new();
        receiver.handle_packet(start, &packets[0]).unwrap();
        receiver.handle_packet(start, &packets[8]).unwrap();
        assert_eq!(drain(&mut receiver, at(start, 29)), [0]);
        assert_eq!(receiver.timeout(), Some(at(start, 30)));
        assert_eq!(drain(&mut receiver, at(start, 30)), [7, 8]);
        assert_eq!(receiver.stats().units_lost, 6);
    }

    #[test]
    fn a_key_request_goes_out_at_once_and_ends_with_a_decoded_unit() {
        let start = Instant::now();
        let packets = packets(start, 2, 1);
        let mut receiver = Receiver::new();
        receiver.want_key();
        assert_eq!(receiver.poll_report(start, false), None, "nobody to ask yet");
        receiver.handle_packet(start, &packets[0]).unwrap();
        assert_eq!(receiver.poll_report(start, false), None);
        assert!(receiver.poll_report(at(start, 150), false).unwrap().key_wanted());
        receiver.confirm(UnitNumber(0));
        assert!(!receiver.poll_report(at(start, 1200), false).unwrap().key_wanted());
        assert_eq!(receiver.poll_report(at(start, 5000), true), None, "nothing new to say");
    }

    proptest! {
        #[test]
        fn whatever_the_network_does_units_come_in_order_and_once(
            order in proptest::collection::vec(0_usize..60, 0..150),
        ) {
            let start = Instant::now();
            let packets = packets(start, 60, 3);
            let mut receiver = Receiver::new();
            let mut got = Vec::new();
            for (ms, i) in order.iter().enumerate() {
                receiver.handle_packet(at(start, ms as u64), &packets[*i]).unwrap();
                got.extend(drain(&mut receiver, at(start, ms as u64)));
            }
            prop_assert!(got.windows(2).all(|pair| pair[0] < pair[1]), "{got:?}");
        }

        #[test]
        fn no_packets_make_the_receiver_panic(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..20),
        ) {
            let now = Instant::now();
            let (mut receiver, mut sender) = (Receiver::new(), Sender::new(SenderSettings::default()));
            for (i, mut bytes) in (0..).zip(packets) {
                if let Some(first) = bytes.first_mut() {
                    *first = 0x40 | (*first & 0x3f);
                }
                if let Ok(Some(report)) = receiver.handle_packet(now, &bytes) {
                    sender.handle_report(now, &report);
                }
                let _ = sender.push_unit(now, UnitNumber(i), MediaTime::ZERO, b"u");
                let _ = sender.poll_packet(now, &mut receiver);
                while receiver.poll_unit(now).is_some() {}
            }
        }
    }
}
