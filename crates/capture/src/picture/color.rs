//! Conversion between RGB and the luma and chroma planes of video, 8 to 16 bit.

use crate::picture::color_tags::{ColorMatrix, ColorSpace};
use crate::picture::tone::ToDisplay;

/// Chroma subsampling and siting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Chroma {
    /// No chroma: gray.
    Mono,
    /// 4:2:0, each sample sited on the left column of its 2x2 pixels: MPEG-2, H.264.
    HalfLeft,
    /// 4:2:0, each sample sited in the middle of its 2x2 pixels: JPEG, MPEG-1.
    HalfCenter,
    /// 4:2:2, each sample sited on the left one of its two pixels.
    HalfWidth,
    /// 4:4:4: one sample per pixel.
    Full,
}

impl Chroma {
    /// Returns the columns and rows of a chroma plane.
    pub(crate) fn size(self, width: usize, height: usize) -> (usize, usize) {
        match self {
            Self::Mono => (0, 0),
            Self::HalfLeft | Self::HalfCenter => (width.div_ceil(2), height.div_ceil(2)),
            Self::HalfWidth => (width.div_ceil(2), height),
            Self::Full => (width, height),
        }
    }
}

/// Borrowed picture in three planes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planes<'a> {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) chroma: Chroma,
    pub(crate) color: ColorSpace,
    /// Bits of a sample, 8..=16. Samples of more than 8 bits take two bytes, the lower one first.
    pub(crate) depth: u32,
    pub(crate) y: &'a [u8],
    pub(crate) u: &'a [u8],
    pub(crate) v: &'a [u8],
    /// Bytes from one luma row to the next.
    pub(crate) y_stride: usize,
    /// Bytes from one chroma row to the next.
    pub(crate) uv_stride: usize,
}

/// Most bits of a sample that count; further ones are dropped.
const MAX_BITS: u32 = 12;

impl Planes<'_> {
    /// Converts to RGB bytes, `[height, width, 3]`; chroma is interpolated linearly.
    ///
    /// # Panics
    /// If the planes are smaller than their width, height and strides say.
    pub(crate) fn to_rgb(self) -> Vec<u8> {
        let (kr, kb) = self.color.matrix.weights();
        let kg = 1.0 - kr - kb;
        let bits = self.bits();
        let scale = f64::from(1_u32 << (bits - 8));
        let (y_gain, uv_gain, y_zero) = if self.color.full_range {
            let gain = 255.0 / f64::from((1_u32 << bits) - 1);
            (gain, gain, 0)
        } else {
            (255.0 / 219.0 / scale, 255.0 / 224.0 / scale, 16 << (bits - 8))
        };
        // Fixed point: luma and the results in 1/65536, chroma samples in 1/16.
        let fixed = |v: f64| (v * 65536.0).round() as i32;
        let gain = fixed(y_gain);
        let red_v = fixed(uv_gain * 2.0 * (1.0 - kr) / 16.0);
        let blue_u = fixed(uv_gain * 2.0 * (1.0 - kb) / 16.0);
        let green_u = fixed(uv_gain * 2.0 * (1.0 - kb) * kb / kg / 16.0);
        let green_v = fixed(uv_gain * 2.0 * (1.0 - kr) * kr / kg / 16.0);
        let to_display = ToDisplay::new(self.color.primaries, self.color.transfer);

        let mut rgb = vec![0; self.width * self.height * 3];
        let mut luma = vec![0; self.width];
        let mut chroma = ChromaLine::new(self.width);
        for (row, out) in rgb.chunks_exact_mut(self.width * 3).enumerate() {
            self.widen(&self.y[row * self.y_stride..], &mut luma);
            chroma.fill(&self, row);
            let chroma = chroma.u.iter().zip(&chroma.v);
            for ((pixel, y), (u, v)) in out.chunks_exact_mut(3).zip(&luma).zip(chroma) {
                let y = gain * (y - y_zero) + 32768;
                let red = y + red_v * v;
                let green = y - green_u * u - green_v * v;
                let blue = y + blue_u * u;
                let bytes = match &to_display {
                    None => [red, green, blue].map(|value| clamp(value >> 16)),
                    Some(to_display) => to_display.convert(
                        [red, green, blue].map(|v| (v - 32768) as f32 / (255.0 * 65536.0)),
                    ),
                };
                pixel.copy_from_slice(&bytes);
            }
        }
        rgb
    }

    /// Bits of a sample that count.
    fn bits(&self) -> u32 {
        self.depth.clamp(8, MAX_BITS)
    }

    /// Reads as many samples as `out` is long.
    fn widen(&self, row: &[u8], out: &mut [i32]) {
        if self.depth <= 8 {
            let row = &row[..out.len()];
            out.iter_mut().zip(row).for_each(|(o, sample)| *o = i32::from(*sample));
        } else {
            let shift = self.depth - self.bits();
            let samples = row[..out.len() * 2].chunks_exact(2);
            out.iter_mut().zip(samples).for_each(|(o, sample)| {
                *o = i32::from(u16::from_le_bytes([sample[0], sample[1]]) >> shift);
            });
        }
    }
}

/// Chroma of one row of pixels at full resolution, in sixteenths, zero for gray.
struct ChromaLine {
    u: Vec<i32>,
    v: Vec<i32>,
    scratch: ChromaScratch,
}

/// Rows of chroma before they are widened to full resolution.
#[derive(Default)]
struct ChromaScratch {
    near: Vec<i32>,
    far: Vec<i32>,
    /// In quarters.
    narrow: Vec<i32>,
}

impl ChromaLine {
    fn new(width: usize) -> Self {
        Self { u: vec![0; width], v: vec![0; width], scratch: ChromaScratch::default() }
    }

    fn fill(&mut self, planes: &Planes<'_>, row: usize) {
        if planes.chroma != Chroma::Mono {
            let Self { u, v, scratch } = self;
            chroma_line(planes, planes.u, row, scratch, u);
            chroma_line(planes, planes.v, row, scratch, v);
        }
    }
}

fn chroma_line(
    planes: &Planes<'_>,
    plane: &[u8],
    row: usize,
    scratch: &mut ChromaScratch,
    out: &mut [i32],
) {
    let (columns, rows) = planes.chroma.size(planes.width, planes.height);
    let ChromaScratch { near, far, narrow } = scratch;
    let read = |row: usize, line: &mut Vec<i32>| {
        line.resize(columns, 0);
        planes.widen(&plane[row * planes.uv_stride..], line);
    };
    // Zero for gray.
    let gray = 4 << (planes.bits() - 1);
    narrow.clear();
    match planes.chroma {
        Chroma::HalfLeft | Chroma::HalfCenter => {
            let near_row = row / 2;
            let far_row = if row.is_multiple_of(2) {
                near_row.saturating_sub(1)
            } else {
                (near_row + 1).min(rows - 1)
            };
            read(near_row, near);
            read(far_row, far);
            narrow.extend(near.iter().zip(&*far).map(|(n, f)| 3 * n + f - gray));
        }
        Chroma::HalfWidth | Chroma::Full => {
            read(row, near);
            narrow.extend(near.iter().map(|c| 4 * c - gray));
        }
        Chroma::Mono => return,
    }
    let last = columns - 1;
    match planes.chroma {
        Chroma::Full => out.iter_mut().zip(&*narrow).for_each(|(o, c)| *o = 4 * c),
        Chroma::HalfCenter => {
            for (x, o) in out.iter_mut().enumerate() {
                let near = x / 2;
                let far =
                    if x.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(last) };
                *o = 3 * narrow[near] + narrow[far];
            }
        }
        _ => {
            for (i, pair) in out.chunks_mut(2).enumerate() {
                pair[0] = 4 * narrow[i];
                if let Some(odd) = pair.get_mut(1) {
                    *odd = 2 * (narrow[i] + narrow[(i + 1).min(last)]);
                }
            }
        }
    }
}

/// Owned picture in three planes without padding.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct PlaneBuffers {
    pub(crate) y: Vec<u8>,
    pub(crate) u: Vec<u8>,
    pub(crate) v: Vec<u8>,
}

impl PlaneBuffers {
    /// Converts an RGB picture, `[height, width, 3]`, to limited range.
    ///
    /// `chroma` is [`Chroma::Full`], or [`Chroma::HalfLeft`], whose samples are averages weighted
    /// `1 2 1` across and `1 1` down.
    pub(crate) fn from_rgb(
        rgb: &[u8],
        (width, height): (usize, usize),
        chroma: Chroma,
        matrix: ColorMatrix,
    ) -> Self {
        let (kr, kb) = matrix.weights();
        let fixed = |v: f64| (v * 65536.0).round() as i32;
        let luma = [kr, 1.0 - kr - kb, kb].map(|k| fixed(k * 219.0 / 255.0));
        let to_u = [-kr, kr + kb - 1.0, 1.0 - kb].map(|k| fixed(k / (1.0 - kb) * 112.0 / 255.0));
        let to_v = [1.0 - kr, kr + kb - 1.0, -kb].map(|k| fixed(k / (1.0 - kr) * 112.0 / 255.0));
        let dot = |k: [i32; 3], p: &[u8]| {
            k[0] * i32::from(p[0]) + k[1] * i32::from(p[1]) + k[2] * i32::from(p[2])
        };
        let pixels = || rgb.chunks_exact(3);
        let y = pixels().map(|p| clamp((dot(luma, p) + (16 << 16) + 32768) >> 16)).collect();
        let [u, v] = [to_u, to_v].map(|k| {
            if chroma == Chroma::Full {
                return pixels().map(|p| clamp((dot(k, p) + (128 << 16) + 32768) >> 16)).collect();
            }
            let full: Vec<i32> = pixels().map(|p| dot(k, p)).collect();
            let (columns, rows) = Chroma::HalfLeft.size(width, height);
            let mut half = Vec::with_capacity(columns * rows);
            for row in 0..rows {
                let upper = &full[row * 2 * width..][..width];
                let lower = &full[(row * 2 + 1).min(height - 1) * width..][..width];
                for column in 0..columns {
                    let x = column * 2;
                    let (left, right) = (x.saturating_sub(1), (x + 1).min(width - 1));
                    let across = |line: &[i32]| line[left] + 2 * line[x] + line[right];
                    let sum = across(upper) + across(lower);
                    half.push(clamp((sum + (128 << 19) + (1 << 18)) >> 19));
                }
            }
            half
        });
        Self { y, u, v }
    }
}

fn clamp(value: i32) -> u8 {
    value.clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Borrows planes made by [`PlaneBuffers::from_rgb`].
    fn view(planes: &PlaneBuffers, width: usize, height: usize, chroma: Chroma) -> Planes<'_> {
        Planes {
            width,
            height,
            chroma,
            color: ColorSpace::default(),
            depth: 8,
            y: &planes.y,
            u: &planes.u,
            v: &planes.v,
            y_stride: width,
            uv_stride: chroma.size(width, height).0,
        }
    }

    fn one_color(y: u8, u: u8, v: u8, color: ColorSpace, chroma: Chroma) -> [u8; 3] {
        let (y, u, v) = ([y; 9], [u; 9], [v; 9]);
        let planes = Planes {
            width: 3,
            height: 3,
            chroma,
            color,
            depth: 8,
            y: &y,
            u: &u,
            v: &v,
            y_stride: 3,
            uv_stride: chroma.size(3, 3).0,
        };
        let rgb = planes.to_rgb();
        assert!(rgb.chunks_exact(3).all(|p| p == &rgb[..3]), "{rgb:?}");
        [rgb[0], rgb[1], rgb[2]]
    }

    /// The expected values are the standards' equations, rounded.
    #[test]
    fn both_matrices_and_ranges_give_the_colors_of_the_standards() {
        let space = |matrix, full_range| ColorSpace { matrix, full_range, ..ColorSpace::default() };
        for chroma in [Chroma::HalfLeft, Chroma::HalfCenter, Chroma::HalfWidth, Chroma::Full] {
            for (yuv, color, want) in [
                ([16, 128, 128], space(ColorMatrix::Bt601, false), [0, 0, 0]),
                ([235, 128, 128], space(ColorMatrix::Bt709, false), [255, 255, 255]),
                ([81, 90, 240], space(ColorMatrix::Bt601, false), [254, 0, 0]),
                ([63, 102, 240], space(ColorMatrix::Bt709, false), [255, 1, 0]),
                ([76, 85, 255], space(ColorMatrix::Bt601, true), [254, 0, 0]),
                ([145, 54, 34], space(ColorMatrix::Bt601, false), [0, 255, 1]),
            ] {
                let got = one_color(yuv[0], yuv[1], yuv[2], color, chroma);
                assert_eq!(got, want, "{yuv:?} {color:?} {chroma:?}");
            }
        }
        assert_eq!(one_color(126, 0, 0, ColorSpace::default(), Chroma::Mono), [128; 3]);
    }

    #[test]
    fn full_chroma_preserves_colors_to_two_levels() {
        let rgb: Vec<u8> = (0..=255_u32)
            .flat_map(|i| [i as u8, (i * 7 % 256) as u8, (i * 31 % 256) as u8])
            .collect();
        let planes = PlaneBuffers::from_rgb(&rgb, (16, 16), Chroma::Full, ColorMatrix::Bt601);
        let back = view(&planes, 16, 16, Chroma::Full).to_rgb();
        // Rounding costs half a level in each plane, times up to 2.02 for blue.
        assert!(back.iter().zip(&rgb).all(|(a, b)| a.abs_diff(*b) <= 2));
    }

    #[test]
    fn halved_chroma_preserves_a_color_ramp() {
        let (width, height) = (33, 17);
        let rgb: Vec<u8> = (0..height)
            .flat_map(|y| (0..width).flat_map(move |x| [60 + x * 3, 200 - y * 4, 90 + x + y]))
            .map(|v: usize| v as u8)
            .collect();
        let planes =
            PlaneBuffers::from_rgb(&rgb, (width, height), Chroma::HalfLeft, ColorMatrix::Bt601);
        let back = view(&planes, width, height, Chroma::HalfLeft).to_rgb();
        // Three levels at the border, where a sample is repeated; less inside.
        assert!(back.iter().zip(&rgb).all(|(a, b)| a.abs_diff(*b) <= 4));
    }
}
