use std::time::Duration;

use track::RefinementBudget;

/// Weight of one measurement in the mean.
const WEIGHT: f64 = 1.0 / 8.0;
/// Share of the frame interval below which a unit's frame counts as quick.
const QUICK: f64 = 0.5;

/// Estimate of how busy the sender is, which sets the refinement budget of the frames between
/// units.
///
/// A slow sender reduces the work on these frames instead of dropping frames: they are refined
/// fully if a unit's frame takes less than half of the frame interval, not at all if the next
/// frame waits already, and with a reduced budget otherwise.
#[derive(Debug)]
pub(crate) struct LoadEstimator {
    /// Time between two frames, seconds.
    interval: f64,
    /// Moving average of the time that a unit's frame takes, seconds.
    mean: Option<f64>,
}

impl LoadEstimator {
    /// Creates an estimator for a source of this frame rate, in frames per second.
    pub(crate) fn new(fps: u32) -> Self {
        Self { interval: 1.0 / f64::from(fps.max(1)), mean: None }
    }

    /// Adds the time that a unit's frame took. It counts as one interval at most, because the
    /// first frame is searched for a face and takes much longer than those that follow.
    pub(crate) fn add(&mut self, took: Duration) {
        let took = took.as_secs_f64().min(self.interval);
        self.mean = Some(self.mean.map_or(took, |mean| mean + (took - mean) * WEIGHT));
    }

    /// Returns the budget of the next frame; `is_late` if the frame after it waits already.
    pub(crate) fn budget(&self, is_late: bool) -> RefinementBudget {
        if is_late {
            RefinementBudget::None
        } else if self.mean.is_some_and(|mean| mean < QUICK * self.interval) {
            RefinementBudget::Full
        } else {
            RefinementBudget::Reduced
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_sender_refines_nothing_and_a_quick_one_refines_fully() {
        let mut load = LoadEstimator::new(25);
        assert_eq!(load.budget(false), RefinementBudget::Reduced, "nothing is known yet");
        let mut after = |ms: u64, n: usize| {
            (0..n).for_each(|_| load.add(Duration::from_millis(ms)));
            assert_eq!(load.budget(true), RefinementBudget::None, "after {n} frames of {ms} ms");
            load.budget(false)
        };
        assert_eq!(after(500, 1), RefinementBudget::Reduced, "a search");
        assert_eq!(after(10, 10), RefinementBudget::Full);
        assert_eq!(after(25, 30), RefinementBudget::Reduced);
        assert_eq!(after(15, 30), RefinementBudget::Full);
    }
}
