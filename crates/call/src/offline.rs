//! The same chain without a network: a clip becomes access units in a file, and features again.

use capture::{OpenError, ReadError, Source, SourceSpec};
use codec::{Decoder, Encoder, Profile, ProfileError, Reference, Stream, StreamError};
use face::FaceFile;
use track::{PersonError, PersonTracker, RefinementBudget};
use types::{FeatureTimeline, Rate};

use crate::face_coder::FaceCoder;

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
    /// A face without its private part drives nothing.
    #[error("this face file has no private part, so it cannot be sent; use the one you enrolled")]
    NotOurFace,
    /// The private part is damaged.
    #[error("the private part of the face file: {0}")]
    Sender(#[from] PersonError),
    /// The codec's part is damaged.
    #[error("the face file: {0}")]
    Profile(#[from] ProfileError),
}

/// Why a stream could not be decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeStreamError {
    /// The bytes are no stream.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The codec's part of the face is damaged.
    #[error("the face file: {0}")]
    Profile(#[from] ProfileError),
    /// What a code means is another thing for every face.
    #[error("it was made with another face: give the face file that it was encoded with")]
    OtherFace,
    /// There is nothing to show or to send.
    #[error("it holds no face: encode a clip that shows one")]
    Empty,
    /// A unit is damaged.
    #[error("unit {index} does not decode: {reason}")]
    Unit {
        /// Which.
        index: usize,
        /// Why.
        #[source]
        reason: codec::DecodeError,
    },
}

/// Runs a clip through tracker and encoder as a call does, each unit built on the one before.
///
/// `progress` is told the frames read so far. Frames without a face give no unit.
///
/// # Errors
/// If the clip or the face cannot be used.
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
    let mut coder = FaceCoder::new(tracker, encoder);
    let mut source = Source::open(clip)?;
    let (mut stream, mut n_frames) = (Stream { face: name_of(face), units: Vec::new() }, 0);
    let mut next = source.next_frame()?;
    while let Some(frame) = next {
        next = source.next_frame()?;
        // A call goes on; a file ends with its last face.
        let coded = coder.take(&frame, next.is_none(), RefinementBudget::Full).unit;
        stream.units.extend(coded.map(|coded| (coded.time, coded.unit)));
        n_frames += 1;
        progress(n_frames);
    }
    Ok(stream)
}

/// What a stream calls a face, public or one's own.
pub(crate) fn name_of(face: &FaceFile) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = face.content_hash();
    [a, b, c, d, e, f, g, h]
}

/// The features of a stream, in order: those of its units, and those on the way between them.
///
/// # Errors
/// If the bytes are not a stream, or not of this face, or hold no feature.
pub fn decode_stream(bytes: &[u8], face: &FaceFile) -> Result<FeatureTimeline, DecodeStreamError> {
    let stream = Stream::parse(bytes)?;
    if stream.face != name_of(face) {
        return Err(DecodeStreamError::OtherFace);
    }
    let profile = Profile::parse(&face.codec_profile)?;
    let mut decoder = Decoder::new(profile);
    let mut features = FeatureTimeline::new();
    for (index, (number, time, unit)) in stream.numbered().enumerate() {
        let decoded = decoder
            .decode(number, unit)
            .map_err(|reason| DecodeStreamError::Unit { index, reason })?;
        features.extend(decoded.features(features.newest_time(), time));
    }
    if features.is_empty() {
        return Err(DecodeStreamError::Empty);
    }
    Ok(features)
}
