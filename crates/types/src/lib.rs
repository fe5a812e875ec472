//! Types that all other crates share: frames, features, media time, rates, unit numbers, text from
//! peers; and the coordinate spaces.
//!
//! Constructors check their arguments, so every value is valid: a [`HeadPose`] contains no NaN, and
//! a [`Frame`] has as many bytes as its size requires.
//!
//! # Spaces
//! - **image**: `x` right, `y` down, in sides of the square picture, from its top left corner.
//!   Pixel column `i` of `n` covers `[i / n, (i + 1) / n)`.
//! - **camera**: `x` right, `y` down, `z` forward, in meters. A pinhole camera with the focal
//!   length [`FOCAL`] and its principal point at the center of the picture.
//! - **head**: fixed to the head, in meters. When the head faces the camera, the axes are those of
//!   camera space: `x` to the right of the picture, `y` down, `z` away from the camera. The origin
//!   is the center of the face mesh.
//! - **canonical**: head space divided by [`CANONICAL_M`]. The radiance field is defined here.
//!
//! ```
//! use types::{Frame, MediaTime};
//! let frame = Frame::new(2, 1, MediaTime::from_micros(40_000), vec![0; 6])?;
//! assert_eq!(frame.rgb_at(1, 0), [0, 0, 0]);
//! # Ok::<(), types::FrameError>(())
//! ```

mod display_text;
mod feature;
mod feature_timeline;
mod frame;
mod landmarks;
mod media_time;
mod rate;
mod resize;
mod sound;
mod spaces;
mod unit;

pub use display_text::{ChatText, DisplayText, ErrorLine, PeerName};
pub use feature::{
    CODE_DIMS, Code, EXPRESSION_DIMS, Expression, FEATURE_DIMS, Feature, FeatureError, HeadPose,
    LEARNED_DIMS, POSE_DIMS, TORSO_DIMS,
};
pub use feature_timeline::FeatureTimeline;
pub use frame::{Frame, FrameError, MAX_FRAME_SIDE, SquareFrame};
pub use landmarks::{LANDMARKS, Landmarks};
pub use media_time::MediaTime;
pub use rate::{ParseRateError, Rate, RateParameters};
pub use sound::Sound;
pub use spaces::{CANONICAL_M, FOCAL};
pub use unit::{MAX_UNIT_BYTES, UnitNumber};
