//! Writing of clips.

mod clip_writer;
mod mp4_encoder;
mod mp4_writer;
mod segment;

pub use clip_writer::ClipWriter;
