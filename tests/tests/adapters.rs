//! What a face asks of a graphics adapter, and what becomes of one that has less.

use face::{DEFAULT_SAMPLES, FaceModel, Sizes, render_cpu};
use render::{Precision, RenderError, Renderer};
use tests::compare::difference;
use tests::gpu;
use types::MediaTime;
use wgpu::Limits;

use crate::shaders::{features, tolerance};

/// The least that a GPU with compute shaders has: storage bindings of 128 MiB, 16 KiB of
/// workgroup memory, textures of 2048 pixels.
fn least() -> Limits {
    let limits = Limits::downlevel_defaults();
    assert_eq!(limits.max_storage_buffer_binding_size, 128 << 20);
    assert!(limits.max_compute_workgroup_storage_size <= 16 << 10);
    limits
}

#[test]
fn an_adapter_with_the_least_limits_draws_what_the_definition_draws() {
    let Some(gpu) = gpu::with_limits(least()) else { return };
    // As large as a face of an ordinary clip.
    let model = FaceModel::noise(Sizes::for_side(256), 7);
    let mut renderer = Renderer::new(&gpu.device, &gpu.queue, &model).unwrap();
    renderer.resize(&gpu.device, 64).unwrap();
    let inputs = model.frame_inputs(&features()[1]);
    renderer.render(&gpu.device, &gpu.queue, &inputs);
    let frame = renderer.read_back(&gpu.device, &gpu.queue, MediaTime::ZERO).unwrap();
    let got = difference(&frame, &render_cpu(&model, &inputs, 64, DEFAULT_SAMPLES));
    let most = tolerance(&gpu, Precision::best_for(&gpu.device));
    assert!(got.worst <= most, "{got:?}, wanted at most {most}");
}

#[test]
fn an_adapter_with_less_than_a_face_needs_is_refused_with_what_it_lacks() {
    let model = FaceModel::noise(Sizes::for_side(256), 7);
    for (lacks, limits) in [
        (
            "invocations in a workgroup",
            Limits { max_compute_invocations_per_workgroup: 128, ..least() },
        ),
        (
            "bytes of workgroup memory",
            Limits { max_compute_workgroup_storage_size: 4096, ..least() },
        ),
        ("storage textures", Limits { max_storage_textures_per_shader_stage: 0, ..least() }),
        ("storage buffers", Limits { max_storage_buffers_per_shader_stage: 1, ..least() }),
        ("sampled textures", Limits { max_sampled_textures_per_shader_stage: 4, ..least() }),
        ("pixels along a volume texture", Limits { max_texture_dimension_3d: 32, ..least() }),
        ("pixels along a texture", Limits { max_texture_dimension_2d: 256, ..least() }),
        (
            "bytes in a storage buffer",
            Limits { max_storage_buffer_binding_size: 64 << 10, ..least() },
        ),
    ] {
        let Some(gpu) = gpu::with_limits(limits) else { return };
        match Renderer::new(&gpu.device, &gpu.queue, &model) {
            Err(RenderError::Adapter { what, need, limit }) => {
                assert!(what == lacks && limit < need, "{what}: {limit} of {need}, not {lacks}");
            }
            Err(other) => panic!("{other}, not for want of {lacks}"),
            Ok(_) => panic!("it draws with too few {lacks}"),
        }
    }
}

#[test]
fn a_device_does_as_many_multiply_adds_as_it_is_said_to() {
    let Some(gpu) = gpu::with_limits(least()) else { return };
    let mut probe = render::MultiplyAdds::new(&gpu.device, &gpu.queue);
    let one = probe.submit(&gpu.device, &gpu.queue, 1);
    // 2^18 invocations of eight chains of four, 256 long, two operations each.
    assert_eq!(one, (1 << 18) * 8 * 4 * 256 * 2);
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).expect("it comes to an end");
}
