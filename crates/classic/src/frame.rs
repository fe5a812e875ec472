//! Per-frame inputs of the networks.

use glam::{Mat3, Quat, Vec3};
use types::{CANONICAL_M, POSE_DIMS, TORSO_DIMS};

use crate::sizes::{ClassicLayout, ClassicSizes, NetLayout, TORSO_INPUT_SCALE};

/// Inputs for drawing one frame: the camera and the per-frame inputs of each network.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassicFrame {
    /// Camera center in canonical space.
    pub(crate) origin: [f32; 3],
    /// Columns of the rotation `canonical_from_camera`.
    pub(crate) axes: [[f32; 3]; 3],
    /// Inputs of each network, in the order of [`ClassicLayout::nets`].
    pub(crate) nets: Vec<NetFrame>,
}

/// Per-frame inputs of one network, folded into the biases of its layers.
///
/// The codes are the same for all samples of a frame, so their products are added to the biases
/// once. This computes the same network with fewer multiply-adds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NetFrame {
    /// Code, consistency code and, for the torso, the standardized pose.
    pub(crate) condition: Vec<f32>,
    /// `[depth][width]`: each layer's bias plus its product with the condition.
    pub(crate) biases: Vec<Vec<f32>>,
}

impl ClassicFrame {
    /// Computes the inputs from a pose (rotation vector in radians, translation in meters) and a
    /// code of `sizes.code` numbers, the last six of which are the torso track.
    ///
    /// # Panics
    /// If `code` or `params` have the wrong length, or `layout` does not belong to `sizes`.
    pub(crate) fn new(
        sizes: &ClassicSizes,
        layout: &ClassicLayout,
        params: &[f32],
        pose: &[f32; POSE_DIMS],
        code: &[f32],
    ) -> Self {
        assert_eq!(
            code.len(),
            sizes.code,
            "the code must have the length that the field's sizes state"
        );
        let rotation = Quat::from_scaled_axis(Vec3::new(pose[0], pose[1], pose[2])).inverse();
        let translation = Vec3::new(pose[3], pose[4], pose[5]);
        let mut head = code.to_vec();
        let first_torso = head.len() - TORSO_DIMS;
        head[first_torso..].iter_mut().for_each(|v| *v *= TORSO_INPUT_SCALE);
        head.extend(&params[layout.shared.clone()]);
        let mut torso = head.clone();
        torso.extend(
            (0..POSE_DIMS)
                .map(|i| ((pose[i] - sizes.pose_mean[i]) * sizes.pose_scale[i]).clamp(-3.0, 3.0)),
        );
        let heads = layout.heads.iter().map(|net| NetFrame::new(net, params, head.clone()));
        let torso = NetFrame::new(&layout.torso, params, torso.clone());
        Self {
            origin: (rotation * -translation / CANONICAL_M).to_array(),
            axes: Mat3::from_quat(rotation).to_cols_array_2d(),
            nets: heads.chain([torso]).collect(),
        }
    }
}

impl NetFrame {
    fn new(net: &NetLayout, params: &[f32], condition: Vec<f32>) -> Self {
        let biases = net
            .layers
            .iter()
            .map(|layer| {
                let mut bias = params[layer.bias.clone()].to_vec();
                let rows = params[layer.condition.clone()].chunks_exact(bias.len());
                for (row, value) in rows.zip(&condition) {
                    bias.iter_mut().zip(row).for_each(|(b, w)| *b += value * w);
                }
                bias
            })
            .collect();
        Self { condition, biases }
    }
}
