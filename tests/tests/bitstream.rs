//! The test vectors of docs/BITSTREAM.md.
//!
//! If one fails, the format has changed: fix the code, or add a version with its own vectors.

use codec::{AccessUnit, DecodeError, Decoder, EncodedUnit, Encoder, Profile, Reference, Stream};
use hex_literal::hex;
use types::{FEATURE_DIMS, Feature, MediaTime, Rate, UnitNumber};

/// Index of the head's distance in a feature.
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
            // Each component changes its own number; the first also changes the second.
            let change: i16 = match (component, dim) {
                (c, d) if c == d => 16,
                (0, 1) => 4,
                _ => 0,
            };
            bytes.extend(change.to_le_bytes());
        }
        bytes.extend([32, 22, 26]);
        for age in 0..6 {
            bytes.extend([16, 8, 22 + 2 * age, 24 + 2 * age]);
        }
    }
    Profile::parse(&bytes).unwrap()
}

/// Positions of components, in parts; those not listed are 0.
type Positions = &'static [(usize, i16)];

/// Returns the feature at these positions.
fn feature(positions: Positions, time: MediaTime) -> Feature {
    let mut values = [0.0; FEATURE_DIMS];
    values[DEPTH] = 1.0;
    for &(component, position) in positions {
        values[component] += f32::from(position) / 64.0;
        values[1] += if component == 0 { f32::from(position) / 256.0 } else { 0.0 };
    }
    Feature::from_array(time, &values).unwrap()
}

/// An access unit, what it was encoded from, and what it decodes to.
struct Vector {
    rate: Rate,
    /// The features pushed into the encoder, at the quarters of the interval since the last unit.
    pushed: [Option<Positions>; 4],
    bytes: &'static [u8],
    /// The frames of the features that the unit carries, and their positions.
    carried: &'static [(u64, Positions)],
}

/// A key unit, a delta unit without and three with a motion reference, at ages 1 to 3. Two code
/// midpoint residuals, one of them with an escape.
const VECTORS: [Vector; 5] = [
    Vector {
        rate: Rate::Normal,
        pushed: [
            None,
            None,
            None,
            Some(&[(0, 16), (1, -32), (5, 48), (6, -48), (7, 3200), (34, 16)]),
        ],
        bytes: &hex!("0199ae347aececa9474051c7"),
        carried: &[(0, &[(0, 22), (1, -22), (5, 44), (6, -55), (7, 3190), (34, 22)])],
    },
    Vector {
        rate: Rate::Normal,
        pushed: [
            None,
            Some(&[(0, 24), (1, -32), (2, 128), (3, -97), (5, 56), (6, -57), (7, 3232), (34, 16)]),
            None,
            Some(&[(0, 32), (1, -32), (5, 64), (6, -65), (7, 3264), (34, 16)]),
        ],
        bytes: &hex!("07cf99964c677c6aeb211d"),
        carried: &[
            (0, &[(0, 22), (1, -24), (3, -2), (5, 46), (6, -55), (7, 3192), (34, 22)]),
            (2, &[(0, 22), (1, -34), (2, 128), (3, -103), (5, 50), (6, -55), (7, 3224), (34, 22)]),
            (4, &[(0, 22), (1, -44), (3, -11), (5, 55), (6, -55), (7, 3256), (34, 22)]),
        ],
    },
    Vector {
        rate: Rate::High,
        pushed: [
            None,
            None,
            None,
            Some(&[(0, 48), (1, -32), (5, 64), (6, -80), (7, 2400), (34, 48)]),
        ],
        bytes: &hex!("afac2798d3452c618cf362babc"),
        carried: &[
            (4, &[(0, 23), (1, -43), (3, -10), (5, 56), (6, -56), (7, 3255), (34, 23)]),
            (8, &[(0, 52), (1, -29), (3, 1), (5, 68), (6, -80), (7, 2403), (34, 52)]),
        ],
    },
    Vector {
        rate: Rate::High,
        pushed: [
            None,
            None,
            None,
            Some(&[(0, 48), (1, -32), (5, 80), (6, -96), (7, 2400), (34, 16)]),
        ],
        bytes: &hex!("d3868d1aaa2ce6d46ffc80b4"),
        carried: &[
            (8, &[(0, 51), (1, -30), (5, 69), (6, -81), (7, 2402), (34, 51)]),
            (12, &[(0, 42), (1, -35), (3, -6), (5, 76), (6, -90), (7, 2399), (34, 12)]),
        ],
    },
    Vector {
        rate: Rate::Low,
        pushed: [
            Some(&[(0, 48), (2, 156), (3, -160), (5, 80), (6, -96), (7, 2400)]),
            Some(&[(0, 48), (2, 312), (3, -320), (5, 80), (6, -96), (7, 2400), (8, 3000)]),
            Some(&[(0, 48), (2, 312), (3, -160), (5, 80), (6, -96), (7, 2400)]),
            Some(&[(0, 52), (1, -31), (5, 80), (6, -96), (7, 2400), (34, 16)]),
        ],
        bytes: &hex!("e23cbd5bce4f85e210f08062c3b0740bbcb3fae510281662576c43fec0"),
        carried: &[
            (12, &[(0, 39), (1, -38), (3, -9), (5, 79), (6, -93), (7, 2398), (34, 15)]),
            (13, &[(0, 34), (1, -14), (2, 156), (3, -166), (5, 81), (6, -96), (7, 2398), (34, 16)]),
            (
                14,
                &[
                    (0, 30),
                    (1, 10),
                    (2, 312),
                    (3, -323),
                    (5, 83),
                    (6, -98),
                    (7, 2398),
                    (8, 3016),
                    (34, 18),
                ],
            ),
            (
                15,
                &[(0, 26), (1, -18), (2, 312), (3, -168), (5, 85), (6, -101), (7, 2398), (34, 20)],
            ),
            (16, &[(0, 22), (1, -46), (3, -12), (5, 88), (6, -103), (7, 2398), (34, 22)]),
        ],
    },
];

/// Returns the capture times at the quarters of the interval before unit `i`; the last is its own.
fn times(i: usize) -> [MediaTime; 4] {
    [3, 2, 1, 0].map(|quarters| MediaTime::of_frame((4 * i as u64).saturating_sub(quarters), 25))
}

/// Returns the features at these positions at the times of unit `i`, oldest first.
fn features(i: usize, positions: &[Option<Positions>; 4]) -> Vec<Feature> {
    let known = positions.iter().zip(times(i));
    known.filter_map(|(positions, time)| Some(feature((*positions)?, time))).collect()
}

fn unit(i: usize) -> (UnitNumber, AccessUnit) {
    (UnitNumber(i as u64), AccessUnit::parse(VECTORS[i].bytes).unwrap())
}

#[test]
fn v4_units_have_exactly_these_bytes() {
    let mut encoder = Encoder::new(profile());
    for (i, Vector { rate, pushed, bytes, .. }) in VECTORS.iter().enumerate() {
        let mut features = features(i, pushed);
        let own = features.pop().unwrap();
        // At the low rate none of the intermediate features is due as a unit.
        encoder.set_rate(Rate::Low);
        for feature in features {
            assert_eq!(encoder.push(&feature, false), None);
        }
        encoder.set_rate(*rate);
        encoder.set_redundancy(0);
        let EncodedUnit { number, unit, .. } = encoder.push(&own, true).unwrap();
        assert_eq!(unit.as_bytes(), *bytes, "unit {i}: {:02x?}", unit.as_bytes());
        if i < 2 {
            encoder.acknowledge(number);
        }
    }
}

#[test]
fn v4_units_decode_to_exactly_these_numbers() {
    let mut decoder = Decoder::new(profile());
    for (i, Vector { rate, carried, .. }) in VECTORS.iter().enumerate() {
        let (number, unit) = unit(i);
        let decoded = decoder.decode(number, &unit).unwrap();
        let [.., time] = times(i);
        let previous_time = times(i.saturating_sub(1))[3];
        let features: Vec<Feature> = decoded.features(Some(previous_time), time).collect();
        let want = carried.iter().map(|(i, there)| feature(there, MediaTime::of_frame(*i, 25)));
        assert_eq!(features, want.collect::<Vec<_>>(), "unit {i}");
        assert_eq!((decoded.is_key, decoded.rate), (i == 0, *rate));
    }
}

#[test]
fn a_stream_has_exactly_these_bytes() {
    let face = *b"\x01\x02\x03\x04\x05\x06\x07\x08";
    let units = (0..2).map(|i| (times(i)[3], unit(i).1)).collect();
    let bytes = [
        &b"FCS4"[..],
        &face,
        &hex!("00 0c"),
        VECTORS[0].bytes,
        &hex!("80e209 0b"), // 160 ms later
        VECTORS[1].bytes,
    ];
    let stream = Stream { face, units };
    assert_eq!(stream.to_bytes(), bytes.concat());
    assert_eq!(Stream::parse(&bytes.concat()), Ok(stream));
}

#[test]
fn a_delta_unit_without_its_reference_names_it() {
    let mut decoder = Decoder::new(profile());
    for i in [1, 2] {
        let (number, unit) = unit(i);
        let missing = DecodeError::MissingReference { number, reference: UnitNumber(0) };
        assert_eq!(decoder.decode(number, &unit), Err(missing));
    }
}

#[test]
fn a_profile_of_another_version_is_refused_by_its_number() {
    let mut bytes = profile().to_bytes();
    bytes[0] = 1;
    let refusal = Profile::parse(&bytes).unwrap_err().to_string();
    assert_eq!(refusal, "codec profile version 1 is not supported: this build reads version 4");
}

#[test]
fn a_face_at_rest_takes_one_byte_per_unit() {
    let mut encoder = Encoder::with_reference(profile(), Reference::Previous);
    let rest = feature(&[(0, 16), (6, 32)], MediaTime::ZERO);
    let sizes: Vec<usize> =
        (0..24).map(|_| encoder.push(&rest, true).unwrap().unit.as_bytes().len()).collect();
    assert!(sizes[10..].iter().all(|&size| size == 1), "{sizes:?}");
}
