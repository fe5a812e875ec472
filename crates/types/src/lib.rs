//! The nouns every other room speaks in: pictures, poses, features, time, and the spaces they live in.
//!
//! Nothing here does work. A type that exists is a type whose value is sound: constructors check,
//! so a [`HeadPose`] holds no NaN and a [`Frame`] has as many bytes as its size says.
//!
//! # Spaces
//! - **image**: `x` right, `y` down, unit = one side of the (square) picture, origin at its
//!   top left; pixel column `i` of `n` covers `[i / n, (i + 1) / n)`.
//! - **camera**: `x` right, `y` down, `z` forward, meters; a pinhole with [`FOCAL`] and its
//!   principal point in the middle of the picture.
//! - **head**: the rigid head, meters; axes as the camera's when the head faces it (`x` to the
//!   right of the picture, `y` down, `z` away from the camera). Origin: centre of the face mesh.
//! - **canonical**: head space divided by [`CANONICAL_M`]; where the radiance field lives.
//!
//! ```
//! use types::{Frame, MediaTime};
//! let frame = Frame::new(2, 1, MediaTime::from_micros(40_000), vec![0; 6])?;
//! assert_eq!(frame.rgb_at(1, 0), [0, 0, 0]);
//! # Ok::<(), types::FrameError>(())
//! ```

mod feature;
mod feature_timeline;
mod frame;
mod media_time;
mod picture;
mod rate;
mod resize;
mod unit;

pub use feature::{
    CODE_DIMS, Code, EXPRESSION_DIMS, Expression, FEATURE_DIMS, Feature, FeatureError, HeadPose,
    LEARNED_DIMS, POSE_DIMS, TORSO_DIMS,
};
pub use feature_timeline::FeatureTimeline;
pub use frame::{Frame, FrameError, MAX_FRAME_SIDE, SquareFrame};
pub use media_time::MediaTime;
pub use picture::{LANDMARKS, Landmarks, Sound};
pub use rate::{ParseRateError, Rate, RateParameters};
pub use unit::{MAX_UNIT_BYTES, UnitNumber};

/// Focal length of the pinhole camera, in sides of the square picture.
///
/// It cannot be observed from a talking head (reprojection error is flat from 1.5 to 8), so one
/// value is agreed on by everybody.
pub const FOCAL: f32 = 3.5;

/// Meters of head space in one unit of canonical space: half the height of a face.
pub const CANONICAL_M: f32 = 0.09;
