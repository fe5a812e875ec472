use codec::{AccessUnit, DecodeError, Decoder, EncodedUnit, Encoder, Profile};
use serde::Serialize;
use types::{Feature, MediaTime, Rate, UnitNumber};

/// Units a call's acknowledgements are late by: 80 ms at the high rate, 320 at the low one.
pub const ACK_DELAY: usize = 2;

/// What the features of a clip weigh. Payload only; what packets add is the transport's matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Payload {
    /// Units coded.
    pub units: usize,
    /// Of them, those that stand alone.
    pub key_units: usize,
    /// Bytes of all units.
    pub bytes: usize,
    /// Bits of a unit, on average.
    pub bits_per_unit: f64,
    /// Bytes times 8 over the clip's duration.
    pub kbit_s: f64,
}

impl Payload {
    fn of(bytes: usize, units: usize, key_units: usize, fps: u32, n_frames: usize) -> Self {
        let seconds = n_frames.max(1) as f64 / f64::from(fps.max(1));
        Self {
            units,
            key_units,
            bytes,
            bits_per_unit: bytes as f64 * 8.0 / units.max(1) as f64,
            kbit_s: bytes as f64 * 8.0 / 1000.0 / seconds,
        }
    }
}

/// Units that acknowledgements are late by where the way is long or loses.
const LATE_ACK_DELAY: usize = 6;

/// Codes every feature twice, as a call over a good and a bad channel would, and counts.
#[derive(Debug)]
pub struct RateMeter {
    /// Acknowledged [`ACK_DELAY`] units later.
    clean: Encoder,
    /// Acknowledged [`LATE_ACK_DELAY`] units later.
    lossy: Encoder,
    decoder: Decoder,
    ids: Vec<UnitNumber>,
    key_units: usize,
    clean_bytes: usize,
    lossy_bytes: usize,
    passed_over: Option<Feature>,
    last: Option<MediaTime>,
}

impl RateMeter {
    /// A meter for one person's units.
    pub fn new(profile: &Profile, rate: Rate) -> Self {
        let mut encoder = Encoder::new(profile.clone());
        encoder.set_rate(rate);
        Self {
            clean: encoder.clone(),
            lossy: encoder,
            decoder: Decoder::new(profile.clone()),
            ids: Vec::new(),
            key_units: 0,
            clean_bytes: 0,
            lossy_bytes: 0,
            passed_over: None,
            last: None,
        }
    }

    /// Takes the next feature and gives what the peer of a call gets from its unit's bytes, in
    /// order: the feature of the unit before, put right, those on the way from there, and its own; nothing
    /// if it gets no unit.
    ///
    /// # Errors
    /// If encoder and decoder disagree, which would be a defect of the codec.
    pub fn push(&mut self, feature: &Feature) -> Result<Vec<Feature>, DecodeError> {
        self.code(feature, false)
    }

    /// Codes the last feature, if it was passed over.
    ///
    /// # Errors
    /// As [`RateMeter::push`].
    pub fn finish(&mut self) -> Result<Vec<Feature>, DecodeError> {
        self.passed_over.take().map_or(Ok(Vec::new()), |feature| self.code(&feature, true))
    }

    fn code(&mut self, feature: &Feature, is_last: bool) -> Result<Vec<Feature>, DecodeError> {
        for (encoder, delay) in [(&mut self.clean, ACK_DELAY), (&mut self.lossy, LATE_ACK_DELAY)] {
            if let Some(at) = self.ids.len().checked_sub(delay) {
                encoder.acknowledge(self.ids[at]);
            }
        }
        let [clean, lossy] =
            [&mut self.clean, &mut self.lossy].map(|encoder| encoder.push(feature, is_last));
        let Some(EncodedUnit { number, unit, .. }) = clean else {
            self.passed_over = Some(*feature);
            return Ok(Vec::new());
        };
        self.passed_over = None;
        self.lossy_bytes += lossy.map_or(0, |lossy| lossy.unit.as_bytes().len());
        self.clean_bytes += unit.as_bytes().len();
        let wire = AccessUnit::parse(unit.as_bytes()).map_err(|_| DecodeError::Corrupt)?;
        let decoded = self.decoder.decode(number, &wire)?;
        self.ids.push(number);
        self.key_units += usize::from(decoded.is_key);
        let before = self.last.replace(feature.time);
        Ok(decoded.features(before, feature.time).collect())
    }

    /// What a call's units weigh while nothing is lost.
    pub fn clean(&self, fps: u32, n_frames: usize) -> Payload {
        Payload::of(self.clean_bytes, self.ids.len(), self.key_units, fps, n_frames)
    }

    /// What a call's units weigh on a channel that loses, each acknowledged six units later.
    pub fn lossy(&self, fps: u32, n_frames: usize) -> Payload {
        Payload::of(self.lossy_bytes, self.ids.len(), self.key_units, fps, n_frames)
    }
}

#[cfg(test)]
mod tests {
    use types::{Code, HeadPose};

    use super::*;

    #[test]
    fn a_second_of_25_units_is_billed_as_a_second() {
        let mut meter = RateMeter::new(&Profile::default(), Rate::High);
        for i in 0..25 {
            let pose = HeadPose::from_array([0.01 * i as f32, 0.0, 0.0, 0.0, 0.0, 1.1]).unwrap();
            let feature = Feature { time: MediaTime::of_frame(i, 25), pose, code: Code::NEUTRAL };
            meter.push(&feature).unwrap();
        }
        let clean = meter.clean(25, 25);
        assert_eq!((clean.units, clean.key_units), (25, 1));
        assert!((clean.kbit_s - clean.bytes as f64 * 0.008).abs() < 1e-9);
        assert!((clean.bits_per_unit * 25.0 / 1000.0 - clean.kbit_s).abs() < 1e-9);
        assert!(clean.bytes < meter.lossy(25, 25).bytes);
    }
}
