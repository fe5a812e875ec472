//! Occupancy: the blocks of the head box that may be visible in the current frame.

use face::{LOGIT_SCALE, Ray, Sizes};

/// Cells of the density grid along a side of a block.
const BLOCK: usize = 2;
/// Logarithm of the density, per canonical unit, below which a point counts as empty. A ray through
/// a whole box of such points loses at most 0.5 % of its light.
const EMPTY_LOG_DENSITY: f32 = -7.0;

/// Most blocks by which an axis is dilated block by block. Farther than that, every line with a
/// block that is not empty counts as full: a tile then covers much of the head, so there is little
/// to skip.
const MAX_REACH: usize = 8;

/// Blocks of the head box that are not empty (occupancy grid: Müller et al. 2022, "Instant Neural
/// Graphics Primitives", appendix C).
pub(super) struct Occupancy {
    /// Side of the density grid, vertices.
    n: usize,
    /// Blocks along a side.
    side: usize,
    /// Size of a block along each axis, canonical units.
    block: [f32; 3],
    /// `[side; 3]`, indexed `z`, `y`, `x`: 1 where a reading inside the block can exceed the limit.
    raw: Vec<u8>,
    /// `raw`, dilated by `reach`.
    wide: Vec<u8>,
    scratch: Vec<u8>,
    /// Number of blocks along each axis by which `wide` is dilated; `None` if `raw` has changed
    /// since.
    reach: Option<[usize; 3]>,
}

impl Occupancy {
    pub(super) fn new(sizes: &Sizes) -> Self {
        let n = sizes.density;
        let side = (n - 1).div_ceil(BLOCK);
        let cells = side.pow(3);
        let block = std::array::from_fn(|c| {
            (sizes.head.max[c] - sizes.head.min[c]) / (n - 1) as f32 * BLOCK as f32
        });
        Self {
            n,
            side,
            block,
            raw: vec![0; cells],
            wide: vec![0; cells],
            scratch: vec![0; cells],
            reach: None,
        }
    }

    /// Updates the blocks for a new density, `[n; 3]` logits.
    pub(super) fn update(&mut self, density: &[f32]) {
        self.reach = None;
        let (n, side) = (self.n, self.side);
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                let mut most = [0.0_f32; 128];
                let most = &mut most[..n];
                for (at, line) in self.raw.chunks_exact_mut(side).enumerate() {
                    let (z, y) = (at / side * BLOCK, at % side * BLOCK);
                    most.fill(f32::MIN);
                    for z in z..=(z + BLOCK).min(n - 1) {
                        for y in y..=(y + BLOCK).min(n - 1) {
                            for (m, v) in most.iter_mut().zip(&density[(z * n + y) * n..][..n]) {
                                *m = m.max(*v);
                            }
                        }
                    }
                    for (x, block) in line.iter_mut().enumerate() {
                        let end = (x * BLOCK + BLOCK).min(n - 1);
                        let most = most[x * BLOCK..=end].iter().copied().fold(f32::MIN, f32::max);
                        *block = u8::from(LOGIT_SCALE * most > EMPTY_LOG_DENSITY);
                    }
                }
            },
        );
    }

    /// Dilates the blocks that [`Occupancy::find`] looks at by at least `reach` canonical units.
    pub(super) fn widen(&mut self, reach: f32) {
        let blocks = self.block.map(|block| (reach / block).ceil() as usize);
        if self.reach == Some(blocks) {
            return;
        }
        self.reach = Some(blocks);
        let s = self.side;
        widen_axis(&self.raw, &mut self.wide, s, 1, blocks[0]);
        widen_axis(&self.wide, &mut self.scratch, s, s, blocks[1]);
        widen_axis(&self.scratch, &mut self.wide, s, s * s, blocks[2]);
    }

    /// Returns the smallest side of a block, canonical units: the step of [`Occupancy::find`].
    pub(super) fn step(&self) -> f32 {
        self.block.into_iter().fold(f32::MAX, f32::min)
    }

    /// Returns the number of steps of [`Occupancy::find`] between two distances. The shape of the
    /// head box bounds it: a face file is read only if few cells lie along a ray.
    pub(super) fn n_steps(&self, (enter, leave): (f32, f32)) -> usize {
        ((leave - enter) / self.step()).ceil() as usize
    }

    /// Returns the first and the last of the distances `enter + (i + 0.5) * step`, up to `leave`,
    /// at which the ray is in a dilated block, or `None` if there is none.
    #[inline(always)]
    pub(super) fn find(
        &self,
        sizes: &Sizes,
        ray: &Ray,
        (enter, leave): (f32, f32),
    ) -> Option<(f32, f32)> {
        let step = self.step();
        let most = (self.side - 1) as f32;
        let mut start = [0.0; 3];
        let mut delta = [0.0; 3];
        for c in 0..3 {
            let scale = 1.0 / self.block[c];
            start[c] = (ray.origin[c] + ray.direction[c] * enter - sizes.head.min[c]) * scale;
            delta[c] = ray.direction[c] * scale;
        }
        let is_near = |i: usize| {
            let t = (i as f32 + 0.5) * step;
            let mut at = 0;
            for c in (0..3).rev() {
                at = at * self.side + (start[c] + t * delta[c]).max(0.0).min(most) as usize;
            }
            self.wide[at] != 0
        };
        let n = self.n_steps((enter, leave));
        let first = (0..n).find(|i| is_near(*i))?;
        let last = (first..n).rev().find(|i| is_near(*i))?;
        Some((enter + (first as f32 + 0.5) * step, enter + (last as f32 + 0.5) * step))
    }
}

/// Dilates along one axis: `to[i] = max(from[j])` over the blocks `j` within `reach` of `i`, or
/// over the whole line if the reach is larger than [`MAX_REACH`].
fn widen_axis(from: &[u8], to: &mut [u8], side: usize, stride: usize, reach: usize) {
    to.copy_from_slice(from);
    if reach > MAX_REACH {
        return fill_lines(to, side, stride);
    }
    for by in 1..=reach {
        // Slab by slab, so that nothing is shifted beyond the end of the axis.
        for start in 0..from.len() / (side * stride) {
            let range = start * side * stride..(start + 1) * side * stride;
            let (from, to) = (&from[range.clone()], &mut to[range]);
            let shift = by * stride;
            if shift >= from.len() {
                continue;
            }
            let n = from.len() - shift;
            for (t, f) in to[shift..].iter_mut().zip(&from[..n]) {
                *t |= f;
            }
            for (t, f) in to[..n].iter_mut().zip(&from[shift..]) {
                *t |= f;
            }
        }
    }
}

/// Sets every block to the largest of its line along one axis.
fn fill_lines(blocks: &mut [u8], side: usize, stride: usize) {
    for slab in blocks.chunks_exact_mut(side * stride) {
        let (first, others) = slab.split_at_mut(stride);
        for layer in others.chunks_exact(stride) {
            first.iter_mut().zip(layer).for_each(|(most, block)| *most |= block);
        }
        others.chunks_exact_mut(stride).for_each(|layer| layer.copy_from_slice(first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_dilated_by_the_reach_and_not_across_rows() {
        let side = 5;
        let mut from = vec![0; 125];
        from[(2 * side + 2) * side + 4] = 1;
        let (mut a, mut b) = (vec![0; 125], vec![0; 125]);
        widen_axis(&from, &mut a, side, 1, 2);
        assert_eq!(a.iter().map(|v| usize::from(*v)).sum::<usize>(), 3);
        widen_axis(&a, &mut b, side, side, 1);
        widen_axis(&b, &mut a, side, side * side, 9);
        assert_eq!(a.iter().map(|v| usize::from(*v)).sum::<usize>(), 3 * 3 * 5);
    }

    #[test]
    fn a_ray_finds_the_only_vertex_that_is_not_empty() {
        let sizes = Sizes::tiny();
        let n = sizes.density;
        let mut density = vec![-3.0; n.pow(3)];
        density[(4 * n + 4) * n + 4] = 1.0;
        let mut occupancy = Occupancy::new(&sizes);
        occupancy.update(&density);
        occupancy.widen(occupancy.step());
        let place = |c: usize| {
            sizes.head.min[c] + (sizes.head.max[c] - sizes.head.min[c]) * 4.0 / (n - 1) as f32
        };
        let ray = Ray { origin: [place(0), place(1), -10.0], direction: [0.0, 0.0, 1.0] };
        let span = (10.0 + sizes.head.min[2], 10.0 + sizes.head.max[2]);
        let found = occupancy.find(&sizes, &ray, span);
        let (first, last) = found.expect("the ray hits the vertex");
        assert!((first..=last).contains(&(10.0 + place(2))));
        assert!(last - first < span.1 - span.0);
        occupancy.update(&vec![-3.0; n.pow(3)]);
        occupancy.widen(0.0);
        assert!(occupancy.find(&sizes, &ray, span).is_none());
    }
}
