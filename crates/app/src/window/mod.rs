//! The window: home, enrollment, call.

mod enrolling;
mod home;
mod in_call;
mod theme;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use call::{Call, Event, Settings};
use capture::SourceSpec;
use egui::TextureId;
use face::FaceModel;
use render::Renderer;

pub use home::{Home, HomeAction, show as show_home};
pub use in_call::{CallAction, CallView, show as show_call};

use crate::cli::Action;
pub use crate::cli::{Rate, Resolution};
use crate::commands::face_or_demo;
use crate::live::{Live, Options};
use enrolling::Enrolling;

/// What the window opens with.
pub(crate) enum Start {
    Home,
    Host(Box<(Settings, Options)>),
    Join(String, Box<(Settings, Options)>),
    /// A peer whose only job is to be seen, the peer that is shown, and how.
    Demo(Box<(Call, Call, Options)>),
}

/// Whether a window can be opened here at all.
pub(crate) fn has_display() -> bool {
    let has = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !cfg!(all(unix, not(target_os = "macos")))
        || has("DISPLAY")
        || has("WAYLAND_DISPLAY")
        || has("WAYLAND_SOCKET")
}

/// Opens the window and stays in it until it is closed.
pub(crate) fn open(start: Start) -> anyhow::Result<()> {
    anyhow::ensure!(has_display(), "there is no display to open a window on; use --headless");
    let options = eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default()
            .with_title("Feathercall")
            .with_app_id("feathercall")
            .with_inner_size([940.0, 780.0])
            .with_min_inner_size([560.0, 420.0]),
        wgpu_options: crate::gpu::window_setup(),
        renderer: eframe::Renderer::Wgpu,
        ..Default::default()
    };
    let create = |context: &eframe::CreationContext<'_>| -> Result<Box<dyn eframe::App>, _> {
        theme::apply(&context.egui_ctx);
        let gpu = context.wgpu_render_state.clone().context("the window has no graphics device")?;
        Ok(Box::new(Window::new(gpu, start)?))
    };
    eframe::run_native("Feathercall", options, Box::new(create))
        .map_err(|error| anyhow::anyhow!("cannot open the window: {error}"))
}

struct Window {
    gpu: egui_wgpu::RenderState,
    home: Home,
    screen: Screen,
}

enum Screen {
    Home,
    Enrolling(Enrolling),
    Call(Box<CallScreen>),
}

/// What `auto` asks of an adapter that is no GPU.
const SOFTWARE_SIDE: u32 = 256;

/// A call and how it is shown.
struct CallScreen {
    live: Live,
    /// In the demo, the peer that is seen: its camera is shown in place of the own.
    companion: Option<Call>,
    link: Option<String>,
    status: String,
    painter: Option<FacePainter>,
    preview: Option<egui::TextureHandle>,
    preview_time: Option<types::MediaTime>,
    figures: Vec<(&'static str, String)>,
    next_figures: Instant,
    n_painted: u32,
    /// Side in pixels of the place where the face was shown last.
    place_px: u32,
}

/// The renderer of the peer's face, on the window's own device.
struct FacePainter {
    renderer: Renderer,
    model: Arc<FaceModel>,
    texture: TextureId,
    side: u32,
}

impl Window {
    fn new(gpu: egui_wgpu::RenderState, start: Start) -> anyhow::Result<Self> {
        let home =
            Home { faces: known_faces(), cameras: capture::devices().cameras, ..Home::default() };
        let mut window = Self { gpu, home, screen: Screen::Home };
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

    fn host(&mut self, settings: Settings, options: Options) -> anyhow::Result<()> {
        let (call, link) = Call::host(settings)?;
        let live = Live::new(call, options)?;
        self.screen = Screen::Call(Box::new(CallScreen::new(live, Some(link.to_string()))));
        Ok(())
    }

    fn join(&mut self, link: &str, settings: Settings, options: Options) -> anyhow::Result<()> {
        let live = Live::new(Call::join(link, settings)?, options)?;
        self.screen = Screen::Call(Box::new(CallScreen::new(live, None)));
        Ok(())
    }

    /// The settings that the home screen shows.
    fn settings(&self) -> anyhow::Result<Settings> {
        let path = self.home.face.and_then(|index| self.home.faces.get(index));
        let source = if path.is_some() { SourceSpec::Camera(None) } else { SourceSpec::Actor };
        let face = Some(face_or_demo(path.map(PathBuf::as_path))?);
        Ok(Settings { face, source: Some(source), ..Settings::default() })
    }

    fn handle_home(&mut self, action: HomeAction) -> anyhow::Result<()> {
        match action {
            HomeAction::StartCall => self.host(self.settings()?, Options::default()),
            HomeAction::Join(link) => self.join(&link, self.settings()?, Options::default()),
            HomeAction::Enroll { name, clip } => {
                let source = clip.map_or(SourceSpec::Camera(None), SourceSpec::Clip);
                self.screen = Screen::Enrolling(Enrolling::start(&name, source)?);
                Ok(())
            }
        }
    }
}

impl eframe::App for Window {
    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        let message = match &mut self.screen {
            Screen::Home => {
                let action = egui::CentralPanel::default()
                    .show(ui, |ui| home::show(ui, &mut self.home))
                    .inner;
                match action.map(|action| self.handle_home(action)) {
                    Some(Err(error)) => Some(format!("{error:#}")),
                    Some(Ok(())) => {
                        self.home.message = None;
                        None
                    }
                    None => None,
                }
            }
            Screen::Enrolling(enrolling) => {
                let done = enrolling.show(ui);
                if done.is_some() {
                    self.home.faces = known_faces();
                    self.home.face = (!self.home.faces.is_empty()).then_some(0);
                    self.screen = Screen::Home;
                }
                done
            }
            Screen::Call(call) => match call.show(ui, &self.gpu) {
                Ok(None) => None,
                Ok(Some(ended)) => {
                    self.leave_call();
                    Some(ended)
                }
                Err(error) => {
                    self.leave_call();
                    Some(format!("{error:#}"))
                }
            },
        };
        if let Some(message) = message {
            self.home.message = Some(message);
        }
    }
}

impl Window {
    /// Goes home; a recording is finished on the way.
    fn leave_call(&mut self) {
        if let Screen::Call(call) = std::mem::replace(&mut self.screen, Screen::Home) {
            if let Some(painter) = &call.painter {
                self.gpu.renderer.write().free_texture(&painter.texture);
            }
            if let Err(error) = call.live.finish() {
                self.home.message = Some(format!("{error:#}"));
            }
        }
    }
}

impl CallScreen {
    fn new(live: Live, link: Option<String>) -> Self {
        Self {
            live,
            companion: None,
            status: if link.is_some() { "Waiting for your peer" } else { "Connecting" }.to_owned(),
            link,
            painter: None,
            preview: None,
            preview_time: None,
            figures: Vec::new(),
            next_figures: Instant::now(),
            n_painted: 0,
            place_px: 256,
        }
    }

    /// One repaint of the window. Gives back why the call ended, once it has.
    fn show(
        &mut self,
        ui: &mut egui::Ui,
        gpu: &egui_wgpu::RenderState,
    ) -> anyhow::Result<Option<String>> {
        for event in self.live.tick(Duration::ZERO)? {
            self.note(&event);
        }
        if let Some(ended) = self.live.ended() {
            return Ok(Some(ended.to_string()));
        }
        self.paint_face(gpu)?;
        self.update_preview(ui.ctx());
        self.update_figures();
        let view = CallView {
            remote: self.painter.as_ref().map(|painter| painter.texture),
            preview: self.preview.as_ref().map(egui::TextureHandle::id),
            preview_label: if self.companion.is_some() { "The camera's picture" } else { "You" },
            status: self.status.clone(),
            link: self.link.clone(),
            is_muted: self.live.is_muted(),
            is_camera_off: self.live.is_camera_off(),
            resolution: self.live.resolution(),
            rate: self.live.rate(),
            rendered_side: self.painter.as_ref().map_or(0, |painter| painter.side),
            figures: self.figures.clone(),
        };
        let (actions, place_px) = in_call::show(ui, &view);
        self.place_px = place_px;
        for action in actions {
            match action {
                CallAction::ToggleMute => self.live.act(&Action::Mute(!view.is_muted)),
                CallAction::ToggleCamera => self.live.act(&Action::Camera(view.is_camera_off)),
                CallAction::Resolution(choice) => self.live.act(&Action::Resolution(choice)),
                CallAction::Rate(rate) => self.live.act(&Action::Rate(rate)),
                CallAction::CopyLink => {
                    ui.ctx().copy_text(self.link.clone().unwrap_or_default());
                }
                CallAction::HangUp => self.live.act(&Action::HangUp),
            }
        }
        // The face moves at the display's rhythm; a waiting screen only has to notice events.
        if self.painter.is_some() {
            ui.ctx().request_repaint();
        } else {
            ui.ctx().request_repaint_after(Duration::from_millis(50));
        }
        Ok(None)
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Connected { .. } => {
                self.link = None;
                "Connected, receiving your peer's face".clone_into(&mut self.status);
            }
            Event::ModelProgress(share) => {
                self.status = format!("Receiving your peer's face: {:.0} %", share * 100.0);
            }
            Event::PeerLost => "Nothing heard from your peer, waiting".clone_into(&mut self.status),
            Event::ModelRefused(refusal) => self.status = refusal.to_string(),
            Event::PeerBack => "Connected".clone_into(&mut self.status),
            _ => {}
        }
    }

    /// The pixels that `auto` should fill: those of the window, but no more than a software
    /// adapter can draw in motion.
    fn auto_px(&self, gpu: &egui_wgpu::RenderState) -> u32 {
        let is_software = gpu.adapter.get_info().device_type == wgpu::DeviceType::Cpu;
        if is_software { self.place_px.min(SOFTWARE_SIDE) } else { self.place_px }
    }

    /// Draws what is due now into the texture that egui shows: no read-back.
    fn paint_face(&mut self, gpu: &egui_wgpu::RenderState) -> anyhow::Result<()> {
        let side = self.live.resolution().side(self.auto_px(gpu));
        if self.painter.is_none() {
            let Some(model) = self.live.model() else { return Ok(()) };
            let renderer = Renderer::new(&gpu.device, &gpu.queue, &model)?;
            let texture = gpu.renderer.write().register_native_texture(
                &gpu.device,
                renderer.texture_view(),
                wgpu::FilterMode::Linear,
            );
            let side = renderer.side();
            self.painter = Some(FacePainter { renderer, model, texture, side });
        }
        let Some(painter) = &mut self.painter else { return Ok(()) };
        let Some(feature) = self.live.call().feature_at(Instant::now()) else { return Ok(()) };
        painter.renderer.resize(side)?;
        let inputs = painter.model.frame_inputs(&feature);
        painter.renderer.render(&gpu.device, &gpu.queue, &inputs);
        self.n_painted += 1;
        if painter.side != side {
            painter.side = side;
            gpu.renderer.write().update_egui_texture_from_wgpu_texture(
                &gpu.device,
                painter.renderer.texture_view(),
                wgpu::FilterMode::Linear,
                painter.texture,
            );
        }
        Ok(())
    }

    fn update_preview(&mut self, ctx: &egui::Context) {
        let seen = self.companion.as_ref().unwrap_or(self.live.call());
        let Some(frame) = seen.preview() else { return };
        if self.preview_time == Some(frame.time()) {
            return;
        }
        self.preview_time = Some(frame.time());
        let size = [frame.width() as usize, frame.height() as usize];
        let image = egui::ColorImage::from_rgb(size, frame.rgb());
        match &mut self.preview {
            Some(texture) => texture.set(image, egui::TextureOptions::LINEAR),
            None => {
                let options = egui::TextureOptions::LINEAR;
                self.preview = Some(ctx.load_texture("preview", image, options));
            }
        }
    }

    fn update_figures(&mut self) {
        let now = Instant::now();
        if now < self.next_figures {
            return;
        }
        self.next_figures = now + Duration::from_secs(1);
        let stats = self.live.call().stats();
        self.figures = vec![
            ("down, wire", format!("{:.1} kbit/s", stats.wire_kbps_in)),
            ("down, face", format!("{:.2} kbit/s", stats.payload_kbps_in)),
            ("up, wire", format!("{:.1} kbit/s", stats.wire_kbps_out)),
            ("up, face", format!("{:.2} kbit/s", stats.payload_kbps_out)),
            ("features", format!("{:.0} /s", stats.features_fps_in)),
            ("pictures", format!("{} /s", self.n_painted)),
            ("delay", format!("{:.0} ms", stats.playout_delay_ms)),
            ("round trip", stats.rtt_ms.map_or("-".to_owned(), |ms| format!("{ms:.0} ms"))),
            ("lost", format!("{:.1} %", stats.loss_in * 100.0)),
        ];
        self.n_painted = 0;
    }
}

/// Faces enrolled on this computer, by name.
fn known_faces() -> Vec<PathBuf> {
    let Some(folder) = enrolling::faces_folder() else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut faces: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "face"))
        .collect();
    faces.sort();
    faces
}
