use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use types::{MAX_UNIT_BYTES, MediaTime, UnitNumber};

use crate::packet::{
    MAX_PACKET_BYTES, MAX_UNITS, Packet, ReceiverReport, packed_len, ticks_between, ticks_of,
};
use crate::wire::unwrap_near;

/// Units older than this are too late for playout and not repeated.
const MAX_REPEATED_AGE: Duration = Duration::from_millis(1200);
/// Units that are remembered: more than a report and a round trip span.
const CAPACITY: usize = 256;
/// Fraction of packets lost from which on the newest unit is sent again before the next one.
const HEAVY_LOSS: f32 = 0.15;
/// Age of the newest unit up to which it is sent again under heavy loss.
const MAX_RESENT_AGE: Duration = Duration::from_millis(200);
/// Longest time that a packet waits for each unit it is still to contain.
const WAIT_PER_UNIT: Duration = Duration::from_millis(60);

/// Settings of a [`Packetizer`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PacketizerSettings {
    /// New units per packet, 1..=8. More units cost fewer headers and more delay. Reported loss
    /// lowers the number.
    pub units_per_packet: usize,
    /// Smallest number of earlier packets whose units are repeated. Reported loss raises the
    /// number.
    pub min_redundancy: usize,
    /// Largest number of earlier packets whose units are repeated; 0 counts as 1. Must be at least
    /// `min_redundancy`, otherwise packing panics.
    pub max_redundancy: usize,
    /// Time after which the newest unit is sent again if there is no new one. Only under heavy loss
    /// (15 % and more).
    pub repeat_interval: Duration,
}

impl Default for PacketizerSettings {
    /// Two units per packet, one to ten earlier packets repeated, every 40 ms under heavy loss.
    fn default() -> Self {
        Self {
            units_per_packet: 2,
            min_redundancy: 1,
            max_redundancy: 10,
            repeat_interval: Duration::from_millis(40),
        }
    }
}

/// A unit whose size in bytes is not in 1..=[`MAX_UNIT_BYTES`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a unit of {0} bytes is outside 1..={MAX_UNIT_BYTES}")]
pub struct UnitError(pub usize);

#[derive(Debug)]
struct SentUnit {
    time: MediaTime,
    bytes: Bytes,
    pushed: Instant,
    first_sent: Option<Instant>,
    is_confirmed: bool,
}

/// Packs access units into packets.
///
/// A packet contains the new units and repeats those of the last few packets, back to the newest
/// unit that the peer has confirmed, so one packet that arrives repairs a burst of losses. The
/// peer's reports determine the redundancy, the round-trip time, and the units that may serve as
/// references ([`Packetizer::poll_confirmed`]).
#[derive(Debug)]
pub struct Packetizer {
    settings: PacketizerSettings,
    /// The number of `units[0]`.
    first: u64,
    units: VecDeque<SentUnit>,
    /// Units at the back of `units` that were never sent.
    n_unsent: usize,
    packet_number: u8,
    /// When the last packet with units was sent.
    last_sent: Option<Instant>,
    newly_confirmed: VecDeque<UnitNumber>,
    loss: f32,
    rtt: Option<Duration>,
}

impl Packetizer {
    /// Returns a packetizer without units.
    pub fn new(settings: PacketizerSettings) -> Self {
        Self {
            settings,
            first: 0,
            units: VecDeque::new(),
            n_unsent: 0,
            packet_number: 0,
            last_sent: None,
            newly_confirmed: VecDeque::new(),
            loss: 0.0,
            rtt: None,
        }
    }

    /// Applies other settings from the next packet on.
    pub fn set_settings(&mut self, settings: PacketizerSettings) {
        self.settings = settings;
    }

    /// Adds the next unit, whose feature was captured at `time`.
    ///
    /// Numbers are consecutive, because a packet contains only the number of its newest unit.
    /// After a gap, earlier units are forgotten: those not sent yet are never sent, and the others
    /// are neither repeated nor confirmed.
    ///
    /// # Errors
    /// If the unit is empty or longer than [`MAX_UNIT_BYTES`].
    pub fn push_unit(
        &mut self,
        now: Instant,
        number: UnitNumber,
        time: MediaTime,
        bytes: &[u8],
    ) -> Result<(), UnitError> {
        if !(1..=MAX_UNIT_BYTES).contains(&bytes.len()) {
            return Err(UnitError(bytes.len()));
        }
        if number.0 != self.first + self.units.len() as u64 {
            self.units.clear();
            self.n_unsent = 0;
            self.first = number.0;
        }
        if self.units.len() == CAPACITY {
            self.units.pop_front();
            self.first += 1;
            self.n_unsent = self.n_unsent.min(self.units.len());
        }
        self.units.push_back(SentUnit {
            time,
            bytes: Bytes::copy_from_slice(bytes),
            pushed: now,
            first_sent: None,
            is_confirmed: false,
        });
        self.n_unsent += 1;
        Ok(())
    }

    /// Whether a packet with units is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.timeout().is_some_and(|due| due <= now)
    }

    /// Returns a packet with the units that are due and the report; `None` if no units are due and
    /// `report` is `None`.
    ///
    /// `report` is that of the [`JitterBuffer`](crate::JitterBuffer) for the other direction. Each
    /// call with a report returns a packet, so pass a report only once.
    pub fn poll_packet(&mut self, now: Instant, report: Option<ReceiverReport>) -> Option<Vec<u8>> {
        let is_due = self.is_due(now);
        if !is_due && report.is_none() {
            return None;
        }
        self.packet_number = self.packet_number.wrapping_add(1);
        let report = report.unwrap_or_default();
        let mut packet = Packet { number: self.packet_number, report, ..Packet::default() };
        if is_due {
            self.fill(now, &mut packet);
        }
        Some(packet.to_bytes())
    }

    /// Returns a packet without units and report, which tells the peer that this end is there.
    pub fn empty_packet(&mut self) -> Vec<u8> {
        self.packet_number = self.packet_number.wrapping_add(1);
        Packet { number: self.packet_number, ..Packet::default() }.to_bytes()
    }

    /// Returns when the next packet with units is due, if no further unit is pushed; `None` if no
    /// units are left to send.
    pub fn timeout(&self) -> Option<Instant> {
        let Some(oldest) = self.units.get(self.units.len() - self.n_unsent) else {
            return self.repeat_timeout();
        };
        let target = self.units_per_packet();
        Some(if self.n_unsent >= target {
            oldest.pushed
        } else {
            oldest.pushed + WAIT_PER_UNIT * (target as u32 - 1)
        })
    }

    /// Returns when the newest unit is to be sent again, if at all.
    fn repeat_timeout(&self) -> Option<Instant> {
        let newest =
            self.units.back().filter(|unit| self.loss >= HEAVY_LOSS && !unit.is_confirmed)?;
        let due = self.last_sent? + self.settings.repeat_interval;
        (due <= newest.pushed + MAX_RESENT_AGE).then_some(due)
    }

    fn fill(&mut self, now: Instant, packet: &mut Packet) {
        // In a packet without new units, the newest one counts as new.
        let n_new = self.n_unsent.max(1);
        let n_repeated = self.redundancy() * self.units_per_packet();
        let newest = self.units.len() - 1;
        packet.newest = (self.first + newest as u64) as u16;
        packet.newest_ticks = (ticks_of(self.units[newest].time) & 0xff_ffff) as u32;
        let mut room = MAX_PACKET_BYTES - 16;
        for back in 0..(n_new + n_repeated).min(MAX_UNITS).min(self.units.len()) {
            let unit = &self.units[newest - back];
            let is_old = now.saturating_duration_since(unit.pushed) > MAX_REPEATED_AGE;
            if back >= n_new && (unit.is_confirmed || is_old) {
                break;
            }
            let Some(left) = room.checked_sub(packed_len(unit.bytes.len())) else { break };
            room = left;
            let ticks_back = match back {
                0 => 0,
                _ => ticks_between(unit.time, self.units[newest - back + 1].time),
            };
            packet.units.push((ticks_back, unit.bytes.clone()));
        }
        for unit in self.units.iter_mut().rev().take(n_new) {
            unit.first_sent.get_or_insert(now);
        }
        self.n_unsent = 0;
        self.last_sent = Some(now);
    }

    /// Returns the number of new units per packet: less than the setting under loss, so that a
    /// lost packet takes fewer units with it.
    fn units_per_packet(&self) -> usize {
        let set = self.settings.units_per_packet.max(1);
        match self.loss {
            loss if loss < 0.05 => set,
            loss if loss < 0.2 => set.div_ceil(2),
            _ => 1,
        }
    }

    /// Returns the number of earlier packets whose units are repeated: enough that about one unit
    /// in a thousand never arrives at the reported loss.
    fn redundancy(&self) -> usize {
        let needed = match self.loss {
            loss if loss < 0.003 => 0,
            loss if loss < 0.01 => 1,
            loss if loss < 0.05 => 2,
            loss if loss < 0.12 => 3,
            loss if loss < 0.3 => 5,
            loss if loss < 0.45 => 7,
            _ => 10,
        };
        needed.clamp(self.settings.min_redundancy, self.settings.max_redundancy.max(1))
    }

    /// Handles a report of the peer, as [`JitterBuffer::handle_packet`] returned it. A report
    /// about units that were never sent is ignored.
    ///
    /// [`JitterBuffer::handle_packet`]: crate::JitterBuffer::handle_packet
    pub fn handle_report(&mut self, now: Instant, report: &ReceiverReport) {
        let Some(report) = report.units else { return };
        let Some(last) = self.units.len().checked_sub(1).map(|n| self.first + n as u64) else {
            return;
        };
        let newest = unwrap_near(last, u64::from(report.newest), 16);
        if newest > last {
            return;
        }
        self.loss = report.loss();
        if let Some(unit) = newest.checked_sub(self.first).map(|i| &self.units[i as usize])
            && let Some(sent) = unit.first_sent
        {
            let sample = now.saturating_duration_since(sent).saturating_sub(report.held());
            // A unit that a later packet delivered looks slow, so short samples weigh more.
            self.rtt = Some(match self.rtt {
                Some(rtt) if sample > rtt => (rtt * 15 + sample) / 16,
                Some(rtt) => (rtt + sample) / 2,
                None => sample,
            });
        }
        for back in (0..16).rev().filter(|back| report.decoded >> back & 1 == 1) {
            let Some(number) = newest.checked_sub(back).filter(|n| *n >= self.first) else {
                continue;
            };
            let unit = &mut self.units[(number - self.first) as usize];
            if !unit.is_confirmed {
                unit.is_confirmed = true;
                self.newly_confirmed.push_back(UnitNumber(number));
            }
        }
    }

    /// Returns the next unit that the peer has confirmed to have decoded, each once: in the order
    /// of the reports, and within a report oldest first.
    pub fn poll_confirmed(&mut self) -> Option<UnitNumber> {
        self.newly_confirmed.pop_front()
    }

    /// Returns the fraction of our packets that the peer lost recently, 0..=1.
    pub fn loss(&self) -> f32 {
        self.loss
    }

    /// Returns the smoothed round-trip time; `None` before the first report.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use super::*;
    use crate::JitterBuffer;
    use crate::packet::UnitReport;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_packet_waits_for_its_units_for_a_limited_time() {
        let start = Instant::now();
        let mut packetizer =
            Packetizer::new(PacketizerSettings { units_per_packet: 3, ..Default::default() });
        packetizer.push_unit(start, UnitNumber(0), MediaTime::ZERO, b"a").unwrap();
        assert_eq!(packetizer.poll_packet(at(start, 119), None), None);
        assert_eq!(packetizer.timeout(), Some(at(start, 120)));
        assert!(packetizer.poll_packet(at(start, 120), None).is_some());
        for (number, byte) in (1..).map(UnitNumber).zip([b"b", b"c", b"d"]) {
            packetizer.push_unit(at(start, 130), number, MediaTime::ZERO, byte).unwrap();
        }
        let packet = packetizer.poll_packet(at(start, 130), None).unwrap();
        assert_eq!(
            Packet::parse(&packet).unwrap().units.len(),
            4,
            "three new units and a repeated one"
        );
    }

    #[test]
    fn a_confirmed_unit_is_reported_once_and_not_repeated() {
        let start = Instant::now();
        let mut packetizer =
            Packetizer::new(PacketizerSettings { units_per_packet: 1, ..Default::default() });
        let mut peer = JitterBuffer::new();
        for (number, ms) in (0..).map(UnitNumber).zip([0, 40]) {
            packetizer
                .push_unit(at(start, ms), number, MediaTime::from_micros(ms * 1000), b"u")
                .unwrap();
            let packet = packetizer.poll_packet(at(start, ms), None).unwrap();
            peer.handle_packet(at(start, ms + 10), &packet).unwrap();
            while let Some(unit) = peer.poll_unit(at(start, ms + 10)) {
                peer.confirm_decoded(unit.number);
            }
        }
        let report = peer.poll_report(at(start, 2000), false).unwrap();
        packetizer.handle_report(at(start, 2010), &report);
        assert_eq!(packetizer.poll_confirmed(), Some(UnitNumber(0)));
        assert_eq!(packetizer.poll_confirmed(), Some(UnitNumber(1)));
        assert_eq!(packetizer.poll_confirmed(), None);
        packetizer
            .push_unit(at(start, 2020), UnitNumber(2), MediaTime::from_micros(80_000), b"v")
            .unwrap();
        let packet = packetizer.poll_packet(at(start, 2020), None).unwrap();
        assert_eq!(Packet::parse(&packet).unwrap().units.len(), 1);
    }

    #[test]
    fn under_heavy_loss_the_newest_unit_is_repeated_until_it_is_confirmed_or_old() {
        let start = Instant::now();
        let settings = PacketizerSettings { units_per_packet: 1, ..Default::default() };
        let mut packetizer = Packetizer::new(settings);
        let sent_at = |packetizer: &mut Packetizer, range: std::ops::Range<u64>| -> Vec<u64> {
            let mut packet = |ms: &u64| packetizer.poll_packet(at(start, *ms), None);
            range.filter(|ms| packet(ms).is_some()).collect()
        };
        let report = |newest, decoded, loss| {
            let units = UnitReport { newest, decoded, held: 0, loss, key_requested: false };
            ReceiverReport { units: Some(units), sound_loss: None }
        };
        packetizer.push_unit(start, UnitNumber(0), MediaTime::ZERO, b"a").unwrap();
        assert_eq!(sent_at(&mut packetizer, 0..1000), [0]);
        packetizer.handle_report(at(start, 1000), &report(0, 0, 40));
        packetizer.push_unit(at(start, 1000), UnitNumber(1), MediaTime::ZERO, b"b").unwrap();
        assert_eq!(sent_at(&mut packetizer, 1000..2000), [1000, 1040, 1080, 1120, 1160, 1200]);
        packetizer.push_unit(at(start, 2000), UnitNumber(2), MediaTime::ZERO, b"c").unwrap();
        assert_eq!(sent_at(&mut packetizer, 2000..2050), [2000, 2040]);
        packetizer.handle_report(at(start, 2050), &report(2, 1, 40));
        assert_eq!(sent_at(&mut packetizer, 2050..3000), [], "it is confirmed");
    }

    #[test]
    fn a_report_about_units_never_sent_is_ignored() {
        let now = Instant::now();
        let mut packetizer = Packetizer::new(PacketizerSettings::default());
        let units =
            UnitReport { newest: 9, decoded: 0xffff, held: 0, loss: 127, key_requested: false };
        let report = ReceiverReport { units: Some(units), sound_loss: None };
        packetizer.handle_report(now, &report);
        packetizer.push_unit(now, UnitNumber(0), MediaTime::ZERO, b"u").unwrap();
        packetizer.handle_report(now, &report);
        assert_eq!((packetizer.poll_confirmed(), packetizer.rtt()), (None, None));
    }

    #[test]
    fn units_of_an_invalid_size_are_refused() {
        let mut packetizer = Packetizer::new(PacketizerSettings::default());
        let now = Instant::now();
        for (bytes, want) in [
            (&[][..], Err(UnitError(0))),
            (&[0; MAX_UNIT_BYTES], Ok(())),
            (&[0; MAX_UNIT_BYTES + 1], Err(UnitError(MAX_UNIT_BYTES + 1))),
        ] {
            assert_eq!(packetizer.push_unit(now, UnitNumber(0), MediaTime::ZERO, bytes), want);
        }
    }

    #[test]
    fn a_gap_in_the_numbers_starts_over() {
        let now = Instant::now();
        let mut packetizer =
            Packetizer::new(PacketizerSettings { units_per_packet: 1, ..Default::default() });
        for (number, n_units) in [(70_000, 1), (70_001, 2), (7, 1), (8, 2)] {
            packetizer.push_unit(now, UnitNumber(number), MediaTime::ZERO, b"u").unwrap();
            let packet = packetizer.poll_packet(now, None).unwrap();
            let packet = Packet::parse(&packet).unwrap();
            assert_eq!((packet.newest, packet.units.len()), (number as u16, n_units), "{number}");
        }
    }
}
