use codec::{AccessUnit, DecodeError, Decoder, EncodedUnit, Encoder, Profile};
use serde::Serialize;
use types::{Feature, MediaTime, Rate, UnitNumber};

/// Delay of acknowledgements on a clean channel, units: 80 ms at the high rate, 320 ms at the low.
const CLEAN_ACK_DELAY: usize = 2;
/// Delay of acknowledgements on a long or lossy channel, units.
const LOSSY_ACK_DELAY: usize = 6;

/// Size of the access units of a clip, without packet headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Payload {
    /// Number of units.
    pub(crate) units: usize,
    /// Number of key units among them.
    pub(crate) key_units: usize,
    /// Total size, bytes.
    pub(crate) bytes: usize,
    /// Mean size of a unit, bits.
    pub(crate) bits_per_unit: f64,
    /// Bit rate over the duration of the clip, kbit/s.
    pub(crate) kbit_s: f64,
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

/// Encodes features as calls over a clean and a lossy channel would, and adds up the sizes.
#[derive(Debug)]
pub(crate) struct RateMeter {
    /// Acknowledged after [`CLEAN_ACK_DELAY`].
    clean: Encoder,
    /// Acknowledged after [`LOSSY_ACK_DELAY`].
    lossy: Encoder,
    decoder: Decoder,
    numbers: Vec<UnitNumber>,
    key_units: usize,
    clean_bytes: usize,
    lossy_bytes: usize,
    /// The newest feature, if it did not become a unit.
    pending: Option<Feature>,
    /// Time of the newest unit.
    last: Option<MediaTime>,
}

impl RateMeter {
    /// Creates a meter for one person at one rate.
    pub(crate) fn new(profile: &Profile, rate: Rate) -> Self {
        let mut encoder = Encoder::new(profile.clone());
        encoder.set_rate(rate);
        Self {
            clean: encoder.clone(),
            lossy: encoder,
            decoder: Decoder::new(profile.clone()),
            numbers: Vec::new(),
            key_units: 0,
            clean_bytes: 0,
            lossy_bytes: 0,
            pending: None,
            last: None,
        }
    }

    /// Encodes the next feature. If it becomes a unit, returns the features that a peer decodes from
    /// the unit, oldest first: the corrected feature of the previous unit, intermediate features,
    /// and its own; otherwise nothing.
    ///
    /// # Errors
    /// If the decoder cannot read what the encoder wrote, which would be a bug of the codec.
    pub(crate) fn push(&mut self, feature: &Feature) -> Result<Vec<Feature>, DecodeError> {
        self.encode(feature, false)
    }

    /// Encodes the last feature as a unit, unless it already is one, and returns what the peer
    /// decodes.
    ///
    /// # Errors
    /// As [`RateMeter::push`].
    pub(crate) fn finish(&mut self) -> Result<Vec<Feature>, DecodeError> {
        self.pending.take().map_or(Ok(Vec::new()), |feature| self.encode(&feature, true))
    }

    fn encode(&mut self, feature: &Feature, is_last: bool) -> Result<Vec<Feature>, DecodeError> {
        for (encoder, delay) in
            [(&mut self.clean, CLEAN_ACK_DELAY), (&mut self.lossy, LOSSY_ACK_DELAY)]
        {
            if let Some(at) = self.numbers.len().checked_sub(delay) {
                encoder.acknowledge(self.numbers[at]);
            }
        }
        let [clean, lossy] =
            [&mut self.clean, &mut self.lossy].map(|encoder| encoder.push(feature, is_last));
        let Some(EncodedUnit { number, unit, .. }) = clean else {
            self.pending = Some(*feature);
            return Ok(Vec::new());
        };
        self.pending = None;
        self.lossy_bytes += lossy.map_or(0, |lossy| lossy.unit.as_bytes().len());
        self.clean_bytes += unit.as_bytes().len();
        let received = AccessUnit::parse(unit.as_bytes()).map_err(|_| DecodeError::Corrupt)?;
        let decoded = self.decoder.decode(number, &received)?;
        self.numbers.push(number);
        self.key_units += usize::from(decoded.is_key);
        let previous = self.last.replace(feature.time);
        Ok(decoded.features(previous, feature.time).collect())
    }

    /// Returns the size of a call's units on a clean channel.
    pub(crate) fn clean(&self, fps: u32, n_frames: usize) -> Payload {
        Payload::of(self.clean_bytes, self.numbers.len(), self.key_units, fps, n_frames)
    }

    /// Returns the size of a call's units on a lossy channel.
    pub(crate) fn lossy(&self, fps: u32, n_frames: usize) -> Payload {
        Payload::of(self.lossy_bytes, self.numbers.len(), self.key_units, fps, n_frames)
    }
}

#[cfg(test)]
mod tests {
    use types::{Code, HeadPose};

    use super::*;

    #[test]
    fn the_bit_rate_of_25_units_at_25_fps_is_their_size() {
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
