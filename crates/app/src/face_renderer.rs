//! Renders features of one face: on the GPU, or on the CPU if there is none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use face::{DEFAULT_SAMPLES, FaceModel};
use render::{CpuRenderer, RenderError, Renderer};
use types::{Feature, SquareFrame};

use crate::gpu::{Gpu, GpuError};

/// On an adapter without timestamps, one picture in this many is waited for, to measure it.
const MEASURED_INTERVAL: u64 = 32;

/// Renderer of one face, with or without a window.
pub(crate) struct FaceRenderer {
    model: Arc<FaceModel>,
    side: u32,
    n_samples: u32,
    n_rendered: u64,
    backend: Backend,
}

enum Backend {
    Gpu(Box<(Gpu, Renderer)>),
    Cpu(Box<CpuRenderer>),
    Definition,
}

/// Location of the newest picture.
pub(crate) enum Picture<'a> {
    /// On the GPU, for display by the device that rendered it.
    Texture(&'a wgpu::TextureView),
    /// In memory: sRGB bytes, `[side, side, 3]`.
    Pixels(&'a [u8]),
}

impl FaceRenderer {
    /// Chooses the fastest backend of this computer that works without a window.
    pub(crate) fn new(model: Arc<FaceModel>) -> Self {
        Self::choose(model, Gpu::headless())
    }

    /// Renders on the GPU if it is real hardware: a software adapter is slower than our CPU
    /// renderer. If the GPU is missing or unsuitable, reports it on standard error and renders on
    /// the CPU.
    pub(crate) fn choose(model: Arc<FaceModel>, gpu: Result<Gpu, GpuError>) -> Self {
        let error = match gpu {
            Ok(gpu) if gpu.is_software() => return Self::on_cpu(model),
            Ok(gpu) => match Self::on_gpu(Arc::clone(&model), gpu) {
                Ok(renderer) => return renderer,
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        eprintln!("feathercall: {error}; rendering on the CPU");
        Self::on_cpu(model)
    }

    pub(crate) fn on_gpu(model: Arc<FaceModel>, gpu: Gpu) -> Result<Self, RenderError> {
        let renderer = Renderer::new(&gpu.device, &gpu.queue, &model)?;
        Ok(Self::with_backend(model, Backend::Gpu(Box::new((gpu, renderer)))))
    }

    pub(crate) fn on_cpu(model: Arc<FaceModel>) -> Self {
        let renderer = CpuRenderer::new(Arc::clone(&model));
        Self::with_backend(model, Backend::Cpu(Box::new(renderer)))
    }

    /// Renders by the field's definition, ray by ray: the reference for the other backends.
    pub(crate) fn by_definition(model: Arc<FaceModel>) -> Self {
        Self::with_backend(model, Backend::Definition)
    }

    fn with_backend(model: Arc<FaceModel>, backend: Backend) -> Self {
        Self { model, side: 256, n_samples: DEFAULT_SAMPLES, n_rendered: 0, backend }
    }

    /// Returns the name of the graphics adapter, `cpu`, or `definition (cpu)`.
    pub(crate) fn name(&self) -> &str {
        match &self.backend {
            Backend::Gpu(gpu) => &gpu.0.info.name,
            Backend::Cpu(_) => "cpu",
            Backend::Definition => "definition (cpu)",
        }
    }

    /// Returns the device, if the GPU renders.
    pub(crate) fn gpu(&self) -> Option<&Gpu> {
        match &self.backend {
            Backend::Gpu(gpu) => Some(&gpu.0),
            Backend::Cpu(_) | Backend::Definition => None,
        }
    }

    /// Returns how long the GPU worked on a recent picture, if it has timestamps.
    pub(crate) fn gpu_time(&mut self) -> Option<Duration> {
        match &mut self.backend {
            Backend::Gpu(gpu) => gpu.1.gpu_time(),
            Backend::Cpu(_) | Backend::Definition => None,
        }
    }

    pub(crate) fn model(&self) -> &Arc<FaceModel> {
        &self.model
    }

    /// Replaces the model, for example by one with more layers; the backend stays.
    pub(crate) fn set_model(&mut self, model: Arc<FaceModel>) {
        match &mut self.backend {
            Backend::Gpu(gpu) => {
                let (gpu, renderer) = &mut **gpu;
                // Fails only on a lost device, which the next picture detects.
                let Ok(new) = Renderer::new(&gpu.device, &gpu.queue, &model) else { return };
                *renderer = new;
            }
            Backend::Cpu(renderer) => **renderer = CpuRenderer::new(Arc::clone(&model)),
            Backend::Definition => {}
        }
        self.model = model;
    }

    /// Sets the side of the following pictures, pixels.
    pub(crate) fn set_side(&mut self, side: u32) {
        self.side = side;
    }

    /// Sets the samples per ray of the following pictures.
    pub(crate) fn set_samples(&mut self, n_samples: u32) {
        self.n_samples = n_samples;
    }

    /// Renders a picture, to be fetched with [`FaceRenderer::picture`], and returns how long this
    /// or a recent picture took, if known.
    ///
    /// If the device was lost, reports it on standard error and renders on the CPU.
    ///
    /// # Errors
    /// If the side or the number of samples is out of range.
    pub(crate) fn render(&mut self, feature: &Feature) -> Result<Option<Duration>, RenderError> {
        if let Backend::Gpu(gpu) = &self.backend
            && let Some(failure) = gpu.0.failure()
        {
            self.fall_back(&failure.to_string());
        }
        let inputs = self.model.frame_inputs(feature);
        let started = Instant::now();
        match &mut self.backend {
            Backend::Gpu(gpu) => {
                let (gpu, renderer) = &mut **gpu;
                renderer.resize(&gpu.device, self.side)?;
                renderer.set_samples(self.n_samples);
                renderer.render(&gpu.device, &gpu.queue, &inputs);
                self.n_rendered += 1;
                if renderer.can_time() {
                    return Ok(renderer.gpu_time());
                }
                let is_measured = self.n_rendered.is_multiple_of(MEASURED_INTERVAL)
                    && gpu.device.poll(wgpu::PollType::wait_indefinitely()).is_ok();
                Ok(is_measured.then(|| started.elapsed()))
            }
            Backend::Cpu(renderer) => {
                renderer.resize(self.side)?;
                renderer.set_samples(self.n_samples);
                renderer.render(&inputs);
                self.n_rendered += 1;
                Ok(Some(started.elapsed()))
            }
            Backend::Definition => Ok(None),
        }
    }

    /// Returns the newest picture of [`FaceRenderer::render`]; `None` by the definition.
    pub(crate) fn picture(&self) -> Option<Picture<'_>> {
        match &self.backend {
            Backend::Gpu(gpu) => Some(Picture::Texture(gpu.1.texture_view())),
            Backend::Cpu(renderer) => Some(Picture::Pixels(renderer.rgb())),
            Backend::Definition => None,
        }
    }

    /// Renders a picture of `side` pixels into memory.
    ///
    /// # Errors
    /// As [`FaceRenderer::render`].
    pub(crate) fn render_frame_at(
        &mut self,
        feature: &Feature,
        side: u32,
    ) -> anyhow::Result<SquareFrame> {
        self.set_side(side);
        self.render_frame(feature)
    }

    /// Renders a picture into memory; it has the feature's media time.
    ///
    /// # Errors
    /// As [`FaceRenderer::render`].
    pub(crate) fn render_frame(&mut self, feature: &Feature) -> anyhow::Result<SquareFrame> {
        self.render(feature)?;
        if let Backend::Gpu(gpu) = &mut self.backend {
            let (gpu, renderer) = &mut **gpu;
            match renderer.read_back(&gpu.device, &gpu.queue, feature.time) {
                Ok(frame) => return Ok(frame),
                Err(error) => {
                    let reason = gpu
                        .failure()
                        .map_or_else(|| error.to_string(), |failure| failure.to_string());
                    self.fall_back(&reason);
                    self.render(feature)?;
                }
            }
        }
        if let Backend::Cpu(renderer) = &self.backend {
            return Ok(renderer.frame(feature.time)?);
        }
        let inputs = self.model.frame_inputs(feature);
        let colors = face::render_cpu(&self.model, &inputs, self.side, self.n_samples);
        Ok(SquareFrame::from_colors(self.side, feature.time, &colors)?)
    }

    fn fall_back(&mut self, reason: &str) {
        eprintln!("feathercall: {reason}; rendering on the CPU");
        self.backend = Backend::Cpu(Box::new(CpuRenderer::new(Arc::clone(&self.model))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::GpuFailure;
    use face::Sizes;
    use types::{Code, HeadPose, MediaTime};

    fn model() -> Arc<FaceModel> {
        Arc::new(FaceModel::noise(Sizes::tiny(), 7))
    }

    fn feature() -> Feature {
        let pose = HeadPose::from_array([0.0, 0.1, 0.0, 0.0, 0.0, 1.0]).unwrap();
        Feature { time: MediaTime::from_micros(40_000), pose, code: Code::NEUTRAL }
    }

    /// Opens a device of any adapter with these limits; `None` if there is no adapter.
    fn device(limits: wgpu::Limits) -> Option<Gpu> {
        let instance =
            wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let adapter =
            pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))
                .inspect_err(|error| ::tests::gpu::skip(&error.to_string()))
                .ok()?;
        let descriptor =
            wgpu::DeviceDescriptor { required_limits: limits, ..wgpu::DeviceDescriptor::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        Some(Gpu::new(device, queue, adapter.get_info()))
    }

    fn on_cpu(side: u32) -> SquareFrame {
        let mut renderer = FaceRenderer::on_cpu(model());
        renderer.set_side(side);
        renderer.render_frame(&feature()).unwrap()
    }

    #[test]
    fn without_an_adapter_the_cpu_renders() {
        let mut renderer = FaceRenderer::choose(model(), Err(GpuError::NoAdapter));
        assert_eq!(renderer.name(), "cpu");
        renderer.set_side(32);
        assert_eq!(renderer.render_frame(&feature()).unwrap().rgb(), on_cpu(32).rgb());
    }

    #[test]
    fn the_next_picture_shows_a_new_model() {
        let coarse = Arc::new(FaceModel::noise(Sizes::tiny(), 8));
        let mut renderers = vec![FaceRenderer::on_cpu(Arc::clone(&coarse))];
        let gpu = device(wgpu::Limits::downlevel_defaults());
        renderers.extend(gpu.and_then(|gpu| FaceRenderer::on_gpu(coarse, gpu).ok()));
        for mut renderer in renderers {
            renderer.set_side(32);
            let before = renderer.render_frame(&feature()).unwrap();
            renderer.set_model(model());
            let after = renderer.render_frame(&feature()).unwrap();
            assert!(before.rgb() != after.rgb());
            // Backends differ by rounding, models by far more.
            assert!(face::psnr_db(&after, &on_cpu(32)) > 40.0, "{}", renderer.name());
        }
    }

    #[test]
    fn a_software_adapter_is_not_used() {
        let Some(gpu) = device(wgpu::Limits::downlevel_defaults()) else { return };
        let is_software = gpu.is_software();
        let renderer = FaceRenderer::choose(model(), Ok(gpu));
        assert_eq!(renderer.name() == "cpu", is_software);
    }

    #[test]
    fn without_compute_shaders_the_cpu_renders() {
        let Some(mut gpu) = device(wgpu::Limits::downlevel_webgl2_defaults()) else { return };
        // Pretend it is hardware.
        gpu.info.device_type = wgpu::DeviceType::IntegratedGpu;
        let refused = FaceRenderer::on_gpu(model(), gpu.clone()).err();
        assert!(matches!(refused, Some(RenderError::Adapter { .. })), "{refused:?}");
        assert_eq!(FaceRenderer::choose(model(), Ok(gpu)).name(), "cpu");
    }

    #[test]
    fn a_lost_device_loses_no_picture() {
        let Some(gpu) = device(wgpu::Limits::downlevel_defaults()) else { return };
        let mut renderer = FaceRenderer::on_gpu(model(), gpu.clone()).unwrap();
        renderer.set_side(32);
        renderer.render_frame(&feature()).unwrap();
        assert_eq!(renderer.name(), gpu.info.name);
        gpu.device.destroy();
        for _ in 0..2 {
            let frame = renderer.render_frame(&feature()).unwrap();
            assert_eq!((renderer.name(), frame.time()), ("cpu", feature().time));
            assert_eq!(frame.rgb(), on_cpu(32).rgb());
        }
        assert!(matches!(gpu.failure(), Some(GpuFailure::Lost(_))));
    }

    #[test]
    fn after_a_device_is_lost_during_a_picture_the_cpu_renders_the_next() {
        let Some(gpu) = device(wgpu::Limits::downlevel_defaults()) else { return };
        let mut renderer = FaceRenderer::on_gpu(model(), gpu.clone()).unwrap();
        renderer.set_side(32);
        renderer.render(&feature()).unwrap();
        gpu.device.destroy();
        // Work in progress is abandoned before the loss is reported.
        let _ = gpu.device.poll(wgpu::PollType::wait_indefinitely());
        renderer.render(&feature()).unwrap();
        assert!(
            matches!(renderer.picture(), Some(Picture::Pixels(rgb)) if rgb == on_cpu(32).rgb())
        );
    }
}
