use std::collections::VecDeque;

use types::{FEATURE_DIMS, Feature, FeatureTimeline, MediaTime, Rate, UnitNumber};

use crate::AccessUnit;
use crate::bends::{N_POINTS, halvings};
use crate::decoder::{Decoded, base, dequantized};
use crate::history::History;
use crate::profile::Profile;
use crate::rate_distortion::{Shortest, Wanted, Way, shortest};
use crate::syntax::{Header, MAX_AGE, MAX_TAP};

/// Units between key units where nothing is acknowledged.
const KEY_INTERVAL: u32 = 125;
/// Features on the way that are remembered, at most.
const MAX_INTERMEDIATE: usize = 16;
/// Units farther apart than this, microseconds, have nothing to do with each other.
const LONGEST_WAY: u64 = 400_000;

/// What delta units build on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Reference {
    /// The newest acknowledged unit, or nothing while none is: for channels that lose. A unit
    /// decodes whatever was lost before its packet; see [`Encoder::set_redundancy`].
    #[default]
    Acknowledged,
    /// The unit before: smallest, for files and channels that lose nothing. One lost unit takes
    /// all up to the next key unit with it.
    Previous,
}

/// Features in, access units out.
///
/// # Examples
/// See the crate's page.
#[derive(Clone, Debug)]
pub struct Encoder {
    profile: Profile,
    rate: Rate,
    reference: Reference,
    history: History,
    next: UnitNumber,
    /// Ids of units in `history` that the peer has decoded, oldest first, bounded by [`MAX_AGE`].
    acknowledged: VecDeque<UnitNumber>,
    last_key: Option<UnitNumber>,
    key_interval: u32,
    key_requested: bool,
    /// See [`Encoder::set_redundancy`].
    redundancy: u32,
    /// The header of the last unit, and how many of those before it must ride along for it to
    /// decode.
    last_header: Option<(Header, u32)>,
    /// The feature that the last unit was made from.
    last: Option<Feature>,
    /// Features of the frames since then, oldest first.
    intermediate: Vec<Feature>,
}

/// What [`Encoder::push`] will do with the feature of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FramePlan {
    /// The feature becomes an access unit.
    Unit,
    /// The feature refines the midpoints that the next unit codes.
    Intermediate,
    /// The feature is ignored.
    Skip,
}

/// One access unit, with what its carrier must know about it.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedUnit {
    /// Number of the unit in its stream.
    pub number: UnitNumber,
    /// When the frame of its feature was captured.
    pub time: MediaTime,
    /// The coded bytes.
    pub unit: AccessUnit,
    /// What a decoder that has the previous unit decodes, bit for bit.
    pub decoded: Decoded,
}

impl Encoder {
    /// An encoder for a channel that loses, [`Reference::Acknowledged`].
    pub fn new(profile: Profile) -> Self {
        Self::with_reference(profile, Reference::Acknowledged)
    }

    /// An encoder whose delta units build on `reference`.
    pub fn with_reference(profile: Profile, reference: Reference) -> Self {
        Self {
            profile,
            rate: Rate::Normal,
            reference,
            history: History::new(),
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

    /// Sets how finely and how often features are coded from the next unit on, and the redundancy
    /// that belongs to the rate. No key unit is needed.
    pub fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
        self.redundancy = rate.parameters().redundancy;
    }

    /// Makes every `units`-th unit a key unit, where each builds on the one before; 125 unless
    /// told, 16,384 at most.
    pub fn set_key_interval(&mut self, units: u32) {
        self.key_interval = units.clamp(1, 1 << 14);
    }

    /// Sets how many earlier units every packet repeats; initially none.
    ///
    /// A unit may then reference a repeated unit, which is nearer than any acknowledged one, so
    /// the residuals are smaller. [`Encoder::set_rate`] sets the redundancy of the rate.
    pub fn set_redundancy(&mut self, units: u32) {
        self.redundancy = units;
    }

    /// The peer has decoded this unit: those to come build on the newest such.
    ///
    /// Acknowledgements may come late, doubled and out of order; of units unknown they are ignored.
    pub fn acknowledge(&mut self, id: UnitNumber) {
        if self.history.state(id).is_none() || self.acknowledged.contains(&id) {
            return;
        }
        let at = self.acknowledged.partition_point(|known| id.since(*known) > 0);
        self.acknowledged.insert(at, id);
    }

    /// The peer is lost: the next unit stands alone.
    pub fn request_key(&mut self) {
        self.key_requested = true;
    }

    /// Returns what [`Encoder::push`] will do with the feature of a frame captured at `time`.
    ///
    /// A tracker can decide by it how much work the frame is worth.
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

    /// Adds the feature of the next frame and returns an access unit if one is due.
    ///
    /// Units come at the interval of the rate, when a key unit was requested, and for the last
    /// frame of a clip (`is_last`). See [`Encoder::plan`].
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

    fn encode(&mut self, feature: &Feature) -> EncodedUnit {
        if std::mem::take(&mut self.key_requested) {
            // Whoever asks for a key unit has forgotten the units it acknowledged.
            self.acknowledged.clear();
            return self.encode_as(feature, Header::KEY);
        }
        self.encode_as(feature, self.best_header())
    }

    #[cfg(test)]
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    fn best_header(&self) -> Header {
        let id = self.next;
        let since_key = self.last_key.map_or(i64::MAX, |key| id.since(key));
        match self.reference {
            Reference::Previous if since_key < i64::from(self.key_interval) => {
                Header { age: 1, tap: u32::from(since_key > 1) }
            }
            Reference::Previous => Header::KEY,
            Reference::Acknowledged => {
                // What the unit before builds on is safe, and the start of a motion.
                if let Some((last, n_needed)) = self.last_header
                    && n_needed < self.redundancy
                    && self.acknowledged.back() != Some(&id.offset(-1))
                {
                    return Header { age: 1, tap: if last.age <= MAX_TAP { last.age } else { 0 } };
                }
                let Some(reference) = self.acknowledged.back() else { return Header::KEY };
                let age = id.since(*reference) as u32;
                let tap = self.acknowledged.iter().rev().nth(1);
                let tap = tap.map_or(0, |before| reference.since(*before) as u32);
                Header { age, tap: if tap <= MAX_TAP { tap } else { 0 } }
            }
        }
    }

    /// Whether the unit before is needed, and those that it needs in turn.
    fn n_needed(&self, id: UnitNumber, header: Header) -> u32 {
        let is_safe =
            header.reference(id).is_none_or(|reference| self.acknowledged.contains(&reference));
        let of_last = self.last_header.map_or(0, |(_, n_needed)| n_needed);
        if is_safe { 0 } else { of_last + 1 }
    }

    fn encode_as(&mut self, feature: &Feature, header: Header) -> EncodedUnit {
        let id = self.next;
        let end = self.profile.positions(&feature.to_array());
        let way = if header == Header::KEY { None } else { self.way_to(feature) };
        let wanted = Wanted { end, way };
        let alone = Wanted { end, way: None };
        // A way may be too wild for a unit, and a feature at the edge of what is possible may lie
        // beyond it once it is rounded.
        let rest = Wanted { end: [0; FEATURE_DIMS], way: None };
        let (header, coded, state, decoded) =
            [(header, &wanted), (header, &alone), (Header::KEY, &alone), (Header::KEY, &rest)]
                .into_iter()
                .find_map(|(header, wanted)| {
                    let base = base(&self.history, id, header).ok()?;
                    let Shortest { coded, state, bends } =
                        shortest(&self.profile, header, base, self.rate, wanted)?;
                    let (is_key, before) = (header.age == 0, self.history.state(id.offset(-1)));
                    let decoded =
                        dequantized(&self.profile, is_key, &state, before, bends.as_ref())?;
                    Some((header, coded, state, decoded))
                })
                .expect("a key unit needs no reference, and a profile's mean is a feature");
        self.last = Some(*feature);
        self.intermediate.clear();
        self.last_header = Some((header, self.n_needed(id, header)));
        if header.age == 0 {
            self.last_key = Some(id);
        }
        self.history.insert(id, state, true);
        self.next = id.offset(1);
        while self.acknowledged.front().is_some_and(|id| self.next.since(*id) > i64::from(MAX_AGE))
        {
            self.acknowledged.pop_front();
        }
        EncodedUnit { number: id, time: feature.time, unit: AccessUnit::new(coded), decoded }
    }

    /// Where the frames since the last unit say that the face went, if they do.
    fn way_to(&self, feature: &Feature) -> Option<Way> {
        let before = self.last?;
        let from = self.history.state(self.next.offset(-1))?.positions;
        let (start, end) = (before.time.as_micros(), feature.time.as_micros());
        let passed = end.checked_sub(start)?;
        let mut known = FeatureTimeline::from_iter([before]);
        known.extend(self.intermediate.iter().filter(|frame| frame.time < feature.time).copied());
        if known.len() == 1 || passed > LONGEST_WAY || self.rate.parameters().midpoint_depth == 0 {
            return None;
        }
        known.push(*feature);
        let mut points = [[0; FEATURE_DIMS]; N_POINTS];
        for halving in halvings(self.rate) {
            let time = MediaTime::from_micros(start + passed * halving.at as u64 / 4);
            let there = known.at(time)?;
            points[halving.at - 1] = self.profile.positions(&there.to_array());
        }
        Some(Way { from, points })
    }
}

/// Whether a unit is due at `time`, given the time of the last one. Half a frame early is not too
/// early, and a clock that goes back starts over.
fn is_due(rate: Rate, last: MediaTime, time: MediaTime) -> bool {
    const TICK: u64 = 40_000;
    let gap = time.as_micros().saturating_sub(last.as_micros());
    gap + TICK / 2 >= TICK * u64::from(rate.parameters().unit_interval) || time < last
}

#[cfg(test)]
mod tests {
    use types::{Code, HeadPose, MediaTime};

    use super::*;
    use crate::{Decoder, Visibility};

    /// A head that nods and turns, a face that talks, and a little noise of a tracker.
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
        Profile::from_features(features, &Visibility::from_geometry(features), 3e-6).unwrap()
    }

    /// Codes and decodes, and takes whatever comes for acknowledged at once.
    fn deliver(encoder: &mut Encoder, decoder: &mut Decoder, feature: &Feature) -> usize {
        let EncodedUnit { number, unit, decoded, .. } = encoder.encode(feature);
        assert_eq!(decoder.decode(number, &unit), Ok(decoded));
        encoder.acknowledge(number);
        unit.as_bytes().len()
    }

    /// Every packet holds the units before its own that ride along, and one packet in two arrives:
    /// each that does is decoded, whatever was lost before it.
    #[test]
    fn a_unit_builds_on_what_rides_along_and_is_smaller() {
        let features = speech(1000);
        let profile = fitted(&features);
        let mut sizes = Vec::new();
        for riding in [0, 1, 2, 5] {
            let mut encoder = Encoder::new(profile.clone());
            let mut decoder = Decoder::new(profile.clone());
            encoder.set_redundancy(riding);
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
                if sent.len() > riding as usize + 1 {
                    sent.pop_front();
                }
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if seed >> 31 == 0 {
                    continue;
                }
                for (j, EncodedUnit { number, unit, decoded: meant, .. }) in sent.iter().enumerate()
                {
                    let knows_before = decoder.history().state(number.offset(-1)).is_some();
                    match decoder.decode(*number, unit) {
                        Ok(decoded) => {
                            let meant = meant.to_who(knows_before);
                            assert_eq!(decoded, meant, "unit {i}, riding {riding}");
                        }
                        Err(_) => assert!(j + 1 < sent.len(), "unit {i}, riding {riding}"),
                    }
                }
                acks.push_back((i + 6, sent.back().unwrap().number));
            }
            sizes.push(sum);
        }
        assert!(sizes.windows(2).all(|pair| pair[1] < pair[0]), "{sizes:?}");
    }

    #[test]
    fn a_profile_of_one_s_own_takes_fewer_bytes_for_less_error() {
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
        let (own, general) =
            (error_and_bytes(fitted(&features)), error_and_bytes(Profile::default()));
        assert!(own.0 < general.0 && own.1 < general.1, "{own:?} {general:?}");
    }

    #[test]
    fn a_resting_face_takes_a_byte_and_a_key_unit_sixty_at_most() {
        let features = speech(300);
        for rate in Rate::ALL {
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

    /// A blink between two units: what the peer is told of it, and where it is told nothing.
    #[test]
    fn a_unit_tells_how_the_face_got_there() {
        let features = speech(300);
        let profile = fitted(&features);
        for rate in Rate::ALL {
            let [mut told, mut silent] = [(); 2].map(|()| Encoder::new(profile.clone()));
            let mut decoder = Decoder::new(profile.clone());
            let (mut n_seen, mut before) = (0, None);
            for (i, feature) in features.iter().enumerate() {
                let mut feature = *feature;
                if i == 152 - rate.parameters().unit_interval as usize / 2 {
                    let mut values = feature.to_array();
                    values[9] += 4.0;
                    feature = Feature::from_array(feature.time, &values).unwrap();
                }
                for encoder in [&mut told, &mut silent] {
                    encoder.set_rate(rate);
                }
                // There is a unit of every rate for frame 152.
                let Some(unit) = told.push(&feature, false) else { continue };
                let EncodedUnit { number, unit, decoded: meant, .. } = unit;
                let without_midpoints = silent.encode(&feature).decoded;
                assert_eq!(decoder.decode(number, &unit).unwrap(), meant);
                for encoder in [&mut told, &mut silent] {
                    encoder.acknowledge(number);
                }
                if let Some(before) = before.replace(feature.time) {
                    let way = meant.earlier_features(before, feature.time);
                    for there in way.filter(|there| there.time > before) {
                        let original = &features[(there.time.as_micros() / 40_000) as usize];
                        assert_eq!(there.time, original.time);
                        let off = there.to_array()[9] - original.to_array()[9];
                        n_seen += usize::from((off - 4.0).abs() < 1.0);
                    }
                }
                assert_eq!(without_midpoints.intermediate, [None; N_POINTS]);
            }
            assert_eq!(n_seen, usize::from(rate != Rate::High), "{rate:?}");
        }
    }

    /// A frame in which the tracker saw something else altogether, and times that go back.
    #[test]
    fn whatever_happens_on_the_way_fits_in_a_unit() {
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

    /// A camera of another rate, a frame that came late, a camera that was off for a second.
    #[test]
    fn the_way_is_that_of_the_frames_whenever_they_came() {
        let features = speech(2);
        let profile = fitted(&speech(300));
        for (times, bends) in [
            (&[33, 66][..], true),
            (&[16, 33, 50, 66, 83], true),
            (&[70, 90], true),
            (&[80], false),
            (&[40, 1080], false),
            (&[0, 80], false),
        ] {
            let mut encoder = Encoder::with_reference(profile.clone(), Reference::Previous);
            encoder.encode(&features[0]);
            let mut decoded = None;
            for (i, ms) in times.iter().enumerate() {
                let time = MediaTime::from_micros(ms * 1000);
                // No frame but the last is due at the low rate.
                if i + 1 == times.len() {
                    encoder.set_rate(Rate::Normal);
                    decoded = Some(encoder.encode(&Feature { time, ..features[0] }).decoded);
                } else {
                    encoder.set_rate(Rate::Low);
                    let mut values = features[1].to_array();
                    values[9] += 5.0;
                    encoder.push(&Feature::from_array(time, &values).unwrap(), false);
                }
            }
            let way: Vec<u64> = decoded
                .unwrap()
                .earlier_features(
                    MediaTime::ZERO,
                    MediaTime::from_micros(times[times.len() - 1] * 1000),
                )
                .map(|feature| feature.time.as_micros() / 1000)
                .collect();
            let half = times[times.len() - 1] / 2;
            assert_eq!(way, if bends { vec![0, half] } else { vec![0] }, "{times:?}");
        }
    }

    #[test]
    fn units_come_evenly_at_every_frame_rate() {
        for (rate, fps, every) in [
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
    fn rate_changes_without_a_key_unit() {
        let features = speech(120);
        let profile = fitted(&features);
        let mut encoder = Encoder::new(profile.clone());
        let mut decoder = Decoder::new(profile);
        encoder.set_redundancy(2);
        let mut sizes = [0; 3];
        for (i, feature) in features.iter().enumerate() {
            let which = i / 40;
            encoder.set_rate(Rate::ALL[which]);
            let Some(EncodedUnit { number, unit, decoded, .. }) = encoder.push(feature, false)
            else {
                continue;
            };
            assert_eq!(decoder.decode(number, &unit), Ok(decoded));
            encoder.acknowledge(number);
            sizes[which] += if i % 40 > 5 { unit.as_bytes().len() } else { 0 };
            assert_eq!((decoded.is_key, decoded.rate), (i == 0, Rate::ALL[which]));
        }
        assert!(sizes.is_sorted(), "{sizes:?}");
    }

    #[test]
    fn a_unit_is_wanted_as_often_as_the_rate_says_and_when_a_key_is() {
        let features = speech(40);
        let mut encoder = Encoder::new(Profile::default());
        let count = |encoder: &mut Encoder| {
            features.iter().filter_map(|feature| encoder.push(feature, false)).count()
        };
        for (rate, want) in Rate::ALL.into_iter().zip([10, 20, 40]) {
            encoder.set_rate(rate);
            assert_eq!(count(&mut encoder), want, "{rate:?}");
        }
        let last = encoder.last.unwrap().time;
        assert_eq!(encoder.plan(last, false), FramePlan::Skip);
        assert_eq!(encoder.plan(last, true), FramePlan::Unit);
        encoder.request_key();
        assert_eq!(encoder.plan(last, false), FramePlan::Unit);
    }

    /// Every unit that arrives decodes to what was meant, however many were lost before it.
    #[test]
    fn whatever_arrives_restores_the_face() {
        let features = speech(1500);
        let profile = fitted(&features);
        let random = |percent: u32| {
            let mut seed = 11_u32;
            move |_: usize| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) % 100 < percent
            }
        };
        // 400 ms of each two seconds, at 25 units a second.
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
                let EncodedUnit { number: id, unit, decoded: meant, .. } = encoder.encode(feature);
                gap += 1;
                if !is_lost(i) {
                    arrived += 1;
                    match decoder.decode(id, &unit) {
                        Ok(decoded) => {
                            assert_eq!(decoded, meant.to_who(gap == 1), "{name} {i}");
                            gap = 0;
                            // Reports get lost as units do.
                            if !is_lost(i) {
                                acks.push_back((i + 3, id));
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
    fn without_acknowledgements_units_build_on_nothing_but_what_rides_along() {
        for (riding, every) in [(0, 1), (1, 2), (2, 3)] {
            let mut encoder = Encoder::new(Profile::default());
            encoder.set_redundancy(riding);
            for (i, feature) in speech(80).iter().enumerate() {
                assert_eq!(encoder.encode(feature).decoded.is_key, i % every == 0, "unit {i}");
            }
        }
    }

    #[test]
    fn an_acknowledged_unit_is_enough_to_decode_all_that_follow() {
        let features = speech(40);
        let mut encoder = Encoder::new(Profile::default());
        let mut decoder = Decoder::new(Profile::default());
        for feature in &features[..2] {
            deliver(&mut encoder, &mut decoder, feature);
        }
        // Nothing more is acknowledged, and of the rest only the last arrives.
        for (i, feature) in features[2..].iter().enumerate() {
            let EncodedUnit { number, unit, decoded: meant, .. } = encoder.encode(feature);
            let decoded = decoder.clone().decode(number, &unit);
            if i < MAX_AGE as usize {
                assert_eq!(decoded, Ok(meant.to_who(i == 0)), "unit {i}");
            }
        }
    }

    #[test]
    fn who_asks_for_a_key_unit_gets_one() {
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
    fn acknowledgements_of_what_was_never_sent_change_nothing() {
        let features = speech(3);
        let mut encoder = Encoder::new(Profile::default());
        let mut other = encoder.clone();
        for feature in &features {
            encoder.acknowledge(UnitNumber(77));
            assert_eq!(encoder.encode(feature), other.encode(feature));
        }
    }
}
