//! The classic field: the yardstick beside our own.
//!
//! Every sample of every ray goes through a deep network that hears position, view direction, the
//! frame's expression code and a consistency code: a head in canonical space, integrated twice
//! (coarse, then fine where the coarse pass found something), over a torso in camera space, over a
//! background picture. [`render_classic`] is its definition; docs/MODEL.md, "The classic field",
//! says how it is trained.

mod file;
mod frame;
mod model;
mod ray;
mod sampling;
mod sizes;

pub use file::{ClassicFileError, MAX_CLASSIC_FILE};
pub use frame::{ClassicFrame, NetFrame};
pub use model::ClassicModel;
pub use ray::{
    ClassicRay, POSITION_LIMIT, POSITION_SCALE, RayColors, encode, head_ray, integrate,
    read_picture, render_classic, render_classic_ray, sine_cosine, torso_ray,
};
pub use sampling::{MASS_FLOOR, merge, place_by_mass, place_evenly, widths};
pub use sizes::{
    COLORS_PADDED, ClassicLayout, ClassicSizes, DIRECTION_INPUTS, DIRECTION_OCTAVES, LayerLayout,
    MAX_CLASSIC_SAMPLES, MAX_CLASSIC_WIDTH, NetLayout, POSITION_INPUTS, POSITION_OCTAVES,
};
