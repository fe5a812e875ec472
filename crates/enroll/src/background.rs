//! Estimate of the static background behind the person.

use types::Landmarks;

/// Frames used for the median; more frames hardly change it.
const MAX_FRAMES: usize = 61;
/// Share of the frames in which a pixel must lie outside the head for its median to be used.
const MIN_FREE: f32 = 0.2;

/// Computes the temporal median of the pixels outside the head and interpolates where the head always
/// covers the background.
///
/// Without the interpolation the median would contain the face, and the trained field would learn
/// holes through which it shows. `frames` are `[side][side][3]` bytes with landmarks in their pixels.
/// Returns `[out][out][3]` sRGB in 0..=1.
pub(crate) fn background(frames: &[(&[u8], &Landmarks)], side: u32, out: usize) -> Vec<f32> {
    let stride = frames.len().div_ceil(MAX_FRAMES).max(1);
    let chosen: Vec<_> = frames.iter().step_by(stride).collect();
    let ellipses: Vec<_> = chosen.iter().map(|(_, l)| HeadEllipse::new(l, side)).collect();
    let mut rgb = vec![0.0; out * out * 3];
    let mut known = vec![false; out * out];
    let mut values: [Vec<u8>; 3] = Default::default();
    for y in 0..out {
        for x in 0..out {
            let p = [(x as f32 + 0.5) / out as f32, (y as f32 + 0.5) / out as f32];
            let [px, py] = p.map(|v| ((v * side as f32) as usize).min(side as usize - 1));
            values.iter_mut().for_each(Vec::clear);
            for ((frame, _), ellipse) in chosen.iter().zip(&ellipses) {
                if !ellipse.covers(p) {
                    let at = (py * side as usize + px) * 3;
                    values.iter_mut().enumerate().for_each(|(c, v)| v.push(frame[at + c]));
                }
            }
            let at = y * out + x;
            if values[0].len() as f32 >= MIN_FREE * chosen.len() as f32 && !values[0].is_empty() {
                known[at] = true;
                for (c, values) in values.iter_mut().enumerate() {
                    let middle = values.len() / 2;
                    let (_, median, _) = values.select_nth_unstable(middle);
                    rgb[at * 3 + c] = f32::from(*median) / 255.0;
                }
            }
        }
    }
    fill_unknown(&mut rgb, &known, out);
    rgb
}

/// Ellipse around the landmarks, enlarged upwards to cover the hair.
pub(crate) struct HeadEllipse {
    middle: [f32; 2],
    half: [f32; 2],
}

impl HeadEllipse {
    /// Computes the ellipse from landmarks in pixels of a square frame of `side` pixels.
    pub(crate) fn new(landmarks: &Landmarks, side: u32) -> Self {
        let bound = |axis: usize| {
            let all = landmarks.points.iter().map(|p| p[axis] / side as f32);
            all.fold((f32::MAX, f32::MIN), |(lo, hi), v| (lo.min(v), hi.max(v)))
        };
        let ((x0, x1), (y0, y1)) = (bound(0), bound(1));
        let (w, h) = (x1 - x0, y1 - y0);
        Self {
            middle: [f32::midpoint(x0, x1), f32::midpoint(y0, y1) - 0.18 * h],
            half: [0.85 * w, 0.95 * h],
        }
    }

    /// Returns whether it covers a point in image space.
    pub(crate) fn covers(&self, p: [f32; 2]) -> bool {
        let d = [0, 1].map(|i| (p[i] - self.middle[i]) / self.half[i].max(1e-3));
        d[0] * d[0] + d[1] * d[1] < 1.0
    }
}

/// Fills unknown pixels by the pull-push algorithm: means of known pixels, from coarse to fine.
///
/// # Source
/// Gortler et al. 1996, "The Lumigraph", section 3.4.
fn fill_unknown(rgb: &mut [f32], known: &[bool], side: usize) {
    let mut levels = vec![(side, weighted(rgb, known))];
    while let Some((n, level)) = levels.last().filter(|(n, _)| *n > 1) {
        let half = n.div_ceil(2);
        let mut smaller = vec![[0.0_f32; 4]; half * half];
        for (i, texel) in level.iter().enumerate() {
            let at = (i / n / 2) * half + i % n / 2;
            for c in 0..4 {
                smaller[at][c] += texel[c];
            }
        }
        // Limits the confidence of a texel to one.
        for texel in &mut smaller {
            let scale = 1.0 / texel[3].max(1.0);
            *texel = texel.map(|v| v * scale);
        }
        levels.push((half, smaller));
    }
    let mut coarse: Option<(usize, Vec<[f32; 4]>)> = None;
    for (n, mut level) in levels.into_iter().rev() {
        if let Some((m, coarse)) = &coarse {
            for (i, texel) in level.iter_mut().enumerate() {
                let from = read_bilinear(
                    coarse,
                    *m,
                    (i % n) as f32 / 2.0 - 0.25,
                    (i / n) as f32 / 2.0 - 0.25,
                );
                let missing = 1.0 - texel[3];
                for c in 0..3 {
                    texel[c] += missing * from[c];
                }
                texel[3] = 1.0;
            }
        } else {
            for texel in &mut level {
                let scale = 1.0 / texel[3].max(1e-6);
                *texel = [texel[0] * scale, texel[1] * scale, texel[2] * scale, 1.0];
            }
        }
        coarse = Some((n, level));
    }
    if let Some((_, level)) = coarse {
        for ((pixel, texel), known) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(level).zip(known) {
            if !known {
                pixel.copy_from_slice(&texel[..3]);
            }
        }
    }
}

/// Appends a confidence to each pixel: one if known, else zero.
fn weighted(rgb: &[f32], known: &[bool]) -> Vec<[f32; 4]> {
    let pixels = rgb.as_chunks::<3>().0;
    let texel = |(p, known): (&[f32; 3], &bool)| {
        if *known { [p[0], p[1], p[2], 1.0] } else { [0.0; 4] }
    };
    pixels.iter().zip(known).map(texel).collect()
}

/// Reads a level at texel coordinates, bilinear and clamped.
fn read_bilinear(level: &[[f32; 4]], n: usize, x: f32, y: f32) -> [f32; 3] {
    let last = (n - 1) as f32;
    let (x, y) = (x.clamp(0.0, last), y.clamp(0.0, last));
    let (x0, y0) = (x as usize, y as usize);
    let (x1, y1) = ((x0 + 1).min(n - 1), (y0 + 1).min(n - 1));
    let (fx, fy) = (x - x0 as f32, y - y0 as f32);
    std::array::from_fn(|c| {
        let at = |x: usize, y: usize| level[y * n + x][c];
        (at(x0, y0) * (1.0 - fx) + at(x1, y0) * fx) * (1.0 - fy)
            + (at(x0, y1) * (1.0 - fx) + at(x1, y1) * fx) * fy
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_pixels_are_interpolated_from_their_surroundings() {
        let n = 13;
        let mut rgb: Vec<f32> =
            (0..n * n).flat_map(|i| [(i % n) as f32 / 12.0, 0.5, 0.5]).collect();
        let known: Vec<bool> =
            (0..n * n).map(|i| !((4..9).contains(&(i % n)) && (4..9).contains(&(i / n)))).collect();
        let want = rgb.clone();
        for (i, known) in known.iter().enumerate() {
            if !known {
                rgb[i * 3..i * 3 + 3].fill(9.0);
            }
        }
        fill_unknown(&mut rgb, &known, n);
        for (got, want) in rgb.iter().zip(&want) {
            assert!((got - want).abs() < 0.25);
        }
    }
}
