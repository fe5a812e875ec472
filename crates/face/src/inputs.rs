use glam::{Mat3, Quat, Vec3};
use types::{CANONICAL_M, CODE_DIMS, Feature, LEARNED_DIMS, POSE_DIMS, TORSO_DIMS};

use crate::sizes::{
    BIAS_INPUTS, FLOW_HEIGHT, FLOW_WIDTH, HIDDEN, SHARED_DIMS, TORSO_FIXED_OUTPUTS, TORSO_INPUTS,
};
use crate::{FaceModel, Layout, Sizes};

/// Scale of the torso network's affine numbers.
pub const AFFINE_SCALE: f32 = 0.1;
/// Scale of the torso network's flow, sides of the picture.
pub const FLOW_SCALE: f32 = 0.05;
/// Scale of the torso network's background shift, sides of the picture.
pub const SHIFT_SCALE: f32 = 0.02;
/// Scale of the code-mixed part of the density.
pub const DENSITY_MIX_SCALE: f32 = 0.25;

/// All that a frame's picture depends on besides the field itself: small vectors, made once a
/// frame on the CPU by [`FaceModel::frame_inputs`] and handed to every renderer.
///
/// The laws that use them are in [`crate::fold`] (mixing) and [`crate::render_ray`] (the rest).
#[derive(Clone, Debug, PartialEq)]
pub struct FrameInputs {
    /// Camera centre, canonical space.
    pub origin: [f32; 3],
    /// The ray through image point `x, y` has the direction
    /// `normalize(axes[0] * (x - 0.5) / focal + axes[1] * (y - 0.5) / focal + axes[2])`,
    /// canonical space: `axes[i]` is column `i` of the rotation `canonical_from_camera`.
    pub axes: [[f32; 3]; 3],
    /// Focal length in sides of the picture.
    pub focal: f32,
    /// `[n_expression]` weights of the expression planes.
    pub plane_mix: Vec<f32>,
    /// `[n_density]` weights of the density's expression grids.
    pub density_mix: Vec<f32>,
    /// Weights of the warp planes: the learned code.
    pub warp_mix: [f32; LEARNED_DIMS],
    /// Bias of the first shading layer: its own, and what code and consistency code add.
    pub shade_bias: [f32; HIDDEN],
    /// `[a, b, tx, c, d, ty]`: where image point `p` lies in the torso's reference picture,
    /// `p + [[a, b], [c, d]] * (p - 0.5) + [tx, ty]`, before the flow. Tracked plus learned.
    pub torso_affine: [f32; TORSO_DIMS],
    /// `[n_torso]` weights of the torso's additive planes.
    pub torso_mix: Vec<f32>,
    /// `[FLOW_HEIGHT][FLOW_WIDTH]` offsets in image space, added to the torso position; read
    /// bilinearly (align-corners) over the torso box at the image point.
    pub flow: Vec<[f32; 2]>,
    /// Added to the image point at which the background is read.
    pub background_shift: [f32; 2],
}

/// The hidden state of the torso network, which training needs to go back through it.
#[derive(Clone, Debug)]
pub struct TorsoNet {
    /// Code, normalised pose, consistency code.
    pub inputs: [f32; TORSO_INPUTS],
    /// After the rectifier.
    pub hidden: [f32; HIDDEN],
    /// `[torso_outputs]`: affine, background shift, blends, flow; not yet scaled.
    pub outputs: Vec<f32>,
}

impl FaceModel {
    /// What the renderers need to draw `feature`.
    pub fn frame_inputs(&self, feature: &Feature) -> FrameInputs {
        frame_inputs(self.sizes(), self.layout(), self.params(), &feature.to_array()).0
    }
}

/// [`FaceModel::frame_inputs`] over bare parameters; `feature` as [`Feature::to_array`] gives it.
///
/// # Panics
/// If `layout` is not that of `sizes`, or `params` are too few for it.
pub fn frame_inputs(
    sizes: &Sizes,
    layout: &Layout,
    params: &[f32],
    feature: &[f32; POSE_DIMS + CODE_DIMS],
) -> (FrameInputs, TorsoNet) {
    let (pose, code) = feature.split_at(POSE_DIMS);
    let learned: &[f32; LEARNED_DIMS] =
        code[..LEARNED_DIMS].try_into().expect("a code is longer than its learned part");
    let shared = &params[layout.shared.clone()];

    let rotation = Quat::from_scaled_axis(Vec3::new(pose[0], pose[1], pose[2])).inverse();
    let translation = Vec3::new(pose[3], pose[4], pose[5]);
    let canonical_from_camera = Mat3::from_quat(rotation);

    let mixed = |weights: &[f32], n: usize, scale: f32| {
        let mut sum: Vec<f32> = weights[LEARNED_DIMS * n..].to_vec();
        for (row, value) in weights.chunks_exact(n).zip(learned) {
            for (s, w) in sum.iter_mut().zip(row) {
                *s += value * w;
            }
        }
        sum.into_iter().map(|s| s * scale).collect()
    };

    let mut shade_bias = [0.0; HIDDEN];
    shade_bias.copy_from_slice(&params[layout.shade_b1.clone()]);
    let mut bias_inputs = [0.0; BIAS_INPUTS];
    bias_inputs[..LEARNED_DIMS].copy_from_slice(learned);
    bias_inputs[LEARNED_DIMS..].copy_from_slice(shared);
    layer(&params[layout.shade_code.clone()], &bias_inputs, &mut shade_bias);

    let torso = torso_net(sizes, layout, params, pose, code, shared);
    let out = &torso.outputs;
    let mut torso_affine = [0.0; TORSO_DIMS];
    for (i, a) in torso_affine.iter_mut().enumerate() {
        *a = code[LEARNED_DIMS + i] + AFFINE_SCALE * out[i];
    }
    let inputs = FrameInputs {
        origin: (rotation * -translation / CANONICAL_M).to_array(),
        axes: canonical_from_camera.to_cols_array_2d(),
        focal: sizes.focal,
        plane_mix: mixed(&params[layout.mix.clone()], sizes.n_expression, 1.0),
        density_mix: mixed(&params[layout.density_mix.clone()], sizes.n_density, DENSITY_MIX_SCALE),
        warp_mix: *learned,
        shade_bias,
        torso_affine,
        torso_mix: out[TORSO_FIXED_OUTPUTS..TORSO_FIXED_OUTPUTS + sizes.n_torso].to_vec(),
        flow: out[TORSO_FIXED_OUTPUTS + sizes.n_torso..]
            .chunks_exact(2)
            .map(|c| [c[0] * FLOW_SCALE, c[1] * FLOW_SCALE])
            .collect(),
        background_shift: [out[6] * SHIFT_SCALE, out[7] * SHIFT_SCALE],
    };
    debug_assert_eq!(inputs.flow.len(), FLOW_WIDTH * FLOW_HEIGHT);
    (inputs, torso)
}

fn torso_net(
    sizes: &Sizes,
    layout: &Layout,
    params: &[f32],
    pose: &[f32],
    code: &[f32],
    shared: &[f32],
) -> TorsoNet {
    let mut inputs = [0.0; TORSO_INPUTS];
    inputs[..CODE_DIMS].copy_from_slice(code);
    // The tracked affine numbers are a hundred times smaller than the learned ones.
    inputs[LEARNED_DIMS..CODE_DIMS].iter_mut().for_each(|v| *v *= TORSO_INPUT_SCALE);
    for i in 0..POSE_DIMS {
        inputs[CODE_DIMS + i] =
            ((pose[i] - sizes.pose_mean[i]) * sizes.pose_scale[i]).clamp(-3.0, 3.0);
    }
    inputs[TORSO_INPUTS - SHARED_DIMS..].copy_from_slice(shared);
    let mut hidden = [0.0; HIDDEN];
    hidden.copy_from_slice(&params[layout.torso_b1.clone()]);
    layer(&params[layout.torso_w1.clone()], &inputs, &mut hidden);
    for h in &mut hidden {
        *h = h.max(0.0);
    }
    let mut outputs = params[layout.torso_b2.clone()].to_vec();
    layer(&params[layout.torso_w2.clone()], &hidden, &mut outputs);
    TorsoNet { inputs, hidden, outputs }
}

/// Brings the tracked affine numbers to the size of the learned ones before the torso network.
pub const TORSO_INPUT_SCALE: f32 = 20.0;

/// `outputs += inputs * weights`, `weights` being `[inputs][outputs]`.
fn layer(weights: &[f32], inputs: &[f32], outputs: &mut [f32]) {
    for (row, value) in weights.chunks_exact(outputs.len()).zip(inputs) {
        for (o, w) in outputs.iter_mut().zip(row) {
            *o += value * w;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Code, HeadPose, MediaTime};

    #[test]
    fn a_ray_through_a_projected_point_meets_that_point() {
        let pose = HeadPose::new(Vec3::new(0.2, -0.4, 0.1), Vec3::new(0.05, -0.02, 1.1)).unwrap();
        let feature = Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL };
        let inputs = FaceModel::noise(Sizes::tiny(), 1).frame_inputs(&feature);
        let point = Vec3::new(0.3, -0.5, 0.2);
        let [x, y] = pose.image_from_head(point * CANONICAL_M);
        let (origin, direction) = crate::ray::ray(&inputs, x, y);
        let to = point - Vec3::from(origin);
        assert!(to.cross(Vec3::from(direction)).length() < 1e-4 * to.length());
    }
}
