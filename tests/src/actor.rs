//! Real features: what the built-in face's tracker sees in half a minute of the actor.

use codec::Profile;
use types::{FEATURE_DIMS, Feature, MediaTime};

const FEATURES: &[u8] = include_bytes!("../fixtures/actor/features.bin");
const PROFILE: &[u8] = include_bytes!("../fixtures/actor/profile.bin");

/// Features of consecutive frames, 25 a second.
///
/// # Panics
/// If the fixture is damaged.
pub fn features() -> Vec<Feature> {
    let numbers: Vec<f32> = FEATURES
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
        .collect();
    numbers
        .chunks_exact(FEATURE_DIMS)
        .zip(0..)
        .map(|(values, i)| {
            let values = values.try_into().expect("as many numbers as a feature has");
            Feature::from_array(MediaTime::of_frame(i, 25), values).expect("numbers of a face")
        })
        .collect()
}

/// How the features are coded: the profile that was learned with the face.
///
/// # Panics
/// If the fixture is damaged.
pub fn profile() -> Profile {
    Profile::parse(PROFILE).expect("the profile of a face")
}
