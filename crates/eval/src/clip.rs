use std::ops::Range;
use std::path::Path;

use anyhow::Context;
use capture::{Source, SourceSpec};
use codec::Profile;
use face::FaceFile;
use track::{PersonTracker, Tracker};
use types::{Landmarks, SquareFrame};

use crate::Progress;

/// The frames of a clip, or of `actor`, in order, with a report of how far it is.
pub(crate) struct ClipReader<'a> {
    source: Source,
    path: &'a Path,
    read: u64,
}

impl<'a> ClipReader<'a> {
    pub(crate) fn open(path: &'a Path) -> anyhow::Result<Self> {
        let spec = match path.to_str() {
            Some("actor") => SourceSpec::Actor,
            _ => SourceSpec::Clip(path.to_owned()),
        };
        Ok(Self { source: Source::open(&spec)?, path, read: 0 })
    }

    pub(crate) fn fps(&self) -> u32 {
        self.source.fps()
    }

    /// Whether there is always another frame.
    fn is_endless(&self) -> bool {
        self.path == Path::new("actor")
    }

    pub(crate) fn n_frames(&self) -> Option<u64> {
        self.source.n_frames()
    }

    /// The next frame and its index.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<(u64, SquareFrame)>> {
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

/// Frames before the first measured one that the tracker sees, as it would in a call.
pub(crate) const WARM_UP: u64 = 50;

/// The frames to measure: those asked for that the clip has, or all.
pub(crate) fn frames_of(
    reader: &ClipReader<'_>,
    asked: Option<Range<u64>>,
) -> anyhow::Result<Range<u64>> {
    let has_end = asked.is_some() || !reader.is_endless();
    anyhow::ensure!(has_end, "the actor has no end: say which frames, A..B");
    let n_clip = reader.n_frames().unwrap_or(u64::MAX);
    let asked = asked.unwrap_or(0..n_clip);
    let frames = asked.start..asked.end.min(n_clip);
    anyhow::ensure!(!frames.is_empty(), "the clip has no frames {frames:?}");
    Ok(frames)
}

/// The person's tracker and codec profile, of a face file that still has its sender part.
pub(crate) fn sender_of(face: &FaceFile) -> anyhow::Result<(PersonTracker, Profile)> {
    let sender = face
        .sender
        .as_deref()
        .context("this face file can only be looked at: its owner's file can send, too")?;
    let tracker =
        PersonTracker::new(sender, &face.model).context("cannot use the face's sender part")?;
    let profile =
        Profile::parse(&face.codec_profile).context("cannot use the face's codec profile")?;
    Ok((tracker, profile))
}

/// The landmarks of every frame of a clip, in pixels of its centered square.
///
/// # Errors
/// If the clip cannot be read.
pub fn track_clip(clip: &Path, progress: Progress<'_>) -> anyhow::Result<Vec<Option<Landmarks>>> {
    let mut tracker = Tracker::builtin().context("cannot use the built-in tracker")?;
    let mut reader = ClipReader::open(clip)?;
    anyhow::ensure!(!reader.is_endless(), "the actor has no end");
    let mut all = Vec::new();
    while let Some((index, frame)) = reader.next()? {
        // An archive of more than 4 GB would need another format: seven hours of video.
        anyhow::ensure!(all.len() < 700_000, "the clip is too long for one archive of landmarks");
        all.push(tracker.track(&frame));
        progress("track", reader.fraction(None), &format!("frame {index}"));
    }
    Ok(all)
}
