//! Compute pipelines and their bindings.

use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindingResource, ComputePipeline, Device,
};

use crate::precision::Precision;
use crate::shaders::Shader;

/// Binds resources to bindings 0, 1, 2, ... of a group.
pub(crate) fn bind(
    device: &Device,
    pipeline: &ComputePipeline,
    group: u32,
    resources: &[BindingResource<'_>],
) -> BindGroup {
    let entries: Vec<_> = resources
        .iter()
        .enumerate()
        .map(|(i, resource)| BindGroupEntry { binding: i as u32, resource: resource.clone() })
        .collect();
    device.create_bind_group(&BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(group),
        entries: &entries,
    })
}

/// Makes a pipeline whose layout is derived from its shader.
pub(crate) fn compute_pipeline(
    device: &Device,
    shader: &Shader,
    precision: Precision,
    constants: &[(&str, f64)],
) -> ComputePipeline {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(shader.name),
        source: wgpu::ShaderSource::Wgsl(shader.text(precision).into()),
    });
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(shader.name),
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants,
            // Every shader writes its workgroup memory before it reads it, so zeroing would be
            // wasted.
            zero_initialize_workgroup_memory: false,
        },
        cache: None,
    })
}
