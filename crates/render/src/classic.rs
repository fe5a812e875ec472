use bytemuck::{Pod, Zeroable, bytes_of, cast_slice};
use face::{ClassicFrame, ClassicModel, NetLayout};
use types::{Frame, MediaTime};
use wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu::{
    BindGroup, Buffer, BufferUsages, CommandEncoderDescriptor, ComputePassDescriptor,
    ComputePipeline, Device, Queue,
};

use crate::folding::{bind, compute_pipeline};
use crate::renderer::Picture;
use crate::shaders::CLASSIC;
use crate::{MAX_SIDE, MIN_SIDE, Precision, RenderError};

/// Sides of a workgroup.
const TILE: u32 = 8;

/// Draws a classic field, the yardstick: one invocation a pixel, every sample through its network.
///
/// Its shader is written to be read and compared, not to be fast; a picture of 256 pixels a side
/// takes a hundred thousand million multiply-adds. Agrees with [`face::render_classic`].
pub struct ClassicRenderer {
    pipeline: ComputePipeline,
    bindings: BindGroup,
    frame: Buffer,
    biases: Buffer,
    picture: Picture,
}

/// Where a network's parts lie among the parameters; see `shaders/classic.wgsl`.
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

/// The field's sizes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct ClassicUniform {
    nets: [NetUniform; 3],
    counts: [u32; 8],
    numbers: [f32; 4],
}

/// Camera centre and axes, canonical space; fourth components are padding.
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
        let heard = &net.layers[skip];
        Self {
            first_position: at(&net.layers[0].position),
            second_layer: net.layers.get(1).map_or(0, |layer| at(&layer.hidden)),
            skip_position: at(&heard.position),
            density: at(&net.density),
            density_bias: at(&net.density_bias),
            branch: at(&net.branch),
            branch_direction: at(&net.branch_direction),
            branch_bias: at(&net.branch_bias),
            color: at(&net.color),
            color_bias: at(&net.color_bias),
            skip_extra: (heard.position.len() + heard.condition.len()) as u32,
            first_bias: first_bias as u32,
        }
    }
}

impl ClassicRenderer {
    /// Uploads a field, to be drawn at `side` pixels.
    ///
    /// # Errors
    /// If the side is out of range or the adapter's buffers are too small for the field.
    pub fn new(device: &Device, model: &ClassicModel, side: u32) -> Result<Self, RenderError> {
        let limits = device.limits();
        let max = limits.max_texture_dimension_2d.min(MAX_SIDE);
        if !(MIN_SIDE..=max).contains(&side) {
            return Err(RenderError::Side { side, min: MIN_SIDE, max });
        }
        let largest = (model.params().len() * 4).max(model.background().len() * 16) as u64;
        for (what, need, limit) in [
            ("bytes in a storage buffer", largest, limits.max_storage_buffer_binding_size),
            ("storage buffers", 3, limits.max_storage_buffers_per_shader_stage.into()),
        ] {
            if limit < need {
                return Err(RenderError::Adapter { what, need, limit });
            }
        }
        let s = model.sizes();
        let mut nets = [NetUniform::default(); 3];
        for (index, (net, _)) in model.layout().nets(s).enumerate() {
            nets[index] = NetUniform::new(net, s.skip, index * s.depth * s.width);
        }
        let counts =
            [s.width, s.branch(), s.depth, s.skip, s.coarse, s.fine, s.torso, s.background]
                .map(|n| n as u32);
        let uniform =
            ClassicUniform { nets, counts, numbers: [s.focal, s.near, s.far, s.torso_distance] };
        let texels: Vec<[f32; 4]> =
            model.background().iter().map(|&[r, g, b]| [r, g, b, 0.0]).collect();
        let make = |label, contents: &[u8], usage| {
            device.create_buffer_init(&BufferInitDescriptor { label: Some(label), contents, usage })
        };
        let changing = |label, size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage: usage | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        let n_biases = model.layout().nets(s).count() * s.depth * s.width;
        let field = make("classic field", bytes_of(&uniform), BufferUsages::UNIFORM);
        let params = make("classic weights", cast_slice(model.params()), BufferUsages::STORAGE);
        let background = make("classic background", cast_slice(&texels), BufferUsages::STORAGE);
        let frame = changing(
            "classic frame",
            size_of::<ClassicFrameUniform>() as u64,
            BufferUsages::UNIFORM,
        );
        let biases = changing("classic biases", (n_biases * 4) as u64, BufferUsages::STORAGE);
        let constants = [
            ("POSITION_SCALE", f64::from(face::POSITION_SCALE)),
            ("POSITION_LIMIT", f64::from(face::POSITION_LIMIT)),
            ("MASS_FLOOR", f64::from(face::MASS_FLOOR)),
            ("LOG_DENSITY_MIN", f64::from(face::LOG_DENSITY.0)),
            ("LOG_DENSITY_MAX", f64::from(face::LOG_DENSITY.1)),
        ];
        let pipeline = compute_pipeline(device, &CLASSIC, Precision::Half, &constants);
        let buffers = [&field, &frame, &params, &biases, &background];
        let resources = buffers.map(Buffer::as_entire_binding);
        let bindings = bind(device, &pipeline, 0, &resources);
        Ok(Self {
            bindings,
            frame,
            biases,
            picture: Picture::new(device, &pipeline, side),
            pipeline,
        })
    }

    /// Submits the drawing of a frame, which must come from the model this renderer was made for.
    /// Waits for nothing.
    pub fn render(&self, device: &Device, queue: &Queue, frame: &ClassicFrame) {
        let padded = |v: [f32; 3]| [v[0], v[1], v[2], 0.0];
        let uniform =
            ClassicFrameUniform { origin: padded(frame.origin), axes: frame.axes.map(padded) };
        queue.write_buffer(&self.frame, 0, bytes_of(&uniform));
        let biases: Vec<f32> =
            frame.nets.iter().flat_map(|net| net.biases.iter().flatten().copied()).collect();
        queue.write_buffer(&self.biases, 0, cast_slice(&biases));
        let mut encoder = device.create_command_encoder(&CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.bindings, &[]);
            pass.set_bind_group(1, self.picture.bindings(), &[]);
            let workgroups = self.picture.side().div_ceil(TILE);
            pass.dispatch_workgroups(workgroups, workgroups, 1);
        }
        queue.submit([encoder.finish()]);
    }

    /// Brings the picture back as a frame that shows the moment `time`. Waits for the GPU.
    ///
    /// # Errors
    /// If the device is lost.
    pub fn read_back(
        &self,
        device: &Device,
        queue: &Queue,
        time: MediaTime,
    ) -> Result<Frame, RenderError> {
        let mut read_backs = crate::read_back::ReadBacks::default();
        read_backs.start(device, queue, self.picture.texture(), time);
        read_backs.finish(device)
    }
}
