//! Memory layouts that the shaders share with Rust.

use bytemuck::{Pod, Zeroable};
use face::{
    CHANNELS, FLOW_HEIGHT, FLOW_WIDTH, FaceModel, FrameInputs, HIDDEN, MAX_SAMPLES, SHADE_INPUTS,
};

type Vec4 = [f32; 4];

/// Blocks of four in a hidden layer.
const BLOCKS: usize = HIDDEN / 4;
/// Number of 4x4 blocks of the shading network: `NETWORK_MATRICES` of lib/shade.wgsl.
pub(crate) const NETWORK_MATRICES: usize = BLOCKS * INPUT_BLOCKS + BLOCKS * BLOCKS + BLOCKS;
/// Blocks of four of the shading inputs, the last one padded.
const INPUT_BLOCKS: usize = SHADE_INPUTS.div_ceil(4);

// The shaders are unrolled for these sizes.
const _: () = assert!(CHANNELS == 8 && HIDDEN == 32 && SHADE_INPUTS == 11 && face::BINS == 32);
const _: () = assert!(NETWORK_MATRICES == 96);

/// `Field` of lib/field.wgsl: the constants of the field, uploaded once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(crate) struct FieldUniform {
    head_min: Vec4,
    head_max: Vec4,
    density_scale: Vec4,
    density_offset: Vec4,
    plane_xy: Vec4,
    plane_z_scale: Vec4,
    plane_z_offset: Vec4,
    warp: Vec4,
    torso_box: Vec4,
    torso_texels: Vec4,
    flow_texels: Vec4,
    opacity_low: Vec4,
    opacity_high: Vec4,
    opacity_bias: Vec4,
    shade_b2: [Vec4; BLOCKS],
    shade_b3: Vec4,
}
const _: () = assert!(size_of::<FieldUniform>() == (14 + 8 + 1) * 16);

/// `Frame` of lib/field.wgsl: the inputs of a frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(crate) struct FrameUniform {
    origin: Vec4,
    axis_x: Vec4,
    axis_y: Vec4,
    axis_z: Vec4,
    torso_x: Vec4,
    torso_y: Vec4,
    shade_bias: [Vec4; BLOCKS],
    n_samples: u32,
    padding: [u32; 3],
}
const _: () = assert!(size_of::<FrameUniform>() == (6 + 8 + 1) * 16);

/// `Mix` of lib/mix.wgsl: the parameters of a mixing job.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(crate) struct MixUniform {
    /// Width, height, layers.
    pub(crate) size: [u32; 3],
    pub(crate) n_pictures: u32,
    pub(crate) first_weight: u32,
    pub(crate) clear_border: u32,
    pub(crate) padding: [u32; 2],
}
const _: () = assert!(size_of::<MixUniform>() == 32);

/// Returns scale and offset from a coordinate to a texture coordinate that maps `min` to the center
/// of the first of `n` texels and `max` to the center of the last.
fn align_corners(min: f32, max: f32, n: usize) -> (f32, f32) {
    let n = n as f32;
    let scale = (n - 1.0) / n / (max - min);
    (scale, 0.5 / n - min * scale)
}

/// Returns [`align_corners`] of two axes as `(scale, scale, offset, offset)`.
fn align_corners_2(min: [f32; 2], max: [f32; 2], n: [usize; 2]) -> Vec4 {
    let x = align_corners(min[0], max[0], n[0]);
    let y = align_corners(min[1], max[1], n[1]);
    [x.0, y.0, x.1, y.1]
}

/// Returns [`align_corners`] of three axes, scales and offsets.
fn align_corners_3(min: [f32; 3], max: [f32; 3], n: usize) -> (Vec4, Vec4) {
    let axes: [_; 3] = std::array::from_fn(|i| align_corners(min[i], max[i], n));
    ([axes[0].0, axes[1].0, axes[2].0, 0.0], [axes[0].1, axes[1].1, axes[2].1, 0.0])
}

impl FieldUniform {
    pub(crate) fn new(model: &FaceModel) -> Self {
        let (s, layout, params) = (model.sizes(), model.layout(), model.params());
        let (head, torso) = (&s.head, &s.torso);
        let (density_scale, density_offset) = align_corners_3(head.min, head.max, s.density);
        let (plane_z_scale, plane_z_offset) = align_corners_3(head.min, head.max, s.plane_z);
        let head_xy = |corner: [f32; 3]| [corner[0], corner[1]];
        let opacity = &params[layout.opacity.clone()];
        let b3 = &params[layout.shade_b3.clone()];
        let torso_scale = [0, 1].map(|i| 1.0 / (torso.max[i] - torso.min[i]));
        let unit = |n| align_corners_2([0.0; 2], [1.0; 2], n);
        Self {
            head_min: extend(head.min),
            head_max: extend(head.max),
            density_scale,
            density_offset,
            plane_xy: align_corners_2(head_xy(head.min), head_xy(head.max), [s.plane_xy; 2]),
            plane_z_scale,
            plane_z_offset,
            warp: align_corners_2(s.face.min, s.face.max, [s.warp; 2]),
            torso_box: [
                torso_scale[0],
                torso_scale[1],
                -torso.min[0] * torso_scale[0],
                -torso.min[1] * torso_scale[1],
            ],
            torso_texels: unit([s.torso_width, s.torso_height]),
            flow_texels: unit([FLOW_WIDTH, FLOW_HEIGHT]),
            opacity_low: block(&opacity[..4]),
            opacity_high: block(&opacity[4..8]),
            opacity_bias: [opacity[8], (s.torso_height - 1) as f32, 0.0, 0.0],
            shade_b2: blocks(&params[layout.shade_b2.clone()]),
            shade_b3: [b3[0], b3[1], b3[2], 0.0],
        }
    }
}

impl FrameUniform {
    pub(crate) fn new(inputs: &FrameInputs, n_samples: u32) -> Self {
        let [a, b, tx, c, d, ty] = inputs.torso_affine;
        let per_focal = |axis: [f32; 3]| extend(axis.map(|v| v / inputs.focal));
        Self {
            origin: extend(inputs.origin),
            axis_x: per_focal(inputs.axes[0]),
            axis_y: per_focal(inputs.axes[1]),
            axis_z: extend(inputs.axes[2]),
            torso_x: [a, b, tx, inputs.background_shift[0]],
            torso_y: [c, d, ty, inputs.background_shift[1]],
            shade_bias: blocks(&inputs.shade_bias),
            n_samples: n_samples.clamp(1, MAX_SAMPLES),
            padding: [0; 3],
        }
    }
}

/// Returns the shading network as columns of 4x4 blocks, in the order in which lib/shade.wgsl reads
/// them.
pub(crate) fn network_matrices(model: &FaceModel) -> Vec<[Vec4; 4]> {
    let part = |range: &std::ops::Range<usize>| &model.params()[range.clone()];
    let layout = model.layout();
    let mut matrices = Vec::with_capacity(NETWORK_MATRICES);
    // `[inputs][outputs]`: column j of a block holds the weights of input j for four outputs.
    for (weights, input_blocks) in
        [(part(&layout.shade_w1), INPUT_BLOCKS), (part(&layout.shade_w2), BLOCKS)]
    {
        for output in 0..BLOCKS {
            for input in 0..input_blocks {
                matrices.push(std::array::from_fn(|j| {
                    let row = (4 * input + j) * HIDDEN + 4 * output;
                    weights.get(row..row + 4).map_or([0.0; 4], block)
                }));
            }
        }
    }
    // `[3][HIDDEN]`.
    let w3 = part(&layout.shade_w3);
    for input in 0..BLOCKS {
        matrices.push(std::array::from_fn(|j| {
            let at = 4 * input + j;
            [w3[at], w3[HIDDEN + at], w3[2 * HIDDEN + at], 0.0]
        }));
    }
    matrices
}

/// Regroups planes of `channels` floats a texel into layers of four, the last padded with zeros:
/// from `[plane][texel][channels]` of each part to `[plane][part][layer][texel]`.
pub(crate) fn layers_of_four(parts: &[&[f32]], n_planes: usize, channels: usize) -> Vec<Vec4> {
    let mut out = Vec::new();
    for plane in 0..n_planes {
        for part in parts {
            let len = part.len() / n_planes;
            let texels = &part[plane * len..(plane + 1) * len];
            for layer in (0..channels).step_by(4) {
                out.extend(texels.chunks_exact(channels).map(|texel| {
                    std::array::from_fn(|c| texel.get(layer + c).copied().unwrap_or(0.0))
                }));
            }
        }
    }
    out
}

fn extend(v: [f32; 3]) -> Vec4 {
    [v[0], v[1], v[2], 0.0]
}

/// Returns the first four numbers; missing ones are zero.
fn block(v: &[f32]) -> Vec4 {
    std::array::from_fn(|c| v.get(c).copied().unwrap_or(0.0))
}

/// Returns `N` blocks of four.
fn blocks<const N: usize>(v: &[f32]) -> [Vec4; N] {
    std::array::from_fn(|i| block(&v[4 * i..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use face::Sizes;

    #[test]
    fn corners_of_the_box_map_to_texel_centers() {
        let (scale, offset) = align_corners(-1.5, 2.5, 8);
        assert!((-1.5_f32).mul_add(scale, offset) - 0.5 / 8.0 < 1e-6);
        assert!(2.5_f32.mul_add(scale, offset) - 7.5 / 8.0 < 1e-6);
    }

    #[test]
    fn channels_become_layers_of_four() {
        let numbers: Vec<f32> = (0..8).map(|v| v as f32).collect();
        // Two planes of two texels with two channels.
        let got = layers_of_four(&[&numbers], 2, 2);
        assert_eq!(
            got,
            [
                [0.0, 1.0, 0.0, 0.0],
                [2.0, 3.0, 0.0, 0.0],
                [4.0, 5.0, 0.0, 0.0],
                [6.0, 7.0, 0.0, 0.0]
            ]
        );
        // One texel with eight channels: two layers.
        assert_eq!(layers_of_four(&[&numbers], 1, 8), [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]);
    }

    #[test]
    fn the_blocks_hold_every_weight_of_the_network_exactly_once() {
        let model = FaceModel::noise(Sizes::tiny(), 5);
        let layout = model.layout();
        let matrices = network_matrices(&model);
        assert_eq!(matrices.len(), NETWORK_MATRICES);
        let sum = |v: &[f32]| v.iter().map(|&w| f64::from(w)).sum::<f64>();
        let want: f64 = [&layout.shade_w1, &layout.shade_w2, &layout.shade_w3]
            .iter()
            .map(|range| sum(&model.params()[(*range).clone()]))
            .sum();
        let got = sum(matrices.as_flattened().as_flattened());
        assert!((got - want).abs() < 1e-3);
    }
}
