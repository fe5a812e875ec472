// Adds an upsampled small plane to its base: result = base + up(small), bilinear, align-corners.
//
// One invocation a texel, workgroup 8x8x1, one workgroup layer a texture layer.
// Bindings: 0 base `[layer][y][x]` of vec4, 1 the small plane, 2 linear sampler, 3 the result.
// Rust twin: `face::FaceModel::fold` (`add_upsampled`). Pieces: lib/float or lib/half.

@group(0) @binding(0) var<storage, read> base: array<vec4f>;
@group(0) @binding(1) var small: texture_2d_array<f32>;
@group(0) @binding(2) var linear: sampler;
@group(0) @binding(3) var result: PictureOut;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3u) {
    let size = textureDimensions(result);
    if any(id.xy >= size) {
        return;
    }
    let n = vec2f(textureDimensions(small));
    // Align-corners: 0 is the center of the first texel, 1 the center of the last.
    let relative = vec2f(id.xy) / vec2f(size - 1u);
    let uv = (relative * (n - 1.0) + 0.5) / n;
    let added = textureSampleLevel(small, linear, uv, id.z, 0.0);
    textureStore(result, id.xy, id.z, base[(id.z * size.y + id.y) * size.x + id.x] + added);
}
