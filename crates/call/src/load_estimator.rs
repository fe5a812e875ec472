use std::time::Duration;

use track::RefinementBudget;

/// Weight of one measurement in the mean.
const WEIGHT: f64 = 1.0 / 8.0;
/// Share of the frame interval below which a unit's frame counts as quick.
const QUICK: f64 = 0.5;
/// Frame intervals beyond which a unit's frame counts as slow.
const SLOW: f64 = 2.0;
/// Slow frames in a row that show an overload. The first search for a face is one slow frame.
const OVERLOADED_AFTER: u32 = 2;
/// Frames in a row that take less than one interval and so show that an overload is over: a second.
const RECOVERED_AFTER: u32 = 12;

/// What may be done for a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FrameBudget {
    /// Budget of a frame that becomes a unit.
    pub(crate) unit: RefinementBudget,
    /// Budget of a frame between two units.
    pub(crate) intermediate: RefinementBudget,
    /// Whether to work on one thread. Where the processor is busy with something else, threads that share
    /// a frame wait for each other longer than they work.
    pub(crate) single_threaded: bool,
}

impl FrameBudget {
    /// Everything that improves a feature.
    pub(crate) const FULL: Self = Self {
        unit: RefinementBudget::Full,
        intermediate: RefinementBudget::Full,
        single_threaded: false,
    };
}

/// Estimate of how busy the sender is, which sets the budget of each frame.
///
/// A slow sender reduces the work on the frames between units instead of dropping frames: they are
/// refined fully if a unit's frame takes less than half of the frame interval, not at all if the next
/// frame waits already, and with a reduced budget otherwise. An overloaded sender also reduces the
/// work on the units' frames.
#[derive(Debug)]
pub(crate) struct LoadEstimator {
    /// Time between two frames, seconds.
    interval: f64,
    /// Moving average of the time that a unit's frame takes, seconds.
    mean: Option<f64>,
    n_slow_in_a_row: u32,
    n_brisk_in_a_row: u32,
    is_overloaded: bool,
}

impl LoadEstimator {
    /// Creates an estimator for a source of this frame rate, in frames per second.
    pub(crate) fn new(fps: u32) -> Self {
        Self {
            interval: 1.0 / f64::from(fps.max(1)),
            mean: None,
            n_slow_in_a_row: 0,
            n_brisk_in_a_row: 0,
            is_overloaded: false,
        }
    }

    /// Adds the time that a unit's frame took. It counts as one interval at most in the mean, because the
    /// first frame is searched for a face and takes much longer than those that follow.
    pub(crate) fn add(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        let is_slow = took > SLOW * self.interval;
        self.n_slow_in_a_row = if is_slow { self.n_slow_in_a_row + 1 } else { 0 };
        let is_brisk = took < self.interval;
        self.n_brisk_in_a_row = if is_brisk { self.n_brisk_in_a_row + 1 } else { 0 };
        if self.n_slow_in_a_row >= OVERLOADED_AFTER {
            self.is_overloaded = true;
        } else if self.n_brisk_in_a_row >= RECOVERED_AFTER {
            self.is_overloaded = false;
        }
        let took = took.min(self.interval);
        self.mean = Some(self.mean.map_or(took, |mean| mean + (took - mean) * WEIGHT));
    }

    /// Returns the budget of the next frame; `is_late` if the frame after it waits already.
    pub(crate) fn budget(&self, is_late: bool) -> FrameBudget {
        let intermediate = if is_late || self.is_overloaded {
            RefinementBudget::None
        } else if self.mean.is_some_and(|mean| mean < QUICK * self.interval) {
            RefinementBudget::Full
        } else {
            RefinementBudget::Reduced
        };
        let unit =
            if self.is_overloaded { RefinementBudget::Reduced } else { RefinementBudget::Full };
        FrameBudget { unit, intermediate, single_threaded: self.is_overloaded }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(load: &mut LoadEstimator, ms: u64, n: u32) {
        (0..n).for_each(|_| load.add(Duration::from_millis(ms)));
    }

    #[test]
    fn a_late_sender_refines_nothing_between_units_and_a_quick_one_refines_fully() {
        let mut load = LoadEstimator::new(25);
        assert_eq!(
            load.budget(false).intermediate,
            RefinementBudget::Reduced,
            "nothing is known yet"
        );
        let mut after = |ms: u64, n: u32| {
            add(&mut load, ms, n);
            assert_eq!(load.budget(true).intermediate, RefinementBudget::None, "{n} of {ms} ms");
            assert_eq!(load.budget(false).unit, RefinementBudget::Full);
            load.budget(false).intermediate
        };
        assert_eq!(after(500, 1), RefinementBudget::Reduced, "a search");
        assert_eq!(after(10, 10), RefinementBudget::Full);
        assert_eq!(after(25, 30), RefinementBudget::Reduced);
        assert_eq!(after(15, 30), RefinementBudget::Full);
    }

    #[test]
    fn an_overloaded_sender_reduces_every_frame_until_it_has_recovered() {
        let mut load = LoadEstimator::new(25);
        let overloaded = FrameBudget {
            unit: RefinementBudget::Reduced,
            intermediate: RefinementBudget::None,
            single_threaded: true,
        };
        add(&mut load, 300, 1);
        assert!(!load.budget(false).single_threaded, "one slow frame is a search");
        add(&mut load, 300, 1);
        assert_eq!(load.budget(false), overloaded);
        // Reduced work is quicker, which does not mean that the processor is free.
        add(&mut load, 60, 40);
        assert_eq!(load.budget(false), overloaded);
        add(&mut load, 30, 11);
        assert_eq!(load.budget(false), overloaded);
        add(&mut load, 30, 1);
        assert_eq!(load.budget(false).unit, RefinementBudget::Full);
    }
}
