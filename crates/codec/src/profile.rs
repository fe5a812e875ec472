use types::{FEATURE_DIMS, LEARNED_DIMS, POSE_DIMS};

use crate::entropy_model::N_CLASSES;

/// Square matrix over the numbers of a feature.
pub(crate) type FeatureMatrix = numerics::SquareMatrix<FEATURE_DIMS>;

/// Version of the bitstream, and first byte of a profile.
const VERSION: u8 = 4;
/// Largest magnitude of a position, in parts from the mean.
pub(crate) const MAX_POSITION: i32 = (1 << 20) - 1;
/// Parts per unit of a component's scale. Positions and steps are counted in parts.
pub(crate) const PARTS: i32 = 16;
/// Number of age models, one per range of the time to the reference: 1, 2, 3-4, 5-8, 9-16 and more
/// 25ths of a second.
pub(crate) const N_AGES: usize = 6;
/// Number of scale classes for midpoints: neighbors two 25ths of a second apart, and four.
pub(crate) const N_MIDPOINT_SPANS: usize = 2;
/// Denominator of the weights of an [`AgeModel`].
pub(crate) const WEIGHT_ONE: i32 = 16;
/// Index of the head's distance from the camera in a feature.
const DEPTH: usize = POSE_DIMS - 1;
/// Version, number of dimensions, number of coded components.
const HEADER_BYTES: usize = 3;
/// Bytes of one dimension: mean and scale.
const DIM_BYTES: usize = 4 + 4;
/// Bytes of one component: its direction, scale classes of key units and midpoints, age models.
const COMPONENT_BYTES: usize = 2 * FEATURE_DIMS + 1 + N_MIDPOINT_SPANS + 4 * N_AGES;

/// Predictor of a component for one range of ages of the reference.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct AgeModel {
    /// Weight of the reference's position, in 1/16.
    pub(crate) position_weight: u8,
    /// Weight of the linearly extrapolated motion up to the reference, in 1/16.
    pub(crate) motion_weight: u8,
    /// Scale class of the residual.
    pub(crate) class: u8,
    /// Scale class of the residual when there is no motion reference.
    pub(crate) static_class: u8,
}

/// Direction and statistics of a component.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ComponentModel {
    /// Change of each dimension per part, in units of the dimension's scale.
    pub(crate) direction: [i16; FEATURE_DIMS],
    /// Scale class of the residual in a key unit.
    pub(crate) key_class: u8,
    /// Scale classes of midpoint residuals: neighbors two 25ths of a second apart, and four.
    pub(crate) midpoint_classes: [u8; N_MIDPOINT_SPANS],
    /// By range of the time to the reference.
    pub(crate) ages: [AgeModel; N_AGES],
}

/// Mean and scale of one number of a feature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DimModel {
    pub(crate) mean: f32,
    pub(crate) scale: f32,
}

/// Codec profile: transform, predictor and entropy statistics of one person.
///
/// Encoder and decoder must use the same profile, bit for bit. Features are coded as *components*:
/// linear combinations of their numbers that move independently and whose quantization errors are
/// equally visible. [`Profile::from_features`] fits a profile at enrollment; the public part of the
/// face file contains it. The default profile fits nobody in particular: each number is its own
/// component, with scales of about half a pixel in a 512-pixel picture for the pose and the torso,
/// and a quarter for the learned part of the code.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    dims: [DimModel; FEATURE_DIMS],
    components: Box<[ComponentModel; FEATURE_DIMS]>,
    /// Number of components that are coded, from the first.
    n_coded: usize,
    /// Matrix from deviations from the mean to positions.
    analysis: Box<FeatureMatrix>,
}

/// Why bytes or numbers are not a profile.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Another version of the format. Enroll again.
    #[error("codec profile version {found} is not supported: this build reads version {VERSION}")]
    UnsupportedVersion { found: u8 },
    /// Truncated, or not a profile.
    #[error("a codec profile has {want} bytes, found {got}")]
    Length { got: usize, want: usize },
    /// A damaged field, or features that give no usable profile.
    #[error("the codec profile has an invalid {what}")]
    Invalid { what: &'static str },
}

impl Profile {
    /// Size of a serialized profile, in bytes.
    pub const BYTES: usize = HEADER_BYTES + FEATURE_DIMS * (DIM_BYTES + COMPONENT_BYTES);

    pub(crate) fn new(
        dims: &[DimModel; FEATURE_DIMS],
        components: Box<[ComponentModel; FEATURE_DIMS]>,
        n_coded: usize,
    ) -> Result<Self, ProfileError> {
        let bad = |what| Err(ProfileError::Invalid { what });
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
        // The mean must be a possible `HeadPose`.
        if dims[DEPTH].mean < 0.02 {
            return bad("mean");
        }
        for component in &*components {
            let [short, long] = component.midpoint_classes;
            if i32::from(component.key_class.max(short).max(long)) >= N_CLASSES {
                return bad("scale class");
            }
            for age in &component.ages {
                if i32::from(age.class.max(age.static_class)) >= N_CLASSES {
                    return bad("scale class");
                }
                if i32::from(age.position_weight.max(age.motion_weight)) > WEIGHT_ONE {
                    return bad("weight");
                }
            }
        }
        let synthesis: FeatureMatrix = std::array::from_fn(|dim| {
            std::array::from_fn(|k| {
                f64::from(dims[dim].scale) * f64::from(components[k].direction[dim])
            })
        });
        match numerics::inverse(&synthesis) {
            Some(analysis) => {
                Ok(Self { dims: *dims, components, n_coded, analysis: Box::new(analysis) })
            }
            None => bad("set of components"),
        }
    }

    /// Returns the coded components.
    pub(crate) fn components(&self) -> &[ComponentModel] {
        &self.components[..self.n_coded]
    }

    /// Returns the number of coded components, 1 to [`FEATURE_DIMS`].
    pub fn n_components(&self) -> usize {
        self.n_coded
    }

    /// Converts positions to the numbers of a feature. Exact up to one rounding each, so equal on
    /// all machines.
    pub(crate) fn values(&self, positions: &[i32; FEATURE_DIMS]) -> [f32; FEATURE_DIMS] {
        std::array::from_fn(|dim| {
            let change: i64 = self
                .components()
                .iter()
                .zip(positions)
                .map(|(component, at)| i64::from(component.direction[dim]) * i64::from(*at))
                .sum();
            // Below 2^41: exact as f64.
            let DimModel { mean, scale } = self.dims[dim];
            (f64::from(mean) + f64::from(scale) * change as f64) as f32
        })
    }

    /// Converts the numbers of a feature to the nearest positions.
    pub(crate) fn positions(&self, values: &[f32; FEATURE_DIMS]) -> [i32; FEATURE_DIMS] {
        let deviation: [f64; FEATURE_DIMS] =
            std::array::from_fn(|dim| f64::from(values[dim]) - f64::from(self.dims[dim].mean));
        std::array::from_fn(|k| {
            if k >= self.n_coded {
                return 0;
            }
            let position: f64 = self.analysis[k].iter().zip(&deviation).map(|(a, x)| a * x).sum();
            position.round().clamp(-f64::from(MAX_POSITION), f64::from(MAX_POSITION)) as i32
        })
    }

    /// Serializes the profile to [`Profile::BYTES`] bytes, as specified in docs/BITSTREAM.md.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.extend([VERSION, FEATURE_DIMS as u8, self.n_coded as u8]);
        for dim in &self.dims {
            bytes.extend(dim.mean.to_le_bytes());
            bytes.extend(dim.scale.to_le_bytes());
        }
        for component in &*self.components {
            bytes.extend(component.direction.iter().flat_map(|m| m.to_le_bytes()));
            bytes.push(component.key_class);
            bytes.extend(component.midpoint_classes);
            for age in &component.ages {
                bytes.extend([age.position_weight, age.motion_weight, age.class, age.static_class]);
            }
        }
        bytes
    }

    /// Parses a serialized profile; the inverse of [`Profile::to_bytes`].
    ///
    /// # Errors
    /// If the bytes are not one profile of the supported version with valid fields.
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
            let (direction, models) = bytes.split_at(2 * FEATURE_DIMS);
            for (to, bytes) in component.direction.iter_mut().zip(direction.chunks_exact(2)) {
                *to = i16::from_le_bytes([bytes[0], bytes[1]]);
            }
            component.key_class = models[0];
            component.midpoint_classes = [models[1], models[2]];
            for (age, bytes) in component.ages.iter_mut().zip(models[3..].chunks_exact(4)) {
                let &[position_weight, motion_weight, class, static_class] = bytes else {
                    return Err(wrong_length);
                };
                *age = AgeModel { position_weight, motion_weight, class, static_class };
            }
        }
        Self::new(&dims, components, n_coded)
    }
}

impl Default for Profile {
    fn default() -> Self {
        const ONE: i16 = 1 << 14;
        // Four classes per octave; 28 is one level. Motion is extrapolated by half or less.
        let ages = |class: u8| {
            [0, 3, 6, 9, 12, 16].map(|growth| AgeModel {
                position_weight: WEIGHT_ONE as u8,
                motion_weight: if growth == 0 { 8 } else { 4 },
                class: class + growth,
                static_class: class + growth + 2,
            })
        };
        let mut dims = [DimModel { mean: 0.0, scale: 0.0 }; FEATURE_DIMS];
        let rest = ComponentModel {
            direction: [0; FEATURE_DIMS],
            key_class: 0,
            midpoint_classes: [0; N_MIDPOINT_SPANS],
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
            components[i].direction[i] = ONE;
            components[i].key_class = key_class;
            components[i].midpoint_classes = [class - 4, class];
            components[i].ages = ages(class);
        }
        dims[DEPTH].mean = 1.1;
        Self::new(&dims, components, FEATURE_DIMS)
            .expect("a diagonal matrix of positive scales is invertible")
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
    fn positions_survive_their_values() {
        let profile = Profile::default();
        let mut positions = [0; FEATURE_DIMS];
        for (i, position) in positions.iter_mut().enumerate() {
            *position = (i as i32 - 20) * 37;
        }
        assert_eq!(profile.positions(&profile.values(&positions)), positions);
    }

    #[test]
    fn an_invalid_profile_is_refused() {
        let good = Profile::default().to_bytes();
        let with = |at: usize, new: &[u8]| {
            let mut bytes = good.clone();
            bytes[at..at + new.len()].copy_from_slice(new);
            Profile::parse(&bytes)
        };
        let invalid = |what| Err(ProfileError::Invalid { what });
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e30, 1e-38] {
            assert_eq!(with(7, &scale.to_le_bytes()), invalid("scale"), "{scale}");
        }
        for mean in [1000.0, f32::NAN, f32::NEG_INFINITY] {
            assert_eq!(with(3, &mean.to_le_bytes()), invalid("mean"));
        }
        let component = HEADER_BYTES + FEATURE_DIMS * DIM_BYTES;
        let model = component + 2 * FEATURE_DIMS;
        assert_eq!(with(component, &[0, 0]), invalid("set of components"));
        assert_eq!(with(model, &[84]), invalid("scale class"));
        assert_eq!(with(model + 1, &[84]), invalid("scale class"));
        assert_eq!(with(model + 3, &[17]), invalid("weight"));
        assert_eq!(with(2, &[37]), invalid("number of components"));
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
