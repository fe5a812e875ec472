//! How good and how small: real units of a clip, decoded, rendered and held against the clip.
//!
//! [`evaluate`] runs a clip through tracker, encoder and decoder as a call does and measures what
//! a peer would see; [`track_clip`] gives the landmarks alone,
//! [`compare_channels`] what bad channels make of it, [`write_curves`] how it compares. Pictures are painted by whoever asks,
//! on the GPU or not: a [`Paint`] closure.
//!
//! ```
//! use eval::{FrameScore, Summary};
//! let scores = [30.0, 34.0].map(|psnr_db| FrameScore { psnr_db, ssim: 0.9, change_psnr_db: None });
//! assert_eq!(Summary::of(&scores).psnr_db, 32.0);
//! ```

mod bench;
mod channel;
mod clip;
mod curve;
mod evaluate;
mod npz;
mod rate;
mod report;
mod score;

pub use bench::{BenchRow, PictureRow, StageRow, actor_features, bench_codec, bench_track};
pub use channel::{Channel, ChannelReport, Transmit, compare_channels};
pub use clip::track_clip;
pub use curve::{CurvePoint, Curves, write_curves};
pub use evaluate::{Options, Paint, Progress, evaluate};
pub use npz::npz_of_landmarks;
pub use rate::{ACK_DELAY, Payload, RateMeter};
pub use report::{Report, ResolutionReport, write_report};
pub use score::{FrameScore, Motion, Scorer, Summary};
