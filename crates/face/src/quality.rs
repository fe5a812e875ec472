//! Image metrics.

use types::Frame;

/// Largest value of [`psnr_db`], dB, which identical images get. It is finite, so the mean over
/// frames stays finite.
pub const PSNR_MAX_DB: f64 = 100.0;

/// Standard deviation of the window of SSIM, pixels.
const SIGMA: f32 = 1.5;
/// Radius of the window, pixels: the Gaussian is truncated at 3.5 standard deviations.
const RADIUS: usize = 5;
const WINDOW: usize = 2 * RADIUS + 1;
/// `(0.01 L)²` and `(0.03 L)²` for a data range `L` of one.
const C1: f32 = 1e-4;
const C2: f32 = 9e-4;

/// Returns the peak signal-to-noise ratio of two images of the same size, dB.
///
/// `10 log₁₀(255² / MSE)`, with the mean squared error over all pixels and the three sRGB channels;
/// at most [`PSNR_MAX_DB`]. The PSNR of a clip is the mean over its frames.
///
/// # Panics
/// If the sizes differ.
///
/// # Examples
/// ```
/// use types::{Frame, MediaTime};
/// let gray = |v| Frame::new(16, 16, MediaTime::ZERO, vec![v; 16 * 16 * 3]);
/// let db = face::psnr_db(&gray(100)?, &gray(101)?);
/// assert!((db - 48.1308).abs() < 1e-4);
/// # Ok::<(), types::FrameError>(())
/// ```
pub fn psnr_db(a: &Frame, b: &Frame) -> f64 {
    assert_same_size(a, b);
    let squares: u64 =
        a.rgb().iter().zip(b.rgb()).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum();
    if squares == 0 {
        return PSNR_MAX_DB;
    }
    let mse = squares as f64 / a.rgb().len() as f64;
    (10.0 * (255.0 * 255.0 / mse).log10()).min(PSNR_MAX_DB)
}

/// Returns the structural similarity of two images of the same size: 1 for equal images, less
/// otherwise.
///
/// Gaussian window with a standard deviation of 1.5 pixels, truncated to 11 x 11; population
/// covariance; data range 1; only windows that lie inside the image; mean over the three sRGB
/// channels. Equals scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5,
/// use_sample_covariance=False, channel_axis=2)`.
///
/// # Panics
/// If the sizes differ or a side is under 11 pixels.
///
/// # Source
/// Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity",
/// eq. 13.
pub fn ssim(a: &Frame, b: &Frame) -> f64 {
    assert_same_size(a, b);
    let (width, height) = (a.width() as usize, a.height() as usize);
    assert!(
        width >= WINDOW && height >= WINDOW,
        "SSIM needs at least 11x11 pixels, got {width}x{height}"
    );
    let kernel = gaussian();
    let channel = |frame: &Frame, c: usize| -> Vec<f32> {
        frame.rgb()[c..].iter().step_by(3).map(|&v| f32::from(v) / 255.0).collect()
    };
    let sum: f64 = (0..3)
        .map(|c| {
            let (x, y) = (channel(a, c), channel(b, c));
            let product = |p: &[f32], q: &[f32]| -> Vec<f32> {
                p.iter().zip(q).map(|(p, q)| p * q).collect()
            };
            let mean = |v: &[f32]| blurred(v, width, &kernel);
            let (mx, my) = (mean(&x), mean(&y));
            let (xx, yy, xy) =
                (mean(&product(&x, &x)), mean(&product(&y, &y)), mean(&product(&x, &y)));
            let total: f64 = (0..mx.len())
                .map(|i| {
                    let (mx, my) = (mx[i], my[i]);
                    let (vx, vy, vxy) = (xx[i] - mx * mx, yy[i] - my * my, xy[i] - mx * my);
                    let numerator = (2.0 * mx * my + C1) * (2.0 * vxy + C2);
                    f64::from(numerator / ((mx * mx + my * my + C1) * (vx + vy + C2)))
                })
                .sum();
            total / mx.len() as f64
        })
        .sum();
    sum / 3.0
}

fn assert_same_size(a: &Frame, b: &Frame) {
    assert_eq!(
        (a.width(), a.height()),
        (b.width(), b.height()),
        "images of different sizes cannot be compared"
    );
}

/// Returns the window along one axis; its sum is one.
fn gaussian() -> [f32; WINDOW] {
    let mut kernel: [f32; WINDOW] = std::array::from_fn(|i| {
        let x = i as f32 - RADIUS as f32;
        (-0.5 * x * x / (SIGMA * SIGMA)).exp()
    });
    let sum: f32 = kernel.iter().sum();
    for k in &mut kernel {
        *k /= sum;
    }
    kernel
}

/// Returns the windowed means of a plane with rows of `width` numbers, `[height - 10][width - 10]`.
fn blurred(plane: &[f32], width: usize, kernel: &[f32; WINDOW]) -> Vec<f32> {
    let narrow = width + 1 - WINDOW;
    let rows: Vec<f32> = plane
        .chunks_exact(width)
        .flat_map(|row| {
            let mut out = vec![0.0; narrow];
            for (k, weight) in kernel.iter().enumerate() {
                for (o, v) in out.iter_mut().zip(&row[k..]) {
                    *o += weight * v;
                }
            }
            out
        })
        .collect();
    let n_rows = rows.len() / narrow + 1 - WINDOW;
    let mut out = vec![0.0; n_rows * narrow];
    for (y, out) in out.chunks_exact_mut(narrow).enumerate() {
        for (k, weight) in kernel.iter().enumerate() {
            for (o, v) in out.iter_mut().zip(&rows[(y + k) * narrow..]) {
                *o += weight * v;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::MediaTime;

    /// Results of `tests/quality.py` with scikit-image 0.26.
    const PSNR: f64 = 19.973_320_796_892_185;
    const SSIM: f64 = 0.876_250_509_968_163_1;

    /// Returns two 33x21 images made by integer formulas, as in `tests/quality.py`.
    fn pair() -> (Frame, Frame) {
        let (width, height) = (33_u32, 21_u32);
        let make = |shift: u32, gain: u32| {
            let rgb: Vec<u8> = (0..height)
                .flat_map(|y| (0..width).map(move |x| (x, y)))
                .flat_map(|(x, y)| {
                    (0..3).map(move |c| {
                        let wave = (x * x + 3 * y * (c + 1) + shift * c) % 97;
                        (30 + wave * gain / 10 + (x * 7 + y * 13 * shift) % 11) as u8
                    })
                })
                .collect();
            Frame::new(width, height, MediaTime::ZERO, rgb).unwrap()
        };
        (make(0, 20), make(2, 18))
    }

    #[test]
    fn both_metrics_agree_with_scikit_image() {
        let (a, b) = pair();
        assert!((psnr_db(&a, &b) - PSNR).abs() < 1e-9, "{}", psnr_db(&a, &b));
        // f32 sums against scikit-image's f64.
        assert!((ssim(&a, &b) - SSIM).abs() < 1e-5, "{}", ssim(&a, &b));
    }

    #[test]
    fn an_image_equals_itself() {
        let (a, _) = pair();
        assert!((psnr_db(&a, &a) - PSNR_MAX_DB).abs() < 1e-12);
        assert!((ssim(&a, &a) - 1.0).abs() < 1e-6);
    }
}
