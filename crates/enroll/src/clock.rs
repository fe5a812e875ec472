//! Time and progress of an enrollment.
#![expect(clippy::disallowed_methods, reason = "an enrollment is limited by wall-clock time")]

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::options::{Budget, EnrollmentProgress};

/// Least time between two progress reports.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// Clock of one enrollment: measures it against its [`Budget`] and reports progress.
pub struct BudgetClock<'a> {
    start: Instant,
    budget: Budget,
    on_progress: &'a mut dyn FnMut(&EnrollmentProgress) -> bool,
    stage: &'static str,
    stage_start: Instant,
    last_report: Option<Instant>,
}

/// The training within an enrollment: when it began and what it may use.
#[derive(Clone, Copy, Debug)]
pub struct TrainingSpan {
    start: Duration,
    reserve: Duration,
    resumed: f32,
}

impl<'a> BudgetClock<'a> {
    /// Starts the clock.
    ///
    /// `on_progress` is called a few times a second and returns whether to go on.
    pub fn new(
        budget: Budget,
        on_progress: &'a mut dyn FnMut(&EnrollmentProgress) -> bool,
    ) -> Self {
        let now = Instant::now();
        Self { start: now, budget, on_progress, stage: "", stage_start: now, last_report: None }
    }

    /// Returns the time since the enrollment began.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Returns the time limit of the whole enrollment; `None` if the budget counts steps.
    pub fn time_limit(&self) -> Option<Duration> {
        match self.budget {
            Budget::Time(limit) => Some(limit),
            Budget::Steps(_) => None,
        }
    }

    /// Returns whether this share of the time limit has passed; false if the budget counts steps.
    pub(crate) fn has_passed(&self, share: f32) -> bool {
        self.time_limit().is_some_and(|limit| self.elapsed() >= limit.mul_f32(share))
    }

    /// Begins the training.
    ///
    /// If the budget is a time limit, the training ends `reserve` before it, which is left for the
    /// work that follows. `resumed`, in 0..=1, is the share of the training that an interrupted run
    /// had already done; a budget in steps ignores both.
    pub fn start_training(&self, reserve: Duration, resumed: f32) -> TrainingSpan {
        TrainingSpan { start: self.elapsed(), reserve, resumed }
    }

    /// Returns the share of the training that is done after `steps` steps, those of interrupted
    /// runs included. The training ends at 1 or more.
    pub fn training_progress(&self, span: &TrainingSpan, steps: u32) -> f32 {
        match self.budget {
            Budget::Steps(limit) => steps as f32 / limit.max(1) as f32,
            Budget::Time(limit) => {
                let available = limit.saturating_sub(span.reserve + span.start);
                let spent = self.elapsed().saturating_sub(span.start);
                let share = spent.as_secs_f32() / available.as_secs_f32().max(1e-3);
                if share < 1.0 { span.resumed + (1.0 - span.resumed) * share } else { 1.0 }
            }
        }
    }

    /// Reports progress. In each stage at most five reports a second reach the callback.
    ///
    /// `share` (0..=1) of `stage` is done, `count` is the number of its frames or steps so far, and
    /// `psnr_db` is the current PSNR of the training pixels.
    ///
    /// # Errors
    /// If the progress callback asks to stop.
    pub fn report(
        &mut self,
        stage: &'static str,
        share: f32,
        count: u64,
        psnr_db: Option<f32>,
    ) -> anyhow::Result<()> {
        let now = Instant::now();
        if stage != self.stage {
            (self.stage, self.stage_start, self.last_report) = (stage, now, None);
        }
        if self.last_report.is_some_and(|at| now - at < REPORT_EVERY) {
            return Ok(());
        }
        self.last_report = Some(now);
        let rate = count as f32 / (now - self.stage_start).as_secs_f32().max(1e-3);
        let (fraction, left) = match self.budget {
            Budget::Time(limit) => {
                let elapsed = self.elapsed();
                let fraction = elapsed.as_secs_f32() / limit.as_secs_f32().max(1e-3);
                (fraction, Some(limit.saturating_sub(elapsed)))
            }
            // Without a time limit, assume that training is 80 % of the work.
            Budget::Steps(_) => match stage {
                "tracking" => (0.1 * share, None),
                "learning" => {
                    let spent = (now - self.stage_start).as_secs_f32();
                    let left = spent / share.max(1e-3) * (1.0 - share).max(0.0);
                    (0.1 + 0.8 * share, Some(Duration::from_secs_f32(left.clamp(0.0, 1e6))))
                }
                _ => (0.9 + 0.1 * share, None),
            },
        };
        let unit = if stage == "learning" { "steps" } else { "frames" };
        let quality = psnr_db.map(|db| format!(", {db:.1} dB")).unwrap_or_default();
        let detail = format!("{count} {unit}, {rate:.1}/s{quality}");
        let fraction = fraction.clamp(0.0, 1.0);
        let progress = EnrollmentProgress { stage, fraction, rate, left, psnr_db, detail };
        if !(self.on_progress)(&progress) {
            bail!("the enrollment was stopped");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_time_both_end_the_training() {
        let mut ignore = |_: &EnrollmentProgress| true;
        let clock = BudgetClock::new(Budget::Steps(200), &mut ignore);
        let span = clock.start_training(Duration::ZERO, 0.0);
        assert_eq!(clock.training_progress(&span, 50), 0.25);
        assert_eq!(clock.training_progress(&span, 200), 1.0);
        assert_eq!(clock.time_limit(), None);
        assert!(!clock.has_passed(0.0));

        let mut ignore = |_: &EnrollmentProgress| true;
        let clock = BudgetClock::new(Budget::Time(Duration::from_hours(1)), &mut ignore);
        let resumed = clock.start_training(Duration::from_mins(10), 0.5);
        assert!((0.5..0.6).contains(&clock.training_progress(&resumed, 0)));
        assert!(clock.has_passed(0.0) && !clock.has_passed(1.0));
    }
}
