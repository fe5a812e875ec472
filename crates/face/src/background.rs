//! Replacement of the background.

use glam::Vec3;
use rayon::prelude::*;
use types::{Code, Feature, Frame, HeadPose, MediaTime};

use crate::frame_field::{DEFAULT_SAMPLES, FrameField};
use crate::math::add_scaled;
use crate::model::FaceModel;
use crate::taps::BilinearTaps;

/// Background to show behind head and torso. The viewer chooses it; the peer is not told.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Background {
    /// The background of the face file.
    #[default]
    Own,
    /// The background of the face file, blurred without a halo of the person.
    Blurred,
    /// One sRGB color.
    Color([u8; 3]),
    /// The central square of an image.
    Picture(Frame),
}

/// Standard deviation of the blur, sides of the image.
const BLUR: f32 = 0.04;
/// Largest side at which the blur is computed, pixels.
const BLURRED_SIDE: usize = 128;
/// Smallest weight of a background pixel in the blur. Pixels that the person always hides hold no
/// background, only the color of the person.
const MIN_WEIGHT: f32 = 1e-3;

impl FaceModel {
    /// Returns a copy of the model with another background, resized to that of the model.
    ///
    /// Head and torso have an alpha of their own, so no image is segmented.
    #[must_use]
    pub fn with_background(&self, background: &Background) -> Self {
        let n = self.sizes().background;
        let pixels: Vec<f32> = match background {
            Background::Own => return self.clone(),
            Background::Color(rgb) => {
                let rgb = rgb.map(|v| f32::from(v) / 255.0);
                rgb.iter().copied().cycle().take(n * n * 3).collect()
            }
            Background::Blurred => self.blurred_background(),
            Background::Picture(frame) => {
                let scaled = frame.center_square().resized_area(n as u32);
                scaled.rgb().iter().map(|v| f32::from(*v) / 255.0).collect()
            }
        };
        let mut changed = self.clone();
        changed.background_mut().copy_from_slice(&pixels);
        changed
    }

    /// Returns the background blurred and without the person, `[n][n][3]`. Computed at a small
    /// size, because a blur has no detail; this also bounds the work, whatever size a peer's file
    /// has.
    fn blurred_background(&self) -> Vec<f32> {
        let n = self.sizes().background;
        let small = n.min(BLURRED_SIDE);
        let own = self.params()[self.layout().background.clone()].as_chunks::<3>().0;
        let mut mean = vec![[0.0; 3]; small * small];
        let mut count = vec![0.0; small * small];
        for (i, pixel) in own.iter().enumerate() {
            let at = i / n * small / n * small + i % n * small / n;
            add_scaled(&mut mean[at], 1.0, pixel);
            count[at] += 1.0;
        }
        for (pixel, count) in mean.iter_mut().zip(count) {
            *pixel = pixel.map(|v| v / count);
        }
        let blurred = blurred(&mean, small, &self.visible_background(small));
        let relative = |at: usize| {
            let middle = (at as f32 + 0.5) / n as f32;
            (middle * small as f32 - 0.5) / (small - 1) as f32
        };
        let pixels = (0..n * n).flat_map(|i| {
            let taps = BilinearTaps::new(relative(i % n), relative(i / n), small, small);
            taps.read(&blurred)
        });
        pixels.collect()
    }

    /// Returns the visible share of each of `n` x `n` points of the background in front of which a
    /// person rests.
    fn visible_background(&self, n: usize) -> Vec<f32> {
        let mean = self.sizes().pose_mean;
        let (turn, shift) = (Vec3::from_slice(&mean[..3]), Vec3::from_slice(&mean[3..]));
        let pose = HeadPose::new(turn, shift).or_else(|_| HeadPose::new(Vec3::ZERO, Vec3::Z));
        let Ok(pose) = pose else { return vec![1.0; n * n] };
        let rest = Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL };
        let inputs = self.frame_inputs(&rest);
        let folded = self.fold(&inputs);
        let frame = FrameField::new(self, &folded, &inputs);
        let visible = |i: usize| {
            let point = [i % n, i / n].map(|at| (at as f32 + 0.5) / n as f32);
            1.0 - frame.alpha(point, DEFAULT_SAMPLES)
        };
        (0..n * n).into_par_iter().map(visible).collect()
    }
}

/// Returns the Gaussian blur of the visible pixels: normalized convolution (Knutsson and Westin
/// 1993), so that the colors of the person do not appear as a halo.
fn blurred(pixels: &[[f32; 3]], n: usize, visible: &[f32]) -> Vec<[f32; 3]> {
    let mut weighed: Vec<[f32; 4]> = pixels
        .iter()
        .zip(visible)
        .map(|([r, g, b], visible)| {
            // A moving person hides more than one at rest.
            let w = visible.powi(4).max(MIN_WEIGHT);
            [r * w, g * w, b * w, w]
        })
        .collect();
    let deviation = BLUR * n as f32;
    let reach = (3.0 * deviation).ceil() as usize;
    let kernel: Vec<f32> =
        (0..=reach).map(|i| (-0.5 * (i as f32 / deviation).powi(2)).exp()).collect();
    for (along, across) in [(1, n), (n, 1)] {
        let from = weighed.clone();
        for line in 0..n {
            for i in 0..n {
                let mut sum = [0.0; 4];
                for j in i.saturating_sub(reach)..(i + reach + 1).min(n) {
                    let weight = kernel[i.abs_diff(j)];
                    for (s, v) in sum.iter_mut().zip(from[line * across + j * along]) {
                        *s += weight * v;
                    }
                }
                weighed[line * across + i * along] = sum;
            }
        }
    }
    weighed.iter().map(|[r, g, b, w]| [r / w, g / w, b / w]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sizes, render_cpu};

    fn model() -> FaceModel {
        FaceModel::noise(Sizes::tiny(), 3)
    }

    fn rendered(model: &FaceModel) -> Vec<[f32; 3]> {
        let pose = HeadPose::new(Vec3::ZERO, Vec3::new(0.0, 0.0, 1.2)).unwrap();
        let feature = Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL };
        render_cpu(model, &model.frame_inputs(&feature), 32, 4)
    }

    #[test]
    fn only_pixels_beside_the_person_change() {
        let own = model();
        let (red, blue) = (Background::Color([255, 0, 0]), Background::Color([0, 0, 255]));
        let [red, blue] = [red, blue].map(|b| rendered(&own.with_background(&b)));
        let inputs = own.frame_inputs(&Feature {
            time: MediaTime::ZERO,
            pose: HeadPose::new(Vec3::ZERO, Vec3::new(0.0, 0.0, 1.2)).unwrap(),
            code: Code::NEUTRAL,
        });
        let folded = own.fold(&inputs);
        let frame = FrameField::new(&own, &folded, &inputs);
        let mut hidden = [0, 0];
        for (i, (red, blue)) in red.iter().zip(&blue).enumerate() {
            let [x, y] = [i % 32, i / 32].map(|at| (at as f32 + 0.5) / 32.0);
            let shows = red[0] - blue[0];
            let alpha = frame.alpha([x, y], DEFAULT_SAMPLES);
            assert!((shows - (1.0 - alpha)).abs() < 0.05, "{x} {y}: {shows}, alpha {alpha}");
            hidden[usize::from(alpha > 0.5)] += 1;
        }
        assert!(hidden.iter().all(|n| *n > 20), "{hidden:?}");
    }

    #[test]
    fn the_own_background_leaves_the_model_unchanged() {
        assert_eq!(model().with_background(&Background::Own), model());
    }

    #[test]
    fn a_blur_keeps_a_constant_color_and_fills_hidden_pixels_from_beside() {
        let n = 24;
        let gray = vec![[0.5; 3]; n * n];
        assert!(
            blurred(&gray, n, &vec![1.0; n * n]).iter().flatten().all(|v| (v - 0.5).abs() < 1e-5)
        );
        // A bright person in the middle of the gray, whose pixels are not visible background.
        let is_hidden = |i: usize| (10..14).contains(&(i % n)) && (10..14).contains(&(i / n));
        let pixels: Vec<_> =
            (0..n * n).map(|i| [if is_hidden(i) { 1.0 } else { 0.5 }; 3]).collect();
        let visible: Vec<_> = (0..n * n).map(|i| if is_hidden(i) { 0.0 } else { 1.0 }).collect();
        let most = blurred(&pixels, n, &visible).into_iter().flatten().fold(0.0, f32::max);
        assert!(most < 0.65, "{most}");
    }

    #[test]
    fn the_blurred_background_is_smoother_and_as_bright() {
        for n in [16, 40, 300] {
            let sizes = Sizes { background: n, ..Sizes::tiny() };
            let own = FaceModel::noise(sizes, 5);
            let mean_and_roughness = |model: &FaceModel| {
                let pixels = model.params()[model.layout().background.clone()].to_vec();
                let mean = pixels.iter().sum::<f32>() / pixels.len() as f32;
                let rough: f32 = pixels.windows(4).map(|w| (w[3] - w[0]).abs()).sum();
                (mean, rough)
            };
            let (sharp, soft) = (
                mean_and_roughness(&own),
                mean_and_roughness(&own.with_background(&Background::Blurred)),
            );
            assert!((sharp.0 - soft.0).abs() < 0.1, "{n}: {} {}", sharp.0, soft.0);
            assert!(soft.1 < 0.5 * sharp.1, "{n}: {} {}", sharp.1, soft.1);
        }
    }

    #[test]
    fn an_image_of_any_size_is_cropped_and_scaled() {
        let own = model();
        let n = own.sizes().background;
        for (width, height) in [(40, 20), (3, 3), (300, 500)] {
            let rgb: Vec<u8> =
                [200, 100, 50].into_iter().cycle().take(3 * width * height).collect();
            let frame = Frame::new(width as u32, height as u32, MediaTime::ZERO, rgb).unwrap();
            let changed = own.with_background(&Background::Picture(frame));
            let pixels = &changed.params()[changed.layout().background.clone()];
            assert_eq!(pixels.len(), n * n * 3);
            let want = [200.0, 100.0, 50.0].map(|v: f32| v / 255.0);
            assert!(
                pixels
                    .as_chunks::<3>()
                    .0
                    .iter()
                    .flatten()
                    .zip(want.iter().cycle())
                    .all(|(a, b)| (a - b).abs() < 1e-3)
            );
        }
    }
}
