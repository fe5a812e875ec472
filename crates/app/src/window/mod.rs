//! The window with its screens: home, enrollment, call.

mod blit;
mod enrollment;
mod home;
mod in_call;
mod peer_renderer;
mod theme;
mod troubles;

use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use call::{Call, Command, Event, Settings};
use capture::SourceSpec;
use types::ErrorLine;

pub use home::{Home, HomeAction, show as show_home};
pub use in_call::{CallView, Question, show as show_call};
pub use theme::apply as apply_theme;

pub use crate::cli::{Resolution, UserAction};
use crate::display::Display;
use crate::face_files;
use crate::gpu::{Gpu, GpuFailure};
use crate::live::{CallOptions, Live};
use crate::termination;
use enrollment::EnrollmentScreen;
use peer_renderer::PeerRenderer;
use troubles::Troubles;

/// Longest time until the window notices an event of the call.
const EVENT_INTERVAL: Duration = Duration::from_millis(50);

/// First screen of the window.
pub(crate) enum Start {
    Home,
    Host(Box<(Settings, CallOptions)>),
    Join(String, Box<(Settings, CallOptions)>),
    /// The peer that is seen, the peer whose window this is, and its options.
    Demo(Box<(Call, Call, CallOptions)>),
}

/// Opens the window and runs it until it is closed.
///
/// # Errors
/// If there is no display or graphics device, the call cannot be started, or the device was lost.
pub(crate) fn open(start: Start) -> anyhow::Result<()> {
    let display = Display::find()?;
    let mut options = eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default()
            .with_title("Feathercall")
            .with_app_id("feathercall")
            .with_inner_size([940.0, 780.0])
            .with_min_inner_size([560.0, 420.0]),
        wgpu_options: crate::gpu::window_setup(),
        renderer: eframe::Renderer::Wgpu,
        ..Default::default()
    };
    display.select(&mut options);
    let failure = Arc::new(OnceLock::new());
    let window_failure = Arc::clone(&failure);
    let create = |context: &eframe::CreationContext<'_>| -> Result<Box<dyn eframe::App>, _> {
        theme::apply(&context.egui_ctx);
        let egui_ctx = context.egui_ctx.clone();
        termination::wake_with(move || egui_ctx.request_repaint());
        termination::end_well();
        let state =
            context.wgpu_render_state.clone().context("the window has no graphics device")?;
        Ok(Box::new(Window::new(state, start, window_failure)?))
    };
    eframe::run_native("Feathercall", options, Box::new(create)).map_err(|error| match error {
        eframe::Error::AppCreation(error) => anyhow::Error::from_boxed(error),
        error => anyhow::anyhow!("cannot open the window: {}", without_place(&error.to_string())),
    })?;
    match failure.get() {
        Some(failure) => Err(anyhow::anyhow!("{failure}")),
        None => Ok(()),
    }
}

/// Removes the place in the source code that a message of winit begins with.
fn without_place(message: &str) -> &str {
    let behind = message.split_once("os error at ").and_then(|(_, error)| error.split_once(": "));
    behind.map_or(message, |(_, error)| error)
}

struct Window {
    state: egui_wgpu::RenderState,
    gpu: Gpu,
    /// Why the window had to close, or why what it was doing could not be finished.
    failure: Arc<OnceLock<String>>,
    home: Home,
    screen: Screen,
    /// Gets an error if the faces of an earlier version cannot be encrypted.
    encryption_errors: Receiver<String>,
}

enum Screen {
    Home,
    Enrollment(EnrollmentScreen),
    Call(Box<CallScreen>),
}

/// A call and what its screen shows.
struct CallScreen {
    live: Live,
    /// In the demo, the peer that is seen. The preview shows its camera.
    companion: Option<Call>,
    link: Option<String>,
    status: String,
    /// Who asks to join.
    knock: Option<Question>,
    /// Whether to show another face of the peer.
    other_face: Option<Question>,
    check_words: Option<String>,
    renderer: Option<PeerRenderer>,
    preview: Option<egui::TextureHandle>,
    preview_time: Option<types::MediaTime>,
    /// Name of the peer; may be empty.
    peer_name: String,
    /// Name of a peer that has no face to show.
    sound_only: Option<String>,
    /// Names and values of the live statistics, updated every second.
    figures: Vec<(&'static str, String)>,
    next_figures: Instant,
    troubles: Troubles,
}

impl Window {
    fn new(
        state: egui_wgpu::RenderState,
        start: Start,
        failure: Arc<OnceLock<String>>,
    ) -> anyhow::Result<Self> {
        let home = Home {
            faces: face_files::list_enrolled(),
            cameras: capture::devices().cameras,
            ..Home::default()
        };
        let gpu = Gpu::of_window(&state);
        let encryption_errors = face_files::encrypt_enrolled_in_background();
        let screen = Screen::Home;
        let mut window = Self { state, gpu, failure, home, screen, encryption_errors };
        window.home.face = (!window.home.faces.is_empty()).then_some(0);
        match start {
            Start::Home => {}
            Start::Host(call) => window.host(call.0, call.1)?,
            Start::Join(link, call) => window.join(&link, call.0, call.1)?,
            Start::Demo(calls) => {
                let (companion, shown, options) = *calls;
                let mut screen = CallScreen::new(Live::new(shown, options)?, None);
                screen.companion = Some(companion);
                window.screen = Screen::Call(Box::new(screen));
            }
        }
        Ok(window)
    }

    fn host(&mut self, settings: Settings, options: CallOptions) -> anyhow::Result<()> {
        let (call, link) = Call::host(settings)?;
        let live = Live::new(call, options)?;
        self.screen = Screen::Call(Box::new(CallScreen::new(live, Some(link))));
        Ok(())
    }

    fn join(&mut self, link: &str, settings: Settings, options: CallOptions) -> anyhow::Result<()> {
        let live = Live::new(Call::join(link, settings)?, options)?;
        self.screen = Screen::Call(Box::new(CallScreen::new(live, None)));
        Ok(())
    }

    /// Returns the settings selected on the home screen.
    fn settings(&self) -> anyhow::Result<Settings> {
        let path = self.home.face.and_then(|index| self.home.faces.get(index));
        let face = path.map(|path| face_files::read(path)).transpose()?;
        let source = face.is_some().then_some(SourceSpec::Camera(None));
        Ok(Settings { face, source, ..Settings::default() })
    }

    fn handle_home(&mut self, action: HomeAction) -> anyhow::Result<()> {
        match action {
            HomeAction::StartCall => self.host(self.settings()?, CallOptions::default()),
            HomeAction::Join(link) => self.join(&link, self.settings()?, CallOptions::default()),
            HomeAction::Enroll { name, clip } => {
                let source = clip.map_or(SourceSpec::Camera(None), SourceSpec::Clip);
                self.screen = Screen::Enrollment(EnrollmentScreen::start(&name, source)?);
                Ok(())
            }
        }
    }
}

impl eframe::App for Window {
    fn clear_color(&self, _visuals: &egui::Visuals) -> [f32; 4] {
        if self.state.target_format.is_srgb() {
            egui::Rgba::from(theme::GROUND).to_array()
        } else {
            theme::GROUND.to_normalized_gamma_f32()
        }
    }

    fn on_exit(&mut self) {
        if let Screen::Enrollment(enrollment) = &mut self.screen {
            enrollment.stop();
        }
        self.leave_call();
    }

    /// Runs also while the window is hidden, when `ui` does not.
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        if termination::is_requested() {
            ctx.send_viewport_cmd(egui::ViewportCommand::Close);
            return;
        }
        let Screen::Call(call) = &mut self.screen else { return };
        if let Some(ended) = call.tick() {
            self.leave_call();
            self.home.message.get_or_insert(ended);
        }
        ctx.request_repaint_after(EVENT_INTERVAL);
    }

    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        match self.gpu.failure() {
            Some(failure @ GpuFailure::Lost(_)) => {
                // Nothing can be displayed any more: finish the call and close.
                self.leave_call();
                let _ = self.failure.set(format!("{failure}; start Feathercall again"));
                ui.ctx().send_viewport_cmd(egui::ViewportCommand::Close);
                return;
            }
            Some(failure) if self.home.message.is_none() => {
                self.home.message = Some(failure.to_string());
            }
            _ => {}
        }
        if let Ok(error) = self.encryption_errors.try_recv() {
            self.home.message = Some(error);
        }
        let message = match &mut self.screen {
            Screen::Home => {
                let action = egui::CentralPanel::default()
                    .show(ui, |ui| home::show(ui, &mut self.home))
                    .inner;
                match action.map(|action| self.handle_home(action)) {
                    Some(Err(error)) => Some(shown(&error)),
                    Some(Ok(())) => {
                        self.home.message = None;
                        None
                    }
                    None => None,
                }
            }
            Screen::Enrollment(enrollment) => {
                let done = enrollment.show(ui);
                if done.is_some() {
                    self.home.faces = face_files::list_enrolled();
                    self.home.face = (!self.home.faces.is_empty()).then_some(0);
                    self.screen = Screen::Home;
                }
                done
            }
            Screen::Call(call) => match call.show(ui, &self.state, &self.gpu) {
                Ok(()) => None,
                Err(error) => {
                    self.leave_call();
                    Some(shown(&error))
                }
            },
        };
        if let Some(message) = message {
            self.home.message = Some(message);
        }
    }
}

impl Window {
    /// Finishes the call with its recording and returns to the home screen.
    fn leave_call(&mut self) {
        if let Screen::Call(call) = std::mem::replace(&mut self.screen, Screen::Home) {
            let summary = call.live.finish();
            for path in summary.recorded.iter().flat_map(|recorded| &recorded.paths) {
                println!("recorded {}", path.display());
            }
            if let Some(failure) = summary.failures.into_iter().next() {
                let _ = self.failure.set(failure.clone());
                self.home.message = Some(failure);
            }
        }
    }
}

/// Returns an error as the window shows it. It may quote a peer or a file.
fn shown(error: &anyhow::Error) -> String {
    ErrorLine::new(&format!("{error:#}")).to_string()
}

impl CallScreen {
    fn new(live: Live, link: Option<String>) -> Self {
        Self {
            live,
            companion: None,
            status: if link.is_some() { "Waiting for your peer" } else { "Connecting" }.to_owned(),
            link,
            knock: None,
            other_face: None,
            check_words: None,
            peer_name: String::new(),
            sound_only: None,
            renderer: None,
            preview: None,
            preview_time: None,
            figures: Vec::new(),
            next_figures: Instant::now(),
            troubles: Troubles::default(),
        }
    }

    /// Handles what happened in the call. Returns why the call ended, once it has.
    fn tick(&mut self) -> Option<String> {
        let tick = self.live.tick(Duration::ZERO);
        tick.events.iter().for_each(|event| self.note(event));
        tick.notes.iter().for_each(|note| self.troubles.note(note));
        self.live.ended().map(ToString::to_string)
    }

    /// Updates and shows the screen.
    fn show(
        &mut self,
        ui: &mut egui::Ui,
        state: &egui_wgpu::RenderState,
        gpu: &Gpu,
    ) -> anyhow::Result<()> {
        self.render_peer(state, gpu)?;
        self.update_preview(ui.ctx());
        self.update_figures();
        let view = CallView {
            remote: self.renderer.as_ref().and_then(PeerRenderer::picture).cloned(),
            preview: self.preview.as_ref().map(egui::TextureHandle::id),
            preview_label: if self.companion.is_some() { "Camera" } else { "You" },
            status: self.status.clone(),
            link: self.link.clone(),
            media: self.live.local_media(),
            resolution: self.live.resolution(),
            background: self.live.background().clone(),
            backgrounds: self.live.backgrounds(),
            rendered_side: self.renderer.as_ref().map_or(0, PeerRenderer::side),
            figures: self.figures.clone(),
            question: self.knock.as_ref().or(self.other_face.as_ref()).cloned(),
            check_words: self.check_words.clone(),
            sound_only: self.sound_only.clone(),
        };
        let (actions, area_px) = in_call::show(ui, &view);
        self.live.set_area(area_px);
        for action in actions {
            match action {
                UserAction::Call(Command::Admit { .. }) => {
                    self.knock = None;
                    self.live.act(&action);
                }
                UserAction::Call(Command::AcceptFace { .. }) => {
                    self.other_face = None;
                    self.live.act(&action);
                }
                UserAction::CopyLink => ui.ctx().copy_text(self.link.clone().unwrap_or_default()),
                action => self.live.act(&action),
            }
        }
        if let Some(renderer) = &self.renderer {
            ui.ctx().request_repaint_after(renderer.wait(Instant::now()));
        }
        Ok(())
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Knock { question, name } => {
                self.knock = Some(Question::Knock(*question, name.to_string()));
            }
            Event::KnockWithdrawn { question } => {
                let is_about =
                    |knock: &mut Question| matches!(knock, Question::Knock(n, _) if n == question);
                self.knock.take_if(is_about);
            }
            Event::GuestFailed(failure) => {
                self.troubles.note(&format!("a guest did not get in: {failure}"));
            }
            Event::AdmissionPending => {
                "Waiting for your peer to let you in".clone_into(&mut self.status);
            }
            Event::CheckWords(words) => self.check_words = Some(words.clone()),
            &Event::PeerFaceReplaced { question } => {
                self.other_face = Some(Question::OtherFace(question));
            }
            Event::GuestLeft => {
                self.forget_peer();
                "Your guest has left, waiting for the next one".clone_into(&mut self.status);
            }
            Event::Connected { peer_name } => {
                self.forget_peer();
                self.link = None;
                self.peer_name = peer_name.to_string();
                "Connected, receiving your peer's face".clone_into(&mut self.status);
            }
            Event::ModelProgress(share) => {
                self.status = format!("Receiving your peer's face: {:.0} %", share * 100.0);
            }
            Event::ModelReady { layers, of } => {
                self.status = if layers == of {
                    "Connected".to_owned()
                } else {
                    format!("Receiving your peer's face: layer {layers} of {of}")
                };
            }
            Event::NoHostYet => {
                "Your peer is not here yet, waiting".clone_into(&mut self.status);
            }
            Event::SoundOnly => {
                "Connected".clone_into(&mut self.status);
                self.sound_only = Some(self.peer_name.clone());
            }
            Event::SoundDevice(change) => self.troubles.note_device(change),
            Event::PeerLost => {
                "Connection lost, waiting for your peer".clone_into(&mut self.status);
            }
            Event::ModelRefused(refusal) => {
                self.status = ErrorLine::new(&refusal.to_string()).to_string();
            }
            Event::NoSound(why) => self.troubles.note_no_sound(why),
            Event::PeerBack => "Connected".clone_into(&mut self.status),
            _ => {}
        }
    }

    fn forget_peer(&mut self) {
        self.check_words = None;
        self.other_face = None;
        self.renderer = None;
        self.sound_only = None;
        self.peer_name.clear();
    }

    /// Renders the peer picture if it is due.
    fn render_peer(&mut self, state: &egui_wgpu::RenderState, gpu: &Gpu) -> anyhow::Result<()> {
        let Some(model) = self.live.model() else { return Ok(()) };
        let renderer = self
            .renderer
            .get_or_insert_with(|| PeerRenderer::new(Arc::clone(model), gpu, self.live.max_fps()));
        renderer.set_model(model);
        let (now, side) = (Instant::now(), self.live.side());
        let Some(feature) = self.live.call().feature_at(now) else { return Ok(()) };
        if renderer.begin(now, side, self.live.render_stats_mut()) {
            renderer.render(state, &feature, self.live.render_stats_mut())?;
        }
        Ok(())
    }

    fn update_preview(&mut self, ctx: &egui::Context) {
        let seen = self.companion.as_ref().unwrap_or(self.live.call());
        let Some(frame) = seen.preview() else {
            self.preview = None;
            return;
        };
        if self.preview_time == Some(frame.time()) {
            return;
        }
        self.preview_time = Some(frame.time());
        let size = [frame.width() as usize, frame.height() as usize];
        let image = egui::ColorImage::from_rgb(size, frame.rgb());
        if let Some(texture) = &mut self.preview {
            texture.set(image, egui::TextureOptions::LINEAR);
        } else {
            let options = egui::TextureOptions::LINEAR;
            self.preview = Some(ctx.load_texture("preview", image, options));
        }
    }

    fn update_figures(&mut self) {
        let now = Instant::now();
        if now < self.next_figures {
            return;
        }
        self.next_figures = now + Duration::from_secs(1);
        let stats = self.live.call().stats();
        let rendering = self.live.render_stats_row().clone();
        self.figures = vec![
            ("down, wire", format!("{:.1} kbit/s", stats.wire_kbps_in)),
            ("down, face", format!("{:.2} kbit/s", stats.payload_kbps_in)),
            ("up, wire", format!("{:.1} kbit/s", stats.wire_kbps_out)),
            ("up, face", format!("{:.2} kbit/s", stats.payload_kbps_out)),
            ("features", format!("{:.0} /s", stats.features_fps_in)),
            ("pictures", format!("{} /s", rendering.pictures_since)),
            (
                "per picture",
                rendering.picture_ms.map_or("-".to_owned(), |ms| format!("{ms:.1} ms")),
            ),
            ("per ray", format!("{} samples", rendering.settings.samples_per_ray)),
            ("delay", format!("{:.0} ms", stats.playout_delay_ms)),
            ("round trip", stats.rtt_ms.map_or("-".to_owned(), |ms| format!("{ms:.0} ms"))),
            ("lost", format!("{:.1} %", stats.loss_in * 100.0)),
        ];
        if !rendering.render_path.is_empty() {
            self.figures.push(("renderer", rendering.render_path));
        }
        self.figures.extend(self.troubles.lines().map(|line| ("trouble", line.clone())));
    }
}
