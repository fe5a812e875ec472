// Draws the picture: one ray a pixel through the folded field, head over torso over background.
//
// One invocation a pixel, workgroup TILE_X x TILE_Y. Bindings: group 0 as in lib/field.wgsl (field,
// frame, network, folded textures), group 1: 0 the picture, rgba8unorm holding sRGB, alpha 1.
// Rust twin: `face::render_ray` through the middle of the pixel.
// Pieces: lib/field, lib/shade, lib/behind, lib/head.

override TILE_X: u32 = 16u;
override TILE_Y: u32 = 16u;

@group(1) @binding(0) var picture: texture_storage_2d<rgba8unorm, write>;

@compute @workgroup_size(TILE_X, TILE_Y)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
    for (var i = lane; i < NETWORK_MATRICES; i += TILE_X * TILE_Y) {
        network[i] = network_weights[i];
    }
    workgroupBarrier();

    let size = textureDimensions(picture);
    if any(id.xy >= size) {
        return;
    }
    let point = (vec2f(id.xy) + 0.5) / vec2f(size);
    let from_middle = point - 0.5;
    let toward = frame.axis_x.xyz * from_middle.x + frame.axis_y.xyz * from_middle.y + frame.axis_z.xyz;
    let head = render_head(frame.origin.xyz, normalize(toward));
    let rgb = head.rgb + (1.0 - head.a) * read_behind(point);
    textureStore(picture, id.xy, vec4f(clamp(rgb, vec3f(0.0), vec3f(1.0)), 1.0));
}
