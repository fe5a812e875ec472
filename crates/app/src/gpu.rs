//! Graphics devices, with or without a window.

use std::sync::{Arc, Mutex, PoisonError};

/// Graphics device with its queue and adapter: the window's, or one without a window.
#[derive(Clone)]
pub(crate) struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) info: wgpu::AdapterInfo,
    /// First unrecoverable failure.
    failure: Arc<Mutex<Option<GpuFailure>>>,
}

/// Why a device stopped working.
#[derive(Clone, Debug)]
pub(crate) enum GpuFailure {
    /// It was lost: unplugged, reset, or its driver crashed.
    Lost(String),
    /// It rejected an operation, most likely for lack of memory.
    Failed(String),
}

impl std::fmt::Display for GpuFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost(why) if why.is_empty() => f.write_str("the graphics device was lost"),
            Self::Lost(why) => write!(f, "the graphics device was lost: {why}"),
            Self::Failed(why) => write!(f, "the graphics device failed: {why}"),
        }
    }
}

/// Why no device could be opened.
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
            Self::NoDevice(error) => write!(f, "the graphics adapter cannot be opened: {error}"),
        }
    }
}

impl std::error::Error for GpuError {}

/// Requests all limits of an adapter, since a face and its picture can exceed the defaults.
fn device_descriptor(adapter: &wgpu::Adapter) -> wgpu::DeviceDescriptor<'static> {
    wgpu::DeviceDescriptor {
        label: Some("feathercall"),
        required_features: adapter.features() & render::OPTIONAL_FEATURES,
        required_limits: adapter.limits(),
        ..Default::default()
    }
}

impl Gpu {
    /// Opens the fastest adapter; a software one if there is nothing else.
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
        Ok(Self::new(device, queue, adapter.get_info()))
    }

    /// Shares the window's device, so that pictures need not be read back.
    pub(crate) fn of_window(state: &egui_wgpu::RenderState) -> Self {
        Self::new(state.device.clone(), state.queue.clone(), state.adapter.get_info())
    }

    /// Wraps a device. Its failures are kept for [`Gpu::failure`] instead of causing a panic.
    pub(crate) fn new(device: wgpu::Device, queue: wgpu::Queue, info: wgpu::AdapterInfo) -> Self {
        let failure = Arc::new(Mutex::new(None));
        let lost = Arc::clone(&failure);
        device.set_device_lost_callback(move |_, message| {
            let why = message.trim_end_matches(['.', ' ']).to_owned();
            keep_first(&lost, GpuFailure::Lost(why));
        });
        let failed = Arc::clone(&failure);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            keep_first(&failed, GpuFailure::Failed(error.to_string()));
        }));
        Self { device, queue, info, failure }
    }

    /// Returns why the device stopped working, if it has.
    pub(crate) fn failure(&self) -> Option<GpuFailure> {
        // Does not wait. Losses are only reported while polling.
        let _ = self.device.poll(wgpu::PollType::Poll);
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether the adapter is software, on which shaders are slower than the CPU renderer.
    pub(crate) fn is_software(&self) -> bool {
        self.info.device_type == wgpu::DeviceType::Cpu
    }

    /// Lists the adapters of this computer.
    pub(crate) fn list() -> Vec<wgpu::AdapterInfo> {
        let instance =
            wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
        adapters.iter().map(wgpu::Adapter::get_info).collect()
    }
}

/// Keeps the first failure, but replaces a failed operation by a loss.
fn keep_first(kept: &Mutex<Option<GpuFailure>>, failure: GpuFailure) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if !matches!(*kept, Some(GpuFailure::Lost(_)))
        && (kept.is_none() || matches!(failure, GpuFailure::Lost(_)))
    {
        *kept = Some(failure);
    }
}

/// Configures the window's device: egui chooses the adapter, we the features and limits.
pub(crate) fn window_setup() -> egui_wgpu::WgpuConfiguration {
    let mut configuration = egui_wgpu::WgpuConfiguration::default();
    if let egui_wgpu::WgpuSetup::CreateNew(setup) = &mut configuration.wgpu_setup {
        setup.device_descriptor = Arc::new(device_descriptor);
    }
    configuration
}
