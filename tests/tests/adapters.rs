//! Limits of graphics adapters: the least that rendering needs, and the error below that.

use face::{DEFAULT_SAMPLES, FaceModel, Sizes, render_cpu};
use naga::{Expression, Literal, MathFunction, Statement};
use render::{Precision, RenderError, Renderer};
use tests::compare::difference;
use tests::gpu;
use types::MediaTime;
use wgpu::Limits;

use crate::shaders::{features, tolerance};

/// The lowest limits of a GPU with compute shaders: storage bindings of 128 MiB, 16 KiB of
/// workgroup memory, textures of 2048 pixels.
fn lowest_limits() -> Limits {
    let limits = Limits::downlevel_defaults();
    assert_eq!(limits.max_storage_buffer_binding_size, 128 << 20);
    assert!(limits.max_compute_workgroup_storage_size <= 16 << 10);
    limits
}

#[test]
fn an_adapter_with_the_lowest_limits_agrees_with_the_definition() {
    let Some(gpu) = gpu::with_limits(lowest_limits()) else { return };
    // The size that enrollment makes from an ordinary clip.
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
fn an_adapter_below_the_limits_is_refused_and_the_error_names_the_limit() {
    let model = FaceModel::noise(Sizes::for_side(256), 7);
    for (lacks, limits) in [
        (
            "invocations in a workgroup",
            Limits { max_compute_invocations_per_workgroup: 128, ..lowest_limits() },
        ),
        (
            "bytes of workgroup memory",
            Limits { max_compute_workgroup_storage_size: 4096, ..lowest_limits() },
        ),
        (
            "storage textures",
            Limits { max_storage_textures_per_shader_stage: 0, ..lowest_limits() },
        ),
        ("storage buffers", Limits { max_storage_buffers_per_shader_stage: 1, ..lowest_limits() }),
        (
            "sampled textures",
            Limits { max_sampled_textures_per_shader_stage: 4, ..lowest_limits() },
        ),
        (
            "pixels along a volume texture",
            Limits { max_texture_dimension_3d: 32, ..lowest_limits() },
        ),
        ("pixels along a texture", Limits { max_texture_dimension_2d: 256, ..lowest_limits() }),
        (
            "bytes in a storage buffer",
            Limits { max_storage_buffer_binding_size: 64 << 10, ..lowest_limits() },
        ),
    ] {
        let Some(gpu) = gpu::with_limits(limits) else { return };
        match Renderer::new(&gpu.device, &gpu.queue, &model) {
            Err(RenderError::Adapter { what, need, limit }) => {
                assert!(what == lacks && limit < need, "{what}: {limit} of {need}, not {lacks}");
            }
            Err(other) => panic!("{other}, but {lacks} are too few"),
            Ok(_) => panic!("accepted with too few {lacks}"),
        }
    }
}

/// Multiply-adds of a shader's entry point: all, and those directly in the body of a loop.
fn n_multiply_adds(module: &naga::Module) -> (usize, usize) {
    let function = &module.entry_points[0].function;
    let is_fma = |expression: &Expression| {
        matches!(expression, Expression::Math { fun: MathFunction::Fma, .. })
    };
    let count = |block: &naga::Block| -> usize {
        let emitted = block.iter().filter_map(|statement| match statement {
            Statement::Emit(range) => Some(range.clone()),
            _ => None,
        });
        emitted.flatten().filter(|handle| is_fma(&function.expressions[*handle])).count()
    };
    let loops = function.body.iter().filter_map(|statement| match statement {
        Statement::Loop { body, .. } => Some(body),
        _ => None,
    });
    let in_loops = loops.map(|body| {
        let blocks = body.iter().filter_map(|statement| match statement {
            Statement::Block(block) => Some(block),
            _ => None,
        });
        count(body) + blocks.map(count).sum::<usize>()
    });
    (function.expressions.iter().filter(|(_, e)| is_fma(e)).count(), in_loops.sum())
}

/// The benchmark divides the returned number by the time measured, so it has to be the shader's
/// own.
#[test]
fn the_probe_returns_the_number_of_operations_in_its_shader() {
    let Some(gpu) = gpu::with_limits(lowest_limits()) else { return };
    let mut probe = render::MultiplyAdds::new(&gpu.device, &gpu.queue);
    let (one, three) =
        (probe.submit(&gpu.device, &gpu.queue, 1), probe.submit(&gpu.device, &gpu.queue, 3));
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).expect("the dispatches end");
    assert_eq!(three, 3 * one);

    let sources = render::shader_sources();
    let (_, source) = sources.iter().find(|(name, _)| *name == "multiply_adds.wgsl").unwrap();
    let module = naga::front::wgsl::parse_str(source).unwrap();
    let (all, in_loop) = n_multiply_adds(&module);
    assert_eq!(all, in_loop, "each multiply-add is in the loop");
    let (_, rounds) = module.overrides.iter().next().unwrap();
    let Expression::Literal(Literal::U32(rounds)) = module.global_expressions[rounds.init.unwrap()]
    else {
        panic!("the number of rounds is not a literal");
    };
    // `submit` dispatches 2^18 / 64 workgroups. A multiply-add of a vec4 is eight operations.
    assert_eq!(module.entry_points[0].workgroup_size, [64, 1, 1]);
    assert_eq!(one, (1 << 18) * u64::from(rounds) * in_loop as u64 * 8);
}
