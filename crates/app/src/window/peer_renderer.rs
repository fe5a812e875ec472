//! Rendering of the peer picture for the window: displayed directly from the compute shader on a
//! GPU, copied from the CPU renderer otherwise.

use std::sync::Arc;
use std::time::{Duration, Instant};

use face::FaceModel;
use render::{Governor, RenderSettings};
use types::Feature;

use super::blit::{Blit, PeerPicture};
use crate::face_renderer::{FaceRenderer, Picture};
use crate::gpu::Gpu;
use crate::render_stats::{RenderStats, RenderedPicture, SettingsRow};

/// Renders the peer picture with settings that keep pace with the display.
pub(super) struct PeerRenderer {
    renderer: FaceRenderer,
    governor: Governor,
    max_fps: u32,
    blit: Option<Blit>,
    /// Side of the renderer's own texture, if that is displayed.
    native_side: Option<u32>,
    /// Side requested and side rendered, pixels.
    requested_side: u32,
    side: u32,
}

impl PeerRenderer {
    /// Renders on the window's adapter if suitable, at most `max_fps` pictures per second.
    pub(super) fn new(model: Arc<FaceModel>, gpu: &Gpu, max_fps: u32) -> Self {
        let requested_side = 256;
        Self {
            renderer: FaceRenderer::choose(model, Ok(gpu.clone())),
            governor: Governor::new(requested_side, max_fps),
            max_fps,
            blit: None,
            native_side: None,
            requested_side,
            side: 0,
        }
    }

    /// Sets the model if it is another one: with more layers, or before another background.
    pub(super) fn set_model(&mut self, model: &Arc<FaceModel>) {
        if Arc::ptr_eq(self.renderer.model(), model) {
            return;
        }
        self.renderer.set_model(Arc::clone(model));
        // The renderer has a new texture.
        self.native_side = None;
    }

    /// Requests pictures of `side` pixels and returns whether one is due at `now`, which is then to
    /// be rendered.
    pub(super) fn begin(&mut self, now: Instant, side: u32, stats: &mut RenderStats) -> bool {
        self.requested_side = side;
        if let Some(step) = self.governor.set_side(side) {
            stats.add_settings_change(self.row(step.from), self.row(step.to));
        }
        self.governor.begin(now)
    }

    /// Returns how long no picture will be due.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.governor.time_until_due(now)
    }

    /// Renders a picture that is due.
    ///
    /// # Errors
    /// If the requested side is out of range.
    pub(super) fn render(
        &mut self,
        state: &egui_wgpu::RenderState,
        feature: &Feature,
        stats: &mut RenderStats,
    ) -> anyhow::Result<()> {
        let settings = self.governor.settings();
        let side = settings.side;
        self.renderer.set_side(side);
        self.renderer.set_samples(settings.n_samples);
        let started = Instant::now();
        let mut duration = self.renderer.render(feature)?;
        self.side = side;
        let blit = self.blit.get_or_insert_with(|| Blit::new(state));
        match self.renderer.picture() {
            Some(Picture::Texture(view)) => {
                let is_new = self.native_side.replace(side) != Some(side);
                is_new.then(|| blit.show(view));
            }
            Some(Picture::Pixels(rgb)) => {
                self.native_side = None;
                blit.show_pixels(side, rgb);
                duration = Some(started.elapsed());
            }
            None => {}
        }
        let now = Instant::now();
        let (path, settings) = (self.renderer.name(), self.row(settings));
        let requested_side = self.requested_side;
        stats.add_picture(now, RenderedPicture { path, requested_side, settings, duration });
        if let Some(step) = duration.and_then(|duration| self.governor.record(now, duration)) {
            stats.add_settings_change(self.row(step.from), self.row(step.to));
        }
        Ok(())
    }

    fn row(&self, settings: RenderSettings) -> SettingsRow {
        SettingsRow {
            samples_per_ray: settings.n_samples,
            rendered_resolution: settings.side,
            pictures_per_s_limit: f64::from(self.max_fps) / f64::from(settings.refreshes),
        }
    }

    /// Returns the newest picture; `None` before the first one.
    pub(super) fn picture(&self) -> Option<&PeerPicture> {
        self.blit.as_ref()?.picture()
    }

    /// Returns the side of the newest picture, pixels.
    pub(super) fn side(&self) -> u32 {
        self.side
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::blit::tests::{screen, window};
    use face::Sizes;
    use types::{Code, HeadPose, MediaTime};

    fn feature() -> Feature {
        let pose = HeadPose::from_array([0.0, 0.1, 0.0, 0.0, 0.0, 1.0]).unwrap();
        Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL }
    }

    /// Returns the mean difference between a window of 64 pixels and the CPU renderer's picture,
    /// levels of 0..=255, away from the edge and its round corners.
    fn levels_off(model: &Arc<FaceModel>, shown: &[[u8; 3]]) -> f64 {
        let mut cpu = FaceRenderer::on_cpu(Arc::clone(model));
        cpu.set_side(64);
        let want = cpu.render_frame(&feature()).unwrap();
        let want = want.rgb().as_chunks::<3>().0;
        let places: Vec<usize> = (12..52).flat_map(|row| row * 64 + 12..row * 64 + 52).collect();
        let off =
            |i: &usize| (0..3).map(|c| f64::from(shown[*i][c].abs_diff(want[*i][c]))).sum::<f64>();
        places.iter().map(off).sum::<f64>() / (3 * places.len()) as f64
    }

    #[test]
    fn on_a_software_adapter_the_window_shows_the_cpu_renderers_picture() {
        let Some(state) = window() else { return };
        let mut gpu = Gpu::of_window(&state);
        gpu.info.device_type = wgpu::DeviceType::Cpu;
        let model = Arc::new(FaceModel::noise(Sizes::tiny(), 7));
        let mut peer = PeerRenderer::new(Arc::clone(&model), &gpu, 60);
        let (mut stats, mut now) = (RenderStats::default(), Instant::now());
        for side in [32, 64] {
            assert!(peer.begin(now, side, &mut stats));
            peer.render(&state, &feature(), &mut stats).unwrap();
            now += Duration::from_secs(1);
            assert_eq!(peer.side(), side);
            let shown = screen(&state, peer.picture().expect("a picture was rendered"), 64);
            let off = levels_off(&model, &shown);
            assert!(off < 12.0, "{off} levels off at {side} px");
        }
        let row = stats.take_row();
        assert_eq!((row.render_path.as_str(), row.pictures), ("cpu", 2));
    }

    #[test]
    fn on_a_gpu_the_window_shows_the_renderers_texture_until_the_device_is_lost() {
        let Some(state) = window() else { return };
        let mut gpu = Gpu::of_window(&state);
        gpu.info.device_type = wgpu::DeviceType::IntegratedGpu;
        let model = Arc::new(FaceModel::noise(Sizes::tiny(), 7));
        let mut peer = PeerRenderer::new(Arc::clone(&model), &gpu, 60);
        let (mut stats, mut now) = (RenderStats::default(), Instant::now());
        for side in [32, 48] {
            assert!(peer.begin(now, side, &mut stats));
            peer.render(&state, &feature(), &mut stats).unwrap();
            now += Duration::from_secs(1);
            assert_eq!(peer.native_side, Some(side));
            let shown = screen(&state, peer.picture().expect("a picture was rendered"), 64);
            let off = levels_off(&model, &shown);
            assert!(off < 12.0, "{off} levels off at {side} px");
        }
        assert_eq!(stats.take_row().render_path, gpu.info.name);
        gpu.device.destroy();
        let _ = gpu.device.poll(wgpu::PollType::wait_indefinitely());
        assert!(peer.begin(now, 48, &mut stats) && !peer.begin(now, 48, &mut stats));
        peer.render(&state, &feature(), &mut stats).unwrap();
        assert!(peer.native_side.is_none(), "the CPU renders now");
        assert_eq!(stats.take_row().render_path, "cpu");
    }
}
