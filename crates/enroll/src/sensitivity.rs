//! Sensitivity of the picture to errors of a feature, and the codec profile derived from it.

use codec::{ErrorSensitivity, Profile};
use face::{DEFAULT_SAMPLES, FaceModel, psnr_db, render_cpu};
use rayon::prelude::*;
use types::{FEATURE_DIMS, Feature, HeadPose, SquareFrame};

use crate::evaluation::render;

/// Number of features at which the sensitivity is measured if there is time.
pub(crate) const N_PROBES: usize = 8;
/// Side of the rendered pictures in pixels. The sensitivity at twice the side is about the same.
const SIDE: u32 = 128;
/// Weight of errors at the eyes and the mouth, where people look.
const SALIENT_WEIGHT: f64 = 6.0;
/// Quantization noise at the normal rate, as a share of the mean squared error of training pictures.
/// Most of what it removes is noise of the tracker. Chosen by measurement: docs/RESULTS.md.
const NOISE_SHARE: f64 = 0.3;
/// Bounds of the quantization noise, a mean square of colors in 0..=1: 47 to 30 dB PSNR.
const DISTORTION: std::ops::RangeInclusive<f64> = 2e-5..=1e-3;
/// Step of the finite differences for each number of a feature: radians, meters, code, torso track.
const STEPS: [f32; FEATURE_DIMS] = {
    let mut steps = [0.15; FEATURE_DIMS];
    let (pose, torso) = ([0.004, 0.004, 0.004, 5e-4, 5e-4, 5e-3], [4e-3, 4e-3, 1e-3]);
    let mut i = 0;
    while i < 6 {
        steps[i] = pose[i];
        steps[FEATURE_DIMS - 6 + i] = torso[i % 3];
        i += 1;
    }
    steps
};

/// Computes the codec profile of a person.
///
/// `features` belong to consecutive frames; `pictures` are some of the frames with their features. The
/// sensitivity is measured at `n_probes` of the features.
///
/// # Errors
/// If the features do not determine a profile.
pub(crate) fn profile(
    model: &FaceModel,
    features: &[Feature],
    pictures: &[(&SquareFrame, Feature)],
    n_probes: usize,
) -> anyhow::Result<Profile> {
    let mut errors = Vec::new();
    for (frame, feature) in probes(pictures, n_probes) {
        let picture = render(model, feature, frame.side())?;
        let psnr_db = psnr_db(&picture, frame);
        errors.push(10.0_f64.powf(-psnr_db / 10.0));
    }
    let error = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
    let distortion = (NOISE_SHARE * error).clamp(*DISTORTION.start(), *DISTORTION.end());
    Ok(Profile::from_features(
        features,
        &measure_sensitivity(model, features, n_probes),
        distortion,
    )?)
}

/// Measures the sensitivity by finite differences: mean products of the changes of the picture when two
/// numbers of the feature change, eyes and mouth weighted by [`SALIENT_WEIGHT`].
fn measure_sensitivity(
    model: &FaceModel,
    features: &[Feature],
    n_probes: usize,
) -> ErrorSensitivity {
    let mut matrix = [[0.0; FEATURE_DIMS]; FEATURE_DIMS];
    let mut n_measured = 0.0;
    for feature in probes(features, n_probes) {
        let draw = |feature: &Feature| {
            render_cpu(model, &model.frame_inputs(feature), SIDE, DEFAULT_SAMPLES)
        };
        let rest = draw(feature);
        let changes: Option<Vec<Vec<f32>>> = (0..FEATURE_DIMS)
            .map(|dim| {
                let mut values = feature.to_array();
                values[dim] += STEPS[dim];
                let moved = draw(&Feature::from_array(feature.time, &values).ok()?);
                let pairs = moved.as_flattened().iter().zip(rest.as_flattened());
                Some(pairs.map(|(a, b)| (a - b) / STEPS[dim]).collect())
            })
            .collect();
        // A moved feature is out of range: skip this probe.
        let Some(changes) = changes else { continue };
        n_measured += 1.0;
        let weights = pixel_weights(&feature.pose);
        matrix.par_iter_mut().enumerate().for_each(|(i, row)| {
            for (j, sum) in row.iter_mut().enumerate() {
                let both = changes[i].as_chunks::<3>().0.iter().zip(changes[j].as_chunks::<3>().0);
                let product = |(weight, (a, b)): (&f64, (&[f32; 3], &[f32; 3]))| {
                    weight * f64::from(a[0] * b[0] + a[1] * b[1] + a[2] * b[2])
                };
                let sum_of_products = weights.iter().zip(both).map(product).sum::<f64>();
                *sum += sum_of_products / rest.as_flattened().len() as f64;
            }
        });
    }
    if n_measured == 0.0 {
        return ErrorSensitivity::from_geometry(features);
    }
    ErrorSensitivity::from_matrix(&matrix.map(|row| row.map(|v| v / n_measured)))
}

/// Returns the weight of each pixel, `[SIDE][SIDE]`.
fn pixel_weights(pose: &HeadPose) -> Vec<f64> {
    let boxes = track::eyes_and_mouth(pose);
    let weight = |i: u32| {
        let at = [i % SIDE, i / SIDE].map(|p| (p as f32 + 0.5) / SIDE as f32);
        let is_salient = boxes
            .iter()
            .any(|[low, high]| (0..2).all(|axis| (low[axis]..high[axis]).contains(&at[axis])));
        if is_salient { SALIENT_WEIGHT } else { 1.0 }
    };
    (0..SIDE * SIDE).map(weight).collect()
}

/// Returns at most `n` evenly spaced items.
fn probes<T>(all: &[T], n: usize) -> impl Iterator<Item = &T> {
    let step = all.len().div_ceil(n).max(1);
    all.iter().skip(step / 2).step_by(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use face::Sizes;
    use types::{Code, MediaTime};

    #[test]
    fn an_untrained_face_gets_a_usable_profile() {
        let model = FaceModel::untrained(Sizes::tiny(), 1);
        let features: Vec<Feature> = (0..60)
            .map(|i| {
                let t = i as f32 * 0.2;
                let pose = [0.1 * t.sin(), 0.0, 0.0, 0.0, 0.0, 1.1];
                Feature {
                    time: MediaTime::of_frame(i, 25),
                    pose: HeadPose::from_array(pose).unwrap(),
                    code: Code::NEUTRAL,
                }
            })
            .collect();
        let picture = render(&model, &features[3], 64).unwrap();
        let profile = profile(&model, &features, &[(&picture, features[3])], N_PROBES).unwrap();
        // Its picture hardly depends on the feature, so a unit needs only the required minimum.
        let unit = codec::Encoder::new(profile.clone()).push(&features[7], true).unwrap();
        let codec::EncodedUnit { number, unit, .. } = unit;
        assert!(
            unit.as_bytes().len() <= 4,
            "{} of {}",
            unit.as_bytes().len(),
            profile.n_components()
        );
        assert!(codec::Decoder::new(profile).decode(number, &unit).is_ok());
    }
}
