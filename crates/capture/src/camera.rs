//! A camera as a source of frames.

#![expect(
    clippy::disallowed_methods,
    reason = "the camera has a thread of its own, and its frames the time they came"
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

/// The picture we want from a camera: a call shows its square of 720 rows.
const WANTED: (u32, u32) = (1280, 720);
/// What a call needs in a second.
const WANTED_FPS: u32 = 30;
/// Driver hiccups in a row after which a camera counts as gone.
const MAX_FAILURES: u32 = 30;

/// Why there is no picture from a camera.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CameraError {
    /// None is plugged in, or we may not see it.
    #[error("no camera found: plug one in, or use --source actor or a clip")]
    NotFound,
    /// None has this in its name.
    #[error("no camera is called {name}; there are: {}", names.join(", "))]
    NoneCalled { name: String, names: Vec<String> },
    /// Another program uses it, or it has no format we know.
    #[error("camera {name} cannot be opened: {source}")]
    Open { name: String, source: NokhwaError },
    /// Unplugged, or taken away.
    #[error("the camera stopped: {source}")]
    Lost { source: NokhwaError },
    /// The thread that served it is gone.
    #[error("the camera stopped")]
    Stopped,
    /// It sent a picture of no size.
    #[error("the camera sent no picture: {source}")]
    Frame { source: FrameError },
}

/// Names of all cameras.
pub(crate) fn camera_names() -> Vec<String> {
    nokhwa::query(ApiBackend::Auto)
        .unwrap_or_default()
        .iter()
        .map(nokhwa::utils::CameraInfo::human_name)
        .collect()
}

/// An open camera, served by a thread of its own: drivers block, and their handles may not move.
pub(crate) struct Camera {
    fps: u32,
    frames: Receiver<Result<Frame, CameraError>>,
}

impl Camera {
    /// Opens the first camera, or the first one with `name` in its name.
    pub(crate) fn open(name: Option<&str>) -> Result<Self, CameraError> {
        #[cfg(target_os = "macos")]
        nokhwa::nokhwa_initialize(|_| {});
        let cameras = nokhwa::query(ApiBackend::Auto).unwrap_or_default();
        if cameras.is_empty() {
            return Err(CameraError::NotFound);
        }
        let wanted = name.unwrap_or_default().to_lowercase();
        let camera = cameras.iter().find(|c| c.human_name().to_lowercase().contains(&wanted));
        let camera = camera.ok_or_else(|| CameraError::NoneCalled {
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

    /// Waits for a frame newer than the last one.
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

/// The format nearest to what a call needs: fast enough first, then nearest to 720 rows, then
/// without compression.
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

/// Takes frames until the camera is gone or nobody listens; a frame not taken in time is dropped.
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
    fn the_format_is_fast_first_then_near_720_rows_then_plain() {
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
