//! Profiles learned from a person's own features.

use types::{FEATURE_DIMS, FOCAL, Feature, LEARNED_DIMS, POSE_DIMS};

use crate::entropy_model::{N_CLASSES, class_of_magnitude};
use crate::prediction::promised_level;
use crate::profile::{AgeModel, DimModel, MAX_LEVEL, N_AGES, Profile, ProfileError, WEIGHT_ONE};

/// Fewer features than these say nothing about how a face moves.
const ENOUGH: usize = 50;
/// The age that stands for all that share a predictor.
const AGES: [usize; N_AGES] = [1, 2, 3, 4, 5, 8, 12, 20];

/// How fine the steps are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Quality {
    /// Steps that move the face by one pixel rms in a picture of 512: about half the rate.
    Low,
    /// Half a pixel.
    #[default]
    Normal,
    /// A quarter of a pixel.
    High,
}

impl Quality {
    /// How far a step moves the face, rms, in sides of the picture.
    fn displacement(self) -> f32 {
        let px = match self {
            Self::Low => 1.0,
            Self::Normal => 0.5,
            Self::High => 0.25,
        };
        px / 512.0
    }
}

impl Profile {
    /// A profile for a person, from the features of consecutive frames.
    ///
    /// Pose and torso steps follow from geometry, so that one step moves the face by what
    /// `quality` says; a learned number's step is the same part of its standard deviation (a
    /// third at [`Quality::Normal`]). Too few features give the default predictor.
    ///
    /// # Panics
    /// Never: every step is bounded, whatever the features are.
    pub fn from_features(features: &[Feature], quality: Quality) -> Self {
        let steps = steps(features, quality);
        Self::with_steps(features, &steps)
            .expect("geometry and bounded deviations give possible steps")
    }

    /// A profile with steps of one's own (learned ones, say) and a predictor fitted to
    /// `features`, those of consecutive frames.
    ///
    /// # Errors
    /// If a step is not within `1e-6..=16`, or so small that the usual value is out of range.
    pub fn with_steps(
        features: &[Feature],
        steps: &[f32; FEATURE_DIMS],
    ) -> Result<Self, ProfileError> {
        let mut dims = *Self::default().dims();
        for (dim, model) in dims.iter_mut().enumerate() {
            model.step = steps[dim];
            model.mean = 0;
        }
        // Steps first: a bad one must not reach a division.
        Self::new(&dims)?;
        if features.is_empty() {
            let usual = *Self::default().dims();
            for (model, usual) in dims.iter_mut().zip(usual) {
                model.mean = (usual.mean as f32 * usual.step / model.step).round() as i32;
            }
            return Self::new(&dims);
        }
        for (dim, model) in dims.iter_mut().enumerate() {
            let mut levels: Vec<i32> = features
                .iter()
                .map(|feature| (feature.to_array()[dim] / model.step).round() as i32)
                .map(|level| level.clamp(-MAX_LEVEL, MAX_LEVEL))
                .collect();
            let sum: i64 = levels.iter().map(|&level| i64::from(level)).sum();
            // Far enough from what no feature may be: see `Profile::new`.
            let limit = (990.0 / model.step) as i32;
            let mean = (sum as f64 / levels.len() as f64).round() as i32;
            model.mean = mean.clamp(-limit, limit);
            if levels.len() >= ENOUGH {
                for level in &mut levels {
                    *level -= model.mean;
                }
                fit(model, &levels);
            }
        }
        Self::new(&dims)
    }
}

impl Profile {
    /// This profile, made for [`Quality::Normal`], with steps twice as wide or half as wide.
    ///
    /// Exact, so both ends of a stream may do it: powers of two, and scale classes an octave on.
    ///
    /// # Errors
    /// If the steps are then out of range.
    pub fn at(&self, quality: Quality) -> Result<Self, ProfileError> {
        let mut dims = *self.dims();
        let octave = |class: u8, by: i32| (i32::from(class) + by).clamp(0, N_CLASSES - 1) as u8;
        for model in &mut dims {
            let by = match quality {
                Quality::Normal => 0,
                Quality::Low => {
                    model.step *= 2.0;
                    // Halves go up.
                    model.mean = (model.mean + 1).div_euclid(2);
                    -4
                }
                Quality::High => {
                    model.step *= 0.5;
                    model.mean *= 2;
                    4
                }
            };
            model.key_class = octave(model.key_class, by);
            for age in &mut model.ages {
                age.class = octave(age.class, by);
                age.still_class = octave(age.still_class, by);
            }
        }
        Self::new(&dims)
    }
}

fn steps(features: &[Feature], quality: Quality) -> [f32; FEATURE_DIMS] {
    let displacement = quality.displacement();
    let n = features.len().max(1) as f32;
    let depth = features.iter().map(|f| f.pose.translation().z).sum::<f32>() / n;
    let depth = if features.is_empty() { 1.1 } else { depth.clamp(0.2, 5.0) };
    // A point a lever from the head's origin moves `lever * angle * FOCAL / depth` sides; the
    // lever of a head is 9 cm, that of its points in the plane of the picture 7 cm.
    let across = displacement * depth / FOCAL;
    let angle = across / 0.09;
    let mut steps = [0.0; FEATURE_DIMS];
    steps[..POSE_DIMS].copy_from_slice(&[
        angle,
        angle,
        angle,
        across,
        across,
        across * depth / 0.07,
    ]);

    let fraction = displacement * 512.0 / 1.5;
    for (dim, step) in steps.iter_mut().enumerate().skip(POSE_DIMS).take(LEARNED_DIMS) {
        let values = || features.iter().map(|f| f64::from(f.to_array()[dim]));
        let mean = values().sum::<f64>() / f64::from(n);
        let variance = values().map(|v| (v - mean).powi(2)).sum::<f64>() / f64::from(n);
        // A number that hardly moves does not matter much either.
        *step = fraction * (variance.sqrt() as f32).clamp(0.1, 10.0);
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
    steps
}

/// Finds the weights that leave the smallest residuals, and the scale classes of those.
fn fit(model: &mut DimModel, levels: &[i32]) {
    let class = |sum: u64, n: usize| class_of_magnitude((sum * 256 + 64) / (n as u64 + 1)) as u8;
    let magnitude = |residual: i32| u64::from(residual.unsigned_abs());
    model.key_class = class(levels.iter().map(|&level| magnitude(level)).sum(), levels.len());

    for (age_model, age) in model.ages.iter_mut().zip(AGES) {
        let n = levels.len() - age - 1;
        let left = |weights: &AgeModel, tap: bool| -> u64 {
            levels
                .windows(age + 2)
                .map(|window| {
                    let before = tap.then_some((window[0], 1));
                    magnitude(
                        window[age + 1] - promised_level(*weights, window[1], age as u32, before),
                    )
                })
                .sum()
        };
        let mut best = AgeModel { keep: WEIGHT_ONE as u8, go_on: 0, class: 0, still_class: 0 };
        let mut still = left(&best, false);
        for keep in (0..WEIGHT_ONE as u8).rev() {
            let candidate = AgeModel { keep, ..best };
            let sum = left(&candidate, false);
            if sum < still {
                (best, still) = (candidate, sum);
            }
        }
        let mut moving = left(&best, true);
        for go_on in 1..=WEIGHT_ONE as u8 {
            let candidate = AgeModel { go_on, ..best };
            let sum = left(&candidate, true);
            if sum < moving {
                (best, moving) = (candidate, sum);
            }
        }
        *age_model = AgeModel { class: class(moving, n), still_class: class(still, n), ..best };
    }
}

#[cfg(test)]
mod tests {
    use types::{Code, HeadPose, MediaTime};

    use super::*;

    /// A head that nods and a mouth that goes a little faster.
    fn features(n: usize) -> Vec<Feature> {
        (0..n)
            .map(|i| {
                let t = i as f32 * 0.04;
                let mut code = [0.0; 30];
                code[0] = (t * 9.0).sin();
                let pose = [0.2 * (t * 3.0).sin(), 0.0, 0.0, 0.01, 0.0, 1.1];
                Feature {
                    time: MediaTime::of_frame(i as u64, 25),
                    pose: HeadPose::from_array(pose).unwrap(),
                    code: Code::new(code).unwrap(),
                }
            })
            .collect()
    }

    #[test]
    fn steps_grow_with_the_distance_and_shrink_with_the_quality() {
        let features = features(100);
        let [low, normal, high] = [Quality::Low, Quality::Normal, Quality::High]
            .map(|quality| Profile::from_features(&features, quality).steps());
        for dim in 0..FEATURE_DIMS {
            assert!(low[dim] > normal[dim] && normal[dim] > high[dim], "dimension {dim}");
        }
        // Half a pixel of 512 at 1.1 m: 0.2 degrees, 0.3 mm.
        assert!((normal[0].to_degrees() - 0.195).abs() < 0.01, "{}", normal[0].to_degrees());
        assert!((normal[3] - 3.07e-4).abs() < 1e-5, "{}", normal[3]);
    }

    #[test]
    fn what_moves_smoothly_is_predicted_to_go_on() {
        let profile = Profile::from_features(&features(200), Quality::Normal);
        let nod = &profile.dims()[0];
        assert!(nod.ages[0].go_on >= 14, "{:?}", nod.ages[0]);
        assert!(nod.ages[0].class < nod.ages[0].still_class && nod.ages[0].class < nod.key_class);
        let still = &profile.dims()[1];
        assert_eq!((still.ages[0].class, still.key_class), (0, 0));
    }

    #[test]
    fn other_qualities_are_octaves_of_the_normal_one() {
        let features = features(100);
        let profile = Profile::from_features(&features, Quality::Normal);
        assert_eq!(profile.at(Quality::Normal), Ok(profile.clone()));
        for (quality, factor) in [(Quality::Low, 2.0), (Quality::High, 0.5)] {
            let other = profile.at(quality).unwrap();
            let fitted = Profile::from_features(&features, quality);
            for dim in 0..FEATURE_DIMS {
                let want = profile.steps()[dim] * factor;
                assert!((other.steps()[dim] - want).abs() <= f32::EPSILON * want);
                let off = other.dims()[dim].mean - fitted.dims()[dim].mean;
                assert!(off.abs() <= 1, "dimension {dim}");
            }
        }
    }

    #[test]
    fn too_few_or_odd_features_still_give_a_profile() {
        for n in [0, 1, 49, 50] {
            let profile = Profile::from_features(&features(n), Quality::Normal);
            assert_eq!(Profile::parse(&profile.to_bytes()), Ok(profile));
        }
        let far = [1000.0; FEATURE_DIMS];
        let far = Feature::from_array(MediaTime::ZERO, &far).unwrap();
        let wild = Feature::from_array(MediaTime::ZERO, &[0.01; FEATURE_DIMS]).unwrap();
        for odd in
            [vec![far; 60], [[far, wild]; 30].concat(), [[wild; 100].to_vec(), vec![far]].concat()]
        {
            for quality in [Quality::Low, Quality::High] {
                let profile = Profile::from_features(&odd, quality);
                assert_eq!(Profile::parse(&profile.to_bytes()), Ok(profile));
            }
        }
        let wrong = Profile::with_steps(&features(60), &[f32::NAN; FEATURE_DIMS]);
        assert!(matches!(wrong, Err(ProfileError::Impossible { what: "step", dim: 0 })));
    }
}
