//! Records the peer: every moment of media time is shown once, in order, and heard with it. That happens on a
//! thread of its own, so a slow renderer delays the recording but never shortens it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use capture::ClipWriter;
use face::FaceModel;
use types::{Feature, MediaTime, Sound};

use crate::panics;
use crate::recorded_peer::RecordedPeer;
use crate::recording_timeline::RecordingTimeline;
use crate::render_stats::{RenderStats, RenderStatsRow, RenderedPicture, SettingsRow};

/// Frame rate of a recording, pictures per second.
pub(crate) const FPS: u32 = 25;
/// Most jobs waiting for the renderer: an hour of features and sound.
const MAX_WAITING: usize = 110_000;
/// How long features wait for the sound of their time, and pictures for features once there is sound of their
/// time.
const MAX_WAIT: Duration = Duration::from_millis(1500);
const FEATURE_WAIT: Duration = Duration::from_secs(1);

/// What has come of the peer by a moment.
pub(crate) struct Received {
    /// Decoded features.
    pub(crate) features: Vec<Feature>,
    /// What was heard and said, on the same clock.
    pub(crate) sounds: Vec<Sound>,
    pub(crate) now: Instant,
}

enum Job {
    Received(Received),
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
    /// Starts to record `peer` into `writer`, which has [`FPS`].
    ///
    /// # Errors
    /// If the operating system cannot start a thread.
    pub(crate) fn start(writer: ClipWriter, peer: RecordedPeer) -> anyhow::Result<Self> {
        let (jobs, queue) = sync_channel(MAX_WAITING);
        let shared = Arc::new(Mutex::default());
        let worker = Worker {
            writer,
            peer,
            size_changes: VecDeque::new(),
            timeline: None,
            features: VecDeque::new(),
            last: None,
            sounds: VecDeque::new(),
            heard: None,
            shared: Arc::clone(&shared),
        };
        let worker = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || panics::contain(|| worker.record(&queue))?)?;
        Ok(Self { jobs: Some(jobs), worker, shared })
    }

    /// Adds features and sound, each in order of media time; a second feature of the same time replaces the
    /// first.
    pub(crate) fn push(&self, received: Received) {
        self.add(Job::Received(received));
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
    peer: RecordedPeer,
    /// Changes of size that are not due yet.
    size_changes: VecDeque<SizeChange>,
    /// None before the first feature or sound.
    timeline: Option<RecordingTimeline>,
    /// Features that wait for the sound of their time, and when they came.
    features: VecDeque<(Feature, Instant)>,
    /// The newest feature in the recording.
    last: Option<Feature>,
    /// Sound that waits for the pictures of its time.
    sounds: VecDeque<Sound>,
    /// Media time up to which there is sound, and when the newest of it came.
    heard: Option<(MediaTime, Instant)>,
    shared: Arc<Mutex<(RecorderState, RenderStats)>>,
}

impl Worker {
    fn record(mut self, queue: &Receiver<Job>) -> anyhow::Result<Recorded> {
        let mut newest = None;
        for job in queue {
            match job {
                Job::Size(change) => self.size_changes.push_back(change),
                Job::Model(model) => self.peer.set_model(model),
                Job::Received(received) => {
                    newest = Some(received.now);
                    self.receive(received)?;
                }
            }
        }
        if let Some(now) = newest {
            self.complete(now)?;
        }
        let timeline = self.timeline.as_ref();
        let first = timeline.map_or(MediaTime::ZERO, RecordingTimeline::first);
        let n_frames = timeline.map_or(0, RecordingTimeline::n_pictures);
        Ok(Recorded { paths: self.writer.finish()?, n_frames, first })
    }

    fn receive(&mut self, received: Received) -> anyhow::Result<()> {
        let Received { features, sounds, now } = received;
        self.features.extend(features.into_iter().map(|feature| (feature, now)));
        for sound in sounds {
            let end = end_of(&sound);
            let newest = self.heard.map_or(end, |(newest, _)| newest.max(end));
            self.heard = Some((newest, now));
            self.sounds.push_back(sound);
        }
        let feature = self.features.front().map(|(feature, _)| feature.time);
        let sound = self.sounds.front().map(|sound| sound.time);
        let Some(first) = [feature, sound].into_iter().flatten().min() else { return Ok(()) };
        self.timeline.get_or_insert_with(|| RecordingTimeline::new(FPS, first, now));
        while let Some((feature, _)) =
            self.features.pop_front_if(|next| is_due(next, self.heard, now))
        {
            self.show(feature, now)?;
        }
        // A voice without features: the peer has no face, or hides it.
        if let Some((heard, _)) = self.heard {
            let until = heard.as_micros().saturating_sub(FEATURE_WAIT.as_micros() as u64);
            self.show_still(MediaTime::from_micros(until), now)?;
        }
        self.hand_over_sound();
        Ok(())
    }

    /// Shows the moments up to a feature.
    fn show(&mut self, feature: Feature, now: Instant) -> anyhow::Result<()> {
        let Some(previous) = self.last else {
            self.last = Some(feature);
            return self.show_still(feature.time, now);
        };
        if feature.time <= previous.time {
            // A correction of the same frame.
            self.last = Some(if feature.time == previous.time { feature } else { previous });
            return Ok(());
        }
        self.write_pictures(feature.time, now, Some((&previous, &feature)))?;
        self.last = Some(feature);
        Ok(())
    }

    /// Shows the newest feature, or the peer's name, up to a moment.
    fn show_still(&mut self, until: MediaTime, now: Instant) -> anyhow::Result<()> {
        let last = self.last;
        self.write_pictures(until, now, last.as_ref().map(|last| (last, last)))
    }

    /// Shows what is left.
    fn complete(&mut self, now: Instant) -> anyhow::Result<()> {
        while let Some((feature, _)) = self.features.pop_front() {
            self.show(feature, now)?;
        }
        if let Some((heard, _)) = self.heard {
            self.show_still(heard, now)?;
        }
        let last = self.last;
        if let Some(last) = last
            && self.timeline.as_ref().is_some_and(|timeline| last.time >= timeline.next())
        {
            self.write_picture(Some((&last, &last)))?;
        }
        self.hand_over_sound();
        Ok(())
    }

    /// Writes the pictures before `until`, between two features.
    fn write_pictures(
        &mut self,
        until: MediaTime,
        now: Instant,
        between: Option<(&Feature, &Feature)>,
    ) -> anyhow::Result<()> {
        if let Some(timeline) = &mut self.timeline {
            timeline.reach(until, now);
        }
        while self.timeline.as_ref().is_some_and(|timeline| timeline.next() < until) {
            self.write_picture(between)?;
        }
        Ok(())
    }

    /// Renders and writes the next picture, between two features, at the size due then.
    fn write_picture(&mut self, between: Option<(&Feature, &Feature)>) -> anyhow::Result<()> {
        self.hand_over_sound();
        let Some(timeline) = &mut self.timeline else { return Ok(()) };
        let time = timeline.next();
        while let Some(change) = self.size_changes.pop_front_if(|change| change.from <= time) {
            if let Ok(mut shared) = self.shared.lock() {
                shared.1.request_size(change.requested, self.peer.side(), change.side);
            }
            self.peer.set_side(change.side);
        }
        let feature = between.map(|(before, after)| Feature::between(before, after, time));
        let started = Instant::now();
        let (frame, is_rendered) = self.peer.at(feature.as_ref(), time)?;
        let done = Instant::now();
        self.writer.push(&frame)?;
        timeline.advance();
        let side = self.peer.side();
        if let Ok(mut shared) = self.shared.lock() {
            let (state, stats) = &mut *shared;
            *state = RecorderState { n_frames: timeline.n_pictures(), side, time };
            // No governor: recordings always have the requested size.
            let settings = SettingsRow {
                samples_per_ray: face::DEFAULT_SAMPLES,
                rendered_resolution: side,
                pictures_per_s_limit: f64::from(FPS),
            };
            let picture = RenderedPicture {
                path: self.peer.renderer(),
                requested_side: side,
                settings,
                duration: is_rendered.then(|| done - started),
            };
            stats.add_picture(done, picture);
        }
        Ok(())
    }

    /// Gives the writer the sound whose place in the recording is known: that before the next picture.
    fn hand_over_sound(&mut self) {
        let Some(timeline) = &self.timeline else { return };
        while let Some(sound) = self.sounds.pop_front_if(|sound| sound.time < timeline.next()) {
            if let Some(time) = timeline.position(sound.time) {
                self.writer.record_sound(Sound { time, ..sound });
            }
        }
    }
}

/// Returns whether a feature that came at some time is shown now: there is sound of its time, or none is to be
/// expected.
fn is_due(
    (feature, came): &(Feature, Instant),
    heard: Option<(MediaTime, Instant)>,
    now: Instant,
) -> bool {
    let is_over = |since: Instant| now.saturating_duration_since(since) > MAX_WAIT;
    heard.is_none_or(|(until, heard_at)| {
        feature.time <= until || (is_over(*came) && is_over(heard_at))
    })
}

fn end_of(sound: &Sound) -> MediaTime {
    let micros = sound.samples.len() as u64 * 1_000_000 / u64::from(Sound::RATE);
    MediaTime::from_micros(sound.time.as_micros().saturating_add(micros))
}

#[cfg(test)]
mod tests {
    use capture::{Source, SourceSpec};
    use face::Sizes;
    use types::{Code, HeadPose, PeerName};

    use super::*;

    fn feature(frame: u64, yaw: f32) -> Feature {
        let pose = HeadPose::from_array([0.0, yaw, 0.0, 0.0, 0.0, 1.0]).unwrap();
        Feature { time: MediaTime::of_frame(frame, FPS), pose, code: Code::NEUTRAL }
    }

    /// Interval at which features come.
    const INTERVAL: Duration = Duration::from_millis(40);

    fn face() -> RecordedPeer {
        let model = Arc::new(FaceModel::noise(Sizes::tiny(), 7));
        RecordedPeer::new(Some(model), PeerName::default(), 32)
    }

    fn recorded(name: &str, features: Vec<Feature>) -> Vec<u8> {
        let path = std::env::temp_dir().join(format!("{name}-{}.y4m", std::process::id()));
        let writer = ClipWriter::record(&path, FPS).unwrap();
        let recorder = Recorder::start(writer, face()).unwrap();
        let started = Instant::now();
        for (i, feature) in (0..).zip(features) {
            let now = started + i * INTERVAL;
            recorder.push(Received { features: vec![feature], sounds: Vec::new(), now });
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

    /// Ten seconds of clicks, one each second, in pieces of 10 ms from a media time on.
    fn clicks(from_ms: u64) -> Vec<Sound> {
        let piece = |i: u64| {
            let level = if i.is_multiple_of(100) { 0.8 } else { 0.0 };
            let time = MediaTime::from_micros(1000 * (from_ms + 10 * i));
            Sound { time, samples: vec![level; 480] }
        };
        (0..1000).map(piece).collect()
    }

    /// Records into a folder, whose sound is not compressed: `received` says what has come by each hundredth of a
    /// second. Returns the number of pictures, and the times of clicks in milliseconds.
    fn heard(
        name: &str,
        peer: RecordedPeer,
        received: impl Fn(u64) -> (Vec<Feature>, Vec<Sound>),
    ) -> (u64, Vec<u64>) {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let writer = ClipWriter::record(&path, FPS).unwrap().with_sound();
        let recorder = Recorder::start(writer, peer).unwrap();
        let started = Instant::now();
        for i in 0..1300 {
            let (features, sounds) = received(i);
            let now = started + Duration::from_millis(10 * i);
            recorder.push(Received { features, sounds, now });
        }
        let done = recorder.finish().0.unwrap();
        let mut source = Source::open(&SourceSpec::Clip(path.clone())).unwrap();
        let mut samples = Vec::new();
        while let Some(sound) = source.next_sound().unwrap() {
            samples.extend(sound.samples);
        }
        let starts = (0..samples.len()).filter(|&i| {
            samples[i] > 0.4 && !samples[i.saturating_sub(600)..i].iter().any(|s| *s > 0.4)
        });
        let clicks = starts.map(|i| i as u64 / 48).collect();
        std::fs::remove_dir_all(path).unwrap();
        (done.n_frames, clicks)
    }

    /// The features of a moment, which come as soon as they are there: 25 a second.
    fn feature_at(ms: u64) -> Vec<Feature> {
        if ms.is_multiple_of(40) { vec![feature(ms / 40, 0.1)] } else { Vec::new() }
    }

    /// Each second from the first on, in milliseconds.
    fn each_second(n: u64) -> Vec<u64> {
        (0..n).map(|i| 1000 * i).collect()
    }

    #[test]
    fn sound_that_is_played_later_than_features_come_is_in_time() {
        let sounds = clicks(0);
        for late in [0, 30, 80] {
            let received = |i: u64| {
                let features = if i < 1000 { feature_at(10 * i) } else { Vec::new() };
                let sound = i.checked_sub(late).and_then(|i| sounds.get(i as usize));
                (features, sound.cloned().into_iter().collect())
            };
            let (n_frames, clicks) = heard(&format!("late-{late}"), face(), received);
            assert_eq!((n_frames, clicks), (250, each_second(10)), "{late}");
        }
    }

    #[test]
    fn a_voice_without_a_face_is_recorded_with_its_name() {
        let sounds = clicks(7000);
        let received = |i: u64| (Vec::new(), sounds.get(i as usize).cloned().into_iter().collect());
        let nameless = RecordedPeer::new(None, PeerName::default(), 32);
        assert_eq!(heard("voice", nameless, received), (250, each_second(10)));
    }

    #[test]
    fn a_voice_goes_on_while_the_face_is_hidden() {
        let sounds = clicks(0);
        // Nothing is seen from 2 s to 9.2 s.
        let is_seen = |ms: u64| !(2000..9200).contains(&ms) && ms < 10_000;
        let received = |i: u64| {
            let features = if is_seen(10 * i) { feature_at(10 * i) } else { Vec::new() };
            (features, sounds.get(i as usize).cloned().into_iter().collect())
        };
        assert_eq!(heard("hidden", face(), received), (250, each_second(10)));
    }

    #[test]
    fn what_waited_for_the_face_comes_at_once_and_in_time() {
        let sounds = clicks(500);
        let received = |i: u64| match i {
            400 => ((0..90).map(|i| feature(i + 15, 0.1)).collect(), sounds[..350].to_vec()),
            401.. => {
                let features = if i < 1050 { feature_at(10 * i) } else { Vec::new() };
                (features, sounds.get(i as usize - 51).cloned().into_iter().collect())
            }
            _ => (Vec::new(), Vec::new()),
        };
        let (n_frames, clicks) = heard("waited", face(), received);
        assert_eq!((n_frames, clicks), (250, each_second(10)));
    }
}
