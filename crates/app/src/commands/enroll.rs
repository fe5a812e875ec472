//! `feathercall enroll`

use enroll::{Budget, EnrollOptions};

use crate::cli::Enroll;
use crate::progress::ProgressDisplay;

/// Enrolls a face and prints a summary.
pub(super) fn run(args: Enroll) -> anyhow::Result<()> {
    let budget = args.steps.map(Budget::Steps).or(args.budget).unwrap_or_default();
    let options = EnrollOptions {
        side: args.size,
        preset: args.preset,
        budget,
        holdout: args.holdout,
        resume: args.resume,
        without: args.without,
        ..EnrollOptions::new(args.from, args.out.clone())
    };
    let mut progress = ProgressDisplay::new(args.json);
    let result = enroll::enroll(options, &mut |at| {
        progress.report(at.stage, at.fraction, &at.detail);
        true
    });
    progress.finish();
    let report = result?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    println!(
        "{}: {} bytes for peers, trained on {} frames in {:.0} s and {} steps",
        args.out.display(),
        report.bytes,
        report.n_train,
        report.seconds,
        report.steps
    );
    if report.n_heldout > 0 {
        println!(
            "held out: {:.2} dB PSNR, {:.4} SSIM over {} frames",
            report.psnr_db, report.ssim, report.n_heldout
        );
    }
    if let Some(loss) = report.packing_loss_db {
        println!("{loss:.2} dB of it are lost by packing into the file");
    }
    Ok(())
}
