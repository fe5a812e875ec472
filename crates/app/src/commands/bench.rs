//! `feathercall bench`

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eval::{BenchRow, PictureRow};
use face::{FaceModel, FrameInputs};
use types::Feature;

use crate::cli::Part;
use crate::gpu::Gpu;
use crate::painter::Painter;

const SIDES: [u32; 4] = [128, 256, 512, 1024];
/// Of the actor, at each size; of anything fewer where one takes long.
const N_FRAMES: usize = 60;
/// Pictures a second of a recorded stream: the rhythm of most displays.
const STREAM_FPS: u32 = 60;
const LONGEST: Duration = Duration::from_secs(8);
/// Side of the picture whose rays are counted.
const COUNTED: u32 = 256;
/// Multiply-adds are done for at least this long at a time, the best of so many times.
const FMA_TIME: Duration = Duration::from_millis(50);
const FMA_TRIES: u32 = 5;

pub(super) fn run(
    part: Part,
    face: Option<&Path>,
    stream: Option<&Path>,
    samples: u32,
    is_json: bool,
) -> anyhow::Result<()> {
    let file = super::face_or_demo(face)?;
    anyhow::ensure!(
        stream.is_none() || matches!(part, Part::Render | Part::Fields),
        "--stream is for `bench render` and `bench fields`: tracker and codec are measured on the actor"
    );
    let shown = |n: usize| match stream {
        Some(path) => super::offline::read_stream(path, &file, STREAM_FPS),
        None => eval::actor_features(&file, n),
    };
    let rows = match part {
        Part::Render => render(&shown(N_FRAMES)?, &file.model.into(), samples)?,
        Part::Track => eval::bench_track(&file)?,
        Part::Codec => eval::bench_codec(&file)?,
        Part::Fields => super::bench_fields::fields(
            &shown(super::bench_fields::N_PICTURES)?,
            &file.model.into(),
            samples,
        )?,
    };
    for row in &rows {
        if is_json {
            println!("{}", serde_json::to_string(row)?);
            continue;
        }
        let side = row.resolution.map(|side| format!("{side} px")).unwrap_or_default();
        println!(
            "{:<12} {:<28} {side:>8}  median {:8.3} ms  p95 {:8.3} ms  ({} runs){}",
            row.what,
            row.path,
            row.ms_median,
            row.ms_p95,
            row.runs,
            row.picture.as_ref().map(in_words).unwrap_or_default()
        );
    }
    if !is_json {
        print_rates(&rows);
        print_stages(&rows);
        print_ratios(&rows);
    }
    Ok(())
}

fn in_words(picture: &PictureRow) -> String {
    let gpu = picture.gpu_ms_median.map(|ms| format!("  GPU {ms:.3} ms")).unwrap_or_default();
    format!(
        "{gpu}  {} samples  {:.3} GFLOP  {:.1} GFLOP/s, {:.0} % of {:.0}",
        picture.samples_per_ray,
        picture.gflop,
        picture.gflop_per_s,
        100.0 * picture.share_of_fma,
        picture.fma_gflop_per_s
    )
}

fn print_rates(rows: &[BenchRow]) {
    let rate = rows.iter().find_map(|row| row.picture.as_ref()?.read_gb_per_s);
    if let Some(rate) = rate {
        println!("reads of a folded field: {rate:.0} GB/s");
    }
}

/// How many times as long as the first field each of the others takes.
fn print_ratios(rows: &[BenchRow]) {
    let mut fields = rows.iter().filter(|row| row.what == "field");
    let Some(first) = fields.next() else { return };
    for row in fields {
        println!("{}: {:.1} times {}", row.path, row.ms_median / first.ms_median, first.path);
    }
}

/// The work of a picture stage by stage: once for each size, because every path has the same.
fn print_stages(rows: &[BenchRow]) {
    for side in SIDES {
        let row = rows.iter().find(|row| row.resolution == Some(side) && row.picture.is_some());
        let Some(picture) = row.and_then(|row| row.picture.as_ref()) else { continue };
        let (in_box, on_head) = (100.0 * picture.rays_in_box, 100.0 * picture.rays_on_head);
        println!(
            "work of {side} px: {in_box:.0} % of the rays in the head box, {on_head:.0} % on the head"
        );
        for stage in &picture.stages {
            println!("  {:<8} {:9.4} GFLOP  {:9.2} MB", stage.stage, stage.gflop, stage.mb);
        }
    }
}

/// A picture rendered and read back, by each path this machine has.
fn render(
    features: &[Feature],
    model: &Arc<FaceModel>,
    samples: u32,
) -> anyhow::Result<Vec<BenchRow>> {
    let middle = model.frame_inputs(&features[features.len() / 2]);
    let rays = face::Rays::count(model, &middle, COUNTED);
    let mut painters =
        vec![Painter::on_cpu(Arc::clone(model)), Painter::by_definition(Arc::clone(model))];
    match Gpu::headless() {
        Ok(gpu) => match Painter::on_gpu(Arc::clone(model), gpu) {
            Ok(painter) => painters.insert(0, painter),
            Err(error) => eprintln!("feathercall: {error}"),
        },
        Err(error) => eprintln!("feathercall: {error}"),
    }
    let mut rows = Vec::new();
    for painter in &mut painters {
        let rates = match painter.gpu() {
            Some(gpu) => (gpu_fma_rate(gpu), None),
            None => (cpu_fma_rate(), Some(cpu_read_rate(model, &middle))),
        };
        painter.set_samples(samples);
        for side in SIDES {
            painter.resize(side);
            painter.paint(&features[0])?;
            let started = Instant::now();
            let (mut times, mut gpu_times) = (Vec::new(), Vec::new());
            for feature in features {
                let before = Instant::now();
                let frame = painter.paint(feature)?;
                times.push(before.elapsed());
                gpu_times.extend(painter.gpu_time());
                assert_eq!(frame.side(), side, "the painter drew the size it was asked for");
                if started.elapsed() > LONGEST {
                    break;
                }
            }
            let mut row = BenchRow::new("render", painter.name(), Some(side), &mut times);
            gpu_times.sort_unstable();
            let gpu_ms = gpu_times.get(gpu_times.len() / 2).map(|time| time.as_secs_f64() * 1e3);
            let ms = (row.ms_median, gpu_ms);
            let picture = PictureRow::new(model.sizes(), &rays.at(side), samples, ms, rates);
            row.picture = Some(picture);
            rows.push(row);
        }
    }
    Ok(rows)
}

/// GFLOP/s of nothing but multiply-adds in the CPU's vectors, on all threads that render.
fn cpu_fma_rate() -> f64 {
    best_rate(|n| {
        let started = Instant::now();
        let (flops, sum) = render::cpu_multiply_adds(n * 4096);
        std::hint::black_box(sum);
        (flops, started.elapsed())
    })
}

/// GB/s of nothing but reads on all threads that render, of as much as a folded field is.
fn cpu_read_rate(model: &FaceModel, inputs: &FrameInputs) -> f64 {
    let f = model.fold(inputs);
    let planes = [&f.xy, &f.xz, &f.yz].map(|plane| plane.as_flattened());
    let others = [&f.density[..], f.torso.as_flattened(), f.warp.as_flattened()];
    let numbers: Vec<f32> = planes.into_iter().chain(others).flatten().copied().collect();
    best_rate(|n| {
        let started = Instant::now();
        let (bytes, sum) = render::cpu_reads(&numbers, n);
        std::hint::black_box(sum);
        (bytes, started.elapsed())
    })
}

/// GFLOP/s of nothing but multiply-adds on a graphics device, by its own clock if it has one.
fn gpu_fma_rate(gpu: &Gpu) -> f64 {
    let mut probe = render::MultiplyAdds::new(&gpu.device, &gpu.queue);
    best_rate(|n| {
        let started = Instant::now();
        let flops = probe.submit(&gpu.device, &gpu.queue, n);
        // A device that is lost here is told when the pictures are drawn.
        let _ = gpu.device.poll(wgpu::PollType::wait_indefinitely());
        let took = started.elapsed();
        (flops, probe.gpu_time().unwrap_or(took))
    })
}

/// Billions of operations (or bytes) a second: the best of several tries, each long enough to be
/// measured. `work(n)` does `n` units of it and gives back their number and the time.
fn best_rate(mut work: impl FnMut(u32) -> (u64, Duration)) -> f64 {
    let mut n = 1;
    while work(n).1 < FMA_TIME && n < 1 << 20 {
        n *= 2;
    }
    (0..FMA_TRIES)
        .map(|_| work(n))
        .map(|(flops, took)| flops as f64 * 1e-9 / took.as_secs_f64().max(1e-9))
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_rate_is_that_of_the_fastest_try_of_work_that_is_long_enough() {
        let mut tries = Vec::new();
        let rate = best_rate(|n| {
            tries.push(n);
            // A million operations and ten milliseconds each, at times slower.
            let ms = u64::from(n) * if tries.len() % 2 == 0 { 10 } else { 30 };
            (u64::from(n) * 1_000_000, Duration::from_millis(ms))
        });
        assert!((rate - 0.1).abs() < 1e-9, "{rate} GFLOP/s");
        assert_eq!(tries, [1, 2, 4, 4, 4, 4, 4, 4]);
    }
}
