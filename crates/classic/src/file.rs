//! The `.classic` file.

use half::f16;
use sha2::{Digest, Sha256};
use types::POSE_DIMS;

use crate::model::{ClassicModel, ClassicModelError};
use crate::sizes::{ClassicLayout, ClassicSizes};

/// First bytes of a file.
const MAGIC: &[u8; 8] = b"FEATCLAS";
/// Version of the format.
const VERSION: u16 = 1;
/// Largest file that is accepted, in bytes: several times a field of full size.
pub(crate) const MAX_CLASSIC_FILE: usize = 16 << 20;
/// Number of u16 sizes in the header.
const COUNTS: usize = 8;
/// Number of f32 constants in the header.
const NUMBERS: usize = 4 + 2 * POSE_DIMS;
/// Bytes of the header: magic, version, sizes and constants.
const HEADER: usize = 8 + 2 + 2 * COUNTS + 4 * NUMBERS;
/// Bytes of the SHA-256 at the end.
const HASH: usize = 32;

/// Why a file is not a baseline field.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClassicFileError {
    /// Another kind of file. Choose another one.
    #[error("not a baseline field; create one with `train-classic`")]
    NotClassic,
    /// Written by another version. Train again, or use that version.
    #[error("baseline field has version {found}, only version {newest} can be read")]
    UnsupportedVersion { found: u16, newest: u16 },
    /// Truncated or extended. Copy it again or train again.
    #[error("baseline field has {got} bytes, expected {want}")]
    Length { want: usize, got: usize },
    /// Corrupted. Copy it again or train again.
    #[error("baseline field is damaged: its hash does not match")]
    Damaged,
    /// Sizes out of range, or a number that is not finite.
    #[error(transparent)]
    Model(#[from] ClassicModelError),
}

impl ClassicModel {
    /// Serializes the field. Weights are rounded to f16 and the background to 8 bits.
    ///
    /// Little-endian: `FEATCLAS`, version u16, eight counts u16 (code, width, depth, skip, coarse,
    /// fine, torso, background), 16 f32 (focal, near, far, torso distance, pose mean, pose scale),
    /// the background as bytes of sRGB, row by row, the weights as f16 in the order of
    /// `ClassicLayout`, and the SHA-256 of everything before it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let s = self.sizes();
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        for n in [s.code, s.width, s.depth, s.skip, s.coarse, s.fine, s.torso, s.background] {
            bytes.extend((n as u16).to_le_bytes());
        }
        let numbers = [s.focal, s.near, s.far, s.torso_distance];
        for v in numbers.iter().chain(&s.pose_mean).chain(&s.pose_scale) {
            bytes.extend(v.to_le_bytes());
        }
        let colors = self.background().as_flattened().iter();
        bytes.extend(colors.map(|v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8));
        bytes.extend(self.params().iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()));
        let hash = Sha256::digest(&bytes);
        bytes.extend(hash);
        bytes
    }

    /// Parses the bytes of a file. Memory use is proportional to the length of `bytes`.
    ///
    /// # Errors
    /// If the bytes are not a baseline field, have another version, are truncated or damaged, or
    /// state sizes out of range.
    pub fn parse(bytes: &[u8]) -> Result<Self, ClassicFileError> {
        if bytes.get(..MAGIC.len()) != Some(MAGIC) {
            return Err(ClassicFileError::NotClassic);
        }
        let got = bytes.len();
        if !(HEADER + HASH..=MAX_CLASSIC_FILE).contains(&got) {
            let want = got.clamp(HEADER + HASH, MAX_CLASSIC_FILE);
            return Err(ClassicFileError::Length { want, got });
        }
        let found = u16::from_le_bytes([bytes[8], bytes[9]]);
        if found != VERSION {
            return Err(ClassicFileError::UnsupportedVersion { found, newest: VERSION });
        }
        let (content, hash) = bytes.split_at(got - HASH);
        if Sha256::digest(content)[..] != *hash {
            return Err(ClassicFileError::Damaged);
        }
        let (header, rest) = content.split_at(HEADER);
        let (counts, numbers) = header[10..].split_at(2 * COUNTS);
        let n: Vec<usize> =
            counts.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b).into()).collect();
        let v: Vec<f32> =
            numbers.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let sizes = ClassicSizes {
            code: n[0],
            width: n[1],
            depth: n[2],
            skip: n[3],
            coarse: n[4],
            fine: n[5],
            torso: n[6],
            background: n[7],
            focal: v[0],
            near: v[1],
            far: v[2],
            torso_distance: v[3],
            pose_mean: std::array::from_fn(|i| v[4 + i]),
            pose_scale: std::array::from_fn(|i| v[4 + POSE_DIMS + i]),
        };
        if !sizes.is_valid() {
            return Err(ClassicModelError::Sizes.into());
        }
        let layout = ClassicLayout::new(&sizes);
        let n_colors = 3 * sizes.background * sizes.background;
        let want = HEADER + n_colors + 2 * layout.len + HASH;
        if got != want {
            return Err(ClassicFileError::Length { want, got });
        }
        let (colors, weights) = rest.split_at(n_colors);
        let background =
            colors.as_chunks().0.iter().map(|rgb| rgb.map(|v| f32::from(v) / 255.0)).collect();
        let params =
            weights.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect();
        Ok(Self::new(sizes, params, background)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file() -> Vec<u8> {
        let sizes = ClassicSizes { depth: 1, skip: 0, background: 4, ..ClassicSizes::tiny() };
        ClassicModel::noise(sizes, 5).to_bytes()
    }

    /// Replaces the hash at the end by the right one.
    fn with_hash(mut bytes: Vec<u8>) -> Vec<u8> {
        let end = bytes.len() - HASH;
        let hash = Sha256::digest(&bytes[..end]);
        bytes[end..].copy_from_slice(&hash);
        bytes
    }

    #[test]
    fn a_field_survives_a_round_trip() {
        let model = ClassicModel::noise(ClassicSizes::tiny(), 5);
        let read = ClassicModel::parse(&model.to_bytes()).unwrap();
        assert_eq!(read.sizes(), model.sizes());
        for (got, want) in read.params().iter().zip(model.params()) {
            assert!((got - want).abs() <= 1e-3 * want.abs() + 1e-6, "{got} {want}");
        }
        let levels = read.background().as_flattened().iter().zip(model.background().as_flattened());
        assert!(levels.into_iter().all(|(got, want)| (got - want).abs() <= 0.5 / 255.0 + 1e-6));
        // A second round trip is exact.
        assert_eq!(ClassicModel::parse(&read.to_bytes()).unwrap().params(), read.params());
        assert_eq!(ClassicModel::parse(&read.to_bytes()).unwrap().to_bytes(), read.to_bytes());
    }

    #[test]
    fn damaged_files_are_refused_with_a_reason() {
        let file = file();
        assert_eq!(ClassicModel::parse(b"FEATFACE"), Err(ClassicFileError::NotClassic));
        for end in [8, 10, HEADER, file.len() - 1] {
            assert!(ClassicModel::parse(&file[..end]).is_err(), "{end}");
        }
        let mut flipped = file.clone();
        flipped[HEADER + 70] ^= 4;
        assert_eq!(ClassicModel::parse(&flipped), Err(ClassicFileError::Damaged));
        let mut newer = file.clone();
        newer[8] = 2;
        let error = ClassicModel::parse(&with_hash(newer)).unwrap_err();
        assert_eq!(error, ClassicFileError::UnsupportedVersion { found: 2, newest: 1 });
        let mut longer = file;
        longer.extend([0; 2]);
        let error = ClassicModel::parse(&with_hash(longer)).unwrap_err();
        assert!(matches!(error, ClassicFileError::Length { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            let _ = ClassicModel::parse(&bytes);
            let _ = ClassicModel::parse(&[MAGIC, &bytes[..]].concat());
        }

        /// Headers with wrong sizes and lengths under a correct hash.
        #[test]
        fn no_header_makes_the_parser_panic(
            (at, value) in (8..HEADER, any::<u8>()),
            (other, more) in (8..HEADER, any::<u8>()),
        ) {
            let mut bytes = file();
            bytes[at] = value;
            bytes[other] = more;
            let _ = ClassicModel::parse(&with_hash(bytes));
        }
    }
}
