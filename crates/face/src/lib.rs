//! Radiance field of one person: its definition on the CPU, its derivative, its file, and image
//! metrics.
//!
//! A [`FaceModel`] is a head in canonical space (three feature planes, a density grid that also
//! decides where a ray is sampled, a warp, a small shading network), a torso texture and a
//! background image. Once a frame, [`FaceModel::frame_inputs`] turns pose and code into small
//! vectors and [`FaceModel::fold`] mixes the planes; then each pixel is one
//! [`FrameField::render_ray`]. That function is the definition: every other renderer is a faster
//! way to compute it and is tested against it.
//!
//! Image and canonical space are those of crate `types`: image points run from 0 to 1, from the top
//! left corner, and one canonical unit is [`types::CANONICAL_M`] meters.
//!
//! The definition owns its derivatives: [`FieldPass`] goes back from a loss to all parameters and
//! to the code (enrollment), [`CodeDerivative`] from a ray's color to the code (refinement of a
//! tracked feature).
//!
//! [`FaceFile`] stores a model in layers, coarse to fine, with the codec's profile and the owner's
//! private part.
//!
//! ```
//! use face::{FaceModel, Sizes, render_cpu};
//! use types::{Code, Feature, HeadPose, MediaTime};
//!
//! let model = FaceModel::untrained(Sizes::tiny(), 7);
//! let pose = HeadPose::new(glam::Vec3::ZERO, glam::Vec3::new(0.0, 0.0, 1.2))?;
//! let feature = Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL };
//! let image = render_cpu(&model, &model.frame_inputs(&feature), 16, face::DEFAULT_SAMPLES);
//! assert_eq!(image.len(), 16 * 16);
//! # Ok::<(), types::FeatureError>(())
//! ```
#![expect(
    clippy::inline_always,
    reason = "a ray is one loop body, compiled once per instruction set"
)]

mod backdrop;
mod background;
mod bin_coder;
mod code_derivative;
mod consent;
mod cost;
mod field_pass;
mod file;
mod file_error;
mod fold;
mod fold_gradient;
mod frame_field;
mod frame_inputs;
mod gradients;
mod head_tape;
mod info;
mod layout;
mod levels;
mod march;
mod math;
mod model;
mod model_error;
mod pack;
mod parts;
mod per_sample;
mod planes;
mod quality;
mod ray;
mod ray_gradient;
mod shading;
mod size_table;
mod sizes;
mod steps;
mod taps;
mod untrained;
mod wavelet;
mod work;

pub use background::Background;
pub use code_derivative::CodeDerivative;
pub use consent::{Consent, ConsentForm};
pub use field_pass::FieldPass;
pub use file::{FaceFile, FileProgress, PackedModel};
pub use file_error::FaceFileError;
pub use fold::{FoldedField, Upsampling};
pub use frame_field::{DEFAULT_SAMPLES, FrameField, HeadRay, HeadSample, MAX_SAMPLES, render_cpu};
pub use frame_inputs::FrameInputs;
pub use info::{FaceInfo, LayerInfo};
pub use layout::Layout;
pub use march::{BINS, LOG_DENSITY, MIN_MASS};
pub use math::{add_scaled, exp, sigmoid};
pub use model::{FaceModel, Field};
pub use model_error::ModelError;
pub use planes::LOGIT_SCALE;
pub use quality::{PSNR_MAX_DB, psnr_db, ssim};
pub use ray::Ray;
pub use ray_gradient::RayOutput;
pub use shading::MEAN_FLOOR;
pub use sizes::{Bounds, CHANNELS, FLOW_HEIGHT, FLOW_WIDTH, HIDDEN, SHADE_INPUTS, Sizes};
pub use work::{PictureWork, Rays, Work};
