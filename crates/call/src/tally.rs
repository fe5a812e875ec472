use std::sync::Arc;
use std::time::{Duration, Instant};

use transport::Packetizer;

use crate::Stats;
use crate::receiving::Receiving;
use crate::wire::{WireCount, WireMeter};

/// Counts what a session does, and makes [`Stats`] of it once a second.
pub(crate) struct Tally {
    start: Instant,
    meter: Arc<WireMeter>,
    pub(crate) connected_at: Option<Instant>,
    pub(crate) payload_bytes_out: u64,
    pub(crate) packets_in: u64,
    pub(crate) packets_out: u64,
    pub(crate) bad_messages: u64,
    pub(crate) key_requests: u64,
    pub(crate) model_progress: Option<f64>,
    pub(crate) model_bytes_in: Option<u64>,
    pub(crate) features_fps_in: f64,
    pub(crate) sound_packets_out: u64,
    pub(crate) sound_packets_in: u64,
    pub(crate) sound_bytes_out: u64,
    pub(crate) sound_bytes_in: u64,
    /// Layers of the peer's face, and how many there are.
    model_layers: (usize, usize),
    model_ready_s: Option<f64>,
    model_whole_s: Option<f64>,
    frames: u64,
    frames_without_face: u64,
    took: Duration,
    n_took: u32,
    before: Before,
    rates: Rates,
    last_second: Instant,
}

/// Counters at the last full second.
#[derive(Clone, Copy, Default)]
struct Before {
    wire: WireCount,
    payload_out: u64,
    payload_in: u64,
    features_in: u64,
    sound_out: u64,
    sound_in: u64,
}

#[derive(Clone, Copy, Default)]
struct Rates {
    sound_out: f64,
    sound_in: f64,
    payload_out: f64,
    payload_in: f64,
    wire_out: f64,
    wire_in: f64,
    track_ms: f64,
}

impl Tally {
    pub(crate) fn new(now: Instant, meter: Arc<WireMeter>) -> Self {
        Self {
            start: now,
            meter,
            connected_at: None,
            payload_bytes_out: 0,
            packets_in: 0,
            packets_out: 0,
            bad_messages: 0,
            key_requests: 0,
            model_progress: None,
            model_bytes_in: None,
            features_fps_in: 0.0,
            sound_packets_out: 0,
            sound_packets_in: 0,
            sound_bytes_out: 0,
            sound_bytes_in: 0,
            model_layers: (0, 0),
            model_ready_s: None,
            model_whole_s: None,
            frames: 0,
            frames_without_face: 0,
            took: Duration::ZERO,
            n_took: 0,
            before: Before::default(),
            rates: Rates::default(),
            last_second: now,
        }
    }

    /// A frame went through the tracker.
    pub(crate) fn tracked(&mut self, took: Duration, found: bool) {
        self.frames += 1;
        self.frames_without_face += u64::from(!found);
        self.took += took;
        self.n_took += 1;
    }

    /// The peer's face is drawn with so many of its layers.
    pub(crate) fn model_layers(&mut self, now: Instant, layers: usize, of: usize) {
        self.model_layers = (layers, of);
        let since = self.connected_at.map(|at| now.saturating_duration_since(at).as_secs_f64());
        self.model_ready_s = self.model_ready_s.or(since);
        if layers == of {
            self.model_whole_s = self.model_whole_s.or(since);
        }
    }

    /// Takes the rates of the second that has passed.
    pub(crate) fn second(&mut self, now: Instant, receiving: &Receiving) {
        let passed = now.saturating_duration_since(self.last_second).as_secs_f64().max(1e-3);
        self.last_second = now;
        let after = Before {
            wire: self.meter.count(),
            payload_out: self.payload_bytes_out,
            payload_in: receiving.counts.payload_bytes,
            features_in: receiving.counts.features,
            sound_out: self.sound_bytes_out,
            sound_in: self.sound_bytes_in,
        };
        let kbps = |after: u64, before: u64| (after - before) as f64 * 8e-3 / passed;
        let before = std::mem::replace(&mut self.before, after);
        self.rates = Rates {
            payload_out: kbps(after.payload_out, before.payload_out),
            payload_in: kbps(after.payload_in, before.payload_in),
            wire_out: kbps(after.wire.bytes_out, before.wire.bytes_out),
            wire_in: kbps(after.wire.bytes_in, before.wire.bytes_in),
            sound_out: kbps(after.sound_out, before.sound_out),
            sound_in: kbps(after.sound_in, before.sound_in),
            track_ms: self.took.as_secs_f64() * 1e3 / f64::from(self.n_took.max(1)),
        };
        self.features_fps_in = (after.features_in - before.features_in) as f64 / passed;
        (self.took, self.n_took) = (Duration::ZERO, 0);
    }

    pub(crate) fn stats(
        &self,
        now: Instant,
        receiving: &Receiving,
        packetizer: &Packetizer,
    ) -> Stats {
        let (wire, counts) = (self.meter.count(), receiving.counts);
        let received = receiving.jitter_buffer.stats();
        Stats {
            t_s: now.saturating_duration_since(self.start).as_secs_f64(),
            payload_kbps_out: self.rates.payload_out,
            payload_kbps_in: self.rates.payload_in,
            wire_kbps_out: self.rates.wire_out,
            wire_kbps_in: self.rates.wire_in,
            payload_bytes_out: self.payload_bytes_out,
            payload_bytes_in: counts.payload_bytes,
            wire_bytes_out: wire.bytes_out,
            wire_bytes_in: wire.bytes_in,
            datagrams_out: wire.datagrams_out,
            datagrams_in: wire.datagrams_in,
            packets_out: self.packets_out,
            packets_in: self.packets_in,
            frames_captured: self.frames,
            frames_without_face: self.frames_without_face,
            features_out: self.frames - self.frames_without_face,
            features_in: counts.features,
            features_fps_in: self.features_fps_in,
            features_lost: received.units_lost,
            loss_in: f64::from(received.loss),
            loss_out: f64::from(packetizer.loss()),
            decode_errors: counts.decode_errors,
            bad_messages: self.bad_messages + counts.bad_packets,
            key_requests: self.key_requests,
            rtt_ms: packetizer.rtt().map(|rtt| rtt.as_secs_f64() * 1e3),
            track_encode_ms: self.rates.track_ms,
            model_progress: self.model_progress,
            model_bytes_in: self.model_bytes_in,
            model_layers: self.model_layers.0,
            model_layers_of: self.model_layers.1,
            model_ready_s: self.model_ready_s,
            model_whole_s: self.model_whole_s,
            sound_packets_out: self.sound_packets_out,
            sound_packets_in: self.sound_packets_in,
            sound_kbps_out: self.rates.sound_out,
            sound_kbps_in: self.rates.sound_in,
            ..Stats::default()
        }
    }
}
