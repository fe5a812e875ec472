use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Rate of a sender, which determines how finely and how often features and sound are coded.
///
/// The user's choice of a rate sets everything in [`RateParameters`]. Access units of different
/// rates may follow each other in one stream.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Rate {
    /// Fewest bytes: 6.25 coarse access units per second.
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
    /// Duration of an Opus frame, one per RTP packet.
    pub opus_frame: Duration,
    /// Opus bit rate, in bit/s, without packet headers.
    pub opus_bits_per_s: u32,
}

/// In the order of [`Rate::ALL`].
const PARAMETERS: [RateParameters; 3] = [
    RateParameters {
        half_step: 16,
        midpoint_step: 52,
        midpoint_depth: 2,
        max_correction: 3,
        lambda: 10,
        unit_interval: 4,
        redundancy: 0,
        repeat_interval: Duration::from_millis(80),
        opus_frame: Duration::from_millis(120),
        opus_bits_per_s: 6_000,
    },
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
        opus_bits_per_s: 10_000,
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
        opus_bits_per_s: 24_000,
    },
];

impl RateParameters {
    /// Returns the quantizer step of a feature residual, in parts.
    pub const fn step(&self) -> i32 {
        2 * self.half_step
    }
}

impl Rate {
    /// All rates; the position of a rate is its code in an access unit.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// Returns the position of this rate in [`Rate::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the parameters of this rate.
    pub const fn parameters(self) -> &'static RateParameters {
        &PARAMETERS[self.index()]
    }

    /// Returns the lower-case name, as the command line and the statistics spell it.
    pub const fn name(self) -> &'static str {
        ["low", "normal", "high"][self.index()]
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Error for a text that does not name a [`Rate`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("rate is one of low, normal, high")]
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
    fn a_rate_survives_its_index_and_its_name() {
        for (index, rate) in Rate::ALL.into_iter().enumerate() {
            assert_eq!(rate.index(), index);
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
        assert_eq!("loud".parse::<Rate>(), Err(ParseRateError));
    }

    #[test]
    fn a_correction_is_at_most_a_tenth_of_a_step() {
        for rate in Rate::ALL {
            let parameters = rate.parameters();
            assert!(10 * parameters.max_correction <= parameters.step(), "{rate:?}");
        }
    }
}
