use std::time::{Duration, Instant};

use transport::Packetizer;

use super::face_receiver::FaceReceiver;
use super::io::WireCount;
use crate::stats::Stats;

const SECOND: Duration = Duration::from_secs(1);

/// Collector of a session's [`Stats`]: totals, and rates over the last full second.
pub(super) struct Statistics {
    start: Instant,
    pub(super) wire: WireCount,
    /// When the peer was first connected.
    pub(super) connected_at: Option<Instant>,
    pub(super) payload_bytes_out: u64,
    pub(super) packets_in: u64,
    pub(super) packets_out: u64,
    pub(super) bad_messages: u64,
    pub(super) key_requests: u64,
    pub(super) model_progress: Option<f64>,
    pub(super) model_bytes_in: Option<u64>,
    pub(super) sound_packets_out: u64,
    pub(super) sound_packets_in: u64,
    pub(super) sound_bytes_out: u64,
    pub(super) sound_bytes_in: u64,
    /// Layers of the peer's face that were read, and their total.
    model_layers: (usize, usize),
    model_ready_s: Option<f64>,
    model_whole_s: Option<f64>,
    frames: u64,
    frames_without_face: u64,
    /// Tracking and encoding since the last full second: total time and number of frames.
    track_time: Duration,
    n_tracked: u32,
    totals: Totals,
    rates: Rates,
    last_second: Instant,
    /// When the rates are to be updated next.
    pub(super) next_second: Instant,
}

/// Counters at the last full second.
#[derive(Clone, Copy, Default)]
struct Totals {
    wire: WireCount,
    payload_out: u64,
    payload_in: u64,
    features_in: u64,
    sound_out: u64,
    sound_in: u64,
}

/// Rates over the last full second: kbit/s, features per second, milliseconds per frame.
#[derive(Clone, Copy, Default)]
struct Rates {
    sound_out: f64,
    sound_in: f64,
    payload_out: f64,
    payload_in: f64,
    wire_out: f64,
    wire_in: f64,
    features_in: f64,
    track_ms: f64,
}

impl Statistics {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            start: now,
            wire: WireCount::default(),
            connected_at: None,
            payload_bytes_out: 0,
            packets_in: 0,
            packets_out: 0,
            bad_messages: 0,
            key_requests: 0,
            model_progress: None,
            model_bytes_in: None,
            sound_packets_out: 0,
            sound_packets_in: 0,
            sound_bytes_out: 0,
            sound_bytes_in: 0,
            model_layers: (0, 0),
            model_ready_s: None,
            model_whole_s: None,
            frames: 0,
            frames_without_face: 0,
            track_time: Duration::ZERO,
            n_tracked: 0,
            totals: Totals::default(),
            rates: Rates::default(),
            last_second: now,
            next_second: now + SECOND,
        }
    }

    /// Records a frame that went through the tracker.
    pub(super) fn record_frame(&mut self, took: Duration, face_found: bool) {
        self.frames += 1;
        self.frames_without_face += u64::from(!face_found);
        self.track_time += took;
        self.n_tracked += 1;
    }

    /// Records that `layers` of the `total` layers of the peer's face can be rendered.
    pub(super) fn record_model_layers(&mut self, now: Instant, layers: usize, total: usize) {
        self.model_layers = (layers, total);
        let since = self.connected_at.map(|at| now.saturating_duration_since(at).as_secs_f64());
        self.model_ready_s = self.model_ready_s.or(since);
        if layers == total {
            self.model_whole_s = self.model_whole_s.or(since);
        }
    }

    /// Updates the rates from the totals since the last update.
    pub(super) fn update_rates(&mut self, now: Instant, receiver: &FaceReceiver) {
        let passed = now.saturating_duration_since(self.last_second).as_secs_f64().max(1e-3);
        self.last_second = now;
        while self.next_second <= now {
            self.next_second += SECOND;
        }
        let after = Totals {
            wire: self.wire,
            payload_out: self.payload_bytes_out,
            payload_in: receiver.counts.payload_bytes,
            features_in: receiver.counts.features,
            sound_out: self.sound_bytes_out,
            sound_in: self.sound_bytes_in,
        };
        let kbps = |after: u64, before: u64| (after - before) as f64 * 8e-3 / passed;
        let before = std::mem::replace(&mut self.totals, after);
        self.rates = Rates {
            payload_out: kbps(after.payload_out, before.payload_out),
            payload_in: kbps(after.payload_in, before.payload_in),
            wire_out: kbps(after.wire.bytes_out, before.wire.bytes_out),
            wire_in: kbps(after.wire.bytes_in, before.wire.bytes_in),
            sound_out: kbps(after.sound_out, before.sound_out),
            sound_in: kbps(after.sound_in, before.sound_in),
            features_in: (after.features_in - before.features_in) as f64 / passed,
            track_ms: self.track_time.as_secs_f64() * 1e3 / f64::from(self.n_tracked.max(1)),
        };
        (self.track_time, self.n_tracked) = (Duration::ZERO, 0);
    }

    /// Returns everything that is known here. The session and the driver add the rest.
    pub(super) fn stats(
        &self,
        now: Instant,
        receiver: &FaceReceiver,
        packetizer: &Packetizer,
    ) -> Stats {
        let counts = receiver.counts;
        let received = receiver.jitter_buffer.stats();
        Stats {
            t_s: now.saturating_duration_since(self.start).as_secs_f64(),
            payload_kbps_out: self.rates.payload_out,
            payload_kbps_in: self.rates.payload_in,
            wire_kbps_out: self.rates.wire_out,
            wire_kbps_in: self.rates.wire_in,
            payload_bytes_out: self.payload_bytes_out,
            payload_bytes_in: counts.payload_bytes,
            wire_bytes_out: self.wire.bytes_out,
            wire_bytes_in: self.wire.bytes_in,
            datagrams_out: self.wire.datagrams_out,
            datagrams_in: self.wire.datagrams_in,
            packets_out: self.packets_out,
            packets_in: self.packets_in,
            frames_captured: self.frames,
            frames_without_face: self.frames_without_face,
            features_out: self.frames - self.frames_without_face,
            features_in: counts.features,
            features_fps_in: self.rates.features_in,
            features_lost: received.units_lost,
            loss_in: f64::from(received.loss),
            loss_out: f64::from(packetizer.loss()),
            sound_loss_in: f64::from(received.sound_loss),
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
