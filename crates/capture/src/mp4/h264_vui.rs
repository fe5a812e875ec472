//! What the sequence parameter set of H.264 says about showing pictures and the decoder does not report
//! (Rec. ITU-T H.264, sections 7.3.2.1.1 and E.1.1).

use crate::picture::pixel_aspect;

/// Sample aspect ratios of table E-1, from index 1.
const ASPECTS: [(u32, u32); 16] = [
    (1, 1),
    (12, 11),
    (10, 11),
    (16, 11),
    (40, 33),
    (24, 11),
    (20, 11),
    (32, 11),
    (80, 33),
    (18, 11),
    (15, 11),
    (64, 33),
    (160, 99),
    (4, 3),
    (3, 2),
    (2, 1),
];

/// The part of the video usability information that matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct VideoUsability {
    /// Width of a pixel divided by its height.
    pub(crate) pixel_aspect: Option<f64>,
    /// Whether values span 0..=255; `None` if that is not said.
    pub(crate) full_range: Option<bool>,
}

impl VideoUsability {
    /// Parses a sequence parameter set without its header and emulation prevention bytes. What is
    /// missing or malformed is unknown.
    pub(crate) fn parse(parameter_set: &[u8]) -> Self {
        let mut usability = Self::default();
        let mut bits = BitReader { bytes: parameter_set, at: 0 };
        let _ = usability.read(&mut bits);
        usability
    }

    fn read(&mut self, bits: &mut BitReader<'_>) -> Option<()> {
        skip_to_usability(bits)?;
        if !bits.flag()? {
            return Some(());
        }
        if bits.flag()? {
            self.pixel_aspect = match bits.number(8)? {
                255 => pixel_aspect(bits.number(16)?, bits.number(16)?),
                index => ASPECTS
                    .get((index as usize).wrapping_sub(1))
                    .and_then(|(width, height)| pixel_aspect(*width, *height)),
            };
        }
        // Overscan.
        if bits.flag()? {
            bits.flag()?;
        }
        if bits.flag()? {
            let _video_format = bits.number(3)?;
            self.full_range = Some(bits.flag()?);
        }
        Some(())
    }
}

/// Skips what comes before `vui_parameters_present_flag`.
fn skip_to_usability(bits: &mut BitReader<'_>) -> Option<()> {
    let profile = bits.number(8)?;
    let _constraints_and_level = bits.number(16)?;
    let _id = bits.exp_golomb()?;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 134 | 135 | 138 | 139) {
        let chroma_format = bits.exp_golomb()?;
        if chroma_format == 3 {
            bits.flag()?;
        }
        let _bit_depths = (bits.exp_golomb()?, bits.exp_golomb()?);
        let _transform_bypass = bits.flag()?;
        if bits.flag()? {
            for list_idx in 0..if chroma_format == 3 { 12 } else { 8 } {
                if bits.flag()? {
                    skip_scaling_list(bits, if list_idx < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    let _frame_number_bits = bits.exp_golomb()?;
    match bits.exp_golomb()? {
        0 => drop(bits.exp_golomb()?),
        1 => {
            bits.flag()?;
            let _offsets = (bits.exp_golomb()?, bits.exp_golomb()?);
            for _ in 0..bits.exp_golomb()? {
                bits.exp_golomb()?;
            }
        }
        _ => {}
    }
    let _reference_frames = bits.exp_golomb()?;
    bits.flag()?;
    let _size = (bits.exp_golomb()?, bits.exp_golomb()?);
    let is_progressive = bits.flag()?;
    if !is_progressive {
        bits.flag()?;
    }
    bits.flag()?;
    if bits.flag()? {
        for _cropped_side in 0..4 {
            bits.exp_golomb()?;
        }
    }
    Some(())
}

fn skip_scaling_list(bits: &mut BitReader<'_>, length: usize) -> Option<()> {
    let (mut last, mut next) = (8_i64, 8_i64);
    for _ in 0..length {
        if next != 0 {
            next = (last + bits.signed_exp_golomb()?).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

/// Reader of bits from the front of a slice; `None` at its end.
struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits that were read.
    at: usize,
}

impl BitReader<'_> {
    fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    fn number(&mut self, n_bits: u32) -> Option<u32> {
        (0..n_bits).try_fold(0, |number, _| Some(number << 1 | u32::from(self.flag()?)))
    }

    fn exp_golomb(&mut self) -> Option<u32> {
        let mut n_bits = 0;
        while !self.flag()? {
            n_bits += 1;
            if n_bits > 31 {
                return None;
            }
        }
        Some((1 << n_bits) - 1 + self.number(n_bits)?)
    }

    fn signed_exp_golomb(&mut self) -> Option<i64> {
        let code = i64::from(self.exp_golomb()?);
        Some(if code % 2 == 0 { -code / 2 } else { (code + 1) / 2 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writer of the syntax that the parser reads.
    #[derive(Default)]
    struct BitWriter(Vec<bool>);

    impl BitWriter {
        fn number(&mut self, n_bits: u32, number: u32) -> &mut Self {
            self.0.extend((0..n_bits).rev().map(|bit| number >> bit & 1 == 1));
            self
        }

        fn exp_golomb(&mut self, number: u32) -> &mut Self {
            let n_bits = (number + 1).ilog2();
            self.number(n_bits, 0).number(n_bits + 1, number + 1)
        }

        fn bytes(&self) -> Vec<u8> {
            let byte = |bits: &[bool]| {
                bits.iter().enumerate().fold(0, |byte, (i, bit)| byte | u8::from(*bit) << (7 - i))
            };
            self.0.chunks(8).map(byte).collect()
        }
    }

    /// Parameter set up to the usability information, in a profile with or without scaling lists.
    fn start(profile: u32) -> BitWriter {
        let mut bits = BitWriter::default();
        bits.number(8, profile).number(16, 30).exp_golomb(0);
        if profile == 100 {
            bits.exp_golomb(1).exp_golomb(0).exp_golomb(0).number(1, 0).number(1, 1);
            // The first list ends at once, the second has its 16 numbers, the others are absent.
            bits.number(1, 1).exp_golomb(16).number(1, 1);
            for _ in 0..16 {
                bits.exp_golomb(1);
            }
            bits.number(6, 0);
        }
        bits.exp_golomb(0).exp_golomb(0).exp_golomb(2).exp_golomb(4).number(1, 0);
        bits.exp_golomb(15).exp_golomb(15).number(1, 1).number(1, 1);
        bits.number(1, 1).exp_golomb(0).exp_golomb(0).exp_golomb(0).exp_golomb(4);
        bits
    }

    #[test]
    fn aspect_ratio_and_range_are_read_in_every_profile() {
        for profile in [66, 100] {
            let mut bits = start(profile);
            bits.number(1, 1).number(1, 1).number(8, 255).number(16, 3).number(16, 2);
            bits.number(1, 1).number(1, 0).number(1, 1).number(3, 5).number(1, 1).number(8, 0);
            let want = VideoUsability { pixel_aspect: Some(1.5), full_range: Some(true) };
            assert_eq!(VideoUsability::parse(&bits.bytes()), want, "profile {profile}");

            let mut bits = start(profile);
            bits.number(1, 1).number(1, 1).number(8, 16).number(2, 0).number(8, 255);
            let want = VideoUsability { pixel_aspect: Some(2.0), full_range: None };
            assert_eq!(VideoUsability::parse(&bits.bytes()), want, "profile {profile}");

            let mut bits = start(profile);
            bits.number(1, 0).number(8, 255);
            assert_eq!(VideoUsability::parse(&bits.bytes()), VideoUsability::default());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            VideoUsability::parse(&bytes);
        }
    }
}
