//! Renders features to pictures: on the GPU, or on the CPU where there is none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use face::{DEFAULT_SAMPLES, FaceModel};
use render::{CpuRenderer, RenderError, Renderer};
use types::{Feature, SquareFrame};

use crate::gpu::{Gpu, GpuError};

/// Without timestamps, every so many pictures one is waited for, to know how long it takes.
const PROBED: u64 = 32;

/// A renderer of one face, for a window and without one.
pub(crate) struct Painter {
    model: Arc<FaceModel>,
    side: u32,
    n_samples: u32,
    n_drawn: u64,
    path: Path,
}

enum Path {
    Gpu(Box<(Gpu, Renderer)>),
    Cpu(Box<CpuRenderer>),
    Definition,
}

/// Where the newest picture is.
pub(crate) enum Picture<'a> {
    /// On the GPU, to be shown by the device that drew it.
    Texture(&'a wgpu::TextureView),
    /// In memory: `[side][side]` pixels of red, green and blue.
    Pixels(&'a [u8]),
}

impl Painter {
    /// By the best path of this computer, without a window.
    pub(crate) fn new(model: Arc<FaceModel>) -> Self {
        Self::choose(model, Gpu::headless())
    }

    /// On a GPU, by its shaders. Without one the CPU renderer is faster than a software adapter
    /// that runs them; where there is no adapter, or one that cannot do it, one line says so.
    pub(crate) fn choose(model: Arc<FaceModel>, gpu: Result<Gpu, GpuError>) -> Self {
        let told = match gpu {
            Ok(gpu) if gpu.is_software() => return Self::on_cpu(model),
            Ok(gpu) => match Self::on_gpu(Arc::clone(&model), gpu) {
                Ok(painter) => return painter,
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        eprintln!("feathercall: {told}; rendering on the CPU");
        Self::on_cpu(model)
    }

    pub(crate) fn on_gpu(model: Arc<FaceModel>, gpu: Gpu) -> Result<Self, RenderError> {
        let renderer = Renderer::new(&gpu.device, &gpu.queue, &model)?;
        Ok(Self::with(model, Path::Gpu(Box::new((gpu, renderer)))))
    }

    pub(crate) fn on_cpu(model: Arc<FaceModel>) -> Self {
        let renderer = CpuRenderer::new(Arc::clone(&model));
        Self::with(model, Path::Cpu(Box::new(renderer)))
    }

    /// By the field's definition, ray by ray: what the others are measured against.
    pub(crate) fn by_definition(model: Arc<FaceModel>) -> Self {
        Self::with(model, Path::Definition)
    }

    fn with(model: Arc<FaceModel>, path: Path) -> Self {
        Self { model, side: 256, n_samples: DEFAULT_SAMPLES, n_drawn: 0, path }
    }

    /// What renders: the adapter's name, `cpu`, or `definition (cpu)`.
    pub(crate) fn name(&self) -> &str {
        match &self.path {
            Path::Gpu(gpu) => &gpu.0.info.name,
            Path::Cpu(_) => "cpu",
            Path::Definition => "definition (cpu)",
        }
    }

    /// The device that draws, on the GPU.
    pub(crate) fn gpu(&self) -> Option<&Gpu> {
        match &self.path {
            Path::Gpu(gpu) => Some(&gpu.0),
            Path::Cpu(_) | Path::Definition => None,
        }
    }

    /// How long the GPU worked on a recent picture, where it can tell.
    pub(crate) fn gpu_time(&mut self) -> Option<Duration> {
        match &mut self.path {
            Path::Gpu(gpu) => gpu.1.gpu_time(),
            Path::Cpu(_) | Path::Definition => None,
        }
    }

    /// What is drawn.
    pub(crate) fn model(&self) -> &Arc<FaceModel> {
        &self.model
    }

    /// Goes on with another model of the same face, by the same path.
    pub(crate) fn refine(&mut self, model: Arc<FaceModel>) {
        match &mut self.path {
            Path::Gpu(gpu) => {
                let (gpu, renderer) = &mut **gpu;
                // A device that took the coarser one takes this; a lost one is noticed on drawing.
                let Ok(finer) = Renderer::new(&gpu.device, &gpu.queue, &model) else { return };
                *renderer = finer;
            }
            Path::Cpu(renderer) => **renderer = CpuRenderer::new(Arc::clone(&model)),
            Path::Definition => {}
        }
        self.model = model;
    }

    /// Side of the pictures that follow.
    pub(crate) fn resize(&mut self, side: u32) {
        self.side = side;
    }

    /// Samples a ray of the pictures that follow.
    pub(crate) fn set_samples(&mut self, n_samples: u32) {
        self.n_samples = n_samples;
    }

    /// Draws a picture and leaves it where it was drawn. Gives back how long this one or one
    /// shortly before it took, if that is known.
    ///
    /// A device that is lost is told in one line, and the picture is drawn on the CPU.
    pub(crate) fn draw(&mut self, feature: &Feature) -> Result<Option<Duration>, RenderError> {
        if let Path::Gpu(gpu) = &self.path
            && let Some(trouble) = gpu.0.trouble()
        {
            self.fall_back(&trouble.to_string());
        }
        let inputs = self.model.frame_inputs(feature);
        let started = Instant::now();
        match &mut self.path {
            Path::Gpu(gpu) => {
                let (gpu, renderer) = &mut **gpu;
                renderer.resize(&gpu.device, self.side)?;
                renderer.set_samples(self.n_samples);
                renderer.render(&gpu.device, &gpu.queue, &inputs);
                self.n_drawn += 1;
                if renderer.can_time() {
                    return Ok(renderer.gpu_time());
                }
                let is_probed = self.n_drawn.is_multiple_of(PROBED)
                    && gpu.device.poll(wgpu::PollType::wait_indefinitely()).is_ok();
                Ok(is_probed.then(|| started.elapsed()))
            }
            Path::Cpu(renderer) => {
                renderer.resize(self.side)?;
                renderer.set_samples(self.n_samples);
                renderer.render(&inputs);
                self.n_drawn += 1;
                Ok(Some(started.elapsed()))
            }
            Path::Definition => Ok(None),
        }
    }

    /// The newest picture that [`Painter::draw`] has drawn; none by the definition.
    pub(crate) fn picture(&self) -> Option<Picture<'_>> {
        match &self.path {
            Path::Gpu(gpu) => Some(Picture::Texture(gpu.1.texture_view())),
            Path::Cpu(renderer) => Some(Picture::Pixels(renderer.rgb())),
            Path::Definition => None,
        }
    }

    /// As [`Painter::paint`], of this side.
    pub(crate) fn paint_at(&mut self, feature: &Feature, side: u32) -> anyhow::Result<SquareFrame> {
        self.resize(side);
        self.paint(feature)
    }

    /// One picture in memory, which carries the feature's media time.
    pub(crate) fn paint(&mut self, feature: &Feature) -> anyhow::Result<SquareFrame> {
        self.draw(feature)?;
        if let Path::Gpu(gpu) = &mut self.path {
            let (gpu, renderer) = &mut **gpu;
            match renderer.read_back(&gpu.device, &gpu.queue, feature.time) {
                Ok(frame) => return Ok(frame),
                Err(error) => {
                    let trouble = gpu
                        .trouble()
                        .map_or_else(|| error.to_string(), |trouble| trouble.to_string());
                    self.fall_back(&trouble);
                    self.draw(feature)?;
                }
            }
        }
        if let Path::Cpu(renderer) = &self.path {
            return Ok(renderer.frame(feature.time)?);
        }
        let inputs = self.model.frame_inputs(feature);
        let picture = face::render_cpu(&self.model, &inputs, self.side, self.n_samples);
        Ok(SquareFrame::from_colors(self.side, feature.time, &picture)?)
    }

    fn fall_back(&mut self, trouble: &str) {
        eprintln!("feathercall: {trouble}; rendering on the CPU");
        self.path = Path::Cpu(Box::new(CpuRenderer::new(Arc::clone(&self.model))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Trouble;
    use face::Sizes;
    use types::{Code, HeadPose, MediaTime};

    fn model() -> Arc<FaceModel> {
        Arc::new(FaceModel::noise(Sizes::tiny(), 7))
    }

    fn feature() -> Feature {
        let pose = HeadPose::from_array([0.0, 0.1, 0.0, 0.0, 0.0, 1.0]).unwrap();
        Feature { time: MediaTime::from_micros(40_000), pose, code: Code::NEUTRAL }
    }

    /// A device of whatever adapter there is, with these limits.
    fn device(limits: wgpu::Limits) -> Option<Gpu> {
        let instance =
            wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let adapter =
            pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))
                .inspect_err(|error| eprintln!("skipped: {error}"))
                .ok()?;
        let descriptor =
            wgpu::DeviceDescriptor { required_limits: limits, ..wgpu::DeviceDescriptor::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        Some(Gpu::new(device, queue, adapter.get_info()))
    }

    fn on_cpu(side: u32) -> SquareFrame {
        let mut painter = Painter::on_cpu(model());
        painter.resize(side);
        painter.paint(&feature()).unwrap()
    }

    #[test]
    fn without_an_adapter_the_cpu_paints() {
        let mut painter = Painter::choose(model(), Err(GpuError::NoAdapter));
        assert_eq!(painter.name(), "cpu");
        painter.resize(32);
        assert_eq!(painter.paint(&feature()).unwrap().rgb(), on_cpu(32).rgb());
    }

    #[test]
    fn a_finer_model_is_painted_from_the_next_picture_on() {
        let coarse = Arc::new(FaceModel::noise(Sizes::tiny(), 8));
        let mut painters = vec![Painter::on_cpu(Arc::clone(&coarse))];
        let gpu = device(wgpu::Limits::downlevel_defaults());
        painters.extend(gpu.and_then(|gpu| Painter::on_gpu(coarse, gpu).ok()));
        for mut painter in painters {
            painter.resize(32);
            let before = painter.paint(&feature()).unwrap();
            painter.refine(model());
            let after = painter.paint(&feature()).unwrap();
            assert!(before.rgb() != after.rgb());
            // The shaders may differ by a rounding, the models differ by far more.
            assert!(face::psnr_db(&after, &on_cpu(32)) > 40.0, "{}", painter.name());
        }
    }

    #[test]
    fn a_software_adapter_is_not_made_to_run_shaders() {
        let Some(gpu) = device(wgpu::Limits::downlevel_defaults()) else { return };
        let is_software = gpu.is_software();
        let painter = Painter::choose(model(), Ok(gpu));
        assert_eq!(painter.name() == "cpu", is_software);
    }

    #[test]
    fn an_adapter_without_compute_shaders_leaves_it_to_the_cpu() {
        let Some(mut gpu) = device(wgpu::Limits::downlevel_webgl2_defaults()) else { return };
        // As a GPU of that kind would say.
        gpu.info.device_type = wgpu::DeviceType::IntegratedGpu;
        let refused = Painter::on_gpu(model(), gpu.clone()).err();
        assert!(matches!(refused, Some(RenderError::Adapter { .. })), "{refused:?}");
        assert_eq!(Painter::choose(model(), Ok(gpu)).name(), "cpu");
    }

    #[test]
    fn a_lost_device_costs_no_picture() {
        let Some(gpu) = device(wgpu::Limits::downlevel_defaults()) else { return };
        let mut painter = Painter::on_gpu(model(), gpu.clone()).unwrap();
        painter.resize(32);
        painter.paint(&feature()).unwrap();
        assert_eq!(painter.name(), gpu.info.name);
        gpu.device.destroy();
        for _ in 0..2 {
            let frame = painter.paint(&feature()).unwrap();
            assert_eq!((painter.name(), frame.time()), ("cpu", feature().time));
            assert_eq!(frame.rgb(), on_cpu(32).rgb());
        }
        assert!(matches!(gpu.trouble(), Some(Trouble::Lost(_))));
    }

    #[test]
    fn a_device_lost_under_a_picture_leaves_the_next_to_the_cpu() {
        let Some(gpu) = device(wgpu::Limits::downlevel_defaults()) else { return };
        let mut painter = Painter::on_gpu(model(), gpu.clone()).unwrap();
        painter.resize(32);
        painter.draw(&feature()).unwrap();
        gpu.device.destroy();
        // What was under way is let go of before the loss is told.
        let _ = gpu.device.poll(wgpu::PollType::wait_indefinitely());
        painter.draw(&feature()).unwrap();
        assert!(matches!(painter.picture(), Some(Picture::Pixels(rgb)) if rgb == on_cpu(32).rgb()));
    }
}
