// Draws the peer picture with rounded corners into its own viewport.

@group(0) @binding(0) var picture: texture_2d<f32>;
@group(0) @binding(1) var linear_sampler: sampler;
/// Radius of the rounded corners, physical pixels.
@group(0) @binding(2) var<uniform> radius: vec4<f32>;

/// Whether the target encodes written values as sRGB, which must then be decoded first.
override is_encoded: bool = false;

struct Corner {
    @builtin(position) position: vec4<f32>,
    /// Position in the picture, 0..1 from the upper left.
    @location(0) place: vec2<f32>,
}

@vertex
fn corner(@builtin(vertex_index) index: u32) -> Corner {
    let place = vec2<f32>(f32(index & 1u), f32(index >> 1u));
    return Corner(vec4<f32>(2.0 * place.x - 1.0, 1.0 - 2.0 * place.y, 0.0, 1.0), place);
}

fn decoded(v: vec3<f32>) -> vec3<f32> {
    return select(pow((v + 0.055) / 1.055, vec3<f32>(2.4)), v / 12.92, v < vec3<f32>(0.04045));
}

@fragment
fn pixel(in: Corner) -> @location(0) vec4<f32> {
    var rgb = textureSample(picture, linear_sampler, in.place).rgb;
    if is_encoded {
        rgb = decoded(rgb);
    }
    // Distance from the rounded square in pixels. From one pixel to the next, the position changes
    // by one over the size.
    let size = 1.0 / fwidth(in.place);
    let beyond = abs(in.place - 0.5) * size - (0.5 * size - radius.x);
    let inside = clamp(0.5 + radius.x - length(max(beyond, vec2<f32>(0.0))), 0.0, 1.0);
    return vec4<f32>(rgb * inside, inside);
}
