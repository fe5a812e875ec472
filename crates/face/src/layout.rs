use std::ops::Range;

use types::LEARNED_DIMS;

use crate::sizes::{BIAS_INPUTS, CHANNELS, HIDDEN, SHADE_INPUTS, SHARED_DIMS, Sizes, TORSO_INPUTS};

/// Range of each part of a field in its single array of parameters.
///
/// The comment of a part gives its shape; the last index varies fastest. The rows of a plane run
/// along the second coordinate of its name (`plane_xz[z][x]`, `plane_yz[z][y]`,
/// `density[z][y][x]`). The weights of a layer are `[inputs][outputs]`, except `shade_w3`, which is
/// `[3][HIDDEN]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// `[plane_xy][plane_xy][CHANNELS]`
    pub plane_xy: Range<usize>,
    /// `[plane_z][plane_z][CHANNELS]`
    pub plane_xz: Range<usize>,
    /// `[plane_z][plane_z][CHANNELS]`
    pub plane_yz: Range<usize>,
    /// `[n_expression][expression_xy][expression_xy][CHANNELS]`
    pub expression_xy: Range<usize>,
    /// `[n_expression][expression_z][expression_z][CHANNELS]`
    pub expression_xz: Range<usize>,
    /// `[n_expression][expression_z][expression_z][CHANNELS]`
    pub expression_yz: Range<usize>,
    /// `[density][density][density]`
    pub density: Range<usize>,
    /// `[n_density][density_expression; 3]`
    pub density_expression: Range<usize>,
    /// `[24][warp][warp][2]`
    pub warp: Range<usize>,
    /// `[torso_height][torso_width][4]`
    pub torso: Range<usize>,
    /// `[n_torso][torso_blend_height][torso_blend_width][4]`
    pub torso_blend: Range<usize>,
    /// `[background][background][3]`
    pub background: Range<usize>,
    /// `[CHANNELS + 1]`: weights, then the bias.
    pub opacity: Range<usize>,
    /// `[SHADE_INPUTS][HIDDEN]`
    pub shade_w1: Range<usize>,
    /// `[HIDDEN]`
    pub shade_b1: Range<usize>,
    /// `[BIAS_INPUTS][HIDDEN]`
    pub shade_code: Range<usize>,
    /// `[HIDDEN][HIDDEN]`
    pub shade_w2: Range<usize>,
    /// `[HIDDEN]`
    pub shade_b2: Range<usize>,
    /// `[3][HIDDEN]`
    pub shade_w3: Range<usize>,
    /// `[3]`
    pub shade_b3: Range<usize>,
    /// `[24 + 1][n_expression]`; the last row is the bias.
    pub mix: Range<usize>,
    /// `[24 + 1][n_density]`; the last row is the bias.
    pub density_mix: Range<usize>,
    /// `[SHARED_DIMS]`
    pub shared: Range<usize>,
    /// `[TORSO_INPUTS][HIDDEN]`
    pub torso_w1: Range<usize>,
    /// `[HIDDEN]`
    pub torso_b1: Range<usize>,
    /// `[HIDDEN][torso_outputs]`
    pub torso_w2: Range<usize>,
    /// `[torso_outputs]`
    pub torso_b2: Range<usize>,
    /// Total number of parameters.
    pub len: usize,
}

impl Layout {
    /// Returns the layout of a field of these sizes.
    pub fn new(s: &Sizes) -> Self {
        let mut at = 0;
        let mut take = |n: usize| {
            at += n;
            at - n..at
        };
        Self {
            plane_xy: take(s.plane_xy * s.plane_xy * CHANNELS),
            plane_xz: take(s.plane_z * s.plane_z * CHANNELS),
            plane_yz: take(s.plane_z * s.plane_z * CHANNELS),
            expression_xy: take(s.n_expression * s.expression_xy * s.expression_xy * CHANNELS),
            expression_xz: take(s.n_expression * s.expression_z * s.expression_z * CHANNELS),
            expression_yz: take(s.n_expression * s.expression_z * s.expression_z * CHANNELS),
            density: take(s.density.pow(3)),
            density_expression: take(s.n_density * s.density_expression.pow(3)),
            warp: take(LEARNED_DIMS * s.warp * s.warp * 2),
            torso: take(s.torso_height * s.torso_width * 4),
            torso_blend: take(s.n_torso * s.torso_blend_height * s.torso_blend_width * 4),
            background: take(s.background * s.background * 3),
            opacity: take(CHANNELS + 1),
            shade_w1: take(SHADE_INPUTS * HIDDEN),
            shade_b1: take(HIDDEN),
            shade_code: take(BIAS_INPUTS * HIDDEN),
            shade_w2: take(HIDDEN * HIDDEN),
            shade_b2: take(HIDDEN),
            shade_w3: take(3 * HIDDEN),
            shade_b3: take(3),
            mix: take((LEARNED_DIMS + 1) * s.n_expression),
            density_mix: take((LEARNED_DIMS + 1) * s.n_density),
            shared: take(SHARED_DIMS),
            torso_w1: take(TORSO_INPUTS * HIDDEN),
            torso_b1: take(HIDDEN),
            torso_w2: take(HIDDEN * s.torso_outputs()),
            torso_b2: take(s.torso_outputs()),
            len: at,
        }
    }
}
