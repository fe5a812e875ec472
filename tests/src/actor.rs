//! Real features: half a minute of the actor, as the tracker of the built-in face sees it.

use codec::Profile;
use types::{FEATURE_DIMS, Feature, MediaTime};

const FEATURES: &[u8] = include_bytes!("../fixtures/actor/features.bin");
const PROFILE: &[u8] = include_bytes!("../fixtures/actor/profile.bin");

/// Returns the features of 750 consecutive frames, 25 per second.
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
            let values = values.try_into().expect("a chunk has one number for each dimension");
            Feature::from_array(MediaTime::of_frame(i, 25), values)
                .expect("the fixture holds plausible features")
        })
        .collect()
}

/// Returns the codec profile that was fitted when the face was enrolled.
///
/// # Panics
/// If the fixture is damaged.
pub fn profile() -> Profile {
    Profile::parse(PROFILE).expect("the fixture holds a profile")
}
