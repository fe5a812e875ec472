//! Progress of long commands: a bar on a terminal, JSON lines on request, otherwise a line every ten
//! seconds.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Display of a command's progress.
pub(crate) struct ProgressDisplay {
    style: Style,
    started: Instant,
}

enum Style {
    Bar(ProgressBar),
    Json,
    Lines { stage: String, next: Duration },
}

impl ProgressDisplay {
    /// Starts the display; if `is_json`, each report is a JSON object on standard output.
    pub(crate) fn new(is_json: bool) -> Self {
        let style = if is_json {
            Style::Json
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(1000);
            if let Ok(style) = ProgressStyle::with_template(
                "{prefix:>10} {wide_bar:.green} {percent:>3} %  {eta} left  {msg}",
            ) {
                bar.set_style(style);
            }
            Style::Bar(bar)
        } else {
            Style::Lines { stage: String::new(), next: Duration::ZERO }
        };
        Self { style, started: Instant::now() }
    }

    /// Reports that `fraction` (0..=1) of `stage` is done; `detail` is displayed as it is.
    pub(crate) fn report(&mut self, stage: &str, fraction: f32, detail: &str) {
        let elapsed = self.started.elapsed();
        match &mut self.style {
            Style::Bar(bar) => {
                if bar.prefix() != stage {
                    bar.reset();
                    bar.set_prefix(stage.to_owned());
                }
                bar.set_position((fraction.clamp(0.0, 1.0) * 1000.0) as u64);
                bar.set_message(detail.to_owned());
            }
            Style::Json => println!(
                "{}",
                serde_json::json!({
                    "stage": stage,
                    "fraction": fraction,
                    "detail": detail,
                    "seconds": elapsed.as_secs_f32(),
                })
            ),
            Style::Lines { stage: last, next } => {
                if last != stage || elapsed >= *next || fraction >= 1.0 {
                    eprintln!("{stage}: {:.0} % {detail}", fraction * 100.0);
                    stage.clone_into(last);
                    *next = elapsed + Duration::from_secs(10);
                }
            }
        }
    }

    /// Removes the bar from the terminal.
    pub(crate) fn finish(self) {
        if let Style::Bar(bar) = self.style {
            bar.finish_and_clear();
        }
    }
}
