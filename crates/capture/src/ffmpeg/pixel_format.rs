//! Layouts of pixels in which `ffmpeg` delivers frames.

use crate::picture::ColorSpace;
use crate::picture::{Chroma, Planes};

/// Layout of the frames of a stream: one that needs no conversion of the colors, so that ours is the only one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PixelFormat {
    /// Name of `ffmpeg`.
    pub(crate) name: String,
    /// `None` for three bytes of red, green and blue in turn.
    pub(crate) planes: Option<PlaneLayout>,
}

/// Layout of planes without padding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PlaneLayout {
    pub(crate) chroma: Chroma,
    /// Bits of a sample; more than 8 take two bytes.
    pub(crate) depth: u32,
}

impl PixelFormat {
    /// Returns the layout for frames that are decoded to `source`, a name of `ffmpeg`. `centered` tells where the
    /// samples of halved chroma are.
    pub(crate) fn for_source(source: &str, centered: bool) -> Self {
        let Some((family, chroma)) = family(source, centered) else {
            return Self { name: "rgb24".to_owned(), planes: None };
        };
        let depth = match bits(source) {
            8 => 8,
            9 | 10 => 10,
            _ => 12,
        };
        // The "j" of old names stands for full range; another name would narrow it.
        let full = if source.starts_with("yuvj") && depth == 8 { "yuvj" } else { "yuv" };
        let name = match (chroma, depth) {
            (Chroma::Mono, 8) => "gray".to_owned(),
            (Chroma::Mono, _) => format!("gray{depth}le"),
            (_, 8) => format!("{full}{family}p"),
            _ => format!("yuv{family}p{depth}le"),
        };
        Self { name, planes: Some(PlaneLayout { chroma, depth }) }
    }

    /// Returns whether values span their whole range if the stream does not say.
    pub(crate) fn is_full_by_name(source: &str) -> bool {
        source.starts_with("yuvj") || source.starts_with("gray") || source.starts_with("ya")
    }
}

impl PlaneLayout {
    /// Borrows the planes of a frame; `None` if it has not the length of its size.
    pub(crate) fn planes(
        self,
        bytes: &[u8],
        (width, height): (usize, usize),
        color: ColorSpace,
    ) -> Option<Planes<'_>> {
        let Self { chroma, depth } = self;
        let n_bytes = if depth > 8 { 2 } else { 1 };
        let (columns, rows) = chroma.size(width, height);
        let (luma, plane) = (width * height * n_bytes, columns * rows * n_bytes);
        if width == 0 || bytes.len() != luma + 2 * plane {
            return None;
        }
        let (y, uv) = bytes.split_at(luma);
        let (u, v) = uv.split_at(plane);
        let (y_stride, uv_stride) = (width * n_bytes, columns * n_bytes);
        Some(Planes { width, height, chroma, color, depth, y, u, v, y_stride, uv_stride })
    }
}

/// Returns the digits in the name of the planar format that holds all of `source`; `None` if that is RGB.
fn family(source: &str, centered: bool) -> Option<(&'static str, Chroma)> {
    let half = if centered { Chroma::HalfCenter } else { Chroma::HalfLeft };
    let begins = |names: &[&str]| names.iter().any(|name| source.starts_with(name));
    if begins(&["yuv420", "yuvj420", "yuva420", "nv12", "nv21", "p010", "p012", "p016"]) {
        Some(("420", half))
    } else if begins(&[
        "yuv422", "yuvj422", "yuva422", "yuyv", "yvyu", "uyvy", "nv16", "nv20", "p21", "y21",
    ]) {
        Some(("422", Chroma::HalfWidth))
    } else if begins(&["gray", "ya8", "ya16"]) {
        Some(("", Chroma::Mono))
    } else if begins(&[
        "yuv", "yuvj", "yuva", "nv24", "nv42", "p41", "y41", "vuy", "ayuv", "xv", "uyyvyy",
    ]) {
        Some(("444", Chroma::Full))
    } else {
        None
    }
}

/// Returns the bits of a sample by the name of a format.
fn bits(source: &str) -> u32 {
    let name = source.trim_end_matches("le").trim_end_matches("be");
    // The digits in these names count something else, but for one.
    let has_bytes = name.starts_with("nv") && name != "nv20";
    let ends = [("16", 16), ("14", 14), ("12", 12), ("10", 10), ("9", 9), ("nv20", 10), ("64", 16)];
    let found = ends.into_iter().find(|(end, _)| name.ends_with(end) && !has_bytes);
    found.map_or(8, |(_, bits)| bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layout_is_delivered_with_its_own_chroma_and_depth() {
        for (source, name, chroma, depth) in [
            ("yuv420p", "yuv420p", Chroma::HalfLeft, 8),
            ("yuvj420p", "yuvj420p", Chroma::HalfLeft, 8),
            ("yuva420p", "yuv420p", Chroma::HalfLeft, 8),
            ("nv12", "yuv420p", Chroma::HalfLeft, 8),
            ("nv20le", "yuv422p10le", Chroma::HalfWidth, 10),
            ("p010le", "yuv420p10le", Chroma::HalfLeft, 10),
            ("yuv420p10le", "yuv420p10le", Chroma::HalfLeft, 10),
            ("yuv422p12be", "yuv422p12le", Chroma::HalfWidth, 12),
            ("yuyv422", "yuv422p", Chroma::HalfWidth, 8),
            ("nv16", "yuv422p", Chroma::HalfWidth, 8),
            ("yuv444p16le", "yuv444p12le", Chroma::Full, 12),
            ("yuv440p", "yuv444p", Chroma::Full, 8),
            ("yuv411p", "yuv444p", Chroma::Full, 8),
            ("gray", "gray", Chroma::Mono, 8),
            ("gray10le", "gray10le", Chroma::Mono, 10),
        ] {
            let format = PixelFormat::for_source(source, false);
            let planes = Some(PlaneLayout { chroma, depth });
            assert_eq!(format, PixelFormat { name: name.to_owned(), planes }, "{source}");
        }
        for source in ["rgb24", "pal8", "gbrp10le", "bgra", "xyz12le", "monob", ""] {
            assert_eq!(PixelFormat::for_source(source, false).name, "rgb24", "{source}");
        }
        let centered = PixelFormat::for_source("yuvj420p", true).planes.unwrap();
        assert_eq!(centered.chroma, Chroma::HalfCenter);
    }
}
