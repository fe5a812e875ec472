//! Bilinear reading of a grid of texels, its transpose, and its slope.

use crate::math::add_scaled;
use crate::sizes::CHANNELS;

/// One texel of a feature plane.
pub(crate) type Texel = [f32; CHANNELS];

/// Returns the lower of the two texels that enclose a relative position, and the upper one's share.
///
/// Align-corners: 0 is the center of the first of `n` texels, 1 the center of the last. Positions
/// outside are clamped. `n` is at least 2.
#[inline(always)]
pub(crate) fn between_texels(relative: f32, n: usize) -> (usize, f32) {
    let at = (relative * (n - 1) as f32).clamp(0.0, (n - 1) as f32);
    let low = (at as usize).min(n - 2);
    (low, at - low as f32)
}

/// The four texels around a position in a `height` x `width` grid, and their bilinear shares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BilinearTaps {
    /// Index of the upper left texel.
    pub(crate) at: usize,
    /// Texels in a row.
    pub(crate) stride: usize,
    /// Shares of the upper left, upper right, lower left and lower right texel.
    pub(crate) shares: [f32; 4],
    /// Share of the right column, share of the lower row.
    pub(crate) fraction: [f32; 2],
}

impl BilinearTaps {
    /// Fills an array before its entries are known.
    pub(crate) const EMPTY: Self = Self { at: 0, stride: 0, shares: [0.0; 4], fraction: [0.0; 2] };

    /// Returns the taps of relative column `u` and row `v`: align-corners, clamped.
    #[inline(always)]
    pub(crate) fn new(u: f32, v: f32, width: usize, height: usize) -> Self {
        let (x, fx) = between_texels(u, width);
        let (y, fy) = between_texels(v, height);
        Self {
            at: y * width + x,
            stride: width,
            shares: [(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy],
            fraction: [fx, fy],
        }
    }

    /// Returns the indices of the four texels, in the order of `shares`.
    #[inline(always)]
    pub(crate) fn indices(&self) -> [usize; 4] {
        [self.at, self.at + 1, self.at + self.stride, self.at + self.stride + 1]
    }

    /// Returns the four texels, in the order of `shares`.
    #[inline(always)]
    pub(crate) fn texels<'a, const N: usize>(&self, grid: &'a [[f32; N]]) -> [&'a [f32; N]; 4] {
        self.indices().map(|at| &grid[at])
    }

    /// Reads the grid bilinearly.
    #[inline(always)]
    pub(crate) fn read<const N: usize>(&self, grid: &[[f32; N]]) -> [f32; N] {
        self.blend(self.texels(grid))
    }

    /// Blends four texels by the taps' shares.
    #[inline(always)]
    pub(crate) fn blend<const N: usize>(&self, texels: [&[f32; N]; 4]) -> [f32; N] {
        let mut sum = [0.0; N];
        for (texel, share) in texels.into_iter().zip(self.shares) {
            add_scaled(&mut sum, share, texel);
        }
        sum
    }

    /// Adds the gradient of a reading to the gradient of the grid: the transpose of
    /// [`BilinearTaps::read`].
    #[inline(always)]
    pub(crate) fn scatter<const N: usize>(&self, gradient: &[f32; N], grid: &mut [[f32; N]]) {
        for (at, share) in self.indices().into_iter().zip(self.shares) {
            add_scaled(&mut grid[at], share, gradient);
        }
    }

    /// Returns how each channel of a blend changes per texel to the right and per texel down.
    #[inline(always)]
    pub(crate) fn slopes<const N: usize>(&self, [a, b, c, d]: [&[f32; N]; 4]) -> [[f32; N]; 2] {
        let [fx, fy] = self.fraction;
        [
            std::array::from_fn(|i| (b[i] - a[i]) * (1.0 - fy) + (d[i] - c[i]) * fy),
            std::array::from_fn(|i| (c[i] - a[i]) * (1.0 - fx) + (d[i] - b[i]) * fx),
        ]
    }

    /// Returns the gradient with respect to column and row, in texels, of a blend whose own
    /// gradient is `gradient`.
    #[inline(always)]
    pub(crate) fn position_gradient<const N: usize>(
        &self,
        texels: [&[f32; N]; 4],
        gradient: &[f32; N],
    ) -> [f32; 2] {
        self.slopes(texels)
            .map(|slope| gradient.iter().zip(&slope).fold(0.0, |sum, (g, s)| sum + g * s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_are_texel_centers_and_positions_outside_are_clamped() {
        assert_eq!(between_texels(0.0, 5), (0, 0.0));
        assert_eq!(between_texels(1.0, 5), (3, 1.0));
        assert_eq!(between_texels(-3.0, 5), (0, 0.0));
        assert_eq!(between_texels(f32::NAN, 5).0, 0);
    }

    /// A bilinear surface is linear along each axis, so central differences are exact.
    #[test]
    fn slopes_match_finite_differences_and_scatter_is_the_transpose_of_read() {
        let (width, height) = (4, 3);
        let grid: Vec<[f32; 2]> =
            (0..12).map(|i| [(i as f32 * 1.7).sin(), (i as f32 * 0.9).cos()]).collect();
        let read = |x: f32, y: f32| BilinearTaps::new(x / 3.0, y / 2.0, width, height).read(&grid);
        let (x, y) = (1.4, 0.6);
        let taps = BilinearTaps::new(x / 3.0, y / 2.0, width, height);
        let slopes = taps.slopes(taps.texels(&grid));
        for ([dx, dy], got) in [([0.1, 0.0], slopes[0]), ([0.0, 0.1], slopes[1])] {
            let (up, down) = (read(x + dx, y + dy), read(x - dx, y - dy));
            for ((up, down), got) in up.iter().zip(down).zip(got) {
                let want = (up - down) / 0.2;
                assert!((got - want).abs() < 1e-4, "{got} but {want}");
            }
        }
        // <read(grid), g> = <grid, scatter(g)>
        let g = [0.3, -0.8];
        let mut scattered = vec![[0.0; 2]; 12];
        taps.scatter(&g, &mut scattered);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let forward = dot(&taps.read(&grid), &g);
        let transposed = dot(grid.as_flattened(), scattered.as_flattened());
        assert!((forward - transposed).abs() < 1e-5);
    }
}
