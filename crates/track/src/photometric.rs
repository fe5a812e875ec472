use face::{FaceModel, FoldedField, FrameInputs, read_behind, trace_head};
use glam::{Quat, Vec3};
use rayon::prelude::*;
use types::{CANONICAL_M, Code, Feature, FeatureError, Frame, HeadPose, POSE_DIMS, TORSO_DIMS};

use crate::cholesky::Cholesky;

/// Points of the picture that are compared, along each side.
const GRID: u32 = 48;
/// Samples on a ray: fewer than a picture takes, for nobody looks at these.
const SAMPLES: u32 = 4;
/// Gauss-Newton steps from where the last frame ended, and from nothing.
const STEPS: (usize, usize) = (2, 3);
/// Unknowns of the geometry: turn, shift, torso.
const GEOMETRY: usize = POSE_DIMS + TORSO_DIMS;
/// And of the exposure: a gain and an offset for each color channel.
const N: usize = GEOMETRY + 6;
/// Columns of the normal equations: the unknowns and the residual, padded for vector registers.
const COLUMNS: usize = 24;
/// How far what was measured is believed, standard deviations: turn (radians), shift (meters),
/// torso affine (sides).
const BELIEF: [f32; GEOMETRY] =
    [0.02, 0.02, 0.01, 0.002, 0.002, 0.02, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01];
/// The same of a gain around 1 and an offset around 0.
const EXPOSURE_BELIEF: [f32; 2] = [0.3, 0.1];
/// Standard deviation of a color, 0..1; neighbors err together, so this is more than it looks.
const NOISE: f32 = 0.15;
/// A residual of this size counts half (Cauchy).
const ROBUST: f32 = 0.1;
/// Less mean trust than this and the picture shows something that the field does not know.
const MIN_TRUST: f32 = 0.35;
/// Steps of the finite differences: of the unknowns, and of an image point (half a pixel of 256).
const NUDGE: [f32; GEOMETRY] =
    [3e-3, 3e-3, 3e-3, 6e-4, 6e-4, 4e-3, 2e-3, 2e-3, 2e-3, 2e-3, 2e-3, 2e-3];
const IMAGE_NUDGE: f32 = 0.002;

/// Moves head and torso until the enrolled face, drawn there, looks like the frame.
///
/// Landmarks say where a head is to half a degree; the picture itself says it better. Each frame
/// the field is drawn at a grid of 48 x 48 points, and Gauss-Newton steps lower
/// `Σ ρ(frame − gain · field − offset)² / σ² + |change of pose and torso|² / belief²`
/// (direct image alignment; Engel, Koltun, Cremers 2018, "Direct Sparse Odometry", with exposure as
/// there). The head's derivatives come from its image gradient and depth, the torso's from finite
/// differences. Gain and offset, one of each per color, take out light that changed since
/// enrollment. Where the picture is not like the field at all, what was measured stays.
///
/// Enrollment poses its frames with the same function ([`align`]), so the field is learned where a
/// call will put it.
#[derive(Clone, Debug)]
pub struct PhotometricRefiner {
    model: FaceModel,
    /// What the last frame's measured feature was changed by.
    last: Option<Change>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    turn: Quat,
    shift: Vec3,
    torso: [f32; TORSO_DIMS],
    exposure: Exposure,
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
    /// Pose and torso moved, the learned numbers as they were.
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
            Some(change) => (change.applied(measured), change.exposure, STEPS.0),
        };
        let start = start.unwrap_or(*measured);
        let aligned = align(&self.model, frame, measured, &start, exposure, steps);
        if aligned.trust < MIN_TRUST {
            self.last = None;
            return *measured;
        }
        self.last = Some(Change::between(measured, &aligned));
        aligned.feature
    }
}

impl Change {
    fn between(measured: &Feature, aligned: &Aligned) -> Self {
        let (from, to) = (&measured.pose, &aligned.feature.pose);
        let (a, b) = (measured.code.torso(), aligned.feature.code.torso());
        Self {
            turn: to.quat() * from.quat().inverse(),
            shift: to.translation() - from.translation(),
            torso: std::array::from_fn(|i| b[i] - a[i]),
            exposure: aligned.exposure,
        }
    }

    fn applied(&self, measured: &Feature) -> Result<Feature, FeatureError> {
        let turn = (self.turn * measured.pose.quat()).to_scaled_axis();
        let torso = measured.code.torso();
        moved(
            measured,
            turn,
            measured.pose.translation() + self.shift,
            std::array::from_fn(|i| torso[i] + self.torso[i]),
        )
    }
}

/// A feature with another pose and torso.
fn moved(
    feature: &Feature,
    rotation: Vec3,
    translation: Vec3,
    torso: [f32; TORSO_DIMS],
) -> Result<Feature, FeatureError> {
    let pose = HeadPose::new(rotation, translation)?;
    let code = Code::from_parts(&feature.code.learned(), &torso)?;
    Ok(Feature { time: feature.time, pose, code })
}

/// `feature` after a step: turn (from the left), shift, torso.
fn stepped(feature: &Feature, step: &[f32; GEOMETRY]) -> Result<Feature, FeatureError> {
    let turn = Quat::from_scaled_axis(Vec3::new(step[0], step[1], step[2]));
    let torso = feature.code.torso();
    moved(
        feature,
        (turn * feature.pose.quat()).to_scaled_axis(),
        feature.pose.translation() + Vec3::new(step[3], step[4], step[5]),
        std::array::from_fn(|i| torso[i] + step[POSE_DIMS + i]),
    )
}

/// What leads from `from` to `to`, in the terms of [`stepped`].
fn difference(from: &Feature, to: &Feature) -> [f32; GEOMETRY] {
    let turn = (to.pose.quat() * from.pose.quat().inverse()).to_scaled_axis().to_array();
    let shift = (to.pose.translation() - from.pose.translation()).to_array();
    let (a, b) = (from.code.torso(), to.code.torso());
    std::array::from_fn(|i| match i {
        0..3 => turn[i],
        3..POSE_DIMS => shift[i - 3],
        _ => b[i - POSE_DIMS] - a[i - POSE_DIMS],
    })
}

/// Aligns the field with a square picture: `steps` Gauss-Newton steps from `start`, pulled towards
/// `measured`; see [`PhotometricRefiner`]. A step that makes it worse is taken back.
pub fn align(
    model: &FaceModel,
    frame: &Frame,
    measured: &Feature,
    start: &Feature,
    exposure: Exposure,
    steps: usize,
) -> Aligned {
    let targets = targets(frame, model.sizes().background as u32);
    let mut now = Aligned { feature: *start, exposure, trust: 1.0 };
    let mut folded = FoldedField::default();
    let mut best: Option<(Aligned, f64)> = None;
    for _ in 0..steps {
        let Some(seen) = Linearized::at(model, &now, &targets, &mut folded) else { break };
        now.trust = seen.trust;
        let back = difference(&now.feature, measured);
        let cost = seen.cost + believed(&back, &now.exposure);
        if let Some((before, least)) = &best
            && cost > *least
        {
            return *before;
        }
        best = Some((now, cost));
        let Some(step) = seen.step(&back, &now.exposure) else { break };
        let Ok(feature) = stepped(&now.feature, &step.geometry) else { break };
        now = Aligned { feature, exposure: step.exposure, trust: now.trust };
    }
    now
}

/// What the change so far costs.
fn believed(back: &[f32; GEOMETRY], exposure: &Exposure) -> f64 {
    let geometry: f32 = back.iter().zip(BELIEF).map(|(b, s)| (b / s).powi(2)).sum();
    let [gain, offset] = EXPOSURE_BELIEF;
    let light: f32 = (0..3)
        .map(|c| ((exposure.gain[c] - 1.0) / gain).powi(2) + (exposure.offset[c] / offset).powi(2))
        .sum();
    f64::from(geometry + light)
}

/// A point of the picture and its color there, 0..=1.
struct Target {
    at: [f32; 2],
    rgb: [f32; 3],
}

/// The frame at the middles of pixels of a picture of `side`, the size that the field was learned
/// at, on a grid of [`GRID`].
fn targets(frame: &Frame, side: u32) -> Vec<Target> {
    let size = frame.width();
    let cell = |i: u32| (2 * i + 1) * side / (2 * GRID);
    (0..GRID * GRID)
        .map(|i| {
            let place = [cell(i % GRID), cell(i / GRID)];
            // The mean over the pixel's area, as frames are shrunk for training.
            let [x, y] = place.map(|p| {
                let from = (p * size / side).min(size - 1);
                from..((p + 1) * size / side).clamp(from + 1, size)
            });
            let n = (x.len() * y.len()) as f32 * 255.0;
            let mut rgb = [0.0; 3];
            for pixel in y.flat_map(|y| x.clone().map(move |x| frame.rgb_at(x, y))) {
                for c in 0..3 {
                    rgb[c] += f32::from(pixel[c]) / n;
                }
            }
            Target { at: place.map(|p| (p as f32 + 0.5) / side as f32), rgb }
        })
        .collect()
}

/// The picture around an estimate: normal equations of all unknowns.
struct Linearized {
    /// Symmetric; column [`N`] is the right side.
    normal: [[f64; COLUMNS]; COLUMNS],
    /// Robust sum of squares.
    cost: f64,
    trust: f32,
}

struct Step {
    geometry: [f32; GEOMETRY],
    exposure: Exposure,
}

/// The field around an estimate.
struct Around<'a> {
    model: &'a FaceModel,
    folded: &'a FoldedField,
    inputs: FrameInputs,
    nudged: Vec<FrameInputs>,
    rotation: Quat,
    translation: Vec3,
    exposure: Exposure,
}

impl Linearized {
    fn at(
        model: &FaceModel,
        now: &Aligned,
        targets: &[Target],
        folded: &mut FoldedField,
    ) -> Option<Self> {
        let inputs = model.frame_inputs(&now.feature);
        let (sizes, layout) = (model.sizes(), model.layout());
        face::fold(sizes, layout, model.params(), &inputs, folded);
        let nudged: Result<Vec<FrameInputs>, FeatureError> = (0..GEOMETRY)
            .map(|k| {
                let mut step = [0.0; GEOMETRY];
                step[k] = NUDGE[k];
                Ok(model.frame_inputs(&stepped(&now.feature, &step)?))
            })
            .collect();
        let around = Around {
            model,
            folded,
            inputs,
            nudged: nudged.ok()?,
            rotation: now.feature.pose.quat(),
            translation: now.feature.pose.translation(),
            exposure: now.exposure,
        };
        // One task a row of the grid, summed in order: the result does not depend on the threads.
        let rows: Vec<([[f32; COLUMNS]; COLUMNS], f32, f32)> = targets
            .par_chunks(GRID as usize)
            .map(|row| {
                let mut normal = [[0.0; COLUMNS]; COLUMNS];
                let (mut cost, mut trust) = (0.0, 0.0);
                pulp::Arch::new().dispatch(
                    #[inline(always)]
                    || {
                        for target in row {
                            around.add(target, &mut normal, &mut cost, &mut trust);
                        }
                    },
                );
                (normal, cost, trust)
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
    fn step(&self, back: &[f32; GEOMETRY], exposure: &Exposure) -> Option<Step> {
        let mut normal: Vec<f64> =
            self.normal[..N].iter().flat_map(|row| &row[..N]).copied().collect();
        let mut right: Vec<f64> = (0..N).map(|i| self.normal[i][N]).collect();
        let light = |k: usize| {
            let c = k % 3;
            if k < 3 { 1.0 - exposure.gain[c] } else { -exposure.offset[c] }
        };
        for i in 0..N {
            let (belief, pull) = if i < GEOMETRY {
                (BELIEF[i], back[i])
            } else {
                (EXPOSURE_BELIEF[(i - GEOMETRY) / 3], light(i - GEOMETRY))
            };
            let weight = 1.0 / f64::from(belief * belief);
            normal[i * N + i] += weight;
            right[i] += weight * f64::from(pull);
        }
        Cholesky::new(normal, N)?.solve(&mut right);
        let x = |i: usize| right[i] as f32;
        Some(Step {
            // Nobody leaps three standard deviations of what is believed.
            geometry: std::array::from_fn(|i| x(i).clamp(-3.0 * BELIEF[i], 3.0 * BELIEF[i])),
            exposure: Exposure {
                gain: std::array::from_fn(|c| (exposure.gain[c] + x(GEOMETRY + c)).clamp(0.2, 5.0)),
                offset: std::array::from_fn(|c| exposure.offset[c] + x(GEOMETRY + 3 + c)),
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
        let head = |x: f32, y: f32| trace_head(model, folded, inputs, x, y, SAMPLES);
        let behind = read_behind(model, folded, inputs, x, y);
        let here = head(x, y);
        let alpha = here.map_or(0.0, |h| h.alpha);
        let mut columns = [[0.0_f32; 3]; GEOMETRY];
        if alpha < 0.98 && y > model.sizes().torso.min[1] {
            for ((column, inputs), nudge) in columns.iter_mut().zip(&self.nudged).zip(NUDGE) {
                let there = read_behind(model, folded, inputs, x, y);
                let scale = (1.0 - alpha) / nudge;
                *column = std::array::from_fn(|c| (there[c] - behind[c]) * scale);
            }
        }
        let mut color = behind;
        if let Some(here) = here {
            for (c, head) in color.iter_mut().zip(here.rgb) {
                *c = alpha * head + (1.0 - alpha) * *c;
            }
            // The head's own picture moves as a whole: premultiplied color and alpha, one texel on.
            let (right, below) = (head(x + IMAGE_NUDGE, y), head(x, y + IMAGE_NUDGE));
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
            row[GEOMETRY + c] = color[c];
            row[GEOMETRY + 3 + c] = 1.0;
            row[N] = residual;
            let weight = weight / (NOISE * NOISE);
            for (sums, a) in normal.iter_mut().zip(row) {
                let a = a * weight;
                for (s, b) in sums.iter_mut().zip(&row) {
                    *s += a * b;
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

    #[test]
    fn a_pose_that_is_off_by_a_degree_is_put_right_in_another_light_too() {
        let model = demo();
        let truth = resting();
        let off = [0.012, -0.015, 0.008, 0.0015, -0.001, 0.01, 0.0, 0.0, 0.004, 0.0, 0.0, -0.004];
        let measured = stepped(&truth, &off).unwrap();
        for gain in [1.0, 0.8] {
            let frame = photo(&model, &truth, gain);
            let refined = PhotometricRefiner::new(model.clone()).refine(&frame, &measured);
            let rms = |feature: &Feature, axes: std::ops::Range<usize>| {
                let d = difference(&truth, feature);
                d[axes].iter().map(|v| v * v).sum::<f32>().sqrt()
            };
            for axes in [0..3, 3..5] {
                let (was, is) = (rms(&measured, axes.clone()), rms(&refined, axes.clone()));
                assert!(is < 0.35 * was, "gain {gain}, {axes:?}: {was} became {is}");
            }
            // The torso has its edges at the shoulders, so its numbers stand in for one another;
            // what counts is what is seen.
            let seen = |feature: &Feature| psnr_db(&photo(&model, feature, gain), &frame);
            let (was, is) = (seen(&measured), seen(&refined));
            assert!(is > was + 6.0, "gain {gain}: {was} dB became {is}");
        }
    }

    #[test]
    fn a_picture_of_something_else_changes_nothing() {
        let model = demo();
        let rgb: Vec<u8> = (0..SIDE * SIDE)
            .flat_map(|i| [if (i % SIDE / 8 + i / SIDE / 8) % 2 == 0 { 255 } else { 0 }; 3])
            .collect();
        let frame = Frame::new(SIDE, SIDE, MediaTime::ZERO, rgb).unwrap();
        let measured = resting();
        assert_eq!(PhotometricRefiner::new(model).refine(&frame, &measured), measured);
    }
}
