//! A synthetic talking head: the face of the demo, of the tests and of the benchmarks.
//!
//! Nobody was filmed for it. Seed and media time give a [`Performance`]: where the head is and what
//! the face does. A performance and a side in pixels give an [`ActorFrame`]: the picture, what is
//! seen at each pixel, and the exact landmarks. The same time gives a voice that fits the mouth.
//! Everything is a pure function of its arguments, so any moment can be asked for in any order.
//!
//! The face mesh is the mean of the linear face shape plus its expression basis times
//! [`Performance::expression`], so ground truth is exact in the tracker's own coordinates.
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
mod backdrop;
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
mod scene;
mod skin;
mod subdivide;
mod voice;

pub use actor::{Actor, ActorFrame, class};
pub use performance::{Mouth, Performance};
