//! `feathercall enroll`

use std::path::Path;

use capture::SourceSpec;
use enroll::{Budget, EnrollOptions, NotMeasured, Warning};

use super::UsageError;
use crate::cli::Enroll;
use crate::consent;
use crate::destination::{self, Destination, Kind};
use crate::face_files;
use crate::progress::ProgressDisplay;
use crate::termination::{self, Interrupted};

/// Enrolls a face and prints a summary.
pub(super) fn run(args: Enroll) -> anyhow::Result<()> {
    let budget = args.steps.map(Budget::Steps).or(args.budget).unwrap_or_default();
    budget.check().map_err(|error| UsageError(error.to_string()))?;
    check_places(&args)?;
    let consent = consent::ask(&args.from, args.i_consent)?;
    let own_key = (!args.plain).then(face_files::own_key).transpose()?;
    let (key, key_place) = own_key.unzip();
    let options = EnrollOptions {
        side: args.size,
        preset: args.preset,
        budget,
        holdout: args.holdout,
        resume: args.resume,
        without: args.without,
        key,
        keys: Some(face_files::keys()),
        consent,
        ..EnrollOptions::new(args.from, args.out.clone())
    };
    let part = options.part_path();
    let mut progress = ProgressDisplay::new(args.json);
    termination::end_well();
    let mut n_told = 0;
    let mut tell = |progress: &mut ProgressDisplay, warnings: &[Warning]| {
        for warning in &warnings[n_told..] {
            progress.note(&format!("warning: {warning}. {}", warning.advice()), warning)?;
        }
        n_told = warnings.len();
        anyhow::Ok(())
    };
    let result = enroll::enroll(options, &mut |at| {
        let is_told = tell(&mut progress, &at.warnings).is_ok();
        progress.report(at.stage.name(), at.fraction, &at.detail);
        is_told && !termination::is_requested()
    });
    if let Ok(report) = &result {
        tell(&mut progress, &report.warnings)?;
    }
    progress.finish();
    let report =
        result
            .map_err(|error| {
                let is_unfinished = part.exists() && !error.is::<NotMeasured>();
                if is_unfinished { error.context(interrupted(&part)) } else { error }
            })
            .map_err(|error| {
                if termination::is_requested() { error.context(Interrupted) } else { error }
            })?;
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
    match key_place {
        Some(place) => println!("encrypted; the key is in {place}"),
        None => println!("not encrypted, as asked"),
    }
    Ok(())
}

/// Checks where the enrollment writes.
fn check_places(args: &Enroll) -> anyhow::Result<()> {
    let part = EnrollOptions::new(args.from.clone(), args.out.clone()).part_path();
    let destinations = [
        Destination { option: "--out", path: &args.out, kind: Kind::Face },
        Destination { option: "--out", path: &part, kind: Kind::TrainingState },
    ];
    let clip = match &args.from {
        SourceSpec::Clip(clip) => Some(&**clip),
        _ => None,
    };
    destination::check(&destinations, clip.as_slice(), args.overwrite.force)
}

/// What to do with the training state of an enrollment that did not end.
fn interrupted(part: &Path) -> String {
    format!(
        "not enrolled; the training state, a model of the person, stays in {} \
         (continue with --resume, remove it with `feathercall files --remove`)",
        part.display()
    )
}
