use crate::media_time::MediaTime;

/// Block of mono sound at 48 kHz.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    /// Capture time of the first audio sample.
    pub time: MediaTime,
    /// Audio samples in -1..=1.
    pub samples: Vec<f32>,
}

impl Sound {
    /// Audio samples per second.
    pub const RATE: u32 = 48_000;
}
