//! Writing of clips.

mod clip_writer;
mod mp4_encoder;
mod mp4_index;
mod mp4_track;
mod mp4_writer;
mod segment;
mod sound_encoder;
mod sound_track;
mod wav_file;

pub use clip_writer::ClipWriter;
