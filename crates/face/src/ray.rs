use rayon::prelude::*;

use crate::math::{Taps, Texel, add_scaled, exp, floor, sigmoid};
use crate::sizes::{Bounds, CHANNELS, FLOW_HEIGHT, FLOW_WIDTH, HIDDEN, SHADE_INPUTS};
use crate::{FaceModel, FoldedField, FrameInputs, Sizes};

/// Bins of the march through the density.
pub const BINS: usize = 32;
/// Samples of equal mass at which features are read, as shipped.
pub const DEFAULT_SAMPLES: u32 = 6;
/// Most samples a ray may ask for.
pub const MAX_SAMPLES: u32 = 32;
/// A ray whose march finds less mass than this has no head on it.
pub const MIN_MASS: f32 = 0.004;
/// `ln(sigma) = (4 * logit).clamp(LOG_DENSITY.0, LOG_DENSITY.1)`, sigma in 1 / canonical unit.
pub const LOG_DENSITY: (f32, f32) = (-8.0, 6.0);
/// The slope of `ln(sigma)` over the density's logit, and of the opacity's logit over the features.
pub const LOGIT_SCALE: f32 = 4.0;
/// Added to alpha when the mean feature is taken.
pub const MEAN_FLOOR: f32 = 0.05;

/// The color of the ray through image point `x, y`: the definition of the field.
///
/// Colors are sRGB-encoded, 0..=1; there is no linear light anywhere in the field. In order:
/// 1. **March** ([`march`]): [`BINS`] equal bins between the walls of the head box, density read
///    trilinearly at their middles, `wᵢ = Tᵢ (1 − exp(−σᵢ δ))`, `W = Σ wᵢ`. With `W <` [`MIN_MASS`]
///    there is no head: go to 4.
/// 2. **Samples** ([`place_samples`]): the mass is cut into `n_samples` equal parts, each with one
///    sample in the middle of its mass. There (x, y moved by the warp) the three planes are read
///    and multiplied: `f = XY ⊙ XZ ⊙ YZ`; `a = sigmoid(4 w·f + b)`; `F += W/n · a · f`,
///    `A += W/n · a`.
/// 3. **Shade**, once: `[F / (A + 0.05), A, direction.x, direction.y]` → 32 → 32 → 3 with
///    rectifiers and a sigmoid; the code's part of the first layer is `inputs.shade_bias`.
/// 4. **Composite**: head over torso over background,
///    `A·rgb + (1 − A)(At·torso + (1 − At)·background)`, clamped to 0..=1.
///
/// `n_samples` is clamped to 1..=[`MAX_SAMPLES`].
#[inline(always)]
pub fn render_ray(
    model: &FaceModel,
    folded: &FoldedField,
    inputs: &FrameInputs,
    x: f32,
    y: f32,
    n_samples: u32,
) -> [f32; 3] {
    unclamped_ray(model, folded, inputs, x, y, n_samples).map(|v| v.clamp(0.0, 1.0))
}

/// [`render_ray`] before its colors are clamped: what changes smoothly with the feature.
#[inline(always)]
pub fn unclamped_ray(
    model: &FaceModel,
    folded: &FoldedField,
    inputs: &FrameInputs,
    x: f32,
    y: f32,
    n_samples: u32,
) -> [f32; 3] {
    let mut rgb = read_behind(model, folded, inputs, x, y);
    if let Some(head) = trace_head(model, folded, inputs, x, y, n_samples) {
        for (c, head_c) in rgb.iter_mut().zip(head.rgb) {
            *c = head.alpha * head_c + (1.0 - head.alpha) * *c;
        }
    }
    rgb
}

/// What a ray meets of the head.
#[derive(Clone, Copy, Debug)]
pub struct HeadSample {
    /// Its color, 0..=1, not yet weighted by `alpha`.
    pub rgb: [f32; 3],
    /// How much of what is behind it hides, 0..=1.
    pub alpha: f32,
    /// Mean distance of its samples from the camera, canonical units.
    pub depth: f32,
}

/// Steps 1 to 3 of [`render_ray`]; `None` where there is no head.
#[inline(always)]
pub fn trace_head(
    model: &FaceModel,
    folded: &FoldedField,
    inputs: &FrameInputs,
    x: f32,
    y: f32,
    n_samples: u32,
) -> Option<HeadSample> {
    let ray = march_head(model, folded, inputs, x, y)?;
    Some(shade_head(model, folded, inputs, &ray, n_samples))
}

/// A ray that meets the head, and where.
#[derive(Clone, Copy, Debug)]
pub struct HeadRay {
    /// Canonical space.
    pub origin: [f32; 3],
    /// Unit direction, canonical space.
    pub direction: [f32; 3],
    /// Distances at which it enters and leaves the head box.
    pub span: (f32, f32),
    /// What it met in between.
    pub march: March,
}

impl HeadRay {
    /// The point at `t` along the span, 0..=1, and its distance.
    #[inline(always)]
    pub fn at(&self, t: f32) -> ([f32; 3], f32) {
        let distance = self.span.0 + t * (self.span.1 - self.span.0);
        (at(self.origin, self.direction, distance), distance)
    }
}

/// Step 1 of [`render_ray`]; `None` where there is no head.
#[inline(always)]
pub fn march_head(
    model: &FaceModel,
    folded: &FoldedField,
    inputs: &FrameInputs,
    x: f32,
    y: f32,
) -> Option<HeadRay> {
    let sizes = model.sizes();
    let (origin, direction) = ray(inputs, x, y);
    let span = head_span(&sizes.head, origin, direction)?;
    let march = march(sizes, &folded.density, origin, direction, span);
    (march.mass >= MIN_MASS).then_some(HeadRay { origin, direction, span, march })
}

/// Steps 2 and 3 of [`render_ray`].
#[inline(always)]
pub fn shade_head(
    model: &FaceModel,
    folded: &FoldedField,
    inputs: &FrameInputs,
    ray: &HeadRay,
    n_samples: u32,
) -> HeadSample {
    let (sizes, layout) = (model.sizes(), model.layout());
    let part = |range: &std::ops::Range<usize>| &model.params()[range.clone()];
    let n = n_samples.clamp(1, MAX_SAMPLES);
    let opacity = part(&layout.opacity);
    let mut sum = [0.0; CHANNELS];
    let (mut alpha, mut depth) = (0.0, 0.0);
    place_samples(
        &ray.march,
        n,
        #[inline(always)]
        |t| {
            let (point, distance) = ray.at(t);
            let feature = read_planes(sizes, folded, point);
            let a = sample_opacity(opacity, &feature) * ray.march.mass / n as f32;
            add_scaled(&mut sum, a, &feature);
            alpha += a;
            depth += distance / n as f32;
        },
    );
    let shading = shade(
        part(&layout.shade_w1),
        &inputs.shade_bias,
        part(&layout.shade_w2),
        part(&layout.shade_b2),
        part(&layout.shade_w3),
        part(&layout.shade_b3),
        &shade_inputs(&sum, alpha, ray.direction),
    );
    HeadSample { rgb: shading.rgb, alpha, depth }
}

/// The torso over the background at an image point: step 4 of [`render_ray`] without the head.
#[inline(always)]
pub fn read_behind(
    model: &FaceModel,
    folded: &FoldedField,
    inputs: &FrameInputs,
    x: f32,
    y: f32,
) -> [f32; 3] {
    let (sizes, layout) = (model.sizes(), model.layout());
    let (torso, alpha) = read_torso(sizes, folded, inputs, x, y);
    let background = &model.params()[layout.background.clone()];
    let behind = read_background(sizes, background, inputs, x, y);
    std::array::from_fn(|c| behind[c] + (torso[c] - behind[c]) * alpha)
}

/// A square picture of `side` pixels, row by row: [`render_ray`] through the middle of each pixel.
pub fn render_cpu(
    model: &FaceModel,
    inputs: &FrameInputs,
    side: u32,
    samples: u32,
) -> Vec<[f32; 3]> {
    let folded = &model.fold(inputs);
    picture(
        side,
        #[inline(always)]
        |x, y| render_ray(model, folded, inputs, x, y, samples),
    )
}

/// A square picture of `side` pixels, row by row, on all threads and in the vectors of this
/// processor: `color` of the middle of each pixel.
pub(crate) fn picture(side: u32, color: impl Fn(f32, f32) -> [f32; 3] + Sync) -> Vec<[f32; 3]> {
    let mut picture = vec![[0.0; 3]; (side * side) as usize];
    let pixel = 1.0 / side as f32;
    picture.par_chunks_exact_mut(side.max(1) as usize).enumerate().for_each(|(row, line)| {
        let (y, color) = ((row as f32 + 0.5) * pixel, &color);
        pulp::Arch::new().dispatch(
            #[inline(always)]
            move || {
                // Moved out, so that this can be called once only: a closure that could be called
                // again is called through a shim, which is compiled for the oldest processor.
                let line = line;
                for (column, rgb) in line.iter_mut().enumerate() {
                    *rgb = color((column as f32 + 0.5) * pixel, y);
                }
            },
        );
    });
    picture
}

/// Origin and unit direction, canonical space, of the ray through image point `x, y`.
#[inline(always)]
pub fn ray(inputs: &FrameInputs, x: f32, y: f32) -> ([f32; 3], [f32; 3]) {
    let (u, v) = ((x - 0.5) / inputs.focal, (y - 0.5) / inputs.focal);
    let a = &inputs.axes;
    let d: [f32; 3] = std::array::from_fn(|i| a[0][i] * u + a[1][i] * v + a[2][i]);
    let scale = 1.0 / (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]).sqrt();
    (inputs.origin, d.map(|c| c * scale))
}

/// Where the ray enters and leaves the box, or `None` if it misses it (or it lies behind).
///
/// A direction component smaller than 1e-6 is taken as 1e-6, so that nothing is divided by zero.
#[inline(always)]
pub fn head_span(bounds: &Bounds<3>, origin: [f32; 3], direction: [f32; 3]) -> Option<(f32, f32)> {
    let (mut enter, mut leave) = (0.0_f32, 1e9_f32);
    for i in 0..3 {
        let d = direction[i];
        let inverse = 1.0 / if d.abs() < 1e-6 { 1e-6 } else { d };
        let a = (bounds.min[i] - origin[i]) * inverse;
        let b = (bounds.max[i] - origin[i]) * inverse;
        enter = enter.max(a.min(b));
        leave = leave.min(a.max(b));
    }
    (leave - enter > 1e-4).then_some((enter, leave))
}

/// What the march along one ray found.
#[derive(Clone, Copy, Debug)]
pub struct March {
    /// `wᵢ = Tᵢ αᵢ` of each bin, near to far.
    pub weights: [f32; BINS],
    /// Their sum, 0..=1.
    pub mass: f32,
}

/// Weighs the bins of a ray by the density in their middles; see [`render_ray`].
#[inline(always)]
pub fn march(
    sizes: &Sizes,
    density: &[f32],
    origin: [f32; 3],
    direction: [f32; 3],
    (enter, leave): (f32, f32),
) -> March {
    let n = sizes.density;
    let step = (leave - enter) / BINS as f32;
    let last = (n - 1) as f32;
    // Grid position of bin middle i is start + i * delta, along each axis.
    let mut start = [0.0; 3];
    let mut delta = [0.0; 3];
    for i in 0..3 {
        let scale = last / (sizes.head.max[i] - sizes.head.min[i]);
        start[i] = (origin[i] + direction[i] * (enter + 0.5 * step) - sizes.head.min[i]) * scale;
        delta[i] = direction[i] * step * scale;
    }
    let mut alpha = trilinear(density, n, start, delta);
    for a in &mut alpha {
        let sigma = exp((LOGIT_SCALE * *a).clamp(LOG_DENSITY.0, LOG_DENSITY.1));
        *a = 1.0 - exp(-sigma * step);
    }
    let mut weights = [0.0; BINS];
    let mut transmittance = 1.0;
    for (w, a) in weights.iter_mut().zip(alpha) {
        *w = transmittance * a;
        transmittance *= 1.0 - a;
    }
    March { weights, mass: weights.iter().sum() }
}

/// Reads `grid[z][y][x]` of `n` cells a side at `start + i · delta`, in cells, clamped to
/// `0..=n - 1`.
///
/// All bins at once, one thing after another, so that everything but the reads themselves is done
/// in vector registers.
#[inline(always)]
fn trilinear(grid: &[f32], n: usize, start: [f32; 3], delta: [f32; 3]) -> [f32; BINS] {
    let mut low = [[0_u32; BINS]; 3];
    let mut share = [[0.0_f32; BINS]; 3];
    for c in 0..3 {
        for i in 0..BINS {
            let p = (start[c] + i as f32 * delta[c]).clamp(0.0, (n - 1) as f32);
            low[c][i] = floor(p).min(n as u32 - 2);
            share[c][i] = p - low[c][i] as i32 as f32;
        }
    }
    // From low to high x, then y, then z.
    let mut corners = [[0.0_f32; BINS]; 8];
    for i in 0..BINS {
        let at = (low[2][i] as usize * n + low[1][i] as usize) * n + low[0][i] as usize;
        for (half, at) in corners.as_chunks_mut::<4>().0.iter_mut().zip([at, at + n * n]) {
            let cells = &grid[at..at + n + 2];
            half[0][i] = cells[0];
            half[1][i] = cells[1];
            half[2][i] = cells[n];
            half[3][i] = cells[n + 1];
        }
    }
    std::array::from_fn(
        #[inline(always)]
        |i| {
            let between = |a: f32, b: f32, share: f32| a + (b - a) * share;
            let line = |k: usize| between(corners[k][i], corners[k + 1][i], share[0][i]);
            let near = between(line(0), line(2), share[1][i]);
            let far = between(line(4), line(6), share[1][i]);
            between(near, far, share[2][i])
        },
    )
}

/// Calls `sample(t)` for each of `n` parts of equal mass, `t` in 0..=1 along the marched span:
/// where half of the part's mass lies before it, inside a bin by a straight line.
#[inline(always)]
pub fn place_samples(march: &March, n: u32, mut sample: impl FnMut(f32)) {
    let share = march.mass / n as f32;
    let (mut bin, mut before) = (0, 0.0);
    for k in 0..n {
        let mass = (k as f32 + 0.5) * share;
        while bin < BINS - 1 && before + march.weights[bin] < mass {
            before += march.weights[bin];
            bin += 1;
        }
        let inside = ((mass - before) / march.weights[bin].max(1e-9)).clamp(0.0, 1.0);
        sample((bin as f32 + inside) / BINS as f32);
    }
}

/// `origin + t * direction`.
#[inline(always)]
pub fn at(origin: [f32; 3], direction: [f32; 3], t: f32) -> [f32; 3] {
    std::array::from_fn(|i| origin[i] + t * direction[i])
}

/// The product of the three planes at `p`, canonical space, with `x, y` moved by the warp.
#[inline(always)]
pub fn read_planes(sizes: &Sizes, folded: &FoldedField, p: [f32; 3]) -> Texel {
    let (face, head) = (&sizes.face, &sizes.head);
    let warp = Taps::new(face.relative(0, p[0]), face.relative(1, p[1]), sizes.warp, sizes.warp)
        .read(&folded.warp);
    let u = head.relative(0, p[0] + warp[0]);
    let v = head.relative(1, p[1] + warp[1]);
    let w = head.relative(2, p[2]);
    let xy = Taps::new(u, v, sizes.plane_xy, sizes.plane_xy).read(&folded.xy);
    let xz = Taps::new(u, w, sizes.plane_z, sizes.plane_z).read(&folded.xz);
    let yz = Taps::new(v, w, sizes.plane_z, sizes.plane_z).read(&folded.yz);
    std::array::from_fn(|c| xy[c] * xz[c] * yz[c])
}

/// `sigmoid(4 w·f + b)`; `opacity` is `w` then `b`.
#[inline(always)]
pub fn sample_opacity(opacity: &[f32], feature: &Texel) -> f32 {
    let dot: f32 = opacity[..CHANNELS].iter().zip(feature).map(|(w, f)| w * f).sum();
    sigmoid(LOGIT_SCALE * dot + opacity[CHANNELS])
}

/// `[F / (A + 0.05), A, direction.x, direction.y]`.
#[inline(always)]
pub fn shade_inputs(
    feature: &[f32; CHANNELS],
    alpha: f32,
    direction: [f32; 3],
) -> [f32; SHADE_INPUTS] {
    let scale = 1.0 / (alpha + MEAN_FLOOR);
    let mut inputs = [0.0; SHADE_INPUTS];
    for (i, f) in inputs.iter_mut().zip(feature) {
        *i = f * scale;
    }
    inputs[CHANNELS..].copy_from_slice(&[alpha, direction[0], direction[1]]);
    inputs
}

/// The shading network's layers for one ray.
#[derive(Clone, Copy, Debug)]
pub struct Shading {
    /// First hidden layer, rectified.
    pub hidden1: [f32; HIDDEN],
    /// Second hidden layer, rectified.
    pub hidden2: [f32; HIDDEN],
    /// Color of the head, 0..=1.
    pub rgb: [f32; 3],
}

/// `sigmoid(w3 · relu(w2 · relu(w1 · inputs + b1) + b2) + b3)`; shapes as in [`crate::Layout`].
#[inline(always)]
pub fn shade(
    w1: &[f32],
    b1: &[f32; HIDDEN],
    w2: &[f32],
    b2: &[f32],
    w3: &[f32],
    b3: &[f32],
    inputs: &[f32; SHADE_INPUTS],
) -> Shading {
    let mut hidden1 = *b1;
    for (row, value) in w1.as_chunks::<HIDDEN>().0.iter().zip(inputs) {
        add_scaled(&mut hidden1, *value, row);
    }
    for h in &mut hidden1 {
        *h = h.max(0.0);
    }
    let mut hidden2 = [0.0; HIDDEN];
    hidden2.copy_from_slice(b2);
    for (row, value) in w2.as_chunks::<HIDDEN>().0.iter().zip(&hidden1) {
        add_scaled(&mut hidden2, *value, row);
    }
    for h in &mut hidden2 {
        *h = h.max(0.0);
    }
    let rgb = std::array::from_fn(|c| {
        let row = &w3.as_chunks::<HIDDEN>().0[c];
        // Eight sums at a time, so that the order of additions suits a vector register.
        let mut lanes = [0.0_f32; 8];
        for (w, h) in row.as_chunks::<8>().0.iter().zip(hidden2.as_chunks::<8>().0) {
            for i in 0..8 {
                lanes[i] += w[i] * h[i];
            }
        }
        sigmoid(lanes.iter().sum::<f32>() + b3[c])
    });
    Shading { hidden1, hidden2, rgb }
}

/// Where image point `x, y` lies on the torso texture: `u, v`, 0..=1 inside it.
#[inline(always)]
pub fn torso_position(sizes: &Sizes, inputs: &FrameInputs, x: f32, y: f32) -> (f32, f32) {
    let [a, b, tx, c, d, ty] = inputs.torso_affine;
    let (dx, dy) = (x - 0.5, y - 0.5);
    let flow = flow_taps(sizes, x, y).read(&inputs.flow);
    let qx = x + a * dx + b * dy + tx + flow[0];
    let qy = y + c * dx + d * dy + ty + flow[1];
    (sizes.torso.relative(0, qx), sizes.torso.relative(1, qy))
}

/// The flow texels around image point `x, y`.
#[inline(always)]
pub fn flow_taps(sizes: &Sizes, x: f32, y: f32) -> Taps {
    let (u, v) = (sizes.torso.relative(0, x), sizes.torso.relative(1, y));
    Taps::new(u, v, FLOW_WIDTH, FLOW_HEIGHT)
}

/// How much of the torso's alpha holds at relative height `v`: none above the texture's first
/// row, all of it one texel below.
#[inline(always)]
pub fn torso_edge(sizes: &Sizes, v: f32) -> f32 {
    (v * (sizes.torso_height - 1) as f32).clamp(0.0, 1.0)
}

/// Color and alpha of the torso at an image point.
///
/// The texture is read bilinearly (align-corners, clamped) at [`torso_position`]; alpha is the
/// sigmoid of the fourth channel times [`torso_edge`].
#[inline(always)]
pub fn read_torso(
    sizes: &Sizes,
    folded: &FoldedField,
    inputs: &FrameInputs,
    x: f32,
    y: f32,
) -> ([f32; 3], f32) {
    let (u, v) = torso_position(sizes, inputs, x, y);
    let texel = Taps::new(u, v, sizes.torso_width, sizes.torso_height).read(&folded.torso);
    ([texel[0], texel[1], texel[2]], sigmoid(texel[3]) * torso_edge(sizes, v))
}

/// Texels of the background around an image point and their shares.
///
/// The background is a picture: texel `i` of `n` has its middle at `(i + 0.5) / n`; clamped.
#[inline(always)]
pub fn background_taps(sizes: &Sizes, inputs: &FrameInputs, x: f32, y: f32) -> Taps {
    let n = sizes.background as f32;
    let relative = |p: f32| (p * n - 0.5) / (n - 1.0);
    Taps::new(
        relative(x + inputs.background_shift[0]),
        relative(y + inputs.background_shift[1]),
        sizes.background,
        sizes.background,
    )
}

/// Color of the background at an image point.
#[inline(always)]
pub fn read_background(
    sizes: &Sizes,
    background: &[f32],
    inputs: &FrameInputs,
    x: f32,
    y: f32,
) -> [f32; 3] {
    background_taps(sizes, inputs, x, y).read(background.as_chunks::<3>().0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one_bin(bin: usize) -> March {
        let mut weights = [0.0; BINS];
        weights[bin] = 0.8;
        March { weights, mass: 0.8 }
    }

    #[test]
    fn samples_cut_the_mass_of_a_bin_into_equal_parts() {
        let mut at = Vec::new();
        place_samples(&one_bin(3), 4, |t| at.push(t * BINS as f32));
        for (got, want) in at.iter().zip([3.125, 3.375, 3.625, 3.875]) {
            assert!((got - want).abs() < 1e-5);
        }
    }

    #[test]
    fn a_solid_box_stops_every_ray_and_an_empty_one_none() {
        let sizes = Sizes::tiny();
        let cells = sizes.density.pow(3);
        let (origin, direction) = ([0.0, -0.2, -10.0], [0.0, 0.0, 1.0]);
        let span = head_span(&sizes.head, origin, direction).expect("it points at the box");
        assert!((span.0 - (10.0 + sizes.head.min[2])).abs() < 1e-4);
        let solid = march(&sizes, &vec![1.5; cells], origin, direction, span);
        let empty = march(&sizes, &vec![-2.0; cells], origin, direction, span);
        assert!(solid.mass > 0.9999 && solid.weights[0] > 0.9);
        assert!(empty.mass < MIN_MASS);
        assert!(head_span(&sizes.head, [9.0, 0.0, -10.0], direction).is_none());
    }

    proptest! {
        /// The law of compositing: the mass is what the transmittance lost.
        #[test]
        fn mass_is_one_minus_transmittance(logit in -2.0_f32..1.5, y in -1.0_f32..1.0) {
            let sizes = Sizes::tiny();
            let density = vec![logit; sizes.density.pow(3)];
            let (origin, direction) = ([0.1, y, -9.0], [0.0, 0.0, 1.0]);
            let span = head_span(&sizes.head, origin, direction).expect("it points at the box");
            let got = march(&sizes, &density, origin, direction, span).mass;
            let sigma = (4.0 * f64::from(logit)).clamp(-8.0, 6.0).exp();
            let want = 1.0 - (-sigma * f64::from(span.1 - span.0)).exp();
            prop_assert!((f64::from(got) - want).abs() < 1e-4);
        }

        #[test]
        fn samples_come_in_order_and_stay_on_the_span(
            raw in proptest::collection::vec(0.0_f32..1.0, BINS), n in 1_u32..=MAX_SAMPLES,
        ) {
            let mut weights = [0.0; BINS];
            weights.copy_from_slice(&raw);
            let march = March { weights, mass: weights.iter().sum() };
            let mut last = 0.0;
            let mut count = 0;
            place_samples(&march, n, |t| {
                assert!((last..=1.0).contains(&t));
                last = t;
                count += 1;
            });
            prop_assert_eq!(count, n);
        }
    }
}
