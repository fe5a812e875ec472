//! Streams in files: a clip becomes access units, and access units become features.

use capture::{OpenError, ReadError, Source, SourceSpec};
use codec::{Decoder, Encoder, Profile, ProfileError, Reference, Stream, StreamError};
use face::FaceFile;
use track::{PersonError, PersonTracker, RefinementBudget};
use types::{FeatureTimeline, Rate};

use crate::face_encoder::FaceEncoder;

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
        index: usize,
        /// What is wrong with it.
        #[source]
        reason: codec::DecodeError,
    },
}

/// Encodes a clip as a call would, with one difference: each unit references the one before it. In
/// a call a unit references one that the peer has acknowledged or that its packet repeats.
///
/// `progress` receives the number of frames read so far. Frames without a face become no unit.
///
/// # Errors
/// If the clip or the face file cannot be used.
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
        let unit = encoder.encode(&frame, next.is_none(), RefinementBudget::Full).unit;
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

/// Decodes a stream to its features in order of time. Each unit carries its own feature and those
/// of up to three times between the unit before and itself.
///
/// # Errors
/// If the bytes are not a stream, belong to another face, or contain no feature.
pub fn decode_stream(bytes: &[u8], face: &FaceFile) -> Result<FeatureTimeline, DecodeStreamError> {
    let stream = Stream::parse(bytes)?;
    if stream.face != name_of(face) {
        return Err(DecodeStreamError::OtherFace);
    }
    let mut decoder = Decoder::new(Profile::parse(&face.codec_profile)?);
    let mut timeline = FeatureTimeline::new();
    for (index, (number, time, unit)) in stream.numbered().enumerate() {
        let decoded = decoder
            .decode(number, unit)
            .map_err(|reason| DecodeStreamError::Unit { index, reason })?;
        timeline.extend(decoded.features(timeline.newest_time(), time));
    }
    if timeline.is_empty() {
        return Err(DecodeStreamError::Empty);
    }
    Ok(timeline)
}
