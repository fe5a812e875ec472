//! The graphics device, for a window and without one.

use std::sync::{Arc, Mutex, PoisonError};

/// A device and what is known of it: one of its own, or the window's.
#[derive(Clone)]
pub(crate) struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) info: wgpu::AdapterInfo,
    /// The first thing that went wrong on it for good.
    trouble: Arc<Mutex<Option<Trouble>>>,
}

/// Why nothing more is to be expected of a device.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// It is gone for everybody: taken out, reset, or its driver crashed.
    Lost(String),
    /// It could not do what we asked of it: no memory, most likely.
    Failed(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost(why) if why.is_empty() => f.write_str("the graphics device was lost"),
            Self::Lost(why) => write!(f, "the graphics device was lost: {why}"),
            Self::Failed(why) => write!(f, "the graphics device failed: {why}"),
        }
    }
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
        Ok(Self::new(device, queue, adapter.get_info()))
    }

    /// The window's own, so that its pictures need no read-back.
    pub(crate) fn of_window(state: &egui_wgpu::RenderState) -> Self {
        Self::new(state.device.clone(), state.queue.clone(), state.adapter.get_info())
    }

    /// Watches a device: what goes wrong on it is kept for [`Gpu::trouble`] and is no panic.
    pub(crate) fn new(device: wgpu::Device, queue: wgpu::Queue, info: wgpu::AdapterInfo) -> Self {
        let trouble = Arc::new(Mutex::new(None));
        let lost = Arc::clone(&trouble);
        device.set_device_lost_callback(move |_, message| {
            let why = message.trim_end_matches(['.', ' ']).to_owned();
            keep_first(&lost, Trouble::Lost(why));
        });
        let failed = Arc::clone(&trouble);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            keep_first(&failed, Trouble::Failed(error.to_string()));
        }));
        Self { device, queue, info, trouble }
    }

    /// Why nothing more is to be expected of the device, if so.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        // Waits for nothing; a loss is only told to who asks.
        let _ = self.device.poll(wgpu::PollType::Poll);
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// No hardware: our shaders on it are slower than the CPU renderer.
    pub(crate) fn is_software(&self) -> bool {
        self.info.device_type == wgpu::DeviceType::Cpu
    }

    /// Every adapter of this computer, for `feathercall devices`.
    pub(crate) fn list() -> Vec<wgpu::AdapterInfo> {
        let instance =
            wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
        adapters.iter().map(wgpu::Adapter::get_info).collect()
    }
}

/// A loss counts more than what failed before it.
fn keep_first(trouble: &Mutex<Option<Trouble>>, what: Trouble) {
    let mut trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner);
    if !matches!(*trouble, Some(Trouble::Lost(_)))
        && (trouble.is_none() || matches!(what, Trouble::Lost(_)))
    {
        *trouble = Some(what);
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
