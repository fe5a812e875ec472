//! Renders features to pictures in memory: on the GPU, or on the CPU where there is none.

use std::sync::Arc;

use face::{DEFAULT_SAMPLES, FaceModel};
use render::{CpuRenderer, Renderer};
use types::{Feature, Frame};

use crate::gpu::{Gpu, GpuError};

/// A renderer of one face, without a window.
pub(crate) struct Painter {
    model: Arc<FaceModel>,
    side: u32,
    path: Path,
}

enum Path {
    Gpu(Box<(Gpu, Renderer)>),
    Cpu(Box<CpuRenderer>),
    Definition,
}

impl Painter {
    /// On the GPU. Without one the CPU renderer is faster than a software adapter that runs our
    /// shaders; with no adapter at all one line says so.
    pub(crate) fn new(model: Arc<FaceModel>) -> anyhow::Result<Self> {
        match Gpu::headless() {
            Ok(gpu) if gpu.info.device_type == wgpu::DeviceType::Cpu => Ok(Self::on_cpu(model)),
            Ok(gpu) => Self::on_gpu(model, gpu),
            Err(error @ GpuError::NoAdapter) => {
                eprintln!("feathercall: {error}; rendering on the CPU");
                Ok(Self::on_cpu(model))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn on_gpu(model: Arc<FaceModel>, gpu: Gpu) -> anyhow::Result<Self> {
        let renderer = Renderer::new(&gpu.device, &gpu.queue, &model)?;
        Ok(Self { model, side: 256, path: Path::Gpu(Box::new((gpu, renderer))) })
    }

    pub(crate) fn on_cpu(model: Arc<FaceModel>) -> Self {
        let renderer = CpuRenderer::new(Arc::clone(&model));
        Self { model, side: 256, path: Path::Cpu(Box::new(renderer)) }
    }

    /// By the field's definition, ray by ray: what the others are measured against.
    pub(crate) fn by_definition(model: Arc<FaceModel>) -> Self {
        Self { model, side: 256, path: Path::Definition }
    }

    /// What renders: the adapter's name, `cpu`, or `definition (cpu)`.
    pub(crate) fn name(&self) -> String {
        match &self.path {
            Path::Gpu(gpu) => gpu.0.info.name.clone(),
            Path::Cpu(_) => "cpu".to_owned(),
            Path::Definition => "definition (cpu)".to_owned(),
        }
    }

    /// Side of the pictures that follow.
    pub(crate) fn resize(&mut self, side: u32) {
        self.side = side;
    }

    /// One picture, which carries the feature's media time.
    pub(crate) fn paint(&mut self, feature: &Feature) -> anyhow::Result<Frame> {
        let inputs = self.model.frame_inputs(feature);
        Ok(match &mut self.path {
            Path::Gpu(gpu) => {
                let (gpu, renderer) = &mut **gpu;
                renderer.resize(self.side)?;
                renderer.render(&gpu.device, &gpu.queue, &inputs);
                renderer.read_back(&gpu.device, &gpu.queue, feature.time)?
            }
            Path::Cpu(renderer) => {
                renderer.resize(self.side)?;
                renderer.render(&inputs);
                renderer.frame(feature.time)?
            }
            Path::Definition => {
                let picture = face::render_cpu(&self.model, &inputs, self.side, DEFAULT_SAMPLES);
                let rgb: Vec<u8> = picture
                    .iter()
                    .flatten()
                    .map(|v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8)
                    .collect();
                Frame::new(self.side, self.side, feature.time, rgb)?
            }
        })
    }
}
