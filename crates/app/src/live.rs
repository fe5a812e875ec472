//! A running call with recording, statistics and scripted actions, for the window and the headless
//! commands alike.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use call::{Call, Command, End, Event, LocalMedia, Stats};
use capture::DeviceChange;
use face::{Background, FaceModel};
use serde::Serialize;
use types::{ErrorLine, MediaTime, PeerName};

use crate::cli::{DEFAULT_MAX_FPS, Resolution, Scripted, UserAction};
use crate::error_line;
use crate::patience::Patience;
use crate::recorded_peer::RecordedPeer;
use crate::recorder::{Recorded, RecorderState};
use crate::recordings::Recordings;
use crate::render_stats::{RenderStats, RenderStatsRow};
use crate::stats_file::StatsFile;
use crate::termination;

/// How long a call is waited for that was hung up.
const MAX_CLOSING: Duration = Duration::from_secs(15);

/// Options around a call.
#[derive(Debug, Default)]
pub(crate) struct CallOptions {
    pub(crate) record: Option<PathBuf>,
    /// Whether recordings have sound.
    pub(crate) sound: bool,
    pub(crate) resolution: Resolution,
    pub(crate) background: Background,
    pub(crate) stats: Option<PathBuf>,
    /// Time after which to hang up, from the moment the peers are connected.
    pub(crate) duration: Option<Duration>,
    /// Time after which to give up if the peers have never been connected, without the time in which
    /// a guest waits for a decision.
    pub(crate) wait: Option<Duration>,
    pub(crate) script: Vec<Scripted>,
    /// Limit of pictures per second in a window.
    pub(crate) max_fps: Option<u32>,
}

/// One line of `--stats`.
#[derive(Serialize)]
struct StatsRow {
    /// Seconds since the peers were connected; `t_s` of the statistics counts from the start.
    call_s: f64,
    #[serde(flatten)]
    stats: Stats,
    /// Side of the peer picture, pixels.
    resolution: u32,
    /// Rendering in the window, or else for the recording.
    #[serde(flatten)]
    rendering: RenderStatsRow,
    /// Pictures recorded so far.
    recorded_frames: u64,
    /// Media time of the newest one, and its side in pixels.
    recorded_media_time_s: f64,
    recorded_resolution: u32,
}

/// Color of the plain background, sRGB.
const PLAIN: [u8; 3] = [0x2c, 0x38, 0x44];
/// Side of recordings and headless calls if none is chosen, pixels.
const HEADLESS_SIDE: u32 = 256;

/// How long a recording waits for the peer's face before it begins with the peer's name: until it is clear that no
/// face comes, and while one comes.
const MAX_WAIT_FOR_FACE: Duration = Duration::from_secs(5);
const MAX_WAIT_FOR_MODEL: Duration = Duration::from_secs(50);

/// A call with everything that happens around it.
pub(crate) struct Live {
    call: Call,
    recordings: Recordings,
    stats: Option<StatsFile>,
    /// What went wrong beside the call, for the user.
    troubles: Troubles,
    duration: Option<Duration>,
    patience: Patience,
    /// How long the peer was waited for in vain.
    given_up_after: Option<Duration>,
    script: VecDeque<Scripted>,
    connected: Option<Instant>,
    next_row: Duration,
    resolution: Resolution,
    /// Background behind the peer, now and at the start.
    background: Background,
    initial_background: Background,
    model: Option<Arc<FaceModel>>,
    peer: Peer,
    /// Side of the area for the peer picture in a window, physical pixels.
    area_px: u32,
    max_fps: u32,
    newest: MediaTime,
    /// Statistics of rendering in a window.
    render_stats: RenderStats,
    render_stats_row: RenderStatsRow,
    ended: Option<End>,
}

/// The peer of now.
#[derive(Default)]
struct Peer {
    name: PeerName,
    /// When it was connected.
    since: Option<Instant>,
    /// Whether some of its face has arrived.
    has_face: bool,
    /// Whether it said that it has none.
    is_sound_only: bool,
}

/// Result of a call.
pub(crate) struct CallSummary {
    pub(crate) stats: Stats,
    /// One recording for each peer.
    pub(crate) recorded: Vec<Recorded>,
    pub(crate) ended: End,
    /// Time since the peers were connected, seconds; none if they never were.
    pub(crate) seconds: Option<f64>,
    /// Whether the call ended because nobody came for this long.
    pub(crate) given_up_after: Option<Duration>,
    /// Why the recording, the statistics or the speaker file are incomplete.
    pub(crate) failures: Vec<String>,
}

/// What happened since the last tick, for the user.
pub(crate) struct Tick {
    pub(crate) events: Vec<Event>,
    /// What went wrong beside the call, which goes on.
    pub(crate) notes: Vec<String>,
}

/// What went wrong beside a call.
#[derive(Default)]
struct Troubles {
    /// What the user has not been told yet.
    notes: Vec<String>,
    failures: Vec<String>,
}

impl Troubles {
    fn add(&mut self, error: &anyhow::Error) {
        let line = error_line(error).to_string();
        self.notes.push(format!("{line}; the call goes on"));
        self.failures.push(line);
    }
}

impl Peer {
    /// Returns whether its face should be there by now.
    fn is_waited_for_in_vain(&self, now: Instant) -> bool {
        let most = if self.has_face { MAX_WAIT_FOR_MODEL } else { MAX_WAIT_FOR_FACE };
        self.is_sound_only
            || self.since.is_some_and(|since| now.saturating_duration_since(since) >= most)
    }
}

impl Live {
    /// Prepares what happens around a call.
    ///
    /// # Errors
    /// If the recording or the statistics cannot be written where they are to go.
    pub(crate) fn new(call: Call, options: CallOptions) -> anyhow::Result<Self> {
        let stats = options.stats.as_deref().map(StatsFile::open).transpose()?;
        let mut troubles = Troubles::default();
        for path in options.record.iter().flat_map(|path| capture::unfinished_recordings(path)) {
            let note = "an earlier recording was interrupted; what there is of it is in";
            troubles.notes.push(format!("{note} {}", path.display()));
        }
        let recordings = Recordings::new(options.record, options.sound)?;
        if recordings.lack_sound() {
            let note =
                "the recording has no sound: name an .mp4 file or a folder for one with sound";
            troubles.notes.push(note.to_owned());
        }
        let mut script: Vec<_> = options.script;
        script.sort_by_key(|scripted| scripted.at);
        Ok(Self {
            call,
            recordings,
            stats,
            troubles,
            duration: options.duration,
            patience: Patience::new(options.wait, Instant::now()),
            given_up_after: None,
            script: script.into(),
            connected: None,
            next_row: Duration::ZERO,
            resolution: options.resolution,
            initial_background: options.background.clone(),
            background: options.background,
            model: None,
            peer: Peer::default(),
            area_px: HEADLESS_SIDE,
            max_fps: options.max_fps.unwrap_or(DEFAULT_MAX_FPS),
            newest: MediaTime::ZERO,
            render_stats: RenderStats::default(),
            render_stats_row: RenderStatsRow::default(),
            ended: None,
        })
    }

    /// Handles the events of the call, waiting up to `timeout` for the first one, and runs what is
    /// due: recording, script, statistics, the end. Returns what is of interest to the user.
    pub(crate) fn tick(&mut self, timeout: Duration) -> Tick {
        let mut events = Vec::new();
        let mut timeout = timeout;
        while let Some(event) = self.call.next_event(timeout) {
            timeout = Duration::ZERO;
            match event {
                Event::Ended(end) => self.ended = Some(end),
                event => {
                    self.note(&event);
                    events.push(event);
                }
            }
        }
        self.feed_recordings();
        if termination::is_requested() {
            self.hang_up();
        }
        if self.ended.is_none()
            && let Some(wait) = self.patience.run_out(Instant::now())
        {
            self.given_up_after = Some(wait);
            self.hang_up();
        }
        let elapsed = self.connected.map(|connected| connected.elapsed());
        if let Some(elapsed) = elapsed {
            while let Some(scripted) = self.script.pop_front_if(|s| s.at <= elapsed) {
                self.act(&scripted.action);
            }
            if elapsed >= self.next_row {
                self.write_row(elapsed);
                self.next_row += Duration::from_secs(1);
            }
            if self.duration.is_some_and(|duration| elapsed >= duration) {
                self.hang_up();
            }
        }
        Tick { events, notes: std::mem::take(&mut self.troubles.notes) }
    }

    fn note(&mut self, event: &Event) {
        self.patience.note_event(event);
        match event {
            Event::ModelProgress(_) => self.peer.has_face = true,
            Event::SoundOnly => self.peer.is_sound_only = true,
            Event::ModelReady { .. } => self.update_model(),
            Event::SoundDevice(change) => self.note_speaker_file(change),
            // Another peer, or none: what the last one has shown is over.
            Event::Connected { .. } | Event::GuestLeft => {
                self.feed_recordings();
                (self.model, self.peer) = (None, Peer::default());
                if let Event::Connected { peer_name } = event {
                    let now = Instant::now();
                    self.connected.get_or_insert(now);
                    self.peer.name = peer_name.clone();
                    self.peer.since = Some(now);
                }
            }
            _ => {}
        }
    }

    /// A speaker file is a recording, too: that it is incomplete fails the command.
    fn note_speaker_file(&mut self, change: &DeviceChange) {
        if let DeviceChange::NotWritten { .. } | DeviceChange::NotCompleted { .. } = change {
            self.troubles.failures.push(ErrorLine::new(&change.to_string()).to_string());
        }
    }

    fn feed_recordings(&mut self) {
        let now = Instant::now();
        if self.model.is_some() {
            self.begin_recording();
        }
        let (features, has_left) = self.call.take_received();
        if let Some(feature) = features.last() {
            self.newest = feature.time;
        }
        // Without a recording no sound is kept.
        let mut sounds =
            if self.recordings.want_sound() { self.call.take_sound() } else { Vec::new() };
        if self.peer.since.is_none() {
            // Between two guests there is nobody to record.
            sounds.clear();
        }
        self.recordings.push(features, sounds, now);
        let is_over = has_left || self.ended.is_some();
        if self.recordings.have_early_sound() && (is_over || self.peer.is_waited_for_in_vain(now)) {
            self.begin_recording();
        }
        if has_left {
            self.recordings.end_peer();
            (self.model, self.peer, self.newest) = (None, Peer::default(), MediaTime::ZERO);
        }
        for error in self.recordings.poll() {
            self.troubles.add(&error);
        }
    }

    /// Begins to record the peer with its face, or its name, unless that was done before.
    fn begin_recording(&mut self) {
        let side = self.resolution.side(HEADLESS_SIDE);
        let picture = || RecordedPeer::new(self.model.clone(), self.peer.name.clone(), side);
        if let Err(error) = self.recordings.begin(picture) {
            self.troubles.add(&error);
        }
    }

    /// Performs an action of the user or the script.
    pub(crate) fn act(&mut self, action: &UserAction) {
        match action {
            &UserAction::Resolution(resolution) => {
                let (now, before) = (Instant::now(), self.side());
                self.resolution = resolution;
                self.render_stats.request_size(now, before, self.side());
                self.recordings.set_side(self.newest, resolution.side(HEADLESS_SIDE), now);
            }
            UserAction::Background(background) => {
                self.background.clone_from(background);
                self.update_model();
            }
            UserAction::Call(command) => self.command(command.clone()),
            // Handled by the window, which has a clipboard.
            UserAction::CopyLink => {}
        }
    }

    /// Gives the call a command.
    pub(crate) fn command(&mut self, command: Command) {
        match command {
            Command::HangUp => self.hang_up(),
            command => {
                self.patience.note_command(&command);
                self.call.command(command);
            }
        }
    }

    fn hang_up(&mut self) {
        if self.ended.is_none() {
            self.call.command(Command::HangUp);
            self.ended = Some(End::HungUp);
        }
    }

    fn write_row(&mut self, elapsed: Duration) {
        let recording = self.recordings.take_row();
        let side = self.side();
        let row =
            StatsRow::new(elapsed, self.call.stats(), side, &mut self.render_stats, recording);
        self.render_stats_row = row.rendering.clone();
        if let Some(Err(error)) = self.stats.as_mut().map(|file| file.append(&row)) {
            self.stats = None;
            self.troubles.add(&error);
        }
    }

    pub(crate) fn call(&self) -> &Call {
        &self.call
    }

    /// Combines the received layers of the peer's face with the selected background.
    fn update_model(&mut self) {
        let Some(model) = self.call.remote_model() else { return };
        let model = match &self.background {
            Background::Own => model,
            background => Arc::new(model.with_background(background)),
        };
        self.recordings.set_model(&model);
        self.model = Some(model);
    }

    /// Returns the model of the peer's face to render; a new [`Arc`] whenever it changes.
    pub(crate) fn model(&self) -> Option<&Arc<FaceModel>> {
        self.model.as_ref()
    }

    /// Lists the backgrounds to choose from, with their names: the usual ones and the initial one.
    pub(crate) fn backgrounds(&self) -> Vec<(&'static str, Background)> {
        let plain = Background::Color(PLAIN);
        let mut all =
            vec![("own", Background::Own), ("blurred", Background::Blurred), ("plain", plain)];
        if all.iter().all(|(_, offered)| *offered != self.initial_background) {
            all.push(("chosen", self.initial_background.clone()));
        }
        all
    }

    pub(crate) fn background(&self) -> &Background {
        &self.background
    }

    /// Returns the side of the peer picture in the window, pixels.
    pub(crate) fn side(&self) -> u32 {
        self.resolution.side(self.area_px)
    }

    /// Sets the side of the area for the peer picture in the window, physical pixels.
    pub(crate) fn set_area(&mut self, area_px: u32) {
        self.area_px = area_px;
    }

    /// Returns the limit of pictures per second in a window.
    pub(crate) fn max_fps(&self) -> u32 {
        self.max_fps
    }

    /// Returns the statistics of rendering, for the window to update.
    pub(crate) fn render_stats_mut(&mut self) -> &mut RenderStats {
        &mut self.render_stats
    }

    /// Returns the summary of the last second's rendering.
    pub(crate) fn render_stats_row(&self) -> &RenderStatsRow {
        &self.render_stats_row
    }

    pub(crate) fn resolution(&self) -> Resolution {
        self.resolution
    }

    pub(crate) fn local_media(&self) -> LocalMedia {
        self.call.local_media()
    }

    pub(crate) fn is_recording(&self) -> bool {
        self.recordings.are_running()
    }

    pub(crate) fn ended(&self) -> Option<&End> {
        self.ended.as_ref()
    }

    /// Hangs up, finishes the recording, and writes the last statistics.
    pub(crate) fn finish(mut self) -> CallSummary {
        self.hang_up();
        // What a speaker file has come to is known only at the end.
        while let Some(event) = self.call.next_event(MAX_CLOSING) {
            if let Event::SoundDevice(change) = &event {
                self.note_speaker_file(change);
            }
        }
        self.feed_recordings();
        let side = self.side();
        let Self { call, recordings, mut render_stats, stats: mut file, connected, ended, .. } =
            self;
        let Troubles { mut failures, .. } = self.troubles;
        let elapsed = connected.map(|connected| connected.elapsed());
        let stats = call.stats();
        drop(call);
        let finished = recordings.finish();
        failures.extend(finished.errors.iter().map(|error| error_line(error).to_string()));
        if let Some(elapsed) = elapsed {
            let row = StatsRow::new(elapsed, stats.clone(), side, &mut render_stats, finished.row);
            if let Some(Err(error)) = file.as_mut().map(|file| file.append(&row)) {
                failures.push(error_line(&error).to_string());
            }
        }
        CallSummary {
            stats,
            recorded: finished.recorded,
            ended: ended.unwrap_or(End::HungUp),
            seconds: elapsed.map(|elapsed| elapsed.as_secs_f64()),
            given_up_after: self.given_up_after,
            failures,
        }
    }
}

impl StatsRow {
    /// Combines the statistics of the call with those of the window or, without one, the recorder.
    fn new(
        elapsed: Duration,
        stats: Stats,
        resolution: u32,
        render_stats: &mut RenderStats,
        (state, recorded): (RecorderState, RenderStatsRow),
    ) -> Self {
        let in_window = render_stats.take_row();
        Self {
            call_s: elapsed.as_secs_f64(),
            stats,
            resolution,
            rendering: if render_stats.has_pictures() { in_window } else { recorded },
            recorded_frames: state.n_frames,
            recorded_media_time_s: state.time.as_secs_f64(),
            recorded_resolution: state.side,
        }
    }
}
