//! Progress of an enrollment: its stage, how far it has come, and what is wrong with the material.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use crate::warnings::Warning;

/// Stage of an enrollment, in their order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// Frames are read and tracked.
    Tracking,
    /// Pose and expression of every frame are measured.
    Fitting,
    /// Field and embedder are trained.
    Learning,
    /// The face file is packed and written.
    Writing,
    /// Held-out frames are rendered and compared.
    Measuring,
}

impl Stage {
    /// Returns the name in lower case, as `--json` reports it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tracking => "tracking",
            Self::Fitting => "fitting",
            Self::Learning => "learning",
            Self::Writing => "writing",
            Self::Measuring => "measuring",
        }
    }

    /// Returns the part of the whole work, within 0..=1, that this stage roughly takes.
    pub(crate) const fn part_of_work(self) -> Range<f32> {
        match self {
            Self::Tracking => 0.0..0.1,
            Self::Fitting => 0.1..0.15,
            Self::Learning => 0.15..0.9,
            Self::Writing => 0.9..0.95,
            Self::Measuring => 0.95..1.0,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Progress of an enrollment.
#[derive(Clone, Debug, PartialEq)]
pub struct EnrollmentProgress {
    /// Current stage.
    pub stage: Stage,
    /// Share of the whole enrollment that is done, 0..=1: the share of the time limit that has
    /// passed or, with a budget in steps, a rough estimate.
    pub fraction: f32,
    /// Frames or steps per second in this stage.
    pub rate: f32,
    /// Estimated time left for the whole enrollment, if known.
    pub left: Option<Duration>,
    /// Smoothed PSNR of recent training pixels, in dB.
    pub psnr_db: Option<f32>,
    /// Count, rate and PSNR as text for display, such as `120 steps, 8.5/s, 31.2 dB`.
    pub detail: String,
    /// Everything that was found to be wrong with the recording so far, oldest first. Those about
    /// the material are complete when the stage [`Stage::Fitting`] begins.
    pub warnings: Vec<Warning>,
}
