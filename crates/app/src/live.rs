//! A running call with everything around it: recording, statistics, scripted actions. The window
//! and the headless commands drive the same one.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use call::{Call, Command, End, Event, Stats};
use face::FaceModel;
use serde::Serialize;
use types::MediaTime;

use crate::cli::{Action, Rate, Resolution, Scripted};
use crate::recorder::{Recorded, Recorder, RecorderState};

/// What a person may ask for around a call.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) record: Option<PathBuf>,
    pub(crate) resolution: Resolution,
    pub(crate) rate: Rate,
    pub(crate) stats: Option<PathBuf>,
    /// Counted from the moment the peers are connected.
    pub(crate) duration: Option<Duration>,
    pub(crate) script: Vec<Scripted>,
}

/// One line of `--stats`.
#[derive(Serialize)]
struct Row {
    /// Seconds since the peers were connected; `t_s` counts from the setting up.
    call_s: f64,
    #[serde(flatten)]
    stats: Stats,
    /// Pictures recorded so far, and the media time and side of the newest.
    recorded_frames: u64,
    recorded_media_time_s: f64,
    recorded_resolution: u32,
}

/// Recordings and headless calls have no window to follow.
const HEADLESS_SIDE: u32 = 256;

pub(crate) struct Live {
    call: Call,
    record: Option<PathBuf>,
    recorder: Option<Recorder>,
    stats: Option<BufWriter<File>>,
    duration: Option<Duration>,
    script: VecDeque<Scripted>,
    connected: Option<Instant>,
    next_row: Duration,
    resolution: Resolution,
    rate: Rate,
    is_muted: bool,
    is_camera_off: bool,
    newest: MediaTime,
    ended: Option<End>,
}

/// What is left of a call.
pub(crate) struct Summary {
    pub(crate) stats: Stats,
    pub(crate) recorded: Option<Recorded>,
    pub(crate) ended: End,
    /// Seconds that the peers were connected.
    pub(crate) seconds: f64,
}

impl Live {
    pub(crate) fn new(call: Call, options: Options) -> anyhow::Result<Self> {
        let stats = options.stats.as_deref().map(create).transpose()?;
        let mut script: Vec<_> = options.script;
        script.sort_by_key(|scripted| scripted.at);
        Ok(Self {
            call,
            record: options.record,
            recorder: None,
            stats,
            duration: options.duration,
            script: script.into(),
            connected: None,
            next_row: Duration::ZERO,
            resolution: options.resolution,
            rate: options.rate,
            is_muted: false,
            is_camera_off: false,
            newest: MediaTime::ZERO,
            ended: None,
        })
    }

    /// Handles what has happened, waiting for it up to `patience`; gives back what a person should
    /// be told.
    pub(crate) fn tick(&mut self, patience: Duration) -> anyhow::Result<Vec<Event>> {
        let mut events = Vec::new();
        let mut patience = patience;
        while let Some(event) = self.call.next_event(patience) {
            patience = Duration::ZERO;
            match event {
                Event::Ended(end) => self.ended = Some(end),
                event => {
                    if let Event::Connected { .. } = event {
                        self.connected.get_or_insert_with(Instant::now);
                    }
                    events.push(event);
                }
            }
        }
        self.feed_recorder()?;
        let elapsed = self.connected.map(|connected| connected.elapsed());
        if let Some(elapsed) = elapsed {
            while let Some(scripted) = self.script.pop_front_if(|s| s.at <= elapsed) {
                self.act(&scripted.action);
            }
            if elapsed >= self.next_row {
                self.write_row(elapsed)?;
                self.next_row += Duration::from_secs(1);
            }
            if self.duration.is_some_and(|duration| elapsed >= duration) {
                self.hang_up();
            }
        }
        Ok(events)
    }

    fn feed_recorder(&mut self) -> anyhow::Result<()> {
        let features = self.call.take_received();
        if let Some(feature) = features.last() {
            self.newest = feature.time;
        }
        let Some(path) = &self.record else { return Ok(()) };
        if self.recorder.is_none() {
            let Some(model) = self.call.remote_model() else { return Ok(()) };
            let side = self.resolution.side(HEADLESS_SIDE);
            self.recorder = Some(Recorder::start(path, model, side)?);
        }
        if let Some(recorder) = &self.recorder {
            recorder.push(features);
        }
        Ok(())
    }

    /// Does what a person, or the script, asks for.
    pub(crate) fn act(&mut self, action: &Action) {
        match *action {
            Action::Resolution(resolution) => {
                self.resolution = resolution;
                let side = resolution.side(HEADLESS_SIDE);
                self.call.command(Command::Resolution(side));
                if let Some(recorder) = &self.recorder {
                    recorder.resize(self.newest, side);
                }
            }
            Action::Rate(rate) => {
                self.rate = rate;
                self.call.command(Command::Rate(rate.into()));
            }
            Action::Mute(is_muted) => {
                self.is_muted = is_muted;
                self.call.command(Command::Mute(is_muted));
            }
            Action::Camera(is_on) => {
                self.is_camera_off = !is_on;
                self.call.command(Command::CameraOff(!is_on));
            }
            Action::HangUp => self.hang_up(),
        }
    }

    fn hang_up(&mut self) {
        if self.ended.is_none() {
            self.call.command(Command::HangUp);
            self.ended = Some(End::HungUp);
        }
    }

    fn write_row(&mut self, elapsed: Duration) -> anyhow::Result<()> {
        let Some(file) = &mut self.stats else { return Ok(()) };
        let recorder = self.recorder.as_ref().map(Recorder::state).unwrap_or_default();
        let RecorderState { n_frames, side, time } = recorder;
        let row = Row {
            call_s: elapsed.as_secs_f64(),
            stats: self.call.stats(),
            recorded_frames: n_frames,
            recorded_media_time_s: time.as_secs_f64(),
            recorded_resolution: side,
        };
        let line = serde_json::to_string(&row)?;
        writeln!(file, "{line}").and_then(|()| file.flush()).context("cannot write the statistics")
    }

    pub(crate) fn call(&self) -> &Call {
        &self.call
    }

    pub(crate) fn model(&self) -> Option<Arc<FaceModel>> {
        self.call.remote_model()
    }

    pub(crate) fn resolution(&self) -> Resolution {
        self.resolution
    }

    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    pub(crate) fn is_muted(&self) -> bool {
        self.is_muted
    }

    pub(crate) fn is_camera_off(&self) -> bool {
        self.is_camera_off
    }

    pub(crate) fn is_recording(&self) -> bool {
        self.recorder.is_some()
    }

    pub(crate) fn ended(&self) -> Option<&End> {
        self.ended.as_ref()
    }

    /// Writes the last statistics, waits for the recording to be painted, and closes everything.
    pub(crate) fn finish(mut self) -> anyhow::Result<Summary> {
        self.hang_up();
        self.feed_recorder()?;
        let elapsed = self.connected.map(|connected| connected.elapsed()).unwrap_or_default();
        if self.connected.is_some() {
            self.write_row(elapsed)?;
        }
        let stats = self.call.stats();
        drop(self.call);
        let recorded = self.recorder.map(Recorder::finish).transpose()?;
        let ended = self.ended.unwrap_or(End::HungUp);
        Ok(Summary { stats, recorded, ended, seconds: elapsed.as_secs_f64() })
    }
}

fn create(path: &Path) -> anyhow::Result<BufWriter<File>> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(BufWriter::new(file))
}
