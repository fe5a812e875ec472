//! Definition of the baseline field: what one ray shows.

use face::{exp, sigmoid};
use rayon::prelude::*;

use crate::frame::{ClassicFrame, NetFrame};
use crate::model::ClassicModel;
use crate::sampling::{merge, place_by_mass, place_evenly, widths};
use crate::sizes::{ClassicSizes, DIRECTION_INPUTS, NetLayout, POSITION_INPUTS};

/// Factor on positions (canonical units) before they are encoded; a head then spans about -1..=1.
pub(crate) const POSITION_SCALE: f32 = 0.5;
/// Scaled positions are clamped to ± this value, the range in which [`sine_cosine`] is accurate.
pub(crate) const POSITION_LIMIT: f32 = 4.0;

/// Bounds of the logarithm of the density; the density is in 1 / canonical unit.
pub(crate) const LOG_DENSITY: (f32, f32) = (-8.0, 6.0);

/// Segment of a half-line on which samples lie. Distances are in canonical units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ClassicRay {
    /// Point at distance zero.
    pub origin: [f32; 3],
    /// Unit vector.
    pub direction: [f32; 3],
    /// Distances at which sampling begins and ends.
    pub span: (f32, f32),
}

impl ClassicRay {
    /// Returns the point at distance `t` from the origin.
    #[inline(always)]
    pub(crate) fn at(&self, t: f32) -> [f32; 3] {
        std::array::from_fn(|i| self.origin[i] + t * self.direction[i])
    }
}

/// Colors of a ray, sRGB in 0..=1. The training loss contains both; a picture shows the fine one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RayColors {
    /// Color of the coarse pass.
    pub coarse: [f32; 3],
    /// Color of the fine pass, or the coarse color if the fine pass is disabled.
    pub fine: [f32; 3],
}

/// Renders the ray through image point `x, y` (0..=1): the definition of the baseline field.
///
/// A network maps a position `x`, a direction `d`, the frame's code `e` and the consistency code `s`
/// to a color and a density, `(c, sigma) = F(x, d, e, s)`. Its trunk of `ReLU` layers reads the encoded
/// position and the codes and gives `sigma = exp(clamp(trunk))` in 1 / canonical unit, clamped to
/// [`LOG_DENSITY`]. A `ReLU` branch reads the trunk and the encoded direction and gives
/// `c = sigmoid(branch)`.
/// 1. **Torso**: `sizes.torso` even samples in camera space through the torso's network, which also
///    reads the pose, composited ([`integrate`]) over the background.
/// 2. **Coarse**: `sizes.coarse` even samples in canonical space through the coarse network,
///    composited over the torso.
/// 3. **Fine**: `sizes.fine` more samples, distributed by the coarse weights ([`place_by_mass`]). All
///    samples go in order through the fine network and are composited over the torso.
///
/// Every ray takes every sample; empty space is not skipped.
///
/// # Source
/// "NeRF-based video compression for video conferencing" (arXiv:2402.16599), eq. 1 to 3. Details that
/// the paper leaves open follow AD-NeRF (arXiv:2103.11078), whose last sample is the background.
pub(crate) fn render_classic_ray(
    model: &ClassicModel,
    frame: &ClassicFrame,
    x: f32,
    y: f32,
) -> RayColors {
    let (sizes, layout, params) = (model.sizes(), model.layout(), model.params());
    let render_over = |net, inputs, ray: &ClassicRay, places: &[f32], backdrop: [f32; 3]| {
        let samples = evaluate(net, params, inputs, ray, places);
        let mut weights = vec![0.0; places.len()];
        let (rgb, rest) = integrate(places, ray.span.1, &samples, &mut weights);
        let rgb: [f32; 3] = std::array::from_fn(|c| rgb[c] + rest * backdrop[c]);
        (rgb, weights)
    };
    let last = frame.nets.len() - 1;
    let ray = torso_ray(sizes, x, y);
    let mut places = vec![0.0; sizes.torso];
    place_evenly(ray.span, &mut places, || 0.5);
    let background = read_picture(model.background(), sizes.background, x, y);
    let (backdrop, _) = render_over(&layout.torso, &frame.nets[last], &ray, &places, background);

    let ray = head_ray(sizes, frame, x, y);
    let mut places = vec![0.0; sizes.coarse];
    place_evenly(ray.span, &mut places, || 0.5);
    let (coarse, weights) = render_over(&layout.heads[0], &frame.nets[0], &ray, &places, backdrop);
    let Some(net) = layout.heads.get(1) else {
        return RayColors { coarse, fine: coarse };
    };
    let mut more = vec![0.0; sizes.fine];
    place_by_mass(ray.span, &weights, &mut more, || 0.5);
    let mut all = vec![0.0; sizes.coarse + sizes.fine];
    merge(&places, &more, &mut all);
    let (fine, _) = render_over(net, &frame.nets[1], &ray, &all, backdrop);
    RayColors { coarse, fine }
}

/// Renders a square picture of `side` by `side` pixels: the color of a ray through the center of each
/// pixel, sRGB in 0..=1, row by row.
///
/// `frame` must come from [`ClassicModel::frame`] of the same model. Uses all cores.
pub fn render_classic(model: &ClassicModel, frame: &ClassicFrame, side: u32) -> Vec<[f32; 3]> {
    let center = |i: u32| (i as f32 + 0.5) / side as f32;
    (0..side * side)
        .into_par_iter()
        .map(|i| render_classic_ray(model, frame, center(i % side), center(i / side)).fine)
        .collect()
}

/// Casts the ray through image point `x, y` in canonical space; its span surrounds the head.
pub(crate) fn head_ray(sizes: &ClassicSizes, frame: &ClassicFrame, x: f32, y: f32) -> ClassicRay {
    let (u, v) = ((x - 0.5) / sizes.focal, (y - 0.5) / sizes.focal);
    let a = &frame.axes;
    let toward: [f32; 3] = std::array::from_fn(|i| a[0][i] * u + a[1][i] * v + a[2][i]);
    let o = frame.origin;
    let distance = (o[0] * o[0] + o[1] * o[1] + o[2] * o[2]).sqrt();
    ClassicRay {
        origin: o,
        direction: normalized(toward),
        span: ((distance - sizes.near).max(0.0), distance + sizes.far),
    }
}

/// Casts the ray through image point `x, y` in camera space, scaled to canonical units and shifted
/// along the optical axis so that the torso lies around zero.
pub(crate) fn torso_ray(sizes: &ClassicSizes, x: f32, y: f32) -> ClassicRay {
    let d = sizes.torso_distance;
    ClassicRay {
        origin: [0.0, 0.0, -d],
        direction: normalized([(x - 0.5) / sizes.focal, (y - 0.5) / sizes.focal, 1.0]),
        span: (d - sizes.near, d + sizes.far),
    }
}

/// Scales a vector to unit length.
fn normalized(v: [f32; 3]) -> [f32; 3] {
    let scale = 1.0 / (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt();
    v.map(|c| c * scale)
}

/// Composites samples from near to far; returns the color and the remaining transmittance.
///
/// `C = Σᵢ wᵢ cᵢ` with `wᵢ = Tᵢ (1 − exp(−σᵢ δᵢ))`, `Tᵢ = Πⱼ₍ⱼ<ᵢ₎ exp(−σⱼ δⱼ)` and `δ` from [`widths`].
/// `samples` are colors (sRGB) and densities (1 / canonical unit) at `places`; `weights` receives `w`.
///
/// # Source
/// Quadrature of eq. 2 in arXiv:2402.16599.
pub(crate) fn integrate(
    places: &[f32],
    far: f32,
    samples: &[([f32; 3], f32)],
    weights: &mut [f32],
) -> ([f32; 3], f32) {
    let (mut rgb, mut transmittance) = ([0.0; 3], 1.0);
    for (((color, sigma), width), weight) in
        samples.iter().zip(widths(places, far)).zip(weights.iter_mut())
    {
        let through = exp(-sigma * width);
        *weight = transmittance * (1.0 - through);
        for (sum, c) in rgb.iter_mut().zip(color) {
            *sum += *weight * c;
        }
        transmittance *= through;
    }
    (rgb, transmittance)
}

/// Reads an `n` by `n` picture at an image point, bilinear and clamped at the edges; the center of
/// texel `i` lies at `(i + 0.5) / n`.
pub(crate) fn read_picture(texels: &[[f32; 3]], n: usize, x: f32, y: f32) -> [f32; 3] {
    let axis = |v: f32| {
        let at =
            ((v * n as f32 - 0.5) / (n - 1) as f32 * (n - 1) as f32).clamp(0.0, (n - 1) as f32);
        let low = (at as usize).min(n - 2);
        (low, at - low as f32)
    };
    let ((x, fx), (y, fy)) = (axis(x), axis(y));
    let shares = [(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy];
    let first = y * n + x;
    let mut sum = [0.0; 3];
    for (at, share) in [first, first + 1, first + n, first + n + 1].into_iter().zip(shares) {
        for (s, v) in sum.iter_mut().zip(texels[at]) {
            *s += share * v;
        }
    }
    sum
}

/// Encodes a vector as `[v, sin(2⁰v), cos(2⁰v), sin(2¹v), cos(2¹v), …]`, three axes each; the length
/// of `out` (3 + 6 per octave) determines the number of octaves.
///
/// # Source
/// Mildenhall et al. 2020, "`NeRF`", eq. 4, with the value itself and, as in its code, without the
/// factor of pi.
#[inline(always)]
pub(crate) fn encode(v: [f32; 3], out: &mut [f32]) {
    let v = v.map(|c| c.clamp(-POSITION_LIMIT, POSITION_LIMIT));
    out[..3].copy_from_slice(&v);
    let mut pairs = v.map(sine_cosine);
    for octave in out[3..].as_chunks_mut::<6>().0 {
        for (axis, (sine, cosine)) in pairs.iter_mut().enumerate() {
            octave[axis] = *sine;
            octave[3 + axis] = *cosine;
            (*sine, *cosine) = doubled(*sine, *cosine);
        }
    }
}

/// Returns sine and cosine of `x` in -4..=4 with an error below 1e-6, the same on every machine.
///
/// Taylor series of a quarter of `x`, then the double-angle formulas twice.
#[inline(always)]
pub(crate) fn sine_cosine(x: f32) -> (f32, f32) {
    let y = 0.25 * x;
    let z = y * y;
    let sine =
        y * (1.0 + z * (-1.0 / 6.0 + z * (1.0 / 120.0 + z * (-1.0 / 5040.0 + z / 362_880.0))));
    let cosine = 1.0
        + z * (-0.5
            + z * (1.0 / 24.0 + z * (-1.0 / 720.0 + z * (1.0 / 40_320.0 - z / 3_628_800.0))));
    let (sine, cosine) = doubled(sine, cosine);
    doubled(sine, cosine)
}

/// Returns sine and cosine of twice the angle.
#[inline(always)]
fn doubled(sine: f32, cosine: f32) -> (f32, f32) {
    (2.0 * sine * cosine, 1.0 - 2.0 * sine * sine)
}

/// Evaluates a network at `places` of a ray; returns colors and densities.
fn evaluate(
    net: &NetLayout,
    params: &[f32],
    inputs: &NetFrame,
    ray: &ClassicRay,
    places: &[f32],
) -> Vec<([f32; 3], f32)> {
    let part = |range: &std::ops::Range<usize>| &params[range.clone()];
    let mut direction = [0.0; DIRECTION_INPUTS];
    encode(ray.direction, &mut direction);
    let mut branch_bias = part(&net.branch_bias).to_vec();
    add_product(part(&net.branch_direction), &direction, &mut branch_bias);
    let one = |&t: &f32| {
        let position = ray.at(t).map(|v| v * POSITION_SCALE);
        let mut encoded = [0.0; POSITION_INPUTS];
        encode(position, &mut encoded);
        let mut hidden: Vec<f32> = Vec::new();
        for (layer, bias) in net.layers.iter().zip(&inputs.biases) {
            let mut out = bias.clone();
            add_product(part(&layer.hidden), &hidden, &mut out);
            add_product(part(&layer.position), &encoded, &mut out);
            for v in &mut out {
                *v = v.max(0.0);
            }
            hidden = out;
        }
        let mut log_density = [params[net.density_bias.start]];
        add_product(part(&net.density), &hidden, &mut log_density);
        let mut branch = branch_bias.clone();
        add_product(part(&net.branch), &hidden, &mut branch);
        for v in &mut branch {
            *v = v.max(0.0);
        }
        let mut color: [f32; 3] = std::array::from_fn(|c| params[net.color_bias.start + c]);
        add_product(part(&net.color), &branch, &mut color);
        (color.map(sigmoid), exp(log_density[0].clamp(LOG_DENSITY.0, LOG_DENSITY.1)))
    };
    places.iter().map(one).collect()
}

/// Adds `inputs * weights` to `outputs`; `weights` is `[inputs][outputs]`, or empty for no effect.
fn add_product(weights: &[f32], inputs: &[f32], outputs: &mut [f32]) {
    for (row, value) in weights.chunks_exact(outputs.len()).zip(inputs) {
        for (o, w) in outputs.iter_mut().zip(row) {
            *o += value * w;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glam::Vec3;
    use types::{CANONICAL_M, CODE_DIMS, HeadPose};

    fn pose() -> HeadPose {
        HeadPose::new(Vec3::new(0.2, -0.4, 0.1), Vec3::new(0.05, -0.02, 1.1)).unwrap()
    }

    #[test]
    fn the_encoding_holds_sine_and_cosine_of_each_octave() {
        for i in -40..=40 {
            let x = i as f32 * 0.1;
            let mut out = [0.0; POSITION_INPUTS];
            encode([x, 0.3, -0.7], &mut out);
            assert_eq!(out[0], x);
            for octave in 0..10 {
                let angle = f64::from(x) * f64::from(1 << octave);
                let got = (f64::from(out[3 + 6 * octave]), f64::from(out[6 + 6 * octave]));
                // Each doubling of the angle about doubles the error.
                let slack = 2e-6 * f64::from(2 << octave);
                assert!((got.0 - angle.sin()).abs() < slack, "sin {angle}: {}", got.0);
                assert!((got.1 - angle.cos()).abs() < slack, "cos {angle}: {}", got.1);
            }
        }
    }

    #[test]
    fn encodings_of_extreme_positions_stay_bounded() {
        for v in [1e30, -1e30, f32::INFINITY, 4.0] {
            let mut out = [0.0; POSITION_INPUTS];
            encode([v; 3], &mut out);
            assert!(out[3..].iter().all(|x| x.abs() < 1.01), "{v}: {out:?}");
        }
    }

    #[test]
    fn a_head_ray_passes_through_the_point_behind_its_pixel() {
        let model = ClassicModel::untrained(ClassicSizes::tiny(), 1);
        let frame = model.frame(&pose(), &[0.0; CODE_DIMS]);
        let point = Vec3::new(0.3, -0.5, 0.2);
        let [x, y] = pose().image_from_head(point * CANONICAL_M);
        let ray = head_ray(model.sizes(), &frame, x, y);
        let to = point - Vec3::from(ray.origin);
        assert!(to.cross(Vec3::from(ray.direction)).length() < 1e-4 * to.length());
        assert!((ray.span.0..ray.span.1).contains(&to.length()));
    }

    #[test]
    fn a_wall_is_opaque_and_fog_transmits_by_the_exponential_law() {
        let red = ([1.0, 0.0, 0.0], 400.0);
        let mut weights = [0.0; 1];
        let (rgb, rest) = integrate(&[1.0], 2.0, &[red], &mut weights);
        assert!(rgb[0] > 0.999 && rest < 1e-6 && weights[0] > 0.999);
        let fog = ([0.5; 3], std::f32::consts::LN_2);
        let mut weights = [0.0; 3];
        let (rgb, rest) = integrate(&[0.0, 1.0, 2.0], 3.0, &[fog; 3], &mut weights);
        let close = |a: f32, b: f32| (a - b).abs() < 1e-5;
        assert!(close(rest, 0.125) && close(rgb[1], 0.4375), "{rgb:?} {rest}");
        assert!(close(weights[0], 0.5) && close(weights[1], 0.25) && close(weights[2], 0.125));
    }

    #[test]
    fn the_background_shows_through_an_empty_field() {
        let sizes = ClassicSizes::tiny();
        let layout = crate::sizes::ClassicLayout::new(&sizes);
        let mut params = vec![0.0; layout.len];
        for (net, _) in layout.nets(&sizes) {
            params[net.density_bias.start] = -100.0;
        }
        let background: Vec<[f32; 3]> = (0..256).map(|i| [i as f32 / 255.0, 0.2, 0.9]).collect();
        let model = ClassicModel::new(sizes, params, background.clone()).unwrap();
        let picture = render_classic(&model, &model.frame(&pose(), &[0.0; CODE_DIMS]), 16);
        for (got, want) in picture.iter().flatten().zip(background.as_flattened()) {
            // The lowest density, exp(-8), hides about a thousandth.
            assert!((got - want).abs() < 2e-3, "{got} {want}");
        }
    }

    #[test]
    fn code_pose_and_consistency_code_change_the_picture() {
        let model = ClassicModel::noise(ClassicSizes::tiny(), 3);
        let draw = |model: &ClassicModel, pose: &HeadPose, code: &[f32]| {
            render_classic_ray(model, &model.frame(pose, code), 0.4, 0.6)
        };
        let still = draw(&model, &pose(), &[0.0; CODE_DIMS]);
        for i in [0, 23, 24, 29] {
            let mut code = [0.0; CODE_DIMS];
            code[i] = 0.5;
            let moved = draw(&model, &pose(), &code);
            assert!(moved.coarse != still.coarse && moved.fine != still.fine, "code {i}");
        }
        let turned = HeadPose::new(Vec3::new(0.2, 0.1, 0.1), pose().translation()).unwrap();
        assert_ne!(draw(&model, &turned, &[0.0; CODE_DIMS]), still);
        let mut params = model.params().to_vec();
        params[model.layout().shared.start] += 0.5;
        let other =
            ClassicModel::new(model.sizes().clone(), params, model.background().to_vec()).unwrap();
        assert_ne!(draw(&other, &pose(), &[0.0; CODE_DIMS]), still);
    }

    #[test]
    fn without_a_fine_pass_the_coarse_color_is_shown() {
        let sizes = ClassicSizes { fine: 0, ..ClassicSizes::tiny() };
        let model = ClassicModel::noise(sizes, 3);
        let colors = render_classic_ray(&model, &model.frame(&pose(), &[0.1; CODE_DIMS]), 0.5, 0.5);
        assert_eq!(colors.coarse, colors.fine);
    }
}
