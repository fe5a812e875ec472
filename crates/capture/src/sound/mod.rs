//! Sound of clips.

mod aac;
mod clip_sound;
mod ffmpeg;
mod line;
mod wav;

pub(crate) use aac::AacSound;
pub(crate) use clip_sound::ClipSound;
