use types::{Code, FEATURE_DIMS, Feature, HeadPose, MediaTime, Rate, UnitNumber};

use crate::AccessUnit;
use crate::bends::{Bends, N_POINTS, bent_way, caught_up};
use crate::history::History;
use crate::prediction::{Base, State};
use crate::profile::Profile;
use crate::range_coder::SymbolReader;
use crate::syntax::{Header, Levels, code_header, code_levels, code_rate};

/// What one access unit carries: a feature, and refinements of what happened before it.
///
/// Times are not coded; the carrier of the unit knows them. See [`Decoded::features`].
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
    /// Intermediate features at one, two and three quarters of the time from the previous unit;
    /// `None` where the unit codes no midpoint.
    pub intermediate: [Option<(HeadPose, Code)>; N_POINTS],
}

impl Decoded {
    /// Returns the unit's own feature; `time` is when its frame was captured.
    pub fn at(&self, time: MediaTime) -> Feature {
        Feature { time, pose: self.pose, code: self.code }
    }

    /// Returns all features that the unit carries, oldest first: the correction of the previous
    /// unit's feature, the intermediate features, and the unit's own.
    ///
    /// `previous_time` and `time` are the capture times of the previous unit's frame and of this
    /// unit's. Without the former, only the unit's own feature is returned.
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

    /// What a decoder that has or lacks the previous unit decodes.
    #[cfg(test)]
    pub(crate) fn to_who(self, knows_before: bool) -> Self {
        if knows_before {
            self
        } else {
            Self { corrected_previous: None, intermediate: [None; N_POINTS], ..self }
        }
    }

    /// Returns the corrected feature of the previous unit and the intermediate ones; nothing if
    /// the previous unit is not older.
    pub(crate) fn earlier_features(
        &self,
        previous_time: MediaTime,
        time: MediaTime,
    ) -> impl Iterator<Item = Feature> {
        let gap = time.as_micros().saturating_sub(previous_time.as_micros());
        let [first, half, last] = self.intermediate;
        let quarters = (0..).zip([self.corrected_previous, first, half, last]);
        quarters.filter(move |_| gap > N_POINTS as u64).filter_map(move |(quarter, at)| {
            let (pose, code) = at?;
            let passed = gap / 4 * quarter + gap % 4 * quarter / 4;
            let time = MediaTime::from_micros(previous_time.as_micros() + passed);
            Some(Feature { time, pose, code })
        })
    }
}

/// Why an access unit could not be decoded. None of these is fatal to a call.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The unit this one builds on was lost or is too old. Drop it; if no later unit decodes
    /// either, send a key request.
    #[error("unit {id} builds on unit {reference}, which was never decoded or is forgotten")]
    MissingReference { id: UnitNumber, reference: UnitNumber },
    /// Damaged, or made with another profile. Drop the unit.
    #[error("the bytes of the access unit are no code of any feature")]
    Corrupt,
    /// The numbers are no feature: only a damaged or hostile unit has them. Drop it.
    #[error("unit {id} describes no possible feature")]
    NotAFeature { id: UnitNumber },
}

/// Access units in, features out.
///
/// Whenever [`Decoder::decode`] gives a feature, it is exactly the one the encoder thinks it
/// gives, whatever was lost, doubled or came late. The only state is that of the last 64 units.
#[derive(Clone, Debug)]
pub struct Decoder {
    profile: Profile,
    history: History,
}

impl Decoder {
    /// A decoder of units made with this profile.
    pub fn new(profile: Profile) -> Self {
        Self { profile, history: History::new() }
    }

    #[cfg(test)]
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// Decodes the unit that its carrier calls `id`, in whatever order they come. The same unit
    /// again gives the same feature.
    ///
    /// # Errors
    /// If the unit's reference is not there, or the unit is damaged. The decoder is then unchanged.
    pub fn decode(&mut self, id: UnitNumber, unit: &AccessUnit) -> Result<Decoded, DecodeError> {
        let corrupt = |_| DecodeError::Corrupt;
        let mut reader = SymbolReader::new(unit.as_bytes());
        let header = code_header(&mut reader, Header::KEY).map_err(corrupt)?;
        let base = base(&self.history, id, header)?;
        let rate = code_rate(&mut reader, base, Rate::Normal).map_err(corrupt)?;
        let (state, bends) =
            code_levels(&mut reader, &self.profile, base, rate, &Levels::NONE).map_err(corrupt)?;
        let is_key = header.age == 0;
        let before = self.history.state(id.offset(-1));
        let decoded = dequantized(&self.profile, is_key, &state, before, bends.as_ref())
            .ok_or(DecodeError::NotAFeature { id })?;
        self.history.insert(id, state, is_key);
        Ok(decoded)
    }
}

/// The states that unit `id` names.
pub(crate) fn base(
    history: &History,
    id: UnitNumber,
    header: Header,
) -> Result<Base<'_>, DecodeError> {
    let state =
        |reference| history.state(reference).ok_or(DecodeError::MissingReference { id, reference });
    let Some(reference) = header.reference(id) else { return Ok(Base::Rest) };
    let before = match header.before(id) {
        Some(before) => Some((state(before)?, header.tap)),
        None => None,
    };
    Ok(Base::Reference { state: state(reference)?, age: header.age, before })
}

/// The feature that a state stands for, none if no face has it; and, if the unit `before` is known, the
/// feature of that, put right, and those on the way from it where the way bends.
pub(crate) fn dequantized(
    profile: &Profile,
    is_key: bool,
    state: &State,
    before: Option<&State>,
    bends: Option<&Bends>,
) -> Option<Decoded> {
    let at = |positions: &[i32; FEATURE_DIMS]| {
        let feature = Feature::from_array(MediaTime::ZERO, &profile.values(positions)).ok()?;
        Some((feature.pose, feature.code))
    };
    let (pose, code) = at(&state.positions)?;
    let from: Option<[i32; FEATURE_DIMS]> = before.map(|before| {
        std::array::from_fn(|k| caught_up(state.rate, before.positions[k], state.positions[k]))
    });
    let intermediate = match (&from, bends) {
        (Some(from), Some(bends)) => bent_way(state.rate, from, &state.positions, bends)
            .map(|point| point.as_ref().and_then(at)),
        _ => [None; N_POINTS],
    };
    let corrected_previous = from.as_ref().and_then(at);
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

    /// Numbers some face could have, and some that none does but the types allow.
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

    /// What becomes of a unit: lost, or delivered once or twice after so many others.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        Lost,
        Delivered { after: usize, ack_after: usize },
        Doubled { after: usize, ack_after: usize },
    }

    fn any_fate() -> impl Strategy<Value = Fate> {
        let delays =
            || (prop_oneof![6 => 0_usize..2, 2 => 0_usize..10, 1 => 0_usize..90], 0_usize..40);
        prop_oneof![
            2 => Just(Fate::Lost),
            4 => delays().prop_map(|(after, ack_after)| Fate::Delivered { after, ack_after }),
            1 => delays().prop_map(|(after, ack_after)| Fate::Doubled { after, ack_after }),
        ]
    }

    proptest! {
        #[test]
        fn a_round_trip_loses_at_most_three_steps(feature in any_feature(), which in 0_usize..3) {
            let profile = Profile::default();
            let rate = Rate::ALL[which];
            let mut encoder = Encoder::new(profile.clone());
            encoder.set_rate(rate);
            let EncodedUnit { number, unit, decoded, .. } = encoder.push(&feature, true).unwrap();
            let mut decoder = Decoder::new(profile.clone());
            prop_assert_eq!(decoder.decode(number, &unit), Ok(decoded));
            let sent = profile.positions(&feature.to_array());
            let got = profile.positions(&decoded.at(MediaTime::ZERO).to_array());
            // What the decoder would not take for a face is left at rest.
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
                let id = UnitNumber(2 * i as u64);
                let _ = decoder.decode(id, &encoder.push(&feature, true).unwrap().unit);
                bytes[0] |= 0x10; // so that it is seldom a key unit
                let _ = decoder.decode(id.offset(1), &AccessUnit::parse(&bytes).unwrap());
            }
        }

        #[test]
        fn whatever_is_lost_late_or_doubled_what_decodes_is_what_was_meant(
            features in any_walk(300),
            fates in prop::collection::vec(any_fate(), 300),
            keys in prop::collection::vec(0_usize..300, 0..4),
            qualities in prop::collection::vec((0_usize..300, 0_usize..3), 0..6),
            reference in prop_oneof![Just(Reference::Acknowledged), Just(Reference::Previous)],
            riding in 0_u32..4,
            bends in prop::collection::vec(any::<bool>(), 300),
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
                for id in acks.remove(&now).unwrap_or_default() {
                    encoder.acknowledge(id);
                }
                if keys.contains(&now) {
                    encoder.request_key();
                }
                if let Some((_, to)) = qualities.iter().find(|(at, _)| *at == now) {
                    rate = Rate::ALL[*to];
                }
                // What the face does on the way has little to do with either end.
                if now > 0 && bends[now] {
                    let time = MediaTime::of_frame(2 * now as u64 - 1, 25);
                    // None of them is due at the low rate.
                    encoder.set_rate(Rate::Low);
                    encoder.push(&Feature { time, ..features[(now + 20) % features.len()] }, false);
                }
                encoder.set_rate(rate);
                encoder.set_redundancy(riding);
                sent.push(encoder.push(feature, true).unwrap());
                match fates[now] {
                    Fate::Lost => {}
                    Fate::Delivered { after, ack_after } => {
                        arrivals.entry(now + after).or_default().push((now, ack_after));
                    }
                    Fate::Doubled { after, ack_after } => {
                        arrivals.entry(now + after).or_default().push((now, ack_after));
                        arrivals.entry(now + 2 * after + 1).or_default().push((now, ack_after));
                    }
                }
                for (which, ack_after) in arrivals.remove(&now).unwrap_or_default() {
                    let EncodedUnit { number, unit, decoded: meant, .. } = &sent[which];
                    let knows_before = decoder.history().state(number.offset(-1)).is_some();
                    if let Ok(decoded) = decoder.decode(*number, unit) {
                        prop_assert_eq!(decoded, meant.to_who(knows_before));
                        acks.entry(now + 1 + ack_after).or_default().push(*number);
                        n_decoded += 1;
                    }
                }
            }
            prop_assert!(n_decoded > 0);
        }
    }

    proptest! {
        /// Cut off or made up: what is refused leaves no trace.
        #[test]
        fn a_unit_that_does_not_decode_changes_nothing(
            features in any_walk(40),
            cuts in prop::collection::vec((0_usize..40, 0_usize..64), 40),
        ) {
            let mut encoder = Encoder::new(Profile::default());
            let mut decoder = Decoder::new(Profile::default());
            for (i, feature) in features.iter().enumerate() {
                let EncodedUnit { number: id, unit, decoded, .. } = encoder.push(feature, true).unwrap();
                let (far, length) = cuts[i];
                let cut = &unit.as_bytes()[..(1 + length).min(unit.as_bytes().len())];
                // Under a number that has no references, or none that fit.
                let wrong = id.offset(100 + far as i64);
                let before = decoder.clone();
                if decoder.decode(wrong, &AccessUnit::parse(cut).unwrap()).is_ok() {
                    // A cut key unit is some face; a peer that sends one is believed.
                    decoder = before;
                }
                prop_assert_eq!(decoder.decode(id, &unit), Ok(decoded));
                encoder.acknowledge(id);
            }
        }
    }

    fn unit_of(levels: &[f32]) -> Feature {
        let mut all = [0.0; FEATURE_DIMS];
        all[..levels.len()].copy_from_slice(levels);
        all[POSE_DIMS - 1] = 1.1;
        Feature::from_array(MediaTime::ZERO, &all).unwrap()
    }

    #[test]
    fn a_lost_reference_is_named() {
        let mut encoder = Encoder::with_reference(Profile::default(), Reference::Previous);
        let mut decoder = Decoder::new(Profile::default());
        let units: Vec<_> =
            (0..3).map(|_| encoder.push(&unit_of(&[0.1]), true).unwrap().unit).collect();
        let id = UnitNumber;
        decoder.decode(id(0), &units[0]).unwrap();
        let missing = DecodeError::MissingReference { id: id(2), reference: id(1) };
        assert_eq!(decoder.decode(id(2), &units[2]), Err(missing));
        decoder.decode(id(1), &units[1]).unwrap();
        decoder.decode(id(2), &units[2]).unwrap();
    }

    /// `HOSTILE_STRINGS=10000000 cargo test --release -p codec hostile` for ten million.
    #[test]
    fn hostile_strings_do_nothing_bad() {
        let n: u32 =
            std::env::var("HOSTILE_STRINGS").map_or(20_000, |n| n.parse().expect("a number"));
        let mut decoder = Decoder::new(Profile::default());
        let mut encoder = Encoder::new(Profile::default());
        let key = encoder.push(&unit_of(&[0.1]), true).unwrap().unit;
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let mut n_decoded = 0_u32;
        for i in 0..n {
            let id = UnitNumber(u64::from(i));
            if i % 16 == 0 {
                // So that there is something to build on.
                decoder.decode(id, &key).unwrap();
                continue;
            }
            let length = 1 + (random() % 40) as usize;
            let bytes: Vec<u8> = (0..length).map(|_| random() as u8).collect();
            n_decoded += u32::from(decoder.decode(id, &AccessUnit::parse(&bytes).unwrap()).is_ok());
        }
        // Some are a face: a range coder has few bytes that mean nothing.
        assert!(n_decoded > 0, "{n_decoded} of {n}");
    }

    #[test]
    fn what_a_unit_tells_better_takes_the_place_of_what_was_told() {
        let mut encoder = Encoder::with_reference(Profile::default(), Reference::Previous);
        let mut decoder = Decoder::new(Profile::default());
        let (mut told, mut units) = (FeatureTimeline::new(), Vec::new());
        for i in 0..10 {
            let unit = encoder.push(&unit_of(&[0.02 * i as f32, 0.1]), true).unwrap();
            let decoded = decoder.decode(unit.number, &unit.unit).unwrap();
            let time = MediaTime::of_frame(2 * i, 25);
            told.extend(decoded.features(told.newest_time(), time));
            units.push((decoded, time));
        }
        let mut told = told.drain();
        assert_eq!(told.pop(), units.last().map(|(unit, time)| unit.at(*time)));
        for ((told, pair), i) in told.iter().zip(units.windows(2)).zip(0..) {
            let [(unit, time), (next, _)] = [pair[0], pair[1]];
            let (pose, code) = next.corrected_previous.unwrap();
            assert_eq!(*told, Feature { time, pose, code }, "unit {i}");
            // Towards where it went, by a part of a step.
            let ahead = told.pose.rotation().x - unit.pose.rotation().x;
            let gone = next.pose.rotation().x - unit.pose.rotation().x;
            assert!(ahead > 0.0 && ahead < 0.2 * gone, "unit {i}: {ahead} of {gone}");
        }
    }

    #[test]
    fn an_outage_of_minutes_ends_with_the_first_key_unit() {
        for lost in [1, 63, 64, 255, 256, 32_767, 32_769, 65_000, 70_000] {
            let mut encoder = Encoder::with_reference(Profile::default(), Reference::Previous);
            encoder.set_key_interval(10);
            let mut decoder = Decoder::new(Profile::default());
            for _ in 0..15 {
                let EncodedUnit { number, unit, .. } =
                    encoder.push(&unit_of(&[0.1]), true).unwrap();
                decoder.decode(number, &unit).unwrap();
            }
            for i in 0..lost {
                encoder.push(&unit_of(&[0.002 * (i % 100) as f32]), true);
            }
            let after: Vec<bool> = (0..20)
                .map(|_| {
                    let EncodedUnit { number, unit, decoded: meant, .. } =
                        encoder.push(&unit_of(&[0.3]), true).unwrap();
                    let knows_before = decoder.history().state(number.offset(-1)).is_some();
                    let decoded = decoder.decode(number, &unit).ok();
                    assert!(decoded.is_none_or(|decoded| decoded == meant.to_who(knows_before)));
                    decoded.is_some()
                })
                .collect();
            assert!(after[10..].iter().all(|ok| *ok), "after {lost} lost units: {after:?}");
        }
    }
}
