//! Folding on the GPU.

use bytemuck::cast_slice;
use face::{CHANNELS, FLOW_HEIGHT, FLOW_WIDTH, FaceModel, FrameInputs};
use types::LEARNED_DIMS;
use wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu::{
    BindGroup, BindingResource, Buffer, BufferUsages, CommandEncoderDescriptor, ComputePass,
    ComputePassDescriptor, ComputePipeline, Device, Extent3d, Queue, Sampler, TextureDescriptor,
    TextureDimension, TextureUsages, TextureView, TextureViewDescriptor, TextureViewDimension,
};

use crate::gpu_layout::{MixUniform, layers_of_four};
use crate::mixed::MixedWeights;
use crate::pipeline::{bind, compute_pipeline};
use crate::precision::Precision;
use crate::shaders::{ADD_PICTURES, ADD_VOLUME, MIX_PICTURES, MIX_VOLUME, Shader};

/// Mixes the field of a frame into textures: [`face::FaceModel::fold`] on the GPU.
///
/// The small planes of each part are mixed with the weights of the frame; then the mixtures are
/// upsampled and added to the bases. Parts whose weights have not changed stay as they are.
pub(crate) struct Folding {
    /// `[1, plane mix, density mix, warp mix, torso mix]`; the leading 1 serves jobs that copy.
    weights: Buffer,
    n_weights: usize,
    /// `[FLOW_HEIGHT][FLOW_WIDTH]` of vec4.
    flow: Buffer,
    /// In the order of execution: a job may read what earlier ones write.
    jobs: Vec<(FoldedPart, FoldingJob)>,
    /// Weights that each of [`MIXES`] was mixed with.
    mixed: [MixedWeights; MIXES.len()],
    /// Parts to mix for the next image.
    changed: Vec<FoldedPart>,
}

/// Part of the field with its own weights.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum FoldedPart {
    Planes,
    Density,
    Warp,
    Torso,
    /// Offsets of the torso position, copied for every image: they change with the pose.
    Flow,
}

/// Parts in the order of their weights.
const MIXES: [FoldedPart; 4] =
    [FoldedPart::Planes, FoldedPart::Density, FoldedPart::Warp, FoldedPart::Torso];

/// Textures that the field of a frame is read from.
pub(crate) struct FoldedTextures {
    pub(crate) density: TextureView,
    pub(crate) plane_xy: TextureView,
    pub(crate) plane_z: TextureView,
    pub(crate) warp: TextureView,
    pub(crate) torso: TextureView,
    pub(crate) flow: TextureView,
    pub(crate) background: TextureView,
}

/// One dispatch.
struct FoldingJob {
    pipeline: ComputePipeline,
    bindings: BindGroup,
    workgroups: [u32; 3],
}

/// Texture of the field, with the views that the passes need.
struct FieldTexture {
    size: [u32; 3],
    /// All layers, or the whole volume: for writing and reading.
    all: TextureView,
    /// Only the first layer, or the whole volume.
    first: TextureView,
}

impl Folding {
    pub(crate) fn new(
        device: &Device,
        queue: &Queue,
        model: &FaceModel,
        precision: Precision,
        sampler: &Sampler,
    ) -> (Self, FoldedTextures) {
        let (s, layout) = (model.sizes(), model.layout());
        let part = |range: &std::ops::Range<usize>| &model.params()[range.clone()];
        let n_weights = 1 + s.n_expression + s.n_density + LEARNED_DIMS + s.n_torso;
        let maker = Maker::new(device, precision, sampler, n_weights);
        let layered = |parts: &[&[f32]], n, channels| {
            let texels = layers_of_four(parts, n, channels);
            maker.storage(cast_slice(&texels))
        };

        let first_plane = 1;
        let first_density = first_plane + s.n_expression;
        let first_warp = first_density + s.n_density;
        let first_torso = first_warp + LEARNED_DIMS;

        // Mixtures of small planes and grids.
        let k = s.n_expression;
        let small_xy = maker.pictures("small xy", s.expression_xy, s.expression_xy, 2);
        let small_z = maker.pictures("small z", s.expression_z, s.expression_z, 4);
        let small_torso =
            maker.pictures("small torso", s.torso_blend_width, s.torso_blend_height, 1);
        let small_density = maker.volume("small density", s.density_expression);
        let warp = maker.pictures("warp", s.warp, s.warp, 1);
        let flow = maker.pictures("flow", FLOW_WIDTH, FLOW_HEIGHT, 1);
        let flow_pictures = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("flow"),
            size: (FLOW_WIDTH * FLOW_HEIGHT * 16) as u64,
            usage: BufferUsages::STORAGE | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mixing = [
            (
                FoldedPart::Planes,
                maker.mix_pictures(
                    &layered(&[part(&layout.expression_xy)], k, CHANNELS),
                    &small_xy,
                    (k, first_plane),
                ),
            ),
            (
                FoldedPart::Planes,
                maker.mix_pictures(
                    &layered(
                        &[part(&layout.expression_xz), part(&layout.expression_yz)],
                        k,
                        CHANNELS,
                    ),
                    &small_z,
                    (k, first_plane),
                ),
            ),
            (
                FoldedPart::Torso,
                maker.mix_pictures(
                    &layered(&[part(&layout.torso_blend)], s.n_torso, 4),
                    &small_torso,
                    (s.n_torso, first_torso),
                ),
            ),
            (
                FoldedPart::Density,
                maker.mix_volume(
                    &layered(&[part(&layout.density_expression)], s.n_density, 1),
                    &small_density,
                    (s.n_density, first_density),
                ),
            ),
            (
                FoldedPart::Warp,
                maker.mix_warp(
                    &layered(&[part(&layout.warp)], LEARNED_DIMS, 2),
                    &warp,
                    (LEARNED_DIMS, first_warp),
                ),
            ),
            (FoldedPart::Flow, maker.mix_pictures(&flow_pictures, &flow, (1, 0))),
        ];

        // Bases, to which the mixtures are added.
        let xy = maker.pictures("xy", s.plane_xy, s.plane_xy, 2);
        let z = maker.pictures("z", s.plane_z, s.plane_z, 4);
        let torso = maker.pictures("torso", s.torso_width, s.torso_height, 1);
        let density = maker.volume("density", s.density);
        let adding = [
            (
                FoldedPart::Planes,
                maker.add_pictures(
                    &layered(&[part(&layout.plane_xy)], 1, CHANNELS),
                    &small_xy,
                    &xy,
                ),
            ),
            (
                FoldedPart::Planes,
                maker.add_pictures(
                    &layered(&[part(&layout.plane_xz), part(&layout.plane_yz)], 1, CHANNELS),
                    &small_z,
                    &z,
                ),
            ),
            (
                FoldedPart::Torso,
                maker.add_pictures(&layered(&[part(&layout.torso)], 1, 4), &small_torso, &torso),
            ),
            (
                FoldedPart::Density,
                maker.add_volume(
                    &maker.storage(cast_slice(part(&layout.density))),
                    &small_density,
                    &density,
                ),
            ),
        ];

        // The background never changes, so it is copied once, here.
        let background = maker.pictures("background", s.background, s.background, 1);
        let copy =
            maker.mix_pictures(&layered(&[part(&layout.background)], 1, 3), &background, (1, 0));
        queue.write_buffer(&maker.weights, 0, cast_slice(&[1.0_f32]));
        let mut encoder = device.create_command_encoder(&CommandEncoderDescriptor::default());
        copy.encode(&mut encoder.begin_compute_pass(&ComputePassDescriptor::default()));
        queue.submit([encoder.finish()]);

        let textures = FoldedTextures {
            density: density.all,
            plane_xy: xy.all,
            plane_z: z.all,
            warp: warp.first,
            torso: torso.first,
            flow: flow.first,
            background: background.first,
        };
        let folding = Self {
            weights: maker.weights,
            n_weights,
            flow: flow_pictures,
            jobs: mixing.into_iter().chain(adding).collect(),
            mixed: Default::default(),
            changed: Vec::new(),
        };
        (folding, textures)
    }

    /// Uploads the weights and the flow of a frame and selects the parts that [`Folding::encode`]
    /// mixes. Inputs of a model with other sizes are truncated or padded with zeros.
    pub(crate) fn write(&mut self, queue: &Queue, inputs: &FrameInputs) {
        let mixes: [&[f32]; MIXES.len()] =
            [&inputs.plane_mix, &inputs.density_mix, &inputs.warp_mix, &inputs.torso_mix];
        self.changed = vec![FoldedPart::Flow];
        for ((part, mixed), mix) in MIXES.into_iter().zip(&mut self.mixed).zip(mixes) {
            if mixed.update(mix) {
                self.changed.push(part);
            }
        }
        let mut weights = vec![1.0_f32];
        weights.extend(mixes.into_iter().flatten());
        weights.resize(self.n_weights, 0.0);
        queue.write_buffer(&self.weights, 0, cast_slice(&weights));
        let mut flow: Vec<[f32; 4]> = inputs.flow.iter().map(|&[x, y]| [x, y, 0.0, 0.0]).collect();
        flow.resize(FLOW_WIDTH * FLOW_HEIGHT, [0.0; 4]);
        queue.write_buffer(&self.flow, 0, cast_slice(&flow));
    }

    /// Encodes the jobs of the selected parts.
    pub(crate) fn encode(&self, pass: &mut ComputePass<'_>) {
        for (_, job) in self.jobs.iter().filter(|(part, _)| self.changed.contains(part)) {
            job.encode(pass);
        }
    }
}

impl FoldingJob {
    fn encode(&self, pass: &mut ComputePass<'_>) {
        let [x, y, z] = self.workgroups;
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

/// Makes the jobs and textures of one precision.
struct Maker<'a> {
    device: &'a Device,
    precision: Precision,
    sampler: &'a Sampler,
    weights: Buffer,
    mix_pictures: ComputePipeline,
    mix_volume: ComputePipeline,
    add_pictures: ComputePipeline,
    add_volume: ComputePipeline,
}

impl<'a> Maker<'a> {
    fn new(
        device: &'a Device,
        precision: Precision,
        sampler: &'a Sampler,
        n_weights: usize,
    ) -> Self {
        let pipeline = |shader: &Shader| compute_pipeline(device, shader, precision, &[]);
        Self {
            device,
            precision,
            sampler,
            weights: device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("mix weights"),
                size: (n_weights * 4) as u64,
                usage: BufferUsages::STORAGE | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }),
            mix_pictures: pipeline(&MIX_PICTURES),
            mix_volume: pipeline(&MIX_VOLUME),
            add_pictures: pipeline(&ADD_PICTURES),
            add_volume: pipeline(&ADD_VOLUME),
        }
    }

    fn storage(&self, contents: &[u8]) -> Buffer {
        self.device.create_buffer_init(&BufferInitDescriptor {
            label: Some("field"),
            contents,
            usage: BufferUsages::STORAGE,
        })
    }

    fn pictures(&self, label: &str, width: usize, height: usize, layers: u32) -> FieldTexture {
        let size = [width as u32, height as u32, layers];
        self.texture(label, TextureDimension::D2, size)
    }

    fn volume(&self, label: &str, side: usize) -> FieldTexture {
        self.texture(label, TextureDimension::D3, [side as u32; 3])
    }

    fn texture(&self, label: &str, dimension: TextureDimension, size: [u32; 3]) -> FieldTexture {
        let volume = dimension == TextureDimension::D3;
        let texture = self.device.create_texture(&TextureDescriptor {
            label: Some(label),
            size: Extent3d { width: size[0], height: size[1], depth_or_array_layers: size[2] },
            mip_level_count: 1,
            sample_count: 1,
            dimension,
            format: if volume {
                self.precision.volume_format()
            } else {
                self.precision.picture_format()
            },
            usage: TextureUsages::TEXTURE_BINDING | TextureUsages::STORAGE_BINDING,
            view_formats: &[],
        });
        let view = |dimension, layers| {
            texture.create_view(&TextureViewDescriptor {
                dimension: Some(dimension),
                array_layer_count: layers,
                ..TextureViewDescriptor::default()
            })
        };
        if volume {
            let all = view(TextureViewDimension::D3, None);
            FieldTexture { size, first: all.clone(), all }
        } else {
            FieldTexture {
                size,
                all: view(TextureViewDimension::D2Array, None),
                first: view(TextureViewDimension::D2, Some(1)),
            }
        }
    }

    fn mix_pictures(
        &self,
        from: &Buffer,
        to: &FieldTexture,
        weights: (usize, usize),
    ) -> FoldingJob {
        self.mix(&self.mix_pictures, from, to, weights, false)
    }

    /// Also sets the outermost texels to zero.
    fn mix_warp(&self, from: &Buffer, to: &FieldTexture, weights: (usize, usize)) -> FoldingJob {
        self.mix(&self.mix_pictures, from, to, weights, true)
    }

    fn mix_volume(&self, from: &Buffer, to: &FieldTexture, weights: (usize, usize)) -> FoldingJob {
        self.mix(&self.mix_volume, from, to, weights, false)
    }

    fn mix(
        &self,
        pipeline: &ComputePipeline,
        pictures: &Buffer,
        to: &FieldTexture,
        (n_pictures, first_weight): (usize, usize),
        clear_border: bool,
    ) -> FoldingJob {
        let uniform = self.device.create_buffer_init(&BufferInitDescriptor {
            label: Some("mix"),
            contents: bytemuck::bytes_of(&MixUniform {
                size: to.size,
                n_pictures: n_pictures as u32,
                first_weight: first_weight as u32,
                clear_border: u32::from(clear_border),
                padding: [0; 2],
            }),
            usage: BufferUsages::UNIFORM,
        });
        let resources = [
            uniform.as_entire_binding(),
            pictures.as_entire_binding(),
            self.weights.as_entire_binding(),
            BindingResource::TextureView(&to.all),
        ];
        self.job(pipeline, &resources, to.size)
    }

    fn add_pictures(&self, base: &Buffer, small: &FieldTexture, to: &FieldTexture) -> FoldingJob {
        self.add(&self.add_pictures, base, small, to)
    }

    fn add_volume(&self, base: &Buffer, small: &FieldTexture, to: &FieldTexture) -> FoldingJob {
        self.add(&self.add_volume, base, small, to)
    }

    fn add(
        &self,
        pipeline: &ComputePipeline,
        base: &Buffer,
        small: &FieldTexture,
        to: &FieldTexture,
    ) -> FoldingJob {
        let resources = [
            base.as_entire_binding(),
            BindingResource::TextureView(&small.all),
            BindingResource::Sampler(self.sampler),
            BindingResource::TextureView(&to.all),
        ];
        self.job(pipeline, &resources, to.size)
    }

    fn job(
        &self,
        pipeline: &ComputePipeline,
        resources: &[BindingResource<'_>],
        size: [u32; 3],
    ) -> FoldingJob {
        FoldingJob {
            pipeline: pipeline.clone(),
            bindings: bind(self.device, pipeline, 0, resources),
            // The shaders' workgroups are 8x8x1.
            workgroups: [size[0].div_ceil(8), size[1].div_ceil(8), size[2]],
        }
    }
}
