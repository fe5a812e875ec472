//! How far we are, how long it took, how long it may take.
#![expect(clippy::disallowed_methods, reason = "an enrollment is bounded by time on the clock")]

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::options::{Budget, Progress};

/// Least time between two reports.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// The clock of one enrollment, and the one place that reports progress.
pub(crate) struct Clock<'a> {
    start: Instant,
    budget: Budget,
    on_progress: &'a mut dyn FnMut(&Progress) -> bool,
    stage: &'static str,
    stage_start: Instant,
    last_report: Option<Instant>,
}

impl<'a> Clock<'a> {
    pub(crate) fn new(budget: Budget, on_progress: &'a mut dyn FnMut(&Progress) -> bool) -> Self {
        let now = Instant::now();
        Self { start: now, budget, on_progress, stage: "", stage_start: now, last_report: None }
    }

    /// Time since the enrollment began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Reports that `share` of `stage` is done, after `count` of its frames or steps.
    ///
    /// # Errors
    /// If whoever listens wants it to stop.
    pub(crate) fn report(
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
            Budget::Time(all) => {
                let elapsed = self.elapsed();
                let fraction = elapsed.as_secs_f32() / all.as_secs_f32().max(1e-3);
                (fraction, Some(all.saturating_sub(elapsed)))
            }
            // By steps, learning is most of the work.
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
        let what = if stage == "learning" { "steps" } else { "frames" };
        let quality = psnr_db.map(|db| format!(", {db:.1} dB")).unwrap_or_default();
        let detail = format!("{count} {what}, {rate:.1}/s{quality}");
        let fraction = fraction.clamp(0.0, 1.0);
        let progress = Progress { stage, fraction, rate, left, psnr_db, detail };
        if !(self.on_progress)(&progress) {
            bail!("the enrollment was stopped; --resume goes on from where it was");
        }
        Ok(())
    }
}
