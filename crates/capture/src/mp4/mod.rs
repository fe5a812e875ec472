//! MP4 and MOV files: their index, and the frames of those with H.264 video.

mod boxes;
mod clip;
mod edit_list;
mod entry;
mod fragments;
mod h264_vui;
mod reader;
mod samples;
mod timeline;
mod track;

pub(crate) use clip::Mp4Clip;
pub(crate) use edit_list::Edit;
pub(crate) use reader::{IndexError, read_sample, read_tracks};
pub(crate) use track::{Coding, Mp4Sample, Mp4Track};
