const INCREMENT: u64 = 0x9E37_79B9_7F4A_7C15;
const STREAM: u64 = 0xD1B5_4A32_D192_ED03;

/// Seeded pseudorandom number generator: equal seeds give equal numbers on every machine.
///
/// Not for cryptography.
///
/// # Source
/// Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators" (OOPSLA).
///
/// # Examples
/// ```
/// use numerics::SplitMix64;
/// assert_eq!(SplitMix64::new(7).bits(), SplitMix64::new(7).bits());
/// assert!((0.0..1.0).contains(&SplitMix64::new(7).uniform()));
/// ```
#[derive(Clone, Debug)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// Creates a generator with `seed` as its state; any value is a good seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Creates the generator of stream number `index` of a seed; streams are independent of each
    /// other.
    pub fn stream(seed: u64, index: u64) -> Self {
        let mut random = Self::new(seed ^ index.wrapping_mul(STREAM));
        random.bits();
        random
    }

    /// Returns the state; a generator that [`SplitMix64::new`] makes from it continues the stream.
    pub fn state(&self) -> u64 {
        self.state
    }

    /// Returns the next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(INCREMENT);
        mix(self.state)
    }

    /// Returns a uniform number in `0.0..1.0`, a multiple of 2⁻²⁴.
    pub fn uniform(&mut self) -> f32 {
        unit(self.bits())
    }

    /// Returns a uniform number in `0.0..1.0`, a multiple of 2⁻⁵³.
    pub fn uniform_f64(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns a uniform number from `low` to `high`, which must be finite. Rounding may return
    /// `high` itself.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.uniform()
    }

    /// Returns true with this probability, in `0.0..=1.0`; uses one draw.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.uniform() < probability
    }

    /// Returns a uniform index below `n` (slightly biased for `n` near 2⁶⁴).
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn index(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Returns an approximately standard normal number in `-6.0..6.0`.
    ///
    /// The sum of twelve uniform numbers of 24 bits, minus six (Irwin-Hall); uses twelve draws.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }

    /// Returns an approximately standard normal number in `-6.0..6.0`, with three draws.
    ///
    /// As [`SplitMix64::normal`], but from uniform numbers of 16 bits, of which each draw gives
    /// four. The two methods use different numbers of draws and are therefore not interchangeable.
    pub fn normal_fast(&mut self) -> f32 {
        let mut sum = 0_u64;
        for _ in 0..3 {
            let bits = self.bits();
            sum += (0..4).map(|i| (bits >> (16 * i)) & 0xFFFF).sum::<u64>();
        }
        sum as f32 / 65_536.0 - 6.0
    }
}

/// Returns a well mixed 64-bit hash of a seed and an index: random number `index` of `seed`,
/// without generating those before it.
///
/// The numbers are not those of [`SplitMix64::new`] or [`SplitMix64::stream`].
///
/// ```
/// assert_ne!(numerics::hash(7, 0), numerics::hash(7, 1));
/// ```
pub fn hash(seed: u64, index: u64) -> u64 {
    let state = seed.wrapping_mul(INCREMENT).wrapping_add(index.wrapping_mul(STREAM));
    SplitMix64::new(state).bits()
}

fn unit(bits: u64) -> f32 {
    (bits >> 40) as f32 / (1_u64 << 24) as f32
}

/// The output function of `SplitMix64`.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_that_of_the_reference_implementation() {
        // First outputs of Vigna's splitmix64.c for the seed 1234567.
        let mut random = SplitMix64::new(1_234_567);
        let expected: [u64; 5] = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(expected.map(|_| random.bits()), expected);
    }

    #[test]
    fn a_saved_state_continues_the_stream() {
        let mut random = SplitMix64::stream(3, 5);
        random.normal();
        let mut continued = SplitMix64::new(random.state());
        assert_eq!(random.bits(), continued.bits());
    }

    #[test]
    fn normal_numbers_have_zero_mean_and_unit_variance() {
        type Draw = fn(&mut SplitMix64) -> f32;
        for (name, draw) in
            [("normal", SplitMix64::normal as Draw), ("normal_fast", SplitMix64::normal_fast)]
        {
            let mut random = SplitMix64::new(1);
            let numbers: Vec<f64> = (0..20_000).map(|_| f64::from(draw(&mut random))).collect();
            let n = numbers.len() as f64;
            let mean = numbers.iter().sum::<f64>() / n;
            let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            // Three standard deviations of the estimates: 3 / √n and 3 √(2 / n).
            assert!(mean.abs() < 0.022, "{name}: mean {mean}");
            assert!((variance - 1.0).abs() < 0.03, "{name}: variance {variance}");
        }
    }
}
