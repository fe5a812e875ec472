use std::collections::VecDeque;

use types::{FEATURE_DIMS, Feature};

use crate::decoder::{Decoded, base, dequantized};
use crate::history::History;
use crate::profile::{DEPTH, MAX_LEVEL, Profile};
use crate::range_coder::SymbolWriter;
use crate::syntax::{Header, MAX_AGE, MAX_TAP, code_header, code_levels};
use crate::{AccessUnit, UnitId};

/// Units between key units where nothing is acknowledged: one second.
const KEY_INTERVAL: u32 = 25;

/// What delta units build on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Reference {
    /// The newest acknowledged unit, or the last key unit while none is: for channels that lose.
    /// A unit decodes whatever was lost in between.
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
    reference: Reference,
    history: History,
    next: UnitId,
    /// Ids of units in `history` that the peer has decoded, oldest first, bounded by [`MAX_AGE`].
    acknowledged: VecDeque<UnitId>,
    last_key: Option<UnitId>,
    key_interval: u32,
    key_requested: bool,
    /// Nothing was lost lately: see [`Encoder::set_lossless`].
    is_lossless: bool,
    last: Option<Decoded>,
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
            reference,
            history: History::new(),
            next: UnitId::default(),
            acknowledged: VecDeque::new(),
            last_key: None,
            key_interval: KEY_INTERVAL,
            key_requested: false,
            is_lossless: false,
            last: None,
        }
    }

    /// Makes every `units`-th unit a key unit, where nothing newer is acknowledged; 25 unless
    /// told, 32 at most.
    pub fn set_key_interval(&mut self, units: u32) {
        self.key_interval = units.clamp(1, MAX_AGE);
    }

    /// Says whether the channel has lost anything lately. While it has not, and the peer has
    /// acknowledged something within the last second, units build on the one before, which is
    /// smaller; the first loss then costs what is under way until the peer's key request.
    pub fn set_lossless(&mut self, is_lossless: bool) {
        self.is_lossless = is_lossless;
    }

    /// The peer has decoded this unit: those to come build on the newest such.
    ///
    /// Acknowledgements may come late, doubled and out of order; of units unknown they are ignored.
    pub fn acknowledge(&mut self, id: UnitId) {
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

    /// Codes the feature as a unit of the kind that serves best.
    pub fn encode(&mut self, feature: &Feature) -> AccessUnit {
        if std::mem::take(&mut self.key_requested) {
            // Whoever asks for a key has forgotten what it once acknowledged.
            self.acknowledged.clear();
            return self.encode_as(feature, self.key_header());
        }
        self.encode_as(feature, self.best_header())
    }

    /// Codes the feature as a unit that stands alone.
    pub fn encode_key(&mut self, feature: &Feature) -> AccessUnit {
        self.encode_as(feature, self.key_header())
    }

    /// What the peer gets from the last unit, bit for bit.
    pub fn reconstruction(&self) -> Option<Decoded> {
        self.last
    }

    fn key_header(&self) -> Header {
        Header { id: self.next, age: 0, tap: 0 }
    }

    fn best_header(&self) -> Header {
        let id = self.next;
        let key = self.key_header();
        let since_key = self.last_key.map_or(u32::MAX, |key| id.since(key).unsigned_abs());
        match self.reference {
            Reference::Previous if since_key < self.key_interval => {
                Header { id, age: 1, tap: u32::from(since_key > 1) }
            }
            Reference::Previous => key,
            Reference::Acknowledged => {
                let newest = self.acknowledged.back().copied();
                let is_followed =
                    newest.is_some_and(|newest| id.since(newest) <= KEY_INTERVAL as i32);
                if self.is_lossless && is_followed {
                    let has_two = self.history.state(id.offset(-2)).is_some();
                    return Header { id, age: 1, tap: u32::from(has_two) };
                }
                match newest {
                    // A key unit newer than any acknowledgement is no safer, only nearer.
                    Some(reference) => {
                        let age = id.since(reference) as u32;
                        let tap = self.acknowledged.iter().rev().nth(1);
                        let tap = tap.map_or(0, |before| reference.since(*before) as u32);
                        Header { id, age, tap: if tap <= MAX_TAP { tap } else { 0 } }
                    }
                    None if since_key < self.key_interval => Header { id, age: since_key, tap: 0 },
                    None => key,
                }
            }
        }
    }

    fn encode_as(&mut self, feature: &Feature, header: Header) -> AccessUnit {
        let levels = quantized(&self.profile, feature);
        let (header, coded, state) = [header, self.key_header()]
            .into_iter()
            .find_map(|header| {
                let base = base(&self.history, &header).ok()?;
                let mut writer = SymbolWriter::new();
                code_header(&mut writer, header.id.get() as u8, header).ok()?;
                let state = code_levels(&mut writer, &self.profile, base, &levels).ok()?;
                Some((header, writer.finish(), state))
            })
            .expect("a key unit needs no reference, and every level has a symbol");
        self.last = dequantized(&self.profile, &header, &state);
        if header.age == 0 {
            self.last_key = Some(header.id);
        }
        self.history.insert(header.id, state, true);
        self.next = header.id.offset(1);
        while self.acknowledged.front().is_some_and(|id| self.next.since(*id) > MAX_AGE as i32) {
            self.acknowledged.pop_front();
        }
        AccessUnit::join(header.id.get() as u8, &coded)
    }
}

/// The nearest levels that the decoder accepts, counted from the profile's mean.
fn quantized(profile: &Profile, feature: &Feature) -> [i32; FEATURE_DIMS] {
    let values = feature.to_array();
    std::array::from_fn(|dim| {
        let model = &profile.dims()[dim];
        let level = (values[dim] / model.step).round() as i32;
        let limit = (999.0 / model.step) as i32;
        // The head stays a centimeter in front of the camera: `types::HeadPose`.
        let nearest = if dim == DEPTH { (0.0101 / model.step).ceil() as i32 } else { -limit };
        level.clamp(nearest, limit).saturating_sub(model.mean).clamp(-MAX_LEVEL, MAX_LEVEL)
    })
}

#[cfg(test)]
mod tests {
    use types::{Code, HeadPose, MediaTime};

    use super::*;
    use crate::{Decoder, Quality};

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

    /// Coded bytes when every unit is acknowledged `delay` units later, `None` for never.
    fn bytes(encoder: &mut Encoder, features: &[Feature], delay: Option<usize>) -> usize {
        let mut ids = Vec::new();
        let mut sum = 0;
        for feature in features {
            if let Some(acked) = delay.and_then(|delay| ids.len().checked_sub(delay)) {
                encoder.acknowledge(ids[acked]);
            }
            sum += encoder.encode(feature).as_bytes().len();
            ids.push(encoder.reconstruction().unwrap().id);
        }
        sum
    }

    #[test]
    fn on_a_channel_that_loses_nothing_units_build_on_the_one_before_and_a_loss_asks_for_a_key() {
        let features = speech(60);
        let profile = Profile::from_features(&features, Quality::Normal);
        let mut encoder = Encoder::new(profile.clone());
        let mut decoder = Decoder::new(profile);
        encoder.set_lossless(true);
        let mut bytes = [0; 2];
        for (i, feature) in features.iter().enumerate() {
            let unit = encoder.encode(feature);
            let id = encoder.reconstruction().unwrap().id;
            bytes[usize::from(i >= 30)] += unit.as_bytes().len();
            if i == 40 {
                // Lost: the units after it cannot be decoded, and say so.
                continue;
            }
            match decoder.decode(&unit) {
                Ok(decoded) => {
                    assert_eq!(Some(decoded), encoder.reconstruction(), "unit {i}");
                    encoder.acknowledge(id);
                }
                Err(_) => {
                    assert_eq!(i, 41, "only the unit after the lost one");
                    encoder.set_lossless(false);
                    encoder.request_key();
                }
            }
        }
        let mut safe = Encoder::new(encoder.profile.clone());
        let plain: usize = features
            .iter()
            .enumerate()
            .map(|(i, feature)| {
                let unit = safe.encode(feature);
                if i >= 6 {
                    safe.acknowledge(safe.reconstruction().unwrap().id.offset(-6));
                }
                unit.as_bytes().len()
            })
            .sum();
        assert!(bytes[0] * 60 < plain * 30, "{bytes:?} against {plain} in all");
    }

    #[test]
    fn the_nearer_the_reference_the_smaller_the_units() {
        let features = speech(300);
        let profile = Profile::from_features(&features, Quality::Normal);
        let with = |delay| bytes(&mut Encoder::new(profile.clone()), &features, delay);
        let previous = bytes(
            &mut Encoder::with_reference(profile.clone(), Reference::Previous),
            &features,
            None,
        );
        let sizes = [with(Some(1)), with(Some(3)), with(Some(6)), with(None)];
        assert!(sizes.is_sorted() && sizes[0] < sizes[3], "{sizes:?}");
        // The second has a key unit every second.
        assert!(sizes[0].abs_diff(previous) < previous / 10, "{sizes:?} {previous}");
    }

    #[test]
    fn a_profile_of_ones_own_saves_bytes() {
        let features = speech(300);
        let fitted = Profile::from_features(&features, Quality::Normal);
        let general = Profile::with_steps(&features[..1], &fitted.steps()).unwrap();
        let size = |profile| bytes(&mut Encoder::new(profile), &features, Some(3));
        let (fitted, general) = (size(fitted), size(general));
        assert!(fitted < general, "{fitted} {general}");
    }

    #[test]
    fn without_acknowledgements_every_25th_unit_is_a_key_unit() {
        let mut encoder = Encoder::new(Profile::default());
        let keys: Vec<usize> = speech(80)
            .iter()
            .enumerate()
            .filter_map(|(i, feature)| {
                encoder.encode(feature);
                encoder.reconstruction().unwrap().is_key.then_some(i)
            })
            .collect();
        assert_eq!(keys, [0, 25, 50, 75]);
    }

    #[test]
    fn an_acknowledged_unit_is_enough_to_decode_all_that_follow() {
        let features = speech(40);
        let mut encoder = Encoder::new(Profile::default());
        let mut decoder = Decoder::new(Profile::default());
        for feature in &features[..2] {
            let decoded = decoder.decode(&encoder.encode(feature)).unwrap();
            encoder.acknowledge(decoded.id);
        }
        // Nothing more is acknowledged, and of the rest only the last arrives.
        for (i, feature) in features[2..].iter().enumerate() {
            let unit = encoder.encode(feature);
            let mut decoder = decoder.clone();
            let decoded = decoder.decode(&unit);
            if i < MAX_AGE as usize {
                assert_eq!(decoded.ok(), encoder.reconstruction(), "unit {i}");
            }
        }
    }

    #[test]
    fn who_asks_for_a_key_unit_gets_one() {
        let features = speech(10);
        let mut encoder = Encoder::new(Profile::default());
        for feature in &features {
            encoder.encode(feature);
            encoder.acknowledge(encoder.reconstruction().unwrap().id);
        }
        encoder.request_key();
        let unit = encoder.encode(&features[0]);
        assert!(Decoder::new(Profile::default()).decode(&unit).unwrap().is_key);
        assert!(!{
            encoder.encode(&features[1]);
            encoder.reconstruction().unwrap().is_key
        });
    }

    #[test]
    fn acknowledgements_of_what_was_never_sent_change_nothing() {
        let features = speech(3);
        let mut encoder = Encoder::new(Profile::default());
        let mut other = encoder.clone();
        for feature in &features {
            encoder.acknowledge(UnitId::from_count(77));
            assert_eq!(encoder.encode(feature), other.encode(feature));
        }
    }
}
