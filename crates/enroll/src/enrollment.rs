use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use face::{FaceFile, FaceModel, Sizes, ssim};
use track::{PhotometricRefiner, RefinementBudget, SenderPart, Smoothing, measuring_fingerprint};
use types::{Feature, FeatureError, LEARNED_DIMS};

use crate::checkpoint::{can_write, write_whole};
use crate::clock::Clock;
use crate::embedding::Embedding;
use crate::learning::learn;
use crate::measuring::{HeldOut, draw, measure, packing_loss};
use crate::observing::{Observations, Seen, observe};
use crate::options::{Budget, EnrollOptions, Progress, Report};
use crate::recording::record;
use crate::visibility::profile;

/// Sides that can be learned.
const SIDES: std::ops::RangeInclusive<u32> = 64..=512;
/// Most of a time budget that is kept for packing, measuring and writing.
const MOST_RESERVE: f32 = 0.2;
/// The last so many frames learned from tell the codec how the person moves, fewer where they
/// would take too long,
const PROFILED: usize = 600;
/// but at least so many, where there are.
const MIN_PROFILED: usize = 150;
/// and where the time is as good as up, with so many.
const LEAST_PROFILED: usize = 60;
/// Share of a time budget after which it is.
const PROFILED_UNTIL: f32 = 0.96;
/// Most of a time budget that goes into them.
const PROFILED_SHARE: f32 = 0.05;
/// Time to pack, to see what shows, and to write, about.
const PACKING: Duration = Duration::from_secs(8);
/// Refining a frame takes longer than [`time_a_frame`] says: a learned field is worth more steps
/// than an untrained one.
const MORE_STEPS: f32 = 1.6;

/// Enrolls a person: writes `options.out`, and `<out>.part` while at it.
///
/// `on_progress` hears how far it is a few times a second, and ends it by returning false.
///
/// # Errors
/// If the source cannot be read, shows no face or too little of one, or the disk is full. A face
/// file that was there before is then left as it was, and `<out>.part` stays for `resume`.
#[expect(clippy::needless_pass_by_value, reason = "an enrollment uses its options up")]
pub fn enroll(
    options: EnrollOptions,
    on_progress: &mut dyn FnMut(&Progress) -> bool,
) -> anyhow::Result<Report> {
    ensure!(
        SIDES.contains(&options.side),
        "the size must be {} to {} pixels, not {}",
        SIDES.start(),
        SIDES.end(),
        options.side
    );
    can_write(&options.part_path())?;
    let mut clock = Clock::new(options.budget, on_progress);
    let recording = record(&options, &mut clock)?;
    let seen = observe(recording, options.holdout, &mut clock)?;
    let budget = match options.budget {
        Budget::Time(all) => Some(all),
        Budget::Steps(_) => None,
    };
    let (refining, drawing) = time_a_frame(&seen, &clock)?;
    let refining = refining.mul_f32(MORE_STEPS);
    let n_profiled = budget.map_or(PROFILED, |all| {
        let n = all.mul_f32(PROFILED_SHARE).as_secs_f32() / refining.as_secs_f32().max(1e-4);
        (n as usize).clamp(MIN_PROFILED, PROFILED)
    });
    let n_held_out = seen.held_out.len() as u32;
    // Of the frames kept back every other one at most is refined.
    let measuring = refining * (n_profiled as u32 + n_held_out / 2) + drawing * n_held_out;
    let reserve =
        budget.map_or(Duration::ZERO, |all| (PACKING + measuring).min(all.mul_f32(MOST_RESERVE)));
    let learned = learn(&options, &seen, reserve, &mut clock)?;

    clock.report("writing", 0.0, 0, None)?;
    let sender = SenderPart {
        measured_with: measuring_fingerprint(),
        identity: seen.identity.clone(),
        smoothing: Smoothing::CALL,
        torso: seen.torso.clone(),
        embedder: learned.embedding.to_bytes()?,
    };
    let mut file = FaceFile::new(&learned.model, Vec::new(), Some(sender.to_bytes()))
        .context("packing the face")?;
    let last = &seen.train[seen.train.len().saturating_sub(n_profiled)..];
    let mut refiner = PhotometricRefiner::new(file.model.clone());
    let mut features = Vec::with_capacity(last.len());
    for (measured, s) in measured(&learned.embedding, last)?.iter().zip(last) {
        let is_late = budget.is_some_and(|all| clock.elapsed() >= all.mul_f32(PROFILED_UNTIL));
        if features.len() >= LEAST_PROFILED && is_late {
            break;
        }
        features.push(refiner.refine(&s.frame, measured, RefinementBudget::Full));
    }
    let pictures: Vec<_> =
        last.iter().zip(&features).map(|(s, feature)| (&s.frame, *feature)).collect();
    let profile = profile(&file.model, &features, &pictures)?;
    file.codec_profile = profile.to_bytes();
    // Written before it is measured: the face is what the time was spent on.
    write_whole(&options.out, &file.to_bytes())?;

    let (quality, packing_loss_db) = if seen.held_out.is_empty() {
        (None, None)
    } else {
        let held: Vec<HeldOut<'_>> = seen
            .held_out
            .iter()
            .zip(measured(&learned.embedding, &seen.held_out)?)
            .map(|(s, measured)| HeldOut { frame: &s.frame, measured })
            .collect();
        let deadline = budget.map(|all| all.saturating_sub(Duration::from_millis(500)));
        let quality = measure(&file.model, &profile, &held, deadline, &mut clock)?;
        let loss = packing_loss(&learned.model, &file.model, &held, deadline, &mut clock)?;
        (Some(quality), loss)
    };
    // The face is there; its state is of use to nobody any more.
    drop(fs::remove_file(options.part_path()));
    Ok(Report {
        psnr_db: quality.map_or(f64::NAN, |q| q.psnr_db),
        ssim: quality.map_or(f64::NAN, |q| q.ssim),
        packing_loss_db,
        n_train: seen.train.len(),
        n_heldout: quality.map_or(0, |q| q.n),
        steps: learned.steps,
        seconds: clock.elapsed().as_secs_f64(),
        bytes: file.info().public_bytes,
    })
}

/// What landmarks, torso tracker and embedder see in these frames.
fn measured(embedding: &Embedding, seen: &[Seen]) -> anyhow::Result<Vec<Feature>> {
    let codes = embedding.codes_of(seen)?;
    let features: Result<Vec<Feature>, FeatureError> =
        seen.iter().zip(&codes).map(|(s, code)| s.observation.feature(code)).collect();
    Ok(features?)
}

/// How long it will take to refine a frame at the end, and to draw and measure one.
fn time_a_frame(seen: &Observations, clock: &Clock<'_>) -> anyhow::Result<(Duration, Duration)> {
    let Some(first) = seen.train.first() else {
        return Ok((Duration::ZERO, Duration::ZERO));
    };
    let model = FaceModel::untrained(Sizes::for_side(seen.side), 0);
    let rest = first.observation.feature(&[0.0; LEARNED_DIMS])?;
    let mut refiner = PhotometricRefiner::new(model.clone());
    // The first frame of a row takes more steps than those after it.
    refiner.refine(&first.frame, &rest, RefinementBudget::Full);
    let before = clock.elapsed();
    let rest = refiner.refine(&first.frame, &rest, RefinementBudget::Full);
    let between = clock.elapsed();
    ssim(&draw(&model, &rest, seen.side)?, &first.frame);
    let after = clock.elapsed();
    Ok((between.saturating_sub(before), after.saturating_sub(between)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use capture::SourceSpec;
    use std::path::Path;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("enroll-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn error_of(source: &Path, out: &Path) -> String {
        let options = EnrollOptions {
            budget: Budget::Steps(1),
            ..EnrollOptions::new(SourceSpec::Clip(source.into()), out.into())
        };
        format!("{:#}", enroll(options, &mut |_| true).unwrap_err())
    }

    #[test]
    fn a_clip_without_a_face_or_without_an_end_leaves_the_old_face_alone() {
        let folder = folder("errors");
        let out = folder.join("me.face");
        fs::write(&out, b"the face of before").unwrap();
        let mut clip = b"YUV4MPEG2 W64 H64 F25:1 Ip C420jpeg\n".to_vec();
        for _ in 0..4 {
            clip.extend(b"FRAME\n");
            clip.extend([128; 64 * 64 * 3 / 2]);
        }
        let gray = folder.join("gray.y4m");
        fs::write(&gray, &clip).unwrap();
        let error = error_of(&gray, &out);
        assert!(error.contains("no face was found in the middle square of 4 frames"), "{error}");
        let cut = folder.join("cut.y4m");
        fs::write(&cut, &clip[..clip.len() - 100]).unwrap();
        let error = error_of(&cut, &out);
        assert!(error.contains("cut short inside frame"), "{error}");
        let error = error_of(&folder.join("missing.mp4"), &out);
        assert!(error.contains("missing.mp4"), "{error}");
        assert_eq!(fs::read(&out).unwrap(), b"the face of before");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn whoever_listens_can_stop_it() {
        let folder = folder("stopped");
        let options = EnrollOptions::new(SourceSpec::Actor, folder.join("me.face"));
        let error = enroll(options, &mut |_| false).unwrap_err().to_string();
        assert!(error.contains("stopped"), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }
}
