use face::{FaceModel, FoldedField};
use types::{Feature, POSE_DIMS, SquareFrame};

use crate::linearized::Linearized;
use crate::targets::targets;
use crate::unknowns::{Exposure, FEATURE, N, TORSO, Unknowns, difference, stepped};

/// Schedules of the first frame: pose and torso, then all unknowns.
const FIRST: [Schedule; 2] = [
    Schedule { rounds: 2, steps: 2, is_subsampled: false },
    Schedule { rounds: 3, steps: 6, is_subsampled: false },
];
/// Schedule of a frame that continues from the previous one, with the full budget.
const FULL: Schedule = Schedule { rounds: 2, steps: 6, is_subsampled: false };
/// The same with the reduced budget.
const REDUCED: Schedule = Schedule { rounds: 1, steps: 6, is_subsampled: true };
/// Schedule of [`Aligned::step`].
const ONE_STEP: Schedule = Schedule { rounds: 1, steps: 1, is_subsampled: false };
/// A step that lowers the cost by less than this share ends its round.
const CONVERGED: f64 = 0.01;
/// A round that lowers the cost by less than this share is the last: its start was so close that the
/// linearization still holds.
const LAST_ROUND: f64 = 0.35;
/// Standard deviations of the prior around the measured feature: rotation (radians), translation
/// (meters), learned numbers, torso track; gain around 1, offset around 0.
const PRIOR: [f32; N] = {
    let mut prior = [0.01; N];
    [prior[0], prior[1], prior[2]] = [0.02, 0.02, 0.01];
    [prior[3], prior[4], prior[5]] = [0.002, 0.002, 0.02];
    let mut i = POSE_DIMS;
    while i < TORSO {
        prior[i] = 0.3;
        i += 1;
    }
    i = FEATURE;
    while i < FEATURE + 3 {
        [prior[i], prior[i + 3]] = [0.3, 0.1];
        i += 1;
    }
    prior
};
/// Least mean robust weight of a frame that shows what the field knows.
const MIN_TRUST: f32 = 0.35;
/// Share of the previous frame's correction of the learned numbers in the start of the next.
const CARRY: f32 = 0.9;

/// Refinement of a measured feature until the rendered field looks like the frame.
///
/// Landmarks determine the head pose to half a degree, and the embedder only predicts the learned
/// numbers; the image determines both more accurately. Each frame the field is rendered at a few
/// thousand points, and Gauss-Newton steps minimize
/// `Σ ρ(frame − gain · field − offset) / σ² + |change of the feature|² / prior²` with a Cauchy loss ρ.
/// Derivatives by the pose come from the head's image gradient and depth, those by the learned
/// numbers from backpropagation through the field, those of the backdrop from finite differences.
/// Gain and offset of each color channel compensate for light that changed since enrollment. The
/// measured feature stays where the frame does not resemble the field.
///
/// Enrollment aligns its frames with the same method ([`Aligned::step`]), so that the field is
/// trained at the poses that a call will send.
///
/// # Source
/// Engel, Koltun, Cremers 2018, "Direct sparse odometry" (arXiv:1607.02565), for direct image
/// alignment with exposure.
#[derive(Clone, Debug)]
pub struct PhotometricRefiner {
    model: FaceModel,
    /// Correction and exposure of the previous frame.
    last: Option<Change>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    step: [f32; FEATURE],
    exposure: Exposure,
}

/// Work that the photometric refinement may do for one frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefinementBudget {
    /// As much work as improves the feature; for every frame that becomes an access unit.
    Full,
    /// Half of the sample points and one linearization, about two thirds of the full time; enough
    /// for the intermediate features between two units.
    Reduced,
    /// No refinement. Landmarks and torso are still tracked, so that the trackers of the next frame
    /// start from this one.
    None,
}

/// Upper bounds on the work of an alignment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Schedule {
    /// Linearizations of the image in the unknowns.
    rounds: usize,
    /// Gauss-Newton steps for each linearization, each a fraction of its cost.
    steps: usize,
    /// Compares every second point only.
    is_subsampled: bool,
}

/// Result of an alignment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aligned {
    /// Aligned feature.
    pub feature: Feature,
    /// Exposure of the frame.
    pub exposure: Exposure,
    /// Mean robust weight of the points, 0..=1; 1 where the field explains the frame completely.
    pub trust: f32,
}

impl PhotometricRefiner {
    /// Creates a refiner with the field of the tracked person.
    pub fn new(model: FaceModel) -> Self {
        Self { model, last: None }
    }

    /// Forgets the previous frame.
    pub fn reset(&mut self) {
        self.last = None;
    }

    /// Refines the feature measured in a square frame.
    ///
    /// Returns `measured` unchanged where the field cannot explain the frame, and with
    /// [`RefinementBudget::None`].
    pub fn refine(
        &mut self,
        frame: &SquareFrame,
        measured: &Feature,
        budget: RefinementBudget,
    ) -> Feature {
        let schedule = match budget {
            RefinementBudget::Full => FULL,
            RefinementBudget::Reduced => REDUCED,
            RefinementBudget::None => return *measured,
        };
        let align = |start: &Feature, exposure, unknowns, schedule| {
            align(&self.model, frame, measured, start, exposure, unknowns, schedule)
        };
        let aligned = if let Some(change) = &self.last {
            let start = stepped(measured, &change.step).unwrap_or(*measured);
            align(&start, change.exposure, Unknowns::All, schedule)
        } else {
            let placed = align(measured, Exposure::SAME, Unknowns::PoseAndTorso, FIRST[0]);
            align(&placed.feature, placed.exposure, Unknowns::All, FIRST[1])
        };
        if !aligned.is_valid() {
            self.last = None;
            return *measured;
        }
        let mut step = difference(measured, &aligned.feature);
        step[POSE_DIMS..TORSO].iter_mut().for_each(|v| *v *= CARRY);
        self.last = Some(Change { step, exposure: aligned.exposure });
        aligned.feature
    }
}

/// Aligns the field with a frame by Gauss-Newton steps of the `unknowns` from `start`, with a prior
/// around `measured`; see [`PhotometricRefiner`].
///
/// A round linearizes the image and takes steps until one increases the cost (that step is
/// undone) or hardly lowers it. Further rounds follow while they lower the cost by much.
fn align(
    model: &FaceModel,
    frame: &SquareFrame,
    measured: &Feature,
    start: &Feature,
    exposure: Exposure,
    unknowns: Unknowns,
    schedule: Schedule,
) -> Aligned {
    let targets = targets(frame, model, start, unknowns, schedule.is_subsampled);
    let mut now = Aligned { feature: *start, exposure, trust: 1.0 };
    let mut folded = FoldedField::default();
    for _ in 0..schedule.rounds {
        let linearized =
            Linearized::at(model, &now.feature, &now.exposure, &targets, unknowns, &mut folded);
        let Some(linearized) = linearized else { break };
        now.trust = linearized.here.trust;
        let mut pull = pull_of(&now, measured);
        let at_first = linearized.here.cost + prior_cost(&pull);
        let mut cost = at_first;
        let mut next = linearized.step(&linearized.here, &pull, &PRIOR);
        for _ in 0..schedule.steps {
            let Some(there) = next.and_then(|step| now.stepped(&step)) else { break };
            let (feature, exposure) = (&there.feature, &there.exposure);
            let seen = linearized.compare(model, feature, exposure, &targets, &mut folded);
            pull = pull_of(&there, measured);
            let cost_there = seen.cost + prior_cost(&pull);
            if cost_there >= cost {
                break;
            }
            now = Aligned { trust: seen.trust, ..there };
            let is_converged = cost_there > (1.0 - CONVERGED) * cost;
            cost = cost_there;
            if is_converged {
                break;
            }
            next = linearized.step(&seen, &pull, &PRIOR);
        }
        if cost > (1.0 - LAST_ROUND) * at_first {
            break;
        }
    }
    now
}

impl Aligned {
    /// Moves the unknowns by one Gauss-Newton step from `start` and `exposure`, so that the field
    /// looks more like a square frame; see [`PhotometricRefiner`]. A step that would not lower the
    /// cost is not taken.
    ///
    /// `measured` is the tracker's feature of the frame, the center of the prior. `exposure` is the
    /// best estimate of the frame's exposure so far, or [`Exposure::SAME`].
    pub fn step(
        model: &FaceModel,
        frame: &SquareFrame,
        measured: &Feature,
        start: &Feature,
        exposure: Exposure,
        unknowns: Unknowns,
    ) -> Self {
        align(model, frame, measured, start, exposure, unknowns, ONE_STEP)
    }

    /// Returns whether the frame resembles the field (`trust` of at least 0.35); otherwise the
    /// alignment is meaningless.
    pub fn is_valid(&self) -> bool {
        self.trust >= MIN_TRUST
    }

    /// Applies a step of all unknowns, each bounded to three standard deviations of its prior; `None`
    /// if the result is no plausible feature.
    fn stepped(&self, step: &[f32; N]) -> Option<Self> {
        let of_feature = std::array::from_fn(|i| step[i].clamp(-3.0 * PRIOR[i], 3.0 * PRIOR[i]));
        let Exposure { gain, offset } = &self.exposure;
        let exposure = Exposure {
            gain: std::array::from_fn(|c| (gain[c] + step[FEATURE + c]).clamp(0.2, 5.0)),
            offset: std::array::from_fn(|c| offset[c] + step[FEATURE + 3 + c]),
        };
        Some(Self { feature: stepped(&self.feature, &of_feature).ok()?, exposure, ..*self })
    }
}

/// Returns the step that leads back to the measured feature and the exposure of the enrollment.
fn pull_of(now: &Aligned, measured: &Feature) -> [f32; N] {
    let mut pull = [0.0; N];
    pull[..FEATURE].copy_from_slice(&difference(&now.feature, measured));
    for c in 0..3 {
        pull[FEATURE + c] = 1.0 - now.exposure.gain[c];
        pull[FEATURE + 3 + c] = -now.exposure.offset[c];
    }
    pull
}

/// Returns the cost of the prior.
fn prior_cost(pull: &[f32; N]) -> f64 {
    f64::from(pull.iter().zip(PRIOR).map(|(pull, prior)| (pull / prior).powi(2)).sum::<f32>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use face::{FaceFile, psnr_db, render_cpu};
    use glam::Vec3;
    use types::{Code, HeadPose, MediaTime};

    const SIDE: u32 = 128;

    fn demo() -> FaceModel {
        FaceFile::parse(include_bytes!("../../../assets/demo.face")).unwrap().model
    }

    fn resting() -> Feature {
        let pose = HeadPose::new(Vec3::new(0.05, -0.1, 0.02), Vec3::new(0.01, 0.02, 1.2)).unwrap();
        Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL }
    }

    /// Renders a feature as a camera with another exposure would capture it.
    fn photo(model: &FaceModel, feature: &Feature, gain: f32) -> SquareFrame {
        let picture = render_cpu(model, &model.frame_inputs(feature), SIDE, face::DEFAULT_SAMPLES);
        let rgb: Vec<u8> =
            picture.as_flattened().iter().map(|v| (gain * v * 255.0 + 0.5) as u8).collect();
        SquareFrame::new(SIDE, MediaTime::ZERO, rgb).unwrap()
    }

    /// Displaced by a degree, a millimeter or two, and in the torso.
    fn displaced(truth: &Feature) -> Feature {
        let mut off = [0.0; FEATURE];
        off[..POSE_DIMS].copy_from_slice(&[0.012, -0.015, 0.008, 0.0015, -0.001, 0.01]);
        off[TORSO + 2] = 0.004;
        off[TORSO + 5] = -0.004;
        stepped(truth, &off).unwrap()
    }

    #[test]
    fn a_pose_error_of_a_degree_is_corrected_at_any_exposure() {
        let model = demo();
        let truth = resting();
        let measured = displaced(&truth);
        for gain in [1.0, 0.8] {
            let frame = photo(&model, &truth, gain);
            let (same, place) = (Exposure::SAME, Unknowns::PoseAndTorso);
            // As in a first frame, then twice as in the next one.
            let schedule = Schedule { rounds: 1, steps: 6, is_subsampled: false };
            let aligned = (0..3).fold(measured, |start, _| {
                align(&model, &frame, &measured, &start, same, place, schedule).feature
            });
            for axes in [0..3, 3..5] {
                let rms = |feature: &Feature| {
                    let d = difference(&truth, feature);
                    d[axes.clone()].iter().map(|v| v * v).sum::<f32>().sqrt()
                };
                let (was, is) = (rms(&measured), rms(&aligned));
                assert!(is < 0.4 * was, "gain {gain}, {axes:?}: {was} became {is}");
            }
        }
    }

    #[test]
    fn pose_and_expression_are_refined_together() {
        let model = demo();
        let truth = resting();
        let mut off = [0.0; FEATURE];
        off[POSE_DIMS..POSE_DIMS + 4].copy_from_slice(&[0.4, -0.4, 0.3, -0.3]);
        let measured = stepped(&displaced(&truth), &off).unwrap();
        let frame = photo(&model, &truth, 1.0);
        let refined = PhotometricRefiner::new(model.clone()).refine(
            &frame,
            &measured,
            RefinementBudget::Full,
        );
        let seen = |feature: &Feature| psnr_db(&photo(&model, feature, 1.0), &frame);
        let (was, is) = (seen(&measured), seen(&refined));
        assert!(is > was + 5.0, "{was} dB became {is}");
    }

    #[test]
    fn a_reduced_budget_is_nearly_as_accurate() {
        let model = demo();
        let mut refiner = PhotometricRefiner::new(model.clone());
        let first = resting();
        refiner.refine(&photo(&model, &first, 1.0), &displaced(&first), RefinementBudget::Full);
        let mut on = [0.0; FEATURE];
        [on[1], on[POSE_DIMS], on[POSE_DIMS + 1]] = [0.02, 0.3, -0.3];
        let truth = stepped(&first, &on).unwrap();
        let (frame, measured) = (photo(&model, &truth, 1.0), displaced(&truth));
        let seen = |budget| {
            let mut refiner = refiner.clone();
            let refined = refiner.refine(&frame, &measured, budget);
            psnr_db(&photo(&model, &refined, 1.0), &frame)
        };
        let was = psnr_db(&photo(&model, &measured, 1.0), &frame);
        let (full, reduced) = (seen(RefinementBudget::Full), seen(RefinementBudget::Reduced));
        assert!(reduced > was + 5.0 && reduced > full - 3.0, "{was}, {full}, {reduced} dB");
    }

    #[test]
    fn a_frame_of_something_else_leaves_the_feature_unchanged() {
        let model = demo();
        let rgb: Vec<u8> = (0..SIDE * SIDE)
            .flat_map(|i| {
                [if (i % SIDE / 8 + i / SIDE / 8).is_multiple_of(2) { 255 } else { 0 }; 3]
            })
            .collect();
        let frame = SquareFrame::new(SIDE, MediaTime::ZERO, rgb).unwrap();
        let measured = resting();
        assert_eq!(
            PhotometricRefiner::new(model).refine(&frame, &measured, RefinementBudget::Full),
            measured
        );
    }
}
