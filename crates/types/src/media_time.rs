use std::ops::{Add, Sub};
use std::time::Duration;

/// Time on the sender's capture clock, in microseconds since its first frame.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MediaTime(u64);

impl MediaTime {
    /// Time of the first frame.
    pub const ZERO: Self = Self(0);

    /// Returns the time `micros` microseconds after the first frame.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Returns the time of frame `index` at `fps` frames per second, rounded down.
    ///
    /// # Panics
    /// If `fps` is zero.
    pub const fn of_frame(index: u64, fps: u32) -> Self {
        Self(index * 1_000_000 / fps as u64)
    }

    /// Returns the microseconds since the first frame.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Returns the seconds since the first frame.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 * 1e-6
    }

    /// Returns the time since `earlier`; zero if `earlier` is later.
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

    /// Saturates at zero.
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
    fn addition_and_subtraction_saturate() {
        assert_eq!(MediaTime::ZERO - Duration::from_secs(1), MediaTime::ZERO);
        let end = MediaTime::from_micros(u64::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
    }
}
