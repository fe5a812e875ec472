use std::collections::BTreeMap;

use bytes::Bytes;

use crate::delay::DelayEstimator;
use crate::opus_packet::OpusPacket;
use crate::packet::VoicePacket;
use crate::sequence::Sequence;

/// Packets that wait to be decoded. A sender cannot make the receiver hold more.
const MAX_PACKETS: usize = 200;
/// Packets of another timeline, in a row, after which that timeline is followed.
const RESTART_PACKETS: usize = 3;
/// Difference from the usual transit that puts a packet on another timeline, in samples at 48 kHz
/// (2 s).
const MAX_TRANSIT_CHANGE: i64 = 96_000;

/// How long nothing but late packets must arrive before the receiver starts over, in samples at
/// 48 kHz (0.5 s): the line has become slower than the delay allows for.
const MAX_LATE: i64 = 24_000;
/// Largest gap or overlap of two packets that is none: the sender corrected its clock. In samples
/// at 48 kHz (10 ms).
pub(crate) const MAX_CORRECTION: i64 = 480;

/// Packets in a row whose recovery the delay allows for.
const MAX_RECOVERED: i64 = 8;

/// A packet that waits to be decoded.
pub(crate) struct WaitingPacket {
    pub(crate) sequence: u16,
    pub(crate) samples: usize,
    pub(crate) opus: Bytes,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Arrival {
    Waits,
    /// It is here already.
    Repeated,
    /// Everything that it holds is over.
    Late,
    /// It is not Opus, its timestamp belongs nowhere, or another packet holds most of its sound.
    Damaged,
    /// It waits, alone: the sender has restarted or the line has become much slower, and everything
    /// before is void.
    Restart,
}

/// Packets as they arrive, in the order of their capture times.
///
/// Times are in samples at 48 kHz: arrivals since the first one, timestamps unwrapped.
#[derive(Default)]
pub(crate) struct Arrivals {
    delay: DelayEstimator,
    sequence: Sequence,
    waiting: BTreeMap<i64, WaitingPacket>,
    /// Newest unwrapped timestamp.
    newest: i64,
    /// Transits of the latest packets if they are on another timeline.
    strangers: Vec<i64>,
    /// Arrival of the first of the latest packets if all of them were late, and their count.
    late: Option<(i64, usize)>,
}

impl Arrivals {
    pub(crate) fn delay(&self) -> &DelayEstimator {
        &self.delay
    }

    pub(crate) fn delay_mut(&mut self) -> &mut DelayEstimator {
        &mut self.delay
    }

    /// Takes a packet. `played` is the end of the sound that can no longer be played.
    pub(crate) fn insert(
        &mut self,
        arrival: i64,
        packet: VoicePacket,
        played: Option<i64>,
    ) -> Arrival {
        let Some(parsed) = OpusPacket::parse(&packet.opus) else { return Arrival::Damaged };
        let samples = parsed.samples();
        let Some((timestamp, is_restart)) = self.place(arrival, packet.timestamp) else {
            return Arrival::Damaged;
        };
        let is_late = !is_restart
            && !self.waiting.contains_key(&timestamp)
            && played.is_some_and(|played| timestamp + samples as i64 <= played);
        let is_restart = is_restart || is_late && self.is_always_late(arrival);
        if is_restart {
            self.waiting.clear();
            self.delay.clear();
            self.sequence = Sequence::default();
        }
        if is_restart || !is_late {
            self.late = None;
        }
        if parsed.history().is_some() || parsed.has_in_band_correction() {
            self.expect_recovery(arrival, timestamp, samples as i64, packet.sequence);
        }
        self.sequence.take(packet.sequence);
        self.delay.insert(arrival - timestamp);
        self.newest = self.newest.max(timestamp);
        if self.waiting.contains_key(&timestamp) {
            return Arrival::Repeated;
        }
        if is_late && !is_restart {
            return Arrival::Late;
        }
        if self.overlaps(timestamp, samples as i64) {
            return Arrival::Damaged;
        }
        if self.waiting.len() == MAX_PACKETS {
            self.waiting.pop_first();
        }
        let VoicePacket { sequence, opus, .. } = packet;
        self.waiting.insert(timestamp, WaitingPacket { sequence, samples, opus });
        if is_restart { Arrival::Restart } else { Arrival::Waits }
    }

    /// Notes a packet that carried no sound.
    pub(crate) fn note_silent(&mut self, number: u16) {
        self.sequence.note_silent(number);
    }

    /// Notes a late packet, and says whether nothing else has arrived for long.
    fn is_always_late(&mut self, arrival: i64) -> bool {
        let (first, n) = self.late.unwrap_or((arrival, 0));
        self.late = Some((first, n + 1));
        n + 1 >= RESTART_PACKETS && arrival - first >= MAX_LATE
    }

    /// Returns whether a packet that waits holds so much of the sound from `timestamp` on that no
    /// correction of a clock explains it. So the packets that wait hold at most twice the sound
    /// that is played in their time, and a sender cannot cause more work than that.
    fn overlaps(&self, timestamp: i64, samples: i64) -> bool {
        let before = self.waiting.range(..=timestamp).next_back();
        let after = self.waiting.range(timestamp..).next();
        before.into_iter().chain(after).any(|(other, packet)| {
            let n = packet.samples as i64;
            let overlap = (timestamp + samples).min(other + n) - timestamp.max(*other);
            overlap > MAX_CORRECTION.min(samples.min(n) / 2)
        })
    }

    /// Lost packets arrive, in a way, with the next one that repeats their sound.
    fn expect_recovery(&mut self, arrival: i64, timestamp: i64, samples: i64, number: u16) {
        let n_missing = i64::from(self.sequence.missing_before(number)).min(MAX_RECOVERED);
        for n in 1..=n_missing {
            self.delay.insert_recovery(arrival - timestamp + n * samples);
        }
    }

    /// Returns the first packet and its timestamp.
    pub(crate) fn first(&self) -> Option<(i64, &WaitingPacket)> {
        self.waiting.first_key_value().map(|(timestamp, packet)| (*timestamp, packet))
    }

    /// Takes the first packet.
    pub(crate) fn take_first(&mut self) -> Option<(i64, WaitingPacket)> {
        self.waiting.pop_first()
    }

    /// Drops the packets that end before `time`.
    pub(crate) fn skip_to(&mut self, time: i64) {
        self.waiting.retain(|timestamp, packet| timestamp + packet.samples as i64 > time);
    }

    /// Unwraps a timestamp and says whether the sender has restarted; `None` if it is on another
    /// timeline than the packets so far.
    fn place(&mut self, arrival: i64, timestamp: u32) -> Option<(i64, bool)> {
        if self.delay.is_empty() {
            self.newest = i64::from(timestamp);
            return Some((self.newest, false));
        }
        let step = timestamp.wrapping_sub(self.newest as u32).cast_signed();
        let unwrapped = self.newest + i64::from(step);
        let transit = arrival - unwrapped;
        if (transit - self.delay.fastest()).abs() <= MAX_TRANSIT_CHANGE {
            self.strangers.clear();
            return Some((unwrapped, false));
        }
        let is_other = |first: &i64| (first - transit).abs() > MAX_TRANSIT_CHANGE;
        if self.strangers.first().is_some_and(is_other) {
            self.strangers.clear();
        }
        self.strangers.push(transit);
        if self.strangers.len() < RESTART_PACKETS {
            return None;
        }
        self.strangers.clear();
        self.newest = i64::from(timestamp);
        Some((self.newest, true))
    }
}
