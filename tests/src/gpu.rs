//! A graphics device without a window.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Device, queue and adapter description.
pub struct Gpu {
    /// Device with those optional features of `render` that the adapter supports.
    pub device: wgpu::Device,
    /// Queue of the device.
    pub queue: wgpu::Queue,
    /// Name and kind of the adapter.
    pub info: wgpu::AdapterInfo,
}

/// Returns the device that all tests of a process share; software adapters count.
///
/// Without an adapter it returns `None` and reports the calling test as skipped.
///
/// # Panics
/// If there is no adapter and `REQUIRE_GPU=1` is set.
pub fn for_tests() -> Option<&'static Gpu> {
    static GPU: OnceLock<Result<Gpu, String>> = OnceLock::new();
    // The defaults of every browser and of egui: what runs here runs in the window.
    let gpu = GPU.get_or_init(|| pollster::block_on(open(wgpu::Limits::default())));
    gpu.as_ref().map_err(|why| skip(why)).ok()
}

/// Opens a device of its own for a test that needs these limits; otherwise like [`for_tests`].
///
/// # Panics
/// If there is no adapter and `REQUIRE_GPU=1` is set.
pub fn with_limits(limits: wgpu::Limits) -> Option<Gpu> {
    pollster::block_on(open(limits)).map_err(|why| skip(&why)).ok()
}

/// Reports the calling test as skipped: on standard error with a running count, and in the file
/// that `cargo xtask test` names in `SKIPPED_TESTS` in order to print the total.
///
/// # Panics
/// If `REQUIRE_GPU=1` is set.
pub fn skip(why: &str) {
    static N_SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let required = std::env::var("REQUIRE_GPU").is_ok_and(|value| value == "1");
    assert!(!required, "REQUIRE_GPU=1, but {why}");
    let n_skipped = N_SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    // The test runner names each thread for its test.
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: {why}", thread.name().unwrap_or("a test"));
    // Not `eprintln!`: the test runner hides what passing tests print.
    writeln!(io::stderr(), "{line} ({n_skipped} so far)").expect("standard error is writable");
    if let Some(path) = std::env::var_os("SKIPPED_TESTS") {
        let mut file =
            OpenOptions::new().append(true).open(path).expect("the file of xtask exists");
        writeln!(file, "{line}").expect("the file of xtask is writable");
    }
}

async fn open(limits: wgpu::Limits) -> Result<Gpu, String> {
    let instance =
        wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = instance
        .request_adapter(&wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..wgpu::RequestAdapterOptions::default()
        })
        .await
        .map_err(|error| format!("there is no graphics adapter: {error}"))?;
    let info = adapter.get_info();
    let (device, queue) = adapter
        .request_device(&wgpu::DeviceDescriptor {
            label: Some("tests"),
            required_features: adapter.features() & render::OPTIONAL_FEATURES,
            required_limits: limits,
            ..wgpu::DeviceDescriptor::default()
        })
        .await
        .map_err(|error| format!("{} provides no device: {error}", info.name))?;
    Ok(Gpu { device, queue, info })
}
