//! The radiance field of one person: its file, its definition on the CPU, and how like the person it looks.
//!
//! A [`FaceModel`] is a head in canonical space (three planes of features, a density grid that is
//! also the sampler, a warp, a small shading network), a torso texture and a background picture.
//! For each frame the code is folded in once ([`FaceModel::frame_inputs`] makes the small vectors,
//! [`fold`] mixes the planes); then every pixel is one [`render_ray`]. That function is the
//! definition: the GPU and the trainer are faster ways to compute it, and are tested against it.
//!
//! ```
//! use face::{FaceModel, Sizes, render_cpu};
//! use types::{Code, Feature, HeadPose, MediaTime};
//!
//! let model = FaceModel::untrained(Sizes::tiny(), 7);
//! let pose = HeadPose::new(glam::Vec3::ZERO, glam::Vec3::new(0.0, 0.0, 1.2))?;
//! let feature = Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL };
//! let picture = render_cpu(&model, &model.frame_inputs(&feature), 16, face::DEFAULT_SAMPLES);
//! assert_eq!(picture.len(), 16 * 16);
//! # Ok::<(), types::FeatureError>(())
//! ```
#![expect(
    clippy::inline_always,
    reason = "a ray is one loop body, compiled once per instruction set"
)]

mod background;
mod bit_coder;
mod file;
mod file_error;
mod fold;
mod info;
mod inputs;
mod levels;
mod math;
mod model;
mod pack;
mod parts;
mod per_sample;
mod quality;
mod ray;
mod size_table;
mod sizes;
mod steps;
mod wavelet;
mod work;

pub use background::Background;
pub use file::{Arrived, FaceFile, MAX_FACE_FILE};
pub use file_error::FaceFileError;
pub use fold::{Between, FoldedField, Upsampling, clear_border, fold, fold_head, mix_torso};
pub use info::{FaceInfo, LayerInfo};
pub use inputs::{
    AFFINE_SCALE, DENSITY_MIX_SCALE, FLOW_SCALE, FrameInputs, SHIFT_SCALE, TORSO_INPUT_SCALE,
    TorsoNet, frame_inputs,
};
pub use math::{Taps, Texel, add_scaled, between_texels, exp, sigmoid};
pub use model::{FaceModel, ModelError};
pub use per_sample::render_per_sample;
pub use quality::{PSNR_MAX_DB, psnr_db, ssim};
pub use ray::{
    BINS, DEFAULT_SAMPLES, HeadRay, HeadSample, LOG_DENSITY, LOGIT_SCALE, MAX_SAMPLES, MEAN_FLOOR,
    MIN_MASS, March, Shading, at, background_taps, flow_taps, head_span, march, march_head,
    place_samples, ray, read_background, read_behind, read_planes, read_torso, render_cpu,
    render_ray, sample_opacity, shade, shade_head, shade_inputs, torso_edge, torso_position,
    trace_head, unclamped_ray,
};
pub use sizes::{
    BIAS_INPUTS, Bounds, CHANNELS, FLOW_HEIGHT, FLOW_WIDTH, HIDDEN, Layout, SHADE_INPUTS,
    SHARED_DIMS, Sizes, TORSO_FIXED_OUTPUTS, TORSO_INPUTS,
};
pub use work::{PictureWork, Rays, Work, count_rays, picture_work};
