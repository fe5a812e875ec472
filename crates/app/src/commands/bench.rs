//! `feathercall bench`

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eval::BenchRow;

use crate::cli::Part;
use crate::gpu::Gpu;
use crate::painter::Painter;

const SIDES: [u32; 4] = [128, 256, 512, 1024];
/// Frames measured at each size, fewer where one takes long.
const N_FRAMES: usize = 60;
const LONGEST: Duration = Duration::from_secs(8);

pub(super) fn run(part: Part, face: Option<&Path>, is_json: bool) -> anyhow::Result<()> {
    let file = super::face_or_demo(face)?;
    let rows = match part {
        Part::Render => render(file)?,
        Part::Track => eval::bench_track(&file)?,
        Part::Codec => eval::bench_codec(&file)?,
    };
    for row in rows {
        if is_json {
            println!("{}", serde_json::to_string(&row)?);
        } else {
            let side = row.resolution.map(|side| format!("{side} px")).unwrap_or_default();
            println!(
                "{:<8} {:<28} {side:>8}  median {:8.3} ms  p95 {:8.3} ms  ({} runs)",
                row.what, row.path, row.ms_median, row.ms_p95, row.runs
            );
        }
    }
    Ok(())
}

/// A picture rendered and read back, by each path this machine has, driven by the actor.
fn render(file: face::FaceFile) -> anyhow::Result<Vec<BenchRow>> {
    let features = eval::actor_features(&file, N_FRAMES)?;
    let model = Arc::new(file.model);
    let mut painters =
        vec![Painter::on_cpu(Arc::clone(&model)), Painter::by_definition(Arc::clone(&model))];
    match Gpu::headless() {
        Ok(gpu) => painters.insert(0, Painter::on_gpu(model, gpu)?),
        Err(error) => eprintln!("feathercall: {error}"),
    }
    let mut rows = Vec::new();
    for painter in &mut painters {
        for side in SIDES {
            painter.resize(side);
            painter.paint(&features[0])?;
            let started = Instant::now();
            let mut times = Vec::new();
            for feature in &features {
                let before = Instant::now();
                let frame = painter.paint(feature)?;
                times.push(before.elapsed());
                assert_eq!(frame.width(), side, "the painter drew the size it was asked for");
                if started.elapsed() > LONGEST {
                    break;
                }
            }
            rows.push(BenchRow::new("render", painter.name(), Some(side), &mut times));
        }
    }
    Ok(rows)
}
