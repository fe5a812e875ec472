//! The CPU renderer draws what the field's definition draws.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use face::{DEFAULT_SAMPLES, FaceFile, FaceModel, FrameInputs, Noise, Sizes, psnr_db, render_cpu};
use glam::Vec3;
use render::{CpuRenderer, MAX_SIDE, MIN_SIDE, RenderError};
use tests::compare::difference;
use types::{CODE_DIMS, Code, Feature, Frame, HeadPose, LEARNED_DIMS, MediaTime};

use crate::shaders::features;

/// How far a picture may be from the definition, in levels of 8-bit color. Rounding to 8 bits is
/// half a level; the rest is light that was not followed, and fused multiply-adds.
const TOLERANCE: f32 = 1.0;

fn demo_model() -> Arc<FaceModel> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/demo.face");
    Arc::new(FaceFile::parse(&fs::read(path).unwrap()).unwrap().model)
}

/// Poses and codes about as far from the mean as the person's own.
fn enrolled_features(model: &FaceModel, n: u64) -> Vec<Feature> {
    let sizes = model.sizes();
    (0..n)
        .map(|seed| {
            let mut noise = Noise(seed + 1);
            let mut code = [0.0; CODE_DIMS];
            for value in &mut code[..LEARNED_DIMS] {
                *value = 0.6 * noise.gaussian();
            }
            let [rx, ry, rz, x, y, z] = std::array::from_fn(|i| {
                sizes.pose_mean[i] + noise.gaussian() / sizes.pose_scale[i]
            });
            Feature {
                time: MediaTime::ZERO,
                pose: HeadPose::new(Vec3::new(rx, ry, rz), Vec3::new(x, y, z)).unwrap(),
                code: Code::new(code).unwrap(),
            }
        })
        .collect()
}

fn frame_of(picture: &[[f32; 3]], side: u32) -> Frame {
    let rgb: Vec<u8> = picture.iter().flatten().map(|v| (v * 255.0 + 0.5) as u8).collect();
    Frame::new(side, side, MediaTime::ZERO, rgb).unwrap()
}

#[test]
fn it_draws_what_the_definition_draws_at_any_size() {
    let model = Arc::new(FaceModel::noise(Sizes::tiny(), 7));
    let mut renderer = CpuRenderer::new(Arc::clone(&model));
    // 45 and 19 are no multiples of a tile.
    for side in [64, 45, 19] {
        renderer.resize(side).unwrap();
        for (index, feature) in features().iter().enumerate() {
            let inputs = model.frame_inputs(feature);
            renderer.render(&inputs);
            let frame = renderer.frame(feature.time).unwrap();
            let got = difference(&frame, &render_cpu(&model, &inputs, side, DEFAULT_SAMPLES));
            assert!(
                got.worst <= TOLERANCE && got.mean < 0.3,
                "feature {index} at {side} px: {got:?}"
            );
        }
    }
}

#[test]
fn it_draws_an_enrolled_face_as_the_definition_does() {
    const SIDE: u32 = 128;
    let model = demo_model();
    let mut renderer = CpuRenderer::new(Arc::clone(&model));
    renderer.resize(SIDE).unwrap();
    let features = enrolled_features(&model, 5);
    let reference_of = |inputs: &FrameInputs| frame_of(&render_cpu(&model, inputs, SIDE, 24), SIDE);
    for (index, feature) in features.iter().enumerate() {
        let inputs = model.frame_inputs(feature);
        let expected = render_cpu(&model, &inputs, SIDE, DEFAULT_SAMPLES);
        renderer.render(&inputs);
        let frame = renderer.frame(feature.time).unwrap();
        let got = difference(&frame, &expected);
        // Where density has a gap, a little light moves a sample across it: rare single pixels.
        assert!(got.worst <= 5.0 && got.mean < 0.3, "feature {index}: {got:?}");

        // A picture that is as far off as an original is: the same person a little later.
        let other = &features[(index + 1) % features.len()];
        let mixed = std::array::from_fn(|i| {
            0.9 * feature.code.as_array()[i] + 0.1 * other.code.as_array()[i]
        });
        let later = Feature { code: Code::new(mixed).unwrap(), ..*feature };
        let reference = reference_of(&model.frame_inputs(&later));
        let ours = psnr_db(&frame, &reference);
        let definition = psnr_db(&frame_of(&expected, SIDE), &reference);
        assert!(
            (ours - definition).abs() <= 0.1,
            "feature {index}: {ours:.3} dB, the definition {definition:.3} dB"
        );
    }
}

#[test]
fn a_picture_does_not_depend_on_those_before_it() {
    let model = Arc::new(FaceModel::noise(Sizes::tiny(), 11));
    let features = features();
    let mut used = CpuRenderer::new(Arc::clone(&model));
    for feature in &features {
        for side in [33, 48] {
            let inputs = model.frame_inputs(feature);
            used.resize(side).unwrap();
            let mut fresh = CpuRenderer::new(Arc::clone(&model));
            fresh.resize(side).unwrap();
            assert!(used.render(&inputs) == fresh.render(&inputs));
            // The same code again, so that nothing is mixed anew.
            assert!(used.render(&inputs) == fresh.render(&inputs));
        }
    }
}

#[test]
fn a_head_around_the_camera_or_far_away_is_drawn_alike() {
    let model = Arc::new(FaceModel::noise(Sizes::tiny(), 3));
    let mut renderer = CpuRenderer::new(Arc::clone(&model));
    renderer.resize(40).unwrap();
    for z in [0.01, 0.05, 0.2, 3.0, 9.0] {
        let pose = HeadPose::new(Vec3::new(0.1, 0.2, 0.3), Vec3::new(0.0, 0.01, z)).unwrap();
        let feature = Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL };
        let inputs = model.frame_inputs(&feature);
        renderer.render(&inputs);
        let frame = renderer.frame(MediaTime::ZERO).unwrap();
        let got = difference(&frame, &render_cpu(&model, &inputs, 40, DEFAULT_SAMPLES));
        assert!(got.worst <= TOLERANCE, "{z} m: {got:?}");
    }
}

#[test]
fn it_takes_as_many_samples_as_asked() {
    let model = Arc::new(FaceModel::noise(Sizes::tiny(), 3));
    let inputs = model.frame_inputs(&features()[1]);
    let mut renderer = CpuRenderer::new(Arc::clone(&model));
    renderer.resize(32).unwrap();
    for n_samples in [1, 4, 24, 999] {
        renderer.set_samples(n_samples);
        renderer.render(&inputs);
        let frame = renderer.frame(MediaTime::ZERO).unwrap();
        let got = difference(&frame, &render_cpu(&model, &inputs, 32, n_samples));
        assert!(got.worst <= TOLERANCE, "{n_samples} samples: {got:?}");
    }
}

#[test]
fn a_size_outside_the_limits_is_refused_and_changes_nothing() {
    let model = Arc::new(FaceModel::noise(Sizes::tiny(), 3));
    let mut renderer = CpuRenderer::new(Arc::clone(&model));
    for side in [0, MIN_SIDE - 1, MAX_SIDE + 1, u32::MAX] {
        assert!(matches!(renderer.resize(side), Err(RenderError::Side { .. })), "{side}");
    }
    assert_eq!(renderer.render(&model.frame_inputs(&features()[0])).len(), 256 * 256 * 3);
}
