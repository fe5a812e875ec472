//! What of a feature shows in the picture, and the codec profile that follows from it.

use codec::{ErrorSensitivity, Profile};
use face::{DEFAULT_SAMPLES, FaceModel, psnr_db, render_cpu};
use rayon::prelude::*;
use types::{FEATURE_DIMS, Feature, Frame, HeadPose};

use crate::measuring::draw;

/// Features whose pictures are looked at.
const N_LOOKS: usize = 8;
/// Side of those pictures, pixels: motion shows about as much as at twice the side.
const SIDE: u32 = 128;
/// An error at the eyes and the mouth counts as so many elsewhere: that is where people look.
const TELLING: f64 = 6.0;
/// Quantizing at normal quality may add this part of the error that pictures learned from have, the
/// [`TELLING`] parts counted as they are; most of what it takes away is the tracker's own noise.
/// Measured: docs/RESULTS.md.
const SHARE: f64 = 0.3;
/// Bounds of that error, mean square of 0..1: a quantizer's noise 30 to 47 dB below the picture.
const DISTORTION: std::ops::RangeInclusive<f64> = 2e-5..=1e-3;
/// How far each number is moved to see what changes: radians, meters, code, torso track.
const NUDGES: [f32; FEATURE_DIMS] = {
    let mut nudges = [0.15; FEATURE_DIMS];
    let (pose, torso) = ([0.004, 0.004, 0.004, 5e-4, 5e-4, 5e-3], [4e-3, 4e-3, 1e-3]);
    let mut i = 0;
    while i < 6 {
        nudges[i] = pose[i];
        nudges[FEATURE_DIMS - 6 + i] = torso[i % 3];
        i += 1;
    }
    nudges
};

/// The codec profile of a person: `features` are those of consecutive frames, `pictures` some
/// of the frames with their features.
///
/// # Errors
/// If a picture cannot be drawn.
pub(crate) fn profile(
    model: &FaceModel,
    features: &[Feature],
    pictures: &[(&Frame, Feature)],
) -> anyhow::Result<Profile> {
    let mut errors = Vec::new();
    for (frame, feature) in spread(pictures) {
        let psnr_db = psnr_db(&draw(model, feature, frame.width())?, frame);
        errors.push(10.0_f64.powf(-psnr_db / 10.0));
    }
    let error = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
    let distortion = (SHARE * error).clamp(*DISTORTION.start(), *DISTORTION.end());
    Ok(Profile::from_features(features, &visibility(model, features), distortion)?)
}

/// Mean products of the picture's changes under small changes of each number, eyes and mouth
/// counting [`TELLING`] times.
fn visibility(model: &FaceModel, features: &[Feature]) -> ErrorSensitivity {
    let mut matrix = [[0.0; FEATURE_DIMS]; FEATURE_DIMS];
    let mut n_looks = 0.0;
    for feature in spread(features) {
        let draw = |feature: &Feature| {
            render_cpu(model, &model.frame_inputs(feature), SIDE, DEFAULT_SAMPLES)
        };
        let rest = draw(feature);
        let changes: Option<Vec<Vec<f32>>> = (0..FEATURE_DIMS)
            .map(|dim| {
                let mut values = feature.to_array();
                values[dim] += NUDGES[dim];
                let nudged = draw(&Feature::from_array(feature.time, &values).ok()?);
                let pairs = nudged.as_flattened().iter().zip(rest.as_flattened());
                Some(pairs.map(|(a, b)| (a - b) / NUDGES[dim]).collect())
            })
            .collect();
        // At the edge of what a feature may be: another look will do.
        let Some(changes) = changes else { continue };
        n_looks += 1.0;
        let weights = weights(&feature.pose);
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
    if n_looks == 0.0 {
        return ErrorSensitivity::from_geometry(features);
    }
    ErrorSensitivity::from_matrix(&matrix.map(|row| row.map(|v| v / n_looks)))
}

/// What each pixel counts, row by row.
fn weights(pose: &HeadPose) -> Vec<f64> {
    let boxes = track::eyes_and_mouth(pose);
    let weight = |i: u32| {
        let at = [i % SIDE, i / SIDE].map(|p| (p as f32 + 0.5) / SIDE as f32);
        let tells = boxes
            .iter()
            .any(|[low, high]| (0..2).all(|axis| (low[axis]..high[axis]).contains(&at[axis])));
        if tells { TELLING } else { 1.0 }
    };
    (0..SIDE * SIDE).map(weight).collect()
}

/// At most [`N_LOOKS`] of them, evenly.
fn spread<T>(all: &[T]) -> impl Iterator<Item = &T> {
    let step = all.len().div_ceil(N_LOOKS).max(1);
    all.iter().skip(step / 2).step_by(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use face::Sizes;
    use types::{Code, MediaTime};

    #[test]
    fn a_face_that_nobody_trained_has_a_profile_that_codes() {
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
        let picture = draw(&model, &features[3], 64).unwrap();
        let profile = profile(&model, &features, &[(&picture, features[3])]).unwrap();
        // Nothing of it shows, so nothing has to be coded but what a profile must have.
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
