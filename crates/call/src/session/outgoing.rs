//! Outgoing features and sound, and what the peer's reports mean for the encoder.

use std::time::Instant;

use codec::EncodedUnit;
use transport::{PacketizerSettings, ReceiverReport};
use types::{Rate, Sound};
use voice::VoicePacket;

use super::Session;
use super::io::{EncoderCommand, LinkCommand, Output, TrackedFrame};

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

    /// Sends the packets that are due.
    pub(super) fn send_packets(&mut self, now: Instant) {
        loop {
            let is_due = self.packetizer.is_due(now);
            let report = self.receiver.jitter_buffer.poll_report(now, is_due);
            let Some(packet) = self.packetizer.poll_packet(now, report) else { break };
            self.statistics.packets_out += 1;
            self.send_on_link(now, LinkCommand::SendFeatures(packet));
        }
    }

    pub(super) fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        self.statistics.packets_in += 1;
        if let Some(report) = self.receiver.handle_packet(now, packet) {
            self.handle_report(now, report);
        }
    }

    fn handle_report(&mut self, now: Instant, report: ReceiverReport) {
        self.packetizer.handle_report(now, &report);
        if report.key_requested() {
            self.statistics.key_requests += 1;
            self.outputs.push_back(Output::Encoder(EncoderCommand::RequestKey));
        }
        while let Some(number) = self.packetizer.poll_confirmed() {
            self.outputs.push_back(Output::Encoder(EncoderCommand::Acknowledge(number)));
        }
    }

    pub(super) fn handle_sounds(&mut self, now: Instant, sounds: &[Sound]) {
        let (Some(encoder), Some(link)) = (&mut self.sound_encoder, &mut self.links.current) else {
            return;
        };
        let muted = self.media.muted;
        for voice in sounds.iter().flat_map(|sound| encoder.encode(sound, muted)) {
            let sequence = self.statistics.sound_packets_out as u16;
            self.statistics.sound_packets_out += 1;
            self.statistics.sound_bytes_out += voice.opus.len() as u64;
            link.last_sent = now;
            let packet = VoicePacket { sequence, timestamp: voice.timestamp(), opus: voice.opus };
            self.outputs.push_back(Output::Link(link.id, LinkCommand::SendSound(packet)));
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
