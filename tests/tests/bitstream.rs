//! Are the bytes still the bytes? The vectors are those of docs/BITSTREAM.md.
//!
//! If one fails, the wire format changed: fix the code, or add a version beside this one. Never
//! edit a vector.

use codec::{AccessUnit, DecodeError, Decoder, Encoder, Profile, Quality, Reference, UnitId};
use hex_literal::hex;
use types::{FEATURE_DIMS, Feature, MediaTime};

/// Which dimension is the head's distance.
const DEPTH: usize = 5;

/// The profile of docs/BITSTREAM.md, "Test vectors".
fn profile() -> Profile {
    let mut bytes = vec![4, 36, 35];
    for dim in 0..FEATURE_DIMS {
        bytes.extend(if dim == DEPTH { 1.0_f32 } else { 0.0 }.to_le_bytes());
        bytes.extend((1.0_f32 / 1024.0).to_le_bytes());
    }
    for component in 0..FEATURE_DIMS {
        for dim in 0..FEATURE_DIMS {
            // Each moves its own number, and the first the second's a little as well.
            let moves: i16 = match (component, dim) {
                (c, d) if c == d => 16,
                (0, 1) => 4,
                _ => 0,
            };
            bytes.extend(moves.to_le_bytes());
        }
        bytes.extend([32, 22, 26]);
        for age in 0..6 {
            bytes.extend([16, 8, 22 + 2 * age, 24 + 2 * age]);
        }
    }
    Profile::parse(&bytes).unwrap()
}

/// Positions of components, in parts, 0 where none is given.
type Positions = &'static [(usize, i16)];

/// The feature at these positions.
fn feature(positions: Positions, time: MediaTime) -> Feature {
    let mut values = [0.0; FEATURE_DIMS];
    values[DEPTH] = 1.0;
    for &(component, position) in positions {
        values[component] += f32::from(position) / 64.0;
        values[1] += if component == 0 { f32::from(position) / 256.0 } else { 0.0 };
    }
    Feature::from_array(time, &values).unwrap()
}

/// A unit: what the encoder was given at the quarters of the way and at the end, and what the unit
/// says of them; what costs more than it shows is left out.
struct Vector {
    quality: Quality,
    given: [Option<Positions>; 4],
    bytes: &'static [u8],
    told: [Option<Positions>; 4],
}

/// Key unit; delta without and with known motion; the others of ages 2 and 3, nothing newer
/// acknowledged. The ways of two of them bend, up and down, and once so far that it takes an escape.
const VECTORS: [Vector; 5] = [
    Vector {
        quality: Quality::Normal,
        given: [
            None,
            None,
            None,
            Some(&[(0, 16), (1, -32), (5, 48), (6, -48), (7, 3200), (34, 16)]),
        ],
        bytes: &hex!("0180a104285ba7c9e7f5321a"),
        told: [
            None,
            None,
            None,
            Some(&[(0, 16), (1, -32), (5, 48), (6, -48), (7, 3200), (34, 16)]),
        ],
    },
    Vector {
        quality: Quality::Normal,
        given: [
            None,
            Some(&[(0, 24), (1, -32), (2, 128), (3, -97), (5, 56), (6, -57), (7, 3232), (34, 16)]),
            None,
            Some(&[(0, 32), (1, -32), (5, 64), (6, -65), (7, 3264), (34, 16)]),
        ],
        bytes: &hex!("080564168a4f28fa31e3"),
        told: [
            None,
            Some(&[(0, 24), (1, -32), (2, 128), (3, -96), (5, 56), (6, -56), (7, 3232), (34, 16)]),
            None,
            Some(&[(0, 32), (1, -32), (5, 64), (6, -64), (7, 3264), (34, 16)]),
        ],
    },
    Vector {
        quality: Quality::High,
        given: [
            None,
            None,
            None,
            Some(&[(0, 48), (1, -32), (5, 64), (6, -80), (7, 2400), (34, 48)]),
        ],
        bytes: &hex!("af94f55b105f3ce1c332"),
        told: [
            None,
            None,
            None,
            Some(&[(0, 48), (1, -32), (5, 68), (6, -80), (7, 2398), (34, 46)]),
        ],
    },
    Vector {
        quality: Quality::High,
        given: [
            None,
            None,
            None,
            Some(&[(0, 48), (1, -32), (5, 80), (6, -96), (7, 2400), (34, 16)]),
        ],
        bytes: &hex!("d37dcbce626c9b87f67f"),
        told: [
            None,
            None,
            None,
            Some(&[(0, 46), (1, -32), (5, 78), (6, -96), (7, 2402), (34, 16)]),
        ],
    },
    Vector {
        quality: Quality::Low,
        given: [
            Some(&[(0, 48), (2, 156), (3, -160), (5, 80), (6, -96), (7, 2400)]),
            Some(&[(0, 48), (2, 312), (3, -320), (5, 80), (6, -96), (7, 2400), (8, 3000)]),
            Some(&[(0, 48), (2, 312), (3, -160), (5, 80), (6, -96), (7, 2400)]),
            Some(&[(0, 52), (1, -31), (5, 80), (6, -96), (7, 2400), (34, 16)]),
        ],
        bytes: &hex!("e231b307c128dc8c2e1f16fb4b87715c9e60fa48af5f2387f17e"),
        told: [
            Some(&[(0, 48), (1, -6), (2, 156), (3, -156), (5, 80), (6, -94), (7, 2399), (34, 16)]),
            Some(&[
                (0, 50),
                (1, 20),
                (2, 312),
                (3, -312),
                (5, 82),
                (6, -91),
                (7, 2396),
                (8, 3016),
                (34, 16),
            ]),
            Some(&[(0, 52), (1, -6), (2, 312), (3, -156), (5, 84), (6, -89), (7, 2393), (34, 16)]),
            Some(&[(0, 54), (1, -32), (5, 86), (6, -86), (7, 2390), (34, 16)]),
        ],
    },
];

/// When the frame of unit `i` was captured, and those at the quarters of the way there.
fn times(i: usize) -> [MediaTime; 4] {
    [3, 2, 1, 0].map(|quarters| MediaTime::of_frame((4 * i as u64).saturating_sub(quarters), 25))
}

/// The features at these positions of unit `i`'s way and end, in order.
fn features(i: usize, positions: &[Option<Positions>; 4]) -> Vec<Feature> {
    let known = positions.iter().zip(times(i));
    known.filter_map(|(positions, time)| Some(feature((*positions)?, time))).collect()
}

fn unit(i: usize) -> (UnitId, AccessUnit) {
    (UnitId::from_count(i as u32), AccessUnit::parse(VECTORS[i].bytes).unwrap())
}

#[test]
fn v3_units_have_exactly_these_bytes() {
    let mut encoder = Encoder::new(profile());
    for (i, Vector { quality, given, bytes, .. }) in VECTORS.iter().enumerate() {
        encoder.set_quality(*quality);
        let mut features = features(i, given);
        let end = features.pop().unwrap();
        for feature in features {
            encoder.push_between(&feature);
        }
        let unit = encoder.encode(&end);
        assert_eq!(unit.as_bytes(), *bytes, "unit {i}: {:02x?}", unit.as_bytes());
        if i < 2 {
            encoder.acknowledge(UnitId::from_count(i as u32));
        }
    }
}

#[test]
fn v3_units_have_exactly_these_numbers() {
    let mut decoder = Decoder::new(profile());
    for (i, Vector { quality, told: want, .. }) in VECTORS.iter().enumerate() {
        let (id, unit) = unit(i);
        let decoded = decoder.decode(id, &unit).unwrap();
        let [.., end] = times(i);
        let before = times(i.saturating_sub(1))[3];
        let told: Vec<Feature> = decoded.since(Some(before), end).collect();
        assert_eq!(told, features(i, want), "unit {i}");
        assert_eq!((decoded.id, decoded.is_key, decoded.quality), (id, i == 0, *quality));
    }
}

#[test]
fn a_delta_unit_whose_motion_is_unknown_names_what_it_lacks() {
    let mut decoder = Decoder::new(profile());
    for i in [1, 2] {
        let (id, unit) = unit(i);
        let missing = DecodeError::MissingReference { id, reference: UnitId::default() };
        assert_eq!(decoder.decode(id, &unit), Err(missing));
    }
}

#[test]
fn a_profile_of_another_version_is_refused_by_its_number() {
    let mut bytes = profile().to_bytes();
    bytes[0] = 1;
    let refusal = Profile::parse(&bytes).unwrap_err().to_string();
    assert_eq!(refusal, "codec profile version 1 is not 3, the one known here");
}

/// Rate is a test too, because it is deterministic.
#[test]
fn a_still_face_costs_a_byte_a_unit() {
    let mut encoder = Encoder::with_reference(profile(), Reference::Previous);
    let still = feature(&[(0, 16), (6, 32)], MediaTime::ZERO);
    let sizes: Vec<usize> = (0..24).map(|_| encoder.encode(&still).as_bytes().len()).collect();
    assert!(sizes[10..].iter().all(|&size| size == 1), "{sizes:?}");
}
