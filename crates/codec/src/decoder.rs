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
