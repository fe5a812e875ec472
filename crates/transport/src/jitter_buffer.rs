use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use types::{MediaTime, UnitNumber};

use crate::loss_meter::LossMeter;
use crate::packet::{Packet, PacketError, ReceiverReport, UnitReport, time_of};
use crate::wire::unwrap_near;

/// Largest number of units that wait behind a gap.
const MAX_WAITING: usize = 256;
/// Time after which a gap is given up: the packet that would fill it is lost or too late.
const REORDER_WAIT: Duration = Duration::from_millis(30);
/// Interval of reports in packets that contain units. Prompt confirmation saves more than the
/// report costs: units reference newer ones and are repeated less.
const REPORT_INTERVAL: Duration = Duration::from_millis(60);
/// Interval of reports when there is no packet to carry them.
const LONE_REPORT_INTERVAL: Duration = Duration::from_millis(500);
/// Interval at which a key request is repeated.
const KEY_REQUEST_INTERVAL: Duration = Duration::from_millis(150);
/// Interval of the loss of sound in packets that are sent anyway.
const SOUND_LOSS_INTERVAL: Duration = Duration::from_millis(500);
/// Interval of the loss of sound when there is no packet to carry it.
const LONE_SOUND_LOSS_INTERVAL: Duration = Duration::from_secs(2);
/// How many more times no loss of sound is reported after some, in packets of their own.
const SOUND_LOSS_REPETITIONS: u8 = 2;
/// Feature packets over which loss is measured.
const LOSS_WINDOW: usize = 64;
/// Sound packets over which loss is measured: 4 s of sound at the lowest rates.
const SOUND_LOSS_WINDOW: usize = 32;
/// Largest number of confirmed units that are remembered.
const MAX_CONFIRMED: usize = 64;

/// A received access unit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReceivedUnit {
    /// The sender's number, or that number minus a multiple of 65,536.
    pub number: UnitNumber,
    /// Capture time of its feature, on the sender's media clock.
    pub time: MediaTime,
    /// When it arrived.
    pub arrived: Instant,
    /// The coded bytes.
    pub bytes: Bytes,
}

/// Counters of a [`JitterBuffer`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JitterBufferStats {
    /// Valid packets that arrived, duplicates included.
    pub packets: u64,
    /// Packet numbers skipped, less the packets that arrived later than a newer one. A duplicate also
    /// counts as late, and gaps of 128 packets or more are not seen whole.
    pub packets_lost: u64,
    /// Units returned by [`JitterBuffer::poll_unit`].
    pub units: u64,
    /// Units that no packet delivered in time.
    pub units_lost: u64,
    /// Recent packet loss, 0..=1: the fraction of missing numbers in the range of packet numbers
    /// spanned by the last 64 packets that arrived, duplicates included.
    pub loss: f32,
    /// Recent loss of sound packets, 0..=1, measured likewise over the last 32.
    pub sound_loss: f32,
}

/// Jitter buffer for access units.
///
/// Takes packets in any order, returns each unit once and in order, and skips units that do not
/// arrive in time. It also writes the reports that tell the peer which units were decoded.
#[derive(Debug)]
pub struct JitterBuffer {
    waiting: BTreeMap<u64, ReceivedUnit>,
    /// The number to return next; `None` before the first packet.
    next: Option<u64>,
    newest: u64,
    newest_ticks: u64,
    newest_arrived: Option<Instant>,
    confirmed: BTreeSet<u64>,
    packet_loss: LossMeter,
    sound_loss: LossMeter,
    /// Whether sound has arrived since its loss was last reported.
    has_sound_news: bool,
    /// When the loss of sound was last reported, and what was reported, in 1/255.
    last_sound_loss: Option<Instant>,
    /// How many more reports of the loss of sound are due in packets of their own.
    n_sound_losses_due: u8,
    last_report: Option<Instant>,
    has_news: bool,
    key_requested: bool,
    stats: JitterBufferStats,
}

impl Default for JitterBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl JitterBuffer {
    /// Returns an empty jitter buffer.
    pub fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            next: None,
            newest: 0,
            newest_ticks: 0,
            newest_arrived: None,
            confirmed: BTreeSet::new(),
            packet_loss: LossMeter::new(8, LOSS_WINDOW),
            sound_loss: LossMeter::new(16, SOUND_LOSS_WINDOW),
            has_sound_news: false,
            last_sound_loss: None,
            n_sound_losses_due: 0,
            last_report: None,
            has_news: false,
            key_requested: false,
            stats: JitterBufferStats::default(),
        }
    }

    /// Adds the units of a packet; returns the report it contains, which is for the
    /// [`Packetizer`](crate::Packetizer) of the other direction.
    ///
    /// # Errors
    /// If the bytes are not a packet. The jitter buffer is then unchanged.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        bytes: &[u8],
    ) -> Result<Option<ReceiverReport>, PacketError> {
        let packet = Packet::parse(bytes)?;
        self.stats.packets += 1;
        self.packet_loss.count(u64::from(packet.number));
        if !packet.units.is_empty() {
            self.add_units(now, &packet);
        }
        let has_report = packet.report != ReceiverReport::default();
        Ok(has_report.then_some(packet.report))
    }

    /// Counts a sound packet that has arrived, by its sequence number, so that reports contain the loss
    /// of sound. What it contains is no matter.
    pub fn count_sound(&mut self, sequence: u16) {
        self.sound_loss.count(u64::from(sequence));
        self.has_sound_news = true;
    }

    fn add_units(&mut self, now: Instant, packet: &Packet) {
        let newest = unwrap_near(self.newest, u64::from(packet.newest), 16);
        let mut ticks = unwrap_near(self.newest_ticks, u64::from(packet.newest_ticks), 24);
        if self.newest_arrived.is_none() || newest > self.newest {
            (self.newest, self.newest_ticks, self.newest_arrived) = (newest, ticks, Some(now));
        }
        self.has_news = true;
        let oldest = newest.saturating_sub(packet.units.len() as u64 - 1);
        let next = *self.next.get_or_insert(oldest);
        for (number, (ticks_back, bytes)) in (0..=newest).rev().zip(&packet.units) {
            ticks = ticks.saturating_sub(u64::from(*ticks_back));
            if number >= next {
                self.waiting.entry(number).or_insert_with(|| ReceivedUnit {
                    number: UnitNumber(number),
                    time: time_of(ticks),
                    arrived: now,
                    bytes: bytes.clone(),
                });
            }
        }
    }

    /// Returns the next unit that has arrived; `None` while units before it may still arrive.
    ///
    /// Missing units are given up 30 ms after the arrival of the first unit behind them.
    pub fn poll_unit(&mut self, now: Instant) -> Option<ReceivedUnit> {
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

    /// Returns when [`JitterBuffer::poll_unit`] will give up the missing units; `None` if no unit
    /// waits. Meaningful after `poll_unit` has returned `None`.
    pub fn timeout(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(_, unit)| unit.arrived + REORDER_WAIT)
    }

    /// Records that a unit was decoded, which makes it a possible reference and ends a key request.
    pub fn confirm_decoded(&mut self, number: UnitNumber) {
        self.confirmed.insert(number.0);
        while self.confirmed.len() > MAX_CONFIRMED {
            self.confirmed.pop_first();
        }
        self.key_requested = false;
        self.has_news = true;
    }

    /// Requests a key unit in every report until a unit is confirmed.
    pub fn request_key(&mut self) {
        self.key_requested = true;
    }

    /// Returns the report to send now, if one is due. `has_packet` says whether a packet with units
    /// is sent anyway; reports are then due more often.
    pub fn poll_report(&mut self, now: Instant, has_packet: bool) -> Option<ReceiverReport> {
        let units = self.poll_unit_report(now, has_packet);
        let sound_loss = self.poll_sound_loss(now, has_packet || units.is_some());
        let report = ReceiverReport { units, sound_loss };
        (report != ReceiverReport::default()).then_some(report)
    }

    fn poll_unit_report(&mut self, now: Instant, has_packet: bool) -> Option<UnitReport> {
        let arrived = self.newest_arrived?;
        let interval = match (self.key_requested, has_packet) {
            (true, _) => KEY_REQUEST_INTERVAL,
            (false, true) => REPORT_INTERVAL,
            (false, false) => LONE_REPORT_INTERVAL,
        };
        let last = *self.last_report.get_or_insert(arrived);
        let is_due = now.saturating_duration_since(last) >= interval;
        if !(is_due && (self.has_news || self.key_requested)) {
            return None;
        }
        self.last_report = Some(now);
        self.has_news = false;
        let decoded = (0..16)
            .filter(|back| {
                self.newest.checked_sub(*back).is_some_and(|n| self.confirmed.contains(&n))
            })
            .fold(0_u16, |bits, back| bits | 1 << back);
        let held = now.saturating_duration_since(arrived).as_millis() / 4;
        Some(UnitReport {
            newest: self.newest as u16,
            decoded,
            held: held.min(255) as u8,
            loss: (self.packet_loss.loss() * 127.0).round() as u8,
            key_requested: self.key_requested,
        })
    }

    /// Returns the loss of sound if it is to be reported: in a packet of its own only if there is any, and
    /// twice after that, because a report may be lost as well.
    fn poll_sound_loss(&mut self, now: Instant, has_packet: bool) -> Option<u8> {
        if !self.has_sound_news {
            return None;
        }
        let loss = (self.sound_loss.loss() * 255.0).round() as u8;
        let interval = if has_packet { SOUND_LOSS_INTERVAL } else { LONE_SOUND_LOSS_INTERVAL };
        if loss > 0 {
            self.n_sound_losses_due = 1 + SOUND_LOSS_REPETITIONS;
        }
        let last = *self.last_sound_loss.get_or_insert(now);
        let is_due = has_packet || self.n_sound_losses_due > 0;
        if !is_due || now.saturating_duration_since(last) < interval {
            return None;
        }
        self.n_sound_losses_due = self.n_sound_losses_due.saturating_sub(1);
        self.last_sound_loss = Some(now);
        self.has_sound_news = false;
        Some(loss)
    }

    /// Returns the counters.
    pub fn stats(&self) -> JitterBufferStats {
        JitterBufferStats {
            packets_lost: self.packet_loss.n_lost(),
            loss: self.packet_loss.loss(),
            sound_loss: self.sound_loss.loss(),
            ..self.stats
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use super::*;
    use crate::{Packetizer, PacketizerSettings};
    use proptest::prelude::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    /// Returns one packet per frame at 25 fps, each repeating `redundancy` earlier units.
    fn packets(start: Instant, n: u64, redundancy: usize) -> Vec<Vec<u8>> {
        let mut packetizer = Packetizer::new(PacketizerSettings {
            units_per_packet: 1,
            min_redundancy: redundancy,
            max_redundancy: redundancy,
            ..PacketizerSettings::default()
        });
        (0..n)
            .map(|i| {
                let now = at(start, i * 40);
                packetizer
                    .push_unit(now, UnitNumber(i), MediaTime::of_frame(i, 25), &[i as u8 + 1])
                    .unwrap();
                packetizer.poll_packet(now, None).unwrap()
            })
            .collect()
    }

    fn drain(jitter_buffer: &mut JitterBuffer, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| jitter_buffer.poll_unit(now)).map(|unit| unit.number.0).collect()
    }

    #[test]
    fn a_lost_packet_is_repaired_by_the_next_one() {
        let start = Instant::now();
        let packets = packets(start, 4, 2);
        let mut jitter_buffer = JitterBuffer::new();
        jitter_buffer.handle_packet(start, &packets[0]).unwrap();
        assert_eq!(drain(&mut jitter_buffer, start), [0]);
        jitter_buffer.handle_packet(start, &packets[3]).unwrap();
        let units: Vec<_> = std::iter::from_fn(|| jitter_buffer.poll_unit(start)).collect();
        let times: Vec<_> = units.iter().map(|unit| unit.time).collect();
        assert_eq!(times, [1, 2, 3].map(|i| MediaTime::of_frame(i, 25)));
        assert_eq!(units[0].bytes[..], [2]);
        assert_eq!(jitter_buffer.stats().units_lost, 0);
        assert_eq!(jitter_buffer.stats().packets_lost, 2);
    }

    #[test]
    fn duplicated_and_reordered_packets_give_every_unit_once_in_order() {
        let start = Instant::now();
        let packets = packets(start, 6, 1);
        let mut jitter_buffer = JitterBuffer::new();
        let mut got = Vec::new();
        for i in [0, 2, 1, 1, 5, 4, 3, 0] {
            jitter_buffer.handle_packet(start, &packets[i]).unwrap();
            got.extend(drain(&mut jitter_buffer, start));
        }
        assert_eq!(got, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_gap_is_given_up_after_30_ms() {
        let start = Instant::now();
        let packets = packets(start, 9, 1);
        let mut jitter_buffer = JitterBuffer::new();
        jitter_buffer.handle_packet(start, &packets[0]).unwrap();
        jitter_buffer.handle_packet(start, &packets[8]).unwrap();
        assert_eq!(drain(&mut jitter_buffer, at(start, 29)), [0]);
        assert_eq!(jitter_buffer.timeout(), Some(at(start, 30)));
        assert_eq!(drain(&mut jitter_buffer, at(start, 30)), [7, 8]);
        assert_eq!(jitter_buffer.stats().units_lost, 6);
    }

    #[test]
    fn a_key_request_is_reported_soon_and_ends_with_a_decoded_unit() {
        let start = Instant::now();
        let packets = packets(start, 2, 1);
        let mut jitter_buffer = JitterBuffer::new();
        jitter_buffer.request_key();
        assert_eq!(jitter_buffer.poll_report(start, false), None, "nothing has arrived yet");
        jitter_buffer.handle_packet(start, &packets[0]).unwrap();
        assert_eq!(jitter_buffer.poll_report(start, false), None);
        assert!(jitter_buffer.poll_report(at(start, 150), false).unwrap().key_requested());
        jitter_buffer.confirm_decoded(UnitNumber(0));
        assert!(!jitter_buffer.poll_report(at(start, 1200), false).unwrap().key_requested());
        assert_eq!(jitter_buffer.poll_report(at(start, 5000), true), None, "there is no news");
    }

    #[test]
    fn the_loss_of_sound_goes_with_other_packets_and_alone_if_there_is_any() {
        let start = Instant::now();
        let mut jitter_buffer = JitterBuffer::new();
        let mut reported = |sequences: &[u16], ms, has_packet| {
            for sequence in sequences {
                jitter_buffer.count_sound(*sequence);
            }
            let report = jitter_buffer.poll_report(at(start, ms), has_packet);
            report.and_then(|report| report.sound_loss())
        };
        assert_eq!(reported(&[1, 2], 0, true), None, "nothing is known yet");
        assert_eq!(reported(&[], 500, true), Some(0.0));
        assert_eq!(reported(&[], 1000, true), None, "there is no news");
        assert_eq!(reported(&[3, 4], 9000, false), None, "all is well, and no packet is due");
        assert_eq!(reported(&[9], 9000, false).map(|loss| (loss * 9.0).round()), Some(4.0));
        assert_eq!(reported(&[10], 10_999, false), None);
        assert!(reported(&[], 11_000, false).is_some(), "the report before may be lost");
        // Nothing is lost any more, which is told twice.
        let sequences: Vec<u16> = (11..60).collect();
        assert_eq!(reported(&sequences, 13_000, false), Some(0.0));
        assert_eq!(reported(&[60], 15_000, false), Some(0.0));
        assert_eq!(reported(&[61], 17_000, false), None);
    }

    proptest! {
        #[test]
        fn units_come_in_order_and_once_whatever_the_network_does(
            order in proptest::collection::vec(0_usize..60, 0..150),
        ) {
            let start = Instant::now();
            let packets = packets(start, 60, 3);
            let mut jitter_buffer = JitterBuffer::new();
            let mut got = Vec::new();
            for (ms, i) in order.iter().enumerate() {
                jitter_buffer.handle_packet(at(start, ms as u64), &packets[*i]).unwrap();
                got.extend(drain(&mut jitter_buffer, at(start, ms as u64)));
            }
            prop_assert!(got.windows(2).all(|pair| pair[0] < pair[1]), "{got:?}");
        }

        #[test]
        fn no_packets_make_the_jitter_buffer_panic(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..20),
        ) {
            let now = Instant::now();
            let (mut jitter_buffer, mut packetizer) = (JitterBuffer::new(), Packetizer::new(PacketizerSettings::default()));
            for (i, mut bytes) in (0..).zip(packets) {
                if let Some(first) = bytes.first_mut() {
                    *first = 0x40 | (*first & 0x3f);
                }
                if let Ok(Some(report)) = jitter_buffer.handle_packet(now, &bytes) {
                    packetizer.handle_report(now, &report);
                }
                let _ = packetizer.push_unit(now, UnitNumber(i), MediaTime::ZERO, b"u");
                let _ = packetizer.poll_packet(now, jitter_buffer.poll_report(now, true));
                while jitter_buffer.poll_unit(now).is_some() {}
            }
        }
    }
}
