use codec::{AccessUnit, DecodeError, Decoded, Decoder, Encoder, Profile, Reference, UnitId};
use serde::Serialize;
use types::Feature;

/// Units a call's acknowledgements are late by: 120 ms at 25 features a second.
pub const ACK_DELAY: usize = 3;

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

/// Codes every feature twice, as a call and as a file would, and counts.
#[derive(Debug)]
pub struct RateMeter {
    live: Encoder,
    offline: Encoder,
    decoder: Decoder,
    ids: Vec<UnitId>,
    key_units: usize,
    live_bytes: usize,
    offline_bytes: usize,
}

impl RateMeter {
    /// A meter for one person's units.
    pub fn new(profile: Profile) -> Self {
        Self {
            live: Encoder::new(profile.clone()),
            offline: Encoder::with_reference(profile.clone(), Reference::Previous),
            decoder: Decoder::new(profile),
            ids: Vec::new(),
            key_units: 0,
            live_bytes: 0,
            offline_bytes: 0,
        }
    }

    /// Codes a feature and gives what the peer of a call gets from the unit's bytes.
    ///
    /// # Errors
    /// If encoder and decoder disagree, which would be a defect of the codec.
    pub fn push(&mut self, feature: &Feature) -> Result<Decoded, DecodeError> {
        if let Some(at) = self.ids.len().checked_sub(ACK_DELAY) {
            self.live.acknowledge(self.ids[at]);
        }
        let unit = self.live.encode(feature);
        self.offline_bytes += self.offline.encode(feature).as_bytes().len();
        self.live_bytes += unit.as_bytes().len();
        let wire = AccessUnit::parse(unit.as_bytes()).map_err(|_| DecodeError::Corrupt)?;
        let decoded = self.decoder.decode(&wire)?;
        self.ids.push(decoded.id);
        self.key_units += usize::from(decoded.is_key);
        Ok(decoded)
    }

    /// What a call's units weigh, each acknowledged [`ACK_DELAY`] units later.
    pub fn live(&self, fps: u32, n_frames: usize) -> Payload {
        Payload::of(self.live_bytes, self.ids.len(), self.key_units, fps, n_frames)
    }

    /// What a file's units weigh, each built on the one before.
    pub fn offline(&self, fps: u32, n_frames: usize) -> Payload {
        let units = self.ids.len();
        Payload::of(self.offline_bytes, units, units.div_ceil(25), fps, n_frames)
    }
}

#[cfg(test)]
mod tests {
    use types::{Code, HeadPose, MediaTime};

    use super::*;

    #[test]
    fn a_second_of_25_units_is_billed_as_a_second() {
        let mut meter = RateMeter::new(Profile::default());
        for i in 0..25 {
            let pose = HeadPose::from_array([0.01 * i as f32, 0.0, 0.0, 0.0, 0.0, 1.1]).unwrap();
            let feature = Feature { time: MediaTime::of_frame(i, 25), pose, code: Code::NEUTRAL };
            meter.push(&feature).unwrap();
        }
        let live = meter.live(25, 25);
        assert_eq!((live.units, live.key_units), (25, 1));
        assert!((live.kbit_s - live.bytes as f64 * 0.008).abs() < 1e-9);
        assert!((live.bits_per_unit * 25.0 / 1000.0 - live.kbit_s).abs() < 1e-9);
        assert!(meter.offline(25, 25).bytes < live.bytes);
    }
}
