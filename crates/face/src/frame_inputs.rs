//! Small vectors made once a frame from pose and code.

use glam::{Mat3, Quat, Vec3};
use types::{CANONICAL_M, CODE_DIMS, FEATURE_DIMS, Feature, LEARNED_DIMS, POSE_DIMS, TORSO_DIMS};

use crate::model::{FaceModel, Field};
use crate::sizes::{
    BIAS_INPUTS, FLOW_HEIGHT, FLOW_WIDTH, HIDDEN, SHARED_DIMS, TORSO_FIXED_OUTPUTS, TORSO_INPUTS,
};

/// Scale of the torso network's affine outputs.
pub(crate) const AFFINE_SCALE: f32 = 0.1;
/// Scale of the torso network's flow outputs, in sides of the image.
pub(crate) const FLOW_SCALE: f32 = 0.05;
/// Scale of the torso network's background shift outputs, in sides of the image.
pub(crate) const SHIFT_SCALE: f32 = 0.02;
/// Scale of the weights of the density's expression grids.
pub(crate) const DENSITY_MIX_SCALE: f32 = 0.25;
/// Scale of the tracked affine numbers at the input of the torso network: brings them to the size
/// of the learned numbers, which are a hundred times larger.
pub(crate) const TORSO_INPUT_SCALE: f32 = 20.0;

/// Everything the image of a frame depends on besides the field: small vectors, computed once a
/// frame by [`FaceModel::frame_inputs`] and handed to every renderer.
///
/// [`FaceModel::fold`] and [`FrameField::render_ray`](crate::FrameField::render_ray) define their
/// use.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameInputs {
    /// Center of the camera, canonical space.
    pub origin: [f32; 3],
    /// Columns of the rotation `canonical_from_camera`. The ray through image point `x, y` has the
    /// direction `normalize(axes[0] * (x - 0.5) / focal + axes[1] * (y - 0.5) / focal + axes[2])`.
    pub axes: [[f32; 3]; 3],
    /// Focal length, in sides of the image.
    pub focal: f32,
    /// `[n_expression]` weights of the expression planes.
    pub plane_mix: Vec<f32>,
    /// `[n_density]` weights of the density's expression grids.
    pub density_mix: Vec<f32>,
    /// Weights of the warp planes: the learned numbers of the code.
    pub warp_mix: [f32; LEARNED_DIMS],
    /// Bias of the first layer of the shading network, including the contributions of the learned
    /// numbers and the consistency code.
    pub shade_bias: [f32; HIDDEN],
    /// Affine map from the image to the torso's reference image, `[a, b, tx, c, d, ty]`. Image
    /// point `p` shows point `p + [[a, b], [c, d]] * (p - 0.5) + [tx, ty]` of the reference image,
    /// to which the flow is then added. Each number is the tracked one plus a learned correction.
    pub torso_affine: [f32; TORSO_DIMS],
    /// `[n_torso]` weights of the additive torso planes.
    pub torso_mix: Vec<f32>,
    /// `[FLOW_HEIGHT][FLOW_WIDTH]` offsets of the torso position, image space. The grid covers the
    /// torso box and is read bilinearly (align-corners) at the image point.
    pub flow: Vec<[f32; 2]>,
    /// Offset of the background, image space: image point `p` shows background point `p` plus this.
    pub background_shift: [f32; 2],
}

/// Activations of the torso network, which its derivative needs.
#[derive(Clone, Debug)]
pub(crate) struct TorsoNet {
    /// Code, normalized pose, consistency code.
    pub(crate) inputs: [f32; TORSO_INPUTS],
    /// Hidden layer, rectified.
    pub(crate) hidden: [f32; HIDDEN],
    /// `[torso_outputs]`: affine, background shift, weights of the additive planes, flow; unscaled.
    outputs: Vec<f32>,
}

impl FaceModel {
    /// Returns the vectors that renderers need to draw `feature`.
    pub fn frame_inputs(&self, feature: &Feature) -> FrameInputs {
        frame_inputs(self.field(), &feature.to_array()).0
    }
}

/// Computes the inputs of a frame and the activations behind them. `feature` is a head pose
/// followed by a code, as [`Feature::to_array`] returns them.
pub(crate) fn frame_inputs(
    field: Field<'_>,
    feature: &[f32; FEATURE_DIMS],
) -> (FrameInputs, TorsoNet) {
    let Field { sizes, layout, params } = field;
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

    let torso = torso_net(field, pose, code, shared);
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

fn torso_net(field: Field<'_>, pose: &[f32], code: &[f32], shared: &[f32]) -> TorsoNet {
    let Field { sizes, layout, params } = field;
    let mut inputs = [0.0; TORSO_INPUTS];
    inputs[..CODE_DIMS].copy_from_slice(code);
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

/// Computes `outputs += inputs · weights`, weights `[inputs][outputs]`.
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
    use crate::Sizes;
    use types::{Code, HeadPose, MediaTime};

    #[test]
    fn a_ray_through_a_projected_point_hits_that_point() {
        let pose = HeadPose::new(Vec3::new(0.2, -0.4, 0.1), Vec3::new(0.05, -0.02, 1.1)).unwrap();
        let feature = Feature { time: MediaTime::ZERO, pose, code: Code::NEUTRAL };
        let inputs = FaceModel::noise(Sizes::tiny(), 1).frame_inputs(&feature);
        let point = Vec3::new(0.3, -0.5, 0.2);
        let ray = inputs.ray(pose.image_from_head(point * CANONICAL_M));
        let to = point - Vec3::from(ray.origin);
        assert!(to.cross(Vec3::from(ray.direction)).length() < 1e-4 * to.length());
    }
}
