//! The shader of the baseline field agrees with its definition.

use classic::{
    ClassicModel, ClassicRenderer, ClassicRendererError, ClassicSizes, SIDES, render_classic,
};
use tests::compare::difference;
use tests::gpu::{self, Gpu};
use types::MediaTime;

use crate::shaders::features;

#[test]
fn the_gpu_draws_the_baseline_field_as_defined() {
    const SIDE: u32 = 16;
    let Some(gpu) = gpu::for_tests() else { return };
    let Gpu { device, queue, .. } = gpu;
    let tiny = ClassicSizes::tiny;
    for sizes in [tiny(), ClassicSizes { fine: 0, skip: 0, ..tiny() }] {
        let model = ClassicModel::noise(sizes, 7);
        let renderer = ClassicRenderer::new(device, &model, SIDE).unwrap();
        for (index, feature) in features().iter().enumerate() {
            let frame = model.frame(&feature.pose, feature.code.as_array());
            let drawn = renderer.draw(device, queue, &frame, feature.time).unwrap();
            let expected = render_classic(&model, &frame, SIDE);
            let got = difference(&drawn, &expected);
            // Half a level is rounding; the rest is `exp`, and sums through ten octaves.
            assert!(got.worst <= 0.8 && got.mean < 0.3, "feature {index}: {got:?}");
        }
    }
}

#[test]
fn the_compared_pictures_of_the_baseline_field_differ() {
    let model = ClassicModel::noise(ClassicSizes::tiny(), 7);
    let features = features();
    let pictures = [0, 1].map(|i| {
        render_classic(&model, &model.frame(&features[i].pose, features[i].code.as_array()), 16)
    });
    let n_different = pictures[0]
        .iter()
        .zip(&pictures[1])
        .filter(|(a, b)| a.iter().zip(*b).any(|(a, b)| (a - b).abs() > 0.02));
    let n_different = n_different.count();
    assert!(n_different > 64, "only {n_different} of 256 pixels differ");
}

#[test]
fn a_side_that_cannot_be_drawn_is_refused() {
    let Some(gpu) = gpu::for_tests() else { return };
    let Gpu { device, queue, .. } = gpu;
    let model = ClassicModel::untrained(ClassicSizes::tiny(), 1);
    for side in [0, SIDES.start() - 1, SIDES.end() + 1] {
        let refused = ClassicRenderer::new(device, &model, side).map(drop);
        assert!(matches!(refused, Err(ClassicRendererError::Side { .. })), "{side}");
    }
    let renderer = ClassicRenderer::new(device, &model, 16).unwrap();
    let feature = &features()[0];
    let frame = model.frame(&feature.pose, feature.code.as_array());
    assert_eq!(renderer.draw(device, queue, &frame, MediaTime::ZERO).unwrap().width(), 16);
}
