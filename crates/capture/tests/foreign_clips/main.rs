//! Clips of other programs, made by `ffmpeg`, whose own reading of them is the reference: number, times,
//! colors and orientation of their frames. `cargo xtask setup` installs it.

mod colors;
mod edits;
mod made;
mod orientation;
