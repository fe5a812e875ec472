//! The programs `ffmpeg` and `ffprobe`, and the frames of clips that only they decode.

mod clip;
mod ffprobe;
mod nut;
mod pixel_format;
mod process;

pub(crate) use clip::FfmpegClip;
pub(crate) use ffprobe::{Probe, ProbeError, probe};
pub(crate) use nut::NutReader;
pub(crate) use process::{Program, Tools};
