//! Profiles learned from a person's own features.

use types::{FEATURE_DIMS, FOCAL, Feature, LEARNED_DIMS, POSE_DIMS, Rate};

use crate::entropy_model::{LEVEL, class_of_magnitude};
use crate::prediction::promised;
use crate::profile::{
    AgeModel, ComponentModel, DimModel, Matrix, N_AGES, N_CHORDS, PARTS, Profile, ProfileError,
    WEIGHT_ONE,
};

/// Fewer features than these say nothing about how a face moves.
const ENOUGH: usize = 50;
/// The distance in time that stands for all that share a predictor.
const AGES: [usize; N_AGES] = [1, 2, 4, 7, 12, 20];
/// The longest time to a reference while nothing is lost, 25ths of a second: two units of rate low.
const LONGEST_STEP: usize = 8;
/// Squared step over the squared error that a component may have: a little less than the 12 of
/// fine steps, because most components are smaller than a step. Measured.
const STEP_SQUARED: f64 = 7.5;
/// Components whose deviation is below this share of the profile's scale are not coded.
const SMALLEST: f64 = 0.25;

/// How much a change of each number of a feature shows in the picture.
///
/// The matrix `M` for which a small change `x` of a feature changes the picture by the mean square
/// `xᵀ M x`, over all pixels and colors, which are 0 to 1, and may count more in some places.
#[derive(Clone, Debug, PartialEq)]
pub struct Visibility(Matrix);

impl Visibility {
    /// The mean of `JᵀJ / n` over features, `J` the derivative of the `n` values of a picture.
    ///
    /// The matrix is made symmetric; what is not a number counts as nothing.
    pub fn from_matrix(matrix: &[[f64; FEATURE_DIMS]; FEATURE_DIMS]) -> Self {
        let finite = |v: f64| if v.is_finite() { v } else { 0.0 };
        Self(std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                let both = f64::midpoint(finite(matrix[i][j]), finite(matrix[j][i]));
                if i == j { both.max(0.0) } else { both }
            })
        }))
    }

    /// What geometry says where there is no face to render: a step of half a pixel of 512 shows
    /// alike wherever it is, and so does a third of a code number's deviation.
    pub fn from_geometry(features: &[Feature]) -> Self {
        let n = features.len().max(1) as f64;
        let displacement = 0.5 / 512.0;
        let depth = features.iter().map(|f| f64::from(f.pose.translation().z)).sum::<f64>() / n;
        let depth = if features.is_empty() { 1.1 } else { depth.clamp(0.2, 5.0) };
        // A point a lever from the head's origin moves `lever * angle * FOCAL / depth` sides; the
        // lever of a head is 9 cm, that of its points in the plane of the picture 7 cm.
        let across = displacement * depth / f64::from(FOCAL);
        let mut steps = [0.0; FEATURE_DIMS];
        steps[..3].fill(across / 0.09);
        steps[3..POSE_DIMS].copy_from_slice(&[across, across, across * depth / 0.07]);
        for (dim, step) in steps.iter_mut().enumerate().skip(POSE_DIMS).take(LEARNED_DIMS) {
            let values = || features.iter().map(|f| f64::from(f.to_array()[dim]));
            let mean = values().sum::<f64>() / n;
            let variance = values().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
            *step = variance.sqrt().clamp(0.1, 10.0) / 3.0;
        }
        // The torso's points are a quarter of a side from its middle.
        let slope = displacement / 0.25;
        steps[POSE_DIMS + LEARNED_DIMS..].copy_from_slice(&[
            slope,
            slope,
            displacement,
            slope,
            slope,
            displacement,
        ]);
        // Faces have an edge of half the range every 20 pixels or so: what a pixel of motion shows.
        let shown = 1e-6;
        let mut matrix = numerics::zero();
        for (dim, step) in steps.iter().enumerate() {
            matrix[dim][dim] = shown / (step * step);
        }
        Self(matrix)
    }
}

impl Profile {
    /// A profile for a person, from the features of consecutive frames at about 25 a second.
    ///
    /// `distortion` is the mean squared error, of pixel values 0 to 1, that coding at
    /// [`Rate::Normal`] may add to the picture; 1e-7 to 1e-2. Components are those of the
    /// motion from unit to unit (Karhunen, Loève), measured by what shows; all have one step, so
    /// every bit buys the same. Too few features give the default predictor.
    ///
    /// # Errors
    /// If the features are so far from any person's that they give no profile.
    pub fn from_features(
        features: &[Feature],
        visibility: &Visibility,
        distortion: f64,
    ) -> Result<Self, ProfileError> {
        if features.len() < ENOUGH {
            return Ok(Self::default());
        }
        let rows: Vec<[f64; FEATURE_DIMS]> =
            features.iter().map(|feature| feature.to_array().map(f64::from)).collect();
        let n = rows.len() as f64;
        let mean: [f64; FEATURE_DIMS] =
            std::array::from_fn(|d| rows.iter().map(|row| row[d]).sum::<f64>() / n);
        let distortion = distortion.clamp(1e-7, 1e-2);

        // No number is so invisible that all of its motion shows as nothing at all.
        let mut shown = visibility.0;
        for d in 0..FEATURE_DIMS {
            let variance = rows.iter().map(|row| (row[d] - mean[d]).powi(2)).sum::<f64>() / n;
            shown[d][d] = 1.001 * shown[d][d] + 0.0025 * distortion / variance.max(1e-10);
        }
        // Rows of `root`: changes that each show alone, scaled so that each shows as much.
        let (values, vectors) = numerics::eigen(&shown);
        let floor = values[0].abs() * 1e-12;
        let root: Matrix =
            std::array::from_fn(|i| vectors[i].map(|v| v * values[i].max(floor).sqrt()));
        let lag = Rate::Normal.parameters().unit_interval as usize;
        let mut motion = numerics::zero();
        let mut moved = [0.0; FEATURE_DIMS];
        for pair in rows.windows(lag + 1) {
            for (i, moved) in moved.iter_mut().enumerate() {
                let steps = pair[lag].iter().zip(&pair[0]).zip(&root[i]);
                *moved = steps.map(|((to, from), r)| (to - from) * r).sum();
            }
            for i in 0..FEATURE_DIMS {
                for j in 0..FEATURE_DIMS {
                    motion[i][j] += moved[i] * moved[j] / (n - lag as f64);
                }
            }
        }
        let (variances, turn) = numerics::eigen(&motion);
        let part = (STEP_SQUARED * water_level(&variances, distortion)).sqrt() / f64::from(PARTS);
        let analysis = numerics::product(&turn, &root).map(|row| row.map(|v| v / part));
        let synthesis = numerics::inverse(&analysis)
            .ok_or(ProfileError::Impossible { what: "set of components" })?;
        Self::from_synthesis(&mean, &synthesis, &rows)
    }

    /// A profile with these components (in columns, for a part of the scale), predictors fitted.
    fn from_synthesis(
        mean: &[f64; FEATURE_DIMS],
        synthesis: &Matrix,
        rows: &[[f64; FEATURE_DIMS]],
    ) -> Result<Self, ProfileError> {
        let rest = AgeModel { keep: WEIGHT_ONE as u8, go_on: 0, class: 0, still_class: 0 };
        let rest = ComponentModel {
            moves: [0; FEATURE_DIMS],
            key_class: 0,
            bend_classes: [0; N_CHORDS],
            ages: [rest; N_AGES],
        };
        let mut components = Box::new([rest; FEATURE_DIMS]);
        let dims: [DimModel; FEATURE_DIMS] = std::array::from_fn(|d| {
            let largest = synthesis[d].iter().fold(0.0_f64, |max, v| max.max(v.abs()));
            let scale = (largest / f64::from(i16::MAX)).clamp(1e-12, 1.0) as f32;
            for (component, v) in components.iter_mut().zip(&synthesis[d]) {
                let most = f64::from(i16::MAX);
                component.moves[d] = (v / f64::from(scale)).round().clamp(-most, most) as i16;
            }
            DimModel { mean: mean[d] as f32, scale }
        });
        let draft = Self::new(&dims, components.clone(), FEATURE_DIMS)?;
        let positions: Vec<[i32; FEATURE_DIMS]> =
            rows.iter().map(|row| draft.positions(&row.map(|v| v as f32))).collect();
        let mut n_coded = 1;
        for (k, component) in components.iter_mut().enumerate() {
            let positions: Vec<i32> = positions.iter().map(|all| all[k]).collect();
            let square = positions.iter().map(|&p| f64::from(p).powi(2)).sum::<f64>();
            if (square / positions.len() as f64).sqrt() >= SMALLEST * f64::from(PARTS) {
                n_coded = k + 1;
            }
            fit(component, &positions);
        }
        Self::new(&dims, components, n_coded)
    }
}

/// The error each component may have, if those that move less are left out and all errors
/// add up to `distortion`: reverse water-filling.
fn water_level(variances: &[f64; FEATURE_DIMS], distortion: f64) -> f64 {
    let (mut low, mut high) = (distortion * 1e-6, distortion);
    for _ in 0..60 {
        let level = f64::midpoint(low, high);
        let error: f64 = variances.iter().map(|v| v.max(0.0).min(level)).sum();
        if error < distortion { low = level } else { high = level }
    }
    low
}

/// Scales left of a residual in parts of one, about as the encoder rounds it.
fn levels(residual: i32) -> u64 {
    ((residual.unsigned_abs() * 10 + 4 * PARTS as u32) / (10 * PARTS as u32)).into()
}

/// Finds the weights that leave the least to code, and the scale classes of that.
fn fit(model: &mut ComponentModel, positions: &[i32]) {
    let class = |sum: u64, n: usize| class_of_magnitude(sum * LEVEL / n.max(1) as u64) as u8;
    let all: u64 = positions.iter().map(|&p| levels(p)).sum();
    model.key_class = class(all, positions.len());
    for (bend_class, half) in model.bend_classes.iter_mut().zip([1, 2]) {
        let ways = positions.windows(2 * half + 1);
        // In scales, rounded as wide as bends of normal rate are.
        let wide = Rate::Normal.parameters().midpoint_step / PARTS;
        let bends = ways.map(|way| {
            let bend = way[half] - i32::midpoint(way[0], way[2 * half]);
            levels(bend / wide) * wide as u64
        });
        *bend_class = class(bends.sum(), positions.len().saturating_sub(2 * half));
    }

    for (age_model, ticks) in model.ages.iter_mut().zip(AGES) {
        let tap = ticks.min(2);
        // Bits, about, and levels, with this predictor.
        let left = |weights: AgeModel, with_tap: bool| -> (f64, u64) {
            let (mut bits, mut sum) = (0.0, 0);
            for window in positions.windows(ticks + tap + 1) {
                let before = with_tap.then_some((window[0], tap as u32));
                let promise = promised(weights, window[tap], ticks as u32, before);
                let residual = window[ticks + tap] - promise;
                bits += f64::from(4 * residual.unsigned_abs() + PARTS as u32).ln();
                sum += levels(residual);
            }
            (bits, sum)
        };
        let mut best = AgeModel { keep: WEIGHT_ONE as u8, go_on: 0, class: 0, still_class: 0 };
        let mut still = left(best, false);
        // That far all is kept: a face that rests away from its mean costs nothing.
        let least = if ticks > LONGEST_STEP { 0 } else { WEIGHT_ONE as u8 };
        for keep in (least..WEIGHT_ONE as u8).rev() {
            let candidate = AgeModel { keep, ..best };
            let with = left(candidate, false);
            if with.0 < still.0 {
                (best, still) = (candidate, with);
            }
        }
        let mut moving = left(best, true);
        for go_on in 1..=WEIGHT_ONE as u8 {
            let candidate = AgeModel { go_on, ..best };
            let with = left(candidate, true);
            if with.0 < moving.0 {
                (best, moving) = (candidate, with);
            }
        }
        let n = positions.len().saturating_sub(ticks + tap);
        *age_model = AgeModel { class: class(moving.1, n), still_class: class(still.1, n), ..best };
    }
}

#[cfg(test)]
mod tests {
    use types::{Code, HeadPose, MediaTime};

    use super::*;

    /// A head that nods and sinks with it, and a mouth that goes a little faster.
    fn features(n: usize) -> Vec<Feature> {
        (0..n)
            .map(|i| {
                let t = i as f32 * 0.04;
                let mut code = [0.0; 30];
                code[0] = (t * 9.0).sin();
                let nod = (t * 3.0).sin();
                let pose = [0.2 * nod, 0.0, 0.0, 0.01, 0.02 * nod, 1.1];
                Feature {
                    time: MediaTime::of_frame(i as u64, 25),
                    pose: HeadPose::from_array(pose).unwrap(),
                    code: Code::new(code).unwrap(),
                }
            })
            .collect()
    }

    fn fitted(n: usize, distortion: f64) -> Profile {
        let features = features(n);
        let visibility = Visibility::from_geometry(&features);
        Profile::from_features(&features, &visibility, distortion).unwrap()
    }

    #[test]
    fn what_moves_together_is_one_component_and_what_rests_is_none() {
        assert_eq!(fitted(200, 1e-6).n_components(), 2);
    }

    #[test]
    fn a_component_moves_all_the_numbers_that_go_together() {
        let profile = fitted(200, 1e-6);
        for feature in features(200) {
            let values = feature.to_array();
            let near = profile.values(&profile.positions(&values));
            for (dim, (a, b)) in values.iter().zip(near).enumerate() {
                assert!((a - b).abs() < 0.02, "dimension {dim}: {a} {b}");
            }
        }
    }

    #[test]
    fn steps_grow_with_the_error_that_is_allowed() {
        let largest = |distortion| {
            let profile = fitted(200, distortion);
            features(200)
                .iter()
                .map(|feature| profile.positions(&feature.to_array())[0].abs())
                .max()
                .unwrap()
        };
        let (fine, coarse) = (largest(1e-7), largest(1e-5));
        assert!((8..=12).contains(&(fine / coarse)), "{fine} {coarse}");
    }

    #[test]
    fn what_moves_smoothly_is_predicted_to_go_on() {
        let profile = fitted(200, 1e-7);
        let nod = &profile.components()[0];
        assert!(nod.ages[0].go_on >= 12, "{:?}", nod.ages[0]);
        assert!(nod.ages[0].class < nod.ages[0].still_class && nod.ages[0].class < nod.key_class);
    }

    #[test]
    fn too_few_features_give_the_default() {
        assert_eq!(fitted(49, 1e-6), Profile::default());
    }

    #[test]
    fn wild_numbers_give_some_profile_or_an_error() {
        for wild in [f64::NAN, f64::INFINITY, 0.0, 1e300, -1.0] {
            let visibility = Visibility::from_matrix(&[[wild; FEATURE_DIMS]; FEATURE_DIMS]);
            for distortion in [1e-5, f64::INFINITY, 0.0] {
                let _ = Profile::from_features(&features(60), &visibility, distortion);
            }
        }
    }
}
