//! The graphics device, for a window and without one.

use std::sync::Arc;

/// A device without a window.
pub(crate) struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) info: wgpu::AdapterInfo,
}

/// Why there is no device to render with.
#[derive(Debug)]
pub(crate) enum GpuError {
    NoAdapter,
    NoDevice(wgpu::RequestDeviceError),
}

impl std::fmt::Display for GpuError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoAdapter => f.write_str(
                "no graphics adapter found: install a Vulkan driver (mesa-vulkan-drivers has a software one)",
            ),
            Self::NoDevice(error) => write!(f, "the graphics adapter refused to work: {error}"),
        }
    }
}

impl std::error::Error for GpuError {}

/// What to ask an adapter for: every limit it has, because a face and its picture are larger than
/// the smallest defaults.
fn device_descriptor(adapter: &wgpu::Adapter) -> wgpu::DeviceDescriptor<'static> {
    wgpu::DeviceDescriptor {
        label: Some("feathercall"),
        required_features: adapter.features() & render::OPTIONAL_FEATURES,
        required_limits: adapter.limits(),
        ..Default::default()
    }
}

impl Gpu {
    /// The fastest adapter there is; a software one if there is nothing else.
    pub(crate) fn headless() -> Result<Self, GpuError> {
        let instance =
            wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        }))
        .map_err(|_| GpuError::NoAdapter)?;
        let (device, queue) =
            pollster::block_on(adapter.request_device(&device_descriptor(&adapter)))
                .map_err(GpuError::NoDevice)?;
        Ok(Self { device, queue, info: adapter.get_info() })
    }

    /// Every adapter of this computer, for `feathercall devices`.
    pub(crate) fn list() -> Vec<wgpu::AdapterInfo> {
        let instance =
            wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
        adapters.iter().map(wgpu::Adapter::get_info).collect()
    }
}

/// How a window makes its device: egui's own choice of adapter, with our features and limits.
pub(crate) fn window_setup() -> egui_wgpu::WgpuConfiguration {
    let mut configuration = egui_wgpu::WgpuConfiguration::default();
    if let egui_wgpu::WgpuSetup::CreateNew(setup) = &mut configuration.wgpu_setup {
        setup.device_descriptor = Arc::new(device_descriptor);
    }
    configuration
}
