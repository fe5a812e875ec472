// Adds an upsampled small volume to its base: result = base + up(small), trilinear, align-corners.
//
// One invocation a cell, workgroup 8x8x1, one workgroup layer a slice.
// Bindings: 0 base `[z][y][x]` of f32, 1 the small volume, 2 linear sampler, 3 the result.
// Rust twin: `face::FaceModel::fold` (the density). Pieces: lib/float or lib/half.

@group(0) @binding(0) var<storage, read> base: array<f32>;
@group(0) @binding(1) var small: texture_3d<f32>;
@group(0) @binding(2) var linear: sampler;
@group(0) @binding(3) var result: VolumeOut;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3u) {
    let size = textureDimensions(result);
    if any(id >= size) {
        return;
    }
    let n = vec3f(textureDimensions(small));
    let relative = vec3f(id) / vec3f(size - 1u);
    let uvw = (relative * (n - 1.0) + 0.5) / n;
    let logit = base[(id.z * size.y + id.y) * size.x + id.x]
        + textureSampleLevel(small, linear, uvw, 0.0).x;
    textureStore(result, id, vec4f(logit, 0.0, 0.0, 0.0));
}
