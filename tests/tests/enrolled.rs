//! The enrolled demo face, and how closely a renderer has to agree with the definition on it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use face::{DEFAULT_SAMPLES, FaceFile, FaceModel, FrameInputs, psnr_db, render_cpu};
use numerics::SplitMix64;
use types::{CODE_DIMS, Code, Feature, HeadPose, LEARNED_DIMS, MediaTime, SquareFrame};

use tests::compare::difference;

/// Side of the compared pictures, in pixels.
const SIDE: u32 = 128;

/// Returns the field of the built-in face.
pub(crate) fn demo_model() -> Arc<FaceModel> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/demo.face");
    Arc::new(FaceFile::parse(&fs::read(path).unwrap()).unwrap().model)
}

/// Returns `n` features whose distances from the mean are typical of the person.
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

/// Returns the pose of `from` with a code interpolated between the two; `share` is 0 at `from` and
/// 1 at `to`.
fn towards(from: &Feature, to: &Feature, share: f32) -> Feature {
    let (a, b) = (from.code.as_array(), to.code.as_array());
    let code = std::array::from_fn(|i| (1.0 - share) * a[i] + share * b[i]);
    Feature { code: Code::new(code).unwrap(), ..*from }
}

fn frame_of(picture: &[[f32; 3]]) -> SquareFrame {
    SquareFrame::from_colors(SIDE, MediaTime::ZERO, picture).unwrap()
}

/// Tolerance for single pixels, in levels of 8-bit color, of a renderer that rounds like the
/// definition: where the density has a gap, a small difference moves a sample across it.
pub(crate) const RARE_PIXEL: f32 = 5.0;

/// Asserts that a renderer agrees with the definition within `most` levels of 8-bit color at the
/// worst pixel, and within 0.1 dB when both are compared with a slightly different picture, as
/// evaluation compares them with originals.
///
/// `draw` renders a picture of the given side in pixels.
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

        // A slightly different expression stands for the original.
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

/// Asserts that a renderer which reuses the folded field while the code hardly changes agrees with
/// the definition at more than 50 dB.
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
