//! Gradients of a loss with respect to one frame's folded field and inputs.

use std::ops::Range;

use crate::fold::{FoldedField, Upsampling};
use crate::layout::Layout;
use crate::math::add_scaled;
use crate::sizes::{CHANNELS, FLOW_HEIGHT, FLOW_WIDTH, HIDDEN, Sizes};
use crate::taps::BilinearTaps;

/// Gradients of a loss with respect to one frame's folded field and inputs, summed over its rays.
#[derive(Clone, Debug)]
pub(crate) struct FrameGradients {
    /// The folded field except its torso.
    pub(crate) folded: FoldedField,
    /// Torso and background, ray by ray: a frame's rays touch about one in a hundred of their
    /// texels.
    pub(crate) backdrop: Vec<BackdropGradient>,
    /// Parameters from `layout.opacity.start` on: all small networks.
    pub(crate) networks: Vec<f32>,
    pub(crate) shade_bias: [f32; HIDDEN],
    pub(crate) torso_affine: [f32; 6],
    pub(crate) flow: [[f32; 2]; FLOW_WIDTH * FLOW_HEIGHT],
    pub(crate) background_shift: [f32; 2],
}

/// Gradients of one ray with respect to the texels of the torso texture and of the background.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackdropGradient {
    /// Taps of the torso texture.
    pub(crate) torso: BilinearTaps,
    pub(crate) g_torso: [f32; 4],
    /// Taps of the background.
    pub(crate) background: BilinearTaps,
    pub(crate) g_background: [f32; 3],
}

impl FrameGradients {
    /// Returns gradients of zero.
    pub(crate) fn new(sizes: &Sizes, layout: &Layout) -> Self {
        let s = sizes;
        Self {
            folded: FoldedField {
                xy: vec![[0.0; CHANNELS]; s.plane_xy * s.plane_xy],
                xz: vec![[0.0; CHANNELS]; s.plane_z * s.plane_z],
                yz: vec![[0.0; CHANNELS]; s.plane_z * s.plane_z],
                density: vec![0.0; s.density.pow(3)],
                warp: vec![[0.0; 2]; s.warp * s.warp],
                torso: Vec::new(),
            },
            backdrop: Vec::new(),
            networks: vec![0.0; layout.len - layout.opacity.start],
            shade_bias: [0.0; HIDDEN],
            torso_affine: [0.0; 6],
            flow: [[0.0; 2]; FLOW_WIDTH * FLOW_HEIGHT],
            background_shift: [0.0; 2],
        }
    }

    /// Sets all gradients to zero.
    pub(crate) fn clear(&mut self) {
        let f = &mut self.folded;
        for plane in [&mut f.xy, &mut f.xz, &mut f.yz] {
            plane.fill([0.0; CHANNELS]);
        }
        f.density.fill(0.0);
        f.warp.fill([0.0; 2]);
        self.backdrop.clear();
        self.networks.fill(0.0);
        self.shade_bias = [0.0; HIDDEN];
        self.torso_affine = [0.0; 6];
        self.flow = [[0.0; 2]; FLOW_WIDTH * FLOW_HEIGHT];
        self.background_shift = [0.0; 2];
    }

    /// Returns the gradient of one part of the small networks.
    #[inline(always)]
    pub(crate) fn network_mut(&mut self, layout: &Layout, range: &Range<usize>) -> &mut [f32] {
        let start = layout.opacity.start;
        &mut self.networks[range.start - start..range.end - start]
    }

    /// Adds the gradients of all rays to those of the torso texture and of the background.
    pub(crate) fn add_backdrop(&self, torso: &mut [[f32; 4]], background: &mut [[f32; 3]]) {
        for ray in &self.backdrop {
            ray.torso.scatter(&ray.g_torso, torso);
            ray.background.scatter(&ray.g_background, background);
        }
    }

    /// Adds the gradients of all rays to those of the mixed additive torso plane.
    pub(crate) fn add_torso_blend(&self, up: &Upsampling, blend: &mut [[f32; 4]]) {
        for ray in &self.backdrop {
            for (at, share) in ray.torso.indices().into_iter().zip(ray.torso.shares) {
                for (small_at, small_share) in up.taps(at) {
                    add_scaled(&mut blend[small_at], share * small_share, &ray.g_torso);
                }
            }
        }
    }
}
