//! Peak rates of multiply-adds and of memory reads, to compare the time of an image with.

use std::time::Duration;

use wgpu::{
    BindGroup, BufferUsages, CommandEncoderDescriptor, ComputePassDescriptor, ComputePipeline,
    Device, Queue,
};

use crate::pipeline::{bind, compute_pipeline};
use crate::precision::Precision;
use crate::shaders::MULTIPLY_ADDS;
use crate::timer::GpuTimer;

/// Invocations of a dispatch, enough to fill the largest GPU.
const INVOCATIONS: u32 = 1 << 18;
/// Invocations of a workgroup; the shader's `workgroup_size`.
const WORKGROUP: u32 = 64;
/// Multiply-adds of a chain in the shader.
const ROUNDS: u32 = 256;
/// Chains of an invocation times the numbers in each.
const CHAINS: u64 = 8 * 4;
/// Independent chains of a CPU thread: enough to hide the latency of a multiply-add on two ports,
/// few enough for sixteen registers.
const CPU_CHAINS: usize = 10;

/// Runs `rounds` multiply-adds in each of ten chains of vectors on each thread of rayon's pool, in
/// the widest vectors that the CPU renderer uses.
///
/// Returns the number of floating-point operations, two for each multiply-add, and a number that
/// depends on all of them, so that none is optimized away. The caller measures the time.
///
/// ```
/// let (flops, _) = render::cpu_multiply_adds(100);
/// assert!(flops >= 2 * 10 * 100);
/// ```
pub fn cpu_multiply_adds(rounds: u32) -> (u64, f32) {
    let all = rayon::broadcast(|_| pulp::Arch::new().dispatch(Chains { rounds }));
    all.into_iter().fold((0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

struct Chains {
    rounds: u32,
}

impl pulp::WithSimd for Chains {
    type Output = (u64, f32);

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) -> (u64, f32) {
        let (scale, offset) = (simd.splat_f32s(0.5), simd.splat_f32s(0.25));
        let mut chains: [S::f32s; CPU_CHAINS] =
            std::array::from_fn(|i| simd.splat_f32s(i as f32 + self.rounds as f32));
        for _ in 0..self.rounds {
            for chain in &mut chains {
                *chain = simd.mul_add_e_f32s(*chain, scale, offset);
            }
        }
        let sum = chains.iter().map(|chain| simd.reduce_sum_f32s(*chain)).sum();
        (2 * u64::from(self.rounds) * (CPU_CHAINS * S::F32_LANES) as u64, sum)
    }
}

/// Reads all of `numbers` `rounds` times on each thread of rayon's pool, in the widest vectors that
/// the CPU renderer uses.
///
/// Returns the number of bytes read, and a number that depends on all of them. The caller measures
/// the time.
///
/// ```
/// let (bytes, sum) = render::cpu_reads(&[0.25; 1024], 2);
/// assert!(bytes >= 2 * 4096 && sum >= 512.0);
/// ```
pub fn cpu_reads(numbers: &[f32], rounds: u32) -> (u64, f32) {
    let all = rayon::broadcast(|_| pulp::Arch::new().dispatch(Reads { numbers, rounds }));
    all.into_iter().fold((0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

struct Reads<'a> {
    numbers: &'a [f32],
    rounds: u32,
}

impl pulp::WithSimd for Reads<'_> {
    type Output = (u64, f32);

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) -> (u64, f32) {
        let vectors = S::as_simd_f32s(self.numbers).0.as_chunks::<8>().0;
        let mut sums = [simd.splat_f32s(0.0); 8];
        for _ in 0..self.rounds {
            for chunk in vectors {
                for (sum, vector) in sums.iter_mut().zip(chunk) {
                    *sum = simd.add_f32s(*sum, *vector);
                }
            }
        }
        let bytes = u64::from(self.rounds) * size_of_val(vectors) as u64;
        (bytes, sums.iter().map(|sum| simd.reduce_sum_f32s(*sum)).sum())
    }
}

/// Benchmark of multiply-adds on a graphics device.
pub struct MultiplyAdds {
    pipeline: ComputePipeline,
    bindings: BindGroup,
    timer: Option<GpuTimer>,
}

impl MultiplyAdds {
    /// Makes the pipeline. Works on any device that a [`crate::Renderer`] can be made for.
    pub fn new(device: &Device, queue: &Queue) -> Self {
        // The shader reads no textures, so the precision makes no difference.
        let constants = [("ROUNDS", f64::from(ROUNDS))];
        let pipeline = compute_pipeline(device, &MULTIPLY_ADDS, Precision::Half, &constants);
        let results = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("multiply-adds"),
            size: u64::from(INVOCATIONS) * 16,
            usage: BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        let bindings = bind(device, &pipeline, 0, &[results.as_entire_binding()]);
        Self { pipeline, bindings, timer: GpuTimer::new(device, queue) }
    }

    /// Submits `n` dispatches without waiting. Returns their number of floating-point operations,
    /// two for each multiply-add.
    pub fn submit(&mut self, device: &Device, queue: &Queue, n: u32) -> u64 {
        let mut encoder = device.create_command_encoder(&CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor {
                label: Some("multiply-adds"),
                timestamp_writes: self.timer.as_ref().map(GpuTimer::writes),
            });
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.bindings, &[]);
            for _ in 0..n {
                pass.dispatch_workgroups(INVOCATIONS / WORKGROUP, 1, 1);
            }
        }
        if let Some(timer) = &self.timer {
            timer.resolve(&mut encoder);
        }
        queue.submit([encoder.finish()]);
        if let Some(timer) = &mut self.timer {
            timer.handle_submission();
        }
        2 * u64::from(n) * u64::from(INVOCATIONS) * u64::from(ROUNDS) * CHAINS
    }

    /// Returns how long the GPU worked on a recent submission; see [`crate::Renderer::gpu_time`].
    pub fn gpu_time(&mut self) -> Option<Duration> {
        self.timer.as_mut().and_then(GpuTimer::last)
    }
}
