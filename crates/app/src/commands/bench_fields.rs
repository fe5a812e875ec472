//! `feathercall bench fields`: what the field's construction saves, in one run on one machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eval::BenchRow;
use face::FaceModel;
use types::Feature;

use crate::face_renderer::FaceRenderer;

/// Side of the pictures.
const SIDE: u32 = 256;
/// Pictures of each kind, fewer where one takes long.
pub(super) const N_PICTURES: usize = 20;
const LONGEST: Duration = Duration::from_secs(8);

/// Pictures of the same features by fields that ask their networks more and more often.
pub(super) fn fields(
    features: &[Feature],
    model: &Arc<FaceModel>,
    samples: u32,
) -> anyhow::Result<Vec<BenchRow>> {
    let mut renderer = FaceRenderer::on_cpu(Arc::clone(model));
    renderer.set_samples(samples);
    renderer.set_side(SIDE);
    let row = |path: &str, draw: &mut dyn FnMut(&Feature) -> anyhow::Result<()>| {
        // Not counted: buffers are made, memory is touched for the first time.
        draw(&features[0])?;
        let (started, mut times) = (Instant::now(), Vec::new());
        for feature in features.iter().take(N_PICTURES) {
            let before = Instant::now();
            draw(feature)?;
            times.push(before.elapsed());
            if started.elapsed() > LONGEST {
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
