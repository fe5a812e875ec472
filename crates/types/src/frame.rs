use std::ops::Deref;
use std::sync::Arc;

use crate::MediaTime;
use crate::resize::{resized_area, resized_bicubic};

/// Largest side of a frame, pixels: 8K.
pub const MAX_FRAME_SIDE: u32 = 8192;

/// One captured or rendered picture with its media time.
///
/// Pixels are 8-bit sRGB, `[height, width, 3]`, top row first. Clones share the pixel buffer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    width: u32,
    height: u32,
    time: MediaTime,
    rgb: Arc<[u8]>,
}

/// Why bytes do not make a [`Frame`].
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The picture is empty or too large. Scale it down.
    #[error("a frame of {width}x{height} pixels is outside 1x1..=8192x8192")]
    Size { width: u32, height: u32 },
    /// The buffer is not `width * height * 3` bytes.
    #[error("a {width}x{height} frame needs {want} bytes of RGB, got {got}")]
    Length { width: u32, height: u32, want: usize, got: usize },
}

impl Frame {
    /// Makes a frame of `width * height * 3` sRGB bytes.
    ///
    /// # Errors
    /// [`FrameError::Size`] if a side is zero or over [`MAX_FRAME_SIDE`], [`FrameError::Length`] if
    /// the number of bytes does not match.
    pub fn new(
        width: u32,
        height: u32,
        time: MediaTime,
        rgb: impl Into<Arc<[u8]>>,
    ) -> Result<Self, FrameError> {
        if width == 0 || height == 0 || width > MAX_FRAME_SIDE || height > MAX_FRAME_SIDE {
            return Err(FrameError::Size { width, height });
        }
        let rgb = rgb.into();
        let want = width as usize * height as usize * 3;
        if rgb.len() != want {
            return Err(FrameError::Length { width, height, want, got: rgb.len() });
        }
        Ok(Self { width, height, time, rgb })
    }

    /// Returns the number of pixels in a row.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Returns the number of rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Returns the capture time of the picture, or of the moment that a rendered picture shows.
    pub fn time(&self) -> MediaTime {
        self.time
    }

    /// Returns the same picture with another media time.
    #[must_use]
    pub fn at(mut self, time: MediaTime) -> Self {
        self.time = time;
        self
    }

    /// Returns all pixels, `[height, width, 3]` sRGB bytes.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Returns one pixel.
    ///
    /// # Panics
    /// If it lies outside the frame.
    pub fn rgb_at(&self, x: u32, y: u32) -> [u8; 3] {
        assert!(x < self.width && y < self.height, "pixel ({x}, {y}) lies outside the frame");
        let at = (y as usize * self.width as usize + x as usize) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    /// Returns the largest centered square, with the same media time: the part of a camera picture
    /// that a call shows.
    ///
    /// If the margin is odd, the right or bottom margin is one pixel wider.
    #[must_use]
    pub fn center_square(&self) -> SquareFrame {
        let side = self.width.min(self.height);
        if self.width == self.height {
            return SquareFrame(self.clone());
        }
        let (x0, y0) = ((self.width - side) / 2, (self.height - side) / 2);
        let rgb: Vec<u8> = (y0..y0 + side)
            .flat_map(|y| {
                let at = (y as usize * self.width as usize + x0 as usize) * 3;
                self.rgb[at..at + side as usize * 3].iter().copied()
            })
            .collect();
        SquareFrame(Self { width: side, height: side, time: self.time, rgb: rgb.into() })
    }
}

/// Frame whose width equals its height, as everything between camera and screen handles it.
///
/// Dereferences to [`Frame`]. Made by [`Frame::center_square`], or from pixels.
///
/// ```
/// use types::{MediaTime, SquareFrame};
/// let gray = SquareFrame::new(2, MediaTime::ZERO, vec![128; 2 * 2 * 3])?;
/// assert_eq!((gray.side(), gray.width(), gray.height()), (2, 2, 2));
/// # Ok::<(), types::FrameError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SquareFrame(Frame);

impl SquareFrame {
    /// Makes a frame of `side * side * 3` sRGB bytes, `[side, side, 3]`.
    ///
    /// # Errors
    /// [`FrameError::Size`] if the side is zero or over [`MAX_FRAME_SIDE`], [`FrameError::Length`]
    /// if the number of bytes does not match.
    pub fn new(side: u32, time: MediaTime, rgb: impl Into<Arc<[u8]>>) -> Result<Self, FrameError> {
        Frame::new(side, side, time, rgb).map(Self)
    }

    /// Makes a frame of rendered colors, `[side, side]` of sRGB values 0..=1, rounded to 8 bits.
    ///
    /// Values outside the range are clamped.
    ///
    /// # Errors
    /// As [`SquareFrame::new`].
    pub fn from_colors(
        side: u32,
        time: MediaTime,
        colors: &[[f32; 3]],
    ) -> Result<Self, FrameError> {
        let bytes = colors.as_flattened().iter().map(|v| (v * 255.0 + 0.5) as u8);
        Self::new(side, time, bytes.collect::<Vec<u8>>())
    }

    /// Returns the width and height, pixels.
    pub fn side(&self) -> u32 {
        self.0.width
    }

    /// Returns the same picture with another media time.
    #[must_use]
    pub fn at(self, time: MediaTime) -> Self {
        Self(self.0.at(time))
    }

    /// Returns the frame at another size: averaged when shrinking, nearest pixel when growing.
    ///
    /// Each pixel of a smaller frame is the mean over the area it covers, also for fractional
    /// ratios. The mean is that of the sRGB values, without conversion to linear light.
    ///
    /// # Panics
    /// If `side` is zero or over [`MAX_FRAME_SIDE`].
    #[must_use]
    pub fn resized_area(&self, side: u32) -> Self {
        self.resized(side, resized_area)
    }

    /// Returns the frame at another size: averaged when shrinking, bicubic when growing.
    ///
    /// Shrinks as [`SquareFrame::resized_area`] does. Growing agrees with common tools: Keys' kernel
    /// with `a = -0.75`, edge pixels repeated.
    ///
    /// # Source
    /// Keys 1981, "Cubic convolution interpolation for digital image processing", eq. 4 with a free
    /// parameter `a`.
    ///
    /// # Panics
    /// If `side` is zero or over [`MAX_FRAME_SIDE`].
    #[must_use]
    pub fn resized_smooth(&self, side: u32) -> Self {
        self.resized(side, if side < self.side() { resized_area } else { resized_bicubic })
    }

    fn resized(&self, side: u32, resize: fn(&[u8], usize, usize) -> Vec<u8>) -> Self {
        assert!((1..=MAX_FRAME_SIDE).contains(&side), "a side of {side} pixels");
        if side == self.side() {
            return self.clone();
        }
        let rgb = resize(self.rgb(), self.side() as usize, side as usize);
        Self(Frame { width: side, height: side, time: self.time(), rgb: rgb.into() })
    }
}

impl Deref for SquareFrame {
    type Target = Frame;

    fn deref(&self) -> &Frame {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_as_many_bytes_as_its_size_says() {
        assert_eq!(
            Frame::new(2, 2, MediaTime::ZERO, vec![0; 11]),
            Err(FrameError::Length { width: 2, height: 2, want: 12, got: 11 })
        );
        assert!(matches!(Frame::new(0, 2, MediaTime::ZERO, vec![]), Err(FrameError::Size { .. })));
        assert!(matches!(
            Frame::new(9000, 1, MediaTime::ZERO, vec![]),
            Err(FrameError::Size { .. })
        ));
    }

    #[test]
    fn the_square_is_cut_from_the_middle() {
        let rgb: Vec<u8> = (0..4).flat_map(|v| [v; 3]).collect();
        let square = Frame::new(4, 1, MediaTime::ZERO, rgb).unwrap().center_square();
        assert_eq!((square.side(), square.rgb_at(0, 0)), (1, [1; 3]));
    }

    #[test]
    fn colors_are_rounded_and_clamped_to_bytes() {
        let colors = [[0.0, 0.5, 1.0], [-1.0, 2.0, 0.1], [0.0; 3], [1.0; 3]];
        let frame = SquareFrame::from_colors(2, MediaTime::ZERO, &colors).unwrap();
        assert_eq!(frame.rgb()[..6], [0, 128, 255, 0, 255, 26]);
    }
}
