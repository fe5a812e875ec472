use types::{Feature, SquareFrame};

/// Renders a feature as a square picture of the given side in pixels, on the caller's GPU or CPU.
pub type Paint<'a> = &'a mut dyn FnMut(&Feature, u32) -> anyhow::Result<SquareFrame>;

/// Receives progress reports: the stage's name, the share of it done (0..=1), a detail to display.
pub type Progress<'a> = &'a mut dyn FnMut(&str, f32, &str);
