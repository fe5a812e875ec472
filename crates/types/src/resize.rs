//! Resizing of square pictures, `[side, side, 3]` bytes.

/// Source cells of one target cell, with their weights.
type Taps = Vec<(usize, f32)>;

/// Resizes by averaging the covered area; growing repeats the nearest pixel.
pub(crate) fn resized_area(rgb: &[u8], from: usize, to: usize) -> Vec<u8> {
    resampled(rgb, from, to, &area_taps(from, to))
}

/// Resizes by cubic convolution with `a = -0.75` (Keys 1981). Only growing is free of aliases.
pub(crate) fn resized_bicubic(rgb: &[u8], from: usize, to: usize) -> Vec<u8> {
    resampled(rgb, from, to, &cubic_taps(from, to))
}

/// Applies the same taps to rows and columns.
fn resampled(rgb: &[u8], from: usize, to: usize, taps: &[Taps]) -> Vec<u8> {
    let mut wide = vec![0.0_f32; from * to * 3];
    for (row, out) in rgb.chunks_exact(from * 3).zip(wide.chunks_exact_mut(to * 3)) {
        for (taps, pixel) in taps.iter().zip(out.chunks_exact_mut(3)) {
            for &(x, weight) in taps {
                for c in 0..3 {
                    pixel[c] += weight * f32::from(row[x * 3 + c]);
                }
            }
        }
    }
    let mut resized = Vec::with_capacity(to * to * 3);
    let mut sum = vec![0.0_f32; to * 3];
    for taps in taps {
        sum.fill(0.0);
        for &(y, weight) in taps {
            for (s, v) in sum.iter_mut().zip(&wide[y * to * 3..(y + 1) * to * 3]) {
                *s += weight * v;
            }
        }
        resized.extend(sum.iter().map(|v| (v.clamp(0.0, 255.0) + 0.5) as u8));
    }
    resized
}

/// Returns for each target cell the source cells it covers and their shares, which sum to one.
fn area_taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|i| {
            if scale <= 1.0 {
                let nearest = ((i as f64 + 0.5) * scale) as usize;
                return vec![(nearest.min(from - 1), 1.0)];
            }
            let (start, end) = (i as f64 * scale, (i + 1) as f64 * scale);
            (start as usize..(end.ceil() as usize).min(from))
                .map(|x| {
                    let share = (end.min(x as f64 + 1.0) - start.max(x as f64)) / scale;
                    (x, share as f32)
                })
                .filter(|&(_, share)| share > 0.0)
                .collect()
        })
        .collect()
}

/// Returns for each target cell the four source cells around it and their weights.
fn cubic_taps(from: usize, to: usize) -> Vec<Taps> {
    const A: f32 = -0.75;
    (0..to)
        .map(|i| {
            let center = (i as f32 + 0.5) * from as f32 / to as f32 - 0.5;
            let start = center.floor();
            let t = center - start;
            let near = |d: f32| ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0;
            let far = |d: f32| A * (((d - 5.0) * d + 8.0) * d - 4.0);
            let weights = [far(1.0 + t), near(t), near(1.0 - t), far(2.0 - t)];
            (0..4)
                .map(|k| {
                    let at = start as isize + k as isize - 1;
                    (at.clamp(0, from as isize - 1) as usize, weights[k])
                })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of equal rows of gray.
    fn rows_of(grays: &[u8]) -> Vec<u8> {
        let row: Vec<u8> = grays.iter().flat_map(|&v| [v; 3]).collect();
        row.repeat(grays.len())
    }

    fn first_row(rgb: &[u8], side: usize) -> Vec<u8> {
        rgb.chunks_exact(3).take(side).map(|pixel| pixel[0]).collect()
    }

    #[test]
    fn shrinking_averages_the_covered_area() {
        let three = rows_of(&[0, 30, 60]);
        assert_eq!(first_row(&resized_area(&three, 3, 1), 1), [30]);
        // Two cells of one and a half pixels each: (0 + 30/2) / 1.5 and (30/2 + 60) / 1.5.
        assert_eq!(first_row(&resized_area(&three, 3, 2), 2), [10, 50]);
    }

    #[test]
    fn growing_by_area_repeats_the_nearest_pixel() {
        assert_eq!(first_row(&resized_area(&rows_of(&[0, 90]), 2, 4), 4), [0, 0, 90, 90]);
    }

    #[test]
    fn growing_by_cubic_convolution_agrees_with_opencv() {
        // cv2.resize(np.tile(np.uint8([0, 60, 120, 180]), (4, 1)), (8, 8), interpolation=cv2.INTER_CUBIC)[0]
        let row = first_row(&resized_bicubic(&rows_of(&[0, 60, 120, 180]), 4, 8), 8);
        for (got, want) in row.iter().zip([0, 11, 40, 78, 102, 140, 169, 186]) {
            assert!(got.abs_diff(want) <= 1, "{row:?}"); // OpenCV computes in 11-bit fixed point
        }
    }
}
