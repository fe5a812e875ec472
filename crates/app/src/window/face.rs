//! The peer's face where egui shows it: straight from the compute shader on a GPU, through an
//! egui texture from the CPU renderer where there is none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use egui::{ColorImage, TextureHandle, TextureId, TextureOptions};
use face::FaceModel;
use render::{Effort, Governor};
use types::Feature;

use crate::gpu::Gpu;
use crate::painted::{Drawn, EffortRow, Painted};
use crate::painter::{Painter, Picture};

/// Paints the peer's face with as much work as there is room for, and owns the texture that shows
/// it.
pub(super) struct FacePainter {
    painter: Painter,
    governor: Governor,
    max_fps: u32,
    canvas: Option<Canvas>,
    /// Sides in pixels that were asked for and painted.
    asked: u32,
    side: u32,
}

/// What egui knows the picture as.
enum Canvas {
    /// The renderer's own texture, of this side: no read-back.
    Native(TextureId, u32),
    /// A copy of the pixels.
    Copied(TextureHandle),
}

impl FacePainter {
    /// A painter by the path that suits the window's adapter, for at most so many pictures a
    /// second.
    pub(super) fn new(model: Arc<FaceModel>, gpu: &Gpu, max_fps: u32) -> Self {
        let asked = 256;
        Self {
            painter: Painter::choose(model, Ok(gpu.clone())),
            governor: Governor::new(asked, max_fps),
            max_fps,
            canvas: None,
            asked,
            side: 0,
        }
    }

    /// Goes on with this model, a finer one of the same face or one in front of another background.
    pub(super) fn refine(&mut self, model: &Arc<FaceModel>) {
        if Arc::ptr_eq(self.painter.model(), model) {
            return;
        }
        self.painter.refine(Arc::clone(model));
        if let Some(Canvas::Native(_, shown)) = &mut self.canvas {
            // The renderer's texture is another one now.
            *shown = 0;
        }
    }

    /// Asks for pictures of `side` pixels. Whether one is due at `now`; if so, paint it.
    pub(super) fn begin(&mut self, now: Instant, side: u32, painted: &mut Painted) -> bool {
        self.asked = side;
        if let Some(shift) = self.governor.set_side(side) {
            painted.shift(self.row(shift.from), self.row(shift.to));
        }
        self.governor.begin(now)
    }

    /// How long nothing is to be painted.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.governor.wait(now)
    }

    /// Paints a picture that is due.
    pub(super) fn paint(
        &mut self,
        ctx: &egui::Context,
        state: &egui_wgpu::RenderState,
        feature: &Feature,
        painted: &mut Painted,
    ) -> anyhow::Result<()> {
        let effort = self.governor.effort();
        let side = effort.side;
        self.painter.resize(side);
        self.painter.set_samples(effort.n_samples);
        let started = Instant::now();
        let mut took = self.painter.draw(feature)?;
        self.side = side;
        match self.painter.picture() {
            Some(Picture::Texture(view)) => {
                let (device, filter) = (&state.device, wgpu::FilterMode::Linear);
                let mut renderer = state.renderer.write();
                match &mut self.canvas {
                    Some(Canvas::Native(_, shown)) if *shown == side => {}
                    Some(Canvas::Native(id, shown)) => {
                        renderer.update_egui_texture_from_wgpu_texture(device, view, filter, *id);
                        *shown = side;
                    }
                    _ => {
                        let id = renderer.register_native_texture(device, view, filter);
                        self.canvas = Some(Canvas::Native(id, side));
                    }
                }
            }
            Some(Picture::Pixels(rgb)) => {
                let image = ColorImage::from_rgb([side as usize; 2], rgb);
                if let Some(Canvas::Copied(texture)) = &mut self.canvas {
                    texture.set(image, TextureOptions::LINEAR);
                } else {
                    let texture = ctx.load_texture("face", image, TextureOptions::LINEAR);
                    self.free(state);
                    self.canvas = Some(Canvas::Copied(texture));
                }
                took = Some(started.elapsed());
            }
            None => {}
        }
        let (path, now) = (self.painter.name(), Instant::now());
        painted.picture(now, Drawn { path, asked: self.asked, effort: self.row(effort), took });
        if let Some(shift) = took.and_then(|took| self.governor.took(now, took)) {
            painted.shift(self.row(shift.from), self.row(shift.to));
        }
        Ok(())
    }

    fn row(&self, effort: Effort) -> EffortRow {
        EffortRow {
            samples_per_ray: effort.n_samples,
            rendered_resolution: effort.side,
            pictures_per_s_limit: f64::from(self.max_fps) / f64::from(effort.beats),
        }
    }

    /// What egui shows; none before the first picture.
    pub(super) fn texture(&self) -> Option<TextureId> {
        self.canvas.as_ref().map(|canvas| match canvas {
            Canvas::Native(id, _) => *id,
            Canvas::Copied(texture) => texture.id(),
        })
    }

    /// Side of the newest picture, pixels.
    pub(super) fn side(&self) -> u32 {
        self.side
    }

    /// Gives a native texture back to egui.
    pub(super) fn free(&mut self, state: &egui_wgpu::RenderState) {
        if let Some(Canvas::Native(id, _)) = self.canvas.take() {
            state.renderer.write().free_texture(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui_kittest::wgpu::{create_render_state, default_wgpu_setup};
    use face::Sizes;
    use types::{Code, HeadPose, MediaTime};

    fn feature() -> Feature {
        let pose = HeadPose::from_array([0.0, 0.1, 0.0, 0.0, 0.0, 1.0]).unwrap();
        Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL }
    }

    /// A window's graphics without a window; `None` where there is no adapter.
    fn window() -> Option<(egui::Context, egui_wgpu::RenderState)> {
        if Gpu::list().is_empty() {
            eprintln!("skipped: no graphics adapter");
            return None;
        }
        let state =
            create_render_state(default_wgpu_setup(), egui_wgpu::RendererOptions::default());
        Some((egui::Context::default(), state))
    }

    #[test]
    fn on_a_software_adapter_the_window_shows_what_the_cpu_renderer_draws() {
        let Some((ctx, state)) = window() else { return };
        let mut gpu = Gpu::of_window(&state);
        gpu.info.device_type = wgpu::DeviceType::Cpu;
        let model = Arc::new(FaceModel::noise(Sizes::tiny(), 7));
        let mut face = FacePainter::new(Arc::clone(&model), &gpu, 60);
        let (mut painted, mut now) = (Painted::default(), Instant::now());
        for side in [32, 48] {
            assert!(face.begin(now, side, &mut painted));
            face.paint(&ctx, &state, &feature(), &mut painted).unwrap();
            now += Duration::from_secs(1);
            let texture = face.texture().expect("a picture was painted");
            assert!(matches!(texture, TextureId::Managed(_)));
            let size = ctx.tex_manager().read().meta(texture).map(|meta| meta.size);
            assert_eq!((size, face.side()), (Some([side as usize; 2]), side));
        }
        let row = painted.take_row();
        assert_eq!((row.render_path.as_str(), row.pictures), ("cpu", 2));
    }

    #[test]
    fn on_a_gpu_the_window_shows_the_shaders_own_texture_until_the_device_is_lost() {
        let Some((ctx, state)) = window() else { return };
        let mut gpu = Gpu::of_window(&state);
        gpu.info.device_type = wgpu::DeviceType::IntegratedGpu;
        let model = Arc::new(FaceModel::noise(Sizes::tiny(), 7));
        let mut face = FacePainter::new(Arc::clone(&model), &gpu, 60);
        let (mut painted, mut now) = (Painted::default(), Instant::now());
        for side in [32, 48] {
            assert!(face.begin(now, side, &mut painted));
            face.paint(&ctx, &state, &feature(), &mut painted).unwrap();
            now += Duration::from_secs(1);
            let texture = face.texture().expect("a picture was painted");
            assert!(matches!(texture, TextureId::User(_)));
            let shown = state.renderer.read().texture(&texture).is_some();
            assert!(shown, "egui knows the texture at {side} px");
        }
        assert_eq!(painted.take_row().render_path, gpu.info.name);
        gpu.device.destroy();
        let _ = gpu.device.poll(wgpu::PollType::wait_indefinitely());
        assert!(face.begin(now, 48, &mut painted) && !face.begin(now, 48, &mut painted));
        face.paint(&ctx, &state, &feature(), &mut painted).unwrap();
        assert!(matches!(face.texture(), Some(TextureId::Managed(_))));
        assert_eq!(painted.take_row().render_path, "cpu");
    }
}
