//! Enrollment: trains a face file from a clip, a camera or the actor.
//!
//! [`enroll`] reads and tracks the source as a call does, solves the person's neutral face, trains the
//! radiance field and the embedder together, packs them into a face file and evaluates it on held-out
//! frames through the codec. The [`EnrollmentReport`] predicts the quality of a call. docs/ENROLLMENT.md
//! describes the stages, the losses and the optimizer.
//!
//! The other exports are the parts of the training that do not depend on the kind of field. The crate
//! `classic` uses them to train its baseline on the same observations.
//!
//! ```no_run
//! use enroll::{EnrollOptions, enroll};
//! let mut options = EnrollOptions::new("me.mp4".parse()?, "me.face".into());
//! options.budget = "5m".parse()?;
//! let report = enroll(options, &mut |progress| {
//!     eprintln!("{} {:.0} %", progress.stage, progress.fraction * 100.0);
//!     true
//! })?;
//! println!("{:.1} dB", report.psnr_db);
//! for warning in report.warnings {
//!     println!("{warning}. {}", warning.advice());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![expect(
    clippy::inline_always,
    reason = "a ray is one loop body, compiled once per instruction set"
)]

mod adam;
mod background;
mod checkpoint;
mod clock;
mod code_corrections;
mod embedding;
mod enrollment;
mod evaluation;
mod face_search;
mod frame_pass;
mod initialization;
mod material;
mod observations;
mod options;
mod picture_statistics;
mod pixels;
mod pose_refinement;
mod progress;
mod reading_plan;
mod recording;
mod regression;
mod regularization;
mod schedule;
mod sensitivity;
mod trainer;
mod training;
mod vars;
mod warnings;

pub use adam::{Adam, ParameterGroup};
pub use clock::{BudgetClock, TrainingSpan};
pub use embedding::{Codes, Embedding};
pub use enrollment::{NotMeasured, enroll};
pub use observations::{Observations, ObservedFrame, observe};
pub use options::{
    Ablation, AblationError, Budget, BudgetError, BudgetTooSmall, EnrollOptions, EnrollmentReport,
    Holdout, HoldoutError, Preset, PresetError,
};
pub use pixels::{Pixel, RayCounts, Regions};
pub use progress::{EnrollmentProgress, Stage};
pub use schedule::{FRAMES_PER_STEP, learning_rate};
pub use warnings::Warning;
