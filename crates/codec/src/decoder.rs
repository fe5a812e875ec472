use types::{Code, FEATURE_DIMS, Feature, HeadPose, MediaTime};

use crate::history::History;
use crate::prediction::{Base, State};
use crate::profile::Profile;
use crate::range_coder::SymbolReader;
use crate::syntax::{Header, code_header, code_levels};
use crate::{AccessUnit, UnitId};

/// A feature without its time, which the packets carry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decoded {
    /// Which unit this was; report it back as decoded.
    pub id: UnitId,
    /// Whether the unit stood alone.
    pub is_key: bool,
    /// Where the head is.
    pub pose: HeadPose,
    /// What the face and the torso do.
    pub code: Code,
}

impl Decoded {
    /// The feature, given when its frame was captured.
    pub fn at(&self, time: MediaTime) -> Feature {
        Feature { time, pose: self.pose, code: self.code }
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
    MissingReference { id: UnitId, reference: UnitId },
    /// Damaged, or made with another profile. Drop the unit.
    #[error("the bytes of the access unit are no code of any feature")]
    Corrupt,
    /// The numbers are no feature: only a damaged or hostile unit has them. Drop it.
    #[error("unit {id} describes no possible feature")]
    NotAFeature { id: UnitId },
}

/// Access units in, features out.
///
/// Whenever [`Decoder::decode`] gives a feature, it is exactly the one the encoder thinks it
/// gives, whatever was lost, doubled or came late. The only state is that of the last 64 units.
/// Ids come around after 4096 units: after two minutes without any, begin with a new decoder.
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

    /// Decodes a unit, in whatever order it came. The same unit again gives the same feature.
    ///
    /// # Errors
    /// If the unit's reference is not there, or the unit is damaged. The decoder is then unchanged.
    pub fn decode(&mut self, unit: &AccessUnit) -> Result<Decoded, DecodeError> {
        let (low_id, coded) = unit.split();
        let mut reader = SymbolReader::new(coded);
        let nothing = Header { id: UnitId::default(), age: 0, tap: 0 };
        let header = code_header(&mut reader, low_id, nothing).map_err(|_| DecodeError::Corrupt)?;
        let base = base(&self.history, &header)?;
        let state = code_levels(&mut reader, &self.profile, base, &[0; FEATURE_DIMS])
            .map_err(|_| DecodeError::Corrupt)?;
        let decoded = dequantized(&self.profile, &header, &state)
            .ok_or(DecodeError::NotAFeature { id: header.id })?;
        self.history.insert(header.id, state, header.age == 0);
        Ok(decoded)
    }
}

/// The states a unit names.
pub(crate) fn base<'a>(history: &'a History, header: &Header) -> Result<Base<'a>, DecodeError> {
    let state = |reference| {
        let missing = DecodeError::MissingReference { id: header.id, reference };
        history.state(reference).ok_or(missing)
    };
    let Some(reference) = header.reference() else { return Ok(Base::Rest) };
    let before = match header.before() {
        Some(before) => Some((state(before)?, header.tap)),
        None => None,
    };
    Ok(Base::Reference { state: state(reference)?, age: header.age, before })
}

/// The numbers that a state's levels stand for, `(mean + level) * step`; none if no face has them.
pub(crate) fn dequantized(profile: &Profile, header: &Header, state: &State) -> Option<Decoded> {
    let mut values = [0.0; FEATURE_DIMS];
    for ((value, model), level) in values.iter_mut().zip(profile.dims()).zip(state.levels) {
        // Both below 2^17: exact as f32, so the product is rounded once and alike everywhere.
        *value = (model.mean + level) as f32 * model.step;
    }
    let feature = Feature::from_array(MediaTime::ZERO, &values).ok()?;
    let Feature { pose, code, .. } = feature;
    Some(Decoded { id: header.id, is_key: header.age == 0, pose, code })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use types::POSE_DIMS;

    use super::*;
    use crate::{Encoder, Reference};

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
            let walk = steps.iter().map(|step| {
                for (value, by) in all.iter_mut().zip(step) {
                    *value += by;
                }
                all[POSE_DIMS - 1] = all[POSE_DIMS - 1].max(0.3);
                Feature::from_array(MediaTime::ZERO, &all).unwrap()
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
        fn a_round_trip_loses_at_most_half_a_step(feature in any_feature()) {
            let profile = Profile::default();
            let steps = profile.steps();
            let mut encoder = Encoder::new(profile.clone());
            let decoded = Decoder::new(profile).decode(&encoder.encode_key(&feature)).unwrap();
            let (sent, got) = (feature.to_array(), decoded.at(MediaTime::ZERO).to_array());
            for dim in 0..FEATURE_DIMS {
                // What the quantizer cannot reach, it takes to the nearest it can.
                let reach = steps[dim] * 65_000.0;
                if sent[dim].abs() < reach.min(990.0) && (dim != POSE_DIMS - 1 || sent[dim] > 0.02) {
                    let half = steps[dim] * 0.5 + sent[dim].abs() * 1e-6;
                    prop_assert!((sent[dim] - got[dim]).abs() <= half, "dimension {}", dim);
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
                let _ = decoder.decode(&encoder.encode(&feature));
                bytes[0] = i as u8; // so that a reference is often there
                let _ = decoder.decode(&AccessUnit::parse(&bytes).unwrap());
            }
        }

        #[test]
        fn whatever_is_lost_late_or_doubled_what_decodes_is_what_was_meant(
            features in any_walk(300),
            fates in prop::collection::vec(any_fate(), 300),
            keys in prop::collection::vec(0_usize..300, 0..4),
            reference in prop_oneof![Just(Reference::Acknowledged), Just(Reference::Previous)],
        ) {
            let mut encoder = Encoder::with_reference(Profile::default(), reference);
            let mut decoder = Decoder::new(Profile::default());
            let mut arrivals: HashMap<usize, Vec<(usize, usize)>> = HashMap::new();
            let mut acks: HashMap<usize, Vec<UnitId>> = HashMap::new();
            let mut sent: Vec<(AccessUnit, Decoded)> = Vec::new();
            let mut n_decoded = 0;
            for (now, feature) in features.iter().enumerate() {
                for id in acks.remove(&now).unwrap_or_default() {
                    encoder.acknowledge(id);
                }
                if keys.contains(&now) {
                    encoder.request_key();
                }
                let unit = encoder.encode(feature);
                sent.push((unit, encoder.reconstruction().unwrap()));
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
                    if let Ok(decoded) = decoder.decode(&sent[which].0) {
                        prop_assert_eq!(decoded, sent[which].1);
                        acks.entry(now + 1 + ack_after).or_default().push(decoded.id);
                        n_decoded += 1;
                    }
                }
            }
            prop_assert!(n_decoded > 0);
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
        let units: Vec<_> = (0..3).map(|_| encoder.encode(&unit_of(&[0.1]))).collect();
        decoder.decode(&units[0]).unwrap();
        let (id, reference) = (UnitId::from_count(2), UnitId::from_count(1));
        assert_eq!(decoder.decode(&units[2]), Err(DecodeError::MissingReference { id, reference }));
        decoder.decode(&units[1]).unwrap();
        decoder.decode(&units[2]).unwrap();
    }

    #[test]
    fn an_outage_of_minutes_ends_with_the_first_key_unit() {
        for lost in [1, 63, 64, 255, 256, 2047, 2049, 4000, 5000] {
            let mut encoder = Encoder::with_reference(Profile::default(), Reference::Previous);
            encoder.set_key_interval(10);
            let mut decoder = Decoder::new(Profile::default());
            for _ in 0..15 {
                decoder.decode(&encoder.encode(&unit_of(&[0.1]))).unwrap();
            }
            for i in 0..lost {
                encoder.encode(&unit_of(&[0.002 * (i % 100) as f32]));
            }
            let after: Vec<bool> = (0..20)
                .map(|_| {
                    let unit = encoder.encode(&unit_of(&[0.3]));
                    let decoded = decoder.decode(&unit).ok();
                    assert!(decoded.is_none() || decoded == encoder.reconstruction());
                    decoded.is_some()
                })
                .collect();
            assert!(after[10..].iter().all(|ok| *ok), "after {lost} lost units: {after:?}");
        }
    }
}
