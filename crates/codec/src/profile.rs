use types::{FEATURE_DIMS, LEARNED_DIMS, POSE_DIMS};

use crate::entropy_model::N_CLASSES;

/// Square matrix over the numbers of a feature.
pub(crate) type Matrix = numerics::SquareMatrix<FEATURE_DIMS>;

/// Version of the bitstream that a profile speaks; the first of its bytes.
const VERSION: u8 = 4;
/// Positions of a component are this large at most, in parts of the scale, counted from the mean.
pub(crate) const MAX_POSITION: i32 = (1 << 20) - 1;
/// Parts of a profile's scale that positions, steps and bends are counted in.
pub(crate) const PARTS: i32 = 16;
/// Distances in time to a reference that share one predictor, 25ths of a second: 1, 2, 3-4, 5-8,
/// 9-16 and more.
pub(crate) const N_AGES: usize = 6;
/// Stretches of a way whose bends share a scale: two 25ths of a second, and four.
pub(crate) const N_CHORDS: usize = 2;
/// Denominator of the predictor's weights.
pub(crate) const WEIGHT_ONE: i32 = 16;
/// The dimension that is the head's distance.
const DEPTH: usize = POSE_DIMS - 1;
/// Version, dimensions, components.
const HEADER_BYTES: usize = 3;
/// Bytes of one dimension: mean and scale.
const DIM_BYTES: usize = 4 + 4;
/// Bytes of one component: how it moves each dimension, class of a key unit, classes of bends, four
/// bytes an age.
const COMPONENT_BYTES: usize = 2 * FEATURE_DIMS + 1 + N_CHORDS + 4 * N_AGES;

/// How a component is predicted from a reference of a certain age.
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

/// How a component is coded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ComponentModel {
    /// How far one part of the scale moves each dimension, in the dimension's scale.
    pub(crate) moves: [i16; FEATURE_DIMS],
    /// Scale class of a level in a key unit.
    pub(crate) key_class: u8,
    /// Scale class of a bend of a way of two, and of four, 25ths of a second.
    pub(crate) bend_classes: [u8; N_CHORDS],
    pub(crate) ages: [AgeModel; N_AGES],
}

/// One number of a feature: what it is at rest, and its unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DimModel {
    pub(crate) mean: f32,
    pub(crate) scale: f32,
}

/// One person's quantizer and predictor: what encoder and decoder must share, bit for bit.
///
/// Features are coded as *components*: combinations of their numbers that move independently of
/// each other and that all show equally in the picture. Made by [`Profile::from_features`] at
/// enrollment and kept in the public part of the face file. The default knows nobody: each number
/// is its own component, with steps of half a pixel in a picture of 512 for the pose of a head at
/// arm's length, a quarter for a code of unit size.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    dims: [DimModel; FEATURE_DIMS],
    components: Box<[ComponentModel; FEATURE_DIMS]>,
    /// Components that are coded: the first so many.
    n_coded: usize,
    /// Positions from a feature's distance to the mean.
    analysis: Box<Matrix>,
}

/// Why bytes or numbers are not a profile.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Made by another build, older or newer. Enroll again.
    #[error("codec profile version {found} is not {VERSION}, the one known here")]
    UnsupportedVersion { found: u8 },
    /// Cut short or not a profile.
    #[error("a codec profile has {want} bytes, got {got}")]
    Length { got: usize, want: usize },
    /// Damaged, or numbers that no person has.
    #[error("the codec profile has an impossible {what}")]
    Impossible { what: &'static str },
}

impl Profile {
    /// Bytes of a serialized profile.
    pub const BYTES: usize = HEADER_BYTES + FEATURE_DIMS * (DIM_BYTES + COMPONENT_BYTES);

    pub(crate) fn new(
        dims: &[DimModel; FEATURE_DIMS],
        components: Box<[ComponentModel; FEATURE_DIMS]>,
        n_coded: usize,
    ) -> Result<Self, ProfileError> {
        let bad = |what| Err(ProfileError::Impossible { what });
        if !(1..=FEATURE_DIMS).contains(&n_coded) {
            return bad("number of components");
        }
        for dim in dims {
            if !(-999.0..=999.0).contains(&dim.mean) {
                return bad("mean");
            }
            if !(1e-12..=1.0).contains(&dim.scale) {
                return bad("scale");
            }
        }
        // So that rest is a feature: `types::HeadPose`.
        if dims[DEPTH].mean < 0.02 {
            return bad("mean");
        }
        for component in &*components {
            let [short, long] = component.bend_classes;
            if i32::from(component.key_class.max(short).max(long)) >= N_CLASSES {
                return bad("scale class");
            }
            for age in &component.ages {
                if i32::from(age.class.max(age.still_class)) >= N_CLASSES {
                    return bad("scale class");
                }
                if i32::from(age.keep.max(age.go_on)) > WEIGHT_ONE {
                    return bad("weight");
                }
            }
        }
        let synthesis: Matrix = std::array::from_fn(|dim| {
            std::array::from_fn(|k| {
                f64::from(dims[dim].scale) * f64::from(components[k].moves[dim])
            })
        });
        match numerics::inverse(&synthesis) {
            Some(analysis) => {
                Ok(Self { dims: *dims, components, n_coded, analysis: Box::new(analysis) })
            }
            None => bad("set of components"),
        }
    }

    /// The components that are coded.
    pub(crate) fn components(&self) -> &[ComponentModel] {
        &self.components[..self.n_coded]
    }

    /// Numbers coded for a feature: combinations of all of its numbers that show.
    pub fn n_components(&self) -> usize {
        self.n_coded
    }

    /// The numbers at these positions: one rounding each, so alike on all machines.
    pub(crate) fn values(&self, positions: &[i32; FEATURE_DIMS]) -> [f32; FEATURE_DIMS] {
        std::array::from_fn(|dim| {
            let moved: i64 = self
                .components()
                .iter()
                .zip(positions)
                .map(|(component, at)| i64::from(component.moves[dim]) * i64::from(*at))
                .sum();
            // Below 2^41: exact as f64.
            let DimModel { mean, scale } = self.dims[dim];
            (f64::from(mean) + f64::from(scale) * moved as f64) as f32
        })
    }

    /// The positions nearest to these numbers.
    pub(crate) fn positions(&self, values: &[f32; FEATURE_DIMS]) -> [i32; FEATURE_DIMS] {
        let away: [f64; FEATURE_DIMS] =
            std::array::from_fn(|dim| f64::from(values[dim]) - f64::from(self.dims[dim].mean));
        std::array::from_fn(|k| {
            if k >= self.n_coded {
                return 0;
            }
            let position: f64 = self.analysis[k].iter().zip(&away).map(|(a, x)| a * x).sum();
            position.round().clamp(-f64::from(MAX_POSITION), f64::from(MAX_POSITION)) as i32
        })
    }

    /// The profile as docs/BITSTREAM.md lays it out, [`Profile::BYTES`] long.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.extend([VERSION, FEATURE_DIMS as u8, self.n_coded as u8]);
        for dim in &self.dims {
            bytes.extend(dim.mean.to_le_bytes());
            bytes.extend(dim.scale.to_le_bytes());
        }
        for component in &*self.components {
            bytes.extend(component.moves.iter().flat_map(|m| m.to_le_bytes()));
            bytes.push(component.key_class);
            bytes.extend(component.bend_classes);
            for age in &component.ages {
                bytes.extend([age.keep, age.go_on, age.class, age.still_class]);
            }
        }
        bytes
    }

    /// The inverse of [`Profile::to_bytes`]; trusts nothing.
    ///
    /// # Errors
    /// If the bytes are not exactly one profile of the known version with possible numbers.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProfileError> {
        match bytes.first() {
            Some(&VERSION) | None => {}
            Some(&found) => return Err(ProfileError::UnsupportedVersion { found }),
        }
        let wrong_length = ProfileError::Length { got: bytes.len(), want: Self::BYTES };
        if bytes.len() != Self::BYTES || usize::from(bytes[1]) != FEATURE_DIMS {
            return Err(wrong_length);
        }
        let n_coded = usize::from(bytes[2]);
        let (of_dims, of_components) = bytes[HEADER_BYTES..].split_at(FEATURE_DIMS * DIM_BYTES);
        let Self { mut dims, mut components, .. } = Self::default();
        for (dim, bytes) in dims.iter_mut().zip(of_dims.chunks_exact(DIM_BYTES)) {
            let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            *dim =
                DimModel { mean: f32::from_le_bytes(four(0)), scale: f32::from_le_bytes(four(4)) };
        }
        for (component, bytes) in
            components.iter_mut().zip(of_components.chunks_exact(COMPONENT_BYTES))
        {
            let (moves, models) = bytes.split_at(2 * FEATURE_DIMS);
            for (to, bytes) in component.moves.iter_mut().zip(moves.chunks_exact(2)) {
                *to = i16::from_le_bytes([bytes[0], bytes[1]]);
            }
            component.key_class = models[0];
            component.bend_classes = [models[1], models[2]];
            for (age, bytes) in component.ages.iter_mut().zip(models[3..].chunks_exact(4)) {
                let &[keep, go_on, class, still_class] = bytes else { return Err(wrong_length) };
                *age = AgeModel { keep, go_on, class, still_class };
            }
        }
        Self::new(&dims, components, n_coded)
    }
}

impl Default for Profile {
    fn default() -> Self {
        const ONE: i16 = 1 << 14;
        // Classes: four an octave, 28 is one level. A straight line keeps part of its promise.
        let ages = |class: u8| {
            [0, 3, 6, 9, 12, 16].map(|growth| AgeModel {
                keep: WEIGHT_ONE as u8,
                go_on: if growth == 0 { 8 } else { 4 },
                class: class + growth,
                still_class: class + growth + 2,
            })
        };
        let mut dims = [DimModel { mean: 0.0, scale: 0.0 }; FEATURE_DIMS];
        let rest = ComponentModel {
            moves: [0; FEATURE_DIMS],
            key_class: 0,
            bend_classes: [0; N_CHORDS],
            ages: ages(0),
        };
        let mut components = Box::new([rest; FEATURE_DIMS]);
        let pose = [0.004, 0.004, 0.003, 0.0003, 0.0003, 0.005];
        let torso = [0.004, 0.004, 0.001, 0.004, 0.004, 0.001];
        let steps = pose.into_iter().chain([0.25; LEARNED_DIMS]).chain(torso);
        for (i, step) in steps.enumerate() {
            dims[i].scale = step / (PARTS * i32::from(ONE)) as f32;
            let (key_class, class) = match i {
                0..POSE_DIMS => (48, 28),
                _ if i < POSE_DIMS + LEARNED_DIMS => (34, 25),
                _ => (34, 22),
            };
            components[i].moves[i] = ONE;
            components[i].key_class = key_class;
            components[i].bend_classes = [class - 4, class];
            components[i].ages = ages(class);
        }
        dims[DEPTH].mean = 1.1;
        Self::new(&dims, components, FEATURE_DIMS).expect("a diagonal of positive steps")
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
    fn positions_and_values_are_each_other_s_inverse() {
        let profile = Profile::default();
        let mut positions = [0; FEATURE_DIMS];
        for (i, position) in positions.iter_mut().enumerate() {
            *position = (i as i32 - 20) * 37;
        }
        assert_eq!(profile.positions(&profile.values(&positions)), positions);
    }

    #[test]
    fn no_impossible_profile_gets_in() {
        let good = Profile::default().to_bytes();
        let with = |at: usize, new: &[u8]| {
            let mut bytes = good.clone();
            bytes[at..at + new.len()].copy_from_slice(new);
            Profile::parse(&bytes)
        };
        let impossible = |what| Err(ProfileError::Impossible { what });
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e30, 1e-38] {
            assert_eq!(with(7, &scale.to_le_bytes()), impossible("scale"), "{scale}");
        }
        for mean in [1000.0, f32::NAN, f32::NEG_INFINITY] {
            assert_eq!(with(3, &mean.to_le_bytes()), impossible("mean"));
        }
        let component = HEADER_BYTES + FEATURE_DIMS * DIM_BYTES;
        let model = component + 2 * FEATURE_DIMS;
        assert_eq!(with(component, &[0, 0]), impossible("set of components"));
        assert_eq!(with(model, &[84]), impossible("scale class"));
        assert_eq!(with(model + 1, &[84]), impossible("scale class"));
        assert_eq!(with(model + 3, &[17]), impossible("weight"));
        assert_eq!(with(2, &[37]), impossible("number of components"));
        for found in [1, 9] {
            assert_eq!(with(0, &[found]), Err(ProfileError::UnsupportedVersion { found }));
        }
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
