//! Time and progress of an enrollment.
#![expect(clippy::disallowed_methods, reason = "an enrollment is limited by wall-clock time")]

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::options::Budget;
use crate::progress::{EnrollmentProgress, Stage};
use crate::warnings::Warning;

/// Least time between two progress reports of a stage.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// Clock of one enrollment: measures it against its [`Budget`] and reports progress and warnings.
pub struct BudgetClock<'a> {
    /// Returns the time since the enrollment began.
    time: Box<dyn Fn() -> Duration + 'a>,
    budget: Budget,
    on_progress: &'a mut dyn FnMut(&EnrollmentProgress) -> bool,
    stage: Option<Stage>,
    stage_start: Duration,
    last_report: Option<Duration>,
    warnings: Vec<Warning>,
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
    /// [`BudgetClock::report`] calls `on_progress`, which returns whether to go on.
    pub fn new(
        budget: Budget,
        on_progress: &'a mut dyn FnMut(&EnrollmentProgress) -> bool,
    ) -> Self {
        let start = Instant::now();
        Self::with_time(budget, on_progress, move || start.elapsed())
    }

    /// Creates a clock for which `time` measures the time since the enrollment began.
    pub(crate) fn with_time(
        budget: Budget,
        on_progress: &'a mut dyn FnMut(&EnrollmentProgress) -> bool,
        time: impl Fn() -> Duration + 'a,
    ) -> Self {
        Self {
            time: Box::new(time),
            budget,
            on_progress,
            stage: None,
            stage_start: Duration::ZERO,
            last_report: None,
            warnings: Vec::new(),
        }
    }

    /// Returns the time since the enrollment began.
    pub fn elapsed(&self) -> Duration {
        (self.time)()
    }

    /// Returns the time limit of the whole enrollment; `None` if the budget counts steps.
    pub fn time_limit(&self) -> Option<Duration> {
        match self.budget {
            Budget::Time(limit) => Some(limit),
            Budget::Steps(_) => None,
        }
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

    /// Adds warnings to all further reports; the next one is not delayed.
    pub(crate) fn warn(&mut self, warnings: impl IntoIterator<Item = Warning>) {
        self.warnings.extend(warnings);
        self.last_report = None;
    }

    /// Returns all warnings so far, oldest first.
    pub(crate) fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Reports progress. The first report of a stage reaches the callback at once, further ones at
    /// most five times a second.
    ///
    /// `share` (0..=1) of `stage` is done, `count` is the number of its frames or steps so far, and
    /// `psnr_db` is the current PSNR of the training pixels.
    ///
    /// With a time limit, the reported fraction is the share of the limit that has passed. With a
    /// budget in steps, each stage has a fixed part of the whole, the training three quarters, and
    /// the fraction does not decrease from stage to stage.
    ///
    /// # Errors
    /// If the progress callback asks to stop. Reports that do not reach the callback cannot fail.
    pub fn report(
        &mut self,
        stage: Stage,
        share: f32,
        count: u64,
        psnr_db: Option<f32>,
    ) -> anyhow::Result<()> {
        let now = self.elapsed();
        if self.stage != Some(stage) {
            (self.stage, self.stage_start, self.last_report) = (Some(stage), now, None);
        }
        if self.last_report.is_some_and(|at| now.saturating_sub(at) < REPORT_EVERY) {
            return Ok(());
        }
        self.last_report = Some(now);
        let share = share.clamp(0.0, 1.0);
        let spent = now.saturating_sub(self.stage_start).as_secs_f32();
        let rate = count as f32 / spent.max(1e-3);
        let (fraction, left) = match self.budget {
            Budget::Time(limit) => {
                let fraction = now.as_secs_f32() / limit.as_secs_f32().max(1e-3);
                (fraction.min(1.0), Some(limit.saturating_sub(now)))
            }
            Budget::Steps(_) => {
                let part = stage.part_of_work();
                let left = spent / share.max(1e-3) * (1.0 - share);
                let left = Duration::from_secs_f32(left.clamp(0.0, 1e6));
                let is_learning = stage == Stage::Learning;
                (part.start + share * (part.end - part.start), is_learning.then_some(left))
            }
        };
        let unit = if stage == Stage::Learning { "steps" } else { "frames" };
        let quality = psnr_db.map(|db| format!(", {db:.1} dB")).unwrap_or_default();
        let detail = format!("{count} {unit}, {rate:.1}/s{quality}");
        let warnings = self.warnings.clone();
        let progress =
            EnrollmentProgress { stage, fraction, rate, left, psnr_db, detail, warnings };
        if !(self.on_progress)(&progress) {
            bail!("the enrollment was stopped");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn steps_and_time_both_end_the_training() {
        let mut ignore = |_: &EnrollmentProgress| true;
        let clock = BudgetClock::new(Budget::Steps(200), &mut ignore);
        let span = clock.start_training(Duration::ZERO, 0.0);
        assert_eq!(clock.training_progress(&span, 50), 0.25);
        assert_eq!(clock.training_progress(&span, 200), 1.0);
        assert_eq!(clock.time_limit(), None);

        let now = Cell::new(Duration::ZERO);
        let mut ignore = |_: &EnrollmentProgress| true;
        let limit = Duration::from_secs(100);
        let clock = BudgetClock::with_time(Budget::Time(limit), &mut ignore, || now.get());
        now.set(Duration::from_secs(20));
        let resumed = clock.start_training(Duration::from_secs(30), 0.5);
        assert_eq!(clock.training_progress(&resumed, 0), 0.5);
        now.set(Duration::from_secs(45));
        assert_eq!(clock.training_progress(&resumed, 0), 0.75);
        now.set(Duration::from_secs(70));
        assert_eq!(clock.training_progress(&resumed, 0), 1.0);
    }

    #[test]
    fn with_a_budget_in_steps_progress_grows_from_stage_to_stage() {
        let mut fractions = Vec::new();
        let mut note = |at: &EnrollmentProgress| {
            fractions.push((at.stage, at.fraction));
            true
        };
        let mut clock = BudgetClock::with_time(Budget::Steps(9), &mut note, || Duration::ZERO);
        let stages =
            [Stage::Tracking, Stage::Fitting, Stage::Learning, Stage::Writing, Stage::Measuring];
        for stage in stages {
            clock.report(stage, 0.5, 1, None).unwrap();
        }
        drop(clock);
        assert!(fractions.is_sorted_by(|a, b| a.1 < b.1), "{fractions:?}");
        assert!(fractions[1].1 < 0.2, "half of the fitting is not most of the work: {fractions:?}");
    }

    #[test]
    fn a_warning_is_reported_at_once_and_stays() {
        let mut reports = Vec::new();
        let mut note = |at: &EnrollmentProgress| {
            reports.push(at.warnings.clone());
            true
        };
        let mut clock = BudgetClock::with_time(Budget::Steps(9), &mut note, || Duration::ZERO);
        clock.report(Stage::Tracking, 0.1, 1, None).unwrap();
        clock.warn([Warning::StillPicture]);
        clock.report(Stage::Tracking, 0.2, 2, None).unwrap();
        clock.report(Stage::Fitting, 0.0, 0, None).unwrap();
        assert_eq!(clock.warnings(), [Warning::StillPicture]);
        drop(clock);
        assert_eq!(reports, [vec![], vec![Warning::StillPicture], vec![Warning::StillPicture]],);
    }
}
