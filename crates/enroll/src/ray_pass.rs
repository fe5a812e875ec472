//! One ray, forwards and back: the trainer's fused twin of [`face::render_ray`].

use face::{
    BINS, CHANNELS, FLOW_HEIGHT, FLOW_WIDTH, FoldedField, FrameInputs, HIDDEN, LOG_DENSITY,
    LOGIT_SCALE, Layout, MEAN_FLOOR, SHADE_INPUTS, Sizes, Taps, Texel, Upsampling, add_scaled, exp,
    head_span, ray, sample_opacity, shade, shade_inputs,
};
use numerics::SplitMix64;

use crate::behind_pass::{Behind, BehindGradient};
use crate::pixels::Pixel;

/// Most samples on a training ray.
pub(crate) const MAX_TRAIN_SAMPLES: usize = 16;
/// Rays with less mass than this are taken as missing the head; far less than the renderer's
/// threshold, so that density can grow where there is none.
const MIN_TRAIN_MASS: f32 = 1e-4;

/// Weights of the terms of a ray's loss besides the squared error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LossWeights {
    /// Of the absolute error.
    pub(crate) l1: f32,
    /// Of `(1 - A)²` inside the face.
    pub(crate) hull: f32,
    /// Of `A (1 - A)`: the head is there or not.
    pub(crate) binary: f32,
    /// Of `At (1 - At)`: so is the torso.
    pub(crate) torso_binary: f32,
    /// Of `A`: no head where none is needed.
    pub(crate) alpha: f32,
}

/// A frame's field and how to trace it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traced<'a> {
    pub(crate) sizes: &'a Sizes,
    pub(crate) layout: &'a Layout,
    pub(crate) params: &'a [f32],
    /// All but its torso.
    pub(crate) folded: &'a FoldedField,
    /// The mixed additive planes of the torso, and how its texture lies on them.
    pub(crate) torso: (&'a [[f32; 4]], &'a Upsampling),
    pub(crate) inputs: &'a FrameInputs,
    /// At most [`MAX_TRAIN_SAMPLES`].
    pub(crate) n_samples: usize,
    /// Whether bins and samples are moved at random inside their intervals, as in training.
    pub(crate) jitter: bool,
    pub(crate) weights: LossWeights,
}

/// Gradients of a frame's loss with respect to its folded field and its inputs.
#[derive(Clone, Debug)]
pub(crate) struct FrameGradients {
    /// All but its torso.
    pub(crate) folded: FoldedField,
    /// Those of torso and background, ray by ray: a frame's rays touch few of their texels.
    pub(crate) behind: Vec<BehindGradient>,
    /// Parameters from `layout.opacity.start` on: the small networks.
    pub(crate) networks: Vec<f32>,
    pub(crate) shade_bias: [f32; HIDDEN],
    pub(crate) torso_affine: [f32; 6],
    pub(crate) flow: [[f32; 2]; FLOW_WIDTH * FLOW_HEIGHT],
    pub(crate) background_shift: [f32; 2],
}

impl FrameGradients {
    pub(crate) fn new(sizes: &Sizes, layout: &Layout) -> Self {
        let s = sizes;
        Self {
            folded: FoldedField {
                xy: vec![[0.0; CHANNELS]; s.plane_xy * s.plane_xy],
                xz: vec![[0.0; CHANNELS]; s.plane_z * s.plane_z],
                yz: vec![[0.0; CHANNELS]; s.plane_z * s.plane_z],
                density: vec![0.0; s.density.pow(3)],
                warp: vec![[0.0; 2]; s.warp * s.warp],
                torso: Vec::new(),
            },
            behind: Vec::new(),
            networks: vec![0.0; layout.len - layout.opacity.start],
            shade_bias: [0.0; HIDDEN],
            torso_affine: [0.0; 6],
            flow: [[0.0; 2]; FLOW_WIDTH * FLOW_HEIGHT],
            background_shift: [0.0; 2],
        }
    }

    pub(crate) fn clear(&mut self) {
        let f = &mut self.folded;
        for plane in [&mut f.xy, &mut f.xz, &mut f.yz] {
            plane.fill([0.0; CHANNELS]);
        }
        f.density.fill(0.0);
        f.warp.fill([0.0; 2]);
        self.behind.clear();
        self.networks.fill(0.0);
        self.shade_bias = [0.0; HIDDEN];
        self.torso_affine = [0.0; 6];
        self.flow = [[0.0; 2]; FLOW_WIDTH * FLOW_HEIGHT];
        self.background_shift = [0.0; 2];
    }
}

/// What one ray gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traced1 {
    /// Weighted sum of all terms.
    pub(crate) loss: f32,
    /// Mean squared error over the three channels.
    pub(crate) squared_error: f32,
    /// The color, not clamped.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare it to the definition"))]
    pub(crate) rgb: [f32; 3],
}

/// Eight corners of a density cell: the lowest index and the three upper shares.
#[derive(Clone, Copy)]
struct Cell {
    at: u32,
    f: [f32; 3],
}

#[derive(Clone, Copy)]
struct FeatureSample {
    warp: Taps,
    planes: [Taps; 3],
    values: [Texel; 3],
    feature: Texel,
    opacity: f32,
}

/// Traces one ray, and adds `scale` times the gradient of its loss to `grads`.
///
/// The loss is `mean((C - rgb)²) + l1 mean|C - rgb| + hull (1 - A)² + binary A (1 - A) + …`
/// ([`LossWeights`]). Where the samples lie is not differentiated; the mass each carries is: part
/// k of the mass is `Σᵢ wᵢ · share(i, k)` with the shares held fixed, so a bin learns from the
/// samples that its mass went to.
#[inline(always)]
pub(crate) fn trace(
    t: &Traced<'_>,
    pixel: &Pixel,
    noise: &mut SplitMix64,
    scale: f32,
    grads: &mut FrameGradients,
) -> Traced1 {
    let (sizes, layout, inputs) = (t.sizes, t.layout, t.inputs);
    let part = |range: &std::ops::Range<usize>| &t.params[range.clone()];
    let behind = Behind::read(t, pixel.at);

    // March.
    let (origin, direction) = ray(inputs, pixel.at[0], pixel.at[1]);
    let span = head_span(&sizes.head, origin, direction);
    let (enter, leave) = span.unwrap_or((0.0, 1.0));
    let step = (leave - enter) / BINS as f32;
    let offset = if t.jitter { noise.uniform() } else { 0.5 };
    let mut cells = [Cell { at: 0, f: [0.0; 3] }; BINS];
    let mut log_density = [0.0_f32; BINS];
    let mut sigma = [0.0_f32; BINS];
    let mut alphas = [0.0_f32; BINS];
    let mut weights = [0.0_f32; BINS];
    let mut mass = 0.0;
    let n = sizes.density;
    if span.is_some() {
        let last = (n - 1) as f32;
        let mut start = [0.0; 3];
        let mut delta = [0.0; 3];
        for i in 0..3 {
            let per_unit = last / (sizes.head.max[i] - sizes.head.min[i]);
            start[i] =
                (origin[i] + direction[i] * (enter + offset * step) - sizes.head.min[i]) * per_unit;
            delta[i] = direction[i] * step * per_unit;
        }
        for i in 0..BINS {
            let p: [f32; 3] =
                std::array::from_fn(|c| (start[c] + i as f32 * delta[c]).clamp(0.0, last));
            let low = p.map(|v| (v as usize).min(n - 2));
            let f: [f32; 3] = std::array::from_fn(|c| p[c] - low[c] as f32);
            let at = (low[2] * n + low[1]) * n + low[0];
            cells[i] = Cell { at: at as u32, f };
            let grid = &t.folded.density[at..at + n * n + n + 2];
            let line = |at: usize| grid[at] + (grid[at + 1] - grid[at]) * f[0];
            let near = line(0) + (line(n) - line(0)) * f[1];
            let far = line(n * n) + (line(n * n + n) - line(n * n)) * f[1];
            log_density[i] = LOGIT_SCALE * (near + (far - near) * f[2]);
        }
        for i in 0..BINS {
            sigma[i] = exp(log_density[i].clamp(LOG_DENSITY.0, LOG_DENSITY.1));
            alphas[i] = 1.0 - exp(-sigma[i] * step);
        }
        let mut transmittance = 1.0;
        for i in 0..BINS {
            weights[i] = transmittance * alphas[i];
            transmittance *= 1.0 - alphas[i];
        }
        mass = weights.iter().sum();
    }

    // Samples.
    let has_head = mass >= MIN_TRAIN_MASS;
    let n_samples = t.n_samples.min(MAX_TRAIN_SAMPLES);
    let share = mass / n_samples as f32;
    let opacity = part(&layout.opacity);
    let empty = Taps { at: 0, stride: 0, shares: [0.0; 4], fraction: [0.0; 2] };
    let mut samples = [FeatureSample {
        warp: empty,
        planes: [empty; 3],
        values: [[0.0; CHANNELS]; 3],
        feature: [0.0; CHANNELS],
        opacity: 0.0,
    }; MAX_TRAIN_SAMPLES];
    let mut sum = [0.0_f32; CHANNELS];
    let mut alpha = 0.0;
    let mut color = behind.rgb;
    let mut shading = None;
    let mut shading_inputs = [0.0; SHADE_INPUTS];
    if has_head {
        let (mut bin, mut before) = (0, 0.0);
        for (k, sample) in samples[..n_samples].iter_mut().enumerate() {
            let inside = if t.jitter { noise.uniform() } else { 0.5 };
            let to = (k as f32 + inside) * share;
            while bin < BINS - 1 && before + weights[bin] < to {
                before += weights[bin];
                bin += 1;
            }
            let inside = ((to - before) / weights[bin].max(1e-9)).clamp(0.0, 1.0);
            let along = (bin as f32 + inside + offset - 0.5).clamp(0.0, BINS as f32);
            let p = face::at(origin, direction, enter + along / BINS as f32 * (leave - enter));
            *sample = read_sample(t, p, opacity);
            let a = sample.opacity * share;
            add_scaled(&mut sum, a, &sample.feature);
            alpha += a;
        }
        shading_inputs = shade_inputs(&sum, alpha, direction);
        let s = shade(
            part(&layout.shade_w1),
            &inputs.shade_bias,
            part(&layout.shade_w2),
            part(&layout.shade_b2),
            part(&layout.shade_w3),
            part(&layout.shade_b3),
            &shading_inputs,
        );
        color = std::array::from_fn(|c| alpha * s.rgb[c] + (1.0 - alpha) * behind.rgb[c]);
        shading = Some(s);
    }

    // Loss.
    let w = &t.weights;
    let mut squared_error = 0.0;
    let mut absolute = 0.0;
    let mut g_color = [0.0_f32; 3];
    for c in 0..3 {
        let e = color[c] - pixel.rgb[c];
        squared_error += e * e / 3.0;
        absolute += e.abs() / 3.0;
        g_color[c] = scale * (2.0 * e + w.l1 * e.signum()) / 3.0;
    }
    let hull = if pixel.in_hull { w.hull } else { 0.0 };
    let loss = squared_error
        + w.l1 * absolute
        + hull * (1.0 - alpha) * (1.0 - alpha)
        + w.binary * alpha * (1.0 - alpha)
        + w.alpha * alpha
        + w.torso_binary * behind.alpha * (1.0 - behind.alpha);

    // Back: the head.
    let g_behind = g_color.map(|g| g * (1.0 - alpha));
    if let Some(s) = shading {
        let networks = layout.opacity.start;
        let mut g_alpha =
            scale * (-2.0 * hull * (1.0 - alpha) + w.binary * (1.0 - 2.0 * alpha) + w.alpha);
        let mut g_out = [0.0; 3];
        for c in 0..3 {
            g_alpha += g_color[c] * (s.rgb[c] - behind.rgb[c]);
            g_out[c] = g_color[c] * alpha * s.rgb[c] * (1.0 - s.rgb[c]);
        }
        let range = |r: &std::ops::Range<usize>| r.start - networks..r.end - networks;
        // Layer 3.
        let mut g_hidden2 = [0.0; HIDDEN];
        let w3 = part(&layout.shade_w3).as_chunks::<HIDDEN>().0;
        let g_w3 = grads.networks[range(&layout.shade_w3)].as_chunks_mut::<HIDDEN>().0;
        for c in 0..3 {
            add_scaled(&mut g_hidden2, g_out[c], &w3[c]);
            add_scaled(&mut g_w3[c], g_out[c], &s.hidden2);
        }
        for (g, o) in grads.networks[range(&layout.shade_b3)].iter_mut().zip(g_out) {
            *g += o;
        }
        for (g, h) in g_hidden2.iter_mut().zip(&s.hidden2) {
            *g = if *h > 0.0 { *g } else { 0.0 };
        }
        // Layer 2.
        let mut g_hidden1 = [0.0; HIDDEN];
        let w2 = part(&layout.shade_w2).as_chunks::<HIDDEN>().0;
        let g_w2 = grads.networks[range(&layout.shade_w2)].as_chunks_mut::<HIDDEN>().0;
        for i in 0..HIDDEN {
            if s.hidden1[i] > 0.0 {
                g_hidden1[i] = dot(&w2[i], &g_hidden2);
                add_scaled(&mut g_w2[i], s.hidden1[i], &g_hidden2);
            }
        }
        let g_b2 = grads.networks[range(&layout.shade_b2)].as_chunks_mut::<HIDDEN>().0;
        add_scaled(&mut g_b2[0], 1.0, &g_hidden2);
        // Layer 1.
        let mut g_in = [0.0; SHADE_INPUTS];
        let w1 = part(&layout.shade_w1).as_chunks::<HIDDEN>().0;
        let g_w1 = grads.networks[range(&layout.shade_w1)].as_chunks_mut::<HIDDEN>().0;
        for i in 0..SHADE_INPUTS {
            g_in[i] = dot(&w1[i], &g_hidden1);
            add_scaled(&mut g_w1[i], shading_inputs[i], &g_hidden1);
        }
        add_scaled(&mut grads.shade_bias, 1.0, &g_hidden1);
        // Mean feature.
        let inverse = 1.0 / (alpha + MEAN_FLOOR);
        let mut g_sum = [0.0; CHANNELS];
        g_alpha += g_in[CHANNELS];
        for c in 0..CHANNELS {
            g_sum[c] = g_in[c] * inverse;
            g_alpha -= g_in[c] * sum[c] * inverse * inverse;
        }
        // Samples.
        let mut g_mass = [0.0_f32; MAX_TRAIN_SAMPLES];
        for (sample, g_mass) in samples[..n_samples].iter().zip(&mut g_mass) {
            let g_each: f32 =
                g_alpha + (0..CHANNELS).map(|c| g_sum[c] * sample.feature[c]).sum::<f32>();
            *g_mass = sample.opacity * g_each;
            back_sample(t, sample, share, g_each, &g_sum, opacity, grads);
        }
        back_march(
            n,
            step,
            &cells,
            &log_density,
            &sigma,
            &alphas,
            &weights,
            share,
            n_samples,
            &g_mass,
            &mut grads.folded.density,
        );
    }

    behind.back(t, pixel.at, &g_behind, scale * w.torso_binary, grads);
    Traced1 { loss, squared_error, rgb: color }
}

#[inline(always)]
fn read_sample(t: &Traced<'_>, p: [f32; 3], opacity: &[f32]) -> FeatureSample {
    let sizes = t.sizes;
    let (face, head) = (&sizes.face, &sizes.head);
    let warp = Taps::new(face.relative(0, p[0]), face.relative(1, p[1]), sizes.warp, sizes.warp);
    let offset = warp.read(&t.folded.warp);
    let u = head.relative(0, p[0] + offset[0]);
    let v = head.relative(1, p[1] + offset[1]);
    let w = head.relative(2, p[2]);
    let planes = [
        Taps::new(u, v, sizes.plane_xy, sizes.plane_xy),
        Taps::new(u, w, sizes.plane_z, sizes.plane_z),
        Taps::new(v, w, sizes.plane_z, sizes.plane_z),
    ];
    let values =
        [planes[0].read(&t.folded.xy), planes[1].read(&t.folded.xz), planes[2].read(&t.folded.yz)];
    let feature = std::array::from_fn(|c| values[0][c] * values[1][c] * values[2][c]);
    FeatureSample { warp, planes, values, feature, opacity: sample_opacity(opacity, &feature) }
}

/// Back through one sample: its opacity, the product of planes, the warp.
#[inline(always)]
fn back_sample(
    t: &Traced<'_>,
    s: &FeatureSample,
    share: f32,
    g_each: f32,
    g_sum: &[f32; CHANNELS],
    opacity: &[f32],
    grads: &mut FrameGradients,
) {
    let sizes = t.sizes;
    let g_logit = share * g_each * s.opacity * (1.0 - s.opacity);
    let mut g_feature = [0.0; CHANNELS];
    for c in 0..CHANNELS {
        g_feature[c] = share * s.opacity * g_sum[c] + LOGIT_SCALE * g_logit * opacity[c];
        // The opacity's weights come first among the networks.
        grads.networks[c] += LOGIT_SCALE * g_logit * s.feature[c];
    }
    grads.networks[CHANNELS] += g_logit;
    let [a, b, d] = &s.values;
    let g: [Texel; 3] = [
        std::array::from_fn(|c| g_feature[c] * b[c] * d[c]),
        std::array::from_fn(|c| g_feature[c] * a[c] * d[c]),
        std::array::from_fn(|c| g_feature[c] * a[c] * b[c]),
    ];
    let f = &t.folded;
    let (xu, xv) = position_gradient(&s.planes[0], &f.xy, &g[0]);
    let (zu, _) = position_gradient(&s.planes[1], &f.xz, &g[1]);
    let (zv, _) = position_gradient(&s.planes[2], &f.yz, &g[2]);
    for (taps, g, plane) in [
        (&s.planes[0], &g[0], &mut grads.folded.xy),
        (&s.planes[1], &g[1], &mut grads.folded.xz),
        (&s.planes[2], &g[2], &mut grads.folded.yz),
    ] {
        for (at, share) in taps.indices().into_iter().zip(taps.shares) {
            add_scaled(&mut plane[at], share, g);
        }
    }
    let (fine, coarse) = ((sizes.plane_xy - 1) as f32, (sizes.plane_z - 1) as f32);
    let head = &sizes.head;
    let g_offset = [
        (xu * fine + zu * coarse) / (head.max[0] - head.min[0]),
        (xv * fine + zv * coarse) / (head.max[1] - head.min[1]),
    ];
    for (at, share) in s.warp.indices().into_iter().zip(s.warp.shares) {
        add_scaled(&mut grads.folded.warp[at], share, &g_offset);
    }
}

/// Back through the march: from the mass of each part to the density's cells.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the intermediates of one ray, used nowhere else")]
fn back_march(
    n: usize,
    step: f32,
    cells: &[Cell; BINS],
    log_density: &[f32; BINS],
    sigma: &[f32; BINS],
    alphas: &[f32; BINS],
    weights: &[f32; BINS],
    share: f32,
    n_samples: usize,
    g_mass: &[f32; MAX_TRAIN_SAMPLES],
    g_density: &mut [f32],
) {
    let g_weights = bin_gradients(weights, share, n_samples, g_mass);
    let mut transmittance = [0.0_f32; BINS];
    let mut left = 1.0;
    for i in 0..BINS {
        left *= 1.0 - alphas[i];
        transmittance[i] = left;
    }
    let mut behind = 0.0;
    for i in (0..BINS).rev() {
        let g_sigma = step * (transmittance[i] * g_weights[i] - behind);
        behind += weights[i] * g_weights[i];
        let g = LOGIT_SCALE * sigma[i] * g_sigma;
        // Past a limit only the way back is open.
        if log_density[i] > LOG_DENSITY.1 && g < 0.0 || log_density[i] < LOG_DENSITY.0 && g > 0.0 {
            continue;
        }
        let Cell { at, f: [fx, fy, fz] } = cells[i];
        let out = &mut g_density[at as usize..at as usize + n * n + n + 2];
        for (base, g) in [(0, g * (1.0 - fz)), (n * n, g * fz)] {
            for (base, g) in [(base, g * (1.0 - fy)), (base + n, g * fy)] {
                out[base] += g * (1.0 - fx);
                out[base + 1] += g * fx;
            }
        }
    }
}

/// The gradient of each bin's weight: that of each part's mass, by the share of the bin's mass
/// that lies in the part.
#[inline(always)]
fn bin_gradients(
    weights: &[f32; BINS],
    share: f32,
    n_samples: usize,
    g_mass: &[f32; MAX_TRAIN_SAMPLES],
) -> [f32; BINS] {
    let mut out = [0.0; BINS];
    let mut from = 0.0;
    let mut k = 0;
    for (out, &weight) in out.iter_mut().zip(weights) {
        let to = from + weight;
        let mut at = from;
        let mut sum = 0.0;
        while k + 1 < n_samples && (k + 1) as f32 * share < to {
            let cut = (k + 1) as f32 * share;
            sum += (cut - at).max(0.0) * g_mass[k];
            at = cut.max(at);
            k += 1;
        }
        sum += (to - at) * g_mass[k];
        *out = if weight > 1e-9 { sum / weight } else { g_mass[k] };
        from = to;
    }
    out
}

/// The gradient with respect to the position of a bilinear reading, in texels.
#[inline(always)]
fn position_gradient<const N: usize>(taps: &Taps, texels: &[[f32; N]], g: &[f32; N]) -> (f32, f32) {
    slope(taps.fraction, taps.indices().map(|at| &texels[at]), g)
}

/// The same of four texels: this, right, below, below right.
#[inline(always)]
pub(crate) fn slope<const N: usize>(
    [fx, fy]: [f32; 2],
    [a, b, c, d]: [&[f32; N]; 4],
    g: &[f32; N],
) -> (f32, f32) {
    let (mut gx, mut gy) = (0.0, 0.0);
    for i in 0..N {
        gx += g[i] * ((b[i] - a[i]) * (1.0 - fy) + (d[i] - c[i]) * fy);
        gy += g[i] * ((c[i] - a[i]) * (1.0 - fx) + (d[i] - b[i]) * fx);
    }
    (gx, gy)
}

/// Sum of products, eight lanes wide.
#[inline(always)]
fn dot(a: &[f32; HIDDEN], b: &[f32; HIDDEN]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        for i in 0..8 {
            lanes[i] += a[i] * b[i];
        }
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_learns_from_the_parts_its_mass_went_to() {
        let mut weights = [0.0; BINS];
        weights[2] = 0.3;
        weights[3] = 0.1;
        let mut g = [0.0; MAX_TRAIN_SAMPLES];
        g[..2].copy_from_slice(&[1.0, 4.0]);
        // Parts of 0.2: bin 2 gave 0.2 to the first and 0.1 to the second; bin 3 all to the second.
        let got = bin_gradients(&weights, 0.2, 2, &g);
        assert!((got[2] - 2.0).abs() < 1e-5 && (got[3] - 4.0).abs() < 1e-5);
        assert!((got[0] - 1.0).abs() < 1e-6 && (got[9] - 4.0).abs() < 1e-6);
    }
}
