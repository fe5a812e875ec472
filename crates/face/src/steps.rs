//! Quantizer steps: chosen by how much an error in each channel changes the image.

use glam::Vec3;
use numerics::SplitMix64;
use rayon::prelude::*;
use types::{CODE_DIMS, Code, Feature, HeadPose, LEARNED_DIMS, MediaTime};

use crate::frame_field::{DEFAULT_SAMPLES, render_cpu};
use crate::model::FaceModel;
use crate::parts::FieldPart;

/// Mean squared error of the images that quantization may cause, colors in 0..=1. The actual error
/// is smaller, because values near zero are rounded to zero.
const IMAGE_ERROR: f32 = 2.0e-5;
/// Side of the images, pixels. Each pixel is an independent ray, so few are enough.
const SIDE: u32 = 14;
/// Number of images, the first with mean pose and neutral code.
const N_IMAGES: usize = 4;
/// Standard deviation of the learned numbers in the others.
const CODE_SPREAD: f32 = 0.7;
/// Amplitude of the noise in a channel, in standard deviations of its values.
const AMPLITUDE: f32 = 0.1;
/// Smallest and largest step, in standard deviations of the channel.
const STEP_RANGE: (f32, f32) = (2e-4, 1.0);

/// Returns the step of every channel of every part, in units of the parameters; positive and
/// finite.
///
/// The error of the image is smallest for a number of bits if one more bit reduces it equally in
/// every channel (reverse water-filling: Cover and Thomas 2006, section 10.3.3). An error of
/// variance `v` in each of the `n` values of a channel adds `g² v` to the mean squared error of the
/// image, and a step `s` causes `v = s² / 12`; so `s = a √n / g` with one `a` for all channels, and
/// the error of the image is `a² / 12` times the number of parameters. `g` is measured by rendering
/// images with noise in one channel at a time.
pub(crate) fn steps(model: &FaceModel, parts: &[FieldPart]) -> Vec<Vec<f32>> {
    let features = features(model);
    let clean = images(model, &features);
    let share = (12.0 * IMAGE_ERROR / model.params().len() as f32).sqrt();
    parts
        .par_iter()
        .enumerate()
        .map(|(idx, part)| {
            let channels = part.grids.channels;
            let one = |channel: usize| {
                let n = part.range.len() / channels;
                let values =
                    || model.params()[part.range.clone()][channel..].iter().step_by(channels);
                let center = if part.is_weights() { 0.0 } else { mean(values().copied()) };
                let spread = mean(values().map(|v| (v - center) * (v - center))).sqrt();
                if spread < 1e-9 {
                    // All values are equal: any step that is small relative to them will do.
                    let size = values().fold(0.0_f32, |max, v| max.max(v.abs()));
                    return (size * 1e-3).max(1e-6);
                }
                let mut params = model.params().to_vec();
                let mut noise = SplitMix64::new((idx * 31 + channel) as u64);
                for v in params[part.range.clone()][channel..].iter_mut().step_by(channels) {
                    let sign = if noise.bits() & 1 == 0 { 1.0 } else { -1.0 };
                    *v += sign * AMPLITUDE * spread;
                }
                let Ok(noisy) = FaceModel::new(model.sizes().clone(), params) else {
                    return spread * STEP_RANGE.0;
                };
                let gain =
                    rms_difference(&images(&noisy, &features), &clean) / (AMPLITUDE * spread);
                let step = share * (n as f32).sqrt() / gain.max(1e-12);
                step.clamp(spread * STEP_RANGE.0, spread * STEP_RANGE.1)
            };
            (0..channels).map(one).collect()
        })
        .collect()
}

fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (n, sum) = values.fold((0_u32, 0.0), |(n, sum), v| (n + 1, sum + f64::from(v)));
    (sum / f64::from(n.max(1))) as f32
}

/// Returns poses and codes similar to those of the enrollment, the same every time.
fn features(model: &FaceModel) -> Vec<Feature> {
    let sizes = model.sizes();
    let mut noise = SplitMix64::new(5);
    (0..N_IMAGES)
        .filter_map(|idx| {
            let spread = if idx == 0 { 0.0 } else { CODE_SPREAD };
            let mut pose = sizes.pose_mean;
            for (v, scale) in pose.iter_mut().zip(&sizes.pose_scale) {
                // The scale of a field that was never trained is one.
                *v += spread * noise.normal() / scale.abs().max(8.0);
            }
            let mut code = [0.0; CODE_DIMS];
            for v in &mut code[..LEARNED_DIMS] {
                *v = spread * noise.normal();
            }
            let pose = HeadPose::new(Vec3::from_slice(&pose[..3]), Vec3::from_slice(&pose[3..]));
            Some(Feature { time: MediaTime::ZERO, pose: pose.ok()?, code: Code::new(code).ok()? })
        })
        .collect()
}

fn images(model: &FaceModel, features: &[Feature]) -> Vec<[f32; 3]> {
    features
        .iter()
        .flat_map(|f| render_cpu(model, &model.frame_inputs(f), SIDE, DEFAULT_SAMPLES))
        .collect()
}

fn rms_difference(a: &[[f32; 3]], b: &[[f32; 3]]) -> f32 {
    let squares = a.as_flattened().iter().zip(b.as_flattened()).map(|(a, b)| (a - b) * (a - b));
    mean(squares).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sizes;
    use crate::parts::parts;

    #[test]
    fn channels_that_matter_more_get_finer_steps() {
        let model = FaceModel::noise(Sizes::tiny(), 4);
        let parts = parts(model.layout(), model.sizes());
        let steps = steps(&model, &parts);
        assert!(steps.iter().flatten().all(|s| s.is_finite() && *s > 0.0));
        // An error of the torso's alpha logit is less visible than one of its color.
        let torso = parts.iter().position(|p| p.range == model.layout().torso).unwrap();
        assert!(steps[torso][3] > steps[torso][0]);
    }
}
