use types::{CODE_DIMS, FOCAL, LEARNED_DIMS, POSE_DIMS};

use crate::model_error::ModelError;

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

    /// Returns the length of each side; not a number if a coordinate is not finite.
    pub(crate) fn sides(&self) -> [f32; N] {
        std::array::from_fn(|i| self.max[i] - self.min[i])
    }
}

/// Shortest and longest side of the head box and of the face box, canonical units. Those of the
/// default sizes are 1.9 to 3.5.
const HEAD_SIDES: (f32, f32) = (0.5, 12.0);
/// Shortest and longest side of the torso box, sides of the image. Those of the default sizes are
/// 0.64 and 1.12.
const TORSO_SIDES: (f32, f32) = (0.1, 4.0);

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

    /// Checks every size and every box.
    ///
    /// # Errors
    /// If one of them is outside the limits of the file format.
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        if !self.has_valid_numbers() {
            return Err(ModelError::Sizes);
        }
        check_box("head", &self.head, HEAD_SIDES)?;
        check_box("face", &self.face, HEAD_SIDES)?;
        check_box("torso", &self.torso, TORSO_SIDES)
    }

    fn has_valid_numbers(&self) -> bool {
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
            && (0.5..=20.0).contains(&self.focal)
            && self.pose_mean.iter().chain(&self.pose_scale).all(|v| v.is_finite())
    }
}

fn check_box<const N: usize>(
    name: &'static str,
    bounds: &Bounds<N>,
    (shortest, longest): (f32, f32),
) -> Result<(), ModelError> {
    let sides = bounds.sides();
    let is_near = bounds.min.iter().chain(&bounds.max).all(|at| at.abs() <= longest);
    if is_near && sides.iter().all(|side| (shortest..=longest).contains(side)) {
        return Ok(());
    }
    Err(ModelError::Box { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_of_no_head_is_refused() {
        let thin = Bounds { min: [-0.0005, -99.0, -99.0], max: [0.0005, 99.0, 99.0] };
        let far = Bounds { min: [40.0, -2.0, -1.0], max: [43.0, 1.0, 1.0] };
        for head in [thin, far] {
            let sizes = Sizes { head, ..Sizes::tiny() };
            assert_eq!(sizes.check(), Err(ModelError::Box { name: "head" }));
        }
        let face = Bounds { min: [0.0, 0.0], max: [0.002, 1.0] };
        let sizes = Sizes { face, ..Sizes::tiny() };
        assert_eq!(sizes.check(), Err(ModelError::Box { name: "face" }));
        let torso = Bounds { min: [0.0, 0.0], max: [90.0, 1.0] };
        let sizes = Sizes { torso, ..Sizes::tiny() };
        assert_eq!(sizes.check(), Err(ModelError::Box { name: "torso" }));
    }
}
