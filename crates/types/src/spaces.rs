//! Constants of the coordinate spaces, which the crate's page defines.

/// Focal length of the pinhole camera, in sides of the square picture.
///
/// It cannot be observed from a talking head (the reprojection error is flat from 1.5 to 8), so all
/// crates use one value.
pub const FOCAL: f32 = 3.5;

/// Length of one unit of canonical space, in meters: half the height of a face.
pub const CANONICAL_M: f32 = 0.09;
