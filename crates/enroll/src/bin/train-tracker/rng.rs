/// A small counter-based generator: equal seeds give equal numbers on every machine.
///
/// Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators" (`SplitMix64`).
pub(crate) struct Rng(u64);

impl Rng {
    /// A stream of its own for each `seed` and `index`.
    pub(crate) fn new(seed: u64, index: u64) -> Self {
        let mut rng = Self(seed ^ index.wrapping_mul(0xD1B5_4A32_D192_ED03));
        rng.bits();
        rng
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1_u64 << 24) as f32
    }

    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    pub(crate) fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    pub(crate) fn index(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Standard normal, by the sum of twelve uniforms: its tails end at six.
    pub(crate) fn normal(&mut self) -> f32 {
        // Four uniforms of 16 bits from each draw.
        let mut sum = 0_u64;
        for _ in 0..3 {
            let bits = self.bits();
            sum += (0..4).map(|i| (bits >> (16 * i)) & 0xFFFF).sum::<u64>();
        }
        sum as f32 / 65_536.0 - 6.0
    }
}
