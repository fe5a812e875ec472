//! Joint training of the field and the embedder on the observations of a clip.

use std::time::Duration;

use face::FaceModel;
use numerics::SplitMix64;
use types::{FeatureError, LEARNED_DIMS};

use crate::checkpoint::Checkpoint;
use crate::clock::BudgetClock;
use crate::code_corrections::CodeCorrections;
use crate::embedding::Embedding;
use crate::frame_pass::FrameJob;
use crate::initialization;
use crate::observations::Observations;
use crate::options::{Ablation, EnrollOptions};
use crate::pixels::{RayCounts, Regions};
use crate::pose_refinement::PoseRefinement;
use crate::progress::Stage;
use crate::schedule::{FRAMES_PER_STEP, learning_rate};
use crate::trainer::FieldTrainer;

/// Rays for one frame in one step.
const RAYS: RayCounts = RayCounts { uniform: 600, head: 440, mouth: 144, eyes: 96 };
/// Samples on a ray, chosen at random for each step, so that the field looks the same with any of
/// them.
const SAMPLES: [usize; 3] = [6, 8, 12];
/// Share of the training after which the code gets noise like that of the codec's quantizer.
const CODE_NOISE_FROM: f32 = 0.5;
/// Half a quantizer step of a code number in its standard deviations; a step is a third at the normal
/// rate.
const HALF_STEP: f32 = 1.0 / 6.0;
/// Weight of the squared code in the loss.
const CODE_DECAY: f32 = 1e-5;
/// Time between two checkpoints.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(20);
/// Decay of the running mean of the error that progress reports show.
const ERROR_DECAY: f64 = 0.98;
/// Steps for which poses are refined against the same copy of the field.
const FIELD_COPY_EVERY: u32 = 40;
/// Steps between two updates of the code's standard deviations.
const DEVIATIONS_EVERY: u32 = 200;

/// Result of the training.
pub(crate) struct Trained {
    pub(crate) model: FaceModel,
    pub(crate) embedding: Embedding,
    /// Steps taken, including those of interrupted runs.
    pub(crate) steps: u32,
}

/// Trains until the budget is used up, leaving `reserve` of a time limit to the work that follows.
///
/// Writes a checkpoint every 20 seconds and at the end, if there is room for one, and continues from
/// one if [`EnrollOptions::resume`] is set.
///
/// # Errors
/// If a checkpoint cannot be read or belongs to another enrollment, if the training diverges, or if
/// the progress callback asks to stop; if the checkpoint of a stop cannot be written, that error.
pub(crate) fn train(
    options: &EnrollOptions,
    observations: &Observations,
    reserve: Duration,
    clock: &mut BudgetClock<'_>,
) -> anyhow::Result<Trained> {
    let mut training = Training::new(options, observations, clock.time_limit().is_some())?;
    let resumed = if options.resume { training.resume()? } else { 0.0 };
    training.deviations = training.embedding.deviations(observations)?;
    let span = clock.start_training(reserve, resumed);
    let mut saved = clock.elapsed();
    let first_step = training.trainer.adam.steps;
    let mut error: Option<f64> = None;
    loop {
        let progress = clock.training_progress(&span, training.trainer.adam.steps);
        if progress >= 1.0 {
            break;
        }
        let squared = training.step(progress, clock)?;
        let smoothed = error.map_or(squared, |e| ERROR_DECAY * e + (1.0 - ERROR_DECAY) * squared);
        error = Some(smoothed);
        let db = (-10.0 * smoothed.max(1e-10).log10()) as f32;
        let n_steps = u64::from(training.trainer.adam.steps - first_step);
        if let Err(stop) = clock.report(Stage::Learning, progress, n_steps, Some(db)) {
            training.write_checkpoint(progress)?;
            return Err(stop);
        }
        let now = clock.elapsed();
        if now.saturating_sub(saved) >= CHECKPOINT_EVERY {
            training.try_checkpoint(progress);
            saved = now;
        }
    }
    training.try_checkpoint(1.0);
    let Training { trainer, embedding, .. } = training;
    Ok(Trained { model: trainer.model()?, embedding, steps: trainer.adam.steps })
}

/// State of the training.
struct Training<'a> {
    options: &'a EnrollOptions,
    observations: &'a Observations,
    regions: Vec<Regions>,
    /// Identifies the enrollment in its checkpoints.
    fingerprint: String,
    trainer: FieldTrainer,
    embedding: Embedding,
    corrections: CodeCorrections,
    poses: PoseRefinement<'a>,
    noise: SplitMix64,
    /// Standard deviations of the code over the training frames.
    deviations: [f32; LEARNED_DIMS],
    /// Recent copy of the field against which poses are refined, and the step it was taken at.
    field_copy: Option<(FaceModel, u32)>,
}

impl<'a> Training<'a> {
    fn new(
        options: &'a EnrollOptions,
        observations: &'a Observations,
        is_timed: bool,
    ) -> anyhow::Result<Self> {
        let embedding = Embedding::new(observations, options.seed)?;
        let trainer = initial_field(options, observations, &embedding)?;
        Ok(Self {
            regions: observations.regions(),
            fingerprint: fingerprint(options, observations, &trainer, &embedding)?,
            trainer,
            embedding,
            corrections: CodeCorrections::new(observations.train.len()),
            poses: PoseRefinement::new(&observations.train, is_timed),
            noise: SplitMix64::new(options.seed),
            deviations: [0.0; LEARNED_DIMS],
            field_copy: None,
            options,
            observations,
        })
    }

    /// Restores the checkpoint, if there is one; returns the share of the training it had done.
    fn resume(&mut self) -> anyhow::Result<f32> {
        let path = self.options.part_path();
        let (key, keys) = (self.options.key.as_ref(), self.options.keys);
        let Some(checkpoint) = Checkpoint::read(&path, &self.fingerprint, key, keys)? else {
            return Ok(0.0);
        };
        self.trainer.params = checkpoint.field;
        self.trainer.adam = checkpoint.field_adam;
        self.embedding.restore(&checkpoint.embedder, checkpoint.embedder_adam)?;
        self.corrections.restore(&checkpoint.corrections)?;
        self.poses.restore(&checkpoint.poses)?;
        self.noise = SplitMix64::new(checkpoint.noise);
        Ok(checkpoint.progress)
    }

    /// Writes a checkpoint if there is room. Without one the enrollment cannot be resumed, but it can
    /// still end well: a face file is far smaller.
    fn try_checkpoint(&self, progress: f32) {
        let _ = self.write_checkpoint(progress);
    }

    fn write_checkpoint(&self, progress: f32) -> anyhow::Result<()> {
        let checkpoint = Checkpoint {
            fingerprint: self.fingerprint.clone(),
            field: self.trainer.params.clone(),
            field_adam: self.trainer.adam.clone(),
            embedder: self.embedding.values()?,
            embedder_adam: self.embedding.adam.clone(),
            corrections: self.corrections.state(),
            poses: self.poses.state(),
            progress,
            noise: self.noise.state(),
            runs: self.observations.runs.clone(),
        };
        checkpoint.write(&self.options.part_path(), self.options.key.as_ref())
    }

    /// Takes one step on random training frames; returns the mean squared error of its pixels.
    fn step(&mut self, progress: f32, clock: &BudgetClock<'_>) -> anyhow::Result<f64> {
        let steps = self.trainer.adam.steps;
        if steps.is_multiple_of(DEVIATIONS_EVERY) {
            self.deviations = self.embedding.deviations(self.observations)?;
        }
        let train = &self.observations.train;
        let chosen: Vec<usize> = (0..FRAMES_PER_STEP)
            .map(|_| (self.noise.bits() % train.len() as u64) as usize)
            .collect();
        let windows: Vec<&[f32]> = chosen.iter().map(|&i| &train[i].window[..]).collect();
        let codes = self.embedding.forward(&windows)?;
        let corrected: Vec<_> = chosen
            .iter()
            .zip(codes.values())
            .map(|(&i, code)| self.corrections.corrected(i, code))
            .collect();
        self.refine_poses(&chosen, &corrected, progress, clock)?;
        let jobs: Vec<FrameJob> = chosen
            .iter()
            .zip(&corrected)
            .map(|(&i, code)| self.job(i, *code, progress))
            .collect::<Result<_, FeatureError>>()?;
        let n_samples = SAMPLES[(self.noise.bits() % SAMPLES.len() as u64) as usize];
        let mut step = self.trainer.step(&jobs, n_samples, progress);
        let rate = learning_rate(steps, progress);
        self.corrections.learn(&chosen, &step.g_codes, progress, rate);
        for (g, code) in step.g_codes.iter_mut().zip(codes.values()) {
            for (g, c) in g.iter_mut().zip(code) {
                *g += 2.0 * CODE_DECAY * c / FRAMES_PER_STEP as f32;
            }
        }
        if !self.options.without.contains(&Ablation::Embedding) {
            self.embedding.learn(&codes, &step.g_codes, rate)?;
        }
        Ok(step.squared_error)
    }

    /// Refines poses, torsos and exposures of the `chosen` frames, if it is their turn, against a
    /// recent copy of the field.
    fn refine_poses(
        &mut self,
        chosen: &[usize],
        codes: &[[f32; LEARNED_DIMS]],
        progress: f32,
        clock: &BudgetClock<'_>,
    ) -> anyhow::Result<()> {
        if !self.poses.may_refine(progress, clock) {
            return Ok(());
        }
        let steps = self.trainer.adam.steps;
        let is_stale = |&(_, step): &(FaceModel, u32)| steps >= step + FIELD_COPY_EVERY;
        if self.field_copy.as_ref().is_none_or(is_stale) {
            self.field_copy = Some((self.trainer.model()?, steps));
        }
        if let Some((field, _)) = &self.field_copy {
            self.poses.refine(field, chosen, codes, progress, clock)?;
        }
        Ok(())
    }

    /// Draws the training pixels of frame `i` and prepares its feature with this learned code.
    fn job(
        &mut self,
        i: usize,
        mut code: [f32; LEARNED_DIMS],
        progress: f32,
    ) -> Result<FrameJob, FeatureError> {
        if progress > CODE_NOISE_FROM {
            for (c, d) in code.iter_mut().zip(&self.deviations) {
                *c += (self.noise.uniform() * 2.0 - 1.0) * HALF_STEP * d;
            }
        }
        let frame = &self.observations.train[i].frame;
        let mut pixels = self.regions[i].draw(frame, &RAYS, &mut self.noise);
        let exposure = self.poses.exposure(i);
        for pixel in &mut pixels {
            for c in 0..3 {
                pixel.rgb[c] = (pixel.rgb[c] - exposure.offset[c]) / exposure.gain[c];
            }
        }
        let feature = self.poses.feature(i, &code)?.to_array();
        Ok(FrameJob { feature, pixels, seed: self.noise.bits() })
    }
}

/// Creates the field with initial background, torso colors, pose statistics and lip motion.
fn initial_field(
    options: &EnrollOptions,
    observations: &Observations,
    embedding: &Embedding,
) -> anyhow::Result<FieldTrainer> {
    let mut sizes = options.preset.sizes(observations.side);
    (sizes.pose_mean, sizes.pose_scale) = observations.pose_spread();
    let mut trainer = FieldTrainer::new(FaceModel::untrained(sizes, options.seed));
    if options.without.contains(&Ablation::ConsistencyCode) {
        trainer.freeze_at_zero(trainer.layout.shared.clone());
    }
    let background = observations.background(trainer.sizes.background);
    let motion = embedding.landmark_motion(observations)?;
    let FieldTrainer { sizes, layout, params, .. } = &mut trainer;
    initialization::set_pictures(sizes, layout, params, &background);
    initialization::set_warp(sizes, layout, params, &motion);
    Ok(trainer)
}

/// Identifies an enrollment: options, frames and numbers of parameters.
fn fingerprint(
    options: &EnrollOptions,
    observations: &Observations,
    trainer: &FieldTrainer,
    embedding: &Embedding,
) -> anyhow::Result<String> {
    // Hashes of the first and the last frame tell clips apart.
    let hash =
        |rgb: &[u8]| rgb.iter().fold(0_u32, |s, v| s.wrapping_mul(31).wrapping_add(u32::from(*v)));
    let frames = [observations.train.first(), observations.train.last()];
    let hashes = frames.map(|frame| frame.map_or(0, |frame| hash(frame.frame.rgb())));
    Ok(format!(
        "state 3 seed {} side {} frames {} {} sums {:08x} {:08x} numbers {} {} without {:?}",
        options.seed,
        observations.side,
        observations.train.len(),
        observations.held_out.len(),
        hashes[0],
        hashes[1],
        trainer.layout.len,
        embedding.values()?.len(),
        options.without,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observations::ObservedFrame;
    use crate::options::Budget;
    use capture::SourceSpec;
    use face_shape::FaceShape;
    use glam::Vec3;
    use track::{History, Identity, Observation, TorsoReference};
    use types::{EXPRESSION_DIMS, Expression, FOCAL, HeadPose, Landmarks, MediaTime, SquareFrame};

    const SIDE: u32 = 64;

    /// A nodding disc with a mouth that opens.
    fn observations() -> Observations {
        let shape = FaceShape::builtin().unwrap();
        let identity = Identity::from_points(shape.mean().to_vec()).unwrap();
        let mut history = History::new();
        let train: Vec<ObservedFrame> = (0..10)
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
                ObservedFrame {
                    frame: SquareFrame::new(SIDE, time, rgb).unwrap(),
                    observation,
                    window,
                }
            })
            .collect();
        let torso = TorsoReference::from_frame(&train[0].frame, None);
        Observations {
            train,
            held_out: Vec::new(),
            side: SIDE,
            shape,
            identity,
            torso,
            runs: Vec::new(),
        }
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

    fn run(options: &EnrollOptions, observations: &Observations) -> Trained {
        let mut ignore = |_: &crate::EnrollmentProgress| true;
        let mut clock = BudgetClock::new(options.budget, &mut ignore);
        train(options, observations, Duration::ZERO, &mut clock).unwrap()
    }

    #[test]
    fn training_is_deterministic() {
        let observations = observations();
        let options = options(20, "twice", false);
        let a = run(&options, &observations);
        let b = run(&options, &observations);
        assert_eq!(a.steps, 20);
        assert_eq!(a.model, b.model);
        assert_eq!(a.embedding.values().unwrap(), b.embedding.values().unwrap());
        std::fs::remove_file(options.part_path()).unwrap();
    }

    #[test]
    fn ablated_parts_are_not_trained() {
        let observations = observations();
        let mut options = options(6, "without", false);
        options.without = vec![Ablation::Embedding, Ablation::ConsistencyCode];
        let trained = run(&options, &observations);
        let shared = &trained.model.params()[trained.model.layout().shared.clone()];
        assert!(shared.iter().all(|v| *v == 0.0));
        let before = Embedding::new(&observations, options.seed).unwrap();
        assert_eq!(trained.embedding.values().unwrap(), before.values().unwrap());
        std::fs::remove_file(options.part_path()).unwrap();
    }

    #[test]
    fn training_ends_well_where_no_checkpoint_can_be_written() {
        let options = options(2, "no-checkpoint", false);
        std::fs::create_dir(options.part_path()).unwrap();
        assert_eq!(run(&options, &observations()).steps, 2);
        std::fs::remove_dir(options.part_path()).unwrap();
    }

    #[test]
    fn an_enrollment_is_resumed_and_another_one_is_refused() {
        let observations = observations();
        let first = options(6, "resumed", false);
        run(&first, &observations);
        let again = options(12, "resumed", true);
        assert_eq!(run(&again, &observations).steps, 12);
        let other = EnrollOptions { seed: 99, ..again };
        let mut ignore = |_: &crate::EnrollmentProgress| true;
        let mut clock = BudgetClock::new(other.budget, &mut ignore);
        let error = train(&other, &observations, Duration::ZERO, &mut clock).map(drop).unwrap_err();
        assert!(error.to_string().contains("another enrollment"), "{error}");
        std::fs::remove_file(other.part_path()).unwrap();
    }
}
