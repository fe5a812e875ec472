use std::ops::Range;
use std::path::Path;

use anyhow::Context;
use capture::{Source, SourceSpec};
use codec::Profile;
use face::FaceFile;
use track::PersonTracker;
use types::SquareFrame;

/// Frames before the first measured one that the tracker sees, so that it has settled as in a call.
pub(crate) const WARM_UP: u64 = 50;

/// Reader of a clip's frames, or of the actor's if the path is `actor`.
pub(crate) struct ClipReader<'a> {
    source: Source,
    path: &'a Path,
    n_read: u64,
}

impl<'a> ClipReader<'a> {
    pub(crate) fn open(path: &'a Path) -> anyhow::Result<Self> {
        let spec = match path.to_str() {
            Some("actor") => SourceSpec::Actor,
            _ => SourceSpec::Clip(path.to_owned()),
        };
        Ok(Self { source: Source::open(&spec)?, path, n_read: 0 })
    }

    /// Returns the frame rate, frames per second.
    pub(crate) fn fps(&self) -> u32 {
        self.source.fps()
    }

    /// Returns whether there is no last frame.
    pub(crate) fn is_endless(&self) -> bool {
        self.path == Path::new("actor")
    }

    /// Reads the next frame and returns it with its index; `None` after the last.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<(u64, SquareFrame)>> {
        let frame = self
            .source
            .next_frame()
            .with_context(|| format!("cannot read on in {}", self.path.display()))?;
        let index = self.n_read;
        self.n_read += 1;
        Ok(frame.map(|frame| (index, frame)))
    }

    /// Returns the share of the frames up to `end` that was read, 0..=1; 0 if the end is unknown.
    pub(crate) fn fraction(&self, end: Option<u64>) -> f32 {
        let end = end.into_iter().chain(self.source.n_frames()).min();
        end.map_or(0.0, |end| (self.n_read as f32 / end.max(1) as f32).min(1.0))
    }

    /// Limits `requested` to the frames of the clip; `None` requests all of them.
    ///
    /// # Errors
    /// If the range is empty, or all frames of an endless source are requested.
    pub(crate) fn frame_range(&self, requested: Option<Range<u64>>) -> anyhow::Result<Range<u64>> {
        let has_end = requested.is_some() || !self.is_endless();
        anyhow::ensure!(has_end, "the actor has no end: give a range of frames, A..B");
        let n_clip = self.source.n_frames().unwrap_or(u64::MAX);
        let requested = requested.unwrap_or(0..n_clip);
        let frames = requested.start..requested.end.min(n_clip);
        anyhow::ensure!(!frames.is_empty(), "the clip has no frames {frames:?}");
        Ok(frames)
    }
}

/// Creates the tracker and the codec profile of a person.
///
/// # Errors
/// If the face file lacks its sender part, or a part of it is damaged.
pub(crate) fn sender_of(face: &FaceFile) -> anyhow::Result<(PersonTracker, Profile)> {
    let sender = face
        .sender
        .as_deref()
        .context("this face file has no sender part: only its owner's file can send")?;
    let tracker =
        PersonTracker::new(sender, &face.model).context("cannot use the face's sender part")?;
    let profile =
        Profile::parse(&face.codec_profile).context("cannot use the face's codec profile")?;
    Ok((tracker, profile))
}
