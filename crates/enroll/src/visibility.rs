//! What of a feature shows in the picture, and the codec profile that follows from it.

use std::path::Path;

use anyhow::{Context, ensure};
use capture::{Source, SourceSpec};
use codec::{Profile, Visibility};
use face::{DEFAULT_SAMPLES, FaceFile, FaceModel, psnr_db, render_cpu};
use rayon::prelude::*;
use track::PersonTracker;
use types::{FEATURE_DIMS, Feature, Frame};

use crate::measuring::draw;

/// Features whose pictures are looked at.
const N_LOOKS: usize = 8;
/// Side of those pictures, pixels: motion shows about as much as at twice the side.
const SIDE: u32 = 128;
/// Quantizing at normal quality may add this part of the error that the picture has anyway:
/// 0.17 dB were the two errors independent, which they are not. Measured: docs/RESULTS.md.
const SHARE: f64 = 0.04;
/// Bounds of that error, mean square of 0..1: a quantizer's noise 35 to 50 dB below the picture.
const DISTORTION: std::ops::RangeInclusive<f64> = 1e-5..=3.2e-4;
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
/// frames with their features, best ones that were not learned from.
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

/// Mean products of the picture's changes under small changes of each number.
fn visibility(model: &FaceModel, features: &[Feature]) -> Visibility {
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
        matrix.par_iter_mut().enumerate().for_each(|(i, row)| {
            for (j, sum) in row.iter_mut().enumerate() {
                let both = changes[i].iter().zip(&changes[j]);
                let product = both.map(|(a, b)| f64::from(a * b)).sum::<f64>();
                *sum += product / rest.as_flattened().len() as f64;
            }
        });
    }
    if n_looks == 0.0 {
        return Visibility::from_geometry(features);
    }
    Visibility::from_matrix(&matrix.map(|row| row.map(|v| v / n_looks)))
}

/// At most [`N_LOOKS`] of them, evenly.
fn spread<T>(all: &[T]) -> impl Iterator<Item = &T> {
    let step = all.len().div_ceil(N_LOOKS).max(1);
    all.iter().skip(step / 2).step_by(step)
}

/// Makes a face's codec profile anew, of the frames of a clip that come before `held_out`: what
/// enrollment does last, for faces that were enrolled before the codec changed.
///
/// `held_out` is the share of the clip, from its end, that the face has not seen; where it is not
/// 0, those frames tell how good the picture is. The clip is followed as in a call.
///
/// # Errors
/// If the face has no private part, or the clip cannot be read or shows too little of a face.
pub fn refit_profile(face: &FaceFile, clip: &Path, held_out: f32) -> anyhow::Result<Profile> {
    let sender = face.sender.as_deref().context("this face file has no private part")?;
    let mut tracker = PersonTracker::from_bytes(sender)?;
    let source: SourceSpec = clip.to_string_lossy().parse().context("no such source")?;
    let mut source = Source::open(&source)?;
    let n_frames = match source.n_frames() {
        Some(n) => n,
        None => 60 * u64::from(source.fps()),
    };
    let n_train = (n_frames as f32 * (1.0 - held_out)).round() as u64;
    let every = (n_frames / 64).max(1);
    let (mut features, mut shown, mut unseen) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..n_frames {
        let Some(frame) = source.next_frame()? else { break };
        let Some(feature) = tracker.track(&frame) else { continue };
        if index < n_train {
            features.push(feature);
        }
        if index % every == 0 {
            let frame = frame.center_square().resized_area(2 * SIDE, 2 * SIDE);
            if index < n_train { &mut shown } else { &mut unseen }.push((frame, feature));
        }
    }
    ensure!(features.len() >= 50, "a face was found in {} frames only", features.len());
    let pictures = if unseen.is_empty() { &shown } else { &unseen };
    let pictures: Vec<_> = pictures.iter().map(|(frame, feature)| (frame, *feature)).collect();
    profile(&face.model, &features, &pictures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use face::Sizes;
    use types::{Code, HeadPose, MediaTime};

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
        let unit = codec::Encoder::new(profile.clone()).encode(&features[7]);
        assert!(
            unit.as_bytes().len() <= 4,
            "{} of {}",
            unit.as_bytes().len(),
            profile.n_components()
        );
        let id = codec::UnitId::from_count(0);
        assert!(codec::Decoder::new(profile).decode(id, &unit).is_ok());
    }
}
