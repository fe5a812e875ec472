//! Pictures: files of single ones, uncompressed clips, colors and orientation.

mod color;
mod color_tags;
mod geometry;
mod pictures;
mod tone;
pub(crate) mod y4m;

pub(crate) use color::{Chroma, PlaneBuffers, Planes};
pub(crate) use color_tags::{ColorMatrix, ColorSpace, ColorTags};
pub(crate) use geometry::{DisplayMatrix, Geometry, multiplied, pixel_aspect};
pub(crate) use pictures::{PICTURES_FPS, Pictures, encode_png};
pub use pictures::{read_picture, write_picture};
