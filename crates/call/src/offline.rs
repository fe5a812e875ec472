//! Streams in files: a clip becomes access units, and access units become features.

use std::collections::VecDeque;

use capture::{OpenError, ReadError, Source, SourceSpec};
use codec::{
    Decoder, Encoder, Profile, ProfileError, Reference, Stream, StreamError, StreamReader,
    StreamSpan,
};
use face::FaceFile;
use track::{PersonError, PersonTracker};
use types::{Feature, FeatureTimeline, Rate, UnitNumber};

use crate::face_encoder::FaceEncoder;
use crate::load_estimator::FrameBudget;

/// Why a clip could not be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeStreamError {
    /// The clip cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The clip is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The face file is a peer's copy, which can be shown but not sent.
    #[error("this face file has no private part, so it cannot be sent; use the one you enrolled")]
    NotOurFace,
    /// The private part of the face file is damaged.
    #[error("the private part of the face file: {0}")]
    Sender(#[from] PersonError),
    /// The codec profile of the face file is damaged.
    #[error("the face file: {0}")]
    Profile(#[from] ProfileError),
}

/// Why a stream could not be decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeStreamError {
    /// The bytes are not a stream.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The codec profile of the face file is damaged.
    #[error("the face file: {0}")]
    Profile(#[from] ProfileError),
    /// The stream belongs to another face. Codes have a meaning only for the face they were made
    /// with.
    #[error("it was made with another face: give the face file that it was encoded with")]
    OtherFace,
    /// The stream contains no unit.
    #[error("it holds no face: encode a clip that shows one")]
    Empty,
    /// A unit is damaged.
    #[error("unit {index} does not decode: {reason}")]
    Unit {
        /// Index of the unit, from 0.
        index: u64,
        /// What is wrong with it.
        #[source]
        reason: codec::DecodeError,
    },
}

/// Encodes a clip for a file, with the tracker and encoder of a call. Unlike in a call,
///
/// - each unit references the one before it; in a call, one that the peer has acknowledged or that
///   its packet repeats;
/// - every frame is read and tracked as accurately as possible, however long it takes;
/// - the last frame becomes a unit, if it shows a face, even if none is due.
///
/// `progress` receives the number of frames encoded so far. A frame without a face becomes no unit
/// and no intermediate feature.
///
/// # Errors
/// If the clip cannot be read, or the face file has no private part or is damaged.
pub fn encode_stream(
    clip: &SourceSpec,
    face: &FaceFile,
    rate: Rate,
    mut progress: impl FnMut(u64),
) -> Result<Stream, EncodeStreamError> {
    let sender = face.sender.as_deref().ok_or(EncodeStreamError::NotOurFace)?;
    let tracker = PersonTracker::new(sender, &face.model)?;
    let profile = Profile::parse(&face.codec_profile)?;
    let mut encoder = Encoder::with_reference(profile, Reference::Previous);
    encoder.set_rate(rate);
    let mut encoder = FaceEncoder::new(tracker, encoder);
    let mut source = Source::open(clip)?;
    let (mut stream, mut n_frames) = (Stream { face: name_of(face), units: Vec::new() }, 0);
    let mut next = source.next_frame()?;
    while let Some(frame) = next {
        next = source.next_frame()?;
        // Other than a call, a file ends, and its last frame becomes a unit.
        let unit = encoder.encode(&frame, next.is_none(), FrameBudget::FULL).unit;
        stream.units.extend(unit.map(|unit| (unit.time, unit.unit)));
        n_frames += 1;
        progress(n_frames);
    }
    Ok(stream)
}

/// Returns the name by which a stream refers to a face file: the first bytes of its content hash,
/// which are the same with and without the private part.
pub(crate) fn name_of(face: &FaceFile) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = face.content_hash();
    [a, b, c, d, e, f, g, h]
}

/// Decoder of a stream to its features in order of time, one unit at a time.
///
/// Each unit carries its own feature, those of up to three times between the unit before and
/// itself, and a correction of the feature of the unit before. As an iterator it yields each feature
/// once, corrected, and ends after the first error.
pub struct StreamDecoder {
    units: StreamReader,
    decoder: Decoder,
    span: StreamSpan,
    n_decoded: u64,
    /// Features of the newest units, of which the last may still be corrected.
    timeline: FeatureTimeline,
    settled: VecDeque<Feature>,
    /// Whether a unit did not decode; there are no more features then.
    is_broken: bool,
}

impl StreamDecoder {
    /// Returns whether a file begins like a stream of any version.
    pub fn is_stream(start: &[u8]) -> bool {
        Stream::is_stream(start)
    }

    /// Longest stream file that is read, bytes: about a week of a face at rate `normal`.
    pub const MAX_BYTES: u64 = 64 << 20;

    /// Starts to decode the content of a stream file.
    ///
    /// # Errors
    /// If the bytes are not a stream, are damaged, belong to another face, or contain no unit.
    pub fn new(bytes: Vec<u8>, face: &FaceFile) -> Result<Self, DecodeStreamError> {
        let units = StreamReader::new(bytes)?;
        let span = units.span()?;
        if units.face() != name_of(face) {
            return Err(DecodeStreamError::OtherFace);
        }
        Ok(Self {
            units,
            decoder: Decoder::new(Profile::parse(&face.codec_profile)?),
            span: span.ok_or(DecodeStreamError::Empty)?,
            n_decoded: 0,
            timeline: FeatureTimeline::new(),
            settled: VecDeque::new(),
            is_broken: false,
        })
    }

    /// Returns the number of units and their media times.
    pub fn span(&self) -> StreamSpan {
        self.span
    }

    /// Decodes the next unit. Returns whether there was one.
    fn decode_unit(&mut self) -> Result<bool, DecodeStreamError> {
        let Some(unit) = self.units.next() else { return Ok(false) };
        let (time, unit) = unit?;
        let number = UnitNumber(self.n_decoded);
        let decoded = self
            .decoder
            .decode(number, &unit)
            .map_err(|reason| DecodeStreamError::Unit { index: self.n_decoded, reason })?;
        self.n_decoded += 1;
        self.timeline.extend(decoded.features(self.timeline.newest_time(), time));
        self.settled.extend(self.timeline.drain_settled());
        Ok(true)
    }
}

impl Iterator for StreamDecoder {
    type Item = Result<Feature, DecodeStreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.settled.is_empty() {
            if self.is_broken {
                return None;
            }
            match self.decode_unit() {
                Ok(true) => {}
                Ok(false) if self.timeline.is_empty() => return None,
                Ok(false) => self.settled.extend(self.timeline.drain()),
                Err(error) => {
                    self.is_broken = true;
                    return Some(Err(error));
                }
            }
        }
        self.settled.pop_front().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use codec::{AccessUnit, Stream};
    use face::{FaceModel, PackedModel, Sizes};
    use types::{Code, HeadPose, MediaTime};

    use super::*;

    fn face() -> FaceFile {
        let packed = PackedModel::new(&FaceModel::untrained(Sizes::tiny(), 1)).unwrap();
        FaceFile::new(packed, Profile::default().to_bytes(), None).unwrap()
    }

    fn nod(frame: u64) -> Feature {
        let yaw = 0.3 * (frame as f32 * 0.2).sin();
        let pose = HeadPose::from_array([0.0, yaw, 0.0, 0.0, 0.0, 1.1]).unwrap();
        Feature { time: MediaTime::of_frame(frame, 25), pose, code: Code::NEUTRAL }
    }

    /// Returns the units of 60 frames.
    fn nods() -> Vec<(MediaTime, AccessUnit)> {
        let mut encoder = Encoder::with_reference(Profile::default(), Reference::Previous);
        let units = (0..60).filter_map(|frame| encoder.push(&nod(frame), frame == 59));
        units.map(|unit| (unit.time, unit.unit)).collect()
    }

    #[test]
    fn features_come_one_by_one_as_from_a_timeline_of_all() {
        let stream = Stream { face: name_of(&face()), units: nods() };
        let mut decoder = Decoder::new(Profile::default());
        let mut all = FeatureTimeline::new();
        for (number, time, unit) in stream.numbered() {
            let decoded = decoder.decode(number, unit).unwrap();
            all.extend(decoded.features(all.newest_time(), time));
        }
        let stream_decoder = StreamDecoder::new(stream.to_bytes(), &face()).unwrap();
        assert_eq!(stream_decoder.span().last, nod(59).time);
        let features: Vec<Feature> = stream_decoder.map(Result::unwrap).collect();
        assert_eq!(features, all.drain());
        assert!(features.len() > 40);
    }

    #[test]
    fn a_stream_of_days_is_decoded_a_few_features_at_a_time() {
        let mut units = nods();
        for (day, (time, _)) in (0..).zip(&mut units) {
            *time = MediaTime::from_micros(day * 86_400_000_000);
        }
        let stream = Stream { face: name_of(&face()), units };
        let mut decoder = StreamDecoder::new(stream.to_bytes(), &face()).unwrap();
        let mut n_features = 0;
        while let Some(feature) = decoder.next() {
            feature.unwrap();
            n_features += 1;
            assert!(decoder.settled.len() + decoder.timeline.len() <= 6);
        }
        assert!(n_features >= stream.units.len());
    }

    #[test]
    fn a_damaged_unit_ends_the_features() {
        let mut units = nods();
        units[9].1 = AccessUnit::parse(&[0xff; 3]).unwrap();
        let bytes = Stream { face: name_of(&face()), units }.to_bytes();
        let mut decoder = StreamDecoder::new(bytes, &face()).unwrap();
        let error = decoder.by_ref().find_map(Result::err);
        assert!(matches!(error, Some(DecodeStreamError::Unit { index: 9, .. })), "{error:?}");
        assert!(decoder.next().is_none());
    }

    #[test]
    fn a_stream_of_another_face_or_without_units_is_refused() {
        let other = Stream { face: *b"somebody", units: nods() };
        let error = StreamDecoder::new(other.to_bytes(), &face()).err();
        assert!(matches!(error, Some(DecodeStreamError::OtherFace)), "{error:?}");
        let empty = Stream { face: name_of(&face()), units: Vec::new() };
        let error = StreamDecoder::new(empty.to_bytes(), &face()).err();
        assert!(matches!(error, Some(DecodeStreamError::Empty)), "{error:?}");
    }
}
