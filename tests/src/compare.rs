//! Comparison of pictures.

use types::Frame;

/// Difference between two pictures of the same size, in levels of 8-bit color (0..=255).
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// Largest difference in one color channel.
    pub worst: f32,
    /// Column and row of the pixel with the largest difference.
    pub worst_at: (usize, usize),
    /// Mean absolute difference over all pixels and channels.
    pub mean: f32,
}

/// Compares an 8-bit frame with colors in 0..=1, given row by row.
///
/// # Panics
/// If the number of colors is not the number of pixels.
pub fn difference(frame: &Frame, colors: &[[f32; 3]]) -> Difference {
    let width = frame.width() as usize;
    assert_eq!(frame.rgb().len(), colors.len() * 3, "one color for each pixel");
    let mut got = Difference { worst: 0.0, worst_at: (0, 0), mean: 0.0 };
    for (at, (pixel, color)) in frame.rgb().chunks_exact(3).zip(colors).enumerate() {
        let mut worst = 0.0_f32;
        for (byte, value) in pixel.iter().zip(color) {
            let off = (f32::from(*byte) - value * 255.0).abs();
            got.mean += off;
            worst = worst.max(off);
        }
        if worst > got.worst {
            (got.worst, got.worst_at) = (worst, (at % width, at / width));
        }
    }
    got.mean /= frame.rgb().len() as f32;
    got
}
