use types::{FEATURE_DIMS, POSE_DIMS};

use crate::entropy_model::N_CLASSES;

/// Version of the bitstream that a profile speaks; the first of its bytes.
const VERSION: u8 = 1;
/// Levels are this large at most, counted from the mean.
pub(crate) const MAX_LEVEL: i32 = (1 << 16) - 1;
/// The dimension that is the head's distance, which is never negative.
pub(crate) const DEPTH: usize = POSE_DIMS - 1;
/// Ages of a reference that share one predictor: 1, 2, 3, 4, 5-6, 7-9, 10-15, 16-32.
pub(crate) const N_AGES: usize = 8;
/// Denominator of the predictor's weights.
pub(crate) const WEIGHT_ONE: i32 = 16;
/// Bytes of one dimension: step, mean, class of a key unit, then four bytes an age.
const DIM_BYTES: usize = 4 + 4 + 1 + 4 * N_AGES;

/// How one number of a feature is predicted from a reference of a certain age.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct AgeModel {
    /// How much of the reference's distance from the mean is left, in 1/16.
    pub(crate) keep: u8,
    /// How far the motion up to the reference goes on, in 1/16 of a straight line.
    pub(crate) go_on: u8,
    /// Scale class of the residual.
    pub(crate) class: u8,
    /// Scale class where the motion is not known.
    pub(crate) still_class: u8,
}

/// How one number of a feature is quantized and predicted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DimModel {
    /// Width of a level.
    pub(crate) step: f32,
    /// The usual level, from which levels are counted.
    pub(crate) mean: i32,
    /// Scale class of a level in a key unit.
    pub(crate) key_class: u8,
    pub(crate) ages: [AgeModel; N_AGES],
}

/// One person's quantizer and predictor: what encoder and decoder must share, bit for bit.
///
/// Made by [`Profile::from_features`] at enrollment and kept in the public part of the face file.
/// The default knows nobody: steps of half a pixel in a picture of 512 for the pose of a head at
/// arm's length, a quarter for a code of unit size.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    dims: [DimModel; FEATURE_DIMS],
}

/// Why bytes or numbers are not a profile.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Made by a newer build. Update, or ask the peer to send an older profile.
    #[error("codec profile version {found} is not {VERSION}, the one known here")]
    UnsupportedVersion { found: u8 },
    /// Cut short or not a profile.
    #[error("a codec profile has {want} bytes, got {got}")]
    Length { got: usize, want: usize },
    /// Damaged, or a step that is zero, negative, not finite, or far too large.
    #[error("the codec profile has an impossible {what} in dimension {dim}")]
    Impossible { what: &'static str, dim: usize },
}

impl Profile {
    /// Bytes of a serialized profile.
    pub const BYTES: usize = 2 + FEATURE_DIMS * DIM_BYTES;

    pub(crate) fn new(dims: &[DimModel; FEATURE_DIMS]) -> Result<Self, ProfileError> {
        for (dim, model) in dims.iter().enumerate() {
            let bad = |what| Err(ProfileError::Impossible { what, dim });
            if !(1e-6..=16.0).contains(&model.step) {
                return bad("step");
            }
            // A level that is no plausible number: see `types::Feature`.
            let in_front = dim != DEPTH || model.mean >= 0;
            if model.mean.unsigned_abs() > MAX_LEVEL as u32
                || (model.mean as f32 * model.step).abs() > 999.0
                || !in_front
            {
                return bad("mean");
            }
            if i32::from(model.key_class) >= N_CLASSES {
                return bad("scale class");
            }
            for age in &model.ages {
                if i32::from(age.class.max(age.still_class)) >= N_CLASSES {
                    return bad("scale class");
                }
                if i32::from(age.keep.max(age.go_on)) > WEIGHT_ONE {
                    return bad("weight");
                }
            }
        }
        Ok(Self { dims: *dims })
    }

    pub(crate) fn dims(&self) -> &[DimModel; FEATURE_DIMS] {
        &self.dims
    }

    /// The width of a level in every dimension: radians, meters, then the code's units.
    pub fn steps(&self) -> [f32; FEATURE_DIMS] {
        self.dims.map(|dim| dim.step)
    }

    /// The profile as docs/BITSTREAM.md lays it out, [`Profile::BYTES`] long.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.extend([VERSION, FEATURE_DIMS as u8]);
        for dim in &self.dims {
            bytes.extend(dim.step.to_le_bytes());
            bytes.extend(dim.mean.to_le_bytes());
            bytes.push(dim.key_class);
            for age in &dim.ages {
                bytes.extend([age.keep, age.go_on, age.class, age.still_class]);
            }
        }
        bytes
    }

    /// The inverse of [`Profile::to_bytes`]; trusts nothing.
    ///
    /// # Errors
    /// If the bytes are not exactly one profile of a known version with possible numbers.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProfileError> {
        match bytes.first() {
            Some(&VERSION) | None => {}
            Some(&found) => return Err(ProfileError::UnsupportedVersion { found }),
        }
        let wrong_length = ProfileError::Length { got: bytes.len(), want: Self::BYTES };
        if bytes.len() != Self::BYTES || usize::from(bytes[1]) != FEATURE_DIMS {
            return Err(wrong_length);
        }
        let mut dims = Self::default().dims;
        for (dim, bytes) in dims.iter_mut().zip(bytes[2..].chunks_exact(DIM_BYTES)) {
            let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            dim.step = f32::from_le_bytes(four(0));
            dim.mean = i32::from_le_bytes(four(4));
            dim.key_class = bytes[8];
            for (age, bytes) in dim.ages.iter_mut().zip(bytes[9..].chunks_exact(4)) {
                let &[keep, go_on, class, still_class] = bytes else { return Err(wrong_length) };
                *age = AgeModel { keep, go_on, class, still_class };
            }
        }
        Self::new(&dims)
    }
}

impl Default for Profile {
    fn default() -> Self {
        // Classes: four an octave, 16 is one level. A straight line keeps half its promise.
        let age = |class: u8| {
            let growth = [0, 3, 5, 6, 8, 10, 13, 16];
            growth.map(|g| AgeModel {
                keep: WEIGHT_ONE as u8,
                go_on: if g == 0 { 8 } else { 4 },
                class: class + g,
                still_class: class + g + 2,
            })
        };
        let dim =
            |step, mean, key_class, class| DimModel { step, mean, key_class, ages: age(class) };
        let mut dims = [dim(0.25, 0, 22, 13); FEATURE_DIMS];
        for (model, (step, mean)) in dims[..POSE_DIMS].iter_mut().zip([
            (0.004, 0),
            (0.004, 0),
            (0.003, 0),
            (0.0003, 0),
            (0.0003, 0),
            (0.005, 220),
        ]) {
            *model = dim(step, mean, 36, 16);
        }
        for (model, step) in
            dims[FEATURE_DIMS - 6..].iter_mut().zip([0.004, 0.004, 0.001, 0.004, 0.004, 0.001])
        {
            *model = dim(step, 0, 22, 10);
        }
        Self { dims }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_profile_survives_its_bytes() {
        let profile = Profile::default();
        assert_eq!(profile.to_bytes().len(), Profile::BYTES);
        assert_eq!(Profile::parse(&profile.to_bytes()), Ok(profile));
    }

    #[test]
    fn no_impossible_profile_gets_in() {
        let good = Profile::default().to_bytes();
        let with = |at: usize, new: &[u8]| {
            let mut bytes = good.clone();
            bytes[at..at + new.len()].copy_from_slice(new);
            Profile::parse(&bytes)
        };
        let impossible = |what| Err(ProfileError::Impossible { what, dim: 0 });
        for step in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e30, 1e-38] {
            assert_eq!(with(2, &step.to_le_bytes()), impossible("step"), "{step}");
        }
        assert_eq!(with(6, &i32::MIN.to_le_bytes()), impossible("mean"));
        assert_eq!(with(6, &i32::MAX.to_le_bytes()), impossible("mean"));
        assert_eq!(with(10, &[72]), impossible("scale class"));
        assert_eq!(with(11, &[17]), impossible("weight"));
        assert_eq!(with(0, &[9]), Err(ProfileError::UnsupportedVersion { found: 9 }));
        assert!(matches!(Profile::parse(&good[1..]), Err(ProfileError::UnsupportedVersion { .. })));
        assert!(matches!(Profile::parse(&good[..99]), Err(ProfileError::Length { .. })));
        assert!(matches!(Profile::parse(&[]), Err(ProfileError::Length { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_parse_panic(at in 0..Profile::BYTES, new: [u8; 4], flip: bool) {
            let mut bytes = Profile::default().to_bytes();
            for (byte, new) in bytes[at..].iter_mut().zip(new) {
                *byte = if flip { *byte ^ new } else { new };
            }
            if let Ok(profile) = Profile::parse(&bytes) {
                prop_assert_eq!(profile.to_bytes(), bytes);
            }
        }
    }
}
