// Mixes K small planes: Σₖ weight k · plane k.
//
// One invocation a texel, workgroup 8x8x1, one workgroup layer a texture layer.
// Bindings: 0 `Mix`, 1 planes `[k][layer][y][x]` of vec4, 2 weights, 3 the mixture.
// Rust twin: `face::FaceModel::fold` (`mix`). Pieces: lib/float or lib/half, lib/mix.

@group(0) @binding(3) var mixture: PictureOut;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if any(id >= mixing.size) {
        return;
    }
    textureStore(mixture, id.xy, id.z, mixed(id));
}
