// Mixes K small volumes of density logits: Σₖ weight k · volume k.
//
// One invocation a cell, workgroup 8x8x1, one workgroup layer a slice. Bindings: 0 `Mix`, 1 volumes
// `[k][z][y][x]` of vec4, of which the first channel is used, 2 weights, 3 the mixture. Rust twin:
// `face::FaceModel::fold` (`mix`). Pieces: lib/float or lib/half, lib/mix.

@group(0) @binding(3) var mixture: VolumeOut;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if any(id >= mixing.size) {
        return;
    }
    textureStore(mixture, id, mixed(id));
}
