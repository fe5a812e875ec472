//! Records the peer picture. Every moment of media time is rendered once, in order, on a thread of
//! its own, so a slow renderer delays the recording but never shortens it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use capture::ClipWriter;
use face::FaceModel;
use types::{Feature, MediaTime};

use crate::face_renderer::FaceRenderer;
use crate::panics;
use crate::render_stats::{RenderStats, RenderStatsRow, RenderedPicture, SettingsRow};

/// Frame rate of a recording, pictures per second.
pub(crate) const FPS: u32 = 25;
/// Most features waiting to be rendered: an hour of them.
const MAX_WAITING: usize = 90_000;
/// Longest pause that is recorded as a still picture, microseconds; longer ones are cut out.
const MAX_STILL_US: u64 = 10_000_000;
/// How far a still picture may make a recording longer than the time it took, microseconds. A jump
/// of media time that would exceed it is cut out.
const MAX_AHEAD_US: u64 = 2_000_000;
/// Longest pause that is recorded in any case, microseconds: features that waited for the face come
/// all at once.
const SHORT_STILL_US: u64 = 1_000_000;

enum Job {
    /// A decoded feature, and when it came.
    Feature(Box<Feature>, Instant),
    Size(SizeChange),
    /// A new model for the features that follow.
    Model(Arc<FaceModel>),
}

/// A new side for the pictures from a media time on.
struct SizeChange {
    from: MediaTime,
    /// Pixels.
    side: u32,
    requested: Instant,
}

/// A recording in progress.
pub(crate) struct Recorder {
    /// None once the recording is closed.
    jobs: Option<SyncSender<Job>>,
    worker: JoinHandle<anyhow::Result<Recorded>>,
    shared: Arc<Mutex<(RecorderState, RenderStats)>>,
}

/// Progress of a recording.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RecorderState {
    /// Number of pictures written.
    pub(crate) n_frames: u64,
    /// Side of the newest one, pixels.
    pub(crate) side: u32,
    /// Media time of the newest one.
    pub(crate) time: MediaTime,
}

/// A finished recording.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// Files or folders, a new one for each change of size.
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) n_frames: u64,
    /// Media time of the first picture.
    pub(crate) first: MediaTime,
}

impl Recorder {
    /// Starts to record `model` at `side` pixels into `writer`, which has [`FPS`].
    ///
    /// # Errors
    /// If the operating system cannot start a thread.
    pub(crate) fn start(
        writer: ClipWriter,
        model: Arc<FaceModel>,
        side: u32,
    ) -> anyhow::Result<Self> {
        let mut renderer = FaceRenderer::new(model);
        renderer.set_side(side);
        let (jobs, queue) = sync_channel(MAX_WAITING);
        let shared = Arc::new(Mutex::default());
        let worker = Worker {
            writer,
            renderer,
            side,
            size_changes: VecDeque::new(),
            n_frames: 0,
            shared: Arc::clone(&shared),
        };
        let worker = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || panics::contain(|| worker.record(&queue))?)?;
        Ok(Self { jobs: Some(jobs), worker, shared })
    }

    /// Adds features that were decoded by `now`, in order of media time; a second one of the same time
    /// replaces the first.
    pub(crate) fn push(&self, features: Vec<Feature>, now: Instant) {
        for feature in features {
            self.add(Job::Feature(Box::new(feature), now));
        }
    }

    /// Sets the side of the pictures from media time `from` on, as requested at `now`.
    pub(crate) fn set_side(&self, from: MediaTime, side: u32, now: Instant) {
        self.add(Job::Size(SizeChange { from, side, requested: now }));
    }

    /// Replaces the model for the features that follow.
    pub(crate) fn set_model(&self, model: Arc<FaceModel>) {
        self.add(Job::Model(model));
    }

    fn add(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // `finish` reports a failed writer; until then the call goes on.
            let _ = jobs.try_send(job);
        }
    }

    /// Takes nothing more. The rest is rendered, and the files are closed, in the background.
    pub(crate) fn close(&mut self) {
        self.jobs = None;
    }

    /// Returns whether the recorder has stopped: it failed, or it was closed and is done.
    /// [`Recorder::finish`] then returns at once.
    pub(crate) fn has_stopped(&self) -> bool {
        self.worker.is_finished()
    }

    /// Returns the progress, and the statistics since the last call.
    pub(crate) fn take_row(&self) -> (RecorderState, RenderStatsRow) {
        take_row(&self.shared)
    }

    /// Renders the remaining features and closes the files. Also returns the last
    /// [`Recorder::take_row`].
    pub(crate) fn finish(self) -> (anyhow::Result<Recorded>, (RecorderState, RenderStatsRow)) {
        let Self { jobs, worker, shared } = self;
        drop(jobs);
        let recorded = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (recorded, take_row(&shared))
    }
}

fn take_row(shared: &Mutex<(RecorderState, RenderStats)>) -> (RecorderState, RenderStatsRow) {
    shared.lock().map(|mut shared| (shared.0, shared.1.take_row())).unwrap_or_default()
}

/// State of the recorder's thread.
struct Worker {
    writer: ClipWriter,
    renderer: FaceRenderer,
    side: u32,
    /// Changes of size that are not due yet.
    size_changes: VecDeque<SizeChange>,
    n_frames: u64,
    shared: Arc<Mutex<(RecorderState, RenderStats)>>,
}

impl Worker {
    fn record(mut self, queue: &Receiver<Job>) -> anyhow::Result<Recorded> {
        let step = MediaTime::of_frame(1, FPS).as_micros();
        let mut last: Option<Feature> = None;
        // Media times of the first and of the next picture.
        let (mut first, mut next) = (MediaTime::ZERO, MediaTime::ZERO);
        let mut started = None;
        for job in queue {
            let (feature, came) = match job {
                Job::Size(change) => {
                    self.size_changes.push_back(change);
                    continue;
                }
                Job::Model(model) => {
                    self.renderer.set_model(model);
                    continue;
                }
                Job::Feature(feature, came) => (*feature, came),
            };
            let started = *started.get_or_insert(came);
            let Some(previous) = last else {
                (first, next) = (feature.time, feature.time);
                last = Some(feature);
                continue;
            };
            if feature.time <= previous.time {
                // A correction of the same frame.
                last = Some(if feature.time == previous.time { feature } else { previous });
                continue;
            }
            let pause = feature.time.as_micros() - previous.time.as_micros();
            let took = came.saturating_duration_since(started).as_micros() as u64;
            let is_ahead = self.n_frames * step + pause > took + took / 20 + MAX_AHEAD_US;
            if pause > MAX_STILL_US || (pause > SHORT_STILL_US && is_ahead) {
                next = feature.time;
            }
            while next < feature.time {
                self.write_picture(&previous, &feature, next)?;
                next = MediaTime::from_micros(next.as_micros() + step);
            }
            last = Some(feature);
        }
        if let Some(feature) = last.filter(|feature| feature.time >= next) {
            self.write_picture(&feature, &feature, next)?;
        }
        let paths = self.writer.finish()?;
        Ok(Recorded { paths, n_frames: self.n_frames, first })
    }

    /// Renders and writes the moment `time` between two features, at the size due then.
    fn write_picture(
        &mut self,
        before: &Feature,
        after: &Feature,
        time: MediaTime,
    ) -> anyhow::Result<()> {
        while let Some(change) = self.size_changes.pop_front_if(|change| change.from <= time) {
            if let Ok(mut shared) = self.shared.lock() {
                shared.1.request_size(change.requested, self.side, change.side);
            }
            self.side = change.side;
            self.renderer.set_side(change.side);
        }
        let started = Instant::now();
        let frame = self.renderer.render_frame(&Feature::between(before, after, time))?;
        let done = Instant::now();
        self.writer.push(&frame)?;
        self.n_frames += 1;
        if let Ok(mut shared) = self.shared.lock() {
            let (state, stats) = &mut *shared;
            *state = RecorderState { n_frames: self.n_frames, side: self.side, time };
            // No governor: recordings always have the requested size.
            let settings = SettingsRow {
                samples_per_ray: face::DEFAULT_SAMPLES,
                rendered_resolution: self.side,
                pictures_per_s_limit: f64::from(FPS),
            };
            let picture = RenderedPicture {
                path: self.renderer.name(),
                requested_side: self.side,
                settings,
                duration: Some(done - started),
            };
            stats.add_picture(done, picture);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use face::Sizes;
    use types::{Code, HeadPose};

    use super::*;

    fn feature(frame: u64, yaw: f32) -> Feature {
        let pose = HeadPose::from_array([0.0, yaw, 0.0, 0.0, 0.0, 1.0]).unwrap();
        Feature { time: MediaTime::of_frame(frame, FPS), pose, code: Code::NEUTRAL }
    }

    /// Interval at which features come.
    const INTERVAL: Duration = Duration::from_millis(40);

    fn recorded(name: &str, features: Vec<Feature>) -> Vec<u8> {
        let path = std::env::temp_dir().join(format!("{name}-{}.y4m", std::process::id()));
        let model = Arc::new(FaceModel::noise(Sizes::tiny(), 7));
        let writer = ClipWriter::record(&path, FPS).unwrap();
        let recorder = Recorder::start(writer, model, 32).unwrap();
        let started = Instant::now();
        for (i, feature) in (0..).zip(features) {
            recorder.push(vec![feature], started + i * INTERVAL);
        }
        let done = recorder.finish().0.unwrap();
        let bytes = std::fs::read(&done.paths[0]).unwrap();
        std::fs::remove_file(&done.paths[0]).unwrap();
        bytes
    }

    /// Returns the number of pictures of 32x32 pixels in a recording.
    fn n_pictures(recording: &[u8]) -> usize {
        recording.len() / (b"FRAME\n".len() + 32 * 32 * 3)
    }

    #[test]
    fn media_time_that_jumps_ahead_makes_no_long_recording() {
        // Ten features in 0.4 s, nine seconds of media time apart.
        let jumps = recorded("jumps", (0..10).map(|i| feature(225 * i, 0.1)).collect());
        assert!(n_pictures(&jumps) <= 60, "{} pictures", n_pictures(&jumps));
        // Features that waited for the face: many at once, with short pauses.
        let burst = recorded("burst", (0..50).map(|i| feature(5 * i, 0.1)).collect());
        assert_eq!(n_pictures(&burst), 246);
    }

    #[test]
    fn a_corrected_feature_replaces_the_first_one_in_the_recording() {
        let (a, b, correction, c) =
            (feature(0, 0.0), feature(2, 0.2), feature(2, 0.3), feature(4, 0.1));
        let corrected = recorded("corrected", vec![a, b, correction, c]);
        let uncorrected = recorded("uncorrected", vec![a, b, c]);
        let only_correction = recorded("only-correction", vec![a, correction, c]);
        // Five pictures of 32x32 pixels follow the header; the corrected moment is the third.
        let picture = b"FRAME\n".len() + 32 * 32 * 3;
        let pictures = |bytes: &[u8]| -> Vec<Vec<u8>> {
            bytes[bytes.len() - 5 * picture..].chunks(picture).map(<[u8]>::to_vec).collect()
        };
        let [corrected, uncorrected, only_correction] =
            [&corrected, &uncorrected, &only_correction].map(|bytes| pictures(bytes));
        // Renderers of one machine differ by a level.
        let off = |a: &[u8], b: &[u8]| -> u64 {
            a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum()
        };
        let [right, wrong] = [&only_correction[2], &uncorrected[2]];
        assert!(off(&corrected[2], right) * 4 < off(&corrected[2], wrong));
        let [right, wrong] = [&uncorrected[1], &only_correction[1]];
        assert!(off(&corrected[1], right) * 4 < off(&corrected[1], wrong));
    }
}
