use std::ops::{Add, Sub};
use std::time::Duration;

/// The sender's capture clock: microseconds since its first frame, unwrapped.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MediaTime(u64);

impl MediaTime {
    /// The first frame.
    pub const ZERO: Self = Self(0);

    /// From microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Start of frame `index` at a constant `fps`, rounded down.
    ///
    /// # Panics
    /// If `fps` is zero.
    pub const fn of_frame(index: u64, fps: u32) -> Self {
        Self(index * 1_000_000 / fps as u64)
    }

    /// Microseconds since the first frame.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Seconds since the first frame.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 * 1e-6
    }

    /// Time since `earlier`, zero if that is in fact later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for MediaTime {
    type Output = Self;

    /// Saturates after 584 thousand years.
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for MediaTime {
    type Output = Self;

    /// Stops at zero.
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_25_fps_are_40_ms_apart() {
        assert_eq!(MediaTime::of_frame(25, 25).as_micros(), 1_000_000);
        assert_eq!(
            MediaTime::of_frame(3, 25).saturating_since(MediaTime::of_frame(2, 25)),
            Duration::from_millis(40)
        );
    }

    #[test]
    fn time_neither_wraps_nor_goes_below_zero() {
        assert_eq!(MediaTime::ZERO - Duration::from_secs(1), MediaTime::ZERO);
        let end = MediaTime::from_micros(u64::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
    }
}
