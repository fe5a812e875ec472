//! Are the bytes still the bytes? The vectors are those of docs/BITSTREAM.md.
//!
//! If one fails, the wire format changed: fix the code, or add a version beside this one. Never
//! edit a vector.

use codec::{AccessUnit, DecodeError, Decoded, Decoder, Encoder, Profile, Reference, UnitId};
use hex_literal::hex;
use types::{FEATURE_DIMS, Feature, MediaTime};

/// Which dimension is the head's distance.
const DEPTH: usize = 5;

/// The profile of docs/BITSTREAM.md, "Test vectors".
fn profile() -> Profile {
    let mut bytes = vec![1, 36];
    for dim in 0..FEATURE_DIMS {
        let (step, mean) = if dim == DEPTH { (1.0_f32 / 128.0, 128_i32) } else { (0.25, 0) };
        bytes.extend(step.to_le_bytes());
        bytes.extend(mean.to_le_bytes());
        bytes.push(20);
        for age in 0..8 {
            bytes.extend([16, 8, 10 + 2 * age, 12 + 2 * age]);
        }
    }
    Profile::parse(&bytes).unwrap()
}

/// The feature with these levels over the mean, zero where none is given.
fn feature(levels: &[(usize, i32)]) -> Feature {
    let mut values = [0.0; FEATURE_DIMS];
    values[DEPTH] = 1.0;
    for &(dim, level) in levels {
        let level = level as f32;
        values[dim] = if dim == DEPTH { 1.0 + level / 128.0 } else { level * 0.25 };
    }
    Feature::from_array(MediaTime::ZERO, &values).unwrap()
}

/// Key unit; delta without and with known motion; the last of age 2, nothing newer acknowledged.
const VECTORS: [(&[u8], &[(usize, i32)]); 4] = [
    (
        &hex!("00" "00408392b8ac2d3343d717e1"),
        &[(0, 1), (1, -2), (5, 3), (6, -3), (7, 200), (35, 1)],
    ),
    (&hex!("01" "00eeb6deaddd"), &[(0, 2), (1, -2), (5, 4), (6, -4), (7, 204), (35, 1)]),
    (&hex!("02" "031e35fb1e569e05"), &[(0, 3), (1, -2), (5, 4), (6, -5), (7, 150), (34, 1)]),
    (&hex!("03" "07ec510205dc9859"), &[(0, 3), (1, -2), (5, 5), (6, -6), (7, 150), (34, 1)]),
];

#[test]
fn v1_units_have_exactly_these_bytes() {
    let mut encoder = Encoder::new(profile());
    for (i, (bytes, levels)) in VECTORS.iter().enumerate() {
        let unit = encoder.encode(&feature(levels));
        assert_eq!(unit.as_bytes(), *bytes, "unit {i}");
        if i < 2 {
            encoder.acknowledge(UnitId::from_count(i as u32));
        }
    }
}

#[test]
fn v1_units_have_exactly_these_numbers() {
    let mut decoder = Decoder::new(profile());
    for (i, (bytes, levels)) in VECTORS.iter().enumerate() {
        let unit = AccessUnit::parse(bytes).unwrap();
        let decoded = decoder.decode(&unit).unwrap();
        assert_eq!(decoded.at(MediaTime::ZERO), feature(levels), "unit {i}");
        let (id, is_key) = (UnitId::from_count(i as u32), i == 0);
        assert!(matches!(decoded, Decoded { id: i, is_key: k, .. } if (i, k) == (id, is_key)));
    }
}

#[test]
fn a_delta_unit_whose_motion_is_unknown_names_what_it_lacks() {
    let mut decoder = Decoder::new(profile());
    let [_, second, third, _] = VECTORS.map(|(bytes, _)| AccessUnit::parse(bytes).unwrap());
    let missing = |id: u32, reference: u32| DecodeError::MissingReference {
        id: UnitId::from_count(id),
        reference: UnitId::from_count(reference),
    };
    assert_eq!(decoder.decode(&second), Err(missing(1, 0)));
    assert_eq!(decoder.decode(&third), Err(missing(2, 0)));
}

/// Rate is a test too, because it is deterministic.
#[test]
fn a_still_face_costs_four_bytes_a_unit_at_most() {
    let mut encoder = Encoder::with_reference(profile(), Reference::Previous);
    let still = feature(&[(0, 1), (6, 2)]);
    let sizes: Vec<usize> = (0..25).map(|_| encoder.encode(&still).as_bytes().len()).collect();
    assert!(sizes[10..].iter().all(|&size| size <= 4), "{sizes:?}");
}
