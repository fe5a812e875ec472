//! Copies of rendered images from GPU memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use types::{MediaTime, SquareFrame};
use wgpu::{
    Buffer, BufferUsages, COPY_BYTES_PER_ROW_ALIGNMENT, CommandEncoderDescriptor, Device, MapMode,
    PollType, Queue, SubmissionIndex, TexelCopyBufferInfo, TexelCopyBufferLayout, Texture,
};

use crate::error::RenderError;

/// Bytes of a pixel of the texture.
const PIXEL: u32 = 4;

/// Read-backs in progress, oldest first. Buffers are reused.
#[derive(Default)]
pub(crate) struct ReadBacks {
    pending: VecDeque<ReadBack>,
    spare: Vec<Buffer>,
}

struct ReadBack {
    buffer: Buffer,
    side: u32,
    time: MediaTime,
    submission: SubmissionIndex,
    mapped: Arc<AtomicBool>,
}

impl ReadBacks {
    /// Starts to copy the texture as it is after everything submitted so far.
    pub(crate) fn start(
        &mut self,
        device: &Device,
        queue: &Queue,
        picture: &Texture,
        time: MediaTime,
    ) {
        let side = picture.width();
        let row = padded_row(side);
        let size = u64::from(row) * u64::from(side);
        self.spare.retain(|buffer| buffer.size() == size);
        let buffer = self.spare.pop().unwrap_or_else(|| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("read-back"),
                size,
                usage: BufferUsages::COPY_DST | BufferUsages::MAP_READ,
                mapped_at_creation: false,
            })
        });
        let mut encoder = device.create_command_encoder(&CommandEncoderDescriptor::default());
        encoder.copy_texture_to_buffer(
            picture.as_image_copy(),
            TexelCopyBufferInfo {
                buffer: &buffer,
                layout: TexelCopyBufferLayout {
                    offset: 0,
                    bytes_per_row: Some(row),
                    rows_per_image: None,
                },
            },
            picture.size(),
        );
        let submission = queue.submit([encoder.finish()]);
        let mapped = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&mapped);
        buffer.map_async(MapMode::Read, .., move |result| {
            flag.store(result.is_ok(), Ordering::Release);
        });
        self.pending.push_back(ReadBack { buffer, side, time, submission, mapped });
    }

    /// Waits for the oldest read-back.
    pub(crate) fn finish(&mut self, device: &Device) -> Result<SquareFrame, RenderError> {
        let ReadBack { buffer, side, time, submission, mapped } =
            self.pending.pop_front().ok_or(RenderError::NothingStarted)?;
        device.poll(PollType::Wait { submission_index: Some(submission), timeout: None })?;
        if !mapped.load(Ordering::Acquire) {
            return Err(RenderError::Map);
        }
        let mut rgb = Vec::with_capacity((side * side * 3) as usize);
        {
            let bytes = buffer.get_mapped_range(..).map_err(|_| RenderError::Map)?;
            for row in bytes.chunks_exact(padded_row(side) as usize) {
                for pixel in row[..(side * PIXEL) as usize].chunks_exact(PIXEL as usize) {
                    rgb.extend_from_slice(&pixel[..3]);
                }
            }
        }
        buffer.unmap();
        self.spare.push(buffer);
        Ok(SquareFrame::new(side, time, rgb).expect("a picture has three bytes for each pixel"))
    }

    /// Returns the number of read-backs in progress.
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }
}

/// Returns the bytes of a row in a copy, whose rows are aligned to 256 bytes.
fn padded_row(side: u32) -> u32 {
    (side * PIXEL).next_multiple_of(COPY_BYTES_PER_ROW_ALIGNMENT)
}
