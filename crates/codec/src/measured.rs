//! Measures the codec on real features: half a minute of the actor as tracked for the built-in
//! face, with that face's profile (`tests/fixtures/actor`).

use std::collections::VecDeque;

use constriction::stream::model::EncoderModel;
use types::{FEATURE_DIMS, Feature, MediaTime, Rate, UnitNumber};

use crate::decoder::base;
use crate::range_coder::{InvalidSymbol, PRECISION, SymbolCoder, SymbolReader, Table};
use crate::syntax::{Levels, UnitHeader, code_header, code_levels, code_rate};
use crate::{AccessUnit, Decoder, EncodedUnit, Encoder, ErrorSensitivity, Profile};

const FEATURES: &[u8] = include_bytes!("../../../tests/fixtures/actor/features.bin");
const PROFILE: &[u8] = include_bytes!("../../../tests/fixtures/actor/profile.bin");

/// Units between a unit and its acknowledgement in a call with a short round trip.
const ACK_DELAY: usize = 2;

fn features() -> Vec<Feature> {
    let numbers: Vec<f32> =
        FEATURES.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    (0..)
        .zip(numbers.chunks_exact(FEATURE_DIMS))
        .map(|(i, values)| {
            let values = values.try_into().unwrap();
            Feature::from_array(MediaTime::of_frame(i, 25), values).unwrap()
        })
        .collect()
}

fn profile() -> Profile {
    Profile::parse(PROFILE).unwrap()
}

/// Returns the units of a call without loss.
fn call(rate: Rate) -> Vec<EncodedUnit> {
    let mut encoder = Encoder::new(profile());
    encoder.set_rate(rate);
    let mut units: Vec<EncodedUnit> = Vec::new();
    for feature in features() {
        if let Some(acknowledged) = units.len().checked_sub(ACK_DELAY) {
            encoder.acknowledge(units[acknowledged].number);
        }
        units.extend(encoder.push(&feature, false));
    }
    units
}

/// A reader that sums the information of the symbols: `-log2` of their probabilities.
struct InformationMeter {
    reader: SymbolReader,
    bits: f64,
}

impl SymbolCoder for InformationMeter {
    fn symbol(&mut self, table: &Table, value: usize) -> Result<usize, InvalidSymbol> {
        let symbol = self.reader.symbol(table, value)?;
        let (_, frequency) = table.left_cumulative_and_probability(symbol).ok_or(InvalidSymbol)?;
        self.bits += PRECISION as f64 - f64::from(frequency.get()).log2();
        Ok(symbol)
    }

    fn bits(&mut self, n: u32, value: u32) -> Result<u32, InvalidSymbol> {
        self.bits += f64::from(n);
        self.reader.bits(n, value)
    }
}

/// Returns the information in a unit, in bits. `decoder` must have its references.
fn information(decoder: &Decoder, profile: &Profile, number: UnitNumber, unit: &AccessUnit) -> f64 {
    let mut meter = InformationMeter { reader: SymbolReader::new(unit.as_bytes()), bits: 0.0 };
    let header = code_header(&mut meter, UnitHeader::KEY).unwrap();
    let base = base(decoder.history(), number, header).unwrap();
    let rate = code_rate(&mut meter, base, Rate::Normal).unwrap();
    code_levels(&mut meter, profile, base, rate, &Levels::ZERO).unwrap();
    meter.bits
}

#[test]
fn units_are_at_most_3_percent_longer_than_their_information() {
    for rate in Rate::CODED {
        let profile = profile();
        let mut decoder = Decoder::new(profile.clone());
        let (mut n_bytes, mut bits) = (0, 0.0);
        let units = call(rate);
        for EncodedUnit { number, unit, decoded, .. } in &units {
            bits += information(&decoder, &profile, *number, unit);
            n_bytes += unit.as_bytes().len();
            assert_eq!(decoder.decode(*number, unit), Ok(*decoded));
        }
        let n = units.len() as f64;
        let over = n_bytes as f64 * 8.0 / bits - 1.0;
        println!(
            "{rate:?}: {n_bytes} bytes in {n} units, {:.2} bits each, {:.2} of them information: \
             {:.2} % overhead",
            n_bytes as f64 * 8.0 / n,
            bits / n,
            over * 100.0
        );
        assert!(over <= 0.03, "{rate:?}: {over}");
    }
}

#[test]
fn a_key_unit_takes_at_most_sixty_bytes() {
    for rate in Rate::CODED {
        let mut encoder = Encoder::new(profile());
        encoder.set_rate(rate);
        let key_bytes = |feature: &Feature| {
            encoder.request_key();
            encoder.push(feature, true).unwrap().unit.as_bytes().len()
        };
        let sizes: Vec<usize> = features().iter().map(key_bytes).collect();
        let largest = sizes.iter().copied().max().unwrap();
        println!(
            "{rate:?}: {largest} bytes at most, {} on average",
            sizes.iter().sum::<usize>() / sizes.len()
        );
        assert!(largest <= 60, "{rate:?}: {largest}");
    }
}

/// Returns the payload of a call with a face at rest, in kbit/s.
///
/// The features are one of the actor, repeated, plus `noise` times the second differences of
/// others, scaled to the variance of noise.
fn kbit_s_at_rest(profile: &Profile, rate: Rate, noise: f32) -> f64 {
    const N_SETTLING: usize = 25;
    let features = features();
    let all: Vec<[f32; FEATURE_DIMS]> = features.iter().map(Feature::to_array).collect();
    let mut encoder = Encoder::new(profile.clone());
    encoder.set_rate(rate);
    let (mut ids, mut n_bytes) = (Vec::new(), 0);
    for (i, feature) in features.iter().enumerate() {
        let near = &all[(i * 37) % (all.len() - 2)..][..3];
        let values = std::array::from_fn(|d| {
            all[100][d] + noise * (near[0][d] - 2.0 * near[1][d] + near[2][d]) / 6.0_f32.sqrt()
        });
        let feature = Feature::from_array(feature.time, &values).unwrap();
        if let Some(acknowledged) = ids.len().checked_sub(ACK_DELAY) {
            encoder.acknowledge(ids[acknowledged]);
        }
        let Some(EncodedUnit { number, unit, .. }) = encoder.push(&feature, false) else {
            continue;
        };
        ids.push(number);
        n_bytes += if i >= N_SETTLING { unit.as_bytes().len() } else { 0 };
    }
    n_bytes as f64 * 0.2 / (features.len() - N_SETTLING) as f64
}

#[test]
fn a_face_at_rest_takes_a_byte_or_two_per_unit() {
    let features = features();
    let sensitivity = ErrorSensitivity::from_geometry(&features);
    let fitted = Profile::from_features(&features, &sensitivity, 4e-6).unwrap();
    for (profile, rate, noise, most) in [
        (profile(), Rate::Normal, 0.0, 0.105),
        (profile(), Rate::Normal, 0.5, 0.13),
        (profile(), Rate::High, 0.0, 0.205),
        (profile(), Rate::High, 0.5, 0.45),
        (profile(), Rate::Low, 0.0, 0.08),
        (profile(), Rate::Low, 0.5, 0.08),
        // A new profile. Most of the bytes are zeros, coded while the activities decrease.
        (fitted, Rate::Low, 0.0, 0.12),
    ] {
        let kbit_s = kbit_s_at_rest(&profile, rate, noise);
        println!("{rate:?}, noise {noise}: {kbit_s:.3} kbit/s");
        assert!(kbit_s <= most, "{rate:?}, noise {noise}: {kbit_s}");
    }
}

/// Half of the units are lost, and every twelve seconds all units for two seconds.
#[test]
fn after_any_loss_the_decoder_has_the_state_of_the_encoder() {
    for rate in Rate::CODED {
        let (mut encoder, mut decoder) = (Encoder::new(profile()), Decoder::new(profile()));
        encoder.set_rate(rate);
        encoder.set_redundancy(0);
        let mut acks = VecDeque::new();
        let (mut n_decoded, mut seed) = (0, 3_u32);
        for (i, feature) in features().iter().enumerate() {
            while acks.front().is_some_and(|(at, _)| *at <= i) {
                encoder.acknowledge(acks.pop_front().unwrap().1);
            }
            let EncodedUnit { number, unit, .. } = encoder.push(feature, true).unwrap();
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if seed >> 31 == 0 || i % 300 >= 250 {
                continue;
            }
            decoder.decode(number, &unit).unwrap();
            assert_eq!(
                decoder.history().state(number),
                encoder.history().state(number),
                "unit {i}"
            );
            n_decoded += 1;
            acks.push_back((i + 5, number));
        }
        assert!(n_decoded > 250, "{n_decoded}");
    }
}

/// FNV-1a hashes of all units and of all decoded numbers, intermediate features included: equal on
/// every machine, in debug and release builds. If one changes and the format was not meant to, two
/// peers no longer agree.
#[test]
fn half_a_minute_has_exactly_these_bytes_and_numbers() {
    let fnv = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let sums = Rate::CODED.map(|rate| {
        let mut sums = [0xcbf2_9ce4_8422_2325; 2];
        for EncodedUnit { unit, decoded, .. } in call(rate) {
            sums[0] = unit.as_bytes().iter().fold(sums[0], fnv);
            let (previous_time, time) = (MediaTime::ZERO, MediaTime::of_frame(4, 25));
            for value in
                decoded.features(Some(previous_time), time).flat_map(|feature| feature.to_array())
            {
                sums[1] = value.to_le_bytes().iter().fold(sums[1], fnv);
            }
        }
        sums.map(|sum| format!("{sum:016x}"))
    });
    let want = [
        ["b596c4dd4f515859", "17512329d1855f6d"],
        ["b36eb8ca734a0689", "58c394a9c2c9613d"],
        ["33a22d47ab062099", "8c7ee944ef32c2a3"],
    ];
    assert_eq!(sums, want);
}
