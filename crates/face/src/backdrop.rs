//! Backdrop layer: what a ray sees behind the head, the torso over the background, and its
//! derivative.

use crate::frame_inputs::FrameInputs;
use crate::gradients::{BackdropGradient, FrameGradients};
use crate::math::sigmoid;
use crate::model::Field;
use crate::sizes::{FLOW_HEIGHT, FLOW_WIDTH, Sizes};
use crate::taps::BilinearTaps;

/// Backdrop of one ray, with the intermediate values that its derivative needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackdropSample {
    /// Color of torso over background: sRGB, about 0..=1, not clamped.
    pub(crate) rgb: [f32; 3],
    /// Alpha of the torso, 0..=1.
    pub(crate) alpha: f32,
    /// Position on the torso texture, 0..=1 inside it.
    position: [f32; 2],
    torso_taps: BilinearTaps,
    torso_texels: [[f32; 4]; 4],
    torso: [f32; 4],
    sigmoid: f32,
    edge: f32,
    background_taps: BilinearTaps,
    background: [f32; 3],
}

impl BackdropSample {
    /// Reads the backdrop at image point `point`.
    ///
    /// The torso texture is read bilinearly (align-corners, clamped) at the position that affine
    /// map and flow give; alpha is the sigmoid of the fourth channel, faded in over the texture's
    /// first row. `torso_texel` returns a texel of the folded torso. The color is `background +
    /// (torso − background) · alpha`.
    #[inline(always)]
    pub(crate) fn read(
        field: Field<'_>,
        inputs: &FrameInputs,
        point: [f32; 2],
        torso_texel: impl Fn(usize) -> [f32; 4],
    ) -> Self {
        let sizes = field.sizes;
        let position = torso_position(sizes, inputs, point);
        let torso_taps =
            BilinearTaps::new(position[0], position[1], sizes.torso_width, sizes.torso_height);
        let torso_texels = torso_taps.indices().map(torso_texel);
        let torso = torso_taps.blend(torso_texels.each_ref());
        let edge = torso_edge(sizes, position[1]);
        let sigmoid = sigmoid(torso[3]);
        let alpha = sigmoid * edge;
        let background_taps = background_taps(sizes, inputs, point);
        let background = background_taps.read(field.rows(&field.layout.background));
        let rgb = std::array::from_fn(|c| background[c] + (torso[c] - background[c]) * alpha);
        Self {
            rgb,
            alpha,
            position,
            torso_taps,
            torso_texels,
            torso,
            sigmoid,
            edge,
            background_taps,
            background,
        }
    }

    /// Adds the gradients of texels, affine map, flow and background shift to `grads`, given those
    /// of the color and of the torso's alpha.
    #[inline(always)]
    pub(crate) fn backward(
        &self,
        field: Field<'_>,
        [x, y]: [f32; 2],
        g_rgb: &[f32; 3],
        g_alpha: f32,
        grads: &mut FrameGradients,
    ) {
        let sizes = field.sizes;
        let mut g_alpha = g_alpha;
        let mut g_torso = [0.0; 4];
        let mut g_background = [0.0; 3];
        for c in 0..3 {
            g_alpha += g_rgb[c] * (self.torso[c] - self.background[c]);
            g_torso[c] = g_rgb[c] * self.alpha;
            g_background[c] = g_rgb[c] * (1.0 - self.alpha);
        }
        g_torso[3] = g_alpha * self.alpha * (1.0 - self.sigmoid);
        grads.backdrop.push(BackdropGradient {
            torso: self.torso_taps,
            g_torso,
            background: self.background_taps,
            g_background,
        });

        let texels = self.background_taps.texels(field.rows(&field.layout.background));
        let [gx, gy] = self.background_taps.position_gradient(texels, &g_background);
        grads.background_shift[0] += gx * sizes.background as f32;
        grads.background_shift[1] += gy * sizes.background as f32;

        let [gu, mut gv] =
            self.torso_taps.position_gradient(self.torso_texels.each_ref(), &g_torso);
        let rows = (sizes.torso_height - 1) as f32;
        gv *= rows;
        if self.edge > 0.0 && self.edge < 1.0 {
            gv += g_alpha * self.sigmoid * rows;
        }
        let extent = |i: usize| sizes.torso.max[i] - sizes.torso.min[i];
        // A clamped position has no gradient.
        let is_outside = |v: f32| !(0.0..=1.0).contains(&v);
        let [u, v] = self.position;
        let gx = if is_outside(u) { 0.0 } else { gu * (sizes.torso_width - 1) as f32 / extent(0) };
        let gy = if is_outside(v) { 0.0 } else { gv / extent(1) };
        let (dx, dy) = (x - 0.5, y - 0.5);
        let g_affine = [gx * dx, gx * dy, gx, gy * dx, gy * dy, gy];
        for (g, v) in grads.torso_affine.iter_mut().zip(g_affine) {
            *g += v;
        }
        flow_taps(sizes, [x, y]).scatter(&[gx, gy], &mut grads.flow);
    }
}

/// Returns the position of an image point on the torso texture, 0..=1 inside it.
#[inline(always)]
fn torso_position(sizes: &Sizes, inputs: &FrameInputs, [x, y]: [f32; 2]) -> [f32; 2] {
    let [a, b, tx, c, d, ty] = inputs.torso_affine;
    let (dx, dy) = (x - 0.5, y - 0.5);
    let flow = flow_taps(sizes, [x, y]).read(&inputs.flow);
    let qx = x + a * dx + b * dy + tx + flow[0];
    let qy = y + c * dx + d * dy + ty + flow[1];
    [sizes.torso.relative(0, qx), sizes.torso.relative(1, qy)]
}

/// Returns the taps of the flow at an image point.
#[inline(always)]
fn flow_taps(sizes: &Sizes, [x, y]: [f32; 2]) -> BilinearTaps {
    let (u, v) = (sizes.torso.relative(0, x), sizes.torso.relative(1, y));
    BilinearTaps::new(u, v, FLOW_WIDTH, FLOW_HEIGHT)
}

/// Returns the factor of the torso's alpha at relative height `v`: 0 above the first row of the
/// texture, rising to 1 at the second.
#[inline(always)]
fn torso_edge(sizes: &Sizes, v: f32) -> f32 {
    (v * (sizes.torso_height - 1) as f32).clamp(0.0, 1.0)
}

/// Returns the taps of the background at an image point.
///
/// The background is an image: the center of texel `i` of `n` is at `(i + 0.5) / n`.
#[inline(always)]
fn background_taps(sizes: &Sizes, inputs: &FrameInputs, [x, y]: [f32; 2]) -> BilinearTaps {
    let n = sizes.background as f32;
    let relative = |p: f32| (p * n - 0.5) / (n - 1.0);
    BilinearTaps::new(
        relative(x + inputs.background_shift[0]),
        relative(y + inputs.background_shift[1]),
        sizes.background,
        sizes.background,
    )
}
