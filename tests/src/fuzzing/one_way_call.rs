//! One direction of a call, driven step by step by a fuzzer.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use codec::{AccessUnit, DecodeError, Decoded, Decoder, EncodedUnit, Encoder};
use transport::{JitterBuffer, Packetizer, PacketizerSettings};
use types::{Feature, MediaTime, Rate, UnitNumber};

use super::FPS;
use crate::actor;

/// Most packets in flight; the oldest is lost when another one is sent.
const MAX_IN_FLIGHT: usize = 32;

/// One step of a [`OneWayCall`].
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Operation {
    /// The camera skips frames, then delivers one.
    Capture { n_skipped: u8 },
    /// The tracker delivers a feature that no face has.
    CaptureWild { dims: [u8; 4], values: [i16; 4] },
    /// The packetizer is polled.
    Send,
    /// A packet in flight arrives.
    Deliver { packet: u8 },
    /// A packet in flight arrives, and a copy stays in flight.
    Duplicate { packet: u8 },
    /// A packet in flight is lost.
    Lose { packet: u8 },
    /// The receiver reports which units it has decoded.
    Report { is_lost: bool },
    /// Time passes.
    Wait { ms: u8 },
    /// The user chooses another rate.
    SetRate { rate: u8 },
    /// The application asks the encoder for a key unit.
    RequestKey,
}

/// Features that the camera delivers; after the last one it starts again.
static CLIP: LazyLock<Vec<Feature>> = LazyLock::new(actor::features);

/// Encoder, packetizer, channel, jitter buffer and decoder on a virtual clock.
pub(super) struct OneWayCall {
    now: Instant,
    frame: u64,
    encoder: Encoder,
    packetizer: Packetizer,
    in_flight: Vec<Vec<u8>>,
    jitter_buffer: JitterBuffer,
    decoder: Decoder,
    /// The encoder's reconstruction of each unit sent.
    sent: HashMap<UnitNumber, Decoded>,
    newest_decoded: Option<UnitNumber>,
}

impl OneWayCall {
    #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
    pub(super) fn new() -> Self {
        Self {
            now: Instant::now(),
            frame: 0,
            encoder: Encoder::new(actor::profile()),
            packetizer: Packetizer::new(PacketizerSettings {
                units_per_packet: 1,
                ..PacketizerSettings::default()
            }),
            in_flight: Vec::new(),
            jitter_buffer: JitterBuffer::new(),
            decoder: Decoder::new(actor::profile()),
            sent: HashMap::new(),
            newest_decoded: None,
        }
    }

    pub(super) fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Capture { n_skipped } => {
                self.capture(1 + u64::from(n_skipped), |_| {});
            }
            Operation::CaptureWild { dims, values } => self.capture(1, |numbers| {
                for (dim, value) in dims.into_iter().zip(values) {
                    numbers[usize::from(dim) % numbers.len()] = f32::from(value) / 32.0;
                }
            }),
            Operation::Send => self.send(),
            Operation::Deliver { packet } => {
                if let Some(packet) = self.choose(packet) {
                    let packet = self.in_flight.remove(packet);
                    self.deliver(&packet);
                }
            }
            Operation::Duplicate { packet } => {
                if let Some(packet) = self.choose(packet) {
                    let packet = self.in_flight[packet].clone();
                    self.deliver(&packet);
                }
            }
            Operation::Lose { packet } => {
                if let Some(packet) = self.choose(packet) {
                    self.in_flight.remove(packet);
                }
            }
            Operation::Report { is_lost } => self.report(is_lost),
            Operation::Wait { ms } => {
                self.now += Duration::from_millis(u64::from(ms));
                self.decode();
            }
            Operation::SetRate { rate } => {
                self.encoder.set_rate(Rate::ALL[usize::from(rate) % Rate::ALL.len()]);
            }
            Operation::RequestKey => self.encoder.request_key(),
        }
    }

    /// Asserts that a key unit decodes on arrival, whatever was lost before it.
    pub(super) fn recover(&mut self) {
        self.in_flight.clear();
        self.encoder.request_key();
        let key_unit = UnitNumber(self.sent.len() as u64);
        self.capture(1, |_| {});
        self.now += Duration::from_secs(1);
        self.send();
        if let Some(packet) = self.in_flight.pop() {
            self.deliver(&packet);
            self.now += Duration::from_secs(1);
            self.decode();
            assert_eq!(self.newest_decoded, Some(key_unit), "a key unit decodes on arrival");
        }
    }

    fn choose(&self, packet: u8) -> Option<usize> {
        usize::from(packet).checked_rem(self.in_flight.len())
    }

    /// Moves the camera forward by `n_frames` frames and encodes the last of them after `edit` has
    /// changed it.
    fn capture(&mut self, n_frames: u64, edit: impl FnOnce(&mut [f32])) {
        self.frame += n_frames;
        self.now += Duration::from_millis(1000 / u64::from(FPS)) * n_frames as u32;
        let time = MediaTime::of_frame(self.frame, FPS);
        let mut numbers = CLIP[self.frame as usize % CLIP.len()].to_array();
        edit(&mut numbers);
        let Ok(feature) = Feature::from_array(time, &numbers) else { return };
        let Some(encoded) = self.encoder.push(&feature, false) else { return };
        let EncodedUnit { number, time, unit, decoded } = encoded;
        let pushed = self.packetizer.push_unit(self.now, number, time, unit.as_bytes());
        pushed.expect("a unit is within the limits of a packet");
        self.sent.insert(number, decoded);
    }

    fn send(&mut self) {
        while let Some(packet) = self.packetizer.poll_packet(self.now, None) {
            if self.in_flight.len() == MAX_IN_FLIGHT {
                self.in_flight.remove(0);
            }
            self.in_flight.push(packet);
        }
    }

    fn deliver(&mut self, packet: &[u8]) {
        let report = self.jitter_buffer.handle_packet(self.now, packet);
        assert_eq!(report, Ok(None), "a genuine packet parses");
        self.decode();
    }

    fn decode(&mut self) {
        while let Some(arrived) = self.jitter_buffer.poll_unit(self.now) {
            let number = arrived.number;
            let unit = AccessUnit::parse(&arrived.bytes).expect("a genuine unit parses");
            let expected = self.sent[&number];
            match self.decoder.decode(number, &unit) {
                Ok(decoded) => {
                    // Without the previous unit there is no correction and nothing between.
                    let on_its_own = Decoded {
                        corrected_previous: None,
                        intermediate: Default::default(),
                        ..expected
                    };
                    assert!(
                        decoded == expected || decoded == on_its_own,
                        "unit {number:?}: {decoded:?} is not {expected:?}"
                    );
                    self.jitter_buffer.confirm_decoded(number);
                    self.newest_decoded = Some(number);
                }
                Err(DecodeError::MissingReference { .. }) => self.jitter_buffer.request_key(),
                Err(error) => panic!("unit {number:?}: {error}"),
            }
        }
    }

    fn report(&mut self, is_lost: bool) {
        let Some(report) = self.jitter_buffer.poll_report(self.now, true).filter(|_| !is_lost)
        else {
            return;
        };
        self.packetizer.handle_report(self.now, &report);
        while let Some(number) = self.packetizer.poll_confirmed() {
            self.encoder.acknowledge(number);
        }
        if report.key_requested() {
            self.encoder.request_key();
        }
    }
}
