//! Comparing pictures.

use types::Frame;

/// How two pictures of one size differ, in levels of 8-bit color.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// The largest difference of a channel.
    pub worst: f32,
    /// Where it is: column, row.
    pub worst_at: (usize, usize),
    /// Mean over all channels.
    pub mean: f32,
}

/// How an 8-bit frame differs from colors in 0..=1, row by row.
///
/// # Panics
/// If there are not as many colors as pixels.
pub fn difference(frame: &Frame, colors: &[[f32; 3]]) -> Difference {
    let width = frame.width() as usize;
    assert_eq!(frame.rgb().len(), colors.len() * 3, "as many colors as pixels");
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
