//! The radiance field of one person: its file, its definition on the CPU, and how like the person it looks.

mod quality;

pub use quality::{PSNR_MAX_DB, psnr_db, ssim};
