//! Frames of a source, held in memory at the side that is learned, with their landmarks.

use anyhow::{Context, bail, ensure};
use capture::{Source, SourceSpec};
use track::Tracker;
use types::{Frame, Landmarks};

use crate::clock::Clock;
use crate::options::EnrollOptions;

/// Bytes of pictures kept; frames beyond are left out evenly.
const MAX_PICTURE_BYTES: usize = 1 << 30;
/// Less of a face than this is not enough to learn one.
const MIN_SECONDS: f32 = 2.0;
/// Frames beyond this many are not read.
const MAX_FRAMES: u64 = 20_000;

/// One frame and where the face is in it.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    pub(crate) frame: Frame,
    /// In pixels of `frame`; `None` where no face was found.
    pub(crate) landmarks: Option<Landmarks>,
}

/// What was recorded.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    pub(crate) shots: Vec<Shot>,
    /// Side of every frame.
    pub(crate) side: u32,
}

/// Reads and tracks the whole source, frame by frame as a call would.
pub(crate) fn record(options: &EnrollOptions, clock: &mut Clock<'_>) -> anyhow::Result<Recording> {
    let mut source = Source::open(&options.source)?;
    let mut tracker = Tracker::builtin()?;
    let fps = source.fps().max(1);
    let live = matches!(options.source, SourceSpec::Camera(_) | SourceSpec::Actor);
    let expected = match source.n_frames() {
        Some(n) if !live => n.min(MAX_FRAMES),
        _ => (options.record.as_secs_f32() * fps as f32) as u64,
    };
    let bytes = (options.side * options.side * 3) as usize;
    let mut keep_every = 1;
    let mut shots: Vec<Shot> = Vec::new();
    for index in 0..if live { expected } else { MAX_FRAMES } {
        let frame = match source.next_frame() {
            Ok(Some(frame)) => frame.center_square(),
            Ok(None) => break,
            Err(error) => return Err(error).context("reading the source"),
        };
        let landmarks = tracker.track(&frame);
        if index % keep_every == 0 {
            let scale = options.side as f32 / frame.width() as f32;
            let landmarks = landmarks.map(|l| l.scaled(scale));
            shots.push(Shot { frame: frame.resized_area(options.side, options.side), landmarks });
            if shots.len() * bytes > MAX_PICTURE_BYTES {
                keep_every *= 2;
                let mut even = false;
                shots.retain(|_| {
                    even = !even;
                    even
                });
            }
        }
        clock.report("tracking", index as f32 / expected.max(1) as f32, index + 1, None)?;
    }
    let seen = shots.iter().filter(|s| s.landmarks.is_some()).count();
    if seen == 0 {
        bail!(
            "no face was found in the middle square of {} frames; face the camera, with light from the front",
            shots.len()
        );
    }
    let seconds = seen as f32 * keep_every as f32 / fps as f32;
    ensure!(
        seconds >= MIN_SECONDS,
        "a face was seen for {seconds:.1} s only; at least {MIN_SECONDS:.0} s are needed"
    );
    Ok(Recording { shots, side: options.side })
}
