//! The linear 3D face model (3DMM) and the names of its landmarks.
//!
//! [`FaceShape`] is the mean face with its identity and expression components; it ships with the
//! product. The landmark groups ([`RIGHT_EYE`], [`OUTER_LIPS`], [`FACE_OVAL`], ...) hold indices
//! into its points. *Right* and *left* are the subject's: the right eye is on the left of an image
//! that is not mirrored.
//!
//! Landmarks are numbered as in `MediaPipe`'s face mesh: 468 mesh points, then 5 points for each
//! iris, right before left.
//!
//! ```
//! use face_shape::{FaceShape, RIGHT_EYE};
//! use types::Expression;
//!
//! let shape = FaceShape::builtin()?;
//! let resting = shape.with_expression(shape.mean(), &Expression::NEUTRAL);
//! assert!(resting[RIGHT_EYE.outer_corner].x < resting[RIGHT_EYE.inner_corner].x);
//! # Ok::<(), face_shape::FaceShapeError>(())
//! ```

mod face_shape;
mod landmarks;

pub use face_shape::{FACE_HEIGHT_M, FaceShape, FaceShapeError, MESH_POINTS};
pub use landmarks::{
    CHIN, EyeLandmarks, FACE_OVAL, FOREHEAD, INNER_LIPS, LEFT_EYE, LipLandmarks, OUTER_LIPS,
    RIGHT_EYE,
};
