//! Fits a profile to a person's features.

use types::{FEATURE_DIMS, Feature, Rate};

use crate::entropy_model::{LEVEL, class_of_magnitude};
use crate::prediction::predicted_position;
use crate::profile::{
    AgeModel, ComponentModel, DimModel, FeatureMatrix, N_AGES, N_MIDPOINT_SPANS, PARTS, Profile,
    ProfileError, WEIGHT_ONE,
};
use crate::sensitivity::ErrorSensitivity;

/// With fewer features than this, the default profile is used.
const MIN_FEATURES: usize = 50;
/// The age that represents each age model, in 25ths of a second.
const AGES: [usize; N_AGES] = [1, 2, 4, 7, 12, 20];
/// Longest time to a reference while nothing is lost, in 25ths of a second: two units at the low
/// rate.
const MAX_LOSSLESS_AGE: usize = 8;
/// Squared step over mean squared quantization error. Measured; fine uniform quantization would
/// give 12, but most components are smaller than a step.
const STEP_SQUARED: f64 = 7.5;
/// Components whose standard deviation is below this fraction of the scale are not coded.
const MIN_DEVIATION: f64 = 0.25;

impl Profile {
    /// Fits a profile to the features of consecutive frames at about 25 frames per second.
    ///
    /// The components are the Karhunen-Loève transform of the motion from unit to unit, in the
    /// metric of `sensitivity`. All have the same step (reverse water-filling), chosen so that
    /// coding at [`Rate::Normal`] adds about `distortion` to the picture: a mean squared error of
    /// pixel values in 0..=1, clamped to 1e-7..=1e-2. Fewer than 50 features give the default
    /// profile.
    ///
    /// # Errors
    /// If the features are so extreme that they give no usable profile.
    pub fn from_features(
        features: &[Feature],
        sensitivity: &ErrorSensitivity,
        distortion: f64,
    ) -> Result<Self, ProfileError> {
        if features.len() < MIN_FEATURES {
            return Ok(Self::default());
        }
        let rows: Vec<[f64; FEATURE_DIMS]> =
            features.iter().map(|feature| feature.to_array().map(f64::from)).collect();
        let n = rows.len() as f64;
        let mean: [f64; FEATURE_DIMS] =
            std::array::from_fn(|d| rows.iter().map(|row| row[d]).sum::<f64>() / n);
        let distortion = distortion.clamp(1e-7, 1e-2);

        // Regularization: all of the motion of a number counts at least a little.
        let mut metric = *sensitivity.matrix();
        for d in 0..FEATURE_DIMS {
            let variance = rows.iter().map(|row| (row[d] - mean[d]).powi(2)).sum::<f64>() / n;
            metric[d][d] = 1.001 * metric[d][d] + 0.0025 * distortion / variance.max(1e-10);
        }
        // A square root of the metric: `metric = rootᵀ root`.
        let (values, vectors) = numerics::eigen(&metric);
        let floor = values[0].abs() * 1e-12;
        let root: FeatureMatrix =
            std::array::from_fn(|i| vectors[i].map(|v| v * values[i].max(floor).sqrt()));
        let interval = Rate::Normal.parameters().unit_interval as usize;
        let mut motion = numerics::zero();
        let mut moved = [0.0; FEATURE_DIMS];
        for pair in rows.windows(interval + 1) {
            for (i, moved) in moved.iter_mut().enumerate() {
                let steps = pair[interval].iter().zip(&pair[0]).zip(&root[i]);
                *moved = steps.map(|((to, from), r)| (to - from) * r).sum();
            }
            for i in 0..FEATURE_DIMS {
                for j in 0..FEATURE_DIMS {
                    motion[i][j] += moved[i] * moved[j] / (n - interval as f64);
                }
            }
        }
        let (variances, rotation) = numerics::eigen(&motion);
        let part = (STEP_SQUARED * water_level(&variances, distortion)).sqrt() / f64::from(PARTS);
        let analysis = numerics::product(&rotation, &root).map(|row| row.map(|v| v / part));
        let synthesis = numerics::inverse(&analysis)
            .ok_or(ProfileError::Invalid { what: "set of components" })?;
        Self::from_synthesis(&mean, &synthesis, &rows)
    }

    /// Returns a profile with the components in the columns of `synthesis`, each per part of the
    /// scale, and with predictors fitted to `rows`.
    fn from_synthesis(
        mean: &[f64; FEATURE_DIMS],
        synthesis: &FeatureMatrix,
        rows: &[[f64; FEATURE_DIMS]],
    ) -> Result<Self, ProfileError> {
        let rest = AgeModel {
            position_weight: WEIGHT_ONE as u8,
            motion_weight: 0,
            class: 0,
            static_class: 0,
        };
        let rest = ComponentModel {
            direction: [0; FEATURE_DIMS],
            key_class: 0,
            midpoint_classes: [0; N_MIDPOINT_SPANS],
            ages: [rest; N_AGES],
        };
        let mut components = Box::new([rest; FEATURE_DIMS]);
        let dims: [DimModel; FEATURE_DIMS] = std::array::from_fn(|d| {
            let largest = synthesis[d].iter().fold(0.0_f64, |max, v| max.max(v.abs()));
            let scale = (largest / f64::from(i16::MAX)).clamp(1e-12, 1.0) as f32;
            for (component, v) in components.iter_mut().zip(&synthesis[d]) {
                let most = f64::from(i16::MAX);
                component.direction[d] = (v / f64::from(scale)).round().clamp(-most, most) as i16;
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
            if (square / positions.len() as f64).sqrt() >= MIN_DEVIATION * f64::from(PARTS) {
                n_coded = k + 1;
            }
            fit(component, &positions);
        }
        Self::new(&dims, components, n_coded)
    }
}

/// Returns the error per component such that all errors sum to `distortion`, where components of
/// smaller variance are not coded: reverse water-filling (Cover and Thomas, section 10.3.3).
fn water_level(variances: &[f64; FEATURE_DIMS], distortion: f64) -> f64 {
    let (mut low, mut high) = (distortion * 1e-6, distortion);
    for _ in 0..60 {
        let level = f64::midpoint(low, high);
        let error: f64 = variances.iter().map(|v| v.max(0.0).min(level)).sum();
        if error < distortion { low = level } else { high = level }
    }
    low
}

/// Returns the magnitude of a residual in units of the scale, rounded about as the encoder does.
fn levels(residual: i32) -> u64 {
    ((residual.unsigned_abs() * 10 + 4 * PARTS as u32) / (10 * PARTS as u32)).into()
}

/// Fits the weights that minimize the estimated bits of the residuals, and the scale classes.
fn fit(model: &mut ComponentModel, positions: &[i32]) {
    let class = |sum: u64, n: usize| class_of_magnitude(sum * LEVEL / n.max(1) as u64) as u8;
    let all: u64 = positions.iter().map(|&p| levels(p)).sum();
    model.key_class = class(all, positions.len());
    for (midpoint_class, half) in model.midpoint_classes.iter_mut().zip([1, 2]) {
        // In units of the scale, rounded as coarsely as midpoints at the normal rate.
        let step = Rate::Normal.parameters().midpoint_step / PARTS;
        let magnitudes = positions.windows(2 * half + 1).map(|interval| {
            let residual = interval[half] - i32::midpoint(interval[0], interval[2 * half]);
            levels(residual / step) * step as u64
        });
        *midpoint_class = class(magnitudes.sum(), positions.len().saturating_sub(2 * half));
    }

    for (age_model, ticks) in model.ages.iter_mut().zip(AGES) {
        let span = ticks.min(2);
        // Estimated bits, up to a factor, and sum of magnitudes with this predictor.
        let cost = |weights: AgeModel, with_motion: bool| -> (f64, u64) {
            let (mut bits, mut sum) = (0.0, 0);
            for window in positions.windows(ticks + span + 1) {
                let motion = with_motion.then_some((window[0], span as u32));
                let predicted = predicted_position(weights, window[span], ticks as u32, motion);
                let residual = window[ticks + span] - predicted;
                bits += f64::from(4 * residual.unsigned_abs() + PARTS as u32).ln();
                sum += levels(residual);
            }
            (bits, sum)
        };
        let mut best = AgeModel {
            position_weight: WEIGHT_ONE as u8,
            motion_weight: 0,
            class: 0,
            static_class: 0,
        };
        let mut static_cost = cost(best, false);
        // Up to this age the weight is 1, so that a face at rest away from its mean costs nothing.
        let least = if ticks > MAX_LOSSLESS_AGE { 0 } else { WEIGHT_ONE as u8 };
        for position_weight in (least..WEIGHT_ONE as u8).rev() {
            let candidate = AgeModel { position_weight, ..best };
            let candidate_cost = cost(candidate, false);
            if candidate_cost.0 < static_cost.0 {
                (best, static_cost) = (candidate, candidate_cost);
            }
        }
        let mut motion_cost = cost(best, true);
        for motion_weight in 1..=WEIGHT_ONE as u8 {
            let candidate = AgeModel { motion_weight, ..best };
            let candidate_cost = cost(candidate, true);
            if candidate_cost.0 < motion_cost.0 {
                (best, motion_cost) = (candidate, candidate_cost);
            }
        }
        let n = positions.len().saturating_sub(ticks + span);
        *age_model = AgeModel {
            class: class(motion_cost.1, n),
            static_class: class(static_cost.1, n),
            ..best
        };
    }
}

#[cfg(test)]
mod tests {
    use types::{Code, HeadPose, MediaTime};

    use super::*;

    /// A head that nods and sinks at once, and a mouth that moves faster.
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
        let sensitivity = ErrorSensitivity::from_geometry(&features);
        Profile::from_features(&features, &sensitivity, distortion).unwrap()
    }

    #[test]
    fn numbers_that_move_together_are_one_component_and_constant_ones_none() {
        assert_eq!(fitted(200, 1e-6).n_components(), 2);
    }

    #[test]
    fn two_components_reproduce_all_numbers() {
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
    fn steps_grow_with_the_distortion() {
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
    fn smooth_motion_is_extrapolated() {
        let profile = fitted(200, 1e-7);
        let nod = &profile.components()[0];
        assert!(nod.ages[0].motion_weight >= 12, "{:?}", nod.ages[0]);
        assert!(nod.ages[0].class < nod.ages[0].static_class && nod.ages[0].class < nod.key_class);
    }

    #[test]
    fn too_few_features_give_the_default_profile() {
        assert_eq!(fitted(49, 1e-6), Profile::default());
    }

    #[test]
    fn extreme_sensitivities_never_panic() {
        for wild in [f64::NAN, f64::INFINITY, 0.0, 1e300, -1.0] {
            let sensitivity = ErrorSensitivity::from_matrix(&[[wild; FEATURE_DIMS]; FEATURE_DIMS]);
            for distortion in [1e-5, f64::INFINITY, 0.0] {
                let _ = Profile::from_features(&features(60), &sensitivity, distortion);
            }
        }
    }
}
