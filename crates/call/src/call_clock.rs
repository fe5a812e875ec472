use std::sync::{Arc, OnceLock};
use std::time::Instant;

use types::MediaTime;

/// Media clock of this end: what its features and its sound are stamped with, so that the peer can play
/// both in time. Time 0 is when the peers were first connected.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallClock(Arc<OnceLock<Instant>>);

impl CallClock {
    /// Starts the clock, if it is not running.
    pub(crate) fn start(&self, now: Instant) {
        let _ = self.0.set(now);
    }

    /// Returns time 0; `None` before the peers were connected.
    pub(crate) fn zero(&self) -> Option<Instant> {
        self.0.get().copied()
    }

    /// Returns the time of a moment; zero before the start.
    pub(crate) fn at(&self, moment: Instant) -> MediaTime {
        let zero = self.zero().unwrap_or(moment);
        MediaTime::ZERO + moment.saturating_duration_since(zero)
    }

    /// Returns the time of what a source stamps with `time` on its own clock, which showed `first` at
    /// the moment `started`; `time` itself before the start.
    pub(crate) fn of_source(
        &self,
        (started, first): (Instant, MediaTime),
        time: MediaTime,
    ) -> MediaTime {
        match self.zero() {
            Some(_) => self.at(started + time.saturating_since(first)),
            None => time,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_source_and_a_microphone_are_on_one_clock() {
        #[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
        let zero = Instant::now();
        let ms = |ms| Duration::from_millis(ms);
        let time = |ms: u64| MediaTime::from_micros(1000 * ms);
        let clock = CallClock::default();
        assert_eq!((clock.zero(), clock.at(zero + ms(70))), (None, MediaTime::ZERO));
        assert_eq!(clock.of_source((zero, time(4000)), time(4040)), time(4040));
        clock.start(zero);
        clock.start(zero + ms(5000));
        assert_eq!(clock.at(zero + ms(70)), time(70));
        // A clip begins at 4 s and starts 30 ms after the connection; a camera ran for long before it.
        assert_eq!(clock.of_source((zero + ms(30), time(4000)), time(4040)), time(70));
        let long_ago = zero.checked_sub(ms(1000)).unwrap();
        assert_eq!(clock.of_source((long_ago, time(0)), time(1070)), time(70));
        assert_eq!(clock.of_source((long_ago, time(0)), time(70)), MediaTime::ZERO);
    }
}
