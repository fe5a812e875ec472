//! Records the peer's rendered face: every moment of media time is painted once, in order, on a
//! thread of its own, so that a slow renderer makes the recording late and never short.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context;
use capture::ClipWriter;
use face::FaceModel;
use types::{Feature, MediaTime};

use crate::painted::{Drawn, EffortRow, Painted, PaintedRow};
use crate::painter::Painter;

/// Pictures a second of a recording.
pub(crate) const FPS: u32 = 25;
/// Features that may wait to be painted: an hour of them.
const MAX_WAITING: usize = 90_000;
/// A longer silence is cut out of the recording instead of being shown as a still.
const MAX_STILL: u64 = 10_000_000;

enum Job {
    Feature(Box<Feature>),
    Side(NewSide),
    /// A finer model of the face, for the features that follow.
    Model(Arc<FaceModel>),
}

/// From a media time on, pictures have another side.
struct NewSide {
    from: MediaTime,
    side: u32,
    /// When somebody asked for it.
    asked: Instant,
}

/// A recording in progress.
pub(crate) struct Recorder {
    jobs: SyncSender<Job>,
    worker: JoinHandle<anyhow::Result<Recorded>>,
    state: Arc<Mutex<(RecorderState, Painted)>>,
}

/// How far a recording is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RecorderState {
    /// Pictures painted.
    pub(crate) n_frames: u64,
    /// Side of the newest one.
    pub(crate) side: u32,
    /// Media time of the newest one.
    pub(crate) time: MediaTime,
}

/// A finished recording.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// Files or folders, one for each stretch of the same size.
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) n_frames: u64,
    /// Media time of the first picture.
    pub(crate) first: MediaTime,
}

impl Recorder {
    /// Starts a recording of `model` at `side` pixels into `path`.
    pub(crate) fn start(path: &Path, model: Arc<FaceModel>, side: u32) -> anyhow::Result<Self> {
        let writer = ClipWriter::create(path, FPS)
            .with_context(|| format!("cannot record to {}", path.display()))?;
        let mut painter = Painter::new(model);
        painter.resize(side);
        let (jobs, queue) = sync_channel(MAX_WAITING);
        let state = Arc::new(Mutex::default());
        let worker = Worker {
            writer,
            painter,
            side,
            sides: VecDeque::new(),
            n_frames: 0,
            shared: Arc::clone(&state),
        };
        let worker = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || worker.record(&queue))?;
        Ok(Self { jobs, worker, state })
    }

    /// Hands over decoded features, in the order of their media time; a second one of a time replaces
    /// the first.
    pub(crate) fn push(&self, features: Vec<Feature>) {
        for feature in features {
            // A full queue or a failed writer is told by `finish`; the call goes on.
            let _ = self.jobs.try_send(Job::Feature(Box::new(feature)));
        }
    }

    /// Changes the size of the pictures that show `from` and later, as somebody asks for at `now`.
    pub(crate) fn resize(&self, from: MediaTime, side: u32, now: Instant) {
        let _ = self.jobs.try_send(Job::Side(NewSide { from, side, asked: now }));
    }

    /// Goes on with another model of the same face.
    pub(crate) fn refine(&self, model: Arc<FaceModel>) {
        let _ = self.jobs.try_send(Job::Model(model));
    }

    /// How far it is, and what painting came to since this was asked last.
    pub(crate) fn take_row(&self) -> (RecorderState, PaintedRow) {
        self.state.lock().map(|mut state| (state.0, state.1.take_row())).unwrap_or_default()
    }

    /// Paints what is left and closes the files. With it, what [`Recorder::take_row`] gives last.
    pub(crate) fn finish(self) -> (anyhow::Result<Recorded>, (RecorderState, PaintedRow)) {
        let Self { jobs, worker, state } = self;
        drop(jobs);
        let recorded = worker
            .join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the recorder stopped unexpectedly")));
        let row = state.lock().map(|mut state| (state.0, state.1.take_row())).unwrap_or_default();
        (recorded, row)
    }
}

/// What the recorder's thread works with.
struct Worker {
    writer: ClipWriter,
    painter: Painter,
    side: u32,
    /// Sizes to come.
    sides: VecDeque<NewSide>,
    n_frames: u64,
    shared: Arc<Mutex<(RecorderState, Painted)>>,
}

impl Worker {
    fn record(mut self, queue: &Receiver<Job>) -> anyhow::Result<Recorded> {
        let step = MediaTime::of_frame(1, FPS).as_micros();
        let mut last: Option<Feature> = None;
        // The moments that the first and the next picture show.
        let (mut first, mut next) = (MediaTime::ZERO, MediaTime::ZERO);
        for job in queue {
            let feature = match job {
                Job::Side(new) => {
                    self.sides.push_back(new);
                    continue;
                }
                Job::Model(model) => {
                    self.painter.refine(model);
                    continue;
                }
                Job::Feature(feature) => *feature,
            };
            let Some(before) = last else {
                (first, next) = (feature.time, feature.time);
                last = Some(feature);
                continue;
            };
            if feature.time <= before.time {
                // The same frame, better.
                last = Some(if feature.time == before.time { feature } else { before });
                continue;
            }
            if feature.time.as_micros() - before.time.as_micros() > MAX_STILL {
                next = feature.time;
            }
            while next < feature.time {
                self.paint(&before, &feature, next)?;
                next = MediaTime::from_micros(next.as_micros() + step);
            }
            last = Some(feature);
        }
        if let Some(feature) = last.filter(|feature| feature.time >= next) {
            self.paint(&feature, &feature, next)?;
        }
        let paths = self.writer.finish().context("cannot finish the recording")?;
        Ok(Recorded { paths, n_frames: self.n_frames, first })
    }

    /// Paints one moment between two features, at the size that moment asks for.
    fn paint(&mut self, before: &Feature, after: &Feature, time: MediaTime) -> anyhow::Result<()> {
        while let Some(new) = self.sides.pop_front_if(|new| new.from <= time) {
            if let Ok(mut shared) = self.shared.lock() {
                shared.1.ask(new.asked, self.side, new.side);
            }
            self.side = new.side;
            self.painter.resize(new.side);
        }
        let started = Instant::now();
        let frame = self.painter.paint(&Feature::between(before, after, time))?;
        let done = Instant::now();
        self.writer.push(&frame).context("cannot write the recording")?;
        self.n_frames += 1;
        if let Ok(mut shared) = self.shared.lock() {
            let (state, painted) = &mut *shared;
            *state = RecorderState { n_frames: self.n_frames, side: self.side, time };
            // A recording is never governed: it has the size that was asked for.
            let effort = EffortRow {
                samples_per_ray: face::DEFAULT_SAMPLES,
                rendered_resolution: self.side,
                pictures_per_s_limit: f64::from(FPS),
            };
            let took = Some(done - started);
            let drawn = Drawn { path: self.painter.name(), asked: self.side, effort, took };
            painted.picture(done, drawn);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use face::Sizes;
    use types::{Code, HeadPose};

    use super::*;

    fn feature(frame: u64, yaw: f32) -> Feature {
        let pose = HeadPose::from_array([0.0, yaw, 0.0, 0.0, 0.0, 1.0]).unwrap();
        Feature { time: MediaTime::of_frame(frame, FPS), pose, code: Code::NEUTRAL }
    }

    fn recorded(name: &str, features: Vec<Feature>) -> Vec<u8> {
        let path = std::env::temp_dir().join(format!("{name}-{}.y4m", std::process::id()));
        let model = Arc::new(FaceModel::noise(Sizes::tiny(), 7));
        let recorder = Recorder::start(&path, model, 32).unwrap();
        recorder.push(features);
        let done = recorder.finish().0.unwrap();
        let bytes = std::fs::read(&done.paths[0]).unwrap();
        std::fs::remove_file(&done.paths[0]).unwrap();
        bytes
    }

    #[test]
    fn a_frame_that_is_told_again_is_painted_as_it_was_told_last() {
        let (a, b, better, c) =
            (feature(0, 0.0), feature(2, 0.2), feature(2, 0.3), feature(4, 0.1));
        let told_again = recorded("again", vec![a, b, better, c]);
        let first = recorded("first", vec![a, b, c]);
        // Pictures of the same size before and after it; its own is the third.
        let header = told_again.len() % 5;
        let picture = (told_again.len() - header) / 5;
        let pictures = |bytes: &[u8]| -> Vec<Vec<u8>> {
            bytes[bytes.len() - 5 * picture..].chunks(picture).map(<[u8]>::to_vec).collect()
        };
        let better = pictures(&recorded("better", vec![a, better, c]));
        let (told_again, first) = (pictures(&told_again), pictures(&first));
        // Painters of one machine differ by a level.
        let off = |a: &[u8], b: &[u8]| -> u64 {
            a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum()
        };
        assert!(off(&told_again[2], &better[2]) * 4 < off(&told_again[2], &first[2]));
        assert!(off(&told_again[1], &first[1]) * 4 < off(&told_again[1], &better[1]));
    }
}
