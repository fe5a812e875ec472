use std::ops::RangeInclusive;
use std::sync::mpsc;

use bytemuck::{Pod, Zeroable, bytes_of, cast_slice};
use types::{MediaTime, SquareFrame};
use wgpu::util::{BufferInitDescriptor, DeviceExt, DownloadBuffer};
use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindingResource, Buffer, BufferUsages,
    COPY_BYTES_PER_ROW_ALIGNMENT, CommandEncoderDescriptor, ComputePassDescriptor, ComputePipeline,
    Device, Queue, Texture, TextureUsages,
};

use crate::frame::ClassicFrame;
use crate::model::ClassicModel;
use crate::ray::{LOG_DENSITY, POSITION_LIMIT, POSITION_SCALE};
use crate::sampling::MASS_FLOOR;
use crate::sizes::NetLayout;

/// WGSL source of the renderer, for tools that check shaders without a GPU.
pub const SHADER: &str = include_str!("../shaders/classic.wgsl");
/// Sides of a picture that can be drawn, in pixels, if the adapter has textures as large.
pub const SIDES: RangeInclusive<u32> = 16..=2048;
/// Side of a workgroup in pixels.
const TILE: u32 = 8;
/// Bytes of a pixel of the picture.
const PIXEL_BYTES: u32 = 4;

/// Why a baseline field cannot be drawn on this device.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClassicRendererError {
    /// The picture is too small or too large. Choose a side inside the range.
    #[error("a picture of {side} pixels a side is outside {min}..={max}")]
    Side { side: u32, min: u32, max: u32 },
    /// The adapter is too small for this field. Use another adapter.
    #[error("the graphics adapter offers {limit} {what}, the field needs {need}")]
    Adapter { what: &'static str, need: u64, limit: u64 },
    /// The device was lost while it drew.
    #[error("the graphics device did not finish the picture: {0}")]
    Poll(#[from] wgpu::PollError),
    /// The picture could not be copied back, usually because the device was lost.
    #[error("the picture could not be read back from the graphics device")]
    ReadBack,
}

/// GPU renderer of a baseline field: one invocation for each pixel, every sample through its
/// network.
///
/// The shader is written to be read and compared, not to be fast: a picture of 256 pixels a side
/// takes about 10¹¹ multiply-adds. It agrees with [`crate::render_classic`].
pub struct ClassicRenderer {
    pipeline: ComputePipeline,
    bindings: BindGroup,
    frame: Buffer,
    biases: Buffer,
    picture: Texture,
    picture_bindings: BindGroup,
}

/// Offsets of a network's parts in the parameter array; see `shaders/classic.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
struct NetUniform {
    first_position: u32,
    second_layer: u32,
    skip_position: u32,
    density: u32,
    density_bias: u32,
    branch: u32,
    branch_direction: u32,
    branch_bias: u32,
    color: u32,
    color_bias: u32,
    skip_extra: u32,
    first_bias: u32,
}

/// Networks, sizes and distances of the field.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct ClassicUniform {
    nets: [NetUniform; 3],
    counts: [u32; 8],
    numbers: [f32; 4],
}

/// Camera center and axes in canonical space; the fourth components are padding.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct ClassicFrameUniform {
    origin: [f32; 4],
    axes: [[f32; 4]; 3],
}

// As WGSL lays them out.
const _: () = assert!(size_of::<NetUniform>() == 48);
const _: () = assert!(size_of::<ClassicUniform>() == 3 * 48 + 48);
const _: () = assert!(size_of::<ClassicFrameUniform>() == 64);

impl NetUniform {
    fn new(net: &NetLayout, skip: usize, first_bias: usize) -> Self {
        let at = |range: &std::ops::Range<usize>| range.start as u32;
        let skip_layer = &net.layers[skip];
        Self {
            first_position: at(&net.layers[0].position),
            second_layer: net.layers.get(1).map_or(0, |layer| at(&layer.hidden)),
            skip_position: at(&skip_layer.position),
            density: at(&net.density),
            density_bias: at(&net.density_bias),
            branch: at(&net.branch),
            branch_direction: at(&net.branch_direction),
            branch_bias: at(&net.branch_bias),
            color: at(&net.color),
            color_bias: at(&net.color_bias),
            skip_extra: (skip_layer.position.len() + skip_layer.condition.len()) as u32,
            first_bias: first_bias as u32,
        }
    }
}

impl ClassicUniform {
    fn new(model: &ClassicModel) -> Self {
        let s = model.sizes();
        let mut nets = [NetUniform::default(); 3];
        for (index, (net, _)) in model.layout().nets(s).enumerate() {
            nets[index] = NetUniform::new(net, s.skip, index * s.depth * s.width);
        }
        let counts =
            [s.width, s.branch(), s.depth, s.skip, s.coarse, s.fine, s.torso, s.background]
                .map(|n| n as u32);
        Self { nets, counts, numbers: [s.focal, s.near, s.far, s.torso_distance] }
    }
}

impl ClassicRenderer {
    /// Uploads a field, to be drawn at `side` pixels.
    ///
    /// # Errors
    /// If the side is outside [`SIDES`] or the adapter is too small for the field.
    pub fn new(
        device: &Device,
        model: &ClassicModel,
        side: u32,
    ) -> Result<Self, ClassicRendererError> {
        check_limits(device, model, side)?;
        let s = model.sizes();
        let texels: Vec<[f32; 4]> =
            model.background().iter().map(|&[r, g, b]| [r, g, b, 0.0]).collect();
        let filled = |label, contents: &[u8], usage| {
            device.create_buffer_init(&BufferInitDescriptor { label: Some(label), contents, usage })
        };
        let writable = |label, size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage: usage | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        let n_biases = model.layout().nets(s).count() * s.depth * s.width;
        let field =
            filled("classic field", bytes_of(&ClassicUniform::new(model)), BufferUsages::UNIFORM);
        let params = filled("classic weights", cast_slice(model.params()), BufferUsages::STORAGE);
        let background = filled("classic background", cast_slice(&texels), BufferUsages::STORAGE);
        let frame = writable(
            "classic frame",
            size_of::<ClassicFrameUniform>() as u64,
            BufferUsages::UNIFORM,
        );
        let biases = writable("classic biases", (n_biases * 4) as u64, BufferUsages::STORAGE);
        let pipeline = compute_pipeline(device);
        let buffers = [&field, &frame, &params, &biases, &background];
        let bindings = bind(device, &pipeline, 0, &buffers.map(Buffer::as_entire_binding));
        let picture = create_picture(device, side);
        let view = picture.create_view(&wgpu::TextureViewDescriptor::default());
        let picture_bindings = bind(device, &pipeline, 1, &[BindingResource::TextureView(&view)]);
        Ok(Self { pipeline, bindings, frame, biases, picture, picture_bindings })
    }

    /// Draws a frame and reads it back, stamped `time`. Waits for the GPU.
    ///
    /// `frame` must come from the model this renderer was made for.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn draw(
        &self,
        device: &Device,
        queue: &Queue,
        frame: &ClassicFrame,
        time: MediaTime,
    ) -> Result<SquareFrame, ClassicRendererError> {
        let padded = |v: [f32; 3]| [v[0], v[1], v[2], 0.0];
        let uniform =
            ClassicFrameUniform { origin: padded(frame.origin), axes: frame.axes.map(padded) };
        queue.write_buffer(&self.frame, 0, bytes_of(&uniform));
        let biases: Vec<f32> =
            frame.nets.iter().flat_map(|net| net.biases.iter().flatten().copied()).collect();
        queue.write_buffer(&self.biases, 0, cast_slice(&biases));

        let side = self.picture.width();
        // Rows of a copy begin at multiples of 256 bytes.
        let row = (side * PIXEL_BYTES).next_multiple_of(COPY_BYTES_PER_ROW_ALIGNMENT);
        let copy = self.submit(device, queue, row);
        let bytes = download(device, queue, &copy)?;
        let rows =
            bytes.chunks_exact(row as usize).map(|row| &row[..(side * PIXEL_BYTES) as usize]);
        let rgb: Vec<u8> = rows
            .flat_map(|row| row.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]))
            .collect();
        SquareFrame::new(side, time, rgb).map_err(|_| ClassicRendererError::ReadBack)
    }

    /// Submits the drawing and a copy of the picture to a buffer with `row` bytes per row.
    fn submit(&self, device: &Device, queue: &Queue, row: u32) -> Buffer {
        let side = self.picture.width();
        let copy = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("classic read-back"),
            size: u64::from(row) * u64::from(side),
            usage: BufferUsages::COPY_DST | BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let mut encoder = device.create_command_encoder(&CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.bindings, &[]);
            pass.set_bind_group(1, &self.picture_bindings, &[]);
            pass.dispatch_workgroups(side.div_ceil(TILE), side.div_ceil(TILE), 1);
        }
        encoder.copy_texture_to_buffer(
            self.picture.as_image_copy(),
            wgpu::TexelCopyBufferInfo {
                buffer: &copy,
                layout: wgpu::TexelCopyBufferLayout {
                    offset: 0,
                    bytes_per_row: Some(row),
                    rows_per_image: None,
                },
            },
            self.picture.size(),
        );
        queue.submit([encoder.finish()]);
        copy
    }
}

/// Waits for the GPU and returns the contents of a buffer.
fn download(
    device: &Device,
    queue: &Queue,
    buffer: &Buffer,
) -> Result<DownloadBuffer, ClassicRendererError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    DownloadBuffer::read_buffer(device, queue, &buffer.slice(..), move |result| {
        // The receiver is gone only if polling failed, which is reported below.
        drop(sender.send(result));
    });
    device.poll(wgpu::PollType::wait_indefinitely())?;
    match receiver.try_recv() {
        Ok(Ok(bytes)) => Ok(bytes),
        _ => Err(ClassicRendererError::ReadBack),
    }
}

/// Checks that the device can draw a field at `side` pixels.
fn check_limits(
    device: &Device,
    model: &ClassicModel,
    side: u32,
) -> Result<(), ClassicRendererError> {
    let limits = device.limits();
    let (min, max) = (*SIDES.start(), limits.max_texture_dimension_2d.min(*SIDES.end()));
    if !(min..=max).contains(&side) {
        return Err(ClassicRendererError::Side { side, min, max });
    }
    let largest = (model.params().len() * 4).max(model.background().len() * 16) as u64;
    for (what, need, limit) in [
        ("bytes in a storage buffer", largest, limits.max_storage_buffer_binding_size),
        ("storage buffers", 3, limits.max_storage_buffers_per_shader_stage.into()),
    ] {
        if limit < need {
            return Err(ClassicRendererError::Adapter { what, need, limit });
        }
    }
    Ok(())
}

/// Creates the texture that the shader draws into.
fn create_picture(device: &Device, side: u32) -> Texture {
    device.create_texture(&wgpu::TextureDescriptor {
        label: Some("classic picture"),
        size: wgpu::Extent3d { width: side, height: side, depth_or_array_layers: 1 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: wgpu::TextureFormat::Rgba8Unorm,
        usage: TextureUsages::STORAGE_BINDING | TextureUsages::COPY_SRC,
        view_formats: &[],
    })
}

/// A pipeline with the layout that the shader declares.
fn compute_pipeline(device: &Device) -> ComputePipeline {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("classic.wgsl"),
        source: wgpu::ShaderSource::Wgsl(SHADER.into()),
    });
    let constants = [
        ("POSITION_SCALE", f64::from(POSITION_SCALE)),
        ("POSITION_LIMIT", f64::from(POSITION_LIMIT)),
        ("MASS_FLOOR", f64::from(MASS_FLOOR)),
        ("LOG_DENSITY_MIN", f64::from(LOG_DENSITY.0)),
        ("LOG_DENSITY_MAX", f64::from(LOG_DENSITY.1)),
    ];
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("classic"),
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &constants,
            ..wgpu::PipelineCompilationOptions::default()
        },
        cache: None,
    })
}

/// Binds `resources` to bindings 0, 1, 2... of a group.
fn bind(
    device: &Device,
    pipeline: &ComputePipeline,
    group: u32,
    resources: &[BindingResource<'_>],
) -> BindGroup {
    let entries: Vec<_> = resources
        .iter()
        .zip(0..)
        .map(|(resource, binding)| BindGroupEntry { binding, resource: resource.clone() })
        .collect();
    device.create_bind_group(&BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(group),
        entries: &entries,
    })
}
