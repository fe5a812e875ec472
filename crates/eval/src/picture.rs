use types::SquareFrame;

/// The frame as a square of `side` pixels, the reference that a rendered picture is held against.
///
/// Smaller: the mean of the area each pixel covers. Larger: bicubic (Keys 1981, `a = -0.75`, edge
/// pixels repeated), as the common tools do.
///
/// # Panics
/// If `side` is zero or over [`types::MAX_FRAME_SIDE`].
pub fn scaled(square: &SquareFrame, side: u32) -> SquareFrame {
    if side <= square.side() {
        return square.resized_area(side);
    }
    let from = square.side() as usize;
    let taps = cubic_taps(from, side as usize);
    let mut wide = vec![0.0_f32; from * side as usize * 3];
    for (row, out) in
        square.rgb().chunks_exact(from * 3).zip(wide.chunks_exact_mut(side as usize * 3))
    {
        for (taps, pixel) in taps.iter().zip(out.chunks_exact_mut(3)) {
            for &(x, weight) in taps {
                for c in 0..3 {
                    pixel[c] += weight * f32::from(row[x * 3 + c]);
                }
            }
        }
    }
    let stride = side as usize * 3;
    let mut rgb = Vec::with_capacity(side as usize * stride);
    for taps in &taps {
        rgb.extend((0..stride).map(|i| {
            let sum: f32 = taps.iter().map(|&(y, weight)| weight * wide[y * stride + i]).sum();
            (sum.clamp(0.0, 255.0) + 0.5) as u8
        }));
    }
    SquareFrame::new(side, square.time(), rgb).expect("the rows were counted above")
}

/// For each of `to` cells the four cells of `from` around it and their weights.
fn cubic_taps(from: usize, to: usize) -> Vec<[(usize, f32); 4]> {
    const A: f32 = -0.75;
    (0..to)
        .map(|i| {
            let center = (i as f32 + 0.5) * from as f32 / to as f32 - 0.5;
            let start = center.floor();
            let t = center - start;
            let near = |d: f32| ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0;
            let far = |d: f32| A * (((d - 5.0) * d + 8.0) * d - 4.0);
            let weights = [far(1.0 + t), near(t), near(1.0 - t), far(2.0 - t)];
            std::array::from_fn(|k| {
                let at = start as isize + k as isize - 1;
                (at.clamp(0, from as isize - 1) as usize, weights[k])
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use types::MediaTime;

    use super::*;

    fn row_of_four() -> SquareFrame {
        let rgb: Vec<u8> =
            (0..4).flat_map(|_| [0, 0, 0, 60, 60, 60, 120, 120, 120, 180, 180, 180]).collect();
        SquareFrame::new(4, MediaTime::ZERO, rgb).unwrap()
    }

    #[test]
    fn enlarging_agrees_with_opencv() {
        // cv2.resize(np.tile(np.uint8([0, 60, 120, 180]), (4, 1)), (8, 8), interpolation=cv2.INTER_CUBIC)[3]
        let large = scaled(&row_of_four(), 8);
        let want = [0, 11, 40, 78, 102, 140, 169, 186];
        let row: Vec<u8> = (0..8).map(|x| large.rgb_at(x, 3)[0]).collect();
        for (got, want) in row.iter().zip(want) {
            assert!(got.abs_diff(want) <= 1, "{row:?}"); // OpenCV computes in 11-bit fixed point
        }
    }

    #[test]
    fn shrinking_takes_the_area() {
        assert_eq!(scaled(&row_of_four(), 2).rgb_at(0, 0), [30; 3]);
        assert_eq!(scaled(&row_of_four(), 4), row_of_four());
    }
}
