// Backdrop layer: the torso over the background.

// Returns the color behind the head at an image point.
// Rust twin: `face::FrameField::backdrop`.
fn read_backdrop(point: vec2f) -> vec3f {
    // The center of texel i of n is at (i + 0.5) / n, which is the convention of the sampler.
    let shift = vec2f(frame.torso_x.w, frame.torso_y.w);
    let base = textureSampleLevel(background, linear, point + shift, 0.0).rgb;

    let in_box = point * field.torso_box.xy + field.torso_box.zw;
    let moved = textureSampleLevel(flow, linear, in_box * field.flow_texels.xy + field.flow_texels.zw, 0.0).xy;
    let from_center = vec3f(point - 0.5, 1.0);
    let affine = vec2f(dot(frame.torso_x.xyz, from_center), dot(frame.torso_y.xyz, from_center));
    let position = (point + affine + moved) * field.torso_box.xy + field.torso_box.zw;
    // Alpha is 0 above the first row of the texture and rises to its full value at the second.
    let edge = clamp(position.y * field.opacity_bias.y, 0.0, 1.0);
    if edge == 0.0 {
        return base;
    }
    let texel = textureSampleLevel(torso, linear, position * field.torso_texels.xy + field.torso_texels.zw, 0.0);
    return mix(base, texel.rgb, sigmoid(texel.a) * edge);
}
