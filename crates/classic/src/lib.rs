//! The baseline: the classic `NeRF` that the literature uses for video calls. The product's field
//! is compared with it.
//!
//! Every sample of every ray goes through a deep network that reads the position, the view
//! direction, the frame's code and a consistency code. The picture is a head in canonical space,
//! integrated twice (coarse, then fine where the coarse pass found density), over a torso in camera
//! space, over a background picture. [`render_classic`] is the definition, [`ClassicRenderer`] the
//! same in WGSL, [`train_classic`] the training on the observations of an enrollment.
//!
//! No product crate imports this one.
//!
//! # Source
//! "NeRF-based video compression for video conferencing" (arXiv:2402.16599), eq. 1 to 5.
#![expect(
    clippy::inline_always,
    reason = "a ray is one loop body, compiled once per instruction set"
)]

mod file;
mod frame;
mod learning;
mod measuring;
mod model;
mod net;
mod options;
mod product;
mod ray;
mod ray_pass;
mod renderer;
mod sampling;
mod sizes;
mod training;

pub use file::ClassicFileError;
pub use frame::ClassicFrame;
pub use model::{ClassicModel, ClassicModelError};
pub use options::{ClassicOptions, ClassicReport};
pub use ray::render_classic;
pub use renderer::{ClassicRenderer, ClassicRendererError, SHADER, SIDES};
pub use sizes::ClassicSizes;
pub use training::train_classic;
