//! March through the density along one ray, and its derivative.

use crate::math::{exp, floor};
use crate::planes::LOGIT_SCALE;
use crate::ray::Ray;
use crate::sizes::Sizes;

/// Number of bins of equal length into which the march divides a ray.
pub const BINS: usize = 32;
/// Smallest mass of a ray that hits the head. A ray of less mass misses it.
pub const MIN_MASS: f32 = 0.004;
/// Smallest and largest natural logarithm of the density:
/// `sigma = exp(clamp(4 logit, min, max))`, per canonical unit.
pub const LOG_DENSITY: (f32, f32) = (-8.0, 6.0);

/// Result of a march.
#[derive(Clone, Copy, Debug)]
pub(crate) struct March {
    /// Weight `wᵢ = Tᵢ αᵢ` of each bin, near to far.
    pub(crate) weights: [f32; BINS],
    /// Sum of the weights, 0..=1.
    pub(crate) mass: f32,
}

/// Intermediate values of a march, which its derivative needs. Apart from [`March`], so that a ray
/// that is not differentiated stays small.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MarchTape {
    cells: Cells,
    /// `4 logit`, before it is clamped.
    log_density: [f32; BINS],
    sigma: [f32; BINS],
    alpha: [f32; BINS],
    /// Length of a bin, canonical units.
    step: f32,
}

/// Positions in the density grid: the lowest corner of the cell, and the upper corners' shares.
#[derive(Clone, Copy, Debug)]
struct Cells {
    low: [[u32; BINS]; 3],
    share: [[f32; BINS]; 3],
}

impl March {
    /// Marches through `density`, `[n; 3]` logits, between distances `enter` and `leave`.
    ///
    /// The density is read trilinearly at `offset` (0..=1, 0.5 in the definition) of each bin. With
    /// bins of length δ, `αᵢ = 1 − exp(−σᵢ δ)`, `Tᵢ = Πⱼ₍ⱼ<ᵢ₎ (1 − αⱼ)` and `wᵢ = Tᵢ αᵢ`
    /// (Mildenhall et al. 2020, arXiv:2003.08934, eq. 3).
    #[inline(always)]
    pub(crate) fn new(
        sizes: &Sizes,
        density: &[f32],
        ray: &Ray,
        (enter, leave): (f32, f32),
        offset: f32,
    ) -> (Self, MarchTape) {
        let n = sizes.density;
        let step = (leave - enter) / BINS as f32;
        let last = (n - 1) as f32;
        // Grid position of bin i is start + i * delta along each axis.
        let mut start = [0.0; 3];
        let mut delta = [0.0; 3];
        for i in 0..3 {
            let scale = last / (sizes.head.max[i] - sizes.head.min[i]);
            start[i] = (ray.origin[i] + ray.direction[i] * (enter + offset * step)
                - sizes.head.min[i])
                * scale;
            delta[i] = ray.direction[i] * step * scale;
        }
        let cells = Cells::new(n, start, delta);
        let mut log_density = cells.read(density, n);
        let (mut sigma, mut alpha) = ([0.0; BINS], [0.0; BINS]);
        for i in 0..BINS {
            log_density[i] *= LOGIT_SCALE;
            sigma[i] = exp(log_density[i].clamp(LOG_DENSITY.0, LOG_DENSITY.1));
            alpha[i] = 1.0 - exp(-sigma[i] * step);
        }
        let mut weights = [0.0; BINS];
        let mut transmittance = 1.0;
        for (w, a) in weights.iter_mut().zip(alpha) {
            *w = transmittance * a;
            transmittance *= 1.0 - a;
        }
        let march = Self { weights, mass: weights.iter().sum() };
        (march, MarchTape { cells, log_density, sigma, alpha, step })
    }

    /// Calls `sample` for each of `n` parts of equal mass, near to far, with the position of the
    /// sample in bins, 0..=[`BINS`].
    ///
    /// `within` gives the position of the sample in the mass of its part (0..=1, 0.5 in the
    /// definition); inside a bin the mass is uniform. This is inverse transform sampling of the
    /// weights (Mildenhall et al. 2020, arXiv:2003.08934, section 5.2), stratified.
    #[inline(always)]
    pub(crate) fn place_samples(
        &self,
        n: u32,
        mut within: impl FnMut() -> f32,
        mut sample: impl FnMut(f32),
    ) {
        let share = self.mass / n as f32;
        let (mut bin, mut before) = (0, 0.0);
        for k in 0..n {
            let mass = (k as f32 + within()) * share;
            while bin < BINS - 1 && before + self.weights[bin] < mass {
                before += self.weights[bin];
                bin += 1;
            }
            let inside = ((mass - before) / self.weights[bin].max(1e-9)).clamp(0.0, 1.0);
            sample(bin as f32 + inside);
        }
    }
}

impl MarchTape {
    /// Adds the gradient of a loss to that of `density`, given the gradient of each part's mass.
    ///
    /// Part k of the mass is `Σᵢ wᵢ · share(i, k)` with the shares held fixed, so a bin learns from
    /// the samples that its mass went to; the positions of samples are not differentiated. For
    /// gradients `g` of the weights, `∂L/∂σᵢ = δ (Tᵢ₊₁ gᵢ − Σⱼ₍ⱼ>ᵢ₎ wⱼ gⱼ)`.
    #[inline(always)]
    pub(crate) fn add_gradient(
        &self,
        march: &March,
        n: usize,
        mass_gradients: &[f32],
        density: &mut [f32],
    ) {
        let share = march.mass / mass_gradients.len() as f32;
        let g_weights = bin_gradients(&march.weights, share, mass_gradients);
        let mut transmittance = [0.0_f32; BINS];
        let mut left = 1.0;
        for (t, alpha) in transmittance.iter_mut().zip(self.alpha) {
            left *= 1.0 - alpha;
            *t = left;
        }
        let mut behind = 0.0;
        for i in (0..BINS).rev() {
            let g_sigma = self.step * (transmittance[i] * g_weights[i] - behind);
            behind += march.weights[i] * g_weights[i];
            let g = LOGIT_SCALE * self.sigma[i] * g_sigma;
            // Beyond a limit of the clamp only the gradient that leads back inside passes.
            let log = self.log_density[i];
            if log > LOG_DENSITY.1 && g < 0.0 || log < LOG_DENSITY.0 && g > 0.0 {
                continue;
            }
            let (at, [fx, fy, fz]) = self.cells.get(i, n);
            let out = &mut density[at..at + n * n + n + 2];
            for (base, g) in [(0, g * (1.0 - fz)), (n * n, g * fz)] {
                for (base, g) in [(base, g * (1.0 - fy)), (base + n, g * fy)] {
                    out[base] += g * (1.0 - fx);
                    out[base + 1] += g * fx;
                }
            }
        }
    }
}

impl Cells {
    /// Returns the cells of positions `start + i · delta` in a grid of `n` vertices a side, clamped
    /// to `0..=n - 1`.
    #[inline(always)]
    fn new(n: usize, start: [f32; 3], delta: [f32; 3]) -> Self {
        let mut low = [[0_u32; BINS]; 3];
        let mut share = [[0.0_f32; BINS]; 3];
        for c in 0..3 {
            for i in 0..BINS {
                let p = (start[c] + i as f32 * delta[c]).clamp(0.0, (n - 1) as f32);
                low[c][i] = floor(p).min(n as u32 - 2);
                share[c][i] = p - low[c][i] as i32 as f32;
            }
        }
        Self { low, share }
    }

    /// Returns the index of the lowest corner of a bin's cell, and the shares of the upper ones.
    #[inline(always)]
    fn get(&self, i: usize, n: usize) -> (usize, [f32; 3]) {
        let low = self.low.map(|axis| axis[i] as usize);
        ((low[2] * n + low[1]) * n + low[0], self.share.map(|axis| axis[i]))
    }

    /// Reads `grid`, `[z][y][x]`, trilinearly.
    ///
    /// All bins go through each operation together, so that everything but the reads is vectorized.
    #[inline(always)]
    fn read(&self, grid: &[f32], n: usize) -> [f32; BINS] {
        // From low to high x, then y, then z.
        let mut corners = [[0.0_f32; BINS]; 8];
        for i in 0..BINS {
            let at = (self.low[2][i] as usize * n + self.low[1][i] as usize) * n
                + self.low[0][i] as usize;
            for (half, at) in corners.as_chunks_mut::<4>().0.iter_mut().zip([at, at + n * n]) {
                let cells = &grid[at..at + n + 2];
                half[0][i] = cells[0];
                half[1][i] = cells[1];
                half[2][i] = cells[n];
                half[3][i] = cells[n + 1];
            }
        }
        std::array::from_fn(
            #[inline(always)]
            |i| {
                let between = |a: f32, b: f32, share: f32| a + (b - a) * share;
                let line = |k: usize| between(corners[k][i], corners[k + 1][i], self.share[0][i]);
                let near = between(line(0), line(2), self.share[1][i]);
                let far = between(line(4), line(6), self.share[1][i]);
                between(near, far, self.share[2][i])
            },
        )
    }
}

/// Returns the gradient of each bin's weight: the mean of the gradients of the parts, weighted by
/// how much of the bin's mass lies in each.
#[inline(always)]
fn bin_gradients(weights: &[f32; BINS], share: f32, mass_gradients: &[f32]) -> [f32; BINS] {
    let n = mass_gradients.len();
    let mut out = [0.0; BINS];
    let mut from = 0.0;
    let mut k = 0;
    for (out, &weight) in out.iter_mut().zip(weights) {
        let to = from + weight;
        let mut at = from;
        let mut sum = 0.0;
        while k + 1 < n && (k + 1) as f32 * share < to {
            let cut = (k + 1) as f32 * share;
            sum += (cut - at).max(0.0) * mass_gradients[k];
            at = cut.max(at);
            k += 1;
        }
        sum += (to - at) * mass_gradients[k];
        *out = if weight > 1e-9 { sum / weight } else { mass_gradients[k] };
        from = to;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AHEAD: [f32; 3] = [0.0, 0.0, 1.0];

    fn march_through(sizes: &Sizes, density: &[f32], ray: &Ray) -> March {
        let span = ray.span(&sizes.head).expect("the ray hits the box");
        March::new(sizes, density, ray, span, 0.5).0
    }

    /// A march whose weights are given.
    fn weighted(weights: [f32; BINS]) -> March {
        March { weights, mass: weights.iter().sum() }
    }

    #[test]
    fn samples_split_the_mass_of_a_bin_into_equal_parts() {
        let mut weights = [0.0; BINS];
        weights[3] = 0.8;
        let mut at = Vec::new();
        weighted(weights).place_samples(4, || 0.5, |bin| at.push(bin));
        for (got, want) in at.iter().zip([3.125, 3.375, 3.625, 3.875]) {
            assert!((got - want).abs() < 1e-5);
        }
    }

    #[test]
    fn a_solid_box_stops_every_ray_and_an_empty_one_stops_none() {
        let sizes = Sizes::tiny();
        let cells = sizes.density.pow(3);
        let ray = Ray { origin: [0.0, -0.2, -10.0], direction: AHEAD };
        let span = ray.span(&sizes.head).expect("the ray hits the box");
        assert!((span.0 - (10.0 + sizes.head.min[2])).abs() < 1e-4);
        let solid = march_through(&sizes, &vec![1.5; cells], &ray);
        let empty = march_through(&sizes, &vec![-2.0; cells], &ray);
        assert!(solid.mass > 0.9999 && solid.weights[0] > 0.9);
        assert!(empty.mass < MIN_MASS);
        let beside = Ray { origin: [9.0, 0.0, -10.0], direction: AHEAD };
        assert!(beside.span(&sizes.head).is_none());
    }

    #[test]
    fn a_bin_gets_the_gradient_of_the_parts_its_mass_went_to() {
        let mut weights = [0.0; BINS];
        weights[2] = 0.3;
        weights[3] = 0.1;
        // Parts of 0.2: bin 2 gives 0.2 to the first and 0.1 to the second, bin 3 all to the
        // second.
        let got = bin_gradients(&weights, 0.2, &[1.0, 4.0]);
        assert!((got[2] - 2.0).abs() < 1e-5 && (got[3] - 4.0).abs() < 1e-5);
        assert!((got[0] - 1.0).abs() < 1e-6 && (got[9] - 4.0).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn mass_is_one_minus_the_transmittance(logit in -2.0_f32..1.5, y in -1.0_f32..1.0) {
            let sizes = Sizes::tiny();
            let ray = Ray { origin: [0.1, y, -9.0], direction: AHEAD };
            let span = ray.span(&sizes.head).expect("the ray hits the box");
            let got = march_through(&sizes, &vec![logit; sizes.density.pow(3)], &ray).mass;
            let sigma = (4.0 * f64::from(logit)).clamp(-8.0, 6.0).exp();
            let want = 1.0 - (-sigma * f64::from(span.1 - span.0)).exp();
            prop_assert!((f64::from(got) - want).abs() < 1e-4);
        }

        #[test]
        fn samples_come_in_order_and_stay_inside_the_span(
            weights in proptest::collection::vec(0.0_f32..1.0, BINS), n in 1_u32..=32,
        ) {
            let mut last = 0.0;
            let mut count = 0;
            let weights = weights.try_into().expect("one weight a bin");
            weighted(weights).place_samples(n, || 0.5, |bin| {
                assert!((last..=BINS as f32).contains(&bin));
                last = bin;
                count += 1;
            });
            prop_assert_eq!(count, n);
        }
    }
}
