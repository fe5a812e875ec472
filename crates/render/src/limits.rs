//! Limits of renderers and of adapters.

use face::FaceModel;
use wgpu::{Device, Features};

use crate::error::RenderError;
use crate::gpu_layout::NETWORK_MATRICES;

/// Smallest side of an image, pixels.
pub const MIN_SIDE: u32 = 16;
/// Largest side of an image, pixels.
pub const MAX_SIDE: u32 = 2048;

/// Optional device features that this crate uses. Everything works without them.
///
/// `FLOAT32_FILTERABLE` enables [`Precision::Float`](crate::Precision::Float), `TIMESTAMP_QUERY`
/// enables [`Renderer::gpu_time`](crate::Renderer::gpu_time). Request `adapter.features() &
/// OPTIONAL_FEATURES`.
pub const OPTIONAL_FEATURES: Features =
    Features::FLOAT32_FILTERABLE.union(Features::TIMESTAMP_QUERY);

/// Checks every limit that rendering depends on, so that nothing fails later.
pub(crate) fn check_limits(device: &Device, model: &FaceModel) -> Result<(), RenderError> {
    let (limits, s) = (device.limits(), model.sizes());
    let largest_picture = [s.plane_xy, s.torso_width, s.torso_height, s.background];
    let largest_buffer = [
        s.n_expression * s.expression_xy.pow(2) * 32,
        s.n_expression * s.expression_z.pow(2) * 64,
        s.n_density * s.density_expression.pow(3) * 16,
        s.plane_xy.pow(2) * 32,
        s.torso_width * s.torso_height * 16,
        s.density.pow(3) * 4,
        s.background.pow(2) * 16,
    ];
    let largest = |of: &[usize]| of.iter().copied().max().unwrap_or(0) as u64;
    let network = (NETWORK_MATRICES * 64) as u64;
    for (what, need, limit) in [
        ("invocations in a workgroup", 256, limits.max_compute_invocations_per_workgroup.into()),
        ("bytes of workgroup memory", network, limits.max_compute_workgroup_storage_size.into()),
        ("storage textures", 1, limits.max_storage_textures_per_shader_stage.into()),
        ("storage buffers", 2, limits.max_storage_buffers_per_shader_stage.into()),
        ("sampled textures", 7, limits.max_sampled_textures_per_shader_stage.into()),
        (
            "pixels along a volume texture",
            s.density.max(s.density_expression) as u64,
            limits.max_texture_dimension_3d.into(),
        ),
        (
            "pixels along a texture",
            largest(&largest_picture).max(MIN_SIDE.into()),
            limits.max_texture_dimension_2d.into(),
        ),
        (
            "bytes in a storage buffer",
            largest(&largest_buffer),
            limits.max_storage_buffer_binding_size,
        ),
    ] {
        if limit < need {
            return Err(RenderError::Adapter { what, need, limit });
        }
    }
    Ok(())
}
