//! Deterministic noise: uniform numbers by index, smooth noise over time and over the plane.

use numerics::hash;

/// Returns a uniform number in `0.0..1.0` by seed and index.
pub(crate) fn uniform(seed: u64, index: u64) -> f32 {
    (hash(seed, index) >> 40) as f32 / (1_u64 << 24) as f32
}

/// Returns smooth noise over time, about -1..=1: a cubic B-spline with a random knot per second, twice
/// continuously differentiable.
pub(crate) fn drift(seed: u64, seconds: f64) -> f32 {
    let cell = seconds.floor();
    let t = (seconds - cell) as f32;
    let knot = |k: i64| uniform(seed, (cell as i64 + k) as u64) * 2.0 - 1.0;
    let (a, b, c, d) = (knot(-1), knot(0), knot(1), knot(2));
    let (t2, t3) = (t * t, t * t * t);
    let sum = a * (1.0 - t).powi(3)
        + b * (3.0 * t3 - 6.0 * t2 + 4.0)
        + c * (-3.0 * t3 + 3.0 * t2 + 3.0 * t + 1.0)
        + d * t3;
    sum / 6.0 * 1.5
}

fn lattice(x: i32, y: i32, seed: u32) -> f32 {
    let mut h = (x as u32).wrapping_mul(0x8DA6_B343)
        ^ (y as u32).wrapping_mul(0xD816_3841)
        ^ seed.wrapping_mul(0xCB1A_B31F);
    h = (h ^ (h >> 13)).wrapping_mul(0x5BD1_E995);
    h ^= h >> 15;
    h = h.wrapping_mul(0x2C1B_3C6D);
    (h >> 8) as f32 / (1 << 23) as f32 - 1.0
}

/// Returns value noise on the plane with features of unit size, -1..=1.
pub(crate) fn plane(x: f32, y: f32, seed: u32) -> f32 {
    let (xf, yf) = (x.floor(), y.floor());
    let (xi, yi) = (xf as i32, yf as i32);
    let (u, v) = (fade(x - xf), fade(y - yf));
    let top = lerp(lattice(xi, yi, seed), lattice(xi + 1, yi, seed), u);
    let bottom = lerp(lattice(xi, yi + 1, seed), lattice(xi + 1, yi + 1, seed), u);
    lerp(top, bottom, v)
}

/// Returns the sum of a few octaves of [`plane`], about -1..=1.
pub(crate) fn fractal(x: f32, y: f32, octaves: u32, seed: u32) -> f32 {
    let (mut sum, mut scale, mut weight) = (0.0, 1.0, 0.5);
    for octave in 0..octaves {
        sum += weight * plane(x * scale, y * scale, seed.wrapping_add(octave * 101));
        scale *= 2.03;
        weight *= 0.5;
    }
    sum
}

fn fade(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

/// Interpolates linearly from `a` (`t` 0) to `b` (1).
pub(crate) fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// Returns a smooth step, 0 up to `low` and 1 from `high` on; falling if `low > high`.
pub(crate) fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    fade(((x - low) / (high - low)).clamp(0.0, 1.0))
}

/// Returns a Gaussian of height 1 and standard deviation `width`.
pub(crate) fn bell(distance: f32, width: f32) -> f32 {
    (-0.5 * (distance / width).powi(2)).exp()
}
