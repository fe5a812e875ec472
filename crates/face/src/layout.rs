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
    /// Base plane over `x, y`: `[plane_xy][plane_xy][CHANNELS]`.
    pub plane_xy: Range<usize>,
    /// Base plane over `x, z`: `[plane_z][plane_z][CHANNELS]`.
    pub plane_xz: Range<usize>,
    /// Base plane over `y, z`: `[plane_z][plane_z][CHANNELS]`.
    pub plane_yz: Range<usize>,
    /// Expression planes over `x, y`: `[n_expression][expression_xy][expression_xy][CHANNELS]`.
    pub expression_xy: Range<usize>,
    /// Expression planes over `x, z`: `[n_expression][expression_z][expression_z][CHANNELS]`.
    pub expression_xz: Range<usize>,
    /// Expression planes over `y, z`: `[n_expression][expression_z][expression_z][CHANNELS]`.
    pub expression_yz: Range<usize>,
    /// Logits of the density: `[density][density][density]`.
    pub density: Range<usize>,
    /// Expression grids of the density: `[n_density][density_expression; 3]`.
    pub density_expression: Range<usize>,
    /// Warp planes, offsets of `x, y` for each learned number: `[24][warp][warp][2]`.
    pub warp: Range<usize>,
    /// Torso texture: red, green, blue, logit of alpha: `[torso_height][torso_width][4]`.
    pub torso: Range<usize>,
    /// Additive torso planes: `[n_torso][torso_blend_height][torso_blend_width][4]`.
    pub torso_blend: Range<usize>,
    /// Background, sRGB: `[background][background][3]`.
    pub background: Range<usize>,
    /// Opacity, weights then bias: `[CHANNELS + 1]`.
    pub opacity: Range<usize>,
    /// Shading network, first layer: `[SHADE_INPUTS][HIDDEN]`.
    pub shade_w1: Range<usize>,
    /// Bias of the first layer: `[HIDDEN]`.
    pub shade_b1: Range<usize>,
    /// Weights of learned code and consistency code in the bias of the first layer:
    /// `[BIAS_INPUTS][HIDDEN]`.
    pub shade_code: Range<usize>,
    /// Second layer: `[HIDDEN][HIDDEN]`.
    pub shade_w2: Range<usize>,
    /// Bias of the second layer: `[HIDDEN]`.
    pub shade_b2: Range<usize>,
    /// Third layer: `[3][HIDDEN]`.
    pub shade_w3: Range<usize>,
    /// Bias of the third layer: `[3]`.
    pub shade_b3: Range<usize>,
    /// Weights of the expression planes, linear in the learned code: `[24 + 1][n_expression]`, the
    /// last row the bias.
    pub mix: Range<usize>,
    /// Weights of the expression grids, linear in the learned code: `[24 + 1][n_density]`, the last
    /// row the bias.
    pub density_mix: Range<usize>,
    /// Consistency code: `[SHARED_DIMS]`.
    pub shared: Range<usize>,
    /// Torso network, first layer: `[TORSO_INPUTS][HIDDEN]`.
    pub torso_w1: Range<usize>,
    /// Bias of the first layer: `[HIDDEN]`.
    pub torso_b1: Range<usize>,
    /// Second layer: `[HIDDEN][torso_outputs]`.
    pub torso_w2: Range<usize>,
    /// Bias of the second layer: `[torso_outputs]`.
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
