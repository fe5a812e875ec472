//! The whole enrollment: from a source to a face file and a report.

use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use codec::Profile;
use face::{FaceFile, FaceModel, PackedModel, Sizes, ssim};
use track::{PhotometricRefiner, RefinementBudget, SenderPart, Smoothing};
use types::{Feature, FeatureError, LEARNED_DIMS};

use crate::checkpoint::SavedState;
use crate::clock::BudgetClock;
use crate::embedding::Embedding;
use crate::evaluation::{HeldOut, Quality, evaluate, packing_loss, poor_result, render};
use crate::observations::{Observations, ObservedFrame, observe_runs};
use crate::options::{EnrollOptions, EnrollmentReport};
use crate::progress::{EnrollmentProgress, Stage};
use crate::recording::Run;
use crate::sensitivity::{N_PROBES, profile};
use crate::training::{Trained, train};

/// Supported sides of the training pictures in pixels.
const SIDES: RangeInclusive<u32> = 64..=512;
/// Largest share of a time limit that is reserved for packing, evaluation and writing; packing alone may
/// take up to the second share of a short one.
const MAX_RESERVE: f32 = 0.2;
const MAX_PACKING: f32 = 0.4;
/// Numbers of training frames from which the codec profile is computed, the last ones of the clip: at
/// most, at least, and the minimum when time is running out.
const MAX_PROFILED: usize = 600;
const MIN_PROFILED: usize = 150;
const MIN_PROFILED_LATE: usize = 60;
/// Part of a time limit that is left when time is running out: the larger of a share and a time, in which
/// the codec profile is computed and a few frames are evaluated.
const LATE: (f32, Duration) = (0.04, Duration::from_secs(4));
/// Time limit below which the sensitivity is measured at few features, and their number.
const SHORT: Duration = Duration::from_mins(1);
const FEW_PROBES: usize = 4;
/// Largest share of a time limit for refining those frames.
const PROFILE_SHARE: f32 = 0.05;
/// Approximate time to pack, to measure the sensitivity, and to write.
const PACKING_TIME: Duration = Duration::from_secs(8);
/// Time before the limit at which the evaluation ends.
const MARGIN: Duration = Duration::from_millis(500);
/// Held-out frames that are evaluated if hardly any time is left.
const MIN_EVALUATED: usize = 8;
/// Refining a frame takes longer than [`frame_times`] measures, because a trained field takes more
/// steps to converge than an untrained one.
const REFINING_FACTOR: f32 = 1.6;

/// The face file is written and can be used, but its quality is unknown.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the face is written to {}, but was not measured", out.display())]
pub struct NotMeasured {
    out: PathBuf,
}

/// Enrolls a person: trains a face on the source and writes it to [`EnrollOptions::out`], which no
/// other enrollment can write meanwhile.
///
/// `on_progress` is called when a stage begins, then at most five times a second, and returns whether to
/// go on. Checkpoints go to [`EnrollOptions::part_path`]. What is wrong with the material or the result
/// is no error: see [`EnrollmentProgress::warnings`] and [`EnrollmentReport::warnings`].
///
/// # Errors
/// - Before anything is read: the budget is too small ([`Budget::check`](crate::Budget::check)), the side
///   is not 64 to 512 pixels, another enrollment is writing [`EnrollOptions::out`], or a file cannot be
///   written there or beside it.
/// - The source cannot be opened or read, shows a face for less than two seconds or in fewer than 20
///   training frames.
/// - With [`EnrollOptions::resume`], the checkpoint cannot be read, is damaged, needs another key or
///   belongs to another enrollment.
/// - The training diverges, or its features determine no codec profile.
/// - The face file, or the checkpoint of a stop, cannot be encrypted or written.
/// - `on_progress` returns false.
///
/// A previous face file then stays unchanged, and so does a checkpoint, which is there, if there was room
/// for it, once the training has run for 20 seconds or was stopped. After a failure during the evaluation (stage
/// [`Stage::Measuring`]) the new file has replaced both, and [`NotMeasured`] is in the context of the
/// error.
#[expect(clippy::needless_pass_by_value, reason = "an enrollment consumes its options")]
pub fn enroll(
    options: EnrollOptions,
    on_progress: &mut dyn FnMut(&EnrollmentProgress) -> bool,
) -> anyhow::Result<EnrollmentReport> {
    ensure!(
        SIDES.contains(&options.side),
        "the side of the pictures must be {} to {} pixels, not {}",
        SIDES.start(),
        SIDES.end(),
        options.side
    );
    options.budget.check()?;
    let _claim = capture::Claim::take(&options.out)?;
    for path in [&options.out, &options.part_path()] {
        capture::check_writable(path)?;
    }
    let mut clock = BudgetClock::new(options.budget, on_progress);
    let runs = if options.resume { interrupted_runs(&options)? } else { None };
    let observations = observe_runs(&options, runs.as_deref(), &mut clock)?;
    let plan = FinishPlan::new(&observations, &clock)?;
    let trained = train(&options, &observations, plan.reserve, &mut clock)?;

    clock.report(Stage::Writing, 0.0, 0, None)?;
    let (mut file, profile) = pack(&observations, &trained, plan.n_profiled, &clock)?;
    file.consent = options.consent;
    // The file is written before its evaluation, in case that is interrupted.
    write_face(&options, &file)?;
    // The checkpoint is no longer needed. If it cannot be removed, only its owner can read it.
    drop(fs::remove_file(options.part_path()));
    let (quality, packing_loss_db) =
        evaluate_held_out(&observations, &trained, &file.model, &profile, &plan, &mut clock)
            .with_context(|| NotMeasured { out: options.out.clone() })?;
    clock.warn(quality.and_then(|quality| poor_result(quality.psnr_db, trained.steps)));
    Ok(EnrollmentReport {
        psnr_db: quality.map_or(f64::NAN, |q| q.psnr_db),
        ssim: quality.map_or(f64::NAN, |q| q.ssim),
        packing_loss_db,
        n_train: observations.train.len(),
        n_heldout: quality.map_or(0, |q| q.n_frames),
        steps: trained.steps,
        seconds: clock.elapsed().as_secs_f64(),
        bytes: file.info().public_bytes,
        warnings: clock.warnings().to_vec(),
    })
}

/// Returns the parts of the source that an interrupted enrollment has read; `None` if there is none.
fn interrupted_runs(options: &EnrollOptions) -> anyhow::Result<Option<Vec<Run>>> {
    let path = options.part_path();
    let state = SavedState::open(&path, options.key.as_ref(), options.keys)?;
    let runs = state.map(|state| state.runs()).transpose()?;
    Ok(runs.filter(|runs| !runs.is_empty()))
}

/// Writes the face file, encrypted if there is a key.
fn write_face(options: &EnrollOptions, file: &FaceFile) -> anyhow::Result<()> {
    let mut bytes = file.to_bytes();
    if let Some(key) = &options.key {
        bytes = key.seal(vault::Content::Face, &bytes)?;
    }
    Ok(capture::write_file(&options.out, &bytes)?)
}

/// Plan for the work after the training.
struct FinishPlan {
    /// Part of the time limit kept for it; zero without a limit.
    reserve: Duration,
    /// Number of training frames for the codec profile.
    n_profiled: usize,
    /// Time to refine a frame.
    refining: Duration,
}

impl FinishPlan {
    fn new(observations: &Observations, clock: &BudgetClock<'_>) -> anyhow::Result<Self> {
        let (refining, rendering) = frame_times(observations, clock)?;
        let refining = refining.mul_f32(REFINING_FACTOR);
        let Some(limit) = clock.time_limit() else {
            return Ok(Self { reserve: Duration::ZERO, n_profiled: MAX_PROFILED, refining });
        };
        let n_affordable =
            limit.mul_f32(PROFILE_SHARE).as_secs_f32() / refining.as_secs_f32().max(1e-4);
        let n_profiled = (n_affordable as usize).clamp(MIN_PROFILED, MAX_PROFILED);
        let n_held_out = observations.held_out.len() as u32;
        // At most every other held-out frame is refined.
        let evaluation = refining * (n_profiled as u32 + n_held_out / 2) + rendering * n_held_out;
        Ok(Self { reserve: reserve(limit, evaluation), n_profiled, refining })
    }

    /// Returns how many of `n` held-out frames can be refined in the time that is `left`.
    fn n_evaluated(&self, n: usize, left: Option<Duration>) -> usize {
        let Some(left) = left else { return n };
        let n_affordable = left.as_secs_f32() / self.refining.as_secs_f32().max(1e-4);
        n.min((n_affordable as usize).max(MIN_EVALUATED))
    }
}

/// Returns the part of a time `limit` that is reserved for packing and an `evaluation` of this duration.
fn reserve(limit: Duration, evaluation: Duration) -> Duration {
    let packing = PACKING_TIME.min(limit.mul_f32(MAX_PACKING));
    packing + evaluation.min(limit.mul_f32(MAX_RESERVE).saturating_sub(packing))
}

/// Returns whether time is running out.
fn is_late(clock: &BudgetClock<'_>) -> bool {
    clock.time_limit().is_some_and(|limit| {
        let left = limit.mul_f32(LATE.0).max(LATE.1);
        clock.elapsed() + left >= limit
    })
}

/// Packs the trained face with its sender part and codec profile.
fn pack(
    observations: &Observations,
    trained: &Trained,
    n_profiled: usize,
    clock: &BudgetClock<'_>,
) -> anyhow::Result<(FaceFile, Profile)> {
    let sender = SenderPart {
        measured_with: SenderPart::fingerprint(),
        identity: observations.identity.clone(),
        smoothing: Smoothing::CALL,
        torso: observations.torso.clone(),
        embedder: trained.embedding.to_bytes()?,
    };
    let packed = PackedModel::new(&trained.model).context("packing the face")?;
    let train = &observations.train;
    let last = &train[train.len().saturating_sub(n_profiled)..];
    let mut refiner = PhotometricRefiner::new(packed.model().clone());
    let mut features = Vec::with_capacity(last.len());
    for (measured, observed) in measured_features(&trained.embedding, last)?.iter().zip(last) {
        if features.len() >= MIN_PROFILED_LATE && is_late(clock) {
            break;
        }
        features.push(refiner.refine(&observed.frame, measured, RefinementBudget::Full));
    }
    let pictures: Vec<_> =
        last.iter().zip(&features).map(|(observed, feature)| (&observed.frame, *feature)).collect();
    let is_short = clock.time_limit().is_some_and(|limit| limit < SHORT);
    let n_probes = if is_short { FEW_PROBES } else { N_PROBES };
    let profile = profile(packed.model(), &features, &pictures, n_probes)?;
    let file = FaceFile::new(packed, profile.to_bytes(), Some(sender.to_bytes()))
        .context("packing the face")?;
    Ok((file, profile))
}

/// Evaluates the packed face on the held-out frames, and the packing loss; `None` without such frames.
fn evaluate_held_out(
    observations: &Observations,
    trained: &Trained,
    packed: &FaceModel,
    profile: &Profile,
    plan: &FinishPlan,
    clock: &mut BudgetClock<'_>,
) -> anyhow::Result<(Option<Quality>, Option<f64>)> {
    let deadline = clock.time_limit().map(|limit| limit.saturating_sub(MARGIN));
    let left = deadline.map(|deadline| deadline.saturating_sub(clock.elapsed()));
    let held_out = &observations.held_out;
    let held_out = &held_out[..plan.n_evaluated(held_out.len(), left)];
    if held_out.is_empty() {
        return Ok((None, None));
    }
    let frames: Vec<HeldOut<'_>> = held_out
        .iter()
        .zip(measured_features(&trained.embedding, held_out)?)
        .map(|(observed, measured)| HeldOut { frame: &observed.frame, measured })
        .collect();
    let quality = evaluate(packed, profile, &frames, deadline, clock)?;
    let loss = packing_loss(&trained.model, packed, &frames, deadline, clock)?;
    Ok((Some(quality), loss))
}

/// Computes the feature of each frame from its observation and the embedder.
fn measured_features(
    embedding: &Embedding,
    frames: &[ObservedFrame],
) -> anyhow::Result<Vec<Feature>> {
    let codes = embedding.codes_of(frames)?;
    let features: Result<Vec<Feature>, FeatureError> =
        frames.iter().zip(&codes).map(|(frame, code)| frame.observation.feature(code)).collect();
    Ok(features?)
}

/// Measures the times to refine a frame, and to render and compare one, on an untrained field.
fn frame_times(
    observations: &Observations,
    clock: &BudgetClock<'_>,
) -> anyhow::Result<(Duration, Duration)> {
    let Some(first) = observations.train.first() else {
        return Ok((Duration::ZERO, Duration::ZERO));
    };
    let model = FaceModel::untrained(Sizes::for_side(observations.side), 0);
    let measured = first.observation.feature(&[0.0; LEARNED_DIMS])?;
    let mut refiner = PhotometricRefiner::new(model.clone());
    // The first frame after a reset takes more steps than the following ones.
    refiner.refine(&first.frame, &measured, RefinementBudget::Full);
    let before = clock.elapsed();
    let refined = refiner.refine(&first.frame, &measured, RefinementBudget::Full);
    let between = clock.elapsed();
    let picture = render(&model, &refined, observations.side)?;
    ssim(&picture, &first.frame);
    let after = clock.elapsed();
    Ok((between.saturating_sub(before), after.saturating_sub(between)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Budget;
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
    fn the_reserve_covers_packing_in_a_short_limit_and_stays_small_in_a_long_one() {
        let s = Duration::from_secs_f32;
        assert_eq!(reserve(s(10.0), s(30.0)), s(4.0));
        assert_eq!(reserve(s(20.0), s(30.0)), s(8.0));
        assert_eq!(reserve(s(120.0), s(30.0)), s(24.0));
        assert_eq!(reserve(s(600.0), s(30.0)), s(38.0));
    }

    #[test]
    fn a_failed_enrollment_keeps_the_previous_face() {
        let folder = folder("errors");
        let out = folder.join("me.face");
        fs::write(&out, b"previous face").unwrap();
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
        assert_eq!(fs::read(&out).unwrap(), b"previous face");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_face_is_written_encrypted_with_its_record_of_consent() {
        let folder = folder("encrypted");
        let (key, _) = vault::Keys::in_file(folder.join("key")).own().unwrap();
        let consent = face::Consent {
            given: Duration::from_secs(1_764_547_201),
            form: face::ConsentForm::Terminal,
        };
        let options = EnrollOptions {
            key: Some(key.clone()),
            consent: Some(consent),
            ..EnrollOptions::new(SourceSpec::Actor, folder.join("me.face"))
        };
        let packed = PackedModel::new(&FaceModel::untrained(Sizes::tiny(), 1)).unwrap();
        let mut file = FaceFile::new(packed, vec![1, 2], Some(vec![3; 100])).unwrap();
        file.consent = options.consent;
        write_face(&options, &file).unwrap();
        let sealed = fs::read(&options.out).unwrap();
        let plain = key.open(vault::Content::Face, &sealed).unwrap();
        assert_eq!(plain, file.to_bytes());
        assert_eq!(FaceFile::parse(&plain).unwrap().consent, Some(consent));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_progress_callback_can_stop_an_enrollment() {
        let folder = folder("stopped");
        let options = EnrollOptions::new(SourceSpec::Actor, folder.join("me.face"));
        let error = enroll(options, &mut |_| false).unwrap_err().to_string();
        assert!(error.contains("stopped"), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_face_that_is_written_is_kept_when_its_evaluation_is_stopped() {
        let folder = folder("unmeasured");
        let options = EnrollOptions {
            side: 64,
            budget: Budget::Steps(1),
            record: Duration::from_secs(4),
            ..EnrollOptions::new(SourceSpec::Actor, folder.join("me.face"))
        };
        let (out, part) = (options.out.clone(), options.part_path());
        let error = enroll(options, &mut |at| at.stage != Stage::Measuring).unwrap_err();
        assert!(error.is::<NotMeasured>(), "{error:#}");
        let error = format!("{error:#}");
        assert!(error.contains("not measured") && !error.contains("resume"), "{error}");
        FaceFile::parse(&fs::read(out).unwrap()).unwrap();
        assert!(!part.exists(), "a model of the person stays");
        fs::remove_dir_all(folder).unwrap();
    }
}
