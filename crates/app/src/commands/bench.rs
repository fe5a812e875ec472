//! `feathercall bench`

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use eval::{BenchRow, PictureRow};
use face::{FaceFile, FaceModel, FrameInputs};
use types::Feature;

use super::stream::AtRate;
use crate::cli::BenchPart;
use crate::face_files;
use crate::face_renderer::FaceRenderer;
use crate::gpu::Gpu;

/// Sides of the rendered pictures, pixels.
const SIDES: [u32; 4] = [128, 256, 512, 1024];
/// Pictures of the actor at each size; fewer if they take longer than [`MAX_DURATION`].
const N_FRAMES: usize = 60;
/// Pictures per second of a recorded stream: the refresh rate of most displays.
const STREAM_FPS: u32 = 60;
/// Most pictures of a recorded stream: two minutes.
const MAX_STREAM_FRAMES: usize = 7200;
/// Time limit at each size.
const MAX_DURATION: Duration = Duration::from_secs(8);
/// Side of the picture whose rays are counted, pixels.
const COUNTED_SIDE: u32 = 256;
/// Shortest run of a peak rate measurement.
const PEAK_TIME: Duration = Duration::from_millis(50);
/// Runs of a peak rate measurement; the fastest counts.
const PEAK_TRIES: u32 = 5;

/// Measures the speed of one part of the program.
pub(super) fn run(
    part: BenchPart,
    face: Option<&Path>,
    stream: Option<&Path>,
    samples: u32,
    is_json: bool,
) -> anyhow::Result<()> {
    let file = face_files::read_or_demo(face)?;
    anyhow::ensure!(
        stream.is_none() || matches!(part, BenchPart::Render | BenchPart::Fields),
        "--stream only applies to `bench render` and `bench fields`; tracker and codec are measured on the actor"
    );
    let shown = |n: usize| match stream {
        Some(path) => stream_features(path, &file),
        None => eval::actor_features(&file, n),
    };
    let rows = match part {
        BenchPart::Render => render(&shown(N_FRAMES)?, &file.model.into(), samples)?,
        BenchPart::Track => eval::bench_track(&file)?,
        BenchPart::Codec => eval::bench_codec(&file)?,
        BenchPart::Fields => super::bench_fields::fields(
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
            row.picture.as_ref().map(describe).unwrap_or_default()
        );
    }
    if !is_json {
        print_rates(&rows);
        print_stages(&rows);
        print_ratios(&rows);
    }
    Ok(())
}

/// Returns the first features of a recorded stream.
fn stream_features(path: &Path, file: &FaceFile) -> anyhow::Result<Vec<Feature>> {
    let features = AtRate::new(super::stream::open(path, file)?, STREAM_FPS);
    features
        .take(MAX_STREAM_FRAMES)
        .collect::<Result<_, _>>()
        .with_context(|| format!("cannot decode the stream {}", path.display()))
}

fn describe(picture: &PictureRow) -> String {
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
        println!("reading a folded field: {rate:.0} GB/s");
    }
}

/// Prints how many times as long as the first field each other one takes.
fn print_ratios(rows: &[BenchRow]) {
    let mut fields = rows.iter().filter(|row| row.what == "field");
    let Some(first) = fields.next() else { return };
    for row in fields {
        println!("{}: {:.1} times {}", row.path, row.ms_median / first.ms_median, first.path);
    }
}

/// Prints the work in a picture by stage, once for each size, since it is the same for every path.
fn print_stages(rows: &[BenchRow]) {
    for side in SIDES {
        let row = rows.iter().find(|row| row.resolution == Some(side) && row.picture.is_some());
        let Some(picture) = row.and_then(|row| row.picture.as_ref()) else { continue };
        let (in_box, on_head) = (100.0 * picture.rays_in_box, 100.0 * picture.rays_on_head);
        println!(
            "work at {side} px: {in_box:.0} % of the rays cross the head box, {on_head:.0} % hit the head"
        );
        for stage in &picture.stages {
            println!("  {:<8} {:9.4} GFLOP  {:9.2} MB", stage.stage, stage.gflop, stage.mb);
        }
    }
}

/// Measures rendering a picture and reading it back, on every path of this machine.
fn render(
    features: &[Feature],
    model: &Arc<FaceModel>,
    samples: u32,
) -> anyhow::Result<Vec<BenchRow>> {
    let middle = model.frame_inputs(&features[features.len() / 2]);
    let rays = face::Rays::count(model, &middle, COUNTED_SIDE);
    let mut renderers = vec![
        FaceRenderer::on_cpu(Arc::clone(model)),
        FaceRenderer::by_definition(Arc::clone(model)),
    ];
    match Gpu::headless() {
        Ok(gpu) => match FaceRenderer::on_gpu(Arc::clone(model), gpu) {
            Ok(renderer) => renderers.insert(0, renderer),
            Err(error) => eprintln!("feathercall: {error}"),
        },
        Err(error) => eprintln!("feathercall: {error}"),
    }
    let mut rows = Vec::new();
    for renderer in &mut renderers {
        let rates = match renderer.gpu() {
            Some(gpu) => (gpu_fma_rate(gpu), None),
            None => (cpu_fma_rate(), Some(cpu_read_rate(model, &middle))),
        };
        renderer.set_samples(samples);
        for side in SIDES {
            renderer.set_side(side);
            renderer.render_frame(&features[0])?;
            let started = Instant::now();
            let (mut times, mut gpu_times) = (Vec::new(), Vec::new());
            for feature in features {
                let before = Instant::now();
                let frame = renderer.render_frame(feature)?;
                times.push(before.elapsed());
                gpu_times.extend(renderer.gpu_time());
                assert_eq!(frame.side(), side, "the requested size was rendered");
                if started.elapsed() > MAX_DURATION {
                    break;
                }
            }
            let mut row = BenchRow::new("render", renderer.name(), Some(side), &mut times);
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

/// Measures the peak rate of multiply-adds in SIMD lanes on all rendering threads, GFLOP/s.
fn cpu_fma_rate() -> f64 {
    best_rate(|n| {
        let started = Instant::now();
        let (flops, sum) = render::cpu_multiply_adds(n * 4096);
        std::hint::black_box(sum);
        (flops, started.elapsed())
    })
}

/// Measures the peak rate of reading as much data as a folded field has on all rendering threads,
/// GB/s.
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

/// Measures the peak rate of multiply-adds on a graphics device, by its timestamps if it has them,
/// GFLOP/s.
fn gpu_fma_rate(gpu: &Gpu) -> f64 {
    let mut probe = render::MultiplyAdds::new(&gpu.device, &gpu.queue);
    best_rate(|n| {
        let started = Instant::now();
        let flops = probe.submit(&gpu.device, &gpu.queue, n);
        // A lost device is reported when pictures are rendered.
        let _ = gpu.device.poll(wgpu::PollType::wait_indefinitely());
        let took = started.elapsed();
        (flops, probe.gpu_time().unwrap_or(took))
    })
}

/// Returns the highest of several measured rates, 10⁹ operations (or bytes) per second.
///
/// `work(n)` does `n` steps and returns their operations and duration; `n` is doubled until a run is
/// long enough to be measured.
fn best_rate(mut work: impl FnMut(u32) -> (u64, Duration)) -> f64 {
    let mut n = 1;
    while work(n).1 < PEAK_TIME && n < 1 << 20 {
        n *= 2;
    }
    (0..PEAK_TRIES)
        .map(|_| work(n))
        .map(|(flops, took)| flops as f64 * 1e-9 / took.as_secs_f64().max(1e-9))
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_of_several_long_runs_gives_the_rate() {
        let mut tries = Vec::new();
        let rate = best_rate(|n| {
            tries.push(n);
            // A million operations in ten milliseconds per step, or in thirty.
            let ms = u64::from(n) * if tries.len() % 2 == 0 { 10 } else { 30 };
            (u64::from(n) * 1_000_000, Duration::from_millis(ms))
        });
        assert!((rate - 0.1).abs() < 1e-9, "{rate} GFLOP/s");
        assert_eq!(tries, [1, 2, 4, 4, 4, 4, 4, 4]);
    }
}
