//! Frames in, features out: where the head is and what the face does, for one known person.
//!
//! ```text
//! Frame ─ Tracker ─ landmarks ─ Fitter ─ pose, expression ─ Embedder ─┐
//!   ├──── TorsoTracker ───────────────── torso ───────────────────────┤
//!   └──────────────────────────────────────────────── PhotometricRefiner ─ feature
//! ```
//!
//! [`PersonTracker`] is the whole chain, made from a face file with its private part. Enrollment
//! uses the links: [`Tracker`] finds the 478 landmarks, [`solve_identity`] the person's resting
//! face, [`Observer`] everything that is measured in a frame, [`History`] the windows that the
//! [`Embedder`] is trained on and run with. docs/MODEL.md describes every network.
//!
//! Pure: bytes and frames come in as arguments; no clock, file, thread or device.
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
mod linearized;
mod observer;
mod person_tracker;
mod photometric;
mod pose_fit;
mod sender_part;
mod smoothing;
mod targets;
mod torso_tracker;
mod tracker;
mod whitening;

pub use convolution::{CONVS, Conv, FLAT, LEAK, Role, matrix, matrix_mut, multiply};
pub use crop::{Crop, Luma, luma_from_srgb};
pub use embedder::Embedder;
pub use fitter::{Fit, Fitter};
pub use history::{History, INPUT_DIMS, Observation, WINDOW};
pub use identity::{Identity, IdentityError, solve_identity};
pub use landmark_net::{
    COEFFICIENTS, CROP_SIDE, HIDDEN, LandmarkNet, OUTPUTS, Parameter, Seen, Tape, WeightsError,
    mirror_pairs, normalize, parameter_layout,
};
pub use observer::Observer;
pub use person_tracker::{PersonError, PersonTracker, Tracked};
pub use photometric::{
    Aligned, Exposure, PhotometricRefiner, RefinementBudget, Unknowns, align_step,
};
pub use sender_part::{SenderPart, SenderPartError, measuring_fingerprint};
pub use smoothing::{PoseFilter, Smoothing, smooth_poses};
pub use targets::eyes_and_mouth;
pub use torso_tracker::{TorsoReference, TorsoTracker};
pub use tracker::Tracker;
pub use whitening::Whitening;
