//! Trains a baseline field and measures it on held-out frames.
//!
//! ```text
//! cargo run --release -p classic --bin train-classic -- --from CLIP --out X.classic
//! ```
//!
//! The budget covers reading, tracking and training; measuring every held-out frame comes after it.
//! Progress goes to standard error and the report, as one line of JSON, to standard output.

use std::path::PathBuf;

use anyhow::Result;
use capture::SourceSpec;
use clap::Parser;
use classic::{ClassicOptions, ClassicSizes, train_classic};
use enroll::{Ablation, Budget, EnrollOptions, EnrollmentProgress, Holdout};

/// Train a baseline field and measure it on held-out frames
#[derive(Parser)]
struct Arguments {
    /// Clip, camera or actor to learn from
    #[arg(long, value_name = "SOURCE")]
    from: SourceSpec,
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Side of the square pictures in pixels, 64 to 512
    #[arg(long, value_name = "PIXELS", default_value_t = 256)]
    size: u32,
    /// Time for reading, tracking and training, such as `15m`, or training steps, such as `3000 steps`
    #[arg(long, default_value = "15m")]
    budget: Budget,
    /// Frames to hold out: a share at the end such as `0.15`, or `every:7`
    #[arg(long, default_value = "0.15")]
    holdout: Holdout,
    /// Seed of all random numbers
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Clip to write with the rendered held-out frames
    #[arg(long, value_name = "FILE")]
    pictures: Option<PathBuf>,
    /// Use the network sizes of the paper, which takes days to train on two cores
    #[arg(long)]
    full_size: bool,
    /// Leave out the fine pass
    #[arg(long)]
    coarse_only: bool,
    /// Width of the networks, a multiple of 32
    #[arg(long, value_name = "N")]
    width: Option<usize>,
    /// Layers of the networks
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// Layer that reads position and codes a second time; 0 for none
    #[arg(long, value_name = "N")]
    skip: Option<usize>,
    /// Samples of the coarse pass
    #[arg(long, value_name = "N")]
    coarse: Option<usize>,
    /// Samples that the fine pass adds
    #[arg(long, value_name = "N")]
    fine: Option<usize>,
    /// Samples of the torso's pass
    #[arg(long, value_name = "N")]
    torso: Option<usize>,
    /// Parts to leave out for an ablation study: `embedding`, `consistency-code`
    #[arg(long, value_name = "PART")]
    without: Vec<Ablation>,
}

impl Arguments {
    fn sizes(&self) -> ClassicSizes {
        let mut sizes = if self.full_size { ClassicSizes::full() } else { ClassicSizes::small() };
        if self.coarse_only {
            sizes.fine = 0;
        }
        for (size, argument) in [
            (&mut sizes.width, self.width),
            (&mut sizes.depth, self.depth),
            (&mut sizes.skip, self.skip),
            (&mut sizes.coarse, self.coarse),
            (&mut sizes.fine, self.fine),
            (&mut sizes.torso, self.torso),
        ] {
            *size = argument.unwrap_or(*size);
        }
        sizes
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let sizes = arguments.sizes();
    let enroll = EnrollOptions {
        side: arguments.size,
        budget: arguments.budget,
        holdout: arguments.holdout,
        seed: arguments.seed,
        without: arguments.without,
        ..EnrollOptions::new(arguments.from, arguments.out)
    };
    let options = ClassicOptions { enroll, sizes, pictures: arguments.pictures };
    let mut reported = None;
    let mut report = |progress: &EnrollmentProgress| {
        let percent = (progress.fraction * 100.0) as i32;
        if reported != Some((progress.stage, percent)) {
            reported = Some((progress.stage, percent));
            eprintln!("{} {percent} %: {}", progress.stage, progress.detail);
        }
        true
    };
    let report = train_classic(&options, &mut report)?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
