//! The shaders are valid, and agree with the definition of the field.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::enrolled;
use face::{FaceModel, FrameInputs, Sizes, render_cpu};
use glam::Vec3;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use render::{MAX_SIDE, MIN_SIDE, Precision, RenderError, Renderer, shader_sources};
use tests::compare::difference;
use tests::gpu::{self, Gpu};
use types::{Code, Feature, HeadPose, MediaTime};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/render/shaders")
}

fn wgsl_files(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wgsl"))
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn every_shader_passes_the_validator_without_a_gpu() {
    // The window's shader has a vertex and a fragment stage; all others have one compute stage.
    let others = [
        ("classic.wgsl", classic::SHADER, 1),
        ("blit.wgsl", include_str!("../../crates/app/src/window/blit.wgsl"), 2),
    ];
    let all = shader_sources().into_iter().map(|(name, text)| (name, text, 1)).chain(others);
    for (name, text, n_entries) in all {
        let module = naga::front::wgsl::parse_str(text)
            .unwrap_or_else(|error| panic!("{}", error.emit_to_string_with_path(text, name)));
        assert_eq!(module.entry_points.len(), n_entries, "{name}: entry points");
        Validator::new(ValidationFlags::all(), Capabilities::default())
            .validate(&module)
            .unwrap_or_else(|error| panic!("{}", error.emit_to_string_with_path(text, name)));
    }
}

#[test]
fn every_file_in_the_folder_is_part_of_a_shader() {
    let sources = shader_sources();
    let entries: BTreeSet<String> = sources.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(wgsl_files(&folder()), entries);
    for piece in wgsl_files(&folder().join("lib")) {
        let text = fs::read_to_string(folder().join("lib").join(&piece)).unwrap();
        assert!(sources.iter().any(|(_, source)| source.contains(&text)), "{piece} is unused");
    }
}

/// Returns features with the head near, far, turned, half outside the picture, and out of sight.
pub(crate) fn features() -> Vec<Feature> {
    let code = |seed: u64| {
        let mut noise = numerics::SplitMix64::new(seed);
        let mut values = [0.0; types::CODE_DIMS];
        for value in &mut values[..types::LEARNED_DIMS] {
            *value = noise.normal().clamp(-3.0, 3.0);
        }
        for value in &mut values[types::LEARNED_DIMS..] {
            *value = 0.02 * noise.normal();
        }
        Code::new(values).unwrap()
    };
    [
        ([0.0, 0.0, 0.0], [0.0, 0.0, 1.2], Code::NEUTRAL),
        ([0.1, 0.5, -0.1], [0.02, 0.03, 1.0], code(1)),
        ([-0.3, -0.6, 0.2], [-0.05, 0.0, 1.5], code(2)),
        ([0.0, 0.1, 0.0], [0.15, -0.12, 0.9], code(3)),
        ([0.2, 0.0, 0.0], [0.0, 0.0, 0.5], code(4)),
        ([0.0, 0.0, 0.0], [2.0, 0.0, 1.0], code(5)),
    ]
    .into_iter()
    .map(|(rotation, translation, code)| Feature {
        time: MediaTime::ZERO,
        pose: HeadPose::new(Vec3::from_array(rotation), Vec3::from_array(translation)).unwrap(),
        code,
    })
    .collect()
}

/// Returns the tolerance for a picture compared with the definition, in levels of 8-bit color.
///
/// Rounding to 8 bits is half a level. The rest has three causes: `exp` and fused multiply-adds
/// (measured: 0.005 of a level), the 11 bits of half floats (0.5), and the 8 bits to which hardware
/// samplers round interpolation weights. The latter matters most in a noise field, whose texels are
/// unrelated (13.0 on an H100; 8.2 in an enrolled field).
pub(crate) fn tolerance(gpu: &Gpu, precision: Precision) -> f32 {
    let software = gpu.info.device_type == wgpu::DeviceType::Cpu;
    match (software, precision) {
        (true, Precision::Float) => 0.55,
        (true, Precision::Half) => 1.5,
        (false, _) => 16.0,
    }
}

fn precisions(gpu: &Gpu) -> Vec<Precision> {
    let filterable = gpu.device.features().contains(wgpu::Features::FLOAT32_FILTERABLE);
    if filterable { vec![Precision::Float, Precision::Half] } else { vec![Precision::Half] }
}

#[test]
fn the_gpu_agrees_with_the_definition() {
    const SIDE: u32 = 64;
    let Some(gpu) = gpu::for_tests() else { return };
    let Gpu { device, queue, .. } = gpu;
    let model = FaceModel::noise(Sizes::tiny(), 7);
    for precision in precisions(gpu) {
        let most = tolerance(gpu, precision);
        let mut renderer = Renderer::with_precision(device, queue, &model, precision).unwrap();
        renderer.resize(device, SIDE).unwrap();
        for (index, feature) in features().iter().enumerate() {
            let inputs = model.frame_inputs(feature);
            renderer.render(device, queue, &inputs);
            let frame = renderer.read_back(device, queue, feature.time).unwrap();
            let expected = render_cpu(&model, &inputs, SIDE, face::DEFAULT_SAMPLES);
            let got = difference(&frame, &expected);
            assert!(
                got.worst <= most && got.mean < 0.3,
                "feature {index}, {precision:?} on {}: {got:?}, wanted at most {most}",
                gpu.info.name
            );
        }
    }
}

#[test]
fn the_gpu_agrees_with_the_definition_on_an_enrolled_face_and_in_slow_motion() {
    let Some(gpu) = gpu::for_tests() else { return };
    let Gpu { device, queue, .. } = gpu;
    let model = enrolled::demo_model();
    let mut renderer = Renderer::new(device, queue, &model).unwrap();
    let mut draw = |inputs: &FrameInputs, side| {
        renderer.resize(device, side).unwrap();
        renderer.render(device, queue, inputs);
        renderer.read_back(device, queue, MediaTime::ZERO).unwrap()
    };
    let most = tolerance(gpu, Precision::Half).max(enrolled::RARE_PIXEL);
    enrolled::assert_drawn_alike(&model, most, &mut draw);
    enrolled::assert_drawn_alike_in_slow_motion(&model, &mut draw);
}

#[test]
fn the_compared_pictures_show_a_head() {
    let model = FaceModel::noise(Sizes::tiny(), 7);
    let features = features();
    let (with, without) = (&features[0], features.last().unwrap());
    let inputs = model.frame_inputs(with);
    let mut away = inputs.clone();
    away.origin = model.frame_inputs(without).origin;
    let pictures = [inputs, away].map(|i| render_cpu(&model, &i, 32, face::DEFAULT_SAMPLES));
    let n_different = pictures[0].iter().zip(&pictures[1]).filter(|(a, b)| a != b).count();
    assert!(n_different > 32 * 32 / 4, "only {n_different} pixels show the head");
}

#[test]
fn a_face_of_full_size_renders_at_any_side_and_sample_count() {
    let Some(gpu) = gpu::for_tests() else { return };
    let Gpu { device, queue, .. } = gpu;
    let model = FaceModel::noise(Sizes::for_side(256), 8);
    let inputs = model.frame_inputs(&features()[1]);
    let mut renderer = Renderer::new(device, queue, &model).unwrap();
    let most = tolerance(gpu, Precision::best_for(device));
    // A read-back pads rows of 17 and 50 pixels, but not rows of 64.
    for (side, n_samples) in [(17, 1), (50, 4), (64, 8)] {
        renderer.resize(device, side).unwrap();
        renderer.set_samples(n_samples);
        renderer.render(device, queue, &inputs);
        let frame = renderer.read_back(device, queue, MediaTime::ZERO).unwrap();
        assert_eq!((frame.width(), frame.height()), (side, side));
        let got = difference(&frame, &render_cpu(&model, &inputs, side, n_samples));
        assert!(got.worst <= most, "side {side}: {got:?}, wanted at most {most}");
    }
}

#[test]
fn a_new_side_is_refused_at_once_or_applies_to_the_next_picture() {
    let Some(gpu) = gpu::for_tests() else { return };
    let Gpu { device, queue, .. } = gpu;
    let model = FaceModel::untrained(Sizes::tiny(), 1);
    let mut renderer = Renderer::new(device, queue, &model).unwrap();
    for side in [0, MIN_SIDE - 1, MAX_SIDE + 1] {
        assert!(matches!(renderer.resize(device, side), Err(RenderError::Side { .. })), "{side}");
    }
    let before = renderer.side();
    renderer.resize(device, 32).unwrap();
    assert_eq!(renderer.side(), before);
    renderer.render(device, queue, &model.frame_inputs(&features()[0]));
    assert_eq!((renderer.side(), renderer.texture().width()), (32, 32));
}

#[test]
fn read_backs_return_pictures_in_the_order_of_rendering() {
    let Some(gpu) = gpu::for_tests() else { return };
    let Gpu { device, queue, .. } = gpu;
    let model = FaceModel::noise(Sizes::tiny(), 9);
    let mut renderer = Renderer::new(device, queue, &model).unwrap();
    renderer.resize(device, 16).unwrap();
    assert!(matches!(renderer.finish_read_back(device), Err(RenderError::NothingStarted)));
    let features = &features()[..3];
    let time = |index| MediaTime::of_frame(index as u64, 25);
    for (index, feature) in features.iter().enumerate() {
        renderer.render(device, queue, &model.frame_inputs(feature));
        renderer.start_read_back(device, queue, time(index));
    }
    assert_eq!(renderer.pending_read_backs(), 3);
    for (index, feature) in features.iter().enumerate() {
        let frame = renderer.finish_read_back(device).unwrap();
        assert_eq!(frame.time(), time(index));
        let expected = render_cpu(&model, &model.frame_inputs(feature), 16, face::DEFAULT_SAMPLES);
        assert!(
            difference(&frame, &expected).mean < 0.5,
            "picture {index} is not the expected one"
        );
    }
}
