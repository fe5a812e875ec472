//! Outgoing features, and what the peer's reports mean for the encoders.

use std::time::Instant;

use bytes::Bytes;
use codec::EncodedUnit;
use transport::{PacketizerSettings, ReceiverReport};
use types::Rate;

use super::Session;
use super::io::{EncoderCommand, Output, TrackedFrame};

impl Session {
    pub(super) fn handle_frame(&mut self, now: Instant, frame: TrackedFrame) {
        self.statistics.record_frame(frame.took, frame.face_found);
        if let Some(unit) = frame.unit
            && self.is_admitted()
            && self.media.shows_face
        {
            self.push_unit(now, &unit);
        }
    }

    fn push_unit(&mut self, now: Instant, unit: &EncodedUnit) {
        // Packed as the rate it was encoded at needs, which may be the one before a change.
        self.packetizer.set_settings(packetizer_settings(unit.decoded.rate));
        let bytes = unit.unit.as_bytes();
        if self.packetizer.push_unit(now, unit.number, unit.time, bytes).is_ok() {
            self.statistics.payload_bytes_out += bytes.len() as u64;
        }
    }

    /// Sends the packets that are due, unless the next sound packet is to carry them.
    pub(super) fn send_packets(&mut self, now: Instant) {
        self.send_held_voice(now);
        if self.voice_expected_until().is_some_and(|until| now < until) {
            return;
        }
        while let Some(packet) = self.poll_packet(now) {
            self.send_features(now, Bytes::from(packet));
        }
    }

    /// Returns the packet that is due.
    pub(super) fn poll_packet(&mut self, now: Instant) -> Option<Vec<u8>> {
        let is_due = self.packetizer.is_due(now);
        let report = self.receiver.jitter_buffer.poll_report(now, is_due);
        let packet = self.packetizer.poll_packet(now, report)?;
        self.statistics.packets_out += 1;
        Some(packet)
    }

    /// Returns when [`Session::send_packets`] has something to send, if nothing else happens.
    pub(super) fn packets_timeout(&self) -> Option<Instant> {
        let due = self.packetizer.timeout()?;
        Some(self.voice_expected_until().map_or(due, |until| due.max(until)))
    }

    pub(super) fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        self.statistics.packets_in += 1;
        if let Some(report) = self.receiver.handle_packet(now, packet) {
            self.handle_report(now, report);
        }
    }

    fn handle_report(&mut self, now: Instant, report: ReceiverReport) {
        self.packetizer.handle_report(now, &report);
        if let Some(loss) = report.sound_loss() {
            self.handle_sound_loss(loss);
        }
        if report.key_requested() {
            self.statistics.key_requests += 1;
            self.outputs.push_back(Output::Encoder(EncoderCommand::RequestKey));
        }
        while let Some(number) = self.packetizer.poll_confirmed() {
            self.outputs.push_back(Output::Encoder(EncoderCommand::Acknowledge(number)));
        }
    }
}

/// Returns how units of a rate are packed: one per packet, because the encoder already produces
/// no more units than are needed.
pub(super) fn packetizer_settings(rate: Rate) -> PacketizerSettings {
    let parameters = rate.parameters();
    PacketizerSettings {
        units_per_packet: 1,
        // Units reference the redundant ones in their packet.
        min_redundancy: parameters.redundancy as usize,
        repeat_interval: parameters.repeat_interval,
        ..PacketizerSettings::default()
    }
}
