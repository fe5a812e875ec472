//! A running call with everything around it: recording, statistics, scripted actions. The window
//! and the headless commands drive the same one.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use call::{Call, Command, End, Event, LocalMedia, Stats};
use face::{Background, FaceModel};
use serde::Serialize;
use types::MediaTime;

use crate::cli::{Action, DEFAULT_MAX_FPS, Resolution, Scripted};
use crate::painted::{Painted, PaintedRow};
use crate::recorder::{Recorded, Recorder, RecorderState};

/// What a person may ask for around a call.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) record: Option<PathBuf>,
    pub(crate) resolution: Resolution,
    pub(crate) background: Background,
    pub(crate) stats: Option<PathBuf>,
    /// Counted from the moment the peers are connected.
    pub(crate) duration: Option<Duration>,
    pub(crate) script: Vec<Scripted>,
    /// Most pictures a second in a window.
    pub(crate) max_fps: Option<u32>,
}

/// One line of `--stats`.
#[derive(Serialize)]
struct Row {
    /// Seconds since the peers were connected; `t_s` counts from the setting up.
    call_s: f64,
    #[serde(flatten)]
    stats: Stats,
    /// Side in pixels at which the peer is rendered here.
    resolution: u32,
    /// In a window what it shows, else what is recorded.
    #[serde(flatten)]
    painted: PaintedRow,
    /// Pictures recorded so far, and the media time and side of the newest.
    recorded_frames: u64,
    recorded_media_time_s: f64,
    recorded_resolution: u32,
}

/// A calm color behind the peer.
const PLAIN: [u8; 3] = [0x2c, 0x38, 0x44];
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
    /// Drawn behind the peer now, and at the start.
    background: Background,
    chosen: Background,
    model: Option<Arc<FaceModel>>,
    /// Side in pixels of the place where a window shows the face.
    place_px: u32,
    max_fps: u32,
    newest: MediaTime,
    /// What a window has painted.
    painted: Painted,
    painted_row: PaintedRow,
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
            chosen: options.background.clone(),
            background: options.background,
            model: None,
            place_px: HEADLESS_SIDE,
            max_fps: options.max_fps.unwrap_or(DEFAULT_MAX_FPS),
            newest: MediaTime::ZERO,
            painted: Painted::default(),
            painted_row: PaintedRow::default(),
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
                    if let Event::ModelReady { .. } = event {
                        self.dress();
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
            let Some(model) = self.model.clone() else { return Ok(()) };
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
        match action {
            &Action::Resolution(resolution) => {
                let (now, before) = (Instant::now(), self.side());
                self.resolution = resolution;
                self.painted.ask(now, before, self.side());
                if let Some(recorder) = &self.recorder {
                    recorder.resize(self.newest, resolution.side(HEADLESS_SIDE), now);
                }
            }
            Action::Background(background) => {
                self.background.clone_from(background);
                self.dress();
            }
            Action::Call(Command::HangUp) => self.hang_up(),
            Action::Call(command) => self.call.command(command.clone()),
            // There is a clipboard in a window alone.
            Action::CopyLink => {}
        }
    }

    fn hang_up(&mut self) {
        if self.ended.is_none() {
            self.call.command(Command::HangUp);
            self.ended = Some(End::HungUp);
        }
    }

    fn write_row(&mut self, elapsed: Duration) -> anyhow::Result<()> {
        let recorder = self.recorder.as_ref().map(Recorder::take_row).unwrap_or_default();
        let row = Row::new(elapsed, self.call.stats(), self.side(), &mut self.painted, recorder);
        self.painted_row = row.painted.clone();
        append(&mut self.stats, &row)
    }

    pub(crate) fn call(&self) -> &Call {
        &self.call
    }

    /// Puts the peer's face, as far as it has come, in front of the background that was chosen.
    fn dress(&mut self) {
        let Some(model) = self.call.remote_model() else { return };
        let model = match &self.background {
            Background::Own => model,
            background => Arc::new(model.with_background(background)),
        };
        if let Some(recorder) = &self.recorder {
            recorder.refine(Arc::clone(&model));
        }
        self.model = Some(model);
    }

    /// The peer's face as it is to be drawn now; another [`Arc`] whenever it has changed.
    pub(crate) fn model(&self) -> Option<&Arc<FaceModel>> {
        self.model.as_ref()
    }

    /// What may be drawn behind the peer: what a window offers, and what was asked for at the start.
    pub(crate) fn backgrounds(&self) -> Vec<(&'static str, Background)> {
        let plain = Background::Color(PLAIN);
        let mut all =
            vec![("own", Background::Own), ("blurred", Background::Blurred), ("plain", plain)];
        if all.iter().all(|(_, offered)| *offered != self.chosen) {
            all.push(("chosen", self.chosen.clone()));
        }
        all
    }

    pub(crate) fn background(&self) -> &Background {
        &self.background
    }

    /// Side in pixels at which a window shows the face now.
    pub(crate) fn side(&self) -> u32 {
        self.resolution.side(self.place_px)
    }

    /// The window shows the face in a place of another size, in physical pixels.
    pub(crate) fn set_place(&mut self, place_px: u32) {
        self.place_px = place_px;
    }

    /// Most pictures a second in a window.
    pub(crate) fn max_fps(&self) -> u32 {
        self.max_fps
    }

    /// Where the window counts what it paints.
    pub(crate) fn painted_mut(&mut self) -> &mut Painted {
        &mut self.painted
    }

    /// What the last second's painting came to.
    pub(crate) fn painted_row(&self) -> &PaintedRow {
        &self.painted_row
    }

    pub(crate) fn resolution(&self) -> Resolution {
        self.resolution
    }

    pub(crate) fn local_media(&self) -> LocalMedia {
        self.call.local_media()
    }

    pub(crate) fn is_recording(&self) -> bool {
        self.recorder.is_some()
    }

    pub(crate) fn ended(&self) -> Option<&End> {
        self.ended.as_ref()
    }

    /// Closes everything, waits for the recording to be painted, and writes the last statistics.
    pub(crate) fn finish(mut self) -> anyhow::Result<Summary> {
        self.hang_up();
        self.feed_recorder()?;
        let side = self.side();
        let Self { call, recorder, mut painted, stats: mut file, connected, ended, .. } = self;
        let elapsed = connected.map(|connected| connected.elapsed()).unwrap_or_default();
        let stats = call.stats();
        drop(call);
        let (recorded, row) = match recorder.map(Recorder::finish) {
            Some((recorded, row)) => (Some(recorded), row),
            None => (None, <_>::default()),
        };
        if connected.is_some() {
            append(&mut file, &Row::new(elapsed, stats.clone(), side, &mut painted, row))?;
        }
        let ended = ended.unwrap_or(End::HungUp);
        let seconds = elapsed.as_secs_f64();
        Ok(Summary { stats, recorded: recorded.transpose()?, ended, seconds })
    }
}

impl Row {
    /// A row of a window's pictures, or of the recorder's where no window paints.
    fn new(
        elapsed: Duration,
        stats: Stats,
        resolution: u32,
        painted: &mut Painted,
        (state, recorded): (RecorderState, PaintedRow),
    ) -> Self {
        let shown = painted.take_row();
        Self {
            call_s: elapsed.as_secs_f64(),
            stats,
            resolution,
            painted: if painted.is_used() { shown } else { recorded },
            recorded_frames: state.n_frames,
            recorded_media_time_s: state.time.as_secs_f64(),
            recorded_resolution: state.side,
        }
    }
}

fn append(file: &mut Option<BufWriter<File>>, row: &Row) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    let line = serde_json::to_string(row)?;
    writeln!(file, "{line}").and_then(|()| file.flush()).context("cannot write the statistics")
}

fn create(path: &Path) -> anyhow::Result<BufWriter<File>> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(BufWriter::new(file))
}
