// Renders the image: one ray a pixel through the folded field, head over torso over background.
//
// One invocation a pixel, workgroup TILE_X x TILE_Y. Bindings: group 0 as in lib/field.wgsl (field,
// frame, network, folded textures), group 1: 0 the image, rgba8unorm, sRGB values, alpha 1.
// Rust twin: `face::FrameField::render_ray` through the center of the pixel.
// Pieces: lib/field, lib/shade, lib/backdrop, lib/head.

override TILE_X: u32 = 16u;
override TILE_Y: u32 = 16u;
// Run the shading network for pixels without a head, too. Software adapters execute both sides of a
// branch anyway and read the network four times as fast outside of one; hardware skips the work.
override SHADE_ALL: bool = false;

@group(1) @binding(0) var picture: texture_storage_2d<rgba8unorm, write>;

@compute @workgroup_size(TILE_X, TILE_Y)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
    for (var i = lane; i < NETWORK_MATRICES; i += TILE_X * TILE_Y) {
        network[i] = network_weights[i];
    }
    workgroupBarrier();

    // No early return for pixels outside the image: everything below would be in a branch (see
    // SHADE_ALL).
    let size = textureDimensions(picture);
    let point = (vec2f(id.xy) + 0.5) / vec2f(size);
    let from_center = point - 0.5;
    let unnormalized = frame.axis_x.xyz * from_center.x + frame.axis_y.xyz * from_center.y + frame.axis_z.xyz;
    let direction = normalize(unnormalized);
    let head = read_head(frame.origin.xyz, direction);
    var rgb = read_backdrop(point);
    if SHADE_ALL || head.alpha > 0.0 {
        let scale = 1.0 / (head.alpha + MEAN_FLOOR);
        let shaded = shade(head.low * scale, head.high * scale, vec4f(head.alpha, direction.xy, 0.0));
        rgb = head.alpha * shaded + (1.0 - head.alpha) * rgb;
    }
    if all(id.xy < size) {
        textureStore(picture, id.xy, vec4f(clamp(rgb, vec3f(0.0), vec3f(1.0)), 1.0));
    }
}
