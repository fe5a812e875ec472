use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use types::{MAX_UNIT_BYTES, MediaTime, UnitNumber};

use crate::packet::{
    MAX_PACKET_BYTES, MAX_UNITS, Packet, Report, packed_len, ticks_between, ticks_of,
};
use crate::receiver::Receiver;
use crate::wire::unwrap_near;

/// Units older than this are of no use to anybody's playout.
const HISTORY: Duration = Duration::from_millis(1200);
/// Units remembered for acknowledgements: more than a report and a round trip can span.
const KEPT: usize = 256;
/// From this share of packets lost on, packets go more often than there are units.
const HEAVY_LOSS: f32 = 0.15;
/// The newest unit is repeated for this long at most.
const REPEAT_FOR: Duration = Duration::from_millis(200);
/// A packet waits this long, times the units it is to hold, for the last of them.
const WAIT_PER_UNIT: Duration = Duration::from_millis(60);

/// How a [`Sender`] packs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SenderSettings {
    /// New units in a packet, 1..=8: fewer packets cost fewer headers and more delay. Loss lowers
    /// it.
    pub units_per_packet: usize,
    /// How many earlier packets' units ride along, at least; loss raises it.
    pub min_redundancy: usize,
    /// How many earlier packets' units ride along, at most.
    pub max_redundancy: usize,
    /// Under heavy loss, a packet goes this long after the last one, even if there is no new unit.
    pub repeat_after: Duration,
}

impl Default for SenderSettings {
    /// Two units a packet, one to ten earlier packets again, 25 packets a second under heavy loss.
    fn default() -> Self {
        Self {
            units_per_packet: 2,
            min_redundancy: 1,
            max_redundancy: 10,
            repeat_after: Duration::from_millis(40),
        }
    }
}

/// Why a unit cannot be sent: the encoder's fault, not the network's.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a unit of {0} bytes is outside 1..={MAX_UNIT_BYTES}")]
pub struct UnitError(pub usize);

#[derive(Debug)]
struct Kept {
    time: MediaTime,
    bytes: Bytes,
    pushed: Instant,
    first_sent: Option<Instant>,
    decoded: bool,
}

/// Packs units into packets: the newest ones, and again those of the last few packets that the
/// peer has not confirmed, so that one arrival repairs a burst.
///
/// Reports the peer sends back drive three things: which units may serve as references
/// ([`Sender::poll_decoded`]), how much history rides along, and the round-trip time.
#[derive(Debug)]
pub struct Sender {
    settings: SenderSettings,
    /// The number of `units[0]`.
    first: u64,
    units: VecDeque<Kept>,
    /// Units at the back of `units` that were never sent.
    n_unsent: usize,
    packet_number: u8,
    /// When a packet with units last went.
    last_sent: Option<Instant>,
    newly_decoded: VecDeque<UnitNumber>,
    loss: f32,
    rtt: Option<Duration>,
}

impl Sender {
    /// A sender that has sent nothing.
    pub fn new(settings: SenderSettings) -> Self {
        Self {
            settings,
            first: 0,
            units: VecDeque::new(),
            n_unsent: 0,
            packet_number: 0,
            last_sent: None,
            newly_decoded: VecDeque::new(),
            loss: 0.0,
            rtt: None,
        }
    }

    /// Adds the next unit, whose feature was captured at `time`.
    ///
    /// Numbers count up by one, because a packet carries only the number of its newest unit. A
    /// unit with another number starts over: earlier units are neither sent nor confirmed.
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
        if self.units.len() == KEPT {
            self.units.pop_front();
            self.first += 1;
            self.n_unsent = self.n_unsent.min(self.units.len());
        }
        self.units.push_back(Kept {
            time,
            bytes: Bytes::copy_from_slice(bytes),
            pushed: now,
            first_sent: None,
            decoded: false,
        });
        self.n_unsent += 1;
        Ok(())
    }

    /// Packs so from the next packet on.
    pub fn set(&mut self, settings: SenderSettings) {
        self.settings = settings;
    }

    /// The next packet, if it is time for one; call again until there is none.
    ///
    /// `reports` is the receiver of the other direction, whose report rides along when due.
    pub fn poll_packet(&mut self, now: Instant, reports: &mut Receiver) -> Option<Vec<u8>> {
        let units_due = self.timeout().is_some_and(|due| due <= now);
        let report = reports.poll_report(now, units_due);
        if !units_due && report.is_none() {
            return None;
        }
        self.packet_number = self.packet_number.wrapping_add(1);
        let mut packet = Packet { number: self.packet_number, report, ..Packet::default() };
        if units_due {
            self.fill(now, &mut packet);
        }
        Some(packet.to_bytes())
    }

    /// When [`Sender::poll_packet`] will have a packet of units, if no further unit comes.
    pub fn timeout(&self) -> Option<Instant> {
        let Some(oldest) = self.units.get(self.units.len() - self.n_unsent) else {
            return self.repeat_due();
        };
        let target = self.units_per_packet();
        Some(if self.n_unsent >= target {
            oldest.pushed
        } else {
            oldest.pushed + WAIT_PER_UNIT * (target as u32 - 1)
        })
    }

    /// When the newest unit is to be sent again, if it is.
    fn repeat_due(&self) -> Option<Instant> {
        let newest = self.units.back().filter(|unit| self.loss >= HEAVY_LOSS && !unit.decoded)?;
        let due = self.last_sent? + self.settings.repeat_after;
        (due <= newest.pushed + REPEAT_FOR).then_some(due)
    }

    fn fill(&mut self, now: Instant, packet: &mut Packet) {
        // Of a repeated packet the newest unit is the new one.
        let n_new = self.n_unsent.max(1);
        let n_history = self.redundancy() * self.units_per_packet();
        let newest = self.units.len() - 1;
        packet.newest = (self.first + newest as u64) as u16;
        packet.newest_ticks = (ticks_of(self.units[newest].time) & 0xff_ffff) as u32;
        let mut room = MAX_PACKET_BYTES - 16;
        for back in 0..(n_new + n_history).min(MAX_UNITS).min(self.units.len()) {
            let unit = &self.units[newest - back];
            let is_old = now.saturating_duration_since(unit.pushed) > HISTORY;
            if back >= n_new && (unit.decoded || is_old) {
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

    /// New units in a packet: as set, fewer when packets get lost, because what one lost packet
    /// takes along should be short.
    fn units_per_packet(&self) -> usize {
        let set = self.settings.units_per_packet.max(1);
        match self.loss {
            loss if loss < 0.05 => set,
            loss if loss < 0.2 => set.div_ceil(2),
            _ => 1,
        }
    }

    /// How many earlier packets ride along: enough that under the loss the peer reports, about
    /// one unit in a thousand never arrives.
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

    /// Takes a report of the peer, as [`Receiver::handle_packet`] gave it.
    pub fn handle_report(&mut self, now: Instant, report: &Report) {
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
            // A unit that came with a later packet looks slow: trust the fast ones more.
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
            if !unit.decoded {
                unit.decoded = true;
                self.newly_decoded.push_back(UnitNumber(number));
            }
        }
    }

    /// The next unit the peer has confirmed to have decoded, oldest first, each once.
    pub fn poll_decoded(&mut self) -> Option<UnitNumber> {
        self.newly_decoded.pop_front()
    }

    /// Share of our packets the peer lost lately, 0..=1.
    pub fn loss(&self) -> f32 {
        self.loss
    }

    /// Smoothed round-trip time, once a report has come.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's time has to begin somewhere")]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_packet_waits_for_its_units_but_not_for_ever() {
        let start = Instant::now();
        let mut reports = Receiver::new();
        let mut sender = Sender::new(SenderSettings { units_per_packet: 3, ..Default::default() });
        sender.push_unit(start, UnitNumber(0), MediaTime::ZERO, b"a").unwrap();
        assert_eq!(sender.poll_packet(at(start, 119), &mut reports), None);
        assert_eq!(sender.timeout(), Some(at(start, 120)));
        assert!(sender.poll_packet(at(start, 120), &mut reports).is_some());
        for (number, byte) in (1..).map(UnitNumber).zip([b"b", b"c", b"d"]) {
            sender.push_unit(at(start, 130), number, MediaTime::ZERO, byte).unwrap();
        }
        let packet = sender.poll_packet(at(start, 130), &mut reports).unwrap();
        assert_eq!(Packet::parse(&packet).unwrap().units.len(), 4, "three new and one again");
    }

    #[test]
    fn a_confirmed_unit_is_not_sent_again_and_may_serve_as_reference() {
        let start = Instant::now();
        let mut sender = Sender::new(SenderSettings { units_per_packet: 1, ..Default::default() });
        let mut peer = Receiver::new();
        for (number, ms) in (0..).map(UnitNumber).zip([0, 40]) {
            sender
                .push_unit(at(start, ms), number, MediaTime::from_micros(ms * 1000), b"u")
                .unwrap();
            let packet = sender.poll_packet(at(start, ms), &mut Receiver::new()).unwrap();
            peer.handle_packet(at(start, ms + 10), &packet).unwrap();
            while let Some(unit) = peer.poll_unit(at(start, ms + 10)) {
                peer.confirm(unit.number);
            }
        }
        let report = peer.poll_report(at(start, 2000), false).unwrap();
        sender.handle_report(at(start, 2010), &report);
        assert_eq!(sender.poll_decoded(), Some(UnitNumber(0)));
        assert_eq!(sender.poll_decoded(), Some(UnitNumber(1)));
        assert_eq!(sender.poll_decoded(), None);
        sender
            .push_unit(at(start, 2020), UnitNumber(2), MediaTime::from_micros(80_000), b"v")
            .unwrap();
        let packet = sender.poll_packet(at(start, 2020), &mut Receiver::new()).unwrap();
        assert_eq!(Packet::parse(&packet).unwrap().units.len(), 1);
    }

    #[test]
    fn under_heavy_loss_the_newest_unit_goes_again_until_it_is_confirmed_or_old() {
        let start = Instant::now();
        let settings = SenderSettings { units_per_packet: 1, ..Default::default() };
        let mut sender = Sender::new(settings);
        let sent_at = |sender: &mut Sender, range: std::ops::Range<u64>| -> Vec<u64> {
            let mut packet = |ms: &u64| sender.poll_packet(at(start, *ms), &mut Receiver::new());
            range.filter(|ms| packet(ms).is_some()).collect()
        };
        let report =
            |newest, decoded, loss| Report { newest, decoded, held: 0, loss, key_wanted: false };
        sender.push_unit(start, UnitNumber(0), MediaTime::ZERO, b"a").unwrap();
        assert_eq!(sent_at(&mut sender, 0..1000), [0]);
        sender.handle_report(at(start, 1000), &report(0, 0, 40));
        sender.push_unit(at(start, 1000), UnitNumber(1), MediaTime::ZERO, b"b").unwrap();
        assert_eq!(sent_at(&mut sender, 1000..2000), [1000, 1040, 1080, 1120, 1160, 1200]);
        sender.push_unit(at(start, 2000), UnitNumber(2), MediaTime::ZERO, b"c").unwrap();
        assert_eq!(sent_at(&mut sender, 2000..2050), [2000, 2040]);
        sender.handle_report(at(start, 2050), &report(2, 1, 40));
        assert_eq!(sent_at(&mut sender, 2050..3000), [], "it has arrived");
    }

    #[test]
    fn a_report_about_units_never_sent_changes_nothing() {
        let now = Instant::now();
        let mut sender = Sender::new(SenderSettings::default());
        let report = Report { newest: 9, decoded: 0xffff, held: 0, loss: 127, key_wanted: false };
        sender.handle_report(now, &report);
        sender.push_unit(now, UnitNumber(0), MediaTime::ZERO, b"u").unwrap();
        sender.handle_report(now, &report);
        assert_eq!((sender.poll_decoded(), sender.rtt()), (None, None));
    }

    #[test]
    fn units_outside_the_limits_are_refused() {
        let mut sender = Sender::new(SenderSettings::default());
        let now = Instant::now();
        for (bytes, want) in [
            (&[][..], Err(UnitError(0))),
            (&[0; MAX_UNIT_BYTES], Ok(())),
            (&[0; MAX_UNIT_BYTES + 1], Err(UnitError(MAX_UNIT_BYTES + 1))),
        ] {
            assert_eq!(sender.push_unit(now, UnitNumber(0), MediaTime::ZERO, bytes), want);
        }
    }

    #[test]
    fn a_gap_in_the_numbers_starts_over() {
        let now = Instant::now();
        let mut sender = Sender::new(SenderSettings { units_per_packet: 1, ..Default::default() });
        for (number, n_units) in [(70_000, 1), (70_001, 2), (7, 1), (8, 2)] {
            sender.push_unit(now, UnitNumber(number), MediaTime::ZERO, b"u").unwrap();
            let packet = sender.poll_packet(now, &mut Receiver::new()).unwrap();
            let packet = Packet::parse(&packet).unwrap();
            assert_eq!((packet.newest, packet.units.len()), (number as u16, n_units), "{number}");
        }
    }
}
