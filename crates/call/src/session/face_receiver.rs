use std::collections::VecDeque;
use std::time::Instant;

use codec::{AccessUnit, Decoder, Profile};
use transport::{JitterBuffer, ReceivedUnit, ReceiverReport};
use types::{Feature, MediaTime, UnitNumber};

use super::media_clock::MediaClock;

/// Most units that wait for the peer's codec profile: twenty seconds at 25 units a second.
const MAX_WAITING: usize = 512;

/// Receive side of one link, from packets to decoded features.
///
/// Units that arrive before the peer's codec profile are kept and decoded when it is known.
pub(crate) struct FaceReceiver {
    pub(crate) jitter_buffer: JitterBuffer,
    decoder: Option<Decoder>,
    /// The unit that was decoded last.
    previous: Option<(UnitNumber, MediaTime)>,
    waiting: VecDeque<ReceivedUnit>,
    clock: MediaClock,
    pub(crate) counts: ReceiveCounts,
}

/// Totals over all links of a call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReceiveCounts {
    /// Features of units, without those between units.
    pub(crate) features: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) decode_errors: u64,
    pub(crate) bad_packets: u64,
}

/// Features of one unit.
#[derive(Debug)]
pub(crate) struct DecodedUnit {
    /// When the unit arrived.
    pub(crate) arrived: Instant,
    /// Oldest first; the first may replace the newest feature of the unit before.
    pub(crate) features: Vec<Feature>,
}

impl FaceReceiver {
    pub(crate) fn new() -> Self {
        Self {
            jitter_buffer: JitterBuffer::new(),
            decoder: None,
            previous: None,
            waiting: VecDeque::new(),
            clock: MediaClock::default(),
            counts: ReceiveCounts::default(),
        }
    }

    /// Starts over for a new link; `profile` is the peer's, if it is known already.
    pub(crate) fn restart(&mut self, profile: Option<Profile>) {
        *self = Self {
            decoder: profile.map(Decoder::new),
            clock: self.clock.on_new_link(),
            counts: self.counts,
            ..Self::new()
        };
    }

    /// Starts over for another peer.
    pub(crate) fn forget_peer(&mut self) {
        *self = Self { counts: self.counts, ..Self::new() };
    }

    /// Stops decoding until the profile of another face file is known.
    pub(crate) fn clear_profile(&mut self) {
        self.decoder = None;
    }

    /// Starts decoding, beginning with the units that waited.
    pub(crate) fn set_profile(&mut self, profile: Profile) {
        self.decoder = Some(Decoder::new(profile));
        self.previous = None;
    }

    /// Returns what is added to the peer's media time, microseconds.
    pub(crate) fn clock_shift(&self) -> i64 {
        self.clock.shift()
    }

    /// Stores the units of a packet and returns the report in it. Anything else than a packet is
    /// counted and dropped.
    pub(crate) fn handle_packet(&mut self, now: Instant, bytes: &[u8]) -> Option<ReceiverReport> {
        let Ok(report) = self.jitter_buffer.handle_packet(now, bytes) else {
            self.counts.bad_packets += 1;
            return None;
        };
        report
    }

    /// Decodes the next unit that is due. Call again until there is none.
    ///
    /// A unit whose media time runs ahead of its arrival is counted as a bad packet and dropped.
    pub(crate) fn poll_decoded(&mut self, now: Instant) -> Option<DecodedUnit> {
        while let Some(mut unit) = self.jitter_buffer.poll_unit(now) {
            let Some(time) = self.clock.place(unit.arrived, unit.time) else {
                self.counts.bad_packets += 1;
                continue;
            };
            unit.time = time;
            self.counts.payload_bytes += unit.bytes.len() as u64;
            if self.waiting.len() == MAX_WAITING {
                self.waiting.pop_front();
            }
            self.waiting.push_back(unit);
        }
        self.decoder.as_ref()?;
        while let Some(unit) = self.waiting.pop_front() {
            if let Some(decoded) = self.decode(&unit) {
                return Some(decoded);
            }
        }
        None
    }

    /// Decodes one unit; on failure requests a key unit from the peer.
    fn decode(&mut self, unit: &ReceivedUnit) -> Option<DecodedUnit> {
        let decoder = self.decoder.as_mut()?;
        let decoded = AccessUnit::parse(&unit.bytes)
            .ok()
            .and_then(|parsed| decoder.decode(unit.number, &parsed).ok());
        let Some(decoded) = decoded else {
            self.counts.decode_errors += 1;
            self.jitter_buffer.request_key();
            return None;
        };
        self.counts.features += 1;
        self.jitter_buffer.confirm_decoded(unit.number);
        let previous = self.previous.replace((unit.number, unit.time));
        let previous_time =
            previous.filter(|(number, _)| unit.number.since(*number) == 1).map(|(_, time)| time);
        let features = decoded.features(previous_time, unit.time).collect();
        Some(DecodedUnit { arrived: unit.arrived, features })
    }
}
