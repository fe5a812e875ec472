use types::{MediaTime, UnitNumber};

use crate::AccessUnit;

const MAGIC: [u8; 4] = *b"FCS4";
/// Longest time between two units, in microseconds: a day.
const MAX_GAP: u64 = 86_400_000_000;
/// Length of the field that identifies the face file.
const FACE_BYTES: usize = 8;

/// Access units with their times: the content of an `.fcs` file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Stream {
    /// First 8 bytes of the content hash of the face file that the units were encoded with. With
    /// another face file, the units have no meaning.
    pub face: [u8; FACE_BYTES],
    /// Units in coding order, each with the media time of its feature. Times do not decrease.
    pub units: Vec<(MediaTime, AccessUnit)>,
}

/// Why bytes are not a stream.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Another kind of file, or a stream of another version.
    #[error("not a stream of this version (it does not start with FCS4): encode the clip again")]
    Magic,
    /// Cut short or damaged.
    #[error("the stream is damaged at byte {at}")]
    Damaged { at: usize },
}

impl Stream {
    /// Returns whether a file begins like a stream of any version.
    pub fn is_stream(start: &[u8]) -> bool {
        start.starts_with(&MAGIC[..3]) && start.get(3).is_some_and(u8::is_ascii_digit)
    }

    /// Returns the total size of the units, in bytes, without their times and the file header.
    pub fn payload_bytes(&self) -> usize {
        self.units.iter().map(|(_, unit)| unit.as_bytes().len()).sum()
    }

    /// Iterates over the units with their numbers, which count from 0, and their times.
    pub fn numbered(&self) -> impl Iterator<Item = (UnitNumber, MediaTime, &AccessUnit)> {
        (0..).zip(&self.units).map(|(i, (time, unit))| (UnitNumber(i), *time, unit))
    }

    /// Returns the file content, as specified in docs/BITSTREAM.md.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &self.face].concat();
        let mut before = MediaTime::ZERO;
        for (time, unit) in &self.units {
            let mut micros = time.as_micros().saturating_sub(before.as_micros());
            before = MediaTime::from_micros(before.as_micros() + micros);
            while micros >= 0x80 {
                bytes.push(micros as u8 | 0x80);
                micros >>= 7;
            }
            bytes.extend([micros as u8, unit.as_bytes().len() as u8]);
            bytes.extend(unit.as_bytes());
        }
        bytes
    }

    /// Parses the content of a file; the inverse of [`Stream::to_bytes`].
    ///
    /// # Errors
    /// If the bytes are not a stream of this version, or are damaged.
    pub fn parse(bytes: &[u8]) -> Result<Self, StreamError> {
        let reader = StreamReader::new(bytes.to_vec())?;
        Ok(Self { face: reader.face(), units: reader.collect::<Result<_, _>>()? })
    }
}

/// Content of an `.fcs` file, read unit by unit: keeps the bytes, and one unit at a time.
///
/// As an iterator it yields the units in coding order, each with its media time, and ends after the
/// first error.
#[derive(Clone, Debug)]
pub struct StreamReader {
    bytes: Vec<u8>,
    face: [u8; FACE_BYTES],
    position: Position,
}

/// Place in a file between two units.
#[derive(Clone, Copy, Debug)]
struct Position {
    at: usize,
    /// Media time of the unit before, microseconds.
    micros: u64,
}

/// Number of units of a stream, and the media times between which they lie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StreamSpan {
    /// Number of units, at least 1.
    pub n_units: u64,
    /// Media time of the first unit.
    pub first: MediaTime,
    /// Media time of the last unit.
    pub last: MediaTime,
}

impl StreamReader {
    /// Reads the header.
    ///
    /// # Errors
    /// If the bytes are not a stream of this version, or end inside the header.
    pub fn new(bytes: Vec<u8>) -> Result<Self, StreamError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(StreamError::Magic)?;
        let damaged = StreamError::Damaged { at: MAGIC.len() };
        let face = *rest.first_chunk::<FACE_BYTES>().ok_or(damaged)?;
        let position = Position { at: MAGIC.len() + FACE_BYTES, micros: 0 };
        Ok(Self { bytes, face, position })
    }

    /// Returns the first 8 bytes of the content hash of the face file that the stream was encoded with;
    /// see [`Stream::face`].
    pub fn face(&self) -> [u8; FACE_BYTES] {
        self.face
    }

    /// Returns the number and the times of the units that the iterator has not yielded yet, without
    /// decoding or consuming them; `None` if there are none.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn span(&self) -> Result<Option<StreamSpan>, StreamError> {
        let (mut position, mut span) = (self.position, None);
        while let Some((time, _)) = position.next(&self.bytes)? {
            let so_far = span.get_or_insert(StreamSpan { n_units: 0, first: time, last: time });
            so_far.n_units += 1;
            so_far.last = time;
        }
        Ok(span)
    }
}

impl Iterator for StreamReader {
    type Item = Result<(MediaTime, AccessUnit), StreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.position.at;
        let damaged = StreamError::Damaged { at: start };
        let unit = self.position.next(&self.bytes).and_then(|unit| {
            unit.map(|(time, unit)| Ok((time, AccessUnit::parse(unit).map_err(|_| damaged)?)))
                .transpose()
        });
        if unit.is_err() {
            self.position.at = self.bytes.len();
        }
        unit.transpose()
    }
}

impl Position {
    /// Reads one unit and its media time, and moves behind it; `None` at the end of the file.
    fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(MediaTime, &'a [u8])>, StreamError> {
        let damaged = StreamError::Damaged { at: self.at };
        let mut rest = bytes.get(self.at..).ok_or(damaged)?;
        if rest.is_empty() {
            return Ok(None);
        }
        let mut delta = 0_u64;
        for shift in (0..).step_by(7) {
            let (&byte, after) = rest.split_first().ok_or(damaged)?;
            rest = after;
            if shift > 56 {
                return Err(damaged);
            }
            delta |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        if delta > MAX_GAP {
            return Err(damaged);
        }
        let micros = self.micros.checked_add(delta).ok_or(damaged)?;
        let (&length, after) = rest.split_first().ok_or(damaged)?;
        let (unit, after) = after.split_at_checked(usize::from(length)).ok_or(damaged)?;
        if unit.is_empty() {
            return Err(damaged);
        }
        *self = Self { at: bytes.len() - after.len(), micros };
        Ok(Some((MediaTime::from_micros(micros), unit)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_stream_survives_its_bytes(
            face: [u8; FACE_BYTES],
            units in prop::collection::vec((0..=MAX_GAP, prop::collection::vec(any::<u8>(), 1..256)), 0..20),
        ) {
            let mut micros = 0;
            let units = units.iter().map(|(delta, bytes)| {
                micros += delta;
                (MediaTime::from_micros(micros), AccessUnit::parse(bytes).unwrap())
            }).collect();
            let stream = Stream { face, units };
            prop_assert_eq!(Stream::parse(&stream.to_bytes()), Ok(stream));
        }

        #[test]
        fn no_bytes_make_parse_panic(tail: Vec<u8>) {
            let _ = Stream::parse(&[MAGIC.as_slice(), &tail].concat());
        }

        #[test]
        fn the_span_is_that_of_the_units(tail: Vec<u8>) {
            let bytes = [&MAGIC[..], b"facehash", &tail].concat();
            let span = StreamReader::new(bytes.clone()).unwrap().span();
            let parsed = Stream::parse(&bytes);
            prop_assert_eq!(span.as_ref().err(), parsed.as_ref().err());
            if let (Ok(span), Ok(Stream { units, .. })) = (span, parsed) {
                let ends = units.first().zip(units.last());
                let want = ends.map(|((first, _), (last, _))| {
                    StreamSpan { n_units: units.len() as u64, first: *first, last: *last }
                });
                prop_assert_eq!(span, want);
            }
        }
    }

    #[test]
    fn a_damaged_stream_is_refused_with_the_position() {
        let unit = AccessUnit::parse(&[1, 2, 3]).unwrap();
        let units = vec![(MediaTime::from_micros(40_000), unit)];
        let bytes = Stream { face: *b"facehash", units }.to_bytes();
        assert_eq!(Stream::parse(&bytes[..bytes.len() - 1]), Err(StreamError::Damaged { at: 12 }));
        assert_eq!(Stream::parse(&bytes[..11]), Err(StreamError::Damaged { at: 4 }));
        let mut pause = bytes.clone();
        pause.splice(12..14, [0xff; 8]);
        assert_eq!(Stream::parse(&pause), Err(StreamError::Damaged { at: 12 }));
        assert_eq!(Stream::parse(b"FCS3\x07"), Err(StreamError::Magic));
        assert_eq!(Stream::parse(b"RIFF"), Err(StreamError::Magic));
    }
}
