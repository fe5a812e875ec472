//! A graphics device without a window.

use std::sync::OnceLock;

/// A device, its queue, and what it is.
pub struct Gpu {
    /// The device, with the optional features of `render` that the adapter has.
    pub device: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
    /// Name and kind of the adapter.
    pub info: wgpu::AdapterInfo,
}

/// The device for all tests of a process, software adapters included; `None`, with a word on
/// stderr, where there is none. Under `REQUIRE_GPU=1` its absence is a failure.
///
/// # Panics
/// If a device is required and there is none.
pub fn for_tests() -> Option<&'static Gpu> {
    static GPU: OnceLock<Result<Gpu, String>> = OnceLock::new();
    // The defaults of every browser and of egui: what runs here runs in the window.
    let gpu = GPU.get_or_init(|| pollster::block_on(open(wgpu::Limits::default())));
    gpu.as_ref().map_err(|why| skip(why)).ok()
}

/// As [`for_tests`], a new device with other limits.
///
/// # Panics
/// If a device is required and there is none.
pub fn with_limits(limits: wgpu::Limits) -> Option<Gpu> {
    pollster::block_on(open(limits)).map_err(|why| skip(&why)).ok()
}

fn skip(why: &str) {
    let required = std::env::var("REQUIRE_GPU").is_ok_and(|value| value == "1");
    assert!(!required, "REQUIRE_GPU=1, but {why}");
    eprintln!("skipped: {why}");
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
        .map_err(|error| format!("{} gives no device: {error}", info.name))?;
    Ok(Gpu { device, queue, info })
}
