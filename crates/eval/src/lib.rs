//! Evaluation of a face: picture quality against bit rate on real clips.
//!
//! [`evaluate`] runs a clip through tracker, encoder, decoder and renderer as a call does, and scores
//! what the peer would see. [`compare_channels`] does so over lossy channels, [`Curves`] beside
//! other codecs, [`ClipLandmarks`] runs the tracker alone, and the `bench_*` functions measure
//! speed. The caller renders the pictures, on the GPU or the CPU, through a [`Paint`] closure.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use eval::{EvalOptions, evaluate};
//! let face = face::FaceFile::parse(&std::fs::read("me.face")?)?;
//! let mut paint = |feature: &types::Feature, side| {
//!     let inputs = face.model.frame_inputs(feature);
//!     let colors = face::render_cpu(&face.model, &inputs, side, face::DEFAULT_SAMPLES);
//!     Ok(types::SquareFrame::from_colors(side, feature.time, &colors)?)
//! };
//! let options = EvalOptions { frames: Some(170..200), ..EvalOptions::default() };
//! let report =
//!     evaluate("me.mp4".as_ref(), &face, &options, &mut paint, &mut |_, share, _| {
//!         eprintln!("{:.0} %", share * 100.0);
//!     })?;
//! println!("{}", report.to_markdown());
//! # Ok(()) }
//! ```

mod bench;
mod callbacks;
mod channel;
mod clip;
mod curve;
mod evaluate;
mod landmarks;
mod output_folder;
mod rate;
mod report;
mod score;

pub use bench::{BenchRow, PictureRow, actor_features, bench_codec, bench_track};
pub use callbacks::{Paint, Progress};
pub use channel::{Channel, ChannelReport, compare_channels};
pub use curve::Curves;
pub use evaluate::{EvalOptions, evaluate};
pub use landmarks::ClipLandmarks;
pub use report::Report;
