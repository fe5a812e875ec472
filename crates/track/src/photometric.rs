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
/// A step that takes away less than this share of the cost is the last of its round.
const SETTLED: f64 = 0.01;
/// A round that takes away less than this share is the last: the picture changes where it ended
/// as it did where it began.
const NEAR: f64 = 0.35;
/// How far what was measured is believed, standard deviations: turn (radians), shift (meters),
/// learned numbers, torso affine (sides); gain around 1, offset around 0.
const BELIEF: [f32; N] = {
    let mut belief = [0.01; N];
    [belief[0], belief[1], belief[2]] = [0.02, 0.02, 0.01];
    [belief[3], belief[4], belief[5]] = [0.002, 0.002, 0.02];
    let mut i = POSE_DIMS;
    while i < TORSO {
        belief[i] = 0.3;
        i += 1;
    }
    i = FEATURE;
    while i < FEATURE + 3 {
        [belief[i], belief[i + 3]] = [0.3, 0.1];
        i += 1;
    }
    belief
};
/// Less mean trust than this and the picture shows something that the field does not know.
const MIN_TRUST: f32 = 0.35;
/// How much of the last frame's change of the learned numbers is expected to last.
const LASTING: f32 = 0.9;

/// Moves pose, expression and torso until the enrolled face, drawn so, looks like the frame.
///
/// Landmarks say where a head is to half a degree, and an embedder's guess of what the field needs
/// is a guess; the picture itself says both better. Each frame the field is drawn at a few thousand
/// points, and Gauss-Newton steps lower
/// `Σ ρ(frame − gain · field − offset)² / σ² + |change of the feature|² / belief²`
/// (direct image alignment; Engel, Koltun, Cremers 2018, "Direct Sparse Odometry", with exposure as
/// there). The pose's derivatives come from the head's image gradient and depth, the learned
/// numbers' from the field backwards, those of what is behind the head from finite differences.
/// Gain and offset, one of each per color, take out light that changed since enrollment. Where the
/// picture is not like the field at all, what was measured stays.
///
/// Enrollment places its frames with the same function ([`Aligned::step`]), so the field is learned where
/// a call will put it.
#[derive(Clone, Debug)]
pub struct PhotometricRefiner {
    model: FaceModel,
    /// What the last frame's measured feature was changed by.
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
    /// No refinement: landmarks and torso are still tracked, so that the next frame starts warm.
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
    /// The feature, moved.
    pub feature: Feature,
    /// Of this frame.
    pub exposure: Exposure,
    /// Mean trust in the points of the picture, 0..=1: 1 where the field explains it all.
    pub trust: f32,
}

impl PhotometricRefiner {
    /// A refiner that draws with `model`, the owner's own face.
    pub fn new(model: FaceModel) -> Self {
        Self { model, last: None }
    }

    /// Forgets the last frame.
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
        if !aligned.is_believed() {
            self.last = None;
            return *measured;
        }
        let mut step = difference(measured, &aligned.feature);
        step[POSE_DIMS..TORSO].iter_mut().for_each(|v| *v *= LASTING);
        self.last = Some(Change { step, exposure: aligned.exposure });
        aligned.feature
    }
}

/// Aligns the field with a square picture by Gauss-Newton steps of the `unknowns` from `start`,
/// pulled towards `measured`; see [`PhotometricRefiner`].
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
        let mut pull = way_back(&now, measured);
        let at_first = linearized.here.cost + believed(&pull);
        let mut cost = at_first;
        let mut next = linearized.step(&linearized.here, &pull, &BELIEF);
        for _ in 0..schedule.steps {
            let Some(there) = next.and_then(|step| now.stepped(&step)) else { break };
            let (feature, exposure) = (&there.feature, &there.exposure);
            let seen = linearized.compare(model, feature, exposure, &targets, &mut folded);
            pull = way_back(&there, measured);
            let cost_there = seen.cost + believed(&pull);
            if cost_there >= cost {
                break;
            }
            now = Aligned { trust: seen.trust, ..there };
            let is_settled = cost_there > (1.0 - SETTLED) * cost;
            cost = cost_there;
            if is_settled {
                break;
            }
            next = linearized.step(&seen, &pull, &BELIEF);
        }
        if cost > (1.0 - NEAR) * at_first {
            break;
        }
    }
    now
}

impl Aligned {
    /// Moves the unknowns by one Gauss-Newton step from `start`, so that the field looks more like a
    /// square frame.
    ///
    /// `measured` is the feature that the tracker measured, towards which the step is regularized;
    /// `exposure` is that of the frame as far as it is known. See [`PhotometricRefiner`].
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

    /// Whether the picture shows what the field knows: otherwise nothing here is to be relied on.
    pub fn is_believed(&self) -> bool {
        self.trust >= MIN_TRUST
    }

    /// After a step of all unknowns, none of which leaps three standard deviations of what is
    /// believed.
    fn stepped(&self, step: &[f32; N]) -> Option<Self> {
        let of_feature = std::array::from_fn(|i| step[i].clamp(-3.0 * BELIEF[i], 3.0 * BELIEF[i]));
        let Exposure { gain, offset } = &self.exposure;
        let exposure = Exposure {
            gain: std::array::from_fn(|c| (gain[c] + step[FEATURE + c]).clamp(0.2, 5.0)),
            offset: std::array::from_fn(|c| offset[c] + step[FEATURE + 3 + c]),
        };
        Some(Self { feature: stepped(&self.feature, &of_feature).ok()?, exposure, ..*self })
    }
}

/// What leads from here back to what was measured, and to the exposure of enrollment.
fn way_back(now: &Aligned, measured: &Feature) -> [f32; N] {
    let mut pull = [0.0; N];
    pull[..FEATURE].copy_from_slice(&difference(&now.feature, measured));
    for c in 0..3 {
        pull[FEATURE + c] = 1.0 - now.exposure.gain[c];
        pull[FEATURE + 3 + c] = -now.exposure.offset[c];
    }
    pull
}

/// What the change so far costs.
fn believed(pull: &[f32; N]) -> f64 {
    f64::from(pull.iter().zip(BELIEF).map(|(pull, belief)| (pull / belief).powi(2)).sum::<f32>())
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

    /// What the field shows for a feature, as a camera of another exposure would take it.
    fn photo(model: &FaceModel, feature: &Feature, gain: f32) -> SquareFrame {
        let picture = render_cpu(model, &model.frame_inputs(feature), SIDE, face::DEFAULT_SAMPLES);
        let rgb: Vec<u8> =
            picture.as_flattened().iter().map(|v| (gain * v * 255.0 + 0.5) as u8).collect();
        SquareFrame::new(SIDE, MediaTime::ZERO, rgb).unwrap()
    }

    /// Off by a degree, a millimeter or two, and in the torso.
    fn displaced(truth: &Feature) -> Feature {
        let mut off = [0.0; FEATURE];
        off[..POSE_DIMS].copy_from_slice(&[0.012, -0.015, 0.008, 0.0015, -0.001, 0.01]);
        off[TORSO + 2] = 0.004;
        off[TORSO + 5] = -0.004;
        stepped(truth, &off).unwrap()
    }

    #[test]
    fn a_pose_that_is_off_by_a_degree_is_put_right_in_another_light_too() {
        let model = demo();
        let truth = resting();
        let measured = displaced(&truth);
        for gain in [1.0, 0.8] {
            let frame = photo(&model, &truth, gain);
            let (same, place) = (Exposure::SAME, Unknowns::PoseAndTorso);
            // A frame's first look, and as if it came twice more.
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
    fn pose_and_expression_together_come_to_look_like_the_frame() {
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
    fn a_picture_of_something_else_changes_nothing() {
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
