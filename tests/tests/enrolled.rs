//! The enrolled demo face, and what a renderer may make of it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use face::{DEFAULT_SAMPLES, FaceFile, FaceModel, FrameInputs, psnr_db, render_cpu};
use numerics::SplitMix64;
use types::{CODE_DIMS, Code, Feature, HeadPose, LEARNED_DIMS, MediaTime, SquareFrame};

use tests::compare::difference;

/// Side of the pictures that are compared.
const SIDE: u32 = 128;

/// The face that ships.
pub(crate) fn demo_model() -> Arc<FaceModel> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/demo.face");
    Arc::new(FaceFile::parse(&fs::read(path).unwrap()).unwrap().model)
}

/// `n` poses and codes about as far from the mean as the person's own.
fn features(model: &FaceModel, n: u64) -> Vec<Feature> {
    let sizes = model.sizes();
    (0..n)
        .map(|seed| {
            let mut noise = SplitMix64::new(seed + 1);
            let mut code = [0.0; CODE_DIMS];
            for value in &mut code[..LEARNED_DIMS] {
                *value = 0.6 * noise.normal();
            }
            let pose =
                std::array::from_fn(|i| sizes.pose_mean[i] + noise.normal() / sizes.pose_scale[i]);
            Feature {
                time: MediaTime::ZERO,
                pose: HeadPose::from_array(pose).unwrap(),
                code: Code::new(code).unwrap(),
            }
        })
        .collect()
}

/// `share` of the way from one code to another, in the pose of the first.
fn towards(from: &Feature, to: &Feature, share: f32) -> Feature {
    let (a, b) = (from.code.as_array(), to.code.as_array());
    let code = std::array::from_fn(|i| (1.0 - share) * a[i] + share * b[i]);
    Feature { code: Code::new(code).unwrap(), ..*from }
}

fn frame_of(picture: &[[f32; 3]]) -> SquareFrame {
    SquareFrame::from_colors(SIDE, MediaTime::ZERO, picture).unwrap()
}

/// Levels that a rare single pixel may be off where arithmetic rounds alike: where density has a gap, a
/// little light moves a sample across it.
pub(crate) const RARE_PIXEL: f32 = 5.0;

/// Holds a renderer to the definition, by `most` levels at the worst pixel, and by at most 0.1 dB
/// against a picture as far off as an original is. `draw` gives the picture of a side.
pub(crate) fn assert_drawn_alike(
    model: &FaceModel,
    most: f32,
    mut draw: impl FnMut(&FrameInputs, u32) -> SquareFrame,
) {
    let features = features(model, 5);
    for (index, feature) in features.iter().enumerate() {
        let inputs = model.frame_inputs(feature);
        let expected = render_cpu(model, &inputs, SIDE, DEFAULT_SAMPLES);
        let frame = draw(&inputs, SIDE);
        let got = difference(&frame, &expected);
        assert!(got.worst <= most && got.mean < 0.3, "feature {index}: {got:?}");

        // The same person a little later.
        let later = towards(feature, &features[(index + 1) % features.len()], 0.1);
        let reference = frame_of(&render_cpu(model, &model.frame_inputs(&later), SIDE, 24));
        let ours = psnr_db(&frame, &reference);
        let definition = psnr_db(&frame_of(&expected), &reference);
        assert!(
            (ours - definition).abs() <= 0.1,
            "feature {index}: {ours:.3} dB, the definition {definition:.3} dB"
        );
    }
}

/// Holds a renderer that keeps the field of a code which hardly moves to the definition: it may be
/// late by less than shows, never by more.
pub(crate) fn assert_drawn_alike_in_slow_motion(
    model: &FaceModel,
    mut draw: impl FnMut(&FrameInputs, u32) -> SquareFrame,
) {
    let features = features(model, 2);
    for step in 0..12 {
        let inputs = model.frame_inputs(&towards(&features[0], &features[1], 0.002 * step as f32));
        let expected = frame_of(&render_cpu(model, &inputs, SIDE, DEFAULT_SAMPLES));
        let alike = psnr_db(&draw(&inputs, SIDE), &expected);
        assert!(alike > 50.0, "step {step}: {alike:.1} dB");
    }
}
