//! Cameras, microphones, speakers, clips and the actor: everything that makes or takes frames.

mod color;
mod mp4_clip;
mod mp4_reader;
mod source;

pub use source::{OpenError, ReadError, Source, SourceSpec};
