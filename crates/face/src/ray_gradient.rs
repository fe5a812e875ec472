//! One training ray: forward with random sample positions, and backward to the parameters.

use crate::backdrop::BackdropSample;
use crate::frame_field::FrameField;
use crate::gradients::FrameGradients;
use crate::head_tape::{HeadTape, TapedSample};
use crate::march::BINS;
use crate::planes::LOGIT_SCALE;
use crate::shading::MEAN_FLOOR;
use crate::sizes::{CHANNELS, SHADE_INPUTS};
use crate::taps::Texel;

/// Largest number of samples on a training ray.
pub(crate) const MAX_TRAINING_SAMPLES: usize = 16;
/// A training ray whose mass is less than this misses the head. Far less than the renderers'
/// threshold, so that density can grow where there is none.
const MIN_TRAINING_MASS: f32 = 1e-4;

/// Outputs of one training ray, or the gradients of a loss with respect to them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RayOutput {
    /// Color: sRGB, about 0..=1, not clamped.
    pub rgb: [f32; 3],
    /// Alpha of the head, 0..=1.
    pub head_alpha: f32,
    /// Alpha of the torso, 0..=1.
    pub torso_alpha: f32,
}

/// Traces the ray through `point`, asks `loss` for the gradients of its outputs, and adds those of
/// the parameters to `grads`.
///
/// `random` gives numbers in 0..1: first the offset of the bins, then the position of each sample
/// in its part of the mass; constant 0.5 gives the definition, [`FrameField::unclamped_color`].
/// `backdrop` is the backdrop at the point. Positions of samples are not differentiated; the mass
/// of each is.
#[inline(always)]
pub(crate) fn trace_and_differentiate(
    frame: &FrameField<'_>,
    backdrop: &BackdropSample,
    point: [f32; 2],
    n_samples: usize,
    mut random: impl FnMut() -> f32,
    loss: impl FnOnce(&RayOutput) -> RayOutput,
    grads: &mut FrameGradients,
) {
    let offset = random();
    let ray = frame.march_box(point, offset);
    let hit = ray.as_ref().filter(|(ray, _)| ray.march.mass >= MIN_TRAINING_MASS);
    let mut samples = [TapedSample::EMPTY; MAX_TRAINING_SAMPLES];
    let samples = &mut samples[..n_samples.clamp(1, MAX_TRAINING_SAMPLES)];
    let mut output = RayOutput { rgb: backdrop.rgb, head_alpha: 0.0, torso_alpha: backdrop.alpha };
    let tape = hit.map(|(ray, _)| {
        let mut k = 0;
        ray.march.place_samples(
            samples.len() as u32,
            random,
            #[inline(always)]
            |bin| {
                let bin = (bin + offset - 0.5).clamp(0.0, BINS as f32);
                samples[k].point = ray.ray.at(ray.distance(bin));
                k += 1;
            },
        );
        HeadTape::new(frame, ray.ray.direction, ray.march.mass, samples)
    });
    if let Some(tape) = &tape {
        let alpha = tape.features.alpha;
        output.head_alpha = alpha;
        for (c, rgb) in output.rgb.iter_mut().enumerate() {
            *rgb = alpha * tape.shading.rgb[c] + (1.0 - alpha) * backdrop.rgb[c];
        }
    }

    let g = loss(&output);
    if let (Some((ray, march)), Some(tape)) = (hit, &tape) {
        let mut g_mass = [0.0; MAX_TRAINING_SAMPLES];
        let g_mass = &mut g_mass[..samples.len()];
        head_gradient(frame, tape, samples, backdrop.rgb, &g, g_mass, grads);
        let n = frame.field.sizes.density;
        march.add_gradient(&ray.march, n, g_mass, &mut grads.folded.density);
    }
    let g_backdrop = g.rgb.map(|g| g * (1.0 - output.head_alpha));
    backdrop.backward(frame.field, point, &g_backdrop, g.torso_alpha, grads);
}

/// Goes back through compositing, shading and samples; writes the gradient of each sample's mass.
#[inline(always)]
fn head_gradient(
    frame: &FrameField<'_>,
    tape: &HeadTape,
    samples: &[TapedSample],
    backdrop: [f32; 3],
    g: &RayOutput,
    g_mass: &mut [f32],
    grads: &mut FrameGradients,
) {
    let (alpha, rgb) = (tape.features.alpha, tape.shading.rgb);
    let mut g_alpha = g.head_alpha;
    let mut g_out = [0.0; 3];
    for c in 0..3 {
        g_alpha += g.rgb[c] * (rgb[c] - backdrop[c]);
        g_out[c] = g.rgb[c] * alpha * rgb[c] * (1.0 - rgb[c]);
    }
    let g_in: [f32; SHADE_INPUTS] =
        frame.shading().backward(frame.field, &tape.inputs, &tape.shading, &g_out, grads);
    // Back through the mean feature, F / (A + 0.05).
    let inverse = 1.0 / (alpha + MEAN_FLOOR);
    let mut g_sum = [0.0; CHANNELS];
    g_alpha += g_in[CHANNELS];
    for c in 0..CHANNELS {
        g_sum[c] = g_in[c] * inverse;
        g_alpha -= g_in[c] * tape.features.feature[c] * inverse * inverse;
    }
    for (sample, g_mass) in samples.iter().zip(g_mass) {
        let g_weight: f32 =
            g_alpha + (0..CHANNELS).map(|c| g_sum[c] * sample.planes.feature[c]).sum::<f32>();
        *g_mass = sample.opacity * g_weight;
        sample_gradient(frame, sample, tape.share, g_weight, &g_sum, grads);
    }
}

/// Goes back through one sample: its opacity, the product of planes, the warp. `g_weight` is the
/// gradient of the sample's weight, `g_sum` that of the accumulated features.
#[inline(always)]
fn sample_gradient(
    frame: &FrameField<'_>,
    sample: &TapedSample,
    share: f32,
    g_weight: f32,
    g_sum: &Texel,
    grads: &mut FrameGradients,
) {
    let (sizes, s) = (frame.field.sizes, &sample.planes);
    let opacity = frame.field.part(&frame.field.layout.opacity);
    let g_logit = share * g_weight * sample.opacity * (1.0 - sample.opacity);
    let mut g_feature = [0.0; CHANNELS];
    for c in 0..CHANNELS {
        g_feature[c] = share * sample.opacity * g_sum[c] + LOGIT_SCALE * g_logit * opacity[c];
        // The weights of the opacity are the first among the small networks.
        grads.networks[c] += LOGIT_SCALE * g_logit * s.feature[c];
    }
    grads.networks[CHANNELS] += g_logit;
    let [a, b, d] = &s.values;
    let g: [Texel; 3] = [
        std::array::from_fn(|c| g_feature[c] * b[c] * d[c]),
        std::array::from_fn(|c| g_feature[c] * a[c] * d[c]),
        std::array::from_fn(|c| g_feature[c] * a[c] * b[c]),
    ];
    let (f, [xy, xz, yz]) = (frame.folded, &s.planes);
    let [xu, xv] = xy.position_gradient(xy.texels(&f.xy), &g[0]);
    let [zu, _] = xz.position_gradient(xz.texels(&f.xz), &g[1]);
    let [zv, _] = yz.position_gradient(yz.texels(&f.yz), &g[2]);
    xy.scatter(&g[0], &mut grads.folded.xy);
    xz.scatter(&g[1], &mut grads.folded.xz);
    yz.scatter(&g[2], &mut grads.folded.yz);
    let (fine, coarse) = ((sizes.plane_xy - 1) as f32, (sizes.plane_z - 1) as f32);
    let head = &sizes.head;
    let g_offset = [
        (xu * fine + zu * coarse) / (head.max[0] - head.min[0]),
        (xv * fine + zv * coarse) / (head.max[1] - head.min[1]),
    ];
    s.warp.scatter(&g_offset, &mut grads.folded.warp);
}
