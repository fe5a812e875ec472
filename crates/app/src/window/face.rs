//! The peer's face for the window: straight from the compute shader on a GPU, from the CPU renderer
//! where there is none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use face::FaceModel;
use render::{Governor, RenderSettings};
use types::Feature;

use super::blit::{Blit, PeerPicture};
use crate::gpu::Gpu;
use crate::painted::{Drawn, EffortRow, Painted};
use crate::painter::{Painter, Picture};

/// Paints the peer's face with as much work as there is room for, and holds what shows it.
pub(super) struct FacePainter {
    painter: Painter,
    governor: Governor,
    max_fps: u32,
    blit: Option<Blit>,
    /// Side of the renderer's own texture that is shown.
    native: Option<u32>,
    /// Sides in pixels that were asked for and painted.
    asked: u32,
    side: u32,
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
            blit: None,
            native: None,
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
        // The renderer's texture is another one now.
        self.native = None;
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
        self.governor.time_until_due(now)
    }

    /// Paints a picture that is due.
    pub(super) fn paint(
        &mut self,
        state: &egui_wgpu::RenderState,
        feature: &Feature,
        painted: &mut Painted,
    ) -> anyhow::Result<()> {
        let effort = self.governor.settings();
        let side = effort.side;
        self.painter.resize(side);
        self.painter.set_samples(effort.n_samples);
        let started = Instant::now();
        let mut took = self.painter.draw(feature)?;
        self.side = side;
        let blit = self.blit.get_or_insert_with(|| Blit::new(state));
        match self.painter.picture() {
            Some(Picture::Texture(view)) => {
                let is_new = self.native.replace(side) != Some(side);
                is_new.then(|| blit.show(view));
            }
            Some(Picture::Pixels(rgb)) => {
                self.native = None;
                blit.show_pixels(side, rgb);
                took = Some(started.elapsed());
            }
            None => {}
        }
        let (path, now) = (self.painter.name(), Instant::now());
        painted.picture(now, Drawn { path, asked: self.asked, effort: self.row(effort), took });
        if let Some(shift) = took.and_then(|took| self.governor.record(now, took)) {
            painted.shift(self.row(shift.from), self.row(shift.to));
        }
        Ok(())
    }

    fn row(&self, effort: RenderSettings) -> EffortRow {
        EffortRow {
            samples_per_ray: effort.n_samples,
            rendered_resolution: effort.side,
            pictures_per_s_limit: f64::from(self.max_fps) / f64::from(effort.refreshes),
        }
    }

    /// What is to be shown; none before the first picture.
    pub(super) fn picture(&self) -> Option<&PeerPicture> {
        self.blit.as_ref()?.picture()
    }

    /// Side of the newest picture, pixels.
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

    /// Mean distance of a window of 64 pixels from what the CPU renderer draws, 8-bit levels, away
    /// from the edge and its round corners.
    fn levels_off(model: &Arc<FaceModel>, shown: &[[u8; 3]]) -> f64 {
        let mut cpu = Painter::on_cpu(Arc::clone(model));
        cpu.resize(64);
        let want = cpu.paint(&feature()).unwrap();
        let want = want.rgb().as_chunks::<3>().0;
        let places: Vec<usize> = (12..52).flat_map(|row| row * 64 + 12..row * 64 + 52).collect();
        let far =
            |i: &usize| (0..3).map(|c| f64::from(shown[*i][c].abs_diff(want[*i][c]))).sum::<f64>();
        places.iter().map(far).sum::<f64>() / (3 * places.len()) as f64
    }

    #[test]
    fn on_a_software_adapter_the_window_shows_what_the_cpu_renderer_draws() {
        let Some(state) = window() else { return };
        let mut gpu = Gpu::of_window(&state);
        gpu.info.device_type = wgpu::DeviceType::Cpu;
        let model = Arc::new(FaceModel::noise(Sizes::tiny(), 7));
        let mut face = FacePainter::new(Arc::clone(&model), &gpu, 60);
        let (mut painted, mut now) = (Painted::default(), Instant::now());
        for side in [32, 64] {
            assert!(face.begin(now, side, &mut painted));
            face.paint(&state, &feature(), &mut painted).unwrap();
            now += Duration::from_secs(1);
            assert_eq!(face.side(), side);
            let shown = screen(&state, face.picture().expect("a picture was painted"), 64);
            let off = levels_off(&model, &shown);
            assert!(off < 12.0, "{off} levels off at {side} px");
        }
        let row = painted.take_row();
        assert_eq!((row.render_path.as_str(), row.pictures), ("cpu", 2));
    }

    #[test]
    fn on_a_gpu_the_window_shows_the_shaders_own_texture_until_the_device_is_lost() {
        let Some(state) = window() else { return };
        let mut gpu = Gpu::of_window(&state);
        gpu.info.device_type = wgpu::DeviceType::IntegratedGpu;
        let model = Arc::new(FaceModel::noise(Sizes::tiny(), 7));
        let mut face = FacePainter::new(Arc::clone(&model), &gpu, 60);
        let (mut painted, mut now) = (Painted::default(), Instant::now());
        for side in [32, 48] {
            assert!(face.begin(now, side, &mut painted));
            face.paint(&state, &feature(), &mut painted).unwrap();
            now += Duration::from_secs(1);
            assert_eq!(face.native, Some(side));
            let shown = screen(&state, face.picture().expect("a picture was painted"), 64);
            let off = levels_off(&model, &shown);
            assert!(off < 12.0, "{off} levels off at {side} px");
        }
        assert_eq!(painted.take_row().render_path, gpu.info.name);
        gpu.device.destroy();
        let _ = gpu.device.poll(wgpu::PollType::wait_indefinitely());
        assert!(face.begin(now, 48, &mut painted) && !face.begin(now, 48, &mut painted));
        face.paint(&state, &feature(), &mut painted).unwrap();
        assert!(face.native.is_none(), "no shader draws any more");
        assert_eq!(painted.take_row().render_path, "cpu");
    }
}
