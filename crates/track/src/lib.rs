//! From a camera frame to a feature: the sender's measuring chain for one person.
//!
//! ```text
//! frame ─ Tracker ─ landmarks ─ Fitter ─ pose, expression ─ Embedder ─┐
//!   ├──── TorsoTracker ────────── torso track ────────────────────────┤
//!   └──────────────────────────────────────────── PhotometricRefiner ─┴─ feature
//! ```
//!
//! [`PersonTracker`] is the whole chain, made from a face file with its sender part. Enrollment uses
//! the parts: [`Tracker`] finds the 478 landmarks, [`Identity::solve`] the neutral face, [`Observer`]
//! measures a frame, and [`History`] makes the windows on which the [`Embedder`] is trained and run.
//! Training of the landmark network uses [`LandmarkNet`], [`Tape`] and [`Parameter`].
//! docs/TRACKER.md describes every network.
//!
//! Pure: frames and bytes are arguments; no clock, file, thread or device.
//!
//! ```
//! use types::{Frame, MediaTime};
//! let mut tracker = track::Tracker::builtin()?;
//! let gray = Frame::new(64, 64, MediaTime::ZERO, vec![128; 64 * 64 * 3])?;
//! assert!(tracker.track(&gray).is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![expect(
    clippy::inline_always,
    reason = "a ray is one loop body, compiled once per instruction set"
)]

mod convolution;
mod crop;
mod embedder;
mod fitter;
mod history;
mod identity;
mod landmark_net;
mod layers;
mod linearized;
mod matrix;
mod observer;
mod person_tracker;
mod photometric;
mod pose_fit;
mod propagation;
mod sender_part;
mod smoothing;
mod targets;
mod torso_tracker;
mod tracker;
mod unknowns;
mod whitening;

pub use crop::{Crop, Luma, luma_from_srgb};
pub use embedder::Embedder;
pub use fitter::{Fit, Fitter};
pub use history::{History, Observation};
pub use identity::{Identity, IdentityError};
pub use landmark_net::{Detection, LandmarkNet, WeightsError};
pub use layers::Parameter;
pub use observer::Observer;
pub use person_tracker::{PersonError, PersonTracker, Tracked};
pub use photometric::{Aligned, PhotometricRefiner, RefinementBudget};
pub use propagation::{LandmarkOutputs, Tape};
pub use sender_part::{SenderPart, SenderPartError};
pub use smoothing::Smoothing;
pub use targets::eyes_and_mouth;
pub use torso_tracker::{TorsoReference, TorsoTracker};
pub use tracker::Tracker;
pub use unknowns::{Exposure, Unknowns};
