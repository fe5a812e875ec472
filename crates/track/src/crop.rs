use types::Frame;

/// Image with a brightness for every pixel.
pub trait Luma {
    /// Returns width and height, pixels.
    fn size(&self) -> (usize, usize);

    /// Returns the brightness, 0..=255, of one pixel inside the image.
    fn luma(&self, x: usize, y: usize) -> f32;
}

impl Luma for Frame {
    fn size(&self) -> (usize, usize) {
        (self.width() as usize, self.height() as usize)
    }

    fn luma(&self, x: usize, y: usize) -> f32 {
        let [r, g, b] = self.rgb_at(x as u32, y as u32);
        luma_from_srgb(r, g, b)
    }
}

/// Returns the brightness, 0..=255, of an sRGB pixel.
///
/// # Source
/// The luma weights of ITU-R BT.601, applied to full-range values.
pub fn luma_from_srgb(r: u8, g: u8, b: u8) -> f32 {
    0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)
}

/// Square crop of an image: a rotation, scale and translation `picture_from_crop`.
///
/// Crop space has its origin at the center of the crop, `x` right, `y` down, and the crop side as
/// unit, so that the crop spans -0.5..=0.5. Picture space is continuous pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crop {
    /// Center of the crop in picture space.
    pub center: [f32; 2],
    /// The crop's `x` axis in picture space; its length is the crop side in pixels.
    pub axis: [f32; 2],
}

impl Crop {
    /// Creates an upright crop of `side` pixels.
    pub fn upright(center: [f32; 2], side: f32) -> Self {
        Self { center, axis: [side, 0.0] }
    }

    /// Returns the side of the crop, pixels of the image.
    pub fn side(&self) -> f32 {
        self.axis[0].hypot(self.axis[1])
    }

    /// Maps a point from crop space to picture space.
    pub fn picture_from_crop(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let [a, b] = self.axis;
        [self.center[0] + a * x - b * y, self.center[1] + b * x + a * y]
    }

    /// Maps a point from picture space to crop space.
    pub fn crop_from_picture(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let [a, b] = self.axis;
        let (dx, dy) = (x - self.center[0], y - self.center[1]);
        let square = (a * a + b * b).max(f32::MIN_POSITIVE);
        [(a * dx + b * dy) / square, (a * dy - b * dx) / square]
    }

    /// Interpolates linearly between this crop (`share` 0) and another (1).
    pub(crate) fn lerp(&self, other: &Self, share: f32) -> Self {
        let between =
            |a: [f32; 2], b: [f32; 2]| [a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])];
        Self { center: between(self.center, other.center), axis: between(self.axis, other.axis) }
    }

    /// Returns the crop in which `points` (picture space) lie nearest to `shape` (crop space).
    ///
    /// Least squares over rotation, scale and translation in the plane; `z` is ignored. With the
    /// mean face as `shape` this levels and centers a face. Returns `None` if the points coincide
    /// or are not finite.
    ///
    /// # Source
    /// Umeyama 1991, "Least-squares estimation of transformation parameters between two point
    /// patterns", in two dimensions.
    pub fn aligning(shape: &[[f32; 3]], points: &[[f32; 3]]) -> Option<Self> {
        let n = shape.len().min(points.len()) as f32;
        let mut mean = [0.0_f32; 4];
        for (s, p) in shape.iter().zip(points) {
            for (m, v) in mean.iter_mut().zip([s[0], s[1], p[0], p[1]]) {
                *m += v / n;
            }
        }
        let (mut dot, mut cross, mut square) = (0.0_f32, 0.0, 0.0);
        for (s, p) in shape.iter().zip(points) {
            let (sx, sy) = (s[0] - mean[0], s[1] - mean[1]);
            let (px, py) = (p[0] - mean[2], p[1] - mean[3]);
            dot += sx * px + sy * py;
            cross += sx * py - sy * px;
            square += sx * sx + sy * sy;
        }
        let (a, b) = (dot / square, cross / square);
        let center = [mean[2] - a * mean[0] + b * mean[1], mean[3] - b * mean[0] - a * mean[1]];
        let crop = Self { center, axis: [a, b] };
        let is_finite = center.iter().all(|v| v.is_finite()) && crop.side().is_finite();
        (is_finite && crop.side() > 1e-3).then_some(crop)
    }

    /// Samples the brightness of the crop as `side * side` values, 0..=255, row by row. `side` is
    /// the resolution of the result.
    ///
    /// Each value is the mean of up to 6 x 6 samples over the area of its pixel. Outside the image
    /// the nearest edge pixel repeats.
    pub fn sample(&self, image: &impl Luma, side: usize) -> Vec<f32> {
        let mut out = vec![0.0; side * side];
        self.sample_to(image, side, &mut out);
        out
    }

    /// As [`Crop::sample`], into existing memory.
    ///
    /// # Panics
    /// If `out` does not hold `side * side` values.
    pub(crate) fn sample_to(&self, image: &impl Luma, side: usize, out: &mut [f32]) {
        assert_eq!(out.len(), side * side, "a crop is {side} pixels square");
        let taps = (self.side() / side as f32).round().clamp(1.0, 6.0) as usize;
        let (width, height) = image.size();
        let (right, bottom) = (width as f32 - 1.0, height as f32 - 1.0);
        let step = 1.0 / (side * taps) as f32;
        // `clamp` keeps a crop far outside the image at its edge.
        let at = |v: f32, last: f32| (v - 0.5).clamp(0.0, last);
        for (row, line) in out.chunks_exact_mut(side).enumerate() {
            for (column, value) in line.iter_mut().enumerate() {
                let mut sum = 0.0;
                for i in 0..taps {
                    let y = ((row * taps + i) as f32 + 0.5) * step - 0.5;
                    for j in 0..taps {
                        let x = ((column * taps + j) as f32 + 0.5) * step - 0.5;
                        let [px, py] = self.picture_from_crop([x, y]);
                        let (px, py) = (at(px, right), at(py, bottom));
                        sum += if taps > 2 {
                            image.luma((px + 0.5) as usize, (py + 0.5) as usize)
                        } else {
                            bilinear(image, px, py, width - 1, height - 1)
                        };
                    }
                }
                *value = sum / (taps * taps) as f32;
            }
        }
    }
}

fn bilinear(image: &impl Luma, x: f32, y: f32, right: usize, bottom: usize) -> f32 {
    let (x0, y0) = ((x as usize).min(right), (y as usize).min(bottom));
    let (x1, y1) = ((x0 + 1).min(right), (y0 + 1).min(bottom));
    let (fx, fy) = (x - x0 as f32, y - y0 as f32);
    let top = image.luma(x0, y0) * (1.0 - fx) + image.luma(x1, y0) * fx;
    let low = image.luma(x0, y1) * (1.0 - fx) + image.luma(x1, y1) * fx;
    top * (1.0 - fy) + low * fy
}

#[cfg(test)]
mod tests {
    use types::MediaTime;

    use super::*;

    fn ramp(side: u32) -> Frame {
        let rgb: Vec<u8> = (0..side * side).flat_map(|i| [(i % side) as u8; 3]).collect();
        Frame::new(side, side, MediaTime::ZERO, rgb).unwrap()
    }

    #[test]
    fn crop_and_picture_space_are_inverse() {
        let crop = Crop { center: [40.0, 60.0], axis: [30.0, -12.0] };
        let [x, y] = crop.crop_from_picture(crop.picture_from_crop([0.2, -0.3]));
        assert!((x - 0.2).abs() < 1e-6 && (y + 0.3).abs() < 1e-6);
    }

    #[test]
    fn alignment_recovers_the_crop() {
        let shape = [[-0.2, -0.1, 0.0], [0.3, -0.1, 0.0], [0.0, 0.25, 0.1], [0.1, 0.1, 0.0]];
        let crop = Crop { center: [40.0, 60.0], axis: [30.0, -12.0] };
        let points = shape.map(|[x, y, z]| {
            let [px, py] = crop.picture_from_crop([x, y]);
            [px, py, z]
        });
        let found = Crop::aligning(&shape, &points).unwrap();
        for (a, b) in [(found.center, crop.center), (found.axis, crop.axis)] {
            assert!((a[0] - b[0]).abs() < 1e-4 && (a[1] - b[1]).abs() < 1e-4);
        }
        assert_eq!(Crop::aligning(&shape, &[[1.0; 3]; 4]), None);
        assert_eq!(Crop::aligning(&shape, &[[f32::NAN; 3]; 4]), None);
    }

    #[test]
    fn sampling_averages_over_the_area_of_a_pixel() {
        for taps in [1, 2, 4] {
            let side = 8 * taps;
            let crop = Crop::upright([side as f32 / 2.0; 2], side as f32);
            let values = crop.sample(&ramp(side as u32), 8);
            let want = |x: usize| (x * taps) as f32 + (taps as f32 - 1.0) / 2.0;
            for (x, value) in values[..8].iter().enumerate() {
                // At four taps the nearest pixel of a half-way position is rounded up.
                assert!((value - want(x)).abs() <= 0.51, "{taps} taps, {x}: {value}");
            }
        }
    }

    #[test]
    fn a_crop_outside_the_image_repeats_its_edge() {
        let crop = Crop::upright([1e9, -1e9], 10.0);
        assert!(crop.sample(&ramp(4), 4).iter().all(|&v| (v - 3.0).abs() < 1e-4));
    }
}
