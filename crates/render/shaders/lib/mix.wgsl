// Bindings and the sum of the two mixing passes. Rust twin: `gpu_layout::MixUniform`.

struct Mix {
    // Width, height and layers (or depth) of one small plane or volume.
    size: vec3u,
    // Number of planes or volumes.
    n_pictures: u32,
    // Index of their first weight in `mix_weights`.
    first_weight: u32,
    // 1: set the outermost texels of each layer to zero, because a warp must fade out at its
    // border.
    clear_border: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> mixing: Mix;
// `[n_pictures][layer][y][x]`.
@group(0) @binding(1) var<storage, read> pictures: array<vec4f>;
@group(0) @binding(2) var<storage, read> mix_weights: array<f32>;

// Returns Σₖ weight k · plane k at one texel.
fn mixed(at: vec3u) -> vec4f {
    let size = mixing.size;
    let border = at.x == 0u || at.y == 0u || at.x == size.x - 1u || at.y == size.y - 1u;
    var sum = vec4f(0.0);
    if mixing.clear_border == 0u || !border {
        let stride = size.x * size.y * size.z;
        var index = (at.z * size.y + at.y) * size.x + at.x;
        for (var k = 0u; k < mixing.n_pictures; k++) {
            sum += mix_weights[mixing.first_weight + k] * pictures[index];
            index += stride;
        }
    }
    return sum;
}
