//! Rate-distortion curves of a face beside those of common video codecs.

mod ffmpeg;
mod measure;
mod points;
mod svg;

pub use points::Curves;
