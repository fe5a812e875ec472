//! The CPU renderer agrees with the definition of the field.

use std::sync::Arc;

use crate::enrolled;
use face::{DEFAULT_SAMPLES, FaceModel, FrameInputs, Sizes, render_cpu};
use glam::Vec3;
use render::{CpuRenderer, MAX_SIDE, MIN_SIDE, RenderError};
use tests::compare::difference;
use types::{Code, Feature, HeadPose, MediaTime};

use crate::shaders::features;

/// Tolerance for a picture compared with the definition, in levels of 8-bit color. Rounding to 8
/// bits is half a level; the rest is rays that end early, and fused multiply-adds.
const TOLERANCE: f32 = 1.0;

#[test]
fn it_agrees_with_the_definition_at_any_size() {
    let model = Arc::new(FaceModel::noise(Sizes::tiny(), 7));
    let mut renderer = CpuRenderer::new(Arc::clone(&model));
    // 45 and 19 are not multiples of the tile size.
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
fn it_agrees_with_the_definition_on_an_enrolled_face_and_in_slow_motion() {
    let model = enrolled::demo_model();
    let mut renderer = CpuRenderer::new(Arc::clone(&model));
    let mut draw = |inputs: &FrameInputs, side| {
        renderer.resize(side).unwrap();
        renderer.render(inputs);
        renderer.frame(MediaTime::ZERO).unwrap()
    };
    enrolled::assert_drawn_alike(&model, enrolled::RARE_PIXEL, &mut draw);
    enrolled::assert_drawn_alike_in_slow_motion(&model, &mut draw);
}

#[test]
fn a_picture_does_not_depend_on_earlier_ones() {
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
            // The same code a second time: the renderer reuses the mixed field.
            assert!(used.render(&inputs) == fresh.render(&inputs));
        }
    }
}

#[test]
fn it_agrees_with_the_definition_for_a_head_around_the_camera_and_far_away() {
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
fn it_agrees_with_the_definition_at_any_sample_count() {
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
fn a_side_outside_the_limits_is_refused_and_changes_nothing() {
    let model = Arc::new(FaceModel::noise(Sizes::tiny(), 3));
    let mut renderer = CpuRenderer::new(Arc::clone(&model));
    for side in [0, MIN_SIDE - 1, MAX_SIDE + 1, u32::MAX] {
        assert!(matches!(renderer.resize(side), Err(RenderError::Side { .. })), "{side}");
    }
    assert_eq!(renderer.render(&model.frame_inputs(&features()[0])).len(), 256 * 256 * 3);
}
