//! What lies behind the head on one ray, forwards and back: torso over background.
//!
//! A frame's rays touch a hundredth of the texels of both, so neither is folded or differentiated
//! as a whole: texels are mixed as they are read, and gradients kept ray by ray.

use face::{
    Taps, Upsampling, add_scaled, background_taps, flow_taps, sigmoid, torso_edge, torso_position,
};

use crate::ray_pass::{FrameGradients, Traced, slope};

/// What one ray does to the texels of torso and background.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BehindGradient {
    torso: Taps,
    g_torso: [f32; 4],
    ground: Taps,
    g_ground: [f32; 3],
}

/// What one ray would see without the head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behind {
    pub(crate) rgb: [f32; 3],
    /// Of the torso.
    pub(crate) alpha: f32,
    /// Where on the torso's texture, relative.
    place: (f32, f32),
    torso_taps: Taps,
    torso_texels: [[f32; 4]; 4],
    torso: [f32; 4],
    sigmoid: f32,
    edge: f32,
    ground_taps: Taps,
    ground: [f32; 3],
}

impl Behind {
    /// At an image point; what [`face::read_behind`] gives.
    #[inline(always)]
    pub(crate) fn read(t: &Traced<'_>, [x, y]: [f32; 2]) -> Self {
        let (sizes, inputs) = (t.sizes, t.inputs);
        let place = torso_position(sizes, inputs, x, y);
        let torso_taps = Taps::new(place.0, place.1, sizes.torso_width, sizes.torso_height);
        let base = t.params[t.layout.torso.clone()].as_chunks::<4>().0;
        let (small, up) = t.torso;
        let torso_texels = torso_taps.indices().map(|at| {
            let mut texel = base[at];
            for (small_at, share) in small_taps(up, at) {
                add_scaled(&mut texel, share, &small[small_at]);
            }
            texel
        });
        let mut torso = [0.0; 4];
        for (texel, share) in torso_texels.iter().zip(torso_taps.shares) {
            add_scaled(&mut torso, share, texel);
        }
        let edge = torso_edge(sizes, place.1);
        let sigmoid = sigmoid(torso[3]);
        let alpha = sigmoid * edge;
        let ground_taps = background_taps(sizes, inputs, x, y);
        let ground = ground_taps.read(ground_texels(t));
        let rgb = std::array::from_fn(|c| ground[c] + (torso[c] - ground[c]) * alpha);
        Self {
            rgb,
            alpha,
            place,
            torso_taps,
            torso_texels,
            torso,
            sigmoid,
            edge,
            ground_taps,
            ground,
        }
    }

    /// Back from the gradient of the color, and of `binary` times `alpha (1 - alpha)`.
    #[inline(always)]
    pub(crate) fn back(
        &self,
        t: &Traced<'_>,
        [x, y]: [f32; 2],
        g_rgb: &[f32; 3],
        binary: f32,
        grads: &mut FrameGradients,
    ) {
        let sizes = t.sizes;
        let mut g_alpha = binary * (1.0 - 2.0 * self.alpha);
        let mut g_torso = [0.0; 4];
        let mut g_ground = [0.0; 3];
        for c in 0..3 {
            g_alpha += g_rgb[c] * (self.torso[c] - self.ground[c]);
            g_torso[c] = g_rgb[c] * self.alpha;
            g_ground[c] = g_rgb[c] * (1.0 - self.alpha);
        }
        g_torso[3] = g_alpha * self.alpha * (1.0 - self.sigmoid);
        grads.behind.push(BehindGradient {
            torso: self.torso_taps,
            g_torso,
            ground: self.ground_taps,
            g_ground,
        });

        let around = self.ground_taps.indices().map(|at| &ground_texels(t)[at]);
        let (gx, gy) = slope(self.ground_taps.fraction, around, &g_ground);
        grads.background_shift[0] += gx * sizes.background as f32;
        grads.background_shift[1] += gy * sizes.background as f32;

        let [a, b, c, d] = &self.torso_texels;
        let (gu, mut gv) = slope(self.torso_taps.fraction, [a, b, c, d], &g_torso);
        let rows = (sizes.torso_height - 1) as f32;
        gv *= rows;
        if self.edge > 0.0 && self.edge < 1.0 {
            gv += g_alpha * self.sigmoid * rows;
        }
        let extent = |i: usize| sizes.torso.max[i] - sizes.torso.min[i];
        let outside = |v: f32| !(0.0..=1.0).contains(&v);
        let (tu, tv) = self.place;
        let gx = if outside(tu) { 0.0 } else { gu * (sizes.torso_width - 1) as f32 / extent(0) };
        let gy = if outside(tv) { 0.0 } else { gv / extent(1) };
        let (dx, dy) = (x - 0.5, y - 0.5);
        let g_affine = [gx * dx, gx * dy, gx, gy * dx, gy * dy, gy];
        for (g, v) in grads.torso_affine.iter_mut().zip(g_affine) {
            *g += v;
        }
        let taps = flow_taps(sizes, x, y);
        for (at, share) in taps.indices().into_iter().zip(taps.shares) {
            add_scaled(&mut grads.flow[at], share, &[gx, gy]);
        }
    }
}

/// Adds the gradients of many rays to those of the torso's texture and of the background.
pub(crate) fn add_texels(
    rays: &[BehindGradient],
    torso: &mut [[f32; 4]],
    background: &mut [[f32; 3]],
) {
    for ray in rays {
        for (at, share) in ray.torso.indices().into_iter().zip(ray.torso.shares) {
            add_scaled(&mut torso[at], share, &ray.g_torso);
        }
        for (at, share) in ray.ground.indices().into_iter().zip(ray.ground.shares) {
            add_scaled(&mut background[at], share, &ray.g_ground);
        }
    }
}

/// Adds them to those of the torso's mixed additive planes.
pub(crate) fn add_small_torso(rays: &[BehindGradient], up: &Upsampling, small: &mut [[f32; 4]]) {
    for ray in rays {
        for (at, share) in ray.torso.indices().into_iter().zip(ray.torso.shares) {
            for (small_at, small_share) in small_taps(up, at) {
                add_scaled(&mut small[small_at], share * small_share, &ray.g_torso);
            }
        }
    }
}

/// The four texels of the small picture that texel `at` of the large one is mixed from.
#[inline(always)]
fn small_taps(up: &Upsampling, at: usize) -> [(usize, f32); 4] {
    let (y, fy) = up.rows[at / up.columns.len()];
    let (x, fx) = up.columns[at % up.columns.len()];
    let first = y * up.small_width + x;
    [
        (first, (1.0 - fx) * (1.0 - fy)),
        (first + 1, fx * (1.0 - fy)),
        (first + up.small_width, (1.0 - fx) * fy),
        (first + up.small_width + 1, fx * fy),
    ]
}

#[inline(always)]
fn ground_texels<'a>(t: &Traced<'a>) -> &'a [[f32; 3]] {
    t.params[t.layout.background.clone()].as_chunks::<3>().0
}
