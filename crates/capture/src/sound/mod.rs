//! Sound of clips.

mod clip_sound;
mod ffmpeg;
mod line;
mod mp4;
mod wav;
mod wav_header;

pub(crate) use clip_sound::ClipSound;
pub(crate) use line::{Piece, SoundLine};
pub(crate) use mp4::Mp4Sound;
pub(crate) use wav_header::wav_header;
