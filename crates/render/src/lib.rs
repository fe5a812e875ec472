//! Draws a face model: the field of `face`, in WGSL compute shaders, or in lanes on the CPU.
//!
//! A [`Renderer`] belongs to one [`FaceModel`](face::FaceModel). It uploads the model once; then
//! each [`Renderer::render`] folds the frame's code into the planes and casts one ray a pixel into
//! an `rgba8unorm` texture of display sRGB, which a window shows through
//! [`Renderer::texture_view`] and a recorder gets back through [`Renderer::read_back`].
//!
//! Without a GPU a [`CpuRenderer`] draws the same picture, many times faster than
//! [`face::render_cpu`] and faster than a software adapter runs the shaders.
//!
//! A [`Governor`] says with how many samples, at which size and how often to draw, so that pictures
//! keep the display's rhythm on whatever draws them.
//!
//! The crate is given a device and never makes one, reads no clock and waits for nothing but its
//! own read-backs. What it computes is defined by [`face::render_ray`]; the tests compare the two.
//! It runs on any adapter with WebGPU's default limits; give the device those of
//! [`OPTIONAL_FEATURES`] that the adapter has and it is faster on software adapters and can time
//! itself.
//!
//! ```no_run
//! # fn show(
//! #     device: &wgpu::Device, queue: &wgpu::Queue, model: &face::FaceModel,
//! #     feature: &types::Feature,
//! # ) -> Result<types::Frame, Box<dyn std::error::Error>> {
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
mod mixed;
mod multiply_adds;
mod read_back;
mod renderer;
mod shaders;
mod timer;

pub use cpu::CpuRenderer;
pub use error::RenderError;
pub use governor::{Effort, Governor, Shift};
pub use multiply_adds::{MultiplyAdds, cpu_multiply_adds, cpu_reads};
pub use renderer::{MAX_SIDE, MIN_SIDE, OPTIONAL_FEATURES, Precision, Renderer};
pub use shaders::shader_sources;
