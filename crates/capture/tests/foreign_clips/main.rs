//! Clips of other programs, made by `ffmpeg`, whose own reading of them is the reference: number, times,
//! colors and orientation of their frames. Also recordings of this program, as `ffmpeg` plays them. `cargo xtask setup` installs it.

#![expect(clippy::unwrap_used, reason = "whatever fails here is a failed test")]

mod colors;
mod edits;
mod made;
mod orientation;
mod recordings;
mod sound;
mod streams;
