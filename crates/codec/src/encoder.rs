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
            last: None,
        }
    }

    /// Makes every `units`-th unit a key unit, where nothing newer is acknowledged; 25 unless
    /// told, 32 at most.
    pub fn set_key_interval(&mut self, units: u32) {
        self.key_interval = units.clamp(1, MAX_AGE);
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
