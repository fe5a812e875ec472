//! Orientation and pixel aspect ratio of clips: how a decoded picture is turned and stretched before it
//! is shown.

use image::RgbImage;
use image::imageops::{FilterType, resize};
use types::{Frame, FrameError, MAX_FRAME_SIDE};

/// One of the eight ways to lay down a picture. Applied in the order of the fields.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Orientation {
    /// Rows become columns.
    pub(crate) transposes: bool,
    /// Left becomes right.
    pub(crate) mirrors: bool,
    /// Top becomes bottom.
    pub(crate) flips: bool,
}

/// A display matrix without its perspective and translation: `[a, b, c, d]` maps the pixel `(x, y)` to
/// `(a x + c y, b x + d y)`, where y points down.
pub(crate) type DisplayMatrix = [f64; 4];

/// Applies `first`, then `second`.
pub(crate) fn multiplied(first: DisplayMatrix, second: DisplayMatrix) -> DisplayMatrix {
    let [[a, b, c, d], [e, f, g, h]] = [first, second];
    [a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h]
}

impl Orientation {
    /// Returns the orientation closest to a display matrix.
    fn of(matrix: DisplayMatrix) -> Self {
        let [a, b, c, d] = matrix;
        let transposes = b.abs() + c.abs() > a.abs() + d.abs();
        let (x, y) = if transposes { (c, b) } else { (a, d) };
        Self { transposes, mirrors: x < 0.0, flips: y < 0.0 }
    }
}

/// How decoded pictures are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Geometry {
    pub(crate) orientation: Orientation,
    /// Width of a pixel divided by its height, before the picture is turned; `None` if unknown.
    pub(crate) pixel_aspect: Option<f64>,
}

impl Geometry {
    /// Reads a display matrix. If it stretches pixels, that is their aspect ratio.
    pub(crate) fn of_matrix(matrix: DisplayMatrix) -> Self {
        let [a, b, c, d] = matrix;
        let stretch = a.hypot(b) / c.hypot(d);
        let is_stretched = stretch.is_finite() && stretch > 0.0 && (stretch - 1.0).abs() > 0.01;
        Self { orientation: Orientation::of(matrix), pixel_aspect: is_stretched.then_some(stretch) }
    }

    /// Stretches a picture to square pixels and turns it.
    ///
    /// # Errors
    /// If the picture is empty.
    pub(crate) fn apply(self, frame: Frame) -> Result<Frame, FrameError> {
        let stretched = stretch(frame, self.pixel_aspect.unwrap_or(1.0))?;
        turn(stretched, self.orientation)
    }
}

/// Returns the width-to-height ratio of a pixel; `None` if a side is zero.
pub(crate) fn pixel_aspect(width: u32, height: u32) -> Option<f64> {
    (width > 0 && height > 0).then(|| f64::from(width) / f64::from(height))
}

fn stretch(frame: Frame, aspect: f64) -> Result<Frame, FrameError> {
    let max_side = f64::from(MAX_FRAME_SIDE);
    let (width, height) = (f64::from(frame.width()), f64::from(frame.height()));
    // What is narrow gets wider, and what is low higher, so that nothing is lost.
    let (width, height) = (width * aspect.max(1.0), height / aspect.min(1.0));
    let scale = (max_side / width.max(height)).min(1.0);
    let [width, height] =
        [width, height].map(|side| (side * scale).round().clamp(1.0, max_side) as u32);
    if (width, height) == (frame.width(), frame.height()) {
        return Ok(frame);
    }
    let Some(picture) = RgbImage::from_raw(frame.width(), frame.height(), frame.rgb().to_vec())
    else {
        return Ok(frame);
    };
    let picture = resize(&picture, width, height, FilterType::CatmullRom);
    Frame::new(width, height, frame.time(), picture.into_raw())
}

fn turn(frame: Frame, orientation: Orientation) -> Result<Frame, FrameError> {
    if orientation == Orientation::default() {
        return Ok(frame);
    }
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let (columns, rows) = if orientation.transposes { (height, width) } else { (width, height) };
    let mut rgb = Vec::with_capacity(frame.rgb().len());
    for row in 0..rows {
        let y = if orientation.flips { rows - 1 - row } else { row };
        for column in 0..columns {
            let x = if orientation.mirrors { columns - 1 - column } else { column };
            let at = if orientation.transposes { x * width + y } else { y * width + x };
            rgb.extend_from_slice(&frame.rgb()[at * 3..at * 3 + 3]);
        }
    }
    Frame::new(columns as u32, rows as u32, frame.time(), rgb)
}

#[cfg(test)]
mod tests {
    use types::MediaTime;

    use super::*;

    /// Picture of gray pixels.
    fn gray(width: u32, values: &[u8]) -> Frame {
        let rgb: Vec<u8> = values.iter().flat_map(|v| [*v; 3]).collect();
        Frame::new(width, values.len() as u32 / width, MediaTime::from_micros(7), rgb).unwrap()
    }

    #[test]
    fn every_display_matrix_lays_the_picture_down_as_it_says() {
        // 1 2 3
        // 4 5 6
        let picture = gray(3, &[1, 2, 3, 4, 5, 6]);
        for (matrix, width, want) in [
            ([1.0, 0.0, 0.0, 1.0], 3, [1, 2, 3, 4, 5, 6]),
            ([0.0, 1.0, -1.0, 0.0], 2, [4, 1, 5, 2, 6, 3]),
            ([-1.0, 0.0, 0.0, -1.0], 3, [6, 5, 4, 3, 2, 1]),
            ([0.0, -1.0, 1.0, 0.0], 2, [3, 6, 2, 5, 1, 4]),
            ([-1.0, 0.0, 0.0, 1.0], 3, [3, 2, 1, 6, 5, 4]),
            ([1.0, 0.0, 0.0, -1.0], 3, [4, 5, 6, 1, 2, 3]),
            ([0.0, 1.0, 1.0, 0.0], 2, [1, 4, 2, 5, 3, 6]),
            ([0.0, -1.0, -1.0, 0.0], 2, [6, 3, 5, 2, 4, 1]),
        ] {
            let turned = Geometry::of_matrix(matrix).apply(picture.clone()).unwrap();
            assert_eq!(turned, gray(width, &want), "{matrix:?}");
        }
    }

    #[test]
    fn a_movie_that_turns_a_turned_track_turns_it_twice() {
        let quarter = [0.0, 1.0, -1.0, 0.0];
        assert_eq!(multiplied(quarter, quarter), [-1.0, 0.0, 0.0, -1.0]);
        assert_eq!(multiplied([-1.0, 0.0, 0.0, 1.0], quarter), [0.0, -1.0, -1.0, 0.0]);
    }

    #[test]
    fn wide_pixels_widen_the_picture_before_it_is_turned() {
        let picture = gray(2, &[10, 200, 10, 200, 10, 200]);
        let turned = |aspect, matrix| {
            let geometry = Geometry { pixel_aspect: Some(aspect), ..Geometry::of_matrix(matrix) };
            let frame = geometry.apply(picture.clone()).unwrap();
            (frame.width(), frame.height())
        };
        assert_eq!(turned(2.0, [1.0, 0.0, 0.0, 1.0]), (4, 3));
        assert_eq!(turned(0.5, [1.0, 0.0, 0.0, 1.0]), (2, 6));
        assert_eq!(turned(2.0, [0.0, 1.0, -1.0, 0.0]), (3, 4));
        // Hostile ratios stay within the limits of a frame.
        assert_eq!(turned(1e9, [1.0, 0.0, 0.0, 1.0]), (8192, 1));
        assert_eq!(turned(1e-9, [1.0, 0.0, 0.0, 1.0]), (1, 8192));
        assert_eq!(Geometry::of_matrix([2.0, 0.0, 0.0, 1.0]).pixel_aspect, Some(2.0));
        assert_eq!(Geometry::of_matrix([0.0; 4]), Geometry::default());
    }
}
