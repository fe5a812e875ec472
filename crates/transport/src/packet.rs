use std::time::Duration;

use bytes::Bytes;
use types::{MAX_UNIT_BYTES, MediaTime};

use crate::wire::{FieldReader, MAX_VARINT, put_varint};

/// Largest size of a packet, in bytes: with all headers it fits the minimum MTU of IPv6.
pub const MAX_PACKET_BYTES: usize = 1100;
/// Largest number of units in one packet.
pub(crate) const MAX_UNITS: usize = 15;
/// Bits 7 and 6 of a packet's first byte: the version of the format.
const MARK: u8 = 0b0100_0000;
const MARK_MASK: u8 = 0b1100_0000;
const HAS_REPORT: u8 = 0b0010_0000;
const HAS_SOUND_LOSS: u8 = 0b0001_0000;
const COUNT_MASK: u8 = 0b0000_1111;

/// Why bytes are not a packet. Drop and count them; the call goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Longer than [`MAX_PACKET_BYTES`].
    #[error("a packet of {0} bytes is longer than {MAX_PACKET_BYTES}")]
    TooLong(usize),
    /// Another version of the format, or no packet at all.
    #[error("not a packet of this version")]
    NotAPacket,
    /// The bytes end inside a field.
    #[error("the packet is truncated")]
    Truncated,
    /// Bytes follow the last field.
    #[error("the packet is followed by {0} more bytes")]
    TrailingBytes(usize),
    /// A unit is empty or longer than [`MAX_UNIT_BYTES`].
    #[error("a unit of {0} bytes is outside 1..={MAX_UNIT_BYTES}")]
    UnitLength(usize),
}

/// Receiver report: what has become of the units, and how much of the sound was lost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReceiverReport {
    pub(crate) units: Option<UnitReport>,
    /// Fraction of sound packets lost recently, in 1/255.
    pub(crate) sound_loss: Option<u8>,
}

impl ReceiverReport {
    /// Whether the peer requests a key unit.
    pub fn key_requested(&self) -> bool {
        self.units.is_some_and(|units| units.key_requested)
    }

    /// Returns the fraction of sound packets lost recently, 0..=1; `None` if the report does not contain
    /// it.
    pub fn sound_loss(&self) -> Option<f32> {
        self.sound_loss.map(|loss| f32::from(loss) / 255.0)
    }
}

/// Which of the 16 units up to the newest received one were decoded, the fraction of packets lost, and
/// whether a key unit is needed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct UnitReport {
    /// Low 16 bits of the number of the newest received unit.
    pub(crate) newest: u16,
    /// Bit `i`: unit `newest - i` was decoded.
    pub(crate) decoded: u16,
    /// Time from the arrival of the newest unit to the report, in units of 4 ms.
    pub(crate) held: u8,
    /// Fraction of packets lost, in 1/127.
    pub(crate) loss: u8,
    /// Whether the next unit should be a key unit, because no other would decode.
    pub(crate) key_requested: bool,
}

impl UnitReport {
    /// Returns the time from the arrival of the newest unit to the report.
    pub(crate) fn held(self) -> Duration {
        Duration::from_millis(u64::from(self.held) * 4)
    }

    /// Returns the fraction of packets lost recently, 0..=1.
    pub(crate) fn loss(self) -> f32 {
        f32::from(self.loss) / 127.0
    }

    fn put(self, out: &mut Vec<u8>) {
        out.extend(self.newest.to_le_bytes());
        out.extend(self.decoded.to_le_bytes());
        out.push(self.held);
        out.push(self.loss.min(127) << 1 | u8::from(self.key_requested));
    }

    fn read(reader: &mut FieldReader<'_>) -> Option<Self> {
        let (newest, decoded, held) = (reader.u16()?, reader.u16()?, reader.u8()?);
        let last = reader.u8()?;
        Some(Self { newest, decoded, held, loss: last >> 1, key_requested: last & 1 == 1 })
    }
}

/// One feature packet: units, a report, or both.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Packet {
    /// Low 8 bits of the packet number.
    pub(crate) number: u8,
    pub(crate) report: ReceiverReport,
    /// Low 16 bits of the number of the first unit of `units`.
    pub(crate) newest: u16,
    /// Low 24 bits of the media time of that unit, in ticks.
    pub(crate) newest_ticks: u32,
    /// Newest first, with consecutive numbers. Each has the ticks from it to the next newer unit.
    pub(crate) units: Vec<(u32, Bytes)>,
}

impl Packet {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        let ReceiverReport { units, sound_loss } = self.report;
        let report = if units.is_some() { HAS_REPORT } else { 0 };
        let loss = if sound_loss.is_some() { HAS_SOUND_LOSS } else { 0 };
        out.push(MARK | report | loss | self.units.len().min(MAX_UNITS) as u8);
        out.push(self.number);
        if let Some(report) = units {
            report.put(&mut out);
        }
        out.extend(sound_loss);
        if !self.units.is_empty() {
            out.extend(self.newest.to_le_bytes());
            out.extend(&self.newest_ticks.to_le_bytes()[..3]);
        }
        for (i, (ticks_back, unit)) in self.units.iter().take(MAX_UNITS).enumerate() {
            if i > 0 {
                put_varint(&mut out, *ticks_back);
            }
            put_varint(&mut out, unit.len() as u32);
            out.extend_from_slice(unit);
        }
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, PacketError> {
        if bytes.len() > MAX_PACKET_BYTES {
            return Err(PacketError::TooLong(bytes.len()));
        }
        let mut reader = FieldReader::new(bytes);
        let first = reader.u8().ok_or(PacketError::Truncated)?;
        if first & MARK_MASK != MARK {
            return Err(PacketError::NotAPacket);
        }
        let mut packet =
            Self { number: reader.u8().ok_or(PacketError::Truncated)?, ..Self::default() };
        if first & HAS_REPORT != 0 {
            packet.report.units =
                Some(UnitReport::read(&mut reader).ok_or(PacketError::Truncated)?);
        }
        if first & HAS_SOUND_LOSS != 0 {
            packet.report.sound_loss = Some(reader.u8().ok_or(PacketError::Truncated)?);
        }
        let n_units = usize::from(first & COUNT_MASK);
        if n_units > 0 {
            packet.newest = reader.u16().ok_or(PacketError::Truncated)?;
            packet.newest_ticks = reader.u24().ok_or(PacketError::Truncated)?;
        }
        for i in 0..n_units {
            let ticks_back =
                if i > 0 { reader.varint().ok_or(PacketError::Truncated)? } else { 0 };
            let length = reader.varint().ok_or(PacketError::Truncated)? as usize;
            if !(1..=MAX_UNIT_BYTES).contains(&length) {
                return Err(PacketError::UnitLength(length));
            }
            let unit = reader.take(length).ok_or(PacketError::Truncated)?;
            packet.units.push((ticks_back, Bytes::copy_from_slice(unit)));
        }
        match reader.rest().len() {
            0 => Ok(packet),
            n => Err(PacketError::TrailingBytes(n)),
        }
    }
}

/// Returns the largest size of a unit of `length` bytes in a packet.
pub(crate) fn packed_len(length: usize) -> usize {
    length + 2 + 3
}

/// Time after which the media time in a packet begins again at zero.
pub const MEDIA_TIME_PERIOD: Duration = Duration::from_micros((1 << 24) * 1000 / 3);

/// Converts a media time to ticks of 1/3000 s, to the nearest.
///
/// Exact at 24, 25, 30, 50 and 60 frames per second, where one frame back takes a single byte.
pub(crate) fn ticks_of(time: MediaTime) -> u64 {
    let micros = u128::from(time.as_micros());
    ((micros * 3 + 500) / 1000) as u64
}

/// Converts ticks to a media time, rounded down like [`MediaTime::of_frame`].
pub(crate) fn time_of(ticks: u64) -> MediaTime {
    MediaTime::from_micros((u128::from(ticks) * 1000 / 3).min(u128::from(u64::MAX)) as u64)
}

/// Returns the ticks from `before` to `after`, limited to what a packet can code.
pub(crate) fn ticks_between(before: MediaTime, after: MediaTime) -> u32 {
    ticks_of(after).saturating_sub(ticks_of(before)).min(u64::from(MAX_VARINT)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    #[test]
    fn times_of_common_frame_rates_survive_to_the_microsecond() {
        for fps in [24, 25, 30, 50, 60] {
            for index in [0, 1, 2, 7, 1000, 123_457] {
                let time = MediaTime::of_frame(index, fps);
                assert_eq!(time_of(ticks_of(time)), time, "frame {index} at {fps} fps");
            }
        }
    }

    /// If this fails, the wire format has changed: fix the code, or add version 2 beside 1.
    #[test]
    fn v1_packet_has_exactly_these_bytes() {
        let packet = Packet {
            number: 5,
            report: ReceiverReport {
                units: Some(UnitReport {
                    newest: 0x0102,
                    decoded: 3,
                    held: 7,
                    loss: 9,
                    key_requested: true,
                }),
                sound_loss: Some(51),
            },
            newest: 0x0304,
            newest_ticks: 0x0a_0b0c,
            units: vec![(0, Bytes::from_static(b"new")), (120, Bytes::from_static(b"o"))],
        };
        assert_eq!(
            packet.to_bytes(),
            hex!(
                "72"           // version 1, a report, loss of sound, two units
                "05"           // packet number
                "0201 0300"    // report: newest unit 0x0102, it and the previous one decoded
                "07 13"        // held 28 ms; 9/127 lost, key unit requested
                "33"           // 51/255 of the sound packets lost
                "0403 0c0b0a"  // newest unit 0x0304 at tick 0x0a0b0c
                "03 6e6577"    // "new"
                "78 01 6f"     // 120 ticks (40 ms) earlier: "o"
            )
        );
        assert_eq!(Packet::parse(&packet.to_bytes()), Ok(packet));
    }

    #[test]
    fn bytes_that_are_not_a_packet_are_refused_with_the_reason() {
        for (bytes, want) in [
            (&[][..], PacketError::Truncated),
            (&[0x00, 1], PacketError::NotAPacket),
            (&[0x81, 1], PacketError::NotAPacket),
            (&[0x41, 1, 0, 0, 0, 0, 0, 5, 1], PacketError::Truncated),
            (&[0x41, 1, 0, 0, 0, 0, 0, 0], PacketError::UnitLength(0)),
            (&[0x40, 1, 9], PacketError::TrailingBytes(1)),
            (&[0x40; 1101], PacketError::TooLong(1101)),
        ] {
            assert_eq!(Packet::parse(bytes), Err(want), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_truncated_packet_is_refused(
            units in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..80), 0..8),
            has_report: bool,
            sound_loss: Option<u8>,
            share in 0.0_f64..1.0,
        ) {
            let report = UnitReport { newest: 7, decoded: 5, held: 1, loss: 9, key_requested: false };
            let packet = Packet {
                report: ReceiverReport { units: has_report.then_some(report), sound_loss },
                units: units.into_iter().map(|unit| (0, Bytes::from(unit))).collect(),
                ..Packet::default()
            };
            let bytes = packet.to_bytes();
            let cut = &bytes[..(bytes.len() as f64 * share) as usize];
            prop_assert_eq!(Packet::parse(cut), Err(PacketError::Truncated));
        }

        #[test]
        fn no_bytes_make_the_parser_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Packet::parse(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = MARK | (*first & 0x3f);
            }
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert_eq!(Packet::parse(&packet.to_bytes()), Ok(packet));
            }
        }
    }
}
