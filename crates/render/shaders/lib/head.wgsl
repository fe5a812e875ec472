// The head along one ray: march and samples.

// Rust twin: `face::BINS`.
const BINS: u32 = 32u;
// Rust twins: the constants of these names in `face`; set when the pipeline is made.
override MIN_MASS: f32;
override LOG_DENSITY_MIN: f32;
override LOG_DENSITY_MAX: f32;
override LOGIT_SCALE: f32;
// The march stops at this transmittance: what lies behind is not visible in 8 bits.
const OPAQUE: f32 = 1e-4;

// Returns the distances at which the ray enters and leaves the head box. If it misses, it leaves
// before it enters. Rust twin: `face::Ray::span`.
fn head_span(origin: vec3f, direction: vec3f) -> vec2f {
    let inverse = 1.0 / select(direction, vec3f(1e-6), abs(direction) < vec3f(1e-6));
    let a = (field.head_min.xyz - origin) * inverse;
    let b = (field.head_max.xyz - origin) * inverse;
    let near = min(a, b);
    let far = max(a, b);
    return vec2f(
        max(max(0.0, near.x), max(near.y, near.z)),
        min(min(1e9, far.x), min(far.y, far.z)),
    );
}

// Features accumulated along a ray, weighted by alpha, and their alpha.
struct Head {
    low: vec4f,
    high: vec4f,
    alpha: f32,
}

// Marches a ray and accumulates the features of its samples.
// Rust twin: steps 1 and 2 of `face::FrameField::render_ray`.
fn read_head(origin: vec3f, direction: vec3f) -> Head {
    var head = Head(vec4f(0.0), vec4f(0.0), 0.0);
    let span = head_span(origin, direction);
    let length = span.y - span.x;
    if length <= 1e-4 {
        return head;
    }

    // Accumulated mass at the end of each bin: one minus the transmittance.
    var passed: array<f32, BINS>;
    let step = length / f32(BINS);
    let start = (origin + direction * (span.x + 0.5 * step)) * field.density_scale.xyz + field.density_offset.xyz;
    let delta = direction * step * field.density_scale.xyz;
    var transmittance = 1.0;
    var n_bins = 0u;
    while n_bins < BINS && transmittance > OPAQUE {
        let logit = textureSampleLevel(density, linear, start + f32(n_bins) * delta, 0.0).x;
        let sigma = exp(clamp(LOGIT_SCALE * logit, LOG_DENSITY_MIN, LOG_DENSITY_MAX));
        transmittance *= exp(-sigma * step);
        passed[n_bins] = 1.0 - transmittance;
        n_bins++;
    }
    let mass = 1.0 - transmittance;
    if mass < MIN_MASS {
        return head;
    }

    // One sample at the center of each of n equal parts of the mass.
    let share = mass / f32(frame.n_samples);
    var bin = 0u;
    var before = 0.0;
    var after = passed[0];
    for (var k = 0u; k < frame.n_samples; k++) {
        let wanted = (f32(k) + 0.5) * share;
        while bin + 1u < n_bins && after < wanted {
            bin++;
            before = after;
            after = passed[bin];
        }
        let inside = clamp((wanted - before) / max(after - before, 1e-9), 0.0, 1.0);
        let p = origin + direction * (span.x + (f32(bin) + inside) * step);

        let offset = textureSampleLevel(warp, linear, p.xy * field.warp.xy + field.warp.zw, 0.0).xy;
        let warped = vec3f(p.xy + offset, p.z);
        let uv = warped.xy * field.plane_xy.xy + field.plane_xy.zw;
        let uvw = warped * field.plane_z_scale.xyz + field.plane_z_offset.xyz;
        let feature_low = textureSampleLevel(plane_xy, linear, uv, 0u, 0.0)
            * textureSampleLevel(plane_z, linear, uvw.xz, 0u, 0.0)
            * textureSampleLevel(plane_z, linear, uvw.yz, 2u, 0.0);
        let feature_high = textureSampleLevel(plane_xy, linear, uv, 1u, 0.0)
            * textureSampleLevel(plane_z, linear, uvw.xz, 1u, 0.0)
            * textureSampleLevel(plane_z, linear, uvw.yz, 3u, 0.0);

        let logit = dot(feature_low, field.opacity_low) + dot(feature_high, field.opacity_high);
        let a = sigmoid(LOGIT_SCALE * logit + field.opacity_bias.x) * share;
        head.low += a * feature_low;
        head.high += a * feature_high;
        head.alpha += a;
    }
    return head;
}
