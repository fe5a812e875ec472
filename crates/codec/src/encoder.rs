use std::collections::VecDeque;

use types::{FEATURE_DIMS, Feature, FeatureTimeline, MediaTime, Rate, UnitNumber};

use crate::AccessUnit;
use crate::decoder::{Decoded, base, dequantized};
use crate::history::StateHistory;
use crate::midpoints::{N_MIDPOINTS, midpoints};
use crate::profile::Profile;
use crate::rate_distortion::{EncodedLevels, Intermediates, UnitTarget, encode_levels};
use crate::syntax::{MAX_AGE, MAX_MOTION_SPAN, UnitHeader};

/// Default number of units from key unit to key unit with [`Reference::Previous`].
const KEY_INTERVAL: u32 = 125;
/// Largest number of intermediate features that are kept for the next unit.
const MAX_INTERMEDIATE: usize = 16;
/// Longest time between two units, in microseconds, for which midpoints are coded.
const MAX_MIDPOINT_INTERVAL: u64 = 400_000;

/// Which unit a delta unit references.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Reference {
    /// The newest acknowledged unit, or one that the packet repeats ([`Encoder::set_redundancy`]);
    /// a key unit if there is neither. For lossy channels: every unit that arrives decodes.
    #[default]
    Acknowledged,
    /// The previous unit. Smallest, for files and reliable channels: after a lost unit nothing
    /// decodes up to the next key unit.
    Previous,
}

/// Encoder of features.
///
/// It decides which frames become access units; see [`Encoder::push`]. Quantization and the
/// choice of levels are deterministic: the same calls give the same bytes on every machine.
#[derive(Clone, Debug)]
pub struct Encoder {
    profile: Profile,
    rate: Rate,
    reference: Reference,
    history: StateHistory,
    next: UnitNumber,
    /// Units in `history` that the peer has decoded, oldest first, none older than [`MAX_AGE`].
    acknowledged: VecDeque<UnitNumber>,
    last_key: Option<UnitNumber>,
    key_interval: u32,
    key_requested: bool,
    /// See [`Encoder::set_redundancy`].
    redundancy: u32,
    /// The header of the last unit, and how many consecutive units before it its packet must
    /// repeat so that it decodes.
    last_header: Option<(UnitHeader, u32)>,
    /// The feature of the last unit, not quantized.
    last: Option<Feature>,
    /// Features of later frames that became no unit, oldest first.
    intermediate: Vec<Feature>,
}

/// Treatment of the feature of a frame by [`Encoder::push`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FramePlan {
    /// The feature becomes an access unit.
    Unit,
    /// The feature contributes to the midpoints of the next unit.
    Intermediate,
    /// The feature is ignored.
    Skip,
}

/// Access unit with its number, its time and its content.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedUnit {
    /// Number of the unit in the stream, counted from 0.
    pub number: UnitNumber,
    /// Capture time of the unit's feature.
    pub time: MediaTime,
    /// The coded bytes.
    pub unit: AccessUnit,
    /// What a decoder that has the previous unit decodes, bit for bit.
    pub decoded: Decoded,
}

impl Encoder {
    /// Returns an encoder for a lossy channel ([`Reference::Acknowledged`]), at the normal rate
    /// and without redundancy.
    pub fn new(profile: Profile) -> Self {
        Self::with_reference(profile, Reference::Acknowledged)
    }

    /// Returns an encoder whose delta units reference `reference`, at the normal rate and without
    /// redundancy.
    pub fn with_reference(profile: Profile, reference: Reference) -> Self {
        Self {
            profile,
            rate: Rate::Normal,
            reference,
            history: StateHistory::new(),
            next: UnitNumber::default(),
            acknowledged: VecDeque::new(),
            last_key: None,
            key_interval: KEY_INTERVAL,
            key_requested: false,
            redundancy: 0,
            last_header: None,
            last: None,
            intermediate: Vec::new(),
        }
    }

    /// Sets the rate of the units from the next one on, and the redundancy that belongs to it. No
    /// key unit is needed. The units have the rate [`Rate::coded`].
    pub fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
        self.redundancy = rate.parameters().redundancy;
    }

    /// Sets the number of units from key unit to key unit with [`Reference::Previous`], clamped to
    /// 1..=16,384; initially 125. Has no effect with [`Reference::Acknowledged`].
    pub fn set_key_interval(&mut self, units: u32) {
        self.key_interval = units.clamp(1, 1 << 14);
    }

    /// Tells the encoder how many previous units the packetizer repeats in every packet at least;
    /// initially 0.
    ///
    /// A unit may then reference a repeated unit, which arrives in the same packet and is newer
    /// than any acknowledged one, so the residuals are smaller. [`Encoder::set_rate`] overrides
    /// this.
    pub fn set_redundancy(&mut self, units: u32) {
        self.redundancy = units;
    }

    /// Records that the peer has decoded a unit. With [`Reference::Acknowledged`], later units
    /// reference the newest acknowledged unit, unless they can reference a newer one that their
    /// packet repeats ([`Encoder::set_redundancy`]).
    ///
    /// Acknowledgements may come late, twice and out of order. An acknowledgement of an unknown or
    /// forgotten unit is ignored.
    pub fn acknowledge(&mut self, number: UnitNumber) {
        if self.history.state(number).is_none() || self.acknowledged.contains(&number) {
            return;
        }
        let at = self.acknowledged.partition_point(|known| number.since(*known) > 0);
        self.acknowledged.insert(at, number);
    }

    /// Makes the next frame a key unit. All units acknowledged before it are no longer referenced.
    pub fn request_key(&mut self) {
        self.key_requested = true;
    }

    /// Returns what [`Encoder::push`] will do with the feature of a frame captured at `time`, so
    /// that a tracker can decide how much work the frame is worth.
    pub fn plan(&self, time: MediaTime, is_last: bool) -> FramePlan {
        if is_last || self.key_requested {
            return FramePlan::Unit;
        }
        let Some(last) = &self.last else { return FramePlan::Unit };
        if is_due(self.rate, last.time, time) {
            return FramePlan::Unit;
        }
        let newest = self.intermediate.last().unwrap_or(last).time;
        let is_useful = self.rate.parameters().midpoint_depth > 0
            && self.intermediate.len() < MAX_INTERMEDIATE
            && time > newest
            && is_due(Rate::High, newest, time);
        if is_useful { FramePlan::Intermediate } else { FramePlan::Skip }
    }

    /// Adds the feature of the next frame; returns an access unit if one is due.
    ///
    /// A unit is due for the first frame, then at the unit interval of the rate, when a key unit
    /// was requested, when time goes back, and for the last frame of a clip (`is_last`).
    pub fn push(&mut self, feature: &Feature, is_last: bool) -> Option<EncodedUnit> {
        match self.plan(feature.time, is_last) {
            FramePlan::Unit => Some(self.encode(feature)),
            FramePlan::Intermediate => {
                self.intermediate.push(*feature);
                None
            }
            FramePlan::Skip => None,
        }
    }

    #[cfg(test)]
    pub(crate) fn history(&self) -> &StateHistory {
        &self.history
    }

    fn encode(&mut self, feature: &Feature) -> EncodedUnit {
        if std::mem::take(&mut self.key_requested) {
            // A peer that requests a key unit may have lost the units it acknowledged.
            self.acknowledged.clear();
            return self.encode_as(feature, UnitHeader::KEY);
        }
        self.encode_as(feature, self.best_header())
    }

    fn best_header(&self) -> UnitHeader {
        let number = self.next;
        let since_key = self.last_key.map_or(i64::MAX, |key| number.since(key));
        let span = |units: u32| if units <= MAX_MOTION_SPAN { units } else { 0 };
        match self.reference {
            Reference::Previous if since_key < i64::from(self.key_interval) => {
                UnitHeader { age: 1, motion_span: u32::from(since_key > 1) }
            }
            Reference::Previous => UnitHeader::KEY,
            Reference::Acknowledged => {
                // The packet repeats the previous unit and those it needs, so it can be the
                // reference, and its own reference the motion reference.
                if let Some((last, n_needed)) = self.last_header
                    && n_needed < self.redundancy
                    && self.acknowledged.back() != Some(&number.offset(-1))
                {
                    return UnitHeader { age: 1, motion_span: span(last.age) };
                }
                let mut newest_first = self.acknowledged.iter().rev();
                let Some(reference) = newest_first.next() else { return UnitHeader::KEY };
                let age = number.since(*reference) as u32;
                let earlier = newest_first.next();
                let motion_span =
                    earlier.map_or(0, |earlier| span(reference.since(*earlier) as u32));
                UnitHeader { age, motion_span }
            }
        }
    }

    /// Returns how many consecutive units before `number` its packet must repeat.
    fn n_needed(&self, number: UnitNumber, header: UnitHeader) -> u32 {
        let is_available =
            header.reference(number).is_none_or(|reference| self.acknowledged.contains(&reference));
        let of_last = self.last_header.map_or(0, |(_, n_needed)| n_needed);
        if is_available { 0 } else { of_last + 1 }
    }

    fn encode_as(&mut self, feature: &Feature, header: UnitHeader) -> EncodedUnit {
        let number = self.next;
        let end = self.profile.positions(&feature.to_array());
        let intermediates =
            if header == UnitHeader::KEY { None } else { self.intermediates(feature) };
        // Fallbacks: the midpoints may take too many bytes, the positions may be out of range of
        // the prediction, and a feature at the limits may round to an impossible one.
        let target = UnitTarget { end, intermediates };
        let without_midpoints = UnitTarget { end, intermediates: None };
        let mean = UnitTarget { end: [0; FEATURE_DIMS], intermediates: None };
        let attempts = [
            (header, &target),
            (header, &without_midpoints),
            (UnitHeader::KEY, &without_midpoints),
            (UnitHeader::KEY, &mean),
        ];
        let (header, coded, state, decoded) = attempts
            .into_iter()
            .find_map(|(header, target)| {
                let base = base(&self.history, number, header).ok()?;
                let EncodedLevels { coded, state, midpoints } =
                    encode_levels(&self.profile, header, base, self.rate.coded(), target)?;
                let previous = self.history.state(number.offset(-1));
                let is_key = header.age == 0;
                let midpoints = midpoints.as_ref();
                let decoded = dequantized(&self.profile, is_key, &state, previous, midpoints)?;
                Some((header, coded, state, decoded))
            })
            .expect("a key unit needs no reference, and a profile's mean is a feature");
        self.last = Some(*feature);
        self.intermediate.clear();
        self.last_header = Some((header, self.n_needed(number, header)));
        if header.age == 0 {
            self.last_key = Some(number);
        }
        self.history.insert(number, state, true);
        self.next = number.offset(1);
        let oldest = self.next.offset(-i64::from(MAX_AGE));
        while self.acknowledged.front().is_some_and(|number| number.since(oldest) < 0) {
            self.acknowledged.pop_front();
        }
        EncodedUnit { number, time: feature.time, unit: AccessUnit::new(coded), decoded }
    }

    /// Samples the frames since the last unit at the midpoints; `None` if the unit should not code
    /// any.
    fn intermediates(&self, feature: &Feature) -> Option<Intermediates> {
        let previous = self.last?;
        let start = self.history.state(self.next.offset(-1))?.positions;
        let interval = feature.time.as_micros().checked_sub(previous.time.as_micros())?;
        let mut frames = FeatureTimeline::from_iter([previous]);
        frames.extend(self.intermediate.iter().filter(|frame| frame.time < feature.time).copied());
        if frames.len() == 1
            || interval > MAX_MIDPOINT_INTERVAL
            || self.rate.parameters().midpoint_depth == 0
        {
            return None;
        }
        frames.push(*feature);
        let mut points = [[0; FEATURE_DIMS]; N_MIDPOINTS];
        for midpoint in midpoints(self.rate) {
            let passed = interval * midpoint.at as u64 / 4;
            let time = MediaTime::from_micros(previous.time.as_micros() + passed);
            points[midpoint.at - 1] = self.profile.positions(&frames.at(time)?.to_array());
        }
        Some(Intermediates { start, points })
    }
}

/// Whether a unit is due at `time` after one at `last`: half a frame early counts as due, and so
/// does a clock that went back.
fn is_due(rate: Rate, last: MediaTime, time: MediaTime) -> bool {
    const TICK: u64 = 40_000;
    let gap = time.as_micros().saturating_sub(last.as_micros());
    gap + TICK / 2 >= TICK * u64::from(rate.parameters().unit_interval) || time < last
}

#[cfg(test)]
mod tests {
    use types::{Code, HeadPose, MediaTime};

    use super::*;
    use crate::{Decoder, ErrorSensitivity};

    /// A head that nods and turns, a face that talks, and a little tracker noise.
    fn speech(n: usize) -> Vec<Feature> {
        let mut seed = 7_u32;
        let mut noise = move |size: f32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / 16_777_216.0 * 2.0 * size - size
        };
        (0..n)
            .map(|i| {
                let t = i as f32 * 0.04;
                let wave = |rate: f32, phase: f32| (t * rate + phase).sin();
                let mut pose = [0.1 * wave(2.0, 0.0), 0.2 * wave(1.0, 1.0), 0.03, 0.01, 0.0, 1.1];
                for value in &mut pose {
                    *value += noise(0.0005);
                }
                let mut code = [0.0; 30];
                for (dim, value) in code[..24].iter_mut().enumerate() {
                    *value = wave(1.0 + dim as f32 * 0.5, dim as f32) + noise(0.05);
                }
                Feature {
                    time: MediaTime::of_frame(i as u64, 25),
                    pose: HeadPose::from_array(pose).unwrap(),
                    code: Code::new(code).unwrap(),
                }
            })
            .collect()
    }

    fn fitted(features: &[Feature]) -> Profile {
        Profile::from_features(features, &ErrorSensitivity::from_geometry(features), 3e-6).unwrap()
    }

    /// Encodes, decodes and acknowledges a unit at once; returns its size in bytes.
    fn deliver(encoder: &mut Encoder, decoder: &mut Decoder, feature: &Feature) -> usize {
        let EncodedUnit { number, unit, decoded, .. } = encoder.encode(feature);
        assert_eq!(decoder.decode(number, &unit), Ok(decoded));
        encoder.acknowledge(number);
        unit.as_bytes().len()
    }

    /// Half of the packets are lost, and each repeats the `redundancy` previous units.
    #[test]
    fn every_unit_that_arrives_decodes_and_redundancy_makes_units_smaller() {
        let features = speech(1000);
        let profile = fitted(&features);
        let mut sizes = Vec::new();
        for redundancy in [0, 1, 2, 5] {
            let mut encoder = Encoder::new(profile.clone());
            let mut decoder = Decoder::new(profile.clone());
            encoder.set_redundancy(redundancy);
            let mut seed = 5_u32;
            let mut sent = VecDeque::new();
            let mut acks = VecDeque::new();
            let mut sum = 0;
            for (i, feature) in features.iter().enumerate() {
                while acks.front().is_some_and(|(at, _)| *at <= i) {
                    encoder.acknowledge(acks.pop_front().unwrap().1);
                }
                let unit = encoder.encode(feature);
                sum += unit.unit.as_bytes().len();
                sent.push_back(unit);
                if sent.len() > redundancy as usize + 1 {
                    sent.pop_front();
                }
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if seed >> 31 == 0 {
                    continue;
                }
                for (j, EncodedUnit { number, unit, decoded: expected, .. }) in
                    sent.iter().enumerate()
                {
                    let has_previous = decoder.history().state(number.offset(-1)).is_some();
                    match decoder.decode(*number, unit) {
                        Ok(decoded) => {
                            let expected = expected.given_previous(has_previous);
                            assert_eq!(decoded, expected, "unit {i}, redundancy {redundancy}");
                        }
                        Err(_) => assert!(j + 1 < sent.len(), "unit {i}, redundancy {redundancy}"),
                    }
                }
                acks.push_back((i + 6, sent.back().unwrap().number));
            }
            sizes.push(sum);
        }
        assert!(sizes.windows(2).all(|pair| pair[1] < pair[0]), "{sizes:?}");
    }

    #[test]
    fn a_fitted_profile_takes_fewer_bytes_for_less_error() {
        let features = speech(300);
        let error_and_bytes = |profile: Profile| {
            let mut encoder = Encoder::with_reference(profile, Reference::Previous);
            let mut error = 0.0;
            let mut sum = 0;
            for feature in &features {
                let EncodedUnit { unit, decoded, .. } = encoder.encode(feature);
                sum += unit.as_bytes().len();
                let decoded = decoded.at(feature.time).to_array();
                error += (decoded[1] - feature.to_array()[1]).powi(2);
            }
            (error, sum)
        };
        let (fitted, default) =
            (error_and_bytes(fitted(&features)), error_and_bytes(Profile::default()));
        assert!(fitted.0 < default.0 && fitted.1 < default.1, "{fitted:?} {default:?}");
    }

    #[test]
    fn a_face_at_rest_takes_one_byte_and_a_key_unit_at_most_sixty() {
        let features = speech(300);
        for rate in Rate::CODED {
            let mut encoder = Encoder::new(fitted(&features));
            encoder.set_rate(rate);
            let key_bytes = features.iter().map(|feature| {
                encoder.request_key();
                encoder.encode(feature).unit.as_bytes().len()
            });
            let largest = key_bytes.max();
            assert!(largest <= Some(60), "{largest:?}");

            let mut encoder = Encoder::with_reference(fitted(&features), Reference::Previous);
            encoder.set_rate(rate);
            let sizes: Vec<usize> =
                (0..24).map(|_| encoder.encode(&features[7]).unit.as_bytes().len()).collect();
            assert!(sizes[16..].iter().all(|size| *size == 1), "{sizes:?}");
        }
    }

    #[test]
    fn a_blink_between_two_units_is_coded_as_a_midpoint() {
        let features = speech(300);
        let profile = fitted(&features);
        for rate in Rate::CODED {
            let [mut encoder, mut without_frames] = [(); 2].map(|()| Encoder::new(profile.clone()));
            encoder.set_rate(rate);
            without_frames.set_rate(rate);
            let mut decoder = Decoder::new(profile.clone());
            let (mut n_seen, mut previous_time) = (0, None);
            for (i, feature) in features.iter().enumerate() {
                let mut feature = *feature;
                // Frame 152 becomes a unit at every rate.
                if i == 152 - rate.parameters().unit_interval as usize / 2 {
                    let mut values = feature.to_array();
                    values[9] += 4.0;
                    feature = Feature::from_array(feature.time, &values).unwrap();
                }
                let Some(unit) = encoder.push(&feature, false) else { continue };
                let EncodedUnit { number, unit, decoded, .. } = unit;
                assert_eq!(decoder.decode(number, &unit), Ok(decoded));
                let without_midpoints = without_frames.encode(&feature).decoded;
                assert_eq!(without_midpoints.intermediate, [None; N_MIDPOINTS]);
                encoder.acknowledge(number);
                without_frames.acknowledge(number);
                let previous_time = previous_time.replace(feature.time);
                let intermediate = decoded.features(previous_time, feature.time);
                for there in intermediate
                    .filter(|there| Some(there.time) > previous_time && there.time < feature.time)
                {
                    let original = &features[(there.time.as_micros() / 40_000) as usize];
                    assert_eq!(there.time, original.time);
                    let off = there.to_array()[9] - original.to_array()[9];
                    n_seen += usize::from((off - 4.0).abs() < 1.0);
                }
            }
            assert_eq!(n_seen, usize::from(rate != Rate::High), "{rate:?}");
        }
    }

    #[test]
    fn wild_intermediate_features_and_a_clock_that_goes_back_still_give_units() {
        let features = speech(300);
        let profile = fitted(&features);
        for rate in [Rate::Low, Rate::Normal] {
            let mut encoder = Encoder::new(profile.clone());
            let mut decoder = Decoder::new(profile.clone());
            encoder.set_rate(rate);
            for (i, feature) in features.iter().enumerate() {
                if encoder.plan(feature.time, false) == FramePlan::Unit {
                    deliver(&mut encoder, &mut decoder, feature);
                } else {
                    let wild =
                        features[0].to_array().map(|v| v + if i % 3 == 0 { 900.0 } else { 0.0 });
                    let wild = Feature::from_array(feature.time, &wild).unwrap();
                    assert_eq!(encoder.push(&wild, false), None);
                }
            }
            deliver(&mut encoder, &mut decoder, &Feature { time: MediaTime::ZERO, ..features[9] });
        }
    }

    #[test]
    fn midpoints_are_coded_for_frames_at_any_time_but_not_across_a_long_gap() {
        let features = speech(2);
        let profile = fitted(&speech(300));
        for (times, has_midpoint) in [
            (&[33, 66][..], true),
            (&[16, 33, 50, 66, 83], true),
            (&[70, 90], true),
            (&[80], false),
            (&[40, 1080], false),
            (&[0, 80], false),
        ] {
            let mut encoder = Encoder::with_reference(profile.clone(), Reference::Previous);
            encoder.encode(&features[0]);
            let [frames @ .., last] = times else { continue };
            // At the low rate, no frame but the last becomes a unit.
            encoder.set_rate(Rate::Low);
            for ms in frames {
                let mut values = features[1].to_array();
                values[9] += 5.0;
                let time = MediaTime::from_micros(ms * 1000);
                encoder.push(&Feature::from_array(time, &values).unwrap(), false);
            }
            encoder.set_rate(Rate::Normal);
            let time = MediaTime::from_micros(last * 1000);
            let decoded = encoder.encode(&Feature { time, ..features[0] }).decoded;
            let carried: Vec<u64> = decoded
                .features(Some(MediaTime::ZERO), time)
                .map(|feature| feature.time.as_micros() / 1000)
                .collect();
            let want = if has_midpoint { vec![0, last / 2, *last] } else { vec![0, *last] };
            assert_eq!(carried, want, "{times:?}");
        }
    }

    #[test]
    fn units_come_evenly_at_every_frame_rate() {
        for (rate, fps, every) in [
            (Rate::Satellite, 25, 5),
            (Rate::Low, 25, 4),
            (Rate::Normal, 25, 2),
            (Rate::High, 25, 1),
            (Rate::Normal, 30, 2),
            (Rate::High, 60, 2),
            (Rate::Normal, 12, 1),
        ] {
            let mut last = MediaTime::ZERO;
            let due: Vec<u64> = (1..=8)
                .filter(|&i| {
                    let time = MediaTime::of_frame(i, fps);
                    let is_due = is_due(rate, last, time);
                    last = if is_due { time } else { last };
                    is_due
                })
                .collect();
            let want: Vec<u64> = (1..=8).filter(|i| i % every == 0).collect();
            assert_eq!(due, want, "{rate:?} at {fps}");
        }
    }

    #[test]
    fn the_rate_changes_without_a_key_unit() {
        let features = speech(120);
        let profile = fitted(&features);
        let mut encoder = Encoder::new(profile.clone());
        let mut decoder = Decoder::new(profile);
        let mut sizes = [0; 3];
        for (i, feature) in features.iter().enumerate() {
            let which = i / 40;
            encoder.set_rate(Rate::CODED[which]);
            let Some(EncodedUnit { number, unit, decoded, .. }) = encoder.push(feature, false)
            else {
                continue;
            };
            assert_eq!(decoder.decode(number, &unit), Ok(decoded));
            encoder.acknowledge(number);
            sizes[which] += if i % 40 > 5 { unit.as_bytes().len() } else { 0 };
            assert_eq!((decoded.is_key, decoded.rate), (i == 0, Rate::CODED[which]));
        }
        assert!(sizes.is_sorted(), "{sizes:?}");
    }

    #[test]
    fn a_unit_is_due_at_the_interval_of_the_rate_for_the_last_frame_and_on_request() {
        let features = speech(40);
        let mut encoder = Encoder::new(Profile::default());
        let count = |encoder: &mut Encoder| {
            features.iter().filter_map(|feature| encoder.push(feature, false)).count()
        };
        for (rate, want) in Rate::ALL.into_iter().zip([8, 10, 20, 40]) {
            encoder.set_rate(rate);
            assert_eq!(count(&mut encoder), want, "{rate:?}");
        }
        let last = encoder.last.unwrap().time;
        assert_eq!(encoder.plan(last, false), FramePlan::Skip);
        assert_eq!(encoder.plan(last, true), FramePlan::Unit);
        encoder.request_key();
        assert_eq!(encoder.plan(last, false), FramePlan::Unit);
    }

    #[test]
    fn every_unit_that_arrives_decodes_however_many_were_lost_before_it() {
        let features = speech(1500);
        let profile = fitted(&features);
        let random = |percent: u32| {
            let mut seed = 11_u32;
            move |_: usize| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) % 100 < percent
            }
        };
        // 400 ms of every two seconds, at 25 units per second.
        let bursts = |i: usize| i % 50 >= 40;
        let check = |name: &str, mut is_lost: Box<dyn FnMut(usize) -> bool>| {
            let mut encoder = Encoder::new(profile.clone());
            let mut decoder = Decoder::new(profile.clone());
            let mut acks: VecDeque<(usize, UnitNumber)> = VecDeque::new();
            let (mut arrived, mut failed, mut gap, mut longest) = (0, 0, 0, 0);
            for (i, feature) in features.iter().enumerate() {
                while acks.front().is_some_and(|(at, _)| *at <= i) {
                    encoder.acknowledge(acks.pop_front().unwrap().1);
                }
                let EncodedUnit { number, unit, decoded: expected, .. } = encoder.encode(feature);
                gap += 1;
                if !is_lost(i) {
                    arrived += 1;
                    match decoder.decode(number, &unit) {
                        Ok(decoded) => {
                            assert_eq!(decoded, expected.given_previous(gap == 1), "{name} {i}");
                            gap = 0;
                            // Reports are lost as often as units.
                            if !is_lost(i) {
                                acks.push_back((i + 3, number));
                            }
                        }
                        Err(_) => failed += 1,
                    }
                }
                longest = longest.max(gap);
            }
            (arrived, failed, longest)
        };
        let (arrived, failed, longest) = check("30 %", Box::new(random(30)));
        assert!(arrived > 1000 && failed == 0 && longest <= 8, "{arrived} {failed} {longest}");
        let (arrived, failed, longest) = check("50 %", Box::new(random(50)));
        assert!(arrived > 700 && failed == 0 && longest <= 14, "{arrived} {failed} {longest}");
        let (arrived, failed, longest) = check("bursts", Box::new(bursts));
        assert_eq!((arrived, failed, longest), (1200, 0, 10));
    }

    #[test]
    fn without_acknowledgements_units_reference_only_repeated_units() {
        for (redundancy, every) in [(0, 1), (1, 2), (2, 3)] {
            let mut encoder = Encoder::new(Profile::default());
            encoder.set_redundancy(redundancy);
            for (i, feature) in speech(80).iter().enumerate() {
                assert_eq!(encoder.encode(feature).decoded.is_key, i % every == 0, "unit {i}");
            }
        }
    }

    #[test]
    fn one_acknowledged_unit_is_enough_to_decode_the_next_32() {
        let features = speech(40);
        let mut encoder = Encoder::new(Profile::default());
        let mut decoder = Decoder::new(Profile::default());
        for feature in &features[..2] {
            deliver(&mut encoder, &mut decoder, feature);
        }
        // Nothing more is acknowledged, and of the later units only one arrives.
        for (i, feature) in features[2..].iter().enumerate() {
            let EncodedUnit { number, unit, decoded: expected, .. } = encoder.encode(feature);
            let decoded = decoder.clone().decode(number, &unit);
            if i < MAX_AGE as usize {
                assert_eq!(decoded, Ok(expected.given_previous(i == 0)), "unit {i}");
            }
        }
    }

    #[test]
    fn a_requested_key_unit_comes_next_and_only_once() {
        let features = speech(10);
        let mut encoder = Encoder::new(Profile::default());
        encoder.set_redundancy(1);
        for feature in &features {
            let number = encoder.encode(feature).number;
            encoder.acknowledge(number);
        }
        encoder.request_key();
        let EncodedUnit { number, unit, .. } = encoder.encode(&features[0]);
        assert!(Decoder::new(Profile::default()).decode(number, &unit).unwrap().is_key);
        assert!(!encoder.encode(&features[1]).decoded.is_key);
    }

    #[test]
    fn acknowledgements_of_unknown_units_are_ignored() {
        let features = speech(3);
        let mut encoder = Encoder::new(Profile::default());
        let mut other = encoder.clone();
        for feature in &features {
            encoder.acknowledge(UnitNumber(77));
            assert_eq!(encoder.encode(feature), other.encode(feature));
        }
    }
}
