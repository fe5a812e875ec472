use rayon::prelude::*;

use super::sampling::{merge, place_by_mass, place_evenly, widths};
use super::sizes::{DIRECTION_INPUTS, POSITION_INPUTS};
use super::{ClassicFrame, ClassicModel, ClassicSizes, NetFrame, NetLayout};
use crate::{LOG_DENSITY, Taps, at, exp, sigmoid};

/// Positions are encoded in this share of a canonical unit, so that a head fills about -1..=1.
pub const POSITION_SCALE: f32 = 0.5;
/// Scaled positions are clamped to plus and minus this: the sine below is good to here.
pub const POSITION_LIMIT: f32 = 4.0;

/// A stretch of a half-line on which samples lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassicRay {
    /// Where distances begin.
    pub origin: [f32; 3],
    /// A unit vector.
    pub direction: [f32; 3],
    /// First and last distance, canonical units.
    pub span: (f32, f32),
}

/// The two pictures of a ray, sRGB 0..=1; both are in the loss, the fine one is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RayColors {
    /// From the coarse pass.
    pub coarse: [f32; 3],
    /// From the fine pass; the coarse one where it is left out.
    pub fine: [f32; 3],
}

/// The colors of the ray through image point `x, y`: the definition of the classic field.
///
/// A sample at `x` seen along `d` is `(c, sigma) = F(x, d, e, s)` with the frame's expression code
/// `e` and the consistency code `s`: a trunk of rectified layers over the encoded position, from
/// which `sigma = exp(trunk)`, clamped as [`LOG_DENSITY`] says, per canonical unit, and a rectified
/// branch that also hears the encoded direction, from which `c = sigmoid(branch)`.
/// 1. **Torso**: `sizes.torso` even samples in camera space through the torso's network, which
///    hears the pose too, integrated ([`integrate`]) over the background.
/// 2. **Coarse**: `sizes.coarse` even samples in canonical space through the coarse network,
///    integrated over 1.
/// 3. **Fine**: `sizes.fine` more samples where the coarse weights are ([`place_by_mass`]); all of
///    them in order through the fine network, integrated over 1.
///
/// Every ray takes every sample: nothing empty is left out.
///
/// # Source
/// "NeRF-based video compression for video conferencing" (arXiv:2402.16599), eq. 1 to 3; what it
/// leaves open is as in AD-NeRF (arXiv:2103.11078), whose last sample is the background.
pub fn render_classic_ray(model: &ClassicModel, frame: &ClassicFrame, x: f32, y: f32) -> RayColors {
    let (sizes, layout, params) = (model.sizes(), model.layout(), model.params());
    let over = |net, heard, ray: &ClassicRay, places: &[f32], behind: [f32; 3]| {
        let samples = evaluate(net, params, heard, ray, places);
        let mut weights = vec![0.0; places.len()];
        let (rgb, rest) = integrate(places, ray.span.1, &samples, &mut weights);
        let rgb: [f32; 3] = std::array::from_fn(|c| rgb[c] + rest * behind[c]);
        (rgb, weights)
    };
    let last = frame.nets.len() - 1;
    let ray = torso_ray(sizes, x, y);
    let mut places = vec![0.0; sizes.torso];
    place_evenly(ray.span, &mut places, || 0.5);
    let background = read_picture(model.background(), sizes.background, x, y);
    let (behind, _) = over(&layout.torso, &frame.nets[last], &ray, &places, background);

    let ray = head_ray(sizes, frame, x, y);
    let mut places = vec![0.0; sizes.coarse];
    place_evenly(ray.span, &mut places, || 0.5);
    let (coarse, weights) = over(&layout.heads[0], &frame.nets[0], &ray, &places, behind);
    let Some(net) = layout.heads.get(1) else {
        return RayColors { coarse, fine: coarse };
    };
    let mut more = vec![0.0; sizes.fine];
    place_by_mass(ray.span, &weights, &mut more, || 0.5);
    let mut all = vec![0.0; sizes.coarse + sizes.fine];
    merge(&places, &more, &mut all);
    let (fine, _) = over(net, &frame.nets[1], &ray, &all, behind);
    RayColors { coarse, fine }
}

/// A square picture of `side` pixels, row by row: [`render_classic_ray`] through the middle of
/// each pixel, the fine color.
pub fn render_classic(model: &ClassicModel, frame: &ClassicFrame, side: u32) -> Vec<[f32; 3]> {
    let middle = |i: u32| (i as f32 + 0.5) / side as f32;
    (0..side * side)
        .into_par_iter()
        .map(|i| render_classic_ray(model, frame, middle(i % side), middle(i / side)).fine)
        .collect()
}

/// The ray through image point `x, y` in canonical space, sampled around the head's distance.
pub fn head_ray(sizes: &ClassicSizes, frame: &ClassicFrame, x: f32, y: f32) -> ClassicRay {
    let (u, v) = ((x - 0.5) / sizes.focal, (y - 0.5) / sizes.focal);
    let a = &frame.axes;
    let toward: [f32; 3] = std::array::from_fn(|i| a[0][i] * u + a[1][i] * v + a[2][i]);
    let o = frame.origin;
    let distance = (o[0] * o[0] + o[1] * o[1] + o[2] * o[2]).sqrt();
    ClassicRay {
        origin: o,
        direction: unit(toward),
        span: ((distance - sizes.near).max(0.0), distance + sizes.far),
    }
}

/// The ray through image point `x, y` in camera space, canonical units, its origin moved so that
/// the torso is around zero.
pub fn torso_ray(sizes: &ClassicSizes, x: f32, y: f32) -> ClassicRay {
    let d = sizes.torso_distance;
    ClassicRay {
        origin: [0.0, 0.0, -d],
        direction: unit([(x - 0.5) / sizes.focal, (y - 0.5) / sizes.focal, 1.0]),
        span: (d - sizes.near, d + sizes.far),
    }
}

fn unit(v: [f32; 3]) -> [f32; 3] {
    let scale = 1.0 / (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt();
    v.map(|c| c * scale)
}

/// Composites samples near to far: color, and the transmittance left for what is behind.
///
/// `C = sum of w[i] c[i]`, `w[i] = T[i] (1 - exp(-sigma[i] delta[i]))`, `T[i]` the product of
/// `exp(-sigma[j] delta[j])` before it, `delta` as [`widths`] gives it. `samples` are colors with
/// densities; `weights` takes `w`.
///
/// # Source
/// The quadrature of eq. 2; what is left goes to the background, "the last sample".
pub fn integrate(
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

/// The background at an image point: texel `i` of `n` has its middle at `(i + 0.5) / n`, bilinear,
/// clamped.
pub fn read_picture(texels: &[[f32; 3]], n: usize, x: f32, y: f32) -> [f32; 3] {
    let relative = |v: f32| (v * n as f32 - 0.5) / (n - 1) as f32;
    Taps::new(relative(x), relative(y), n, n).read(texels)
}

/// `[v, then for each octave sin(2^octave v), cos(2^octave v)]`, three axes each; `out` says how
/// many octaves.
///
/// # Source
/// Mildenhall et al. 2020, "`NeRF`", eq. 4, without its factor of pi (as its code has it), and with
/// the value itself.
#[inline(always)]
pub fn encode(v: [f32; 3], out: &mut [f32]) {
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

/// Sine and cosine for `x` in -4..=4, to 1e-6, the same on every machine: Taylor series of a
/// quarter of `x`, doubled twice.
#[inline(always)]
pub fn sine_cosine(x: f32) -> (f32, f32) {
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

/// Sine and cosine of twice the angle.
#[inline(always)]
fn doubled(sine: f32, cosine: f32) -> (f32, f32) {
    (2.0 * sine * cosine, 1.0 - 2.0 * sine * sine)
}

/// The network at each of `places` of a ray: color and density.
fn evaluate(
    net: &NetLayout,
    params: &[f32],
    heard: &NetFrame,
    ray: &ClassicRay,
    places: &[f32],
) -> Vec<([f32; 3], f32)> {
    let part = |range: &std::ops::Range<usize>| &params[range.clone()];
    let mut direction = [0.0; DIRECTION_INPUTS];
    encode(ray.direction, &mut direction);
    let mut branch_bias = part(&net.branch_bias).to_vec();
    add_product(part(&net.branch_direction), &direction, &mut branch_bias);
    let one = |&t: &f32| {
        let position = at(ray.origin, ray.direction, t).map(|v| v * POSITION_SCALE);
        let mut encoded = [0.0; POSITION_INPUTS];
        encode(position, &mut encoded);
        let mut hidden: Vec<f32> = Vec::new();
        for (layer, bias) in net.layers.iter().zip(&heard.biases) {
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

/// `outputs += inputs * weights`, `weights` being `[inputs][outputs]`, or empty.
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
    fn the_encoding_is_sine_and_cosine_of_octaves() {
        for i in -40..=40 {
            let x = i as f32 * 0.1;
            let mut out = [0.0; POSITION_INPUTS];
            encode([x, 0.3, -0.7], &mut out);
            assert_eq!(out[0], x);
            for octave in 0..10 {
                let angle = f64::from(x) * f64::from(1 << octave);
                let got = (f64::from(out[3 + 6 * octave]), f64::from(out[6 + 6 * octave]));
                // Each doubling about doubles the error of the one before.
                let slack = 2e-6 * f64::from(2 << octave);
                assert!((got.0 - angle.sin()).abs() < slack, "sin {angle}: {}", got.0);
                assert!((got.1 - angle.cos()).abs() < slack, "cos {angle}: {}", got.1);
            }
        }
    }

    #[test]
    fn no_position_makes_the_encoding_blow_up() {
        for v in [1e30, -1e30, f32::INFINITY, 4.0] {
            let mut out = [0.0; POSITION_INPUTS];
            encode([v; 3], &mut out);
            assert!(out[3..].iter().all(|x| x.abs() < 1.01), "{v}: {out:?}");
        }
    }

    #[test]
    fn a_head_ray_meets_the_point_it_is_cast_through() {
        let model = ClassicModel::untrained(ClassicSizes::classic_tiny(), 1);
        let frame = model.frame(&pose(), &[0.0; CODE_DIMS]);
        let point = Vec3::new(0.3, -0.5, 0.2);
        let [x, y] = pose().image_from_head(point * CANONICAL_M);
        let ray = head_ray(model.sizes(), &frame, x, y);
        let to = point - Vec3::from(ray.origin);
        assert!(to.cross(Vec3::from(ray.direction)).length() < 1e-4 * to.length());
        assert!((ray.span.0..ray.span.1).contains(&to.length()));
    }

    #[test]
    fn a_wall_hides_and_fog_lets_through_what_the_law_says() {
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
        let sizes = ClassicSizes::classic_tiny();
        let layout = super::super::ClassicLayout::new(&sizes);
        let mut params = vec![0.0; layout.len];
        for (net, _) in layout.nets(&sizes) {
            params[net.density_bias.start] = -100.0;
        }
        let background: Vec<[f32; 3]> = (0..256).map(|i| [i as f32 / 255.0, 0.2, 0.9]).collect();
        let model = ClassicModel::new(sizes, params, background.clone()).unwrap();
        let picture = render_classic(&model, &model.frame(&pose(), &[0.0; CODE_DIMS]), 16);
        for (got, want) in picture.iter().flatten().zip(background.as_flattened()) {
            // The least density, e^-8, hides a thousandth.
            assert!((got - want).abs() < 2e-3, "{got} {want}");
        }
    }

    #[test]
    fn every_part_of_what_is_heard_changes_the_picture() {
        let model = ClassicModel::noise(ClassicSizes::classic_tiny(), 3);
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
    fn without_a_fine_pass_the_coarse_picture_is_shown() {
        let sizes = ClassicSizes { fine: 0, ..ClassicSizes::classic_tiny() };
        let model = ClassicModel::noise(sizes, 3);
        let colors = render_classic_ray(&model, &model.frame(&pose(), &[0.1; CODE_DIMS]), 0.5, 0.5);
        assert_eq!(colors.coarse, colors.fine);
    }
}
