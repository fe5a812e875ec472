//! A clip, the camera or the actor becomes a face file.
//!
//! [`enroll`] reads and tracks the source as a call would, solves the person's resting face,
//! learns the radiance field and the embedder together, packs them, and measures on frames that
//! were never learned from, through the codec: a [`Report`] says how good a call will look.
//! docs/MODEL.md describes fields, losses and optimizer.
//!
//! [`train_classic`] trains the yardstick, the field of the literature, on the same observations.
//!
//! ```no_run
//! use enroll::{Budget, EnrollOptions, enroll};
//! let mut options = EnrollOptions::new("me.mp4".parse()?, "me.face".into());
//! options.budget = Budget::Time(std::time::Duration::from_secs(300));
//! let report = enroll(options, &mut |progress| {
//!     eprintln!("{} {:.0} %", progress.stage, progress.fraction * 100.0);
//!     true
//! })?;
//! println!("{:.1} dB", report.psnr_db);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![expect(
    clippy::inline_always,
    reason = "a ray is one loop body, compiled once per instruction set"
)]

mod adam;
mod background;
mod behind_pass;
mod checkpoint;
mod classic;
mod clock;
mod corrections;
mod embedding;
mod enrollment;
mod frame_pass;
mod learning;
mod measuring;
mod observing;
mod options;
mod pixels;
mod posing;
mod ray_pass;
mod recording;
mod regression;
mod trainer;
mod vars;
mod visibility;

pub use classic::{ClassicOptions, ClassicReport, train_classic};
pub use enrollment::enroll;
pub use options::{
    Budget, EnrollOptions, Holdout, HoldoutError, Part, PartError, Preset, PresetError, Progress,
    Report,
};
