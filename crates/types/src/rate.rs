use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Rate of a sender, which determines how finely and how often features and sound are coded.
///
/// The user's choice of a rate sets everything in [`RateParameters`]. Access units of different
/// rates may follow each other in one stream.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Rate {
    /// The least that a face-to-face call can be: five access units per second, coded as at
    /// [`Rate::Low`].
    Satellite,
    /// Few bytes: 6.25 coarse access units per second.
    Low,
    /// Medium: 12.5 access units per second.
    #[default]
    Normal,
    /// Most detail and least delay: 25 fine access units per second.
    High,
}

/// Parameters of the codec, the packetizer and the audio encoder at one [`Rate`].
///
/// The steps are integers in *parts*, the fixed-point unit of the codec: 1/16 of a component's
/// scale in the codec profile. They are normative (docs/BITSTREAM.md): encoder and decoder must
/// agree on them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RateParameters {
    /// Half of the quantizer step of a feature residual, in parts.
    pub half_step: i32,
    /// Quantizer step of a midpoint residual, in parts. It may be coarser than the step of a
    /// feature residual because no later unit is predicted from a midpoint.
    pub midpoint_step: i32,
    /// Number of times the interval between two units is halved to code midpoints: 0 (none), 1 (at
    /// one half), or 2 (at one half and both quarters).
    pub midpoint_depth: usize,
    /// Largest correction of each component of the previous unit's feature by a unit, in parts.
    pub max_correction: i32,
    /// Lagrangian multiplier of the rate-distortion search: the distortion that one bit is worth,
    /// in 1/40 of a squared quantizer step. Encoder only.
    pub lambda: i64,
    /// Time between two units, in 25ths of a second.
    pub unit_interval: u32,
    /// How many earlier units a packet repeats even when no loss is reported. Units that the peer
    /// has confirmed are not repeated.
    pub redundancy: u32,
    /// Time between two packets that repeat the newest unit under heavy loss.
    pub repeat_interval: Duration,
    /// Duration of an Opus packet.
    pub opus_frame: Duration,
    /// Opus packets that share an RTP packet: 1 or 2.
    pub opus_per_packet: usize,
    /// Opus bit rate, in bit/s, without packet headers.
    pub opus_bits_per_s: u32,
    /// Whether feature packets travel in the packets of sound, if both peers have sound.
    pub features_in_sound: bool,
}

/// In the order of [`Rate::ALL`].
const PARAMETERS: [RateParameters; 4] = [
    RateParameters { unit_interval: 5, opus_per_packet: 2, opus_bits_per_s: 5_000, ..LOW },
    LOW,
    RateParameters {
        half_step: 11,
        midpoint_step: 32,
        midpoint_depth: 1,
        max_correction: 2,
        lambda: 6,
        unit_interval: 2,
        redundancy: 2,
        repeat_interval: Duration::from_millis(40),
        opus_frame: Duration::from_millis(60),
        opus_per_packet: 1,
        opus_bits_per_s: 10_000,
        features_in_sound: true,
    },
    RateParameters {
        half_step: 5,
        midpoint_step: 12,
        midpoint_depth: 0,
        max_correction: 1,
        lambda: 3,
        unit_interval: 1,
        redundancy: 2,
        repeat_interval: Duration::from_millis(40),
        opus_frame: Duration::from_millis(20),
        opus_per_packet: 1,
        opus_bits_per_s: 24_000,
        features_in_sound: false,
    },
];

const LOW: RateParameters = RateParameters {
    half_step: 16,
    midpoint_step: 52,
    midpoint_depth: 2,
    max_correction: 3,
    lambda: 10,
    unit_interval: 4,
    redundancy: 0,
    repeat_interval: Duration::from_millis(80),
    opus_frame: Duration::from_millis(120),
    opus_per_packet: 1,
    opus_bits_per_s: 6_000,
    features_in_sound: true,
};

impl RateParameters {
    /// Returns the quantizer step of a feature residual, in parts.
    pub const fn step(&self) -> i32 {
        2 * self.half_step
    }
}

impl Rate {
    /// All rates, in the order of their bytes.
    pub const ALL: [Self; 4] = [Self::Satellite, Self::Low, Self::Normal, Self::High];
    /// The rates of access units; the position of a rate is its code in one.
    pub const CODED: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// Returns the rate that the access units have: [`Rate::Low`] for [`Rate::Satellite`], which differs
    /// only in how often there is one, and the rate itself for all others.
    #[must_use]
    pub const fn coded(self) -> Self {
        match self {
            Self::Satellite => Self::Low,
            rate => rate,
        }
    }

    /// Returns the position of [`Rate::coded`] in [`Rate::CODED`].
    pub const fn code(self) -> usize {
        self.coded() as usize - 1
    }

    /// Returns the parameters of this rate.
    pub const fn parameters(self) -> &'static RateParameters {
        &PARAMETERS[self as usize]
    }

    /// Returns the lower-case name, as the command line and the statistics spell it.
    pub const fn name(self) -> &'static str {
        ["satellite", "low", "normal", "high"][self as usize]
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Error for a text that does not name a [`Rate`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("rate is one of satellite, low, normal, high")]
pub struct ParseRateError;

impl FromStr for Rate {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Self, ParseRateError> {
        Self::ALL.into_iter().find(|rate| rate.name() == text).ok_or(ParseRateError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_survives_its_name_and_its_code() {
        for rate in Rate::ALL {
            assert_eq!(rate.to_string().parse(), Ok(rate));
            assert_eq!(Rate::CODED[rate.code()], rate.coded());
        }
        assert_eq!("loud".parse::<Rate>(), Err(ParseRateError));
    }

    #[test]
    fn units_of_the_satellite_rate_decode_as_those_of_the_low_one() {
        assert_eq!(Rate::Satellite.coded(), Rate::Low);
        let (satellite, low) = (Rate::Satellite.parameters(), Rate::Low.parameters());
        assert!(satellite.unit_interval > low.unit_interval);
        let coding = |rate: Rate| {
            let of = rate.parameters();
            (of.step(), of.midpoint_step, of.midpoint_depth, of.max_correction, of.redundancy)
        };
        assert_eq!(coding(Rate::Satellite), coding(Rate::Low));
    }

    #[test]
    fn a_correction_is_at_most_a_tenth_of_a_step() {
        for rate in Rate::ALL {
            let parameters = rate.parameters();
            assert!(10 * parameters.max_correction <= parameters.step(), "{rate:?}");
        }
    }
}
