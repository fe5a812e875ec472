//! Frames of a source in memory, scaled to the training side, with their landmarks.

use anyhow::{Context, bail, ensure};
use capture::{Source, SourceSpec};
use track::Tracker;
use types::{Landmarks, SquareFrame};

use crate::clock::BudgetClock;
use crate::options::EnrollOptions;

/// Memory limit for pictures in bytes. Beyond it every second frame is dropped.
const MAX_PICTURE_BYTES: usize = 1 << 30;
/// Shortest recording of a face that can be enrolled, in seconds.
const MIN_SECONDS: f32 = 2.0;
/// Largest number of frames that are read.
const MAX_FRAMES: u64 = 20_000;

/// Recorded frame with its landmarks.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    pub(crate) frame: SquareFrame,
    /// Landmarks in pixels of `frame`; `None` if no face was found.
    pub(crate) landmarks: Option<Landmarks>,
}

/// Frames of a source, in order of time.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    pub(crate) shots: Vec<Shot>,
    /// Side of every frame in pixels.
    pub(crate) side: u32,
}

/// Reads the whole source and tracks the face frame by frame, as in a call.
///
/// # Errors
/// If the source cannot be read, shows a face for less than two seconds, or the progress callback asks
/// to stop.
pub(crate) fn record(
    options: &EnrollOptions,
    clock: &mut BudgetClock<'_>,
) -> anyhow::Result<Recording> {
    let mut source = Source::open(&options.source)?;
    let mut tracker = Tracker::builtin()?;
    let fps = source.fps().max(1);
    let is_live = matches!(options.source, SourceSpec::Camera(_) | SourceSpec::Actor);
    let expected = match source.n_frames() {
        Some(n) if !is_live => n.min(MAX_FRAMES),
        _ => (options.record.as_secs_f32() * fps as f32) as u64,
    };
    let bytes = (options.side * options.side * 3) as usize;
    let mut keep_every = 1;
    let mut shots: Vec<Shot> = Vec::new();
    for index in 0..if is_live { expected } else { MAX_FRAMES } {
        let frame = match source.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(error) => return Err(error).context("reading the source"),
        };
        let landmarks = tracker.track(&frame);
        if index % keep_every == 0 {
            let scale = options.side as f32 / frame.side() as f32;
            let landmarks = landmarks.map(|l| l.scaled(scale));
            shots.push(Shot { frame: frame.resized_area(options.side), landmarks });
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
    let n_faces = shots.iter().filter(|s| s.landmarks.is_some()).count();
    if n_faces == 0 {
        bail!(
            "no face was found in the middle square of {} frames; face the camera, with light from the front",
            shots.len()
        );
    }
    let seconds = n_faces as f32 * keep_every as f32 / fps as f32;
    ensure!(
        seconds >= MIN_SECONDS,
        "a face was visible for only {seconds:.1} s; at least {MIN_SECONDS:.0} s are needed"
    );
    Ok(Recording { shots, side: options.side })
}
