//! The field on the GPU.

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

use crate::error::RenderError;
use crate::folding::Folding;
use crate::gpu_layout::{FieldUniform, FrameUniform, network_matrices};
use crate::limits::{MAX_SIDE, MIN_SIDE, check_limits};
use crate::pipeline::{bind, compute_pipeline};
use crate::precision::Precision;
use crate::read_back::ReadBacks;
use crate::shaders::PICTURE;
use crate::timer::GpuTimer;

/// Side of the image of a new renderer, pixels.
const FIRST_SIDE: u32 = 256;
/// Side of a workgroup of the picture pass: rows of 16 neighboring pixels read neighboring texels,
/// and 256 pixels share one copy of the network.
const TILE: u32 = 16;

/// Renderer of one face model on a GPU.
pub struct Renderer {
    folding: Folding,
    pipeline: ComputePipeline,
    bindings: BindGroup,
    frame: Buffer,
    n_samples: u32,
    max_side: u32,
    picture: PictureTarget,
    /// Target of the next render, if its size differs.
    next_picture: Option<PictureTarget>,
    read_backs: ReadBacks,
    timer: Option<GpuTimer>,
}

/// Target of the picture pass.
pub(crate) struct PictureTarget {
    texture: Texture,
    view: TextureView,
    bindings: BindGroup,
}

impl Renderer {
    /// Uploads a face model in the precision that is [fastest](Precision::best_for) on the device.
    ///
    /// The first image is black, with a side of 256 pixels or the adapter's maximum.
    ///
    /// # Errors
    /// If a limit of the adapter is too low for the model.
    pub fn new(device: &Device, queue: &Queue, model: &FaceModel) -> Result<Self, RenderError> {
        Self::with_precision(device, queue, model, Precision::best_for(device))
    }

    /// Uploads a face model in a given precision.
    ///
    /// # Errors
    /// If a limit of the adapter is too low for the model, or the device does not support the
    /// precision.
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
            picture: PictureTarget::new(device, &pipeline, side),
            next_picture: None,
            pipeline,
            read_backs: ReadBacks::default(),
            timer: GpuTimer::new(device, queue),
        })
    }

    /// Changes the side of the image, pixels, from the next [`Renderer::render`] on. Until then the
    /// old image stays; afterwards [`Renderer::texture_view`] returns another view.
    ///
    /// Allocates everything the new size needs, so the next image is not delayed.
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
            self.next_picture = Some(PictureTarget::new(device, &self.pipeline, side));
        }
        Ok(())
    }

    /// Sets the number of samples on a ray, clamped to 1..=[`face::MAX_SAMPLES`]. Initially
    /// [`face::DEFAULT_SAMPLES`].
    pub fn set_samples(&mut self, n_samples: u32) {
        self.n_samples = n_samples;
    }

    /// Submits the work of one image without waiting: folds the code into the field, then traces
    /// every pixel.
    ///
    /// `inputs` must come from the model that this renderer was made for; those of another model
    /// give a meaningless image.
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
            timer.handle_submission();
        }
    }

    /// Returns the side of the image, pixels.
    pub fn side(&self) -> u32 {
        self.picture.side()
    }

    /// Returns the image: `rgba8unorm`, display sRGB values, alpha one, row 0 at the top.
    ///
    /// It can be bound as a texture and copied from. The first [`Renderer::render`] after a
    /// [`Renderer::resize`] replaces it.
    pub fn texture(&self) -> &Texture {
        &self.picture.texture
    }

    /// Returns a view of [`Renderer::texture`].
    pub fn texture_view(&self) -> &TextureView {
        &self.picture.view
    }

    /// Reads the image back as a frame with media time `time`, waiting for the GPU. Earlier
    /// read-backs still in progress are discarded.
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

    /// Starts to read the image back without waiting; [`Renderer::finish_read_back`] returns it.
    /// Several read-backs can be in progress while rendering continues.
    pub fn start_read_back(&mut self, device: &Device, queue: &Queue, time: MediaTime) {
        self.read_backs.start(device, queue, &self.picture.texture, time);
    }

    /// Waits for the oldest read-back in progress.
    ///
    /// # Errors
    /// If none was started, or the device is lost.
    pub fn finish_read_back(&mut self, device: &Device) -> Result<SquareFrame, RenderError> {
        self.read_backs.finish(device)
    }

    /// Returns the number of read-backs started and not finished.
    pub fn pending_read_backs(&self) -> usize {
        self.read_backs.len()
    }

    /// Returns whether the device supports [`Renderer::gpu_time`].
    pub fn can_time(&self) -> bool {
        self.timer.is_some()
    }

    /// Returns how long the GPU worked on a recent image, usually not the newest, folding included.
    /// `None` without `TIMESTAMP_QUERY`, or until the first measurement has arrived.
    pub fn gpu_time(&mut self) -> Option<Duration> {
        self.timer.as_mut().and_then(GpuTimer::last)
    }
}

impl PictureTarget {
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
