//! The peer's face where egui shows it: straight from the compute shader on a GPU, through an
//! egui texture from the CPU renderer where there is none.

use std::sync::Arc;

use egui::{ColorImage, TextureHandle, TextureId, TextureOptions};
use face::FaceModel;
use types::Feature;

use crate::gpu::Gpu;
use crate::painted::Painted;
use crate::painter::{Painter, Picture};

/// Paints the peer's face and owns the texture that shows it.
pub(super) struct FacePainter {
    painter: Painter,
    canvas: Option<Canvas>,
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
    /// A painter by the path that suits the window's adapter.
    pub(super) fn new(model: Arc<FaceModel>, gpu: &Gpu) -> Self {
        Self { painter: Painter::choose(model, Ok(gpu.clone())), canvas: None, side: 0 }
    }

    /// Draws a picture of `side` pixels.
    pub(super) fn paint(
        &mut self,
        ctx: &egui::Context,
        state: &egui_wgpu::RenderState,
        feature: &Feature,
        side: u32,
        painted: &mut Painted,
    ) -> anyhow::Result<()> {
        self.painter.resize(side);
        let took = self.painter.draw(feature)?;
        painted.picture(self.painter.name(), side, took);
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
            }
            None => {}
        }
        Ok(())
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
        let mut face = FacePainter::new(Arc::clone(&model), &gpu);
        let mut painted = Painted::default();
        for side in [32, 48] {
            face.paint(&ctx, &state, &feature(), side, &mut painted).unwrap();
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
        let mut face = FacePainter::new(Arc::clone(&model), &gpu);
        let mut painted = Painted::default();
        for side in [32, 48] {
            face.paint(&ctx, &state, &feature(), side, &mut painted).unwrap();
            let texture = face.texture().expect("a picture was painted");
            assert!(matches!(texture, TextureId::User(_)));
            let shown = state.renderer.read().texture(&texture).is_some();
            assert!(shown, "egui knows the texture at {side} px");
        }
        assert_eq!(painted.take_row().render_path, gpu.info.name);
        gpu.device.destroy();
        let _ = gpu.device.poll(wgpu::PollType::wait_indefinitely());
        face.paint(&ctx, &state, &feature(), 48, &mut painted).unwrap();
        assert!(matches!(face.texture(), Some(TextureId::Managed(_))));
        assert_eq!(painted.take_row().render_path, "cpu");
    }
}
