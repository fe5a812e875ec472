use std::time::Duration;

use face::{FaceModel, FrameInputs};
use types::{MediaTime, SquareFrame};
use wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu::{
    AddressMode, BindGroup, BindingResource, Buffer, BufferUsages, CommandEncoderDescriptor,
    ComputePassDescriptor, ComputePipeline, Device, DeviceType, Extent3d, Features, FilterMode,
    Queue, SamplerDescriptor, Texture, TextureDescriptor, TextureDimension, TextureFormat,
    TextureUsages, TextureView, TextureViewDescriptor,
};

use crate::RenderError;
use crate::folding::{Folding, bind, compute_pipeline};
use crate::gpu_layout::{FieldUniform, FrameUniform, NETWORK_MATRICES, network_matrices};
use crate::read_back::ReadBacks;
use crate::shaders::PICTURE;
use crate::timer::GpuTimer;

/// Smallest side of a picture, pixels.
pub const MIN_SIDE: u32 = 16;
/// Largest side of a picture, pixels.
pub const MAX_SIDE: u32 = 2048;
/// Side of the picture of a new renderer, pixels.
const FIRST_SIDE: u32 = 256;
/// Sides of a workgroup of the picture pass: rows of 16 neighbours read neighbouring texels, and
/// 256 pixels share one copy of the network.
const TILE: u32 = 16;

/// Features that a device may have for this crate's sake; all work is possible without them.
///
/// `FLOAT32_FILTERABLE` allows [`Precision::Float`], `TIMESTAMP_QUERY` allows
/// [`Renderer::gpu_time`]. Ask for `adapter.features() & OPTIONAL_FEATURES`.
pub const OPTIONAL_FEATURES: Features =
    Features::FLOAT32_FILTERABLE.union(Features::TIMESTAMP_QUERY);

/// In which floats the folded field is kept on the GPU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Precision {
    /// 16 bits: works on every GPU, half the memory traffic; within two levels of 8-bit color.
    Half,
    /// 32 bits: faster on software adapters. Needs `FLOAT32_FILTERABLE`.
    Float,
}

impl Precision {
    /// The faster one of those a device can do.
    pub fn best_for(device: &Device) -> Self {
        let filterable = device.features().contains(Features::FLOAT32_FILTERABLE);
        if filterable && device.adapter_info().device_type == DeviceType::Cpu {
            Self::Float
        } else {
            Self::Half
        }
    }

    pub(crate) fn picture_format(self) -> TextureFormat {
        match self {
            Self::Half => TextureFormat::Rgba16Float,
            Self::Float => TextureFormat::Rgba32Float,
        }
    }

    pub(crate) fn volume_format(self) -> TextureFormat {
        match self {
            Self::Half => TextureFormat::Rgba16Float,
            Self::Float => TextureFormat::R32Float,
        }
    }
}

/// Draws one face model.
pub struct Renderer {
    folding: Folding,
    pipeline: ComputePipeline,
    bindings: BindGroup,
    frame: Buffer,
    n_samples: u32,
    max_side: u32,
    picture: Picture,
    /// What the next render draws into, if it has another size.
    next_picture: Option<Picture>,
    read_backs: ReadBacks,
    timer: Option<GpuTimer>,
}

/// What is drawn into.
pub(crate) struct Picture {
    texture: Texture,
    view: TextureView,
    bindings: BindGroup,
}

impl Renderer {
    /// Uploads a face model, in the precision that is [best](Precision::best_for) for the device.
    ///
    /// The first picture is 256 pixels a side (or what the adapter allows) and black.
    ///
    /// # Errors
    /// If the adapter's limits are too small for the model.
    pub fn new(device: &Device, queue: &Queue, model: &FaceModel) -> Result<Self, RenderError> {
        Self::with_precision(device, queue, model, Precision::best_for(device))
    }

    /// Uploads a face model.
    ///
    /// # Errors
    /// If the adapter's limits are too small for the model, or the device cannot filter full
    /// floats and they are asked for.
    pub fn with_precision(
        device: &Device,
        queue: &Queue,
        model: &FaceModel,
        precision: Precision,
    ) -> Result<Self, RenderError> {
        check_limits(device, model)?;
        if precision == Precision::Float
            && !device.features().contains(Features::FLOAT32_FILTERABLE)
        {
            return Err(RenderError::Precision);
        }
        let sampler = device.create_sampler(&SamplerDescriptor {
            label: Some("field"),
            address_mode_u: AddressMode::ClampToEdge,
            address_mode_v: AddressMode::ClampToEdge,
            address_mode_w: AddressMode::ClampToEdge,
            mag_filter: FilterMode::Linear,
            min_filter: FilterMode::Linear,
            ..SamplerDescriptor::default()
        });
        let (folding, textures) = Folding::new(device, queue, model, precision, &sampler);
        let pipeline = picture_pipeline(device, precision);

        let buffer = |label, contents: &[u8], usage| {
            device.create_buffer_init(&BufferInitDescriptor { label: Some(label), contents, usage })
        };
        let field =
            buffer("field", bytemuck::bytes_of(&FieldUniform::new(model)), BufferUsages::UNIFORM);
        let network = buffer(
            "network",
            bytemuck::cast_slice(&network_matrices(model)),
            BufferUsages::STORAGE,
        );
        let frame = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("frame"),
            size: size_of::<FrameUniform>() as u64,
            usage: BufferUsages::UNIFORM | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let bindings = bind(
            device,
            &pipeline,
            0,
            &[
                field.as_entire_binding(),
                frame.as_entire_binding(),
                network.as_entire_binding(),
                BindingResource::TextureView(&textures.density),
                BindingResource::TextureView(&textures.plane_xy),
                BindingResource::TextureView(&textures.plane_z),
                BindingResource::TextureView(&textures.warp),
                BindingResource::TextureView(&textures.torso),
                BindingResource::TextureView(&textures.flow),
                BindingResource::TextureView(&textures.background),
                BindingResource::Sampler(&sampler),
            ],
        );
        let max_side = device.limits().max_texture_dimension_2d.min(MAX_SIDE);
        let side = FIRST_SIDE.min(max_side);
        Ok(Self {
            folding,
            bindings,
            frame,
            n_samples: face::DEFAULT_SAMPLES,
            max_side,
            picture: Picture::new(device, &pipeline, side),
            next_picture: None,
            pipeline,
            read_backs: ReadBacks::default(),
            timer: GpuTimer::new(device, queue),
        })
    }

    /// Asks for another picture size, from the next [`Renderer::render`] on. Until then the old
    /// picture stays; after it [`Renderer::texture_view`] is another view.
    ///
    /// All that the new size needs is made here, so the next picture is not later than others.
    ///
    /// # Errors
    /// If the side is outside [`MIN_SIDE`]..=[`MAX_SIDE`] or too large for the adapter.
    pub fn resize(&mut self, device: &Device, side: u32) -> Result<(), RenderError> {
        if !(MIN_SIDE..=self.max_side).contains(&side) {
            return Err(RenderError::Side { side, min: MIN_SIDE, max: self.max_side });
        }
        if side == self.side() {
            self.next_picture = None;
        } else if self.next_picture.as_ref().is_none_or(|picture| picture.side() != side) {
            self.next_picture = Some(Picture::new(device, &self.pipeline, side));
        }
        Ok(())
    }

    /// Sets how many samples of equal mass a ray takes: clamped to 1..=[`face::MAX_SAMPLES`].
    /// New renderers take [`face::DEFAULT_SAMPLES`].
    pub fn set_samples(&mut self, n_samples: u32) {
        self.n_samples = n_samples;
    }

    /// Submits the drawing of one frame: folds its code into the field, then draws every pixel.
    ///
    /// Waits for nothing. `inputs` must come from the model this renderer was made for; those of
    /// another draw nonsense.
    pub fn render(&mut self, device: &Device, queue: &Queue, inputs: &FrameInputs) {
        if let Some(picture) = self.next_picture.take() {
            self.picture = picture;
        }
        self.folding.write(queue, inputs);
        let frame = FrameUniform::new(inputs, self.n_samples);
        queue.write_buffer(&self.frame, 0, bytemuck::bytes_of(&frame));

        let mut encoder = device.create_command_encoder(&CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor {
                label: Some("face"),
                timestamp_writes: self.timer.as_ref().map(GpuTimer::writes),
            });
            self.folding.encode(&mut pass);
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.bindings, &[]);
            pass.set_bind_group(1, &self.picture.bindings, &[]);
            let workgroups = self.side().div_ceil(TILE);
            pass.dispatch_workgroups(workgroups, workgroups, 1);
        }
        if let Some(timer) = &self.timer {
            timer.resolve(&mut encoder);
        }
        queue.submit([encoder.finish()]);
        if let Some(timer) = &mut self.timer {
            timer.submitted();
        }
    }

    /// Side of the picture, pixels.
    pub fn side(&self) -> u32 {
        self.picture.side()
    }

    /// The picture: `rgba8unorm`, display sRGB values, alpha one; row 0 on top.
    ///
    /// May be bound as a texture and copied from. Another one after a [`Renderer::resize`].
    pub fn texture(&self) -> &Texture {
        &self.picture.texture
    }

    /// A view of [`Renderer::texture`].
    pub fn texture_view(&self) -> &TextureView {
        &self.picture.view
    }

    /// Brings the picture back as a frame that shows the moment `time`. Waits for the GPU.
    /// Earlier read-backs still under way are dropped.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn read_back(
        &mut self,
        device: &Device,
        queue: &Queue,
        time: MediaTime,
    ) -> Result<SquareFrame, RenderError> {
        self.start_read_back(device, queue, time);
        while self.read_backs.len() > 1 {
            self.read_backs.finish(device)?;
        }
        self.read_backs.finish(device)
    }

    /// Starts bringing the picture back, without waiting; [`Renderer::finish_read_back`] delivers.
    /// Several may be under way, so that drawing goes on meanwhile.
    pub fn start_read_back(&mut self, device: &Device, queue: &Queue, time: MediaTime) {
        self.read_backs.start(device, queue, &self.picture.texture, time);
    }

    /// Waits for the oldest read-back under way.
    ///
    /// # Errors
    /// If none was started, or the device is lost.
    pub fn finish_read_back(&mut self, device: &Device) -> Result<SquareFrame, RenderError> {
        self.read_backs.finish(device)
    }

    /// Read-backs started and not finished.
    pub fn read_backs_under_way(&self) -> usize {
        self.read_backs.len()
    }

    /// Whether [`Renderer::gpu_time`] will know.
    pub fn can_time(&self) -> bool {
        self.timer.is_some()
    }

    /// How long the GPU worked on a recent picture, folding included. `None` without
    /// `TIMESTAMP_QUERY`, and before the first picture is known to be done.
    pub fn gpu_time(&mut self) -> Option<Duration> {
        self.timer.as_mut().and_then(GpuTimer::last)
    }
}

impl Picture {
    pub(crate) fn new(device: &Device, pipeline: &ComputePipeline, side: u32) -> Self {
        let texture = device.create_texture(&TextureDescriptor {
            label: Some("picture"),
            size: Extent3d { width: side, height: side, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: TextureDimension::D2,
            format: TextureFormat::Rgba8Unorm,
            usage: TextureUsages::STORAGE_BINDING
                | TextureUsages::TEXTURE_BINDING
                | TextureUsages::COPY_SRC,
            view_formats: &[],
        });
        let view = texture.create_view(&TextureViewDescriptor::default());
        let bindings = bind(device, pipeline, 1, &[BindingResource::TextureView(&view)]);
        Self { texture, view, bindings }
    }

    pub(crate) fn side(&self) -> u32 {
        self.texture.width()
    }
}

fn picture_pipeline(device: &Device, precision: Precision) -> ComputePipeline {
    let constants = [
        ("TILE_X", f64::from(TILE)),
        ("TILE_Y", f64::from(TILE)),
        ("MIN_MASS", f64::from(face::MIN_MASS)),
        ("LOG_DENSITY_MIN", f64::from(face::LOG_DENSITY.0)),
        ("LOG_DENSITY_MAX", f64::from(face::LOG_DENSITY.1)),
        ("LOGIT_SCALE", f64::from(face::LOGIT_SCALE)),
        ("MEAN_FLOOR", f64::from(face::MEAN_FLOOR)),
        ("SHADE_ALL", f64::from(u8::from(device.adapter_info().device_type == DeviceType::Cpu))),
    ];
    compute_pipeline(device, &PICTURE, precision, &constants)
}

/// Everything asked of an adapter, so that nothing fails later.
fn check_limits(device: &Device, model: &FaceModel) -> Result<(), RenderError> {
    let (limits, s) = (device.limits(), model.sizes());
    let largest_picture = [s.plane_xy, s.torso_width, s.torso_height, s.background];
    let largest_buffer = [
        s.n_expression * s.expression_xy.pow(2) * 32,
        s.n_expression * s.expression_z.pow(2) * 64,
        s.n_density * s.density_expression.pow(3) * 16,
        s.plane_xy.pow(2) * 32,
        s.torso_width * s.torso_height * 16,
        s.density.pow(3) * 4,
        s.background.pow(2) * 16,
    ];
    let largest = |of: &[usize]| of.iter().copied().max().unwrap_or(0) as u64;
    let network = (NETWORK_MATRICES * 64) as u64;
    for (what, need, limit) in [
        ("invocations in a workgroup", 256, limits.max_compute_invocations_per_workgroup.into()),
        ("bytes of workgroup memory", network, limits.max_compute_workgroup_storage_size.into()),
        ("storage textures", 1, limits.max_storage_textures_per_shader_stage.into()),
        ("storage buffers", 2, limits.max_storage_buffers_per_shader_stage.into()),
        ("sampled textures", 7, limits.max_sampled_textures_per_shader_stage.into()),
        (
            "pixels along a volume texture",
            s.density.max(s.density_expression) as u64,
            limits.max_texture_dimension_3d.into(),
        ),
        (
            "pixels along a texture",
            largest(&largest_picture).max(MIN_SIDE.into()),
            limits.max_texture_dimension_2d.into(),
        ),
        (
            "bytes in a storage buffer",
            largest(&largest_buffer),
            limits.max_storage_buffer_binding_size,
        ),
    ] {
        if limit < need {
            return Err(RenderError::Adapter { what, need, limit });
        }
    }
    Ok(())
}
