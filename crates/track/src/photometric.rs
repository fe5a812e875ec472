use std::ops::RangeInclusive;

use face::{FaceModel, FoldedField, FrameInputs, add_scaled, read_behind, trace_head};
use glam::{Quat, Vec3};
use rayon::prelude::*;
use types::{
    CANONICAL_M, Code, FEATURE_DIMS, Feature, FeatureError, Frame, HeadPose, LEARNED_DIMS,
    POSE_DIMS,
};

use crate::cholesky::Cholesky;
use crate::code_slopes::{BackwardShading, Colors, trace_slopes};
use crate::targets::{GRID, Target, targets};

/// Samples on a ray: fewer than a picture takes, for nobody looks at these.
const SAMPLES: u32 = 4;
/// Gauss-Newton steps of pose and torso, then of everything: from where the last frame ended, and
/// from nothing.
const STEPS: ([usize; 2], [usize; 2]) = ([1, 2], [2, 2]);
/// Most steps of everything, and the share of the cost that a step must take away to be followed
/// by more than one: what lies far from anything seen takes more of them.
const MOST_STEPS: usize = 3;
const WORTHWHILE: f64 = 0.25;
/// Unknowns of the feature, in its order: turn, shift, learned numbers, torso.
const FEATURE: usize = FEATURE_DIMS;
/// And of the exposure: a gain and an offset for each color channel.
const N: usize = FEATURE + 6;
/// Columns of the normal equations: the unknowns and the residual, padded for vector registers.
const COLUMNS: usize = 48;
/// Where the torso's numbers begin among the unknowns.
const TORSO: usize = POSE_DIMS + LEARNED_DIMS;
/// How far what was measured is believed, standard deviations: turn (radians), shift (meters),
/// learned numbers, torso affine (sides).
const BELIEF: [f32; FEATURE] = {
    let mut belief = [0.01; FEATURE];
    [belief[0], belief[1], belief[2]] = [0.02, 0.02, 0.01];
    [belief[3], belief[4], belief[5]] = [0.002, 0.002, 0.02];
    let mut i = POSE_DIMS;
    while i < TORSO {
        belief[i] = 0.3;
        i += 1;
    }
    belief
};
/// The same of a gain around 1 and an offset around 0.
const EXPOSURE_BELIEF: [f32; 2] = [0.3, 0.1];
/// Standard deviation of a color, 0..1; neighbors err together, so this is more than it looks.
const NOISE: f32 = 0.15;
/// A residual of this size counts half (Cauchy).
const ROBUST: f32 = 0.1;
/// Less mean trust than this and the picture shows something that the field does not know.
const MIN_TRUST: f32 = 0.35;
/// How much of the last frame's change of the learned numbers is expected to last.
const LASTING: f32 = 0.9;
/// Steps of the finite differences: a turn, a shift across, a shift along, the torso; and of an
/// image point (half a pixel of 256).
const NUDGE: [f32; 4] = [3e-3, 6e-4, 4e-3, 2e-3];
const IMAGE_NUDGE: f32 = 0.002;

/// Moves pose, expression and torso until the enrolled face, drawn so, looks like the frame.
///
/// Landmarks say where a head is to half a degree, and an embedder's guess of what the field needs
/// is a guess; the picture itself says both better. Each frame the field is drawn at a few thousand
/// points, and Gauss-Newton steps lower
/// `Σ ρ(frame − gain · field − offset)² / σ² + |change of the feature|² / belief²`
/// (direct image alignment; Engel, Koltun, Cremers 2018, "Direct Sparse Odometry", with exposure as
/// there). The pose's derivatives come from the head's image gradient and depth, the learned
/// numbers' from the field backwards, the torso's from finite differences. Gain and offset, one of each per color, take out light that changed since
/// enrollment. Where the picture is not like the field at all, what was measured stays.
///
/// Enrollment places its frames with the same function ([`align`]), so the field is learned where
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

/// What [`align`] may move.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unknowns {
    /// Pose and torso.
    Place,
    /// And the learned numbers.
    All,
}

/// How colors of the frame follow from those of the field, per channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exposure {
    /// Factor.
    pub gain: [f32; 3],
    /// Added after it, 0..=1 being the range of colors.
    pub offset: [f32; 3],
}

impl Exposure {
    /// As at enrollment.
    pub const SAME: Self = Self { gain: [1.0; 3], offset: [0.0; 3] };
}

/// Where [`align`] ended.
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

    /// The feature measured in `frame`, a square picture, moved to where the picture says.
    pub fn refine(&mut self, frame: &Frame, measured: &Feature) -> Feature {
        let (start, exposure, steps) = match &self.last {
            None => (Ok(*measured), Exposure::SAME, STEPS.1),
            Some(change) => (stepped(measured, &change.step), change.exposure, STEPS.0),
        };
        let start = start.unwrap_or(*measured);
        let step = |start: &Feature, exposure, unknowns, steps| {
            align(&self.model, frame, measured, start, exposure, unknowns, steps)
        };
        let placed = step(&start, exposure, Unknowns::Place, steps[0]..=steps[0]);
        let aligned = step(&placed.feature, placed.exposure, Unknowns::All, steps[1]..=MOST_STEPS);
        if aligned.trust < MIN_TRUST {
            self.last = None;
            return *measured;
        }
        let mut step = difference(measured, &aligned.feature);
        step[POSE_DIMS..TORSO].iter_mut().for_each(|v| *v *= LASTING);
        self.last = Some(Change { step, exposure: aligned.exposure });
        aligned.feature
    }
}

/// `feature` after a step: turn (from the left), shift, learned numbers, torso.
fn stepped(feature: &Feature, step: &[f32; FEATURE]) -> Result<Feature, FeatureError> {
    let turn = Quat::from_scaled_axis(Vec3::new(step[0], step[1], step[2]));
    let shift = Vec3::new(step[3], step[4], step[5]);
    let pose = HeadPose::new(
        (turn * feature.pose.quat()).to_scaled_axis(),
        feature.pose.translation() + shift,
    )?;
    let code = feature.code.as_array();
    let code = Code::new(std::array::from_fn(|i| code[i] + step[POSE_DIMS + i]))?;
    Ok(Feature { time: feature.time, pose, code })
}

/// What leads from `from` to `to`, in the terms of [`stepped`].
fn difference(from: &Feature, to: &Feature) -> [f32; FEATURE] {
    let turn = (to.pose.quat() * from.pose.quat().inverse()).to_scaled_axis().to_array();
    let shift = (to.pose.translation() - from.pose.translation()).to_array();
    let (a, b) = (from.code.as_array(), to.code.as_array());
    std::array::from_fn(|i| match i {
        0..3 => turn[i],
        3..POSE_DIMS => shift[i - 3],
        _ => b[i - POSE_DIMS] - a[i - POSE_DIMS],
    })
}

/// Aligns the field with a square picture: within `steps` Gauss-Newton steps of the `unknowns` from
/// `start`, pulled towards `measured`; see [`PhotometricRefiner`]. A step that makes it worse is taken back.
pub fn align(
    model: &FaceModel,
    frame: &Frame,
    measured: &Feature,
    start: &Feature,
    exposure: Exposure,
    unknowns: Unknowns,
    steps: RangeInclusive<usize>,
) -> Aligned {
    let targets = targets(frame, model, start, unknowns);
    let mut now = Aligned { feature: *start, exposure, trust: 1.0 };
    let mut folded = FoldedField::default();
    let mut best: Option<(Aligned, f64)> = None;
    for n in 0.. {
        let Some(seen) = Linearized::at(model, &now, &targets, unknowns, &mut folded) else {
            break;
        };
        now.trust = seen.trust;
        let back = difference(&now.feature, measured);
        let cost = seen.cost + believed(&back, &now.exposure);
        let mut is_last = n + 1 >= *steps.end();
        if let Some((before, least)) = &best {
            if cost > *least {
                return *before;
            }
            is_last |= n + 1 >= *steps.start() && cost > (1.0 - WORTHWHILE) * least;
        }
        best = Some((now, cost));
        let Some(step) = seen.step(&back, &now.exposure) else { break };
        let Ok(feature) = stepped(&now.feature, &step.feature) else { break };
        now = Aligned { feature, exposure: step.exposure, trust: now.trust };
        if is_last {
            break;
        }
    }
    now
}

/// What the change so far costs.
fn believed(back: &[f32; FEATURE], exposure: &Exposure) -> f64 {
    let geometry: f32 = back.iter().zip(BELIEF).map(|(b, s)| (b / s).powi(2)).sum();
    let [gain, offset] = EXPOSURE_BELIEF;
    let light: f32 = (0..3)
        .map(|c| ((exposure.gain[c] - 1.0) / gain).powi(2) + (exposure.offset[c] / offset).powi(2))
        .sum();
    f64::from(geometry + light)
}

/// The picture around an estimate: normal equations of all unknowns.
struct Linearized {
    /// Only what lies on and above the diagonal; column [`N`] is the right side.
    normal: [[f64; COLUMNS]; COLUMNS],
    /// Robust sum of squares.
    cost: f64,
    trust: f32,
}

struct Step {
    feature: [f32; FEATURE],
    exposure: Exposure,
}

/// The field around an estimate.
struct Around<'a> {
    model: &'a FaceModel,
    folded: &'a FoldedField,
    inputs: FrameInputs,
    /// A step along one unknown, its length, and what the renderer needs there; not of the
    /// learned numbers.
    nudged: Vec<(usize, f32, FrameInputs)>,
    unknowns: Unknowns,
    backward: BackwardShading,
    rotation: Quat,
    translation: Vec3,
    exposure: Exposure,
}

impl Linearized {
    #[expect(clippy::large_stack_arrays, reason = "18 kB, once a step")]
    fn at(
        model: &FaceModel,
        now: &Aligned,
        targets: &[Target],
        unknowns: Unknowns,
        folded: &mut FoldedField,
    ) -> Option<Self> {
        let inputs = model.frame_inputs(&now.feature);
        let (sizes, layout) = (model.sizes(), model.layout());
        face::fold(sizes, layout, model.params(), &inputs, folded);
        let nudged: Result<Vec<_>, FeatureError> = (0..POSE_DIMS)
            .chain(TORSO..FEATURE)
            .map(|k| {
                let nudge = match k {
                    0..3 => NUDGE[0],
                    3..5 => NUDGE[1],
                    5 => NUDGE[2],
                    _ => NUDGE[3],
                };
                let mut step = [0.0; FEATURE];
                step[k] = nudge;
                Ok((k, nudge, model.frame_inputs(&stepped(&now.feature, &step)?)))
            })
            .collect();
        let around = Around {
            model,
            folded,
            inputs,
            nudged: nudged.ok()?,
            unknowns,
            backward: BackwardShading::of(model),
            rotation: now.feature.pose.quat(),
            translation: now.feature.pose.translation(),
            exposure: now.exposure,
        };
        // One task a row of the grid, summed in order: the result does not depend on the threads.
        let rows: Vec<([[f32; COLUMNS]; COLUMNS], f32, f32)> = targets
            .par_chunks(GRID as usize)
            .map(|row| {
                let mut sums = ([[0.0; COLUMNS]; COLUMNS], 0.0, 0.0);
                let (around, out) = (&around, &mut sums);
                pulp::Arch::new().dispatch(
                    #[inline(always)]
                    move || {
                        // Moved out: see `face::render_cpu`.
                        let out = out;
                        let (normal, cost, trust) = out;
                        for target in row {
                            around.add(target, normal, cost, trust);
                        }
                    },
                );
                sums
            })
            .collect();
        let mut all = Self { normal: [[0.0; COLUMNS]; COLUMNS], cost: 0.0, trust: 0.0 };
        for (normal, cost, trust) in rows {
            for (sum, more) in all.normal.as_flattened_mut().iter_mut().zip(normal.as_flattened()) {
                *sum += f64::from(*more);
            }
            all.cost += f64::from(cost);
            all.trust += trust / targets.len() as f32;
        }
        Some(all)
    }

    /// The Gauss-Newton step, with `back` leading to what was measured.
    fn step(&self, back: &[f32; FEATURE], exposure: &Exposure) -> Option<Step> {
        let mut normal: Vec<f64> =
            (0..N * N).map(|i| self.normal[(i % N).min(i / N)][(i % N).max(i / N)]).collect();
        let mut right: Vec<f64> = (0..N).map(|i| self.normal[i][N]).collect();
        let light = |k: usize| {
            let c = k % 3;
            if k < 3 { 1.0 - exposure.gain[c] } else { -exposure.offset[c] }
        };
        for i in 0..N {
            let (belief, pull) = if i < FEATURE {
                (BELIEF[i], back[i])
            } else {
                (EXPOSURE_BELIEF[(i - FEATURE) / 3], light(i - FEATURE))
            };
            let weight = 1.0 / f64::from(belief * belief);
            normal[i * N + i] += weight;
            right[i] += weight * f64::from(pull);
        }
        Cholesky::new(normal, N)?.solve(&mut right);
        let x = |i: usize| right[i] as f32;
        Some(Step {
            // Nobody leaps three standard deviations of what is believed.
            feature: std::array::from_fn(|i| x(i).clamp(-3.0 * BELIEF[i], 3.0 * BELIEF[i])),
            exposure: Exposure {
                gain: std::array::from_fn(|c| (exposure.gain[c] + x(FEATURE + c)).clamp(0.2, 5.0)),
                offset: std::array::from_fn(|c| exposure.offset[c] + x(FEATURE + 3 + c)),
            },
        })
    }
}

impl Around<'_> {
    /// Adds what one point says to the normal equations.
    #[inline(always)]
    fn add(
        &self,
        target: &Target,
        normal: &mut [[f32; COLUMNS]; COLUMNS],
        cost: &mut f32,
        trust: &mut f32,
    ) {
        let [x, y] = target.at;
        let (model, folded, inputs) = (self.model, self.folded, &self.inputs);
        let behind = read_behind(model, folded, inputs, x, y);
        let mut columns: [Colors; FEATURE] = [[0.0; 4]; FEATURE];
        // Here, a little to the right, a little below; in a loop, so that it is inlined once.
        let (mut heads, mut found) = ([None; 3], false);
        if self.unknowns == Unknowns::All
            && let Some(slopes) =
                trace_slopes(model, &self.backward, folded, inputs, target.at, &behind, SAMPLES)
        {
            columns[POSE_DIMS..TORSO].copy_from_slice(&slopes.columns);
            heads[0] = Some(slopes.head);
        }
        let places = [[x, y], [x + IMAGE_NUDGE, y], [x, y + IMAGE_NUDGE]];
        for (i, (head, [x, y])) in heads.iter_mut().zip(places).enumerate() {
            if i == 0 && self.unknowns == Unknowns::Place || i > 0 && found {
                *head = trace_head(model, folded, inputs, x, y, SAMPLES);
            }
            found |= head.is_some();
        }
        let [here, right, below] = heads;
        let alpha = here.map_or(0.0, |h| h.alpha);
        if alpha < 0.98 && y > model.sizes().torso.min[1] {
            for (k, nudge, inputs) in &self.nudged {
                let there = read_behind(model, folded, inputs, x, y);
                let scale = (1.0 - alpha) / nudge;
                let change = |c: usize| (there[c] - behind[c]) * scale;
                columns[*k] = [change(0), change(1), change(2), 0.0];
            }
        }
        let mut color = behind;
        if let Some(here) = here {
            for (c, head) in color.iter_mut().zip(here.rgb) {
                *c = alpha * head + (1.0 - alpha) * *c;
            }
            // The head's own picture moves as a whole: premultiplied color and alpha, one texel on.
            let slopes = [right, below].map(|there| {
                let there_alpha = there.map_or(0.0, |t| t.alpha);
                let there_rgb = there.map_or([0.0; 3], |t| t.rgb);
                // Of alpha·rgb + (1 − alpha)·behind.
                std::array::from_fn::<f32, 3, _>(|c| {
                    let change = there_alpha * there_rgb[c]
                        - alpha * here.rgb[c]
                        - (there_alpha - alpha) * behind[c];
                    change / IMAGE_NUDGE
                })
            });
            let moves = self.moves(x, y, here.depth);
            for (column, [u, v]) in columns.iter_mut().zip(moves) {
                for c in 0..3 {
                    column[c] -= slopes[0][c] * u + slopes[1][c] * v;
                }
            }
        }
        for c in 0..3 {
            let residual =
                target.rgb[c] - (self.exposure.gain[c] * color[c] + self.exposure.offset[c]);
            let far = (residual / ROBUST).powi(2);
            let weight = 1.0 / (1.0 + far);
            *trust += weight / 3.0;
            *cost += (ROBUST / NOISE).powi(2) * (1.0 + far).ln();
            let mut row = [0.0_f32; COLUMNS];
            for (r, column) in row.iter_mut().zip(&columns) {
                *r = self.exposure.gain[c] * column[c];
            }
            row[FEATURE + c] = color[c];
            row[FEATURE + 3 + c] = 1.0;
            row[N] = residual;
            let weight = weight / (NOISE * NOISE);
            for (i, (sums, a)) in normal.iter_mut().zip(row).enumerate().take(N) {
                // Most points say nothing of most unknowns; what lies below the diagonal is not read.
                if a == 0.0 {
                    continue;
                }
                let (sums, row) = (sums.as_chunks_mut::<8>().0, row.as_chunks::<8>().0);
                for (sums, row) in sums.iter_mut().zip(row).skip(i / 8) {
                    add_scaled(sums, a * weight, row);
                }
            }
        }
    }

    /// How the image point of what is seen at `depth` moves with each of the pose's numbers.
    #[inline(always)]
    fn moves(&self, x: f32, y: f32, depth: f32) -> [[f32; 2]; POSE_DIMS] {
        let (origin, direction) = face::ray(&self.inputs, x, y);
        let point = Vec3::from(face::at(origin, direction, depth)) * CANONICAL_M;
        let lever = self.rotation * point;
        let p = lever + self.translation;
        let scale = self.inputs.focal / p.z.max(1e-3);
        let project = |d: Vec3| [scale * (d.x - p.x / p.z * d.z), scale * (d.y - p.y / p.z * d.z)];
        [
            project(Vec3::X.cross(lever)),
            project(Vec3::Y.cross(lever)),
            project(Vec3::Z.cross(lever)),
            project(Vec3::X),
            project(Vec3::Y),
            project(Vec3::Z),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use face::{FaceFile, psnr_db, render_cpu};
    use types::MediaTime;

    const SIDE: u32 = 128;

    fn demo() -> FaceModel {
        FaceFile::parse(include_bytes!("../../../assets/demo.face")).unwrap().model
    }

    fn resting() -> Feature {
        let pose = HeadPose::new(Vec3::new(0.05, -0.1, 0.02), Vec3::new(0.01, 0.02, 1.2)).unwrap();
        Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL }
    }

    /// What the field shows for a feature, as a camera of another exposure would take it.
    fn photo(model: &FaceModel, feature: &Feature, gain: f32) -> Frame {
        let picture = render_cpu(model, &model.frame_inputs(feature), SIDE, face::DEFAULT_SAMPLES);
        let rgb: Vec<u8> =
            picture.as_flattened().iter().map(|v| (gain * v * 255.0 + 0.5) as u8).collect();
        Frame::new(SIDE, SIDE, MediaTime::ZERO, rgb).unwrap()
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
            let (same, place) = (Exposure::SAME, Unknowns::Place);
            let aligned = align(&model, &frame, &measured, &measured, same, place, 3..=3).feature;
            for axes in [0..3, 3..5] {
                let rms = |feature: &Feature| {
                    let d = difference(&truth, feature);
                    d[axes.clone()].iter().map(|v| v * v).sum::<f32>().sqrt()
                };
                let (was, is) = (rms(&measured), rms(&aligned));
                assert!(is < 0.35 * was, "gain {gain}, {axes:?}: {was} became {is}");
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
        let refined = PhotometricRefiner::new(model.clone()).refine(&frame, &measured);
        let seen = |feature: &Feature| psnr_db(&photo(&model, feature, 1.0), &frame);
        let (was, is) = (seen(&measured), seen(&refined));
        assert!(is > was + 5.0, "{was} dB became {is}");
    }

    #[test]
    fn a_picture_of_something_else_changes_nothing() {
        let model = demo();
        let rgb: Vec<u8> = (0..SIDE * SIDE)
            .flat_map(|i| {
                [if (i % SIDE / 8 + i / SIDE / 8).is_multiple_of(2) { 255 } else { 0 }; 3]
            })
            .collect();
        let frame = Frame::new(SIDE, SIDE, MediaTime::ZERO, rgb).unwrap();
        let measured = resting();
        assert_eq!(PhotometricRefiner::new(model).refine(&frame, &measured), measured);
    }
}
