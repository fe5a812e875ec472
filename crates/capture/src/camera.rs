//! Cameras.

#![expect(
    clippy::disallowed_methods,
    reason = "a camera needs its own thread, and frames are stamped on arrival"
)]

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Instant;

use nokhwa::pixel_format::RgbFormat;
use nokhwa::utils::{
    ApiBackend, CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType,
};
use nokhwa::{Buffer, NokhwaError};
use types::{Frame, FrameError, MediaTime};

/// Preferred picture size, pixels: a call shows the center square of 720 rows.
const WANTED: (u32, u32) = (1280, 720);
/// Preferred frame rate, frames per second.
const WANTED_FPS: u32 = 30;
/// Consecutive failed reads after which the camera counts as lost.
const MAX_FAILURES: u32 = 30;

/// Why a camera delivers no picture.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CameraError {
    /// No camera is connected, or the process may not access it.
    #[error("no camera found: plug one in, or use --source actor or a clip")]
    NotFound,
    /// No camera has this text in its name.
    #[error("no camera is called {name}; there are: {}", names.join(", "))]
    UnknownName { name: String, names: Vec<String> },
    /// Another program uses the camera, or it has no supported format.
    #[error("camera {name} cannot be opened: {source}")]
    Open { name: String, source: NokhwaError },
    /// The camera was unplugged, or another program took it.
    #[error("the camera stopped: {source}")]
    Lost { source: NokhwaError },
    /// The thread that reads the camera has ended.
    #[error("the camera stopped")]
    Stopped,
    /// The camera delivered an empty or oversized picture.
    #[error("the camera delivered no usable picture: {source}")]
    Frame { source: FrameError },
}

/// Lists the names of all cameras.
pub(crate) fn camera_names() -> Vec<String> {
    nokhwa::query(ApiBackend::Auto)
        .unwrap_or_default()
        .iter()
        .map(nokhwa::utils::CameraInfo::human_name)
        .collect()
}

/// Open camera. A thread of its own reads it, because drivers block and their handles cannot change
/// threads.
pub(crate) struct Camera {
    fps: u32,
    frames: Receiver<Result<Frame, CameraError>>,
}

impl Camera {
    /// Opens the first camera, or the first one whose name contains `name`.
    pub(crate) fn open(name: Option<&str>) -> Result<Self, CameraError> {
        #[cfg(target_os = "macos")]
        nokhwa::nokhwa_initialize(|_| {});
        let cameras = nokhwa::query(ApiBackend::Auto).unwrap_or_default();
        if cameras.is_empty() {
            return Err(CameraError::NotFound);
        }
        let wanted = name.unwrap_or_default().to_lowercase();
        let camera = cameras.iter().find(|c| c.human_name().to_lowercase().contains(&wanted));
        let camera = camera.ok_or_else(|| CameraError::UnknownName {
            name: name.unwrap_or_default().to_owned(),
            names: cameras.iter().map(nokhwa::utils::CameraInfo::human_name).collect(),
        })?;
        let (name, index) = (camera.human_name(), camera.index().clone());
        let (opened, when_opened) = sync_channel(1);
        let (frames, receiver) = sync_channel(1);
        thread::spawn(move || match open_device(index) {
            Ok(device) => {
                let _ = opened.send(Ok(device.frame_rate()));
                serve(device, &frames);
            }
            Err(source) => {
                let _ = opened.send(Err(CameraError::Open { name, source }));
            }
        });
        let fps = when_opened.recv().map_err(|_| CameraError::Stopped)??;
        Ok(Self { fps: fps.clamp(1, 240), frames: receiver })
    }

    pub(crate) fn fps(&self) -> u32 {
        self.fps
    }

    /// Waits for the next frame.
    pub(crate) fn next_frame(&mut self) -> Result<Frame, CameraError> {
        self.frames.recv().map_err(|_| CameraError::Stopped)?
    }
}

fn open_device(index: CameraIndex) -> Result<nokhwa::Camera, NokhwaError> {
    let any = RequestedFormat::new::<RgbFormat>(RequestedFormatType::None);
    let mut device = nokhwa::Camera::new(index, any)?;
    let formats = device.compatible_camera_formats().unwrap_or_default();
    if let Some(format) = best_format(&formats) {
        let kinds = [format.format()];
        let exactly = RequestedFormatType::Exact(format);
        device.set_camera_requset(RequestedFormat::with_formats(exactly, &kinds))?;
    }
    device.open_stream()?;
    Ok(device)
}

/// Chooses the most suitable format: first a sufficient frame rate, then a size near 1280x720, then
/// no compression.
fn best_format(formats: &[CameraFormat]) -> Option<CameraFormat> {
    formats.iter().copied().min_by_key(|format| {
        let slow = WANTED_FPS.saturating_sub(format.frame_rate()) / 6;
        let distance = format.width().abs_diff(WANTED.0) + format.height().abs_diff(WANTED.1);
        let coarse = u32::from(format.height() < 480);
        let kind = match format.format() {
            FrameFormat::YUYV | FrameFormat::NV12 => 0,
            FrameFormat::MJPEG => 1,
            FrameFormat::RAWRGB | FrameFormat::RAWBGR => 2,
            FrameFormat::GRAY => 100,
        };
        (kind == 100, slow, coarse, distance, kind, format.frame_rate().abs_diff(WANTED_FPS))
    })
}

/// Reads frames until the camera is lost or the receiver is gone; a frame is dropped if the previous
/// one has not been received yet.
fn serve(mut device: nokhwa::Camera, out: &SyncSender<Result<Frame, CameraError>>) {
    let mut zero = None;
    let mut n_failures = 0;
    loop {
        let captured = device.frame();
        let now = Instant::now();
        let frame = match captured.and_then(|buffer| to_rgb(&buffer)) {
            Ok((width, height, rgb)) => {
                n_failures = 0;
                let since = now.duration_since(*zero.get_or_insert(now));
                Frame::new(width, height, MediaTime::ZERO + since, rgb)
                    .map_err(|source| CameraError::Frame { source })
            }
            Err(_) if n_failures < MAX_FAILURES => {
                n_failures += 1;
                continue;
            }
            Err(source) => Err(CameraError::Lost { source }),
        };
        let is_over = frame.is_err();
        match out.try_send(frame) {
            Err(TrySendError::Disconnected(_)) => return,
            Ok(()) | Err(TrySendError::Full(_)) if is_over => return,
            Ok(()) | Err(TrySendError::Full(_)) => {}
        }
    }
}

fn to_rgb(buffer: &Buffer) -> Result<(u32, u32, Vec<u8>), NokhwaError> {
    let picture = buffer.decode_image::<RgbFormat>()?;
    Ok((picture.width(), picture.height(), picture.into_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_rate_counts_before_size_and_size_before_compression() {
        let format = |w, h, kind, fps| CameraFormat::new_from(w, h, kind, fps);
        let yuyv_vga = format(640, 480, FrameFormat::YUYV, 30);
        let yuyv_hd = format(1280, 720, FrameFormat::YUYV, 10);
        let mjpeg_hd = format(1280, 720, FrameFormat::MJPEG, 30);
        let mjpeg_full = format(1920, 1080, FrameFormat::MJPEG, 30);
        let grey = format(1280, 720, FrameFormat::GRAY, 30);
        for (formats, want) in [
            (vec![yuyv_vga, yuyv_hd, mjpeg_full, mjpeg_hd], Some(mjpeg_hd)),
            (vec![yuyv_vga, yuyv_hd], Some(yuyv_vga)),
            (vec![grey, yuyv_hd], Some(yuyv_hd)),
            (vec![], None),
        ] {
            assert_eq!(best_format(&formats), want, "{formats:?}");
        }
    }
}
