//! From packets to features: order, decode, hold for playout.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use codec::{AccessUnit, Decoder, Profile};
use transport::{JitterBuffer, ReceiverReport, Unit};
use types::Feature;

use crate::shared::Shared;

/// Units that wait for the face model: twenty seconds at 25 a second.
const WAITING: usize = 512;

/// The receive side of one link.
pub(crate) struct Receiving {
    pub(crate) jitter_buffer: JitterBuffer,
    decoder: Option<Decoder>,
    waiting: VecDeque<Unit>,
    shared: Arc<Shared>,
    pub(crate) counts: Counts,
}

/// What became of units.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) features: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) decode_errors: u64,
    pub(crate) bad_packets: u64,
}

impl Receiving {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            jitter_buffer: JitterBuffer::new(),
            decoder: None,
            waiting: VecDeque::new(),
            shared,
            counts: Counts::default(),
        }
    }

    /// Begins again with a new link; the face stays.
    pub(crate) fn restart(&mut self, profile: Option<Profile>) {
        self.jitter_buffer = JitterBuffer::new();
        self.decoder = profile.map(Decoder::new);
        self.waiting.clear();
    }

    /// Takes a packet; gives the report that rode on it.
    pub(crate) fn take_packet(&mut self, now: Instant, bytes: &[u8]) -> Option<ReceiverReport> {
        if let Ok(report) = self.jitter_buffer.handle_packet(now, bytes) {
            report
        } else {
            self.counts.bad_packets += 1;
            None
        }
    }

    /// Decodes what is due, or keeps it for the model.
    pub(crate) fn pump(&mut self, now: Instant) {
        while let Some(unit) = self.jitter_buffer.poll_unit(now) {
            self.counts.payload_bytes += unit.bytes.len() as u64;
            if self.decoder.is_some() {
                self.decode(&unit);
            } else {
                if self.waiting.len() == WAITING {
                    self.waiting.pop_front();
                }
                self.waiting.push_back(unit);
            }
        }
    }

    /// The face model is here: everything that waited is decoded.
    pub(crate) fn model_ready(&mut self, profile: Profile) {
        self.decoder = Some(Decoder::new(profile));
        for unit in std::mem::take(&mut self.waiting) {
            self.decode(&unit);
        }
    }

    fn decode(&mut self, unit: &Unit) {
        let Some(decoder) = &mut self.decoder else { return };
        let number = unit.number;
        let decoded =
            AccessUnit::parse(&unit.bytes).ok().and_then(|unit| decoder.decode(number, &unit).ok());
        let Some(decoded) = decoded else {
            self.counts.decode_errors += 1;
            self.jitter_buffer.request_key();
            return;
        };
        self.counts.features += 1;
        self.jitter_buffer.confirm_decoded(unit.number);
        let mut received = self.shared.received.lock().unwrap_or_else(PoisonError::into_inner);
        // Units come in order, so a unit that corrects its predecessor follows it here.
        let features: Vec<Feature> = decoded.features(received.newest_time(), unit.time).collect();
        received.extend(features.iter().copied());
        drop(received);
        let mut playout = self.shared.playout.lock().unwrap_or_else(PoisonError::into_inner);
        playout.push(unit.arrived, &features);
    }
}
