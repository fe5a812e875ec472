//! Renders a face model: the field of crate `face` in WGSL compute shaders, or in SIMD lanes on the
//! CPU.
//!
//! A [`Renderer`] belongs to one [`FaceModel`](face::FaceModel), which it uploads once. Each
//! [`Renderer::render`] folds the frame's code into the planes and traces one ray for each pixel
//! into an `rgba8unorm` texture of display sRGB. A window shows it through
//! [`Renderer::texture_view`]; a recorder reads it back with [`Renderer::read_back`].
//!
//! Without a GPU, [`CpuRenderer`] renders the same image, many times faster than
//! [`face::render_cpu`] and faster than a software adapter runs the shaders.
//!
//! A [`Governor`] chooses samples, size and interval of the images so that they keep up with the
//! display.
//!
//! The crate is given a device and never creates one, reads no clock, and waits only for its own
//! read-backs. [`face::FrameField::render_ray`] defines what it computes, and tests compare the
//! two. It runs on any adapter with WebGPU's default limits. The [`OPTIONAL_FEATURES`] make it
//! faster on software adapters and let it measure GPU time; the caller requests those that the
//! adapter supports.
//!
//! ```no_run
//! # fn show(
//! #     device: &wgpu::Device, queue: &wgpu::Queue, model: &face::FaceModel,
//! #     feature: &types::Feature,
//! # ) -> Result<types::SquareFrame, Box<dyn std::error::Error>> {
//! let mut renderer = render::Renderer::new(device, queue, model)?;
//! renderer.resize(device, 512)?;
//! renderer.render(device, queue, &model.frame_inputs(feature));
//! let frame = renderer.read_back(device, queue, feature.time)?;
//! # Ok(frame)
//! # }
//! ```

#![expect(
    clippy::inline_always,
    reason = "a tile of rays is one loop body, compiled once per instruction set"
)]

mod cpu;
mod error;
mod folding;
mod governor;
mod gpu_layout;
mod limits;
mod mixed;
mod multiply_adds;
mod pipeline;
mod precision;
mod read_back;
mod renderer;
mod shaders;
mod timer;

pub use cpu::CpuRenderer;
pub use error::RenderError;
pub use governor::{Governor, QualityStep, RenderSettings};
pub use limits::{MAX_SIDE, MIN_SIDE, OPTIONAL_FEATURES};
pub use multiply_adds::{MultiplyAdds, cpu_multiply_adds, cpu_reads};
pub use precision::Precision;
pub use renderer::Renderer;
pub use shaders::shader_sources;
