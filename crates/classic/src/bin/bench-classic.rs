//! Compares the time to draw a picture of the baseline field with that of the product's field.
//!
//! ```text
//! cargo run --release -p classic --bin bench-classic
//! ```
//!
//! Both are untrained, because the work does not depend on the parameters, and both are drawn by
//! their definitions on the CPU, which use all cores.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures wall-clock time")]

use std::time::Instant;

use classic::{ClassicModel, ClassicSizes, render_classic};
use face::{DEFAULT_SAMPLES, FaceModel, Sizes, render_cpu};
use glam::Vec3;
use types::{Code, Feature, HeadPose, MediaTime};

/// Side of the pictures in pixels.
const SIDE: u32 = 256;
/// Pictures of the product's field and of the much slower baseline.
const N_PICTURES: (usize, usize) = (20, 3);

fn main() -> anyhow::Result<()> {
    let pose = HeadPose::new(Vec3::new(0.0, 0.2, 0.0), Vec3::new(0.0, 0.0, 1.1))?;
    let feature = Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL };

    let model = FaceModel::untrained(Sizes::for_side(SIDE), 1);
    let product_ms = median_ms(N_PICTURES.0, || {
        render_cpu(&model, &model.frame_inputs(&feature), SIDE, DEFAULT_SAMPLES);
    });
    let classic = ClassicModel::untrained(ClassicSizes::small(), 1);
    let classic_ms = median_ms(N_PICTURES.1, || {
        render_classic(&classic, &classic.frame(&feature.pose, feature.code.as_array()), SIDE);
    });
    println!("product's field, definition     {product_ms:10.2} ms");
    println!(
        "baseline field, definition      {classic_ms:10.2} ms  {:.0} times, {:.1} G multiply-adds",
        classic_ms / product_ms,
        classic.sizes().multiply_adds(SIDE) as f64 / 1e9
    );
    Ok(())
}

/// Median time of `draw` in milliseconds over `n` calls, `n > 0`.
fn median_ms(n: usize, mut draw: impl FnMut()) -> f64 {
    let mut times: Vec<_> = (0..n)
        .map(|_| {
            let started = Instant::now();
            draw();
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[n / 2].as_secs_f64() * 1e3
}
