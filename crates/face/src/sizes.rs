use std::ops::Range;

use types::{CODE_DIMS, FOCAL, LEARNED_DIMS, POSE_DIMS};

/// Feature channels of a plane: one 256-bit lane, two `vec4`s.
pub const CHANNELS: usize = 8;
/// Width of the two hidden layers of the shading network and of the torso network.
pub const HIDDEN: usize = 32;
/// Inputs of the shading network: [`CHANNELS`] features, alpha, view `x`, view `y`.
pub const SHADE_INPUTS: usize = CHANNELS + 3;
/// Numbers of the learnable consistency code, which both the head and the torso hear.
pub const SHARED_DIMS: usize = 16;
/// Columns of the torso's flow grid.
pub const FLOW_WIDTH: usize = 8;
/// Rows of the torso's flow grid.
pub const FLOW_HEIGHT: usize = 6;
/// Inputs of the torso network: code, normalised pose, consistency code.
pub const TORSO_INPUTS: usize = CODE_DIMS + POSE_DIMS + SHARED_DIMS;
/// Inputs of the shading bias: learned code, consistency code.
pub const BIAS_INPUTS: usize = LEARNED_DIMS + SHARED_DIMS;
/// Fixed numbers at the start of the torso network's output: 6 affine, 2 background shift.
pub const TORSO_FIXED_OUTPUTS: usize = 8;

/// An axis-aligned box, in the space its user names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds<const N: usize> {
    /// The corner with the smallest coordinates.
    pub min: [f32; N],
    /// The corner with the largest coordinates.
    pub max: [f32; N],
}

impl<const N: usize> Bounds<N> {
    /// 0 at `min`, 1 at `max`, beyond that outside.
    #[inline(always)]
    pub fn relative(&self, axis: usize, value: f32) -> f32 {
        (value - self.min[axis]) / (self.max[axis] - self.min[axis])
    }

    pub(crate) fn sound(&self) -> bool {
        (0..N).all(|i| {
            self.min[i].is_finite()
                && self.max[i].is_finite()
                && self.min[i].abs() < 100.0
                && self.max[i].abs() < 100.0
                && self.max[i] - self.min[i] > 1e-3
        })
    }
}

/// Every size of a field. They live in the file, so that faces of several sizes play on one renderer.
///
/// Counts are of texels along one side. [`CHANNELS`], [`HIDDEN`] and the widths of the small
/// networks are the same for all faces.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizes {
    /// Side of the base plane over `x, y`.
    pub plane_xy: usize,
    /// Side of the base planes over `x, z` and over `y, z`.
    pub plane_z: usize,
    /// Expression planes of each orientation (K).
    pub n_expression: usize,
    /// Side of an expression plane over `x, y`.
    pub expression_xy: usize,
    /// Side of an expression plane over `x, z` and over `y, z`.
    pub expression_z: usize,
    /// Side of the density grid.
    pub density: usize,
    /// Expression grids of the density.
    pub n_density: usize,
    /// Side of an expression grid of the density.
    pub density_expression: usize,
    /// Side of a warp plane; there are 24, one for each learned number of the code.
    pub warp: usize,
    /// Width of the torso texture.
    pub torso_width: usize,
    /// Height of the torso texture.
    pub torso_height: usize,
    /// Additive planes of the torso.
    pub n_torso: usize,
    /// Width of an additive plane of the torso.
    pub torso_blend_width: usize,
    /// Height of an additive plane of the torso.
    pub torso_blend_height: usize,
    /// Side of the background picture.
    pub background: usize,
    /// Where the head is, canonical space. Rays are marched between its walls.
    pub head: Bounds<3>,
    /// Where the face may be warped, `x, y` of canonical space.
    pub face: Bounds<2>,
    /// The part of the reference picture that the torso texture covers, image space.
    pub torso: Bounds<2>,
    /// Focal length in sides of the picture.
    pub focal: f32,
    /// Mean of the enrolled poses: rotation vector, translation in meters.
    pub pose_mean: [f32; POSE_DIMS],
    /// One over the spread of the enrolled poses.
    pub pose_scale: [f32; POSE_DIMS],
}

impl Sizes {
    /// The shipped sizes, for pictures of `side` pixels.
    pub fn for_side(side: u32) -> Self {
        let side = side as usize;
        // Seen through a bilinear reading: sharper than the picture.
        let torso_width = (side * 7 / 4).clamp(32, 448);
        Self {
            plane_xy: 128,
            plane_z: 64,
            n_expression: 12,
            expression_xy: 64,
            expression_z: 16,
            density: 64,
            n_density: 8,
            density_expression: 16,
            warp: 32,
            torso_width,
            torso_height: torso_width * 4 / 7,
            n_torso: 6,
            torso_blend_width: 36,
            torso_blend_height: 20,
            background: side.clamp(16, 256),
            head: Bounds { min: [-1.4, -2.2, -0.85], max: [1.4, 1.3, 1.6] },
            face: Bounds { min: [-0.95, -1.05], max: [0.95, 1.25] },
            torso: Bounds { min: [-0.06, 0.42], max: [1.06, 1.06] },
            focal: FOCAL,
            pose_mean: [0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
            pose_scale: [1.0; POSE_DIMS],
        }
    }

    /// Sizes for a thin line: about half the bytes of [`Sizes::for_side`], for the same pictures.
    pub fn small_for_side(side: u32) -> Self {
        let torso_width = (side as usize * 3 / 4).clamp(32, 216);
        Self {
            plane_xy: 96,
            plane_z: 48,
            n_expression: 8,
            expression_xy: 40,
            expression_z: 12,
            density: 48,
            n_density: 6,
            density_expression: 12,
            warp: 24,
            torso_width,
            torso_height: torso_width * 5 / 9,
            n_torso: 4,
            torso_blend_width: 28,
            torso_blend_height: 16,
            background: (side as usize * 3 / 4).clamp(16, 192),
            ..Self::for_side(side)
        }
    }

    /// Small sizes for tests.
    pub fn tiny() -> Self {
        Self {
            plane_xy: 8,
            plane_z: 6,
            n_expression: 3,
            expression_xy: 4,
            expression_z: 3,
            density: 8,
            n_density: 2,
            density_expression: 4,
            warp: 5,
            torso_width: 12,
            torso_height: 7,
            n_torso: 2,
            torso_blend_width: 4,
            torso_blend_height: 3,
            background: 16,
            ..Self::for_side(16)
        }
    }

    /// Numbers the torso network gives: affine, background shift, blends, flow.
    pub fn torso_outputs(&self) -> usize {
        TORSO_FIXED_OUTPUTS + self.n_torso + FLOW_WIDTH * FLOW_HEIGHT * 2
    }

    /// Whether a renderer should take it: every side inside what the format allows.
    pub(crate) fn sound(&self) -> bool {
        let side = |n: usize, max: usize| (2..=max).contains(&n);
        side(self.plane_xy, 512)
            && side(self.plane_z, 256)
            && (1..=32).contains(&self.n_expression)
            && side(self.expression_xy, 128)
            && side(self.expression_z, 64)
            && side(self.density, 128)
            && (1..=16).contains(&self.n_density)
            && side(self.density_expression, 32)
            && (3..=64).contains(&self.warp)
            && side(self.torso_width, 1024)
            && side(self.torso_height, 1024)
            && (1..=16).contains(&self.n_torso)
            && side(self.torso_blend_width, 64)
            && side(self.torso_blend_height, 64)
            && side(self.background, 1024)
            && self.head.sound()
            && self.face.sound()
            && self.torso.sound()
            && (0.5..=20.0).contains(&self.focal)
            && self.pose_mean.iter().chain(&self.pose_scale).all(|v| v.is_finite())
    }
}

/// Where each part of a field lies in its one array of parameters.
///
/// All arrays are row-major, the last index fastest; planes have the second coordinate of their
/// name as rows (`plane_xz[z][x]`, `plane_yz[z][y]`, `density[z][y][x]`). Weights of a layer are
/// `[inputs][outputs]`, but for `shade_w3`, which is `[3][HIDDEN]`.
#[expect(missing_docs, reason = "the shapes are the documentation, one a line")]
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
    /// `[CHANNELS]` weights, then the bias.
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
    /// `[24 + 1][n_expression]`, the last row the bias.
    pub mix: Range<usize>,
    /// `[24 + 1][n_density]`, the last row the bias.
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
    pub len: usize,
}

impl Layout {
    /// The layout of a field of these sizes.
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
