//! The recordings of a call, one for each peer: a host that keeps its link may have several.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use capture::ClipWriter;
use face::FaceModel;
use types::{Feature, MediaTime, Sound};

use crate::recorded_peer::RecordedPeer;
use crate::recorder::{FPS, Received, Recorded, Recorder, RecorderState};
use crate::render_stats::RenderStatsRow;

/// Most recordings of peers that have left that are still rendered. While there are as many, the
/// next peer is not recorded: each holds a renderer and up to an hour of features.
const MAX_ENDING: usize = 4;

/// Most pieces of sound that are kept until a recording begins: a minute of 10 ms each.
const MAX_EARLY: usize = 6000;
/// Fewest pieces of sound that are passed on alone.
const MIN_SOUNDS: usize = 20;

/// Recordings of a call.
#[derive(Default)]
pub(crate) struct Recordings {
    /// Where the first recording goes; none if nothing is recorded.
    path: Option<PathBuf>,
    /// Writes the first recording, until it begins.
    writer: Option<ClipWriter>,
    /// Number of the newest recording, from 1.
    number: u32,
    with_sound: bool,
    /// Whether the peer of now was not recorded yet.
    is_due: bool,
    /// Sound that is not passed on yet, oldest first.
    sounds: VecDeque<Sound>,
    current: Option<Recorder>,
    /// Recordings of peers that have left, oldest first.
    ending: Vec<Recorder>,
    finished: Vec<Recorded>,
}

/// What is left of recordings after a call.
pub(crate) struct FinishedRecordings {
    /// In the order of the peers.
    pub(crate) recorded: Vec<Recorded>,
    /// Last row of the recording that went on until the end.
    pub(crate) row: (RecorderState, RenderStatsRow),
    pub(crate) errors: Vec<anyhow::Error>,
}

impl Recordings {
    /// Prepares recordings, with sound if the format has it; without a path, records nothing.
    ///
    /// # Errors
    /// If the first one cannot be written where it is to go.
    pub(crate) fn new(path: Option<PathBuf>, with_sound: bool) -> anyhow::Result<Self> {
        let writer = path.as_deref().map(|path| writer(path, with_sound)).transpose()?;
        Ok(Self { is_due: path.is_some(), path, writer, with_sound, ..Self::default() })
    }

    /// Returns whether peers are recorded, and with sound.
    pub(crate) fn want_sound(&self) -> bool {
        self.with_sound && self.path.is_some()
    }

    /// Returns whether sound is wanted and will be missing, because of the format.
    pub(crate) fn lack_sound(&self) -> bool {
        self.with_sound && self.writer.as_ref().is_some_and(|writer| !writer.has_sound())
    }

    /// Returns whether there is sound of a peer that is not recorded yet, but should be.
    pub(crate) fn have_early_sound(&self) -> bool {
        self.is_due && !self.sounds.is_empty()
    }

    /// Begins to record a peer, unless that was done before.
    ///
    /// # Errors
    /// If the recording cannot be written; the peer is then not recorded.
    pub(crate) fn begin(&mut self, peer: impl FnOnce() -> RecordedPeer) -> anyhow::Result<()> {
        let Some(path) = self.path.as_deref().filter(|_| self.is_due) else { return Ok(()) };
        self.is_due = false;
        let n_ending = self.ending.len();
        anyhow::ensure!(
            n_ending < MAX_ENDING,
            "this guest is not recorded: the recordings of {n_ending} guests before are not rendered yet"
        );
        let path = loop {
            self.number += 1;
            let path = numbered(path, self.number);
            // Something of somebody else is not replaced.
            let is_free = path.symlink_metadata().is_err() || capture::is_own_clip(&path);
            if self.writer.is_some() || is_free {
                break path;
            }
        };
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => writer(&path, self.with_sound)?,
        };
        self.current = Some(Recorder::start(writer, peer())?);
        Ok(())
    }

    /// Ends the recording of a peer that has left. What is left of it is rendered while the call
    /// goes on; the next peer gets a file of its own.
    pub(crate) fn end_peer(&mut self) {
        self.is_due = self.path.is_some();
        self.pass_on(Vec::new(), Instant::now(), 1);
        self.sounds.clear();
        if let Some(mut recorder) = self.current.take() {
            recorder.close();
            self.ending.push(recorder);
        }
    }

    /// Adds features of the peer, if it is recorded, and sound, of which a minute is kept until it is.
    pub(crate) fn push(&mut self, features: Vec<Feature>, sounds: Vec<Sound>, now: Instant) {
        if self.current.is_some() || self.is_due {
            self.sounds.extend(sounds);
        }
        let n_sounds = if features.is_empty() { MIN_SOUNDS } else { 1 };
        self.pass_on(features, now, n_sounds);
        while self.sounds.len() > MAX_EARLY {
            self.sounds.pop_front();
        }
    }

    /// Gives the recorder features, and sound if there are `n_sounds` pieces of it.
    fn pass_on(&mut self, features: Vec<Feature>, now: Instant, n_sounds: usize) {
        let Some(recorder) = &self.current else { return };
        let is_enough = self.sounds.len() >= n_sounds;
        let sounds = if is_enough { self.sounds.drain(..).collect() } else { Vec::new() };
        if !features.is_empty() || !sounds.is_empty() {
            recorder.push(Received { features, sounds, now });
        }
    }

    /// Sets the side of the pictures from media time `from` on, as requested at `now`.
    pub(crate) fn set_side(&self, from: MediaTime, side: u32, now: Instant) {
        if let Some(recorder) = &self.current {
            recorder.set_side(from, side, now);
        }
    }

    /// Replaces the model for the features that follow.
    pub(crate) fn set_model(&self, model: &Arc<FaceModel>) {
        if let Some(recorder) = &self.current {
            recorder.set_model(Arc::clone(model));
        }
    }

    /// Closes recordings that are done or have failed; returns the errors.
    pub(crate) fn poll(&mut self) -> Vec<anyhow::Error> {
        let ending = self.ending.extract_if(.., |recorder| recorder.has_stopped());
        let stopped: Vec<_> =
            ending.chain(self.current.take_if(|recorder| recorder.has_stopped())).collect();
        stopped.into_iter().filter_map(|recorder| self.collect(recorder.finish().0)).collect()
    }

    /// Returns whether anything is not rendered yet.
    pub(crate) fn are_running(&self) -> bool {
        self.current.is_some() || !self.ending.is_empty()
    }

    /// Returns progress and statistics of the recording in progress, since the last call.
    pub(crate) fn take_row(&self) -> (RecorderState, RenderStatsRow) {
        self.current.as_ref().map(Recorder::take_row).unwrap_or_default()
    }

    /// Renders what is left and closes all files.
    pub(crate) fn finish(mut self) -> FinishedRecordings {
        self.pass_on(Vec::new(), Instant::now(), 1);
        let mut errors = Vec::new();
        for recorder in std::mem::take(&mut self.ending) {
            errors.extend(self.collect(recorder.finish().0));
        }
        let mut row = <_>::default();
        if let Some(recorder) = self.current.take() {
            let (recorded, last_row) = recorder.finish();
            errors.extend(self.collect(recorded));
            row = last_row;
        }
        FinishedRecordings { recorded: self.finished, row, errors }
    }

    fn collect(&mut self, recorded: anyhow::Result<Recorded>) -> Option<anyhow::Error> {
        recorded.map(|recorded| self.finished.push(recorded)).err()
    }
}

fn writer(path: &Path, with_sound: bool) -> anyhow::Result<ClipWriter> {
    let writer = ClipWriter::record(path, FPS)?;
    Ok(if with_sound { writer.with_sound() } else { writer })
}

/// Returns the path of the `n`-th recording: `call.mp4`, `call-2.mp4`.
fn numbered(path: &Path, n: u32) -> PathBuf {
    if n == 1 {
        return path.to_owned();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{n}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use face::Sizes;
    use types::{Code, HeadPose, PeerName};

    use super::*;

    fn feature(frame: u64) -> Feature {
        let pose = HeadPose::from_array([0.0, 0.1, 0.0, 0.0, 0.0, 1.0]).unwrap();
        Feature { time: MediaTime::of_frame(frame, FPS), pose, code: Code::NEUTRAL }
    }

    #[test]
    fn the_recording_of_the_second_peer_has_a_number() {
        for (path, second) in
            [("call.mp4", "call-2.mp4"), ("of/a.b.y4m", "of/a.b-2.y4m"), ("pictures", "pictures-2")]
        {
            assert_eq!(numbered(path.as_ref(), 1), Path::new(path));
            assert_eq!(numbered(path.as_ref(), 2), Path::new(second));
        }
    }

    #[test]
    fn each_peer_gets_a_recording_of_its_own() {
        let folder = std::env::temp_dir().join(format!("recordings-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("call.y4m");
        let foreign = folder.join("call-2.y4m");
        std::fs::write(&foreign, "somebody's film").unwrap();
        let model = Arc::new(FaceModel::noise(Sizes::tiny(), 7));
        let mut recordings = Recordings::new(Some(path.clone()), false).unwrap();
        let started = Instant::now();
        for peer in 0..3 {
            // The second peer shows no face.
            if peer != 1 {
                let picture =
                    || RecordedPeer::new(Some(Arc::clone(&model)), PeerName::default(), 32);
                recordings.begin(picture).unwrap();
                recordings.push((0..10 + peer).map(feature).collect(), Vec::new(), started);
            }
            // Nothing of the next peer gets into a recording that has ended.
            recordings.end_peer();
            recordings.push(vec![feature(500)], Vec::new(), started);
        }
        let finished = recordings.finish();
        assert!(finished.errors.is_empty());
        let paths: Vec<_> = finished.recorded.iter().flat_map(|one| &one.paths).collect();
        assert_eq!(paths, [&path, &folder.join("call-3.y4m")]);
        assert_eq!(std::fs::read(&foreign).unwrap(), b"somebody's film");
        let n_frames: Vec<_> = finished.recorded.iter().map(|one| one.n_frames).collect();
        assert_eq!(n_frames, [10, 12]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
