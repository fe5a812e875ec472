//! Codec for face features: transform, dependent quantization, integer entropy model, range coder.
//!
//! - [`Profile`] contains the transform and the statistics of one person; the face file carries it.
//! - [`Encoder`] turns the features of consecutive frames into [`AccessUnit`]s. A *key unit*
//!   references no other unit; a *delta unit* references one that the peer has. A unit also carries
//!   a correction of the previous unit's feature and intermediate features between the two.
//! - [`Decoder`] returns, bit for bit, what the encoder predicted it would, whatever was lost.
//!
//! After the quantizer there is only integer arithmetic, so all machines agree. The format is
//! specified in docs/BITSTREAM.md.
//!
//! ```
//! use codec::{Decoder, Encoder, Profile};
//! use types::{Code, Feature, HeadPose, MediaTime};
//!
//! let profile = Profile::default();
//! let (mut encoder, mut decoder) = (Encoder::new(profile.clone()), Decoder::new(profile));
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
mod decoder;
mod encoder;
mod entropy_model;
mod fit;
mod history;
#[cfg(test)]
mod measured;
mod midpoints;
mod prediction;
mod profile;
mod range_coder;
mod rate_distortion;
mod sensitivity;
mod stream;
mod syntax;
mod trellis;

pub use access_unit::{AccessUnit, ParseError};
pub use decoder::{DecodeError, Decoded, Decoder};
pub use encoder::{EncodedUnit, Encoder, FramePlan, Reference};
pub use profile::{Profile, ProfileError};
pub use sensitivity::ErrorSensitivity;
pub use stream::{Stream, StreamError, StreamReader, StreamSpan};
