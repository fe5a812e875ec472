//! What the numbers of a clip's pictures mean: its tags, and the color space that follows from them.

use crate::picture::tone::{Primaries, Transfer};

/// Weights of red, green and blue in luma.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum ColorMatrix {
    /// Standard definition.
    #[default]
    Bt601,
    /// High definition.
    Bt709,
    /// Ultra-high definition.
    Bt2020,
    /// High definition before BT.709.
    Smpte240m,
}

impl ColorMatrix {
    /// Weights of red and blue in luma: `Kr` and `Kb` of the standards.
    pub(crate) fn weights(self) -> (f64, f64) {
        match self {
            Self::Bt601 => (0.299, 0.114),
            Self::Bt709 => (0.2126, 0.0722),
            Self::Bt2020 => (0.2627, 0.0593),
            Self::Smpte240m => (0.212, 0.087),
        }
    }
}

/// Meaning of the numbers in the planes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct ColorSpace {
    pub(crate) matrix: ColorMatrix,
    /// Values span 0..=255 rather than 16..=235 (luma) and 16..=240 (chroma).
    pub(crate) full_range: bool,
    pub(crate) primaries: Primaries,
    pub(crate) transfer: Transfer,
}

/// What a file says about its colors: code points of ITU-T H.273, 2 where it says nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ColorTags {
    pub(crate) primaries: u8,
    pub(crate) transfer: u8,
    pub(crate) matrix: u8,
    pub(crate) full_range: Option<bool>,
}

impl Default for ColorTags {
    fn default() -> Self {
        Self { primaries: 2, transfer: 2, matrix: 2, full_range: None }
    }
}

impl ColorTags {
    /// Fills in what is unspecified here.
    #[must_use]
    pub(crate) fn or(self, other: Self) -> Self {
        let or = |code, other| if matches!(code, 0 | 2) { other } else { code };
        Self {
            primaries: or(self.primaries, other.primaries),
            transfer: or(self.transfer, other.transfer),
            matrix: or(self.matrix, other.matrix),
            full_range: self.full_range.or(other.full_range),
        }
    }

    /// Returns the color space of pictures of a size, pixels.
    ///
    /// Without a matrix that of the primaries is taken. If these are unspecified too, a clip of 720
    /// lines or 1280 columns is high definition, as players have it.
    pub(crate) fn space(self, width: u32, height: u32) -> ColorSpace {
        let transfer = match self.transfer {
            16 => Transfer::Pq,
            18 => Transfer::Hlg,
            _ => Transfer::Ordinary,
        };
        let is_wide = self.primaries == 9
            || (self.primaries == 2 && (transfer != Transfer::Ordinary || self.matrix == 9));
        let primaries = match self.primaries {
            _ if is_wide => Primaries::Bt2020,
            11 | 12 => Primaries::P3,
            _ => Primaries::Bt709,
        };
        let matrix = match (self.matrix, self.primaries) {
            (1, _) => ColorMatrix::Bt709,
            (4..=6, _) => ColorMatrix::Bt601,
            (7, _) => ColorMatrix::Smpte240m,
            (9 | 10, _) => ColorMatrix::Bt2020,
            _ if is_wide => ColorMatrix::Bt2020,
            (_, 1) => ColorMatrix::Bt709,
            (_, 4..=7) => ColorMatrix::Bt601,
            _ if height >= 720 || width >= 1280 => ColorMatrix::Bt709,
            _ => ColorMatrix::Bt601,
        };
        ColorSpace { matrix, full_range: self.full_range.unwrap_or(false), primaries, transfer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untagged_clips_are_high_definition_from_720_lines_on() {
        for (width, height, want) in [
            (640, 480, ColorMatrix::Bt601),
            (720, 576, ColorMatrix::Bt601),
            (1279, 719, ColorMatrix::Bt601),
            (1280, 720, ColorMatrix::Bt709),
            // Cinema format, and a telephone held upright.
            (1280, 544, ColorMatrix::Bt709),
            (720, 1280, ColorMatrix::Bt709),
        ] {
            let space = ColorTags::default().space(width, height);
            assert_eq!(space, ColorSpace { matrix: want, ..ColorSpace::default() });
        }
    }

    #[test]
    fn tags_outweigh_the_size_and_the_bitstream_outweighs_the_container() {
        let tags = |primaries, transfer, matrix| ColorTags {
            primaries,
            transfer,
            matrix,
            full_range: None,
        };
        for (tags, matrix, primaries, transfer) in [
            (tags(1, 1, 1), ColorMatrix::Bt709, Primaries::Bt709, Transfer::Ordinary),
            (tags(6, 6, 6), ColorMatrix::Bt601, Primaries::Bt709, Transfer::Ordinary),
            (tags(1, 2, 2), ColorMatrix::Bt709, Primaries::Bt709, Transfer::Ordinary),
            (tags(9, 14, 9), ColorMatrix::Bt2020, Primaries::Bt2020, Transfer::Ordinary),
            (tags(9, 18, 9), ColorMatrix::Bt2020, Primaries::Bt2020, Transfer::Hlg),
            (tags(2, 16, 2), ColorMatrix::Bt2020, Primaries::Bt2020, Transfer::Pq),
            (tags(12, 13, 6), ColorMatrix::Bt601, Primaries::P3, Transfer::Ordinary),
        ] {
            for size in [64, 1080] {
                let want = ColorSpace { matrix, full_range: false, primaries, transfer };
                assert_eq!(tags.space(size, size), want, "{tags:?}");
            }
        }
        let container = ColorTags { full_range: Some(true), ..tags(9, 9, 9) };
        let bitstream = ColorTags { full_range: Some(false), ..tags(1, 2, 1) };
        let want = ColorTags { full_range: Some(false), ..tags(1, 9, 1) };
        assert_eq!(bitstream.or(container), want);
    }
}
