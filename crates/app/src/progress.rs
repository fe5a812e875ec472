//! Progress of long commands: a bar on a terminal, JSON lines on request, otherwise nothing.

use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::output;

/// Most redraws of a bar per second.
const REDRAWS_PER_S: u8 = 20;

/// Display of a command's progress.
pub(crate) struct ProgressDisplay {
    style: Style,
    started: Instant,
}

enum Style {
    Bar(ProgressBar),
    Json,
    None,
}

impl ProgressDisplay {
    /// Starts the display; if `is_json`, each report is a JSON object on standard output.
    pub(crate) fn new(is_json: bool) -> Self {
        let style = if is_json {
            Style::Json
        } else if let Some(terminal) = output::terminal() {
            let target = ProgressDrawTarget::term(terminal, REDRAWS_PER_S);
            let bar = ProgressBar::with_draw_target(Some(1000), target);
            if let Ok(style) = ProgressStyle::with_template(
                "{prefix:>10} {wide_bar:.green} {percent:>3} %  {eta} left  {msg}",
            ) {
                bar.set_style(style);
            }
            Style::Bar(bar)
        } else {
            Style::None
        };
        Self { style, started: Instant::now() }
    }

    /// Reports that `fraction` (0..=1) of `stage` is done; `detail` is displayed as it is.
    pub(crate) fn report(&mut self, stage: &str, fraction: f32, detail: &str) {
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
                    "seconds": self.started.elapsed().as_secs_f32(),
                })
            ),
            Style::None => {}
        }
    }

    /// Shows a line that stays: `words` for a reader, above the bar, or `object` as a line of JSON.
    pub(crate) fn note(&mut self, words: &str, object: &impl Serialize) -> anyhow::Result<()> {
        match &self.style {
            Style::Bar(bar) => bar.println(words),
            Style::Json => println!("{}", serde_json::to_string(object)?),
            Style::None => eprintln!("{words}"),
        }
        Ok(())
    }

    /// Removes the bar from the terminal.
    pub(crate) fn finish(self) {
        if let Style::Bar(bar) = self.style {
            bar.finish_and_clear();
        }
    }
}
