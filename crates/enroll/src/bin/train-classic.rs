//! Trains the classic field, the yardstick beside our own, and measures it on held-out frames.
//!
//! ```text
//! cargo run --release -p enroll --bin train-classic -- --from CLIP --out X.classic
//!     [--size 256] [--budget 15m|900s] [--steps N] [--holdout 0.15|every:7] [--seed N]
//!     [--pictures OUT.y4m] [--width N] [--depth N] [--skip N] [--coarse N] [--fine N] [--torso N]
//!     [--full-size] [--coarse-only] [--without embedding|consistency-code]...
//! ```
//! The budget is for reading, tracking and training; measuring every held-out frame comes after it.
//! Progress goes to standard error, the result as one line of JSON to standard output. There is no
//! photometric refinement and no codec: both belong to our own field. docs/MODEL.md, "The classic
//! field", has the recipe.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use enroll::{Budget, ClassicOptions, EnrollOptions, Progress, train_classic};
use face::ClassicSizes;

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::from(2);
        }
    };
    let mut told = ("", -1);
    let mut tell = |p: &Progress| {
        let percent = (p.fraction * 100.0) as i32;
        if (p.stage, percent) != told {
            told = (p.stage, percent);
            eprintln!("{} {percent} %: {}", p.stage, p.detail);
        }
        true
    };
    let report = train_classic(&options, &mut tell)
        .and_then(|report| serde_json::to_string(&report).map_err(anyhow::Error::from));
    match report {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<ClassicOptions> {
    let (mut from, mut out) = (None, None);
    let mut options =
        ClassicOptions::new(EnrollOptions::new(capture::SourceSpec::Actor, PathBuf::new()));
    options.enroll.budget = Budget::Time(Duration::from_mins(15));
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{name} needs a value"));
        let number = |text: String| {
            text.parse::<usize>().with_context(|| format!("{name} needs a number, not {text:?}"))
        };
        match name.as_str() {
            "--from" => from = Some(value()?.parse()?),
            "--out" => out = Some(PathBuf::from(value()?)),
            "--size" => options.enroll.side = number(value()?)? as u32,
            "--budget" => options.enroll.budget = Budget::Time(duration(&value()?)?),
            "--steps" => options.enroll.budget = Budget::Steps(number(value()?)? as u32),
            "--holdout" => options.enroll.holdout = value()?.parse()?,
            "--seed" => options.enroll.seed = number(value()?)? as u64,
            "--pictures" => options.pictures = Some(PathBuf::from(value()?)),
            "--width" => options.sizes.width = number(value()?)?,
            "--depth" => options.sizes.depth = number(value()?)?,
            "--skip" => options.sizes.skip = number(value()?)?,
            "--coarse" => options.sizes.coarse = number(value()?)?,
            "--fine" => options.sizes.fine = number(value()?)?,
            "--torso" => options.sizes.torso = number(value()?)?,
            "--full-size" => options.sizes = ClassicSizes::full(),
            "--coarse-only" => options.sizes.fine = 0,
            "--without" => options.enroll.without.push(value()?.parse()?),
            _ => bail!("{name} is no option of train-classic"),
        }
    }
    options.enroll.source = from.context("say what to learn from: --from CLIP")?;
    options.enroll.out = out.context("say where to write: --out X.classic")?;
    Ok(options)
}

/// `90s` or `15m`.
fn duration(text: &str) -> Result<Duration> {
    let parsed = match (text.strip_suffix('m'), text.strip_suffix('s')) {
        (Some(minutes), _) => minutes.parse().map(|m: f64| m * 60.0),
        (_, Some(seconds)) => seconds.parse(),
        _ => text.parse(),
    };
    parsed
        .ok()
        .filter(|s| (1.0..=1e7).contains(s))
        .map(Duration::from_secs_f64)
        .with_context(|| format!("say a time like 90s or 15m, not {text:?}"))
}
