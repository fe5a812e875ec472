use std::path::Path;

use anyhow::Context;
use capture::{Source, SourceSpec};
use codec::{Decoder, Encoder, Profile, Quality, Reference, Stream};
use face::FaceFile;
use track::{PersonTracker, Tracker};
use types::{Feature, Frame, Landmarks};

use crate::Progress;

/// How fine the quantizer of an offline stream is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Rate {
    /// Steps twice as wide as the face's own.
    Low,
    /// The face's own steps.
    #[default]
    Normal,
    /// Steps half as wide.
    High,
}

/// The frames of a clip, in order, with a report of how far it is.
pub(crate) struct ClipReader<'a> {
    source: Source,
    path: &'a Path,
    read: u64,
}

impl<'a> ClipReader<'a> {
    pub(crate) fn open(path: &'a Path) -> anyhow::Result<Self> {
        Ok(Self { source: Source::open(&SourceSpec::Clip(path.to_owned()))?, path, read: 0 })
    }

    pub(crate) fn fps(&self) -> u32 {
        self.source.fps()
    }

    pub(crate) fn n_frames(&self) -> Option<u64> {
        self.source.n_frames()
    }

    /// The next frame and its index.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<(u64, Frame)>> {
        let frame = self
            .source
            .next_frame()
            .with_context(|| format!("cannot read on in {}", self.path.display()))?;
        let index = self.read;
        self.read += 1;
        Ok(frame.map(|frame| (index, frame)))
    }

    /// Share of the frames up to `end` that were read, 0 where their number is not known.
    pub(crate) fn fraction(&self, end: Option<u64>) -> f32 {
        let end = end.into_iter().chain(self.n_frames()).min();
        end.map_or(0.0, |end| (self.read as f32 / end.max(1) as f32).min(1.0))
    }
}

/// The person's tracker and codec profile, of a face file that still has its sender part.
pub(crate) fn sender_of(face: &FaceFile) -> anyhow::Result<(PersonTracker, Profile)> {
    let sender = face
        .sender
        .as_deref()
        .context("this face file can only be looked at: its owner's file can send, too")?;
    let tracker = PersonTracker::from_bytes(sender).context("cannot use the face's sender part")?;
    Ok((tracker, profile_of(face)?))
}

pub(crate) fn profile_of(face: &FaceFile) -> anyhow::Result<Profile> {
    Profile::parse(&face.codec_profile).context("cannot use the face's codec profile")
}

/// Turns a clip into the bytes of a `.fcs` stream: one unit a frame that shows the face.
///
/// # Errors
/// If the clip cannot be read, shows no face, or the face file cannot send.
pub fn encode_clip(
    clip: &Path,
    face: &FaceFile,
    rate: Rate,
    progress: Progress<'_>,
) -> anyhow::Result<Vec<u8>> {
    let (mut tracker, profile) = sender_of(face)?;
    let quality = match rate {
        Rate::Low => Quality::Low,
        Rate::Normal => Quality::Normal,
        Rate::High => Quality::High,
    };
    let mut encoder = Encoder::with_reference(profile.at(quality)?, Reference::Previous);
    let mut reader = ClipReader::open(clip)?;
    let mut stream = Stream { quality, units: Vec::new() };
    while let Some((index, frame)) = reader.next()? {
        if let Some(feature) = tracker.track(&frame) {
            stream.units.push((feature.time, encoder.encode(&feature)));
        }
        let bits = stream.payload_bytes() * 8 / stream.units.len().max(1);
        progress("encode", reader.fraction(None), &format!("frame {index}, {bits} bits a frame"));
    }
    anyhow::ensure!(!stream.units.is_empty(), "no face was found in {}", clip.display());
    Ok(stream.to_bytes())
}

/// The features of a `.fcs` stream, with their media times.
///
/// # Errors
/// If the bytes are no stream, or one made with another face.
pub fn decode_stream(stream: &[u8], face: &FaceFile) -> anyhow::Result<Vec<Feature>> {
    let stream = Stream::parse(stream)?;
    let mut decoder = Decoder::new(profile_of(face)?.at(stream.quality)?);
    stream
        .units
        .iter()
        .enumerate()
        .map(|(index, (time, unit))| {
            let decoded = decoder.decode(unit).with_context(|| {
                format!("unit {index} does not decode; is it another face's stream?")
            })?;
            Ok(decoded.at(*time))
        })
        .collect()
}

/// The landmarks of every frame of a clip, in pixels of its centered square.
///
/// # Errors
/// If the clip cannot be read.
pub fn track_clip(clip: &Path, progress: Progress<'_>) -> anyhow::Result<Vec<Option<Landmarks>>> {
    let mut tracker = Tracker::builtin().context("cannot use the built-in tracker")?;
    let mut reader = ClipReader::open(clip)?;
    let mut all = Vec::new();
    while let Some((index, frame)) = reader.next()? {
        all.push(tracker.track(&frame));
        progress("track", reader.fraction(None), &format!("frame {index}"));
    }
    Ok(all)
}
