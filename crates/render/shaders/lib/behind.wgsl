// What is behind the head: the torso over the background.

// Color of torso and background at an image point.
// Rust twins: `face::read_torso`, `face::read_background`.
fn read_behind(point: vec2f) -> vec3f {
    // Texel i of n has its middle at (i + 0.5) / n: the sampler's own convention.
    let shift = vec2f(frame.torso_x.w, frame.torso_y.w);
    let behind = textureSampleLevel(background, linear, point + shift, 0.0).rgb;

    let in_box = point * field.torso_box.xy + field.torso_box.zw;
    let moved = textureSampleLevel(flow, linear, in_box * field.flow_texels.xy + field.flow_texels.zw, 0.0).xy;
    let from_middle = vec3f(point - 0.5, 1.0);
    let affine = vec2f(dot(frame.torso_x.xyz, from_middle), dot(frame.torso_y.xyz, from_middle));
    let position = (point + affine + moved) * field.torso_box.xy + field.torso_box.zw;
    // None of the torso above the texture's first row, all of it one texel below.
    let edge = clamp(position.y * field.opacity_bias.y, 0.0, 1.0);
    if edge == 0.0 {
        return behind;
    }
    let texel = textureSampleLevel(torso, linear, position * field.torso_texels.xy + field.torso_texels.zw, 0.0);
    return mix(behind, texel.rgb, sigmoid(texel.a) * edge);
}
