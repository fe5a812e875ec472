// Draws a picture of the baseline field: one ray per pixel, every sample through a network.
//
// One invocation per pixel, workgroup 8x8. Bindings of group 0: 0 the field's sizes, 1 the frame, 2 the
// parameters in the order of `ClassicLayout`, 3 the biases of the layers including the products with
// the frame's codes (`[depth][width]` of each network, heads first), 4 the background `[side][side]` as
// rgb0. Group 1: 0 the picture, rgba8unorm, sRGB, alpha 1. The head is in canonical space, the torso in
// camera space, both in canonical units. Definition in Rust: `render_classic_ray` through the center
// of the pixel.

struct Net {
    // Offsets of the position weights of the first layer and of the weights of the second layer. All
    // layers except the first and the skip layer have the same length.
    first_position: u32,
    second_layer: u32,
    skip_position: u32,
    density: u32,
    density_bias: u32,
    branch: u32,
    branch_direction: u32,
    branch_bias: u32,
    color: u32,
    color_bias: u32,
    // By how much the skip layer is longer than the other layers.
    skip_extra: u32,
    first_bias: u32,
}

struct Field {
    nets: array<Net, 3>,
    width: u32,
    branch: u32,
    depth: u32,
    skip: u32,
    coarse: u32,
    fine: u32,
    torso: u32,
    background: u32,
    focal: f32,
    near: f32,
    far: f32,
    torso_distance: f32,
}

struct Frame {
    origin: vec4f,
    axis_x: vec4f,
    axis_y: vec4f,
    axis_z: vec4f,
}

struct Ray {
    origin: vec3f,
    direction: vec3f,
    near: f32,
    far: f32,
}

struct Sample {
    color: vec3f,
    sigma: f32,
}

const MAX_WIDTH = 256u;
const MAX_SAMPLES = 128u;
// Encoded positions and directions are padded with a zero, because products take four inputs and
// sixteen outputs at a time. Some software adapters end loops after 65,535 iterations per invocation.
const POSITION_INPUTS = 64u;
const DIRECTION_INPUTS = 28u;
override POSITION_SCALE: f32 = 0.5;
override POSITION_LIMIT: f32 = 4.0;
override MASS_FLOOR: f32 = 1e-5;
override LOG_DENSITY_MIN: f32 = -8.0;
override LOG_DENSITY_MAX: f32 = 6.0;

@group(0) @binding(0) var<uniform> field: Field;
@group(0) @binding(1) var<uniform> frame: Frame;
@group(0) @binding(2) var<storage, read> params: array<f32>;
@group(0) @binding(3) var<storage, read> biases: array<f32>;
@group(0) @binding(4) var<storage, read> background: array<vec4f>;
@group(1) @binding(0) var picture: texture_storage_2d<rgba8unorm, write>;

var<private> encoded: array<f32, POSITION_INPUTS>;
var<private> hidden: array<f32, MAX_WIDTH>;
var<private> next: array<f32, MAX_WIDTH>;
var<private> branch_bias: array<f32, 128>;
var<private> coarse_places: array<f32, MAX_SAMPLES>;
var<private> weights: array<f32, MAX_SAMPLES>;
var<private> fine_places: array<f32, MAX_SAMPLES>;

fn doubled(pair: vec2f) -> vec2f {
    return vec2f(2.0 * pair.x * pair.y, 1.0 - 2.0 * pair.x * pair.x);
}

// Sine and cosine; `sine_cosine` in Rust.
fn sine_cosine(x: f32) -> vec2f {
    let y = 0.25 * x;
    let z = y * y;
    let sine = y
        * (1.0 + z * (-1.0 / 6.0 + z * (1.0 / 120.0 + z * (-1.0 / 5040.0 + z / 362880.0))));
    let cosine = 1.0
        + z * (-0.5 + z * (1.0 / 24.0 + z * (-1.0 / 720.0 + z * (1.0 / 40320.0 - z / 3628800.0))));
    return doubled(doubled(vec2f(sine, cosine)));
}

// Fills `encoded` with `n_octaves` of a vector; `encode` in Rust.
fn encode(vector: vec3f, n_octaves: u32) {
    let v = clamp(vector, vec3f(-POSITION_LIMIT), vec3f(POSITION_LIMIT));
    var x = sine_cosine(v.x);
    var y = sine_cosine(v.y);
    var z = sine_cosine(v.z);
    encoded[0] = v.x;
    encoded[1] = v.y;
    encoded[2] = v.z;
    for (var octave = 0u; octave < n_octaves; octave++) {
        let at = 3u + 6u * octave;
        encoded[at] = x.x;
        encoded[at + 1u] = y.x;
        encoded[at + 2u] = z.x;
        encoded[at + 3u] = x.y;
        encoded[at + 4u] = y.y;
        encoded[at + 5u] = z.y;
        x = doubled(x);
        y = doubled(y);
        z = doubled(z);
    }
}

fn four(at: u32) -> vec4f {
    return vec4f(params[at], params[at + 1u], params[at + 2u], params[at + 3u]);
}

fn sixteen(at: u32) -> mat4x4f {
    return mat4x4f(four(at), four(at + 4u), four(at + 8u), four(at + 12u));
}

// Adds the product of four inputs with sixteen columns of four rows of weights.
fn product(inputs: vec4f, at: u32, stride: u32) -> mat4x4f {
    return inputs.x * sixteen(at) + inputs.y * sixteen(at + stride)
        + inputs.z * sixteen(at + 2u * stride) + inputs.w * sixteen(at + 3u * stride);
}

fn encoded_at(i: u32) -> vec4f {
    return vec4f(encoded[i], encoded[i + 1u], encoded[i + 2u], encoded[i + 3u]);
}

fn hidden_at(i: u32) -> vec4f {
    return vec4f(hidden[i], hidden[i + 1u], hidden[i + 2u], hidden[i + 3u]);
}

// The product of a direction with the color branch's weights, once per ray.
fn hear_direction(net: Net, direction: vec3f) {
    encode(direction, 4u);
    encoded[27] = 0.0;
    for (var j = 0u; j < field.branch; j += 16u) {
        var sum = sixteen(net.branch_bias + j);
        for (var i = 0u; i < DIRECTION_INPUTS; i += 4u) {
            let at = net.branch_direction + i * field.branch + j;
            sum += product(encoded_at(i), at, field.branch);
        }
        for (var c = 0u; c < 4u; c++) {
            for (var r = 0u; r < 4u; r++) {
                branch_bias[j + 4u * c + r] = sum[c][r];
            }
        }
    }
}

// Evaluates the network at one distance along a ray, after the direction's product.
fn ask(net: Net, ray: Ray, distance: f32) -> Sample {
    encode((ray.origin + distance * ray.direction) * POSITION_SCALE, 10u);
    encoded[63] = 0.0;
    let width = field.width;
    var layer_at = net.second_layer;
    for (var layer = 0u; layer < field.depth; layer++) {
        let is_skip = layer > 0u && layer == field.skip;
        let position = select(net.first_position, net.skip_position, is_skip);
        for (var j = 0u; j < width; j += 16u) {
            let bias = net.first_bias + layer * width + j;
            var sum = mat4x4f();
            if layer > 0u {
                for (var i = 0u; i < width; i += 4u) {
                    sum += product(hidden_at(i), layer_at + i * width + j, width);
                }
            }
            if layer == 0u || is_skip {
                for (var i = 0u; i < POSITION_INPUTS; i += 4u) {
                    sum += product(encoded_at(i), position + i * width + j, width);
                }
            }
            for (var c = 0u; c < 4u; c++) {
                let at = 4u * c;
                next[j + at] = max(sum[c].x + biases[bias + at], 0.0);
                next[j + at + 1u] = max(sum[c].y + biases[bias + at + 1u], 0.0);
                next[j + at + 2u] = max(sum[c].z + biases[bias + at + 2u], 0.0);
                next[j + at + 3u] = max(sum[c].w + biases[bias + at + 3u], 0.0);
            }
        }
        for (var j = 0u; j < width; j += 4u) {
            hidden[j] = next[j];
            hidden[j + 1u] = next[j + 1u];
            hidden[j + 2u] = next[j + 2u];
            hidden[j + 3u] = next[j + 3u];
        }
        if layer > 0u {
            layer_at += width * width + width + select(0u, net.skip_extra, is_skip);
        }
    }
    var log_density = params[net.density_bias];
    for (var i = 0u; i < width; i += 4u) {
        log_density += dot(hidden_at(i), four(net.density + i));
    }
    var logits = vec3f(
        params[net.color_bias], params[net.color_bias + 1u], params[net.color_bias + 2u]
    );
    for (var j = 0u; j < field.branch; j += 16u) {
        var sum = mat4x4f();
        for (var i = 0u; i < width; i += 4u) {
            sum += product(hidden_at(i), net.branch + i * field.branch + j, field.branch);
        }
        for (var c = 0u; c < 4u; c++) {
            for (var r = 0u; r < 4u; r++) {
                let column = j + 4u * c + r;
                let at = net.color + 3u * column;
                let value = max(sum[c][r] + branch_bias[column], 0.0);
                logits += value * vec3f(params[at], params[at + 1u], params[at + 2u]);
            }
        }
    }
    let color = 1.0 / (1.0 + exp(-logits));
    return Sample(color, exp(clamp(log_density, LOG_DENSITY_MIN, LOG_DENSITY_MAX)));
}

// The center of one of `n` equal intervals of a ray.
fn even(ray: Ray, index: u32, n: u32) -> f32 {
    return ray.near + (f32(index) + 0.5) * ((ray.far - ray.near) / f32(n));
}

// Distances of the fine samples from the coarse weights; `place_by_mass` in Rust.
fn place_by_mass(ray: Ray) {
    let n = field.coarse;
    var total = 0.0;
    for (var i = 0u; i < n; i++) {
        total += weights[i] + MASS_FLOOR;
    }
    let step = (ray.far - ray.near) / f32(n);
    let share = total / f32(field.fine);
    var bin = 0u;
    var before = 0.0;
    for (var k = 0u; k < field.fine; k++) {
        let mass = (f32(k) + 0.5) * share;
        while bin + 1u < n && before + weights[bin] + MASS_FLOOR < mass {
            before += weights[bin] + MASS_FLOOR;
            bin++;
        }
        let inside = clamp((mass - before) / (weights[bin] + MASS_FLOOR), 0.0, 1.0);
        fine_places[k] = ray.near + (f32(bin) + inside) * step;
    }
}

// One pass along a ray: composites its samples (even ones, or coarse and fine ones in order of
// distance) over a backdrop color. Keeps positions and weights of even samples.
fn integrate(net: Net, ray: Ray, n: u32, is_fine: bool, behind: vec3f) -> vec3f {
    var rgb = vec3f(0.0);
    var transmittance = 1.0;
    hear_direction(net, ray.direction);
    var i = 0u;
    var j = 0u;
    var place = 0.0;
    // Composites one sample late, because a sample's width depends on the next position.
    for (var k = 0u; k <= n; k++) {
        var after = ray.far;
        if k < n {
            if is_fine {
                let from_coarse =
                    j >= field.fine || (i < field.coarse && coarse_places[i] <= fine_places[j]);
                if from_coarse {
                    after = coarse_places[i];
                    i++;
                } else {
                    after = fine_places[j];
                    j++;
                }
            } else {
                after = even(ray, k, n);
                coarse_places[k] = after;
            }
        }
        if k > 0u {
            let one = ask(net, ray, place);
            let through = exp(-one.sigma * max(after - place, 0.0));
            let weight = transmittance * (1.0 - through);
            if !is_fine {
                weights[k - 1u] = weight;
            }
            rgb += weight * one.color;
            transmittance *= through;
        }
        place = after;
    }
    return rgb + transmittance * behind;
}

// Reads the background, bilinear and clamped; `read_picture` in Rust.
fn read_background(point: vec2f) -> vec3f {
    let n = field.background;
    let at = clamp(point * f32(n) - 0.5, vec2f(0.0), vec2f(f32(n - 1u)));
    let low = min(vec2u(at), vec2u(n - 2u));
    let share = at - vec2f(low);
    let first = low.y * n + low.x;
    let above = mix(background[first].rgb, background[first + 1u].rgb, share.x);
    let below = mix(background[first + n].rgb, background[first + n + 1u].rgb, share.x);
    return mix(above, below, share.y);
}

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3u) {
    let size = textureDimensions(picture);
    if any(id.xy >= size) {
        return;
    }
    let point = (vec2f(id.xy) + 0.5) / vec2f(size);
    let toward = vec3f((point - 0.5) / field.focal, 1.0);
    let d = field.torso_distance;
    let torso = Ray(vec3f(0.0, 0.0, -d), normalize(toward), d - field.near, d + field.far);
    let origin = frame.origin.xyz;
    let turned = frame.axis_x.xyz * toward.x + frame.axis_y.xyz * toward.y + frame.axis_z.xyz;
    let away = length(origin);
    let head = Ray(origin, normalize(turned), max(away - field.near, 0.0), away + field.far);

    // Torso, coarse and fine pass in one loop, so that the network is compiled once.
    let n_passes = select(3u, 2u, field.fine == 0u);
    var rgb = read_background(point);
    var behind = rgb;
    for (var pass_idx = 0u; pass_idx < n_passes; pass_idx++) {
        var net_idx = pass_idx - 1u;
        var ray = head;
        var n = field.coarse;
        if pass_idx == 0u {
            net_idx = n_passes - 1u;
            ray = torso;
            n = field.torso;
        } else if pass_idx == 1u {
            behind = rgb;
        } else {
            place_by_mass(ray);
            n = field.coarse + field.fine;
        }
        rgb = integrate(field.nets[net_idx], ray, n, pass_idx == 2u, behind);
    }
    textureStore(picture, id.xy, vec4f(clamp(rgb, vec3f(0.0), vec3f(1.0)), 1.0));
}
