use types::{CODE_DIMS, FOCAL, LEARNED_DIMS, POSE_DIMS};

/// Feature channels of a plane: one 256-bit register, two `vec4`s of a shader.
pub const CHANNELS: usize = 8;
/// Width of the hidden layers of the shading network (two) and of the torso network (one).
pub const HIDDEN: usize = 32;
/// Inputs of the shading network: [`CHANNELS`] mean features, alpha, ray direction `x` and `y`.
pub const SHADE_INPUTS: usize = CHANNELS + 3;
/// Numbers of the consistency code: learned parameters that feed both the head and the torso.
pub(crate) const SHARED_DIMS: usize = 16;
/// Columns of the grid of torso flow.
pub const FLOW_WIDTH: usize = 8;
/// Rows of the grid of torso flow.
pub const FLOW_HEIGHT: usize = 6;
/// Inputs of the torso network: code, normalized pose, consistency code.
pub(crate) const TORSO_INPUTS: usize = CODE_DIMS + POSE_DIMS + SHARED_DIMS;
/// Inputs of the linear layer that makes the shading bias: learned code, consistency code.
pub(crate) const BIAS_INPUTS: usize = LEARNED_DIMS + SHARED_DIMS;
/// Outputs of the torso network whose number does not depend on [`Sizes`]: 6 affine, 2 background
/// shift.
pub(crate) const TORSO_FIXED_OUTPUTS: usize = 8;

/// Axis-aligned box. The field that holds it names the space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds<const N: usize> {
    /// Corner with the smallest coordinates.
    pub min: [f32; N],
    /// Corner with the largest coordinates.
    pub max: [f32; N],
}

impl<const N: usize> Bounds<N> {
    /// Returns the position of `value` along `axis`: 0 at `min`, 1 at `max`.
    #[inline(always)]
    pub fn relative(&self, axis: usize, value: f32) -> f32 {
        (value - self.min[axis]) / (self.max[axis] - self.min[axis])
    }

    pub(crate) fn is_valid(&self) -> bool {
        (0..N).all(|i| {
            self.min[i].is_finite()
                && self.max[i].is_finite()
                && self.min[i].abs() < 100.0
                && self.max[i].abs() < 100.0
                && self.max[i] - self.min[i] > 1e-3
        })
    }
}

/// Largest number of expression planes that the file format allows.
pub(crate) const MAX_EXPRESSION: usize = 32;

/// Sizes of a field. A face file carries them, so one renderer draws fields of different sizes.
///
/// A side is in texels. [`CHANNELS`], [`HIDDEN`] and the widths of the small networks are the same
/// for all fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizes {
    /// Side of the base plane over `x, y`.
    pub plane_xy: usize,
    /// Side of the base planes over `x, z` and `y, z`.
    pub plane_z: usize,
    /// Number of expression planes for each of the three orientations (K).
    pub n_expression: usize,
    /// Side of an expression plane over `x, y`.
    pub expression_xy: usize,
    /// Side of an expression plane over `x, z` or `y, z`.
    pub expression_z: usize,
    /// Side of the density grid.
    pub density: usize,
    /// Number of expression grids of the density.
    pub n_density: usize,
    /// Side of an expression grid of the density.
    pub density_expression: usize,
    /// Side of a warp plane. There are 24, one for each learned number of the code.
    pub warp: usize,
    /// Width of the torso texture.
    pub torso_width: usize,
    /// Height of the torso texture.
    pub torso_height: usize,
    /// Number of additive torso planes.
    pub n_torso: usize,
    /// Width of an additive torso plane.
    pub torso_blend_width: usize,
    /// Height of an additive torso plane.
    pub torso_blend_height: usize,
    /// Side of the background image.
    pub background: usize,
    /// Head box, canonical space: a ray is marched from where it enters to where it leaves.
    pub head: Bounds<3>,
    /// Box in which the warp applies, `x, y` of canonical space.
    pub face: Bounds<2>,
    /// Box that the torso texture covers in the reference image, image space.
    pub torso: Bounds<2>,
    /// Focal length, in sides of the image.
    pub focal: f32,
    /// Mean of the enrolled poses: rotation vector in radians, translation in meters.
    pub pose_mean: [f32; POSE_DIMS],
    /// Reciprocal of the standard deviation of the enrolled poses, number by number.
    pub pose_scale: [f32; POSE_DIMS],
}

impl Sizes {
    /// Returns the default sizes for images of `side` x `side` pixels.
    pub fn for_side(side: u32) -> Self {
        let side = side as usize;
        // Bilinear reading blurs, so the texture is finer than the image.
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

    /// Returns sizes for a slow link: about half the file of [`Sizes::for_side`] for the same
    /// images.
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

    /// Returns very small sizes, for tests.
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

    /// Returns the number of outputs of the torso network: affine, background shift, weights of the
    /// additive planes, flow.
    pub fn torso_outputs(&self) -> usize {
        TORSO_FIXED_OUTPUTS + self.n_torso + FLOW_WIDTH * FLOW_HEIGHT * 2
    }

    /// Returns whether every size is within the limits of the file format.
    pub(crate) fn is_valid(&self) -> bool {
        let side = |n: usize, max: usize| (2..=max).contains(&n);
        side(self.plane_xy, 512)
            && side(self.plane_z, 256)
            && (1..=MAX_EXPRESSION).contains(&self.n_expression)
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
            && self.head.is_valid()
            && self.face.is_valid()
            && self.torso.is_valid()
            && (0.5..=20.0).contains(&self.focal)
            && self.pose_mean.iter().chain(&self.pose_scale).all(|v| v.is_finite())
    }
}
