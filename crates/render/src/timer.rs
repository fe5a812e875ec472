//! GPU time by timestamp queries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use wgpu::{
    Buffer, BufferUsages, CommandEncoder, ComputePassTimestampWrites, Device, Features, MapMode,
    QUERY_SIZE, QuerySet, QueryType, Queue,
};

const IDLE: u8 = 0;
const MAPPING: u8 = 1;
const READY: u8 = 2;

/// Measures the GPU time of a pass, if the device supports timestamps. Never waits: a result is
/// available a few frames later.
pub(crate) struct GpuTimer {
    queries: QuerySet,
    resolved: Buffer,
    readable: Buffer,
    nanoseconds_per_tick: f32,
    state: Arc<AtomicU8>,
    last: Option<Duration>,
}

impl GpuTimer {
    /// Returns `None` if the device does not support timestamps.
    pub(crate) fn new(device: &Device, queue: &Queue) -> Option<Self> {
        if !device.features().contains(Features::TIMESTAMP_QUERY) {
            return None;
        }
        let buffer = |usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: u64::from(QUERY_SIZE) * 2,
                usage,
                mapped_at_creation: false,
            })
        };
        Some(Self {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("picture"),
                ty: QueryType::Timestamp,
                count: 2,
            }),
            resolved: buffer(BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC),
            readable: buffer(BufferUsages::COPY_DST | BufferUsages::MAP_READ),
            nanoseconds_per_tick: queue.get_timestamp_period(),
            state: Arc::new(AtomicU8::new(IDLE)),
            last: None,
        })
    }

    /// Returns the timestamp writes of the pass to measure.
    pub(crate) fn writes(&self) -> ComputePassTimestampWrites<'_> {
        ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        }
    }

    /// Encodes, after the pass, the copy of its timestamps, unless an earlier copy is still being
    /// read.
    pub(crate) fn resolve(&self, encoder: &mut CommandEncoder) {
        encoder.resolve_query_set(&self.queries, 0..2, &self.resolved, 0);
        if self.state.load(Ordering::Acquire) == IDLE {
            encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.readable, 0, None);
        }
    }

    /// Starts to read the copy after the submission, or collects an earlier one.
    pub(crate) fn handle_submission(&mut self) {
        match self.state.load(Ordering::Acquire) {
            IDLE => {
                self.state.store(MAPPING, Ordering::Release);
                let state = Arc::clone(&self.state);
                self.readable.map_async(MapMode::Read, .., move |result| {
                    state.store(if result.is_ok() { READY } else { IDLE }, Ordering::Release);
                });
            }
            READY => self.collect(),
            _ => {}
        }
    }

    /// Returns the newest available time.
    pub(crate) fn last(&mut self) -> Option<Duration> {
        if self.state.load(Ordering::Acquire) == READY {
            self.collect();
        }
        self.last
    }

    fn collect(&mut self) {
        if let Ok(bytes) = self.readable.get_mapped_range(..) {
            let ticks = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
            let nanoseconds =
                ticks(8).saturating_sub(ticks(0)) as f64 * f64::from(self.nanoseconds_per_tick);
            self.last = Some(Duration::from_nanos(nanoseconds as u64));
        }
        self.readable.unmap();
        self.state.store(IDLE, Ordering::Release);
    }
}
