//! Rendering of the field as a linear function of the unknowns, and Gauss-Newton steps in them.

use face::{CodeDerivative, FaceModel, FoldedField, FrameField, FrameInputs, add_scaled};
use glam::{Quat, Vec3};
use numerics::Cholesky;
use rayon::prelude::*;
use types::{CANONICAL_M, Feature, FeatureError, POSE_DIMS};

use crate::targets::{GRID, SamplePoint};
use crate::unknowns::{Exposure, FEATURE, N, TORSO, Unknowns, stepped};

/// Samples per ray for colors; fewer than for display.
const SAMPLES: u32 = 4;
/// Samples per ray for derivatives by the code.
const SLOPE_SAMPLES: u32 = 2;
/// Columns of the normal equations: the unknowns, padded to whole vector registers.
const COLUMNS: usize = 48;
/// Standard deviation of a color, 0..=1; large, because errors of neighboring points are correlated.
const NOISE: f32 = 0.15;
/// Residual that counts half (Cauchy).
const ROBUST: f32 = 0.1;
/// Step of the finite differences in image space, half a pixel of 256.
const IMAGE_STEP: f32 = 0.002;

/// Returns the step of the finite differences in unknown `k`: rotation, translation across and along
/// the view, learned number, torso number.
fn difference_step(k: usize) -> f32 {
    match k {
        0..3 => 3e-3,
        3..5 => 6e-4,
        5 => 4e-3,
        POSE_DIMS..TORSO => 0.05,
        _ => 2e-3,
    }
}

/// Linearization of the rendered field around an estimate.
///
/// One Jacobian serves several steps: after each step the colors are rendered again, the
/// derivatives, which cost several times as much, are not (a chord, or simplified Newton, method).
pub(crate) struct Linearized {
    /// Normal matrix; only the upper triangle is set.
    normal: [[f64; COLUMNS]; COLUMNS],
    /// Derivative of the color of each target by each number of the feature.
    slopes: Vec<Slopes>,
    /// Comparison at the linearization point.
    pub(crate) here: Comparison,
}

/// Derivatives of red, green and blue (and a padding lane) by each number of the feature.
type Slopes = [[f32; 4]; FEATURE];

/// Comparison of the rendered field with the frame.
pub(crate) struct Comparison {
    /// Right-hand side of the normal equations.
    right: [f64; N],
    /// Robust sum of squared residuals.
    pub(crate) cost: f64,
    /// Mean robust weight of the targets, 0..=1.
    pub(crate) trust: f32,
}

/// Field at the linearization point, with what its derivatives need.
struct LinearizationPoint<'a> {
    model: &'a FaceModel,
    folded: &'a FoldedField,
    inputs: FrameInputs,
    /// For the finite differences of the backdrop: unknown, step, and inputs after the step.
    stepped: Vec<(usize, f32, FrameInputs)>,
    unknowns: Unknowns,
    of_code: CodeDerivative,
    rotation: Quat,
    translation: Vec3,
}

/// Sums over a row of targets.
#[derive(Clone, Copy)]
struct TargetSums {
    right: [f32; COLUMNS],
    cost: f32,
    trust: f32,
}

type JacobianRow = [f32; COLUMNS];
type Normal = [JacobianRow; COLUMNS];

impl TargetSums {
    const NONE: Self = Self { right: [0.0; COLUMNS], cost: 0.0, trust: 0.0 };
}

impl Linearized {
    /// Linearizes around a feature and exposure; `None` if a step leads to an implausible feature.
    #[expect(clippy::large_stack_arrays, reason = "9 and 18 kB, once a row and once a round")]
    pub(crate) fn at(
        model: &FaceModel,
        feature: &Feature,
        exposure: &Exposure,
        targets: &[SamplePoint],
        unknowns: Unknowns,
        folded: &mut FoldedField,
    ) -> Option<Self> {
        let inputs = folded_at(model, feature, folded);
        let stepped_inputs: Result<Vec<_>, FeatureError> = (0..FEATURE)
            .filter(|k| unknowns == Unknowns::All || !(POSE_DIMS..TORSO).contains(k))
            .map(|k| {
                let mut step = [0.0; FEATURE];
                step[k] = difference_step(k);
                Ok((k, step[k], model.frame_inputs(&stepped(feature, &step)?)))
            })
            .collect();
        let around = LinearizationPoint {
            model,
            folded,
            inputs,
            stepped: stepped_inputs.ok()?,
            unknowns,
            of_code: CodeDerivative::new(model),
            rotation: feature.pose.quat(),
            translation: feature.pose.translation(),
        };
        let mut slopes = vec![[[0.0; 4]; FEATURE]; targets.len()];
        let n = GRID as usize;
        let rows = targets.par_chunks(n).zip(slopes.par_chunks_mut(n)).map(|(row, slopes)| {
            let (mut sums, mut normal) = (TargetSums::NONE, [[0.0; COLUMNS]; COLUMNS]);
            let (around, out) = (&around, (&mut sums, &mut normal, slopes));
            pulp::Arch::new().dispatch(
                #[inline(always)]
                move || {
                    // Moving these makes the closure FnOnce: a shim for repeated calls would be
                    // compiled without the vector extensions.
                    let (sums, normal, slopes) = out;
                    for (target, slopes) in row.iter().zip(slopes) {
                        let color = around.slopes(target.at, slopes);
                        sums.add(
                            target,
                            color,
                            slopes,
                            exposure,
                            #[inline(always)]
                            |rows, weights| add_normal(normal, rows, weights),
                        );
                    }
                },
            );
            (sums, normal)
        });
        // Summed in order, so that the result does not depend on the threads.
        let (rows, normals): (Vec<TargetSums>, Vec<Normal>) = rows.unzip();
        let mut normal = [[0.0; COLUMNS]; COLUMNS];
        for row in &normals {
            for (sum, more) in normal.as_flattened_mut().iter_mut().zip(row.as_flattened()) {
                *sum += f64::from(*more);
            }
        }
        Some(Self { normal, slopes, here: Comparison::of(&rows, targets.len()) })
    }

    /// Compares the field with the frame at another feature and exposure, with the same Jacobian.
    pub(crate) fn compare(
        &self,
        model: &FaceModel,
        feature: &Feature,
        exposure: &Exposure,
        targets: &[SamplePoint],
        folded: &mut FoldedField,
    ) -> Comparison {
        let inputs = folded_at(model, feature, folded);
        let n = GRID as usize;
        let rows: Vec<TargetSums> = targets
            .par_chunks(n)
            .zip(self.slopes.par_chunks(n))
            .map(|(row, slopes)| {
                let mut sums = TargetSums::NONE;
                let (field, out) = (FrameField::new(model, folded, &inputs), &mut sums);
                pulp::Arch::new().dispatch(
                    #[inline(always)]
                    move || {
                        let sums = out;
                        for (target, slopes) in row.iter().zip(slopes) {
                            let color = field.unclamped_color(target.at, SAMPLES);
                            sums.add(target, color, slopes, exposure, |_, _| {});
                        }
                    },
                );
                sums
            })
            .collect();
        Comparison::of(&rows, targets.len())
    }

    /// Returns the Gauss-Newton step from a comparison under a Gaussian prior: each unknown is `pull`
    /// away from its mean, with standard deviation `prior`. `None` if the system is singular.
    pub(crate) fn step(
        &self,
        seen: &Comparison,
        pull: &[f32; N],
        prior: &[f32; N],
    ) -> Option<[f32; N]> {
        let mut normal: Vec<f64> =
            (0..N * N).map(|i| self.normal[(i % N).min(i / N)][(i % N).max(i / N)]).collect();
        let mut right = seen.right;
        for i in 0..N {
            let weight = 1.0 / f64::from(prior[i] * prior[i]);
            normal[i * N + i] += weight;
            right[i] += weight * f64::from(pull[i]);
        }
        Cholesky::new(normal, N)?.solve(&mut right);
        Some(right.map(|v| v as f32))
    }
}

/// Folds the code of a feature into the field.
fn folded_at(model: &FaceModel, feature: &Feature, folded: &mut FoldedField) -> FrameInputs {
    let inputs = model.frame_inputs(feature);
    model.fold_into(&inputs, folded);
    inputs
}

impl Comparison {
    fn of(rows: &[TargetSums], n_targets: usize) -> Self {
        let mut all = Self { right: [0.0; N], cost: 0.0, trust: 0.0 };
        for row in rows {
            for (sum, more) in all.right.iter_mut().zip(&row.right) {
                *sum += f64::from(*more);
            }
            all.cost += f64::from(row.cost);
            all.trust += row.trust / n_targets as f32;
        }
        all
    }
}

impl TargetSums {
    /// Adds one target; `then` receives the Jacobian rows of its colors and their weights.
    #[inline(always)]
    fn add(
        &mut self,
        target: &SamplePoint,
        color: [f32; 3],
        slopes: &Slopes,
        exposure: &Exposure,
        then: impl FnOnce(&[JacobianRow; 3], &[f32; 3]),
    ) {
        let (mut rows, mut weights) = ([[0.0; COLUMNS]; 3], [0.0; 3]);
        for c in 0..3 {
            let residual = target.rgb[c] - (exposure.gain[c] * color[c] + exposure.offset[c]);
            let far = (residual / ROBUST).powi(2);
            let weight = 1.0 / (1.0 + far);
            self.trust += weight / 3.0;
            self.cost += (ROBUST / NOISE).powi(2) * (1.0 + far).ln();
            let row = &mut rows[c];
            for (r, slope) in row.iter_mut().zip(slopes) {
                *r = exposure.gain[c] * slope[c];
            }
            row[FEATURE + c] = color[c];
            row[FEATURE + 3 + c] = 1.0;
            weights[c] = weight / (NOISE * NOISE);
            let sums = self.right.as_chunks_mut::<8>().0;
            for (sums, row) in sums.iter_mut().zip(row.as_chunks::<8>().0) {
                add_scaled(sums, residual * weights[c], row);
            }
        }
        then(&rows, &weights);
    }
}

/// Adds `Σ weight · row rowᵀ` to the upper triangle.
#[inline(always)]
fn add_normal(normal: &mut Normal, rows: &[JacobianRow; 3], weights: &[f32; 3]) {
    let blocks = rows.each_ref().map(|row| row.as_chunks::<8>().0);
    for (i, sums) in normal.iter_mut().enumerate().take(N) {
        let [a, b, c] = [0, 1, 2].map(|c| rows[c][i] * weights[c]);
        // Most points do not depend on most unknowns.
        if a == 0.0 && b == 0.0 && c == 0.0 {
            continue;
        }
        for (at, sums) in sums.as_chunks_mut::<8>().0.iter_mut().enumerate().skip(i / 8) {
            let mut sum = *sums;
            add_scaled(&mut sum, a, &blocks[0][at]);
            add_scaled(&mut sum, b, &blocks[1][at]);
            add_scaled(&mut sum, c, &blocks[2][at]);
            *sums = sum;
        }
    }
}

impl LinearizationPoint<'_> {
    /// Returns the color at a point of the image and adds its derivatives to `slopes`.
    #[inline(always)]
    fn slopes(&self, [x, y]: [f32; 2], slopes: &mut Slopes) -> [f32; 3] {
        let (model, folded) = (self.model, self.folded);
        let field = FrameField::new(model, folded, &self.inputs);
        let behind = field.backdrop([x, y]);
        // The point and its neighbors right and below; in a loop, so that it is inlined once.
        let (mut ray, mut heads) = (None, [None; 3]);
        let places = [[x, y], [x + IMAGE_STEP, y], [x, y + IMAGE_STEP]];
        for (i, (head, place)) in heads.iter_mut().zip(places).enumerate() {
            let Some(found) = field.march_head(place) else {
                // Without a head there is no derivative of it.
                if i == 0 {
                    break;
                }
                continue;
            };
            *head = Some(field.shade_head(&found, SAMPLES));
            ray.get_or_insert(found);
        }
        let [here, right, below] = heads;
        let alpha = here.map_or(0.0, |h| h.alpha);
        // Above the torso the backdrop hardly changes.
        if alpha < 0.98 && y > model.sizes().torso.min[1] {
            for (k, step, inputs) in &self.stepped {
                let there = FrameField::new(model, folded, inputs).backdrop([x, y]);
                let scale = (1.0 - alpha) / step;
                let change = |c: usize| (there[c] - behind[c]) * scale;
                slopes[*k] = [change(0), change(1), change(2), 0.0];
            }
        }
        let (Some(here), Some(ray)) = (here, &ray) else { return behind };
        if self.unknowns == Unknowns::All {
            let of_code = self.of_code.of_ray(&field, ray, &behind, SLOPE_SAMPLES);
            for (slope, of_head) in slopes[POSE_DIMS..].iter_mut().zip(&of_code) {
                add_scaled(slope, 1.0, of_head);
            }
        }
        // Image gradient of the head: premultiplied color and alpha, by forward differences.
        let of_image = [right, below].map(|there| {
            let there_alpha = there.map_or(0.0, |t| t.alpha);
            let there_rgb = there.map_or([0.0; 3], |t| t.rgb);
            // The gradient of alpha·rgb + (1 − alpha)·behind with a constant backdrop.
            std::array::from_fn::<f32, 3, _>(|c| {
                let change = there_alpha * there_rgb[c]
                    - alpha * here.rgb[c]
                    - (there_alpha - alpha) * behind[c];
                change / IMAGE_STEP
            })
        });
        for (slope, [u, v]) in slopes.iter_mut().zip(self.moves(x, y, here.depth)) {
            for c in 0..3 {
                slope[c] -= of_image[0][c] * u + of_image[1][c] * v;
            }
        }
        std::array::from_fn(|c| alpha * here.rgb[c] + (1.0 - alpha) * behind[c])
    }

    /// Returns the derivative of the image point of a surface point at `depth` by each pose number.
    #[inline(always)]
    fn moves(&self, x: f32, y: f32, depth: f32) -> [[f32; 2]; POSE_DIMS] {
        let point = Vec3::from(self.inputs.ray([x, y]).at(depth)) * CANONICAL_M;
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
    use crate::targets::targets;
    use face::FaceFile;
    use types::{Code, HeadPose, MediaTime, SquareFrame};

    fn demo() -> FaceModel {
        FaceFile::parse(include_bytes!("../../../assets/demo.face")).unwrap().model
    }

    fn resting() -> Feature {
        let pose = HeadPose::new(Vec3::new(0.05, -0.1, 0.02), Vec3::new(0.01, 0.02, 1.2)).unwrap();
        Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL }
    }

    /// Targets of a gray frame, so that every color differs, and the linearization.
    fn around(model: &FaceModel, feature: &Feature) -> (Vec<SamplePoint>, Linearized) {
        let gray = SquareFrame::new(64, MediaTime::ZERO, vec![128; 64 * 64 * 3]).unwrap();
        let targets = targets(&gray, model, feature, Unknowns::All, false);
        let mut folded = FoldedField::default();
        let (same, all) = (&Exposure::SAME, Unknowns::All);
        let linearized = Linearized::at(model, feature, same, &targets, all, &mut folded).unwrap();
        (targets, linearized)
    }

    #[test]
    fn comparing_at_the_linearization_point_changes_nothing() {
        let (model, feature) = (demo(), resting());
        let (targets, linearized) = around(&model, &feature);
        let mut folded = FoldedField::default();
        let again = linearized.compare(&model, &feature, &Exposure::SAME, &targets, &mut folded);
        let here = &linearized.here;
        assert!((again.cost / here.cost - 1.0).abs() < 1e-5, "{} {}", again.cost, here.cost);
        assert!((again.trust - here.trust).abs() < 1e-5);
        for (a, b) in again.right.iter().zip(here.right) {
            assert!((a - b).abs() < 1e-3 * (1.0 + b.abs()), "{a} {b}");
        }
    }

    /// Compares the derivatives at points of the torso outside the head.
    #[test]
    fn derivatives_of_the_backdrop_equal_finite_differences() {
        let (model, feature) = (demo(), resting());
        let (targets, linearized) = around(&model, &feature);
        let (inputs, folded) = {
            let inputs = model.frame_inputs(&feature);
            let folded = model.fold(&inputs);
            (inputs, folded)
        };
        let is_behind = |target: &&SamplePoint| {
            let field = FrameField::new(&model, &folded, &inputs);
            let head = field.trace_head(target.at, SAMPLES);
            head.is_none() && target.at[1] > model.sizes().torso.min[1]
        };
        for k in [0, POSE_DIMS, POSE_DIMS + 5, TORSO + 2, TORSO + 5] {
            let colors = |share: f32| -> Vec<[f32; 3]> {
                let mut step = [0.0; FEATURE];
                step[k] = share * difference_step(k);
                let inputs = model.frame_inputs(&stepped(&feature, &step).unwrap());
                let at = targets.iter().filter(is_behind).map(|target| target.at);
                let field = FrameField::new(&model, &folded, &inputs);
                at.map(|point| field.backdrop(point)).collect()
            };
            let (there, here) = (colors(1.0), colors(0.0));
            let slopes = targets.iter().zip(&linearized.slopes);
            let slopes = slopes.filter(|(target, _)| is_behind(target)).map(|(_, s)| s[k]);
            let (mut error, mut size) = (0.0, 1e-9);
            for ((there, here), slope) in there.iter().zip(&here).zip(slopes) {
                for c in 0..3 {
                    let want = (there[c] - here[c]) / difference_step(k);
                    error += (slope[c] - want).powi(2);
                    size += want.powi(2);
                }
            }
            assert!(size > 1e-6, "unknown {k} has an effect");
            assert!(error < 1e-3 * size, "unknown {k}: {error} of {size}");
        }
    }
}
