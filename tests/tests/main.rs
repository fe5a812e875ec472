//! What crosses crates, in one binary that is linked once.

mod adapters;
mod bitstream;
mod cpu_renderer;
mod loss;
mod network;
mod shaders;
mod tidy;
