use glam::{Mat3, Quat, Vec3};
use types::{CANONICAL_M, POSE_DIMS, TORSO_DIMS};

use super::{ClassicLayout, ClassicSizes, NetLayout};
use crate::TORSO_INPUT_SCALE;

/// All that a frame's picture depends on besides the field itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassicFrame {
    /// Camera centre, canonical space.
    pub origin: [f32; 3],
    /// Columns of the rotation `canonical_from_camera`.
    pub axes: [[f32; 3]; 3],
    /// What each network hears, in the order of [`ClassicLayout::nets`].
    pub nets: Vec<NetFrame>,
}

/// What a network hears of a frame.
///
/// The codes are the same for all samples of a frame, so their part of a layer is added to its
/// bias once. That is the same network, with fewer multiply-adds.
#[derive(Clone, Debug, PartialEq)]
pub struct NetFrame {
    /// Expression code, consistency code, and for the torso the pose.
    pub condition: Vec<f32>,
    /// `[depth][width]`: the bias of each layer and what the condition adds to it.
    pub biases: Vec<Vec<f32>>,
}

impl ClassicFrame {
    /// Of a pose (rotation vector, translation in meters) and a code of `sizes.code` numbers, the
    /// last six of which are the torso's track.
    ///
    /// # Panics
    /// If `layout` is not that of `sizes`, or `params` or `code` have another length.
    pub fn new(
        sizes: &ClassicSizes,
        layout: &ClassicLayout,
        params: &[f32],
        pose: &[f32; POSE_DIMS],
        code: &[f32],
    ) -> Self {
        assert_eq!(code.len(), sizes.code, "a code has as many numbers as the field's sizes say");
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
