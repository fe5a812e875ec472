//! `feathercall bench fields`: the time that the field's construction saves, compared in one run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eval::BenchRow;
use face::FaceModel;
use types::Feature;

use crate::face_renderer::FaceRenderer;

/// Side of the pictures, pixels.
const SIDE: u32 = 256;
/// Pictures of each field; fewer if they take longer than [`MAX_DURATION`].
pub(super) const N_PICTURES: usize = 20;
/// Time limit for each field.
const MAX_DURATION: Duration = Duration::from_secs(8);

/// Measures rendering the same features with fields that evaluate their networks more and more
/// often.
pub(super) fn fields(
    features: &[Feature],
    model: &Arc<FaceModel>,
    samples: u32,
) -> anyhow::Result<Vec<BenchRow>> {
    let mut renderer = FaceRenderer::on_cpu(Arc::clone(model));
    renderer.set_samples(samples);
    renderer.set_side(SIDE);
    let row = |path: &str, render: &mut dyn FnMut(&Feature) -> anyhow::Result<()>| {
        // Not measured: the first picture allocates memory.
        render(&features[0])?;
        let (started, mut times) = (Instant::now(), Vec::new());
        for feature in features.iter().take(N_PICTURES) {
            let before = Instant::now();
            render(feature)?;
            times.push(before.elapsed());
            if started.elapsed() > MAX_DURATION {
                break;
            }
        }
        anyhow::Ok(BenchRow::new("field", path, Some(SIDE), &mut times))
    };
    Ok(vec![
        row("ours, CPU renderer", &mut |feature| renderer.render_frame(feature).map(|_| ()))?,
        row("ours, definition", &mut |feature| {
            face::render_cpu(model, &model.frame_inputs(feature), SIDE, samples);
            Ok(())
        })?,
        row("network at every sample", &mut |feature| {
            model.render_per_sample(&model.frame_inputs(feature), SIDE, samples);
            Ok(())
        })?,
    ])
}
