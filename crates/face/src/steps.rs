//! How finely each channel is kept: by what its error does to the picture.

use glam::Vec3;
use numerics::SplitMix64;
use rayon::prelude::*;
use types::{CODE_DIMS, Code, Feature, HeadPose, LEARNED_DIMS, MediaTime};

use crate::parts::Part;
use crate::{DEFAULT_SAMPLES, FaceModel, render_cpu};

/// Mean squared error that rounding may cost a picture, over its red, green and blue in 0..=1;
/// less in the end, as numbers near zero are rounded to it.
const PICTURE_ERROR: f32 = 2.0e-5;
/// Side of the pictures that tell it. Each pixel is a ray of its own, so few do.
const SIDE: u32 = 14;
/// Pictures: the first with the mean pose and no expression.
const N_PICTURES: usize = 4;
/// Spread of the learned numbers in them.
const CODE_SPREAD: f32 = 0.7;
/// A channel is disturbed by this part of its spread.
const DISTURBED: f32 = 0.1;
/// Steps are at most this part of a channel's spread, and at least that.
const STEP_RANGE: (f32, f32) = (2e-4, 1.0);

/// The step of every channel of every part, in the parameters' units; all positive and finite.
///
/// Of all ways to spend bits on channels, that one costs least where a bit more takes the same
/// off the error everywhere. An error of variance `v` in each of the `n` numbers of a channel
/// costs the picture `g² v`, and a step `s` makes `v = s² / 12`; so `s = a √n / g` with one `a`
/// for all, and `a² / 12` times the number of parameters is the error of the picture. `g` is
/// measured: pictures are drawn with noise in one channel at a time.
pub(crate) fn steps(model: &FaceModel, parts: &[Part]) -> Vec<Vec<f32>> {
    let features = features(model);
    let whole = pictures(model, &features);
    let share = (12.0 * PICTURE_ERROR / model.params().len() as f32).sqrt();
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
                    // All alike: any step that is small beside the value.
                    let size = values().fold(0.0_f32, |max, v| max.max(v.abs()));
                    return (size * 1e-3).max(1e-6);
                }
                let mut params = model.params().to_vec();
                let mut noise = SplitMix64::new((idx * 31 + channel) as u64);
                for v in params[part.range.clone()][channel..].iter_mut().step_by(channels) {
                    let sign = if noise.bits() & 1 == 0 { 1.0 } else { -1.0 };
                    *v += sign * DISTURBED * spread;
                }
                let Ok(disturbed) = FaceModel::new(model.sizes().clone(), params) else {
                    return spread * STEP_RANGE.0;
                };
                let gain =
                    rms_difference(&pictures(&disturbed, &features), &whole) / (DISTURBED * spread);
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

/// Poses and codes about as enrollment met them, the same every time.
fn features(model: &FaceModel) -> Vec<Feature> {
    let sizes = model.sizes();
    let mut noise = SplitMix64::new(5);
    (0..N_PICTURES)
        .filter_map(|idx| {
            let spread = if idx == 0 { 0.0 } else { CODE_SPREAD };
            let mut pose = sizes.pose_mean;
            for (v, scale) in pose.iter_mut().zip(&sizes.pose_scale) {
                // Faces that were never enrolled have a scale of one.
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

fn pictures(model: &FaceModel, features: &[Feature]) -> Vec<[f32; 3]> {
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
    fn what_shows_more_is_kept_more_finely() {
        let model = FaceModel::noise(Sizes::tiny(), 4);
        let parts = parts(model.layout(), model.sizes());
        let steps = steps(&model, &parts);
        assert!(steps.iter().flatten().all(|s| s.is_finite() && *s > 0.0));
        // A step of the torso's alpha logit shows less than one of its color.
        let torso = parts.iter().position(|p| p.range == model.layout().torso).unwrap();
        assert!(steps[torso][3] > steps[torso][0]);
    }
}
