// Bindings of the picture pass: field, frame, network and folded textures.
//
// A position `p` in the space that a texture covers is read at `p * scale + offset`. The CPU
// chooses scale and offset so that readings are align-corners (0 is the center of the first texel,
// 1 the center of the last); the sampler clamps to the edge.

// Rust twin: `gpu_layout::FieldUniform`.
struct Field {
    // Corners of the head box, canonical space.
    head_min: vec4f,
    head_max: vec4f,
    // Canonical space to the density volume.
    density_scale: vec4f,
    density_offset: vec4f,
    // Canonical x, y to the xy plane: scale, offset.
    plane_xy: vec4f,
    // Canonical space to the xz and yz planes.
    plane_z_scale: vec4f,
    plane_z_offset: vec4f,
    // Canonical x, y to the warp: scale, offset.
    warp: vec4f,
    // Image space to the torso box, 0..=1 inside: scale, offset.
    torso_box: vec4f,
    // Torso box to the torso texture: scale, offset.
    torso_texels: vec4f,
    // Torso box to the flow texture: scale, offset.
    flow_texels: vec4f,
    // Opacity: weights of features 0..4 and 4..8, then (bias, rows of the torso texture - 1, 0, 0).
    opacity_low: vec4f,
    opacity_high: vec4f,
    opacity_bias: vec4f,
    // Biases of the second and third layer of the shading network.
    shade_b2: array<vec4f, 8>,
    shade_b3: vec4f,
}

// Rust twin: `gpu_layout::FrameUniform`, made from `face::FrameInputs`.
struct Frame {
    // Center of the camera, canonical space.
    origin: vec4f,
    // Columns of `canonical_from_camera`, the first two divided by the focal length in sides.
    axis_x: vec4f,
    axis_y: vec4f,
    axis_z: vec4f,
    // Affine map of the torso, (a, b, tx) and (c, d, ty); in w the background shift, x and y.
    torso_x: vec4f,
    torso_y: vec4f,
    // Bias of the first layer of the shading network.
    shade_bias: array<vec4f, 8>,
    // Number of samples on a ray.
    n_samples: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> field: Field;
@group(0) @binding(1) var<uniform> frame: Frame;
// Matrices of the shading network; see lib/shade.wgsl.
@group(0) @binding(2) var<storage, read> network_weights: array<mat4x4f>;
@group(0) @binding(3) var density: texture_3d<f32>;
// Layers: channels 0..4, 4..8 of xy.
@group(0) @binding(4) var plane_xy: texture_2d_array<f32>;
// Layers: channels 0..4, 4..8 of xz, then of yz.
@group(0) @binding(5) var plane_z: texture_2d_array<f32>;
// Offsets of x, y in canonical space.
@group(0) @binding(6) var warp: texture_2d<f32>;
// Red, green, blue (sRGB), alpha logit.
@group(0) @binding(7) var torso: texture_2d<f32>;
// Offsets in image space.
@group(0) @binding(8) var flow: texture_2d<f32>;
// Red, green, blue (sRGB).
@group(0) @binding(9) var background: texture_2d<f32>;
@group(0) @binding(10) var linear: sampler;

// Returns `1 / (1 + e^-x)`; the exponent is bounded so that nothing becomes infinite.
fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp(min(-x, 80.0)));
}
