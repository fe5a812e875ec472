use std::ops::Deref;
use std::sync::Arc;

use crate::MediaTime;

/// Largest side of a frame, in pixels: 8K.
pub const MAX_FRAME_SIDE: u32 = 8192;

/// One captured or rendered picture with its media time.
///
/// Pixels are 8-bit sRGB, row by row from the top, three bytes each. Cloning shares them.
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
    /// Scale the picture down, or give it at least one pixel.
    #[error("a frame of {width}x{height} pixels is outside 1x1..=8192x8192")]
    Size { width: u32, height: u32 },
    /// The buffer is not `width * height * 3` bytes.
    #[error("a {width}x{height} frame needs {want} bytes of RGB, got {got}")]
    Length { width: u32, height: u32, want: usize, got: usize },
}

impl Frame {
    /// A frame of `width * height * 3` sRGB bytes.
    ///
    /// # Errors
    /// If the size is zero or over [`MAX_FRAME_SIDE`], or the bytes are too few or too many.
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

    /// Pixels in a row.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// When it was captured, or which captured moment it shows.
    pub fn time(&self) -> MediaTime {
        self.time
    }

    /// The same picture at another time.
    #[must_use]
    pub fn at(mut self, time: MediaTime) -> Self {
        self.time = time;
        self
    }

    /// All bytes, `[height, width, 3]`.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// One pixel.
    ///
    /// # Panics
    /// If it lies outside the frame.
    pub fn rgb_at(&self, x: u32, y: u32) -> [u8; 3] {
        assert!(x < self.width && y < self.height, "pixel ({x}, {y}) lies outside the frame");
        let at = (y as usize * self.width as usize + x as usize) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    /// Returns the largest centered square: the part of a camera picture that a call shows.
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

    /// The frame at another size, each new pixel the mean of the area it covers.
    ///
    /// Exact box filter when shrinking, also by fractions; nearest pixel when growing.
    ///
    /// # Panics
    /// If a side is zero or over [`MAX_FRAME_SIDE`].
    #[must_use]
    pub fn resized_area(&self, width: u32, height: u32) -> Self {
        assert!((1..=MAX_FRAME_SIDE).contains(&width) && (1..=MAX_FRAME_SIDE).contains(&height));
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let columns = coverage(self.width, width);
        let rows = coverage(self.height, height);
        let stride = self.width as usize * 3;
        let mut narrow = vec![0.0_f32; self.height as usize * width as usize * 3];
        for (row, out) in
            self.rgb.chunks_exact(stride).zip(narrow.chunks_exact_mut(width as usize * 3))
        {
            for (taps, pixel) in columns.iter().zip(out.chunks_exact_mut(3)) {
                for &(x, weight) in taps {
                    for c in 0..3 {
                        pixel[c] += weight * f32::from(row[x * 3 + c]);
                    }
                }
            }
        }
        let out_stride = width as usize * 3;
        let mut rgb = Vec::with_capacity(height as usize * out_stride);
        let mut sum = vec![0.0_f32; out_stride];
        for taps in &rows {
            sum.fill(0.0);
            for &(y, weight) in taps {
                for (s, v) in sum.iter_mut().zip(&narrow[y * out_stride..(y + 1) * out_stride]) {
                    *s += weight * v;
                }
            }
            rgb.extend(sum.iter().map(|v| (v + 0.5) as u8));
        }
        Self { width, height, time: self.time, rgb: rgb.into() }
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

    /// Returns the width and height, pixels.
    pub fn side(&self) -> u32 {
        self.0.width
    }

    /// Returns the same picture with another media time.
    #[must_use]
    pub fn at(self, time: MediaTime) -> Self {
        Self(self.0.at(time))
    }

    /// Resizes as [`Frame::resized_area`] does.
    ///
    /// # Panics
    /// If `side` is zero or over [`MAX_FRAME_SIDE`].
    #[must_use]
    pub fn resized_area(&self, side: u32) -> Self {
        Self(self.0.resized_area(side, side))
    }
}

impl Deref for SquareFrame {
    type Target = Frame;

    fn deref(&self) -> &Frame {
        &self.0
    }
}

/// For each of `to` cells, the cells of `from` it covers and their shares, which sum to one.
fn coverage(from: u32, to: u32) -> Vec<Vec<(usize, f32)>> {
    let scale = f64::from(from) / f64::from(to);
    (0..to)
        .map(|i| {
            if scale <= 1.0 {
                let nearest = ((f64::from(i) + 0.5) * scale) as usize;
                return vec![(nearest.min(from as usize - 1), 1.0)];
            }
            let (start, end) = (f64::from(i) * scale, f64::from(i + 1) * scale);
            (start as usize..(end.ceil() as usize).min(from as usize))
                .map(|x| {
                    let share = (end.min(x as f64 + 1.0) - start.max(x as f64)) / scale;
                    (x, share as f32)
                })
                .filter(|&(_, share)| share > 0.0)
                .collect()
        })
        .collect()
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
    fn shrinking_takes_the_mean_of_what_is_covered() {
        let row: Vec<u8> = [0, 30, 60].iter().flat_map(|&v| [v; 3]).collect();
        let frame = Frame::new(3, 1, MediaTime::ZERO, row).unwrap();
        assert_eq!(frame.resized_area(1, 1).rgb_at(0, 0), [30; 3]);
        // Two cells of one and a half pixels each: (0 + 30/2) / 1.5 and (30/2 + 60) / 1.5.
        let two = frame.resized_area(2, 1);
        assert_eq!([two.rgb_at(0, 0)[0], two.rgb_at(1, 0)[0]], [10, 50]);
    }

    #[test]
    fn the_square_is_cut_from_the_middle() {
        let rgb: Vec<u8> = (0..4).flat_map(|v| [v; 3]).collect();
        let square = Frame::new(4, 1, MediaTime::ZERO, rgb).unwrap().center_square();
        assert_eq!((square.width(), square.rgb_at(0, 0)), (1, [1; 3]));
    }
}
