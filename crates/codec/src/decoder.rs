use types::{Code, FEATURE_DIMS, Feature, HeadPose, MediaTime, Rate, UnitNumber};

use crate::AccessUnit;
use crate::history::StateHistory;
use crate::midpoints::{MidpointLevels, N_MIDPOINTS, corrected_start, reconstructed_midpoints};
use crate::prediction::{Base, UnitState};
use crate::profile::Profile;
use crate::range_coder::SymbolReader;
use crate::syntax::{Levels, UnitHeader, code_header, code_levels, code_rate};

/// Content of one access unit: a feature, a correction of the previous one, and intermediate
/// features between the two.
///
/// The unit does not contain its capture time; [`Decoded::features`] takes it as an argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decoded {
    /// Whether the unit references no other unit.
    pub is_key: bool,
    /// Rate at which the unit was coded.
    pub rate: Rate,
    /// Head pose of the unit's own feature.
    pub pose: HeadPose,
    /// Code of the unit's own feature.
    pub code: Code,
    /// Correction of the previous unit's feature. `None` if the decoder does not have that unit.
    pub corrected_previous: Option<(HeadPose, Code)>,
    /// Intermediate features at one, two and three quarters of the time from the previous unit to
    /// this one. `None` where the unit codes no midpoint, or the previous unit is missing.
    pub intermediate: [Option<(HeadPose, Code)>; N_MIDPOINTS],
}

impl Decoded {
    /// Returns the unit's own feature, captured at `time`.
    pub fn at(&self, time: MediaTime) -> Feature {
        Feature { time, pose: self.pose, code: self.code }
    }

    /// Returns all features that the unit carries, oldest first: the correction of the previous
    /// unit's feature, the intermediate features, and the unit's own.
    ///
    /// `previous_time` and `time` are the capture times of the previous unit and of this unit. If
    /// the former is unknown or not earlier, only the unit's own feature is returned.
    pub fn features(
        &self,
        previous_time: Option<MediaTime>,
        time: MediaTime,
    ) -> impl Iterator<Item = Feature> {
        let earlier = previous_time
            .into_iter()
            .flat_map(move |previous_time| self.earlier_features(previous_time, time));
        earlier.chain([self.at(time)])
    }

    fn earlier_features(
        &self,
        previous_time: MediaTime,
        time: MediaTime,
    ) -> impl Iterator<Item = Feature> {
        let gap = time.as_micros().saturating_sub(previous_time.as_micros());
        let [first, half, last] = self.intermediate;
        let quarters = (0..).zip([self.corrected_previous, first, half, last]);
        quarters.filter(move |_| gap > N_MIDPOINTS as u64).filter_map(move |(quarter, at)| {
            let (pose, code) = at?;
            let passed = gap / 4 * quarter + gap % 4 * quarter / 4;
            let time = MediaTime::from_micros(previous_time.as_micros() + passed);
            Some(Feature { time, pose, code })
        })
    }

    /// Returns what a decoder with or without the previous unit decodes.
    #[cfg(test)]
    pub(crate) fn given_previous(self, has_previous: bool) -> Self {
        if has_previous {
            self
        } else {
            Self { corrected_previous: None, intermediate: [None; N_MIDPOINTS], ..self }
        }
    }
}

/// Why an access unit could not be decoded. None of these is fatal to a call.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A referenced unit was lost or is too old. Drop the unit and request a key unit.
    #[error("unit {number} references unit {reference}, which is not available")]
    MissingReference { number: UnitNumber, reference: UnitNumber },
    /// The unit is damaged, or was encoded with another profile. Drop it.
    #[error("the access unit is corrupt")]
    Corrupt,
    /// The decoded values are not a possible feature: the unit is damaged or hostile. Drop it.
    #[error("unit {number} does not decode to a possible feature")]
    NotAFeature { number: UnitNumber },
}

/// Decoder of access units.
///
/// It remembers the last 64 units. Whatever was lost, duplicated or reordered, a unit that decodes
/// gives exactly the encoder's [`EncodedUnit::decoded`](crate::EncodedUnit::decoded), but without
/// the correction and the intermediate features if the previous unit is missing.
#[derive(Clone, Debug)]
pub struct Decoder {
    profile: Profile,
    history: StateHistory,
}

impl Decoder {
    /// Returns a decoder for units that were encoded with this profile.
    pub fn new(profile: Profile) -> Self {
        Self { profile, history: StateHistory::new() }
    }

    #[cfg(test)]
    pub(crate) fn history(&self) -> &StateHistory {
        &self.history
    }

    /// Decodes unit `number` of the stream.
    ///
    /// Units may come in any order and more than once. All numbers may differ from the encoder's
    /// by the same offset.
    ///
    /// # Errors
    /// If a reference is missing, or the unit is damaged. The decoder is then unchanged.
    pub fn decode(
        &mut self,
        number: UnitNumber,
        unit: &AccessUnit,
    ) -> Result<Decoded, DecodeError> {
        let corrupt = |_| DecodeError::Corrupt;
        let mut reader = SymbolReader::new(unit.as_bytes());
        let header = code_header(&mut reader, UnitHeader::KEY).map_err(corrupt)?;
        let base = base(&self.history, number, header)?;
        let rate = code_rate(&mut reader, base, Rate::Normal).map_err(corrupt)?;
        let (state, midpoints) =
            code_levels(&mut reader, &self.profile, base, rate, &Levels::ZERO).map_err(corrupt)?;
        let is_key = header.age == 0;
        let previous = self.history.state(number.offset(-1));
        let decoded = dequantized(&self.profile, is_key, &state, previous, midpoints.as_ref())
            .ok_or(DecodeError::NotAFeature { number })?;
        self.history.insert(number, state, is_key);
        Ok(decoded)
    }
}

/// Looks up the states that unit `number` references.
pub(crate) fn base(
    history: &StateHistory,
    number: UnitNumber,
    header: UnitHeader,
) -> Result<Base<'_>, DecodeError> {
    let state = |reference| {
        history.state(reference).ok_or(DecodeError::MissingReference { number, reference })
    };
    let Some(reference) = header.reference(number) else { return Ok(Base::Rest) };
    let motion = match header.motion_reference(number) {
        Some(earlier) => Some((state(earlier)?, header.motion_span)),
        None => None,
    };
    Ok(Base::Reference { state: state(reference)?, age: header.age, motion })
}

/// Converts a unit's state to features; `previous` is the state of the previous unit, if known.
/// Returns `None` if the unit's own positions are not a possible feature.
pub(crate) fn dequantized(
    profile: &Profile,
    is_key: bool,
    state: &UnitState,
    previous: Option<&UnitState>,
    midpoints: Option<&MidpointLevels>,
) -> Option<Decoded> {
    let at = |positions: &[i32; FEATURE_DIMS]| {
        let feature = Feature::from_array(MediaTime::ZERO, &profile.values(positions)).ok()?;
        Some((feature.pose, feature.code))
    };
    let (pose, code) = at(&state.positions)?;
    let start: Option<[i32; FEATURE_DIMS]> = previous.map(|previous| {
        std::array::from_fn(|k| {
            corrected_start(state.rate, previous.positions[k], state.positions[k])
        })
    });
    let intermediate = match (&start, midpoints) {
        (Some(start), Some(levels)) => {
            reconstructed_midpoints(state.rate, start, &state.positions, levels)
                .map(|point| point.as_ref().and_then(at))
        }
        _ => [None; N_MIDPOINTS],
    };
    let corrected_previous = start.as_ref().and_then(at);
    Some(Decoded { is_key, rate: state.rate, pose, code, corrected_previous, intermediate })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use types::{FeatureTimeline, POSE_DIMS};

    use super::*;
    use crate::profile::MAX_POSITION;
    use crate::{EncodedUnit, Encoder, Reference};

    /// Plausible values, and some that are not but that the types allow.
    fn any_feature() -> impl Strategy<Value = Feature> {
        let usual = prop::array::uniform32(-3.0_f32..3.0);
        let wild = prop::array::uniform32(-1000.0_f32..1000.0);
        (prop_oneof![9 => usual, 1 => wild], 0.01_f32..1000.0).prop_map(|(v, depth)| {
            let mut all = [0.0; FEATURE_DIMS];
            all[..32].copy_from_slice(&v);
            all[32..].copy_from_slice(&v[..4]);
            all[POSE_DIMS - 1] = depth;
            Feature::from_array(MediaTime::ZERO, &all).unwrap()
        })
    }

    /// A face that moves a little from feature to feature.
    fn any_walk(n: usize) -> impl Strategy<Value = Vec<Feature>> {
        prop::collection::vec(prop::array::uniform32(-0.05_f32..0.05), n).prop_map(|steps| {
            let mut all = [0.0; FEATURE_DIMS];
            all[POSE_DIMS - 1] = 1.1;
            let walk = (0..).zip(&steps).map(|(i, step)| {
                for (value, by) in all.iter_mut().zip(step) {
                    *value += by;
                }
                all[POSE_DIMS - 1] = all[POSE_DIMS - 1].max(0.3);
                Feature::from_array(MediaTime::of_frame(2 * i, 25), &all).unwrap()
            });
            walk.collect()
        })
    }

    /// What happens to a unit. `after` counts the units sent until it arrives; `ack_after`, those
    /// until it is acknowledged.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        Lost,
        Delivered { after: usize, ack_after: usize },
        Duplicated { after: usize, ack_after: usize },
    }

    fn any_fate() -> impl Strategy<Value = Fate> {
        let delays =
            || (prop_oneof![6 => 0_usize..2, 2 => 0_usize..10, 1 => 0_usize..90], 0_usize..40);
        prop_oneof![
            2 => Just(Fate::Lost),
            4 => delays().prop_map(|(after, ack_after)| Fate::Delivered { after, ack_after }),
            1 => delays().prop_map(|(after, ack_after)| Fate::Duplicated { after, ack_after }),
        ]
    }

    proptest! {
        #[test]
        fn a_round_trip_loses_at_most_three_steps(feature in any_feature(), which in 0_usize..3) {
            let profile = Profile::default();
            let rate = Rate::CODED[which];
            let mut encoder = Encoder::new(profile.clone());
            encoder.set_rate(rate);
            let EncodedUnit { number, unit, decoded, .. } = encoder.push(&feature, true).unwrap();
            let mut decoder = Decoder::new(profile.clone());
            prop_assert_eq!(decoder.decode(number, &unit), Ok(decoded));
            let sent = profile.positions(&feature.to_array());
            let got = profile.positions(&decoded.at(MediaTime::ZERO).to_array());
            // Features that round to an impossible one are coded as the mean.
            if feature.pose.translation().z > 0.1 && sent.iter().all(|p| p.abs() < MAX_POSITION - 100) {
                for (k, (sent, got)) in sent.iter().zip(got).enumerate() {
                    let off = (sent - got).abs();
                    prop_assert!(off <= 3 * rate.parameters().step() + 1, "component {}: {}", k, off);
                }
            }
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(
            units in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..256), 1..8),
        ) {
            let mut decoder = Decoder::new(Profile::default());
            let mut encoder = Encoder::new(Profile::default());
            let feature = Feature::from_array(MediaTime::ZERO, &{
                let mut all = [0.1; FEATURE_DIMS];
                all[POSE_DIMS - 1] = 1.0;
                all
            }).unwrap();
            for (i, mut bytes) in units.into_iter().enumerate() {
                let number = UnitNumber(2 * i as u64);
                let _ = decoder.decode(number, &encoder.push(&feature, true).unwrap().unit);
                bytes[0] |= 0x10; // seldom a key unit
                let _ = decoder.decode(number.offset(1), &AccessUnit::parse(&bytes).unwrap());
            }
        }

        #[test]
        fn a_unit_that_decodes_is_what_the_encoder_reports_whatever_was_lost_or_reordered(
            features in any_walk(300),
            fates in prop::collection::vec(any_fate(), 300),
            keys in prop::collection::vec(0_usize..300, 0..4),
            rates in prop::collection::vec((0_usize..300, 0_usize..3), 0..6),
            reference in prop_oneof![Just(Reference::Acknowledged), Just(Reference::Previous)],
            redundancy in 0_u32..4,
            has_intermediate in prop::collection::vec(any::<bool>(), 300),
        ) {
            let mut encoder = Encoder::with_reference(Profile::default(), reference);
            let mut decoder = Decoder::new(Profile::default());
            let mut arrivals: HashMap<usize, Vec<(usize, usize)>> = HashMap::new();
            let mut acks: HashMap<usize, Vec<UnitNumber>> = HashMap::new();
            let mut sent: Vec<EncodedUnit> = Vec::new();
            let mut n_decoded = 0;
            let mut rate = Rate::Normal;
            encoder.set_key_interval(25);
            for (now, feature) in features.iter().enumerate() {
                for number in acks.remove(&now).unwrap_or_default() {
                    encoder.acknowledge(number);
                }
                if keys.contains(&now) {
                    encoder.request_key();
                }
                if let Some((_, to)) = rates.iter().find(|(at, _)| *at == now) {
                    rate = Rate::CODED[*to];
                }
                // An intermediate feature that is far from both ends.
                if now > 0 && has_intermediate[now] {
                    let time = MediaTime::of_frame(2 * now as u64 - 1, 25);
                    // It is not yet due as a unit at the low rate.
                    encoder.set_rate(Rate::Low);
                    encoder.push(&Feature { time, ..features[(now + 20) % features.len()] }, false);
                }
                encoder.set_rate(rate);
                encoder.set_redundancy(redundancy);
                sent.push(encoder.push(feature, true).unwrap());
                match fates[now] {
                    Fate::Lost => {}
                    Fate::Delivered { after, ack_after } => {
                        arrivals.entry(now + after).or_default().push((now, ack_after));
                    }
                    Fate::Duplicated { after, ack_after } => {
                        arrivals.entry(now + after).or_default().push((now, ack_after));
                        arrivals.entry(now + 2 * after + 1).or_default().push((now, ack_after));
                    }
                }
                for (which, ack_after) in arrivals.remove(&now).unwrap_or_default() {
                    let EncodedUnit { number, unit, decoded: expected, .. } = &sent[which];
                    let has_previous = decoder.history().state(number.offset(-1)).is_some();
                    if let Ok(decoded) = decoder.decode(*number, unit) {
                        prop_assert_eq!(decoded, expected.given_previous(has_previous));
                        acks.entry(now + 1 + ack_after).or_default().push(*number);
                        n_decoded += 1;
                    }
                }
            }
            prop_assert!(n_decoded > 0);
        }
    }

    proptest! {
        #[test]
        fn a_unit_that_does_not_decode_changes_nothing(
            features in any_walk(40),
            cuts in prop::collection::vec((0_usize..40, 0_usize..64), 40),
        ) {
            let mut encoder = Encoder::new(Profile::default());
            let mut decoder = Decoder::new(Profile::default());
            for (i, feature) in features.iter().enumerate() {
                let EncodedUnit { number, unit, decoded, .. } = encoder.push(feature, true).unwrap();
                let (far, length) = cuts[i];
                let cut = &unit.as_bytes()[..(1 + length).min(unit.as_bytes().len())];
                // A number whose references are missing or wrong.
                let wrong = number.offset(100 + far as i64);
                let before = decoder.clone();
                if decoder.decode(wrong, &AccessUnit::parse(cut).unwrap()).is_ok() {
                    // A truncated key unit may decode to another feature.
                    decoder = before;
                }
                prop_assert_eq!(decoder.decode(number, &unit), Ok(decoded));
                encoder.acknowledge(number);
            }
        }
    }

    fn feature_with(values: &[f32]) -> Feature {
        let mut all = [0.0; FEATURE_DIMS];
        all[..values.len()].copy_from_slice(values);
        all[POSE_DIMS - 1] = 1.1;
        Feature::from_array(MediaTime::ZERO, &all).unwrap()
    }

    #[test]
    fn the_error_names_the_missing_reference() {
        let mut encoder = Encoder::with_reference(Profile::default(), Reference::Previous);
        let mut decoder = Decoder::new(Profile::default());
        let units: Vec<_> =
            (0..3).map(|_| encoder.push(&feature_with(&[0.1]), true).unwrap().unit).collect();
        let [first, second, third] = [0, 1, 2].map(UnitNumber);
        decoder.decode(first, &units[0]).unwrap();
        let missing = DecodeError::MissingReference { number: third, reference: second };
        assert_eq!(decoder.decode(third, &units[2]), Err(missing));
        decoder.decode(second, &units[1]).unwrap();
        decoder.decode(third, &units[2]).unwrap();
    }

    /// Set `HOSTILE_STRINGS=10000000` for ten million strings.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a longer run is asked for by a variable")]
    fn random_bytes_never_make_the_decoder_panic() {
        let n: u32 =
            std::env::var("HOSTILE_STRINGS").map_or(20_000, |n| n.parse().expect("a number"));
        let mut decoder = Decoder::new(Profile::default());
        let mut encoder = Encoder::new(Profile::default());
        let key = encoder.push(&feature_with(&[0.1]), true).unwrap().unit;
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let mut n_decoded = 0_u32;
        for i in 0..n {
            let number = UnitNumber(u64::from(i));
            if i % 16 == 0 {
                // A reference for the units that follow.
                decoder.decode(number, &key).unwrap();
                continue;
            }
            let length = 1 + (random() % 40) as usize;
            let bytes: Vec<u8> = (0..length).map(|_| random() as u8).collect();
            let unit = AccessUnit::parse(&bytes).unwrap();
            n_decoded += u32::from(decoder.decode(number, &unit).is_ok());
        }
        // Some decode: few byte strings are invalid to a range coder.
        assert!(n_decoded > 0, "{n_decoded} of {n}");
    }

    #[test]
    fn each_unit_corrects_the_previous_feature_towards_its_own() {
        let mut encoder = Encoder::with_reference(Profile::default(), Reference::Previous);
        let mut decoder = Decoder::new(Profile::default());
        let (mut timeline, mut units) = (FeatureTimeline::new(), Vec::new());
        for i in 0..10 {
            let unit = encoder.push(&feature_with(&[0.02 * i as f32, 0.1]), true).unwrap();
            let decoded = decoder.decode(unit.number, &unit.unit).unwrap();
            let time = MediaTime::of_frame(2 * i, 25);
            timeline.extend(decoded.features(timeline.newest_time(), time));
            units.push((decoded, time));
        }
        let mut features = timeline.drain();
        assert_eq!(features.pop(), units.last().map(|(unit, time)| unit.at(*time)));
        for ((feature, pair), i) in features.iter().zip(units.windows(2)).zip(0..) {
            let [(unit, time), (next, _)] = [pair[0], pair[1]];
            let (pose, code) = next.corrected_previous.unwrap();
            assert_eq!(*feature, Feature { time, pose, code }, "unit {i}");
            // By a fraction of a step in the direction of motion.
            let correction = feature.pose.rotation().x - unit.pose.rotation().x;
            let motion = next.pose.rotation().x - unit.pose.rotation().x;
            assert!(correction > 0.0 && correction < 0.2 * motion, "{i}: {correction} of {motion}");
        }
    }

    #[test]
    fn an_outage_of_any_length_ends_with_the_first_key_unit() {
        for lost in [1, 63, 64, 255, 256, 32_767, 32_769, 65_000, 70_000] {
            let mut encoder = Encoder::with_reference(Profile::default(), Reference::Previous);
            encoder.set_key_interval(10);
            let mut decoder = Decoder::new(Profile::default());
            for _ in 0..15 {
                let EncodedUnit { number, unit, .. } =
                    encoder.push(&feature_with(&[0.1]), true).unwrap();
                decoder.decode(number, &unit).unwrap();
            }
            for i in 0..lost {
                encoder.push(&feature_with(&[0.002 * (i % 100) as f32]), true);
            }
            let after: Vec<bool> = (0..20)
                .map(|_| {
                    let EncodedUnit { number, unit, decoded: expected, .. } =
                        encoder.push(&feature_with(&[0.3]), true).unwrap();
                    let has_previous = decoder.history().state(number.offset(-1)).is_some();
                    let decoded = decoder.decode(number, &unit).ok();
                    assert!(
                        decoded
                            .is_none_or(|decoded| decoded == expected.given_previous(has_previous))
                    );
                    decoded.is_some()
                })
                .collect();
            assert!(after[10..].iter().all(|ok| *ok), "after {lost} lost units: {after:?}");
        }
    }
}
