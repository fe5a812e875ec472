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
    let mut bytes = vec![2, 36, 35];
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
        bytes.push(32);
        for age in 0..6 {
            bytes.extend([16, 8, 22 + 2 * age, 24 + 2 * age]);
        }
    }
    Profile::parse(&bytes).unwrap()
}

/// The feature at these positions of the components, in parts, zero where none is given.
fn feature(positions: &[(usize, i16)]) -> Feature {
    let mut values = [0.0; FEATURE_DIMS];
    values[DEPTH] = 1.0;
    for &(component, position) in positions {
        values[component] += f32::from(position) / 64.0;
        values[1] += if component == 0 { f32::from(position) / 256.0 } else { 0.0 };
    }
    Feature::from_array(MediaTime::ZERO, &values).unwrap()
}

/// A unit, and the positions that it says.
type Vector = (Quality, &'static [u8], &'static [(usize, i16)]);

/// Key unit; delta without and with known motion; the last of age 2, nothing newer acknowledged.
const VECTORS: [Vector; 4] = [
    (
        Quality::Normal,
        &hex!("0180a104285ba7c9e7f5321a"),
        &[(0, 16), (1, -32), (5, 48), (6, -48), (7, 3200), (34, 16)],
    ),
    (
        Quality::Normal,
        &hex!("078c3cf682de"),
        &[(0, 32), (1, -32), (5, 64), (6, -64), (7, 3264), (34, 16)],
    ),
    (
        Quality::High,
        &hex!("af7495a854a3b73145"),
        &[(0, 44), (1, -32), (5, 68), (6, -76), (7, 2400), (34, 48)],
    ),
    (
        Quality::High,
        &hex!("d37fb42c99486b3f474d"),
        &[(0, 48), (1, -32), (5, 80), (6, -96), (7, 2400), (34, 16)],
    ),
];

/// What the encoder was given for the third: it left out what costs more than it shows.
const THIRD: &[(usize, i16)] = &[(0, 48), (1, -32), (5, 64), (6, -80), (7, 2400), (34, 48)];

fn unit(i: usize) -> (UnitId, AccessUnit) {
    (UnitId::from_count(i as u32), AccessUnit::parse(VECTORS[i].1).unwrap())
}

#[test]
fn v2_units_have_exactly_these_bytes() {
    let mut encoder = Encoder::new(profile());
    for (i, (quality, bytes, positions)) in VECTORS.iter().enumerate() {
        encoder.set_quality(*quality);
        let unit = encoder.encode(&feature(if i == 2 { THIRD } else { positions }));
        assert_eq!(unit.as_bytes(), *bytes, "unit {i}: {:02x?}", unit.as_bytes());
        if i < 2 {
            encoder.acknowledge(UnitId::from_count(i as u32));
        }
    }
}

#[test]
fn v2_units_have_exactly_these_numbers() {
    let mut decoder = Decoder::new(profile());
    for (i, (quality, _, positions)) in VECTORS.iter().enumerate() {
        let (id, unit) = unit(i);
        let decoded = decoder.decode(id, &unit).unwrap();
        assert_eq!(decoded.at(MediaTime::ZERO), feature(positions), "unit {i}");
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
    assert_eq!(refusal, "codec profile version 1 is not 2, the one known here");
}

/// Rate is a test too, because it is deterministic.
#[test]
fn a_still_face_costs_a_byte_a_unit() {
    let mut encoder = Encoder::with_reference(profile(), Reference::Previous);
    let still = feature(&[(0, 16), (6, 32)]);
    let sizes: Vec<usize> = (0..24).map(|_| encoder.encode(&still).as_bytes().len()).collect();
    assert!(sizes[10..].iter().all(|&size| size == 1), "{sizes:?}");
}
