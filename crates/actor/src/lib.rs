//! Synthetic talking head with exact ground truth: the face of the demo, the tests and the benchmarks.
//!
//! An [`Actor`] is determined by its seed. [`Actor::script`] gives the [`Performance`] at a media
//! time: head pose, expression, torso. [`Actor::render`] turns it into an [`ActorFrame`]: the
//! frame, the class of each pixel, and the exact landmarks. [`Actor::voice`] gives the matching
//! speech. Everything is a pure function of its arguments, so any time can be rendered in any order.
//!
//! The face mesh is the mean of the linear face shape plus its expression components times
//! [`Performance::expression`], so the ground truth is exact in the tracker's own coordinates. Nobody
//! was filmed for it.
//!
//! ```
//! use actor::Actor;
//! use types::MediaTime;
//! let actor = Actor::new(7);
//! let shown = actor.render(&actor.script(MediaTime::from_micros(1_500_000)), 64);
//! assert_eq!(shown.landmarks.points.len(), types::LANDMARKS);
//! assert_eq!(shown.classes.len(), 64 * 64);
//! ```

mod action;
mod actor;
mod clothes;
mod eye;
mod hair;
mod head_mesh;
mod light;
mod mouth;
mod noise;
mod performance;
mod phoneme;
mod raster;
mod room;
mod scene;
mod skin;
mod subdivide;
mod voice;

pub use actor::{Actor, ActorFrame, class};
pub use performance::{Mouth, Performance};
