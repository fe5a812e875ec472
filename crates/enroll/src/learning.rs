//! Field and embedder, learned together from what was observed.

use std::time::Duration;

use face::FaceModel;
use numerics::SplitMix64;
use types::FeatureError;

use crate::checkpoint::Checkpoint;
use crate::clock::Clock;
use crate::corrections::Corrections;
use crate::embedding::Embedding;
use crate::frame_pass::FrameJob;
use crate::observing::Observations;
use crate::options::{Budget, EnrollOptions, Part};
use crate::pixels::RayCounts;
use crate::posing::Posing;
use crate::trainer::{FRAMES_PER_STEP, Trainer, learning_rate};

/// Rays of a frame in one step.
const RAYS: RayCounts = RayCounts { uniform: 600, head: 440, mouth: 144, eyes: 96 };
/// Samples on a ray, one of these at random in each step: the field then looks the same at all.
const SAMPLES: [usize; 3] = [6, 8, 12];
/// From this share of the training on, the code is blurred as quantizing will blur it.
const BLUR_FROM: f32 = 0.5;
/// Half a quantizer step of a learned number, in its standard deviations: the codec's normal
/// quality takes steps of a third.
const HALF_STEP: f32 = 1.0 / 6.0;
/// Weight of the code's square: it stays small where nothing needs it.
const CODE_SMALL: f32 = 1e-5;
/// Time between two states on disk.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(20);
/// How slowly the shown quality follows that of each step.
const SHOWN: f64 = 0.98;

/// What learning leaves.
pub(crate) struct Learned {
    pub(crate) model: FaceModel,
    pub(crate) embedding: Embedding,
    pub(crate) steps: u32,
}

/// Learns until the budget is used up, `reserve` kept for what comes after.
pub(crate) fn learn(
    options: &EnrollOptions,
    seen: &Observations,
    reserve: Duration,
    clock: &mut Clock<'_>,
) -> anyhow::Result<Learned> {
    let mut embedding = seen.embedding(options.seed)?;
    let mut trainer = start(options, seen, &embedding)?;
    let mut noise = SplitMix64::new(options.seed);
    let mut posing = Posing::new(&seen.train, matches!(options.budget, Budget::Time(_)));
    let mut corrections = Corrections::new(seen.train.len());
    let mut resumed = 0.0;
    let fingerprint = fingerprint(options, seen, &trainer, &embedding)?;
    let part = options.part_path();
    if options.resume
        && let Some(state) = Checkpoint::read(&part, &fingerprint)?
    {
        trainer.params = state.field;
        trainer.adam = state.field_adam;
        embedding.restore(&state.embedder, state.embedder_adam)?;
        corrections.restore(&state.corrections)?;
        posing.restore(&state.poses)?;
        noise = SplitMix64::new(state.noise);
        resumed = state.progress;
    }
    let regions = seen.regions();
    let deviations = embedding.deviations(seen)?;

    let begun = clock.elapsed();
    let mut saved = begun;
    let first_step = trainer.adam.steps;
    let mut error: Option<f64> = None;
    let checkpoint = |trainer: &Trainer,
                      embedding: &Embedding,
                      (posing, corrections): (&Posing<'_>, &Corrections),
                      noise: &SplitMix64,
                      progress| {
        Checkpoint {
            fingerprint: fingerprint.clone(),
            field: trainer.params.clone(),
            field_adam: trainer.adam.clone(),
            embedder: embedding.values()?,
            embedder_adam: embedding.adam.clone(),
            corrections: corrections.numbers(),
            poses: posing.numbers(),
            progress,
            noise: noise.state(),
        }
        .write(&part)
    };
    let mut deviations_now = deviations;
    // What frames are aligned with: the field of a few steps ago.
    let mut field: Option<(FaceModel, u32)> = None;
    loop {
        let progress = match options.budget {
            Budget::Steps(steps) => trainer.adam.steps as f32 / steps.max(1) as f32,
            Budget::Time(all) => {
                let span = all.saturating_sub(reserve + begun).as_secs_f32().max(1e-3);
                let share = clock.elapsed().saturating_sub(begun).as_secs_f32() / span;
                // What a resumed enrollment did before counts as done.
                if share < 1.0 { resumed + (1.0 - resumed) * share } else { 1.0 }
            }
        };
        if progress >= 1.0 {
            break;
        }
        if trainer.adam.steps.is_multiple_of(DEVIATIONS_EVERY) {
            deviations_now = embedding.deviations(seen)?;
        }
        let chosen: Vec<usize> = (0..FRAMES_PER_STEP)
            .map(|_| (noise.bits() % seen.train.len() as u64) as usize)
            .collect();
        let windows: Vec<&[f32]> = chosen.iter().map(|&i| &seen.train[i].window[..]).collect();
        let codes = embedding.forward(&windows)?;
        let corrected: Vec<_> = chosen
            .iter()
            .zip(codes.values())
            .map(|(&i, code)| corrections.corrected(i, code))
            .collect();
        if posing.may_align(progress, clock) {
            let now = trainer.adam.steps;
            if field.as_ref().is_none_or(|(_, then)| now >= then + FIELD_EVERY) {
                field = Some((trainer.model()?, now));
            }
            if let Some((field, _)) = &field {
                posing.align(field, &chosen, &corrected, progress, clock)?;
            }
        }
        let jobs: Vec<FrameJob> = chosen
            .iter()
            .zip(&corrected)
            .map(|(&i, code)| {
                let observed = &seen.train[i];
                let mut code = *code;
                if progress > BLUR_FROM {
                    for (c, d) in code.iter_mut().zip(&deviations_now) {
                        *c += (noise.uniform() * 2.0 - 1.0) * HALF_STEP * d;
                    }
                }
                let mut pixels =
                    regions[i].draw(observed.frame.rgb(), seen.side, &RAYS, &mut noise);
                let light = posing.exposure(i);
                for pixel in &mut pixels {
                    for c in 0..3 {
                        pixel.rgb[c] = (pixel.rgb[c] - light.offset[c]) / light.gain[c];
                    }
                }
                Ok(FrameJob {
                    feature: posing.feature(i, &code)?.to_array(),
                    pixels,
                    seed: noise.bits(),
                })
            })
            .collect::<Result<_, FeatureError>>()?;
        let n_samples = SAMPLES[(noise.bits() % SAMPLES.len() as u64) as usize];
        let steps = trainer.adam.steps;
        let mut step = trainer.step(&jobs, n_samples, progress);
        let rate = learning_rate(steps, progress);
        corrections.learn(&chosen, &step.g_codes, progress, rate);
        for (g, code) in step.g_codes.iter_mut().zip(codes.values()) {
            for (g, c) in g.iter_mut().zip(code) {
                *g += 2.0 * CODE_SMALL * c / FRAMES_PER_STEP as f32;
            }
        }
        if !options.without.contains(&Part::Embedding) {
            embedding.learn(&codes, &step.g_codes, rate)?;
        }

        let shown =
            error.map_or(step.squared_error, |e| SHOWN * e + (1.0 - SHOWN) * step.squared_error);
        error = Some(shown);
        let db = (-10.0 * shown.max(1e-10).log10()) as f32;
        let done = u64::from(trainer.adam.steps - first_step);
        clock.report("learning", progress, done, Some(db))?;
        let now = clock.elapsed();
        if now.saturating_sub(saved) >= CHECKPOINT_EVERY {
            checkpoint(&trainer, &embedding, (&posing, &corrections), &noise, progress)?;
            saved = now;
        }
    }
    let steps = trainer.adam.steps;
    checkpoint(&trainer, &embedding, (&posing, &corrections), &noise, 1.0)?;
    Ok(Learned { model: trainer.model()?, embedding, steps })
}

/// Steps for which frames are aligned with the same copy of the field.
const FIELD_EVERY: u32 = 40;
/// Steps between two looks at how far the code spreads.
const DEVIATIONS_EVERY: u32 = 200;

/// A field that knows the background, the size of the poses, and how the lips move.
fn start(
    options: &EnrollOptions,
    seen: &Observations,
    embedding: &Embedding,
) -> anyhow::Result<Trainer> {
    let mut sizes = options.preset.sizes(seen.side);
    (sizes.pose_mean, sizes.pose_scale) = seen.pose_spread();
    let mut trainer = Trainer::new(FaceModel::untrained(sizes, options.seed));
    if options.without.contains(&Part::ConsistencyCode) {
        trainer.leave_out(trainer.layout.shared.clone());
    }
    trainer.start_pictures(&seen.background(trainer.sizes.background));
    let motion = embedding.landmark_moves(seen)?;
    trainer.start_warp(&motion.at, &motion.moves);
    Ok(trainer)
}

/// What a state on disk belongs to.
fn fingerprint(
    options: &EnrollOptions,
    seen: &Observations,
    trainer: &Trainer,
    embedding: &Embedding,
) -> anyhow::Result<String> {
    // The frames themselves count: a sum over the first and last tells clips apart.
    let sum =
        |rgb: &[u8]| rgb.iter().fold(0_u32, |s, v| s.wrapping_mul(31).wrapping_add(u32::from(*v)));
    let frames = [seen.train.first(), seen.train.last()];
    let sums = frames.map(|o| o.map_or(0, |o| sum(o.frame.rgb())));
    Ok(format!(
        "state 2 seed {} side {} frames {} {} sums {:08x} {:08x} numbers {} {} without {:?}",
        options.seed,
        seen.side,
        seen.train.len(),
        seen.held_out.len(),
        sums[0],
        sums[1],
        trainer.layout.len,
        embedding.values()?.len(),
        options.without,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observing::Seen;
    use capture::SourceSpec;
    use face_shape::FaceShape;
    use glam::Vec3;
    use track::{History, Identity, Observation, TorsoReference};
    use types::{EXPRESSION_DIMS, Expression, FOCAL, Frame, HeadPose, Landmarks, MediaTime};

    const SIDE: u32 = 64;

    /// A disc for a head that nods, with a mouth that opens.
    fn seen() -> Observations {
        let shape = FaceShape::builtin().unwrap();
        let identity = Identity::of_mesh(shape.mean().to_vec()).unwrap();
        let mut history = History::new();
        let train: Vec<Seen> = (0..10)
            .map(|i| {
                let phase = i as f32 * 0.7;
                let pose =
                    HeadPose::new(Vec3::new(0.1 * phase.sin(), 0.0, 0.0), Vec3::new(0.0, 0.0, 1.2))
                        .unwrap();
                let mut e = [0.0; EXPRESSION_DIMS];
                e[0] = phase.cos();
                let expression = Expression::new(e).unwrap();
                let points = shape
                    .with_expression(identity.neutral(), &expression)
                    .into_iter()
                    .map(|p| {
                        let [x, y] = pose.image_from_head(p);
                        [x * SIDE as f32, y * SIDE as f32, p.z * FOCAL / 1.2 * SIDE as f32]
                    })
                    .collect();
                let rgb: Vec<u8> = (0..SIDE * SIDE)
                    .flat_map(|at| {
                        let (x, y) = ((at % SIDE) as f32 - 32.0, (at / SIDE) as f32 - 30.0);
                        let mouth = x.abs() < 6.0 && (y - 8.0).abs() < 1.0 + 2.0 * (1.0 + e[0]);
                        if x.hypot(y) > 18.0 {
                            [40, 60, 90]
                        } else if mouth {
                            [90, 20, 20]
                        } else {
                            [200, 150, 120]
                        }
                    })
                    .collect();
                let time = MediaTime::of_frame(i, 25);
                let observation = Observation {
                    time,
                    pose,
                    expression,
                    torso: [0.0; 6],
                    torso_correlation: 1.0,
                    landmarks: Landmarks::exact(points),
                };
                let window = history.push(&observation);
                Seen { frame: Frame::new(SIDE, SIDE, time, rgb).unwrap(), observation, window }
            })
            .collect();
        let torso = TorsoReference::of_frame(&train[0].frame, None);
        Observations { train, held_out: Vec::new(), side: SIDE, shape, identity, torso }
    }

    fn options(steps: u32, name: &str, resume: bool) -> EnrollOptions {
        let out = std::env::temp_dir().join(format!("enroll-{name}-{}.face", std::process::id()));
        EnrollOptions {
            side: SIDE,
            budget: Budget::Steps(steps),
            resume,
            ..EnrollOptions::new(SourceSpec::Actor, out)
        }
    }

    fn run(options: &EnrollOptions, seen: &Observations) -> (Learned, f32) {
        let mut shown = 0.0;
        let mut hear = |p: &crate::Progress| {
            shown = p.psnr_db.unwrap_or(shown);
            true
        };
        let learned =
            learn(options, seen, Duration::ZERO, &mut Clock::new(options.budget, &mut hear));
        (learned.unwrap(), shown)
    }

    #[test]
    fn twenty_steps_run_and_give_the_same_face_twice() {
        let seen = seen();
        let options = options(20, "twice", false);
        let (a, _) = run(&options, &seen);
        let (b, _) = run(&options, &seen);
        assert_eq!(a.steps, 20);
        assert_eq!(a.model, b.model);
        assert_eq!(a.embedding.values().unwrap(), b.embedding.values().unwrap());
        std::fs::remove_file(options.part_path()).unwrap();
    }

    #[test]
    fn what_is_left_out_learns_nothing() {
        let seen = seen();
        let mut options = options(6, "without", false);
        options.without = vec![Part::Embedding, Part::ConsistencyCode];
        let (learned, _) = run(&options, &seen);
        let shared = &learned.model.params()[learned.model.layout().shared.clone()];
        assert!(shared.iter().all(|v| *v == 0.0));
        let before = seen.embedding(options.seed).unwrap();
        assert_eq!(learned.embedding.values().unwrap(), before.values().unwrap());
        std::fs::remove_file(options.part_path()).unwrap();
    }

    #[test]
    fn a_resumed_enrollment_goes_on_where_it_was_and_no_other_can() {
        let seen = seen();
        let first = options(6, "resumed", false);
        run(&first, &seen);
        let again = options(12, "resumed", true);
        assert_eq!(run(&again, &seen).0.steps, 12);
        let other = EnrollOptions { seed: 99, ..again };
        let mut hear = |_: &crate::Progress| true;
        let mut clock = Clock::new(other.budget, &mut hear);
        let error = learn(&other, &seen, Duration::ZERO, &mut clock).map(drop).unwrap_err();
        assert!(error.to_string().contains("another enrollment"), "{error}");
        std::fs::remove_file(other.part_path()).unwrap();
    }
}
