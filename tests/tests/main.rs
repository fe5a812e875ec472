//! What crosses crates, in one binary that is linked once.

#![expect(clippy::unwrap_used, reason = "whatever fails here is a failed test")]

mod adapters;
mod bitstream;
mod classic;
mod cpu_renderer;
mod enrolled;
mod face_file;
mod fuzz_corpora;
mod loss;
mod network;
mod shaders;
mod tidy;
