//! A feature becomes a few bytes and back: quantizer, integer entropy model, range coder.
//!
//! [`Profile`] holds the steps and tables of one person and travels with the face. [`Encoder`]
//! turns each [`types::Feature`] into an [`AccessUnit`]: a *key unit* stands alone, a *delta unit*
//! builds on a unit the peer has acknowledged. [`Decoder`] gives the feature back, bit for bit the
//! encoder's own reconstruction, whatever was lost on the way. Floats end at the quantizer: past
//! it only integers, so two machines never disagree. The bytes are specified in docs/BITSTREAM.md.
//!
//! ```
//! use codec::{Decoder, Encoder, Profile};
//! use types::{Code, Feature, HeadPose, MediaTime};
//!
//! let (mut encoder, mut decoder) = (Encoder::new(Profile::default()), Decoder::new(Profile::default()));
//! let pose = HeadPose::from_array([0.0, 0.1, 0.0, 0.01, 0.0, 1.1])?;
//! let feature = Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL };
//!
//! let unit = encoder.push(&feature, false).expect("the first frame is always due");
//! assert!(unit.unit.as_bytes().len() < 40);
//! let decoded = decoder.decode(unit.number, &unit.unit)?;
//! encoder.acknowledge(unit.number); // later units reference it
//! assert!((decoded.pose.rotation().y - 0.1).abs() < 0.01);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access_unit;
mod bends;
mod decoder;
mod encoder;
mod entropy_model;
mod fit;
mod history;
#[cfg(test)]
mod measured;
mod prediction;
mod profile;
mod range_coder;
mod rate_distortion;
mod stream;
mod syntax;
mod trellis;

pub use access_unit::{AccessUnit, ParseError};
pub use decoder::{DecodeError, Decoded, Decoder};
pub use encoder::{EncodedUnit, Encoder, FramePlan, Reference};
pub use fit::Visibility;
pub use profile::{Profile, ProfileError};
pub use stream::{Stream, StreamError};
