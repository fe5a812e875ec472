use std::collections::VecDeque;

/// Samples of background sound that are kept, 0.5 s at 48 kHz.
const MAX_KEPT: usize = 24_000;
/// Samples from which noise is made at all, 20 ms.
const MIN_KEPT: usize = 960;
/// Half the length of a grain, 10 ms.
const HOP: usize = 480;

/// Comfort noise: continues the background sound of the other end while nothing arrives, so that
/// a pause of speech does not sound like a dead line.
///
/// It is woven from pieces of what was heard while nobody spoke, in random order.
pub(crate) struct ComfortNoise {
    /// What was heard while nobody spoke.
    kept: VecDeque<f32>,
    /// Second half of the last grain, faded out.
    tail: [f32; HOP],
    random: u32,
}

impl Default for ComfortNoise {
    fn default() -> Self {
        Self { kept: VecDeque::new(), tail: [0.0; HOP], random: 1 }
    }
}

impl ComfortNoise {
    /// Learns from sound in which nobody speaks.
    pub(crate) fn learn(&mut self, sound: &[f32]) {
        self.kept.extend(sound);
        let excess = self.kept.len().saturating_sub(MAX_KEPT);
        self.kept.drain(..excess);
    }

    /// Returns the next 10 ms; silence while nothing has been learned.
    pub(crate) fn next_block(&mut self) -> [f32; HOP] {
        let mut block = self.tail;
        self.tail = [0.0; HOP];
        if self.kept.len() < MIN_KEPT {
            return block;
        }
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let range = self.kept.len() - 2 * HOP + 1;
        let start = ((u64::from(self.random) * range as u64) >> 32) as usize;
        for (i, sample) in self.kept.range(start..start + 2 * HOP).enumerate() {
            // Squares of overlapping sines sum to one: the power stays the same.
            let weight = (std::f32::consts::PI * (i as f32 + 0.5) / (2 * HOP) as f32).sin();
            match i.checked_sub(HOP) {
                None => block[i] += weight * sample,
                Some(i) => self.tail[i] = weight * sample,
            }
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::power;

    #[test]
    fn noise_is_as_loud_as_the_background_was() {
        let mut noise = ComfortNoise::default();
        let mut seed = 7_u32;
        let background: Vec<f32> = (0..30_000)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                0.01 * ((seed >> 8) as f32 / 8_388_608.0 - 1.0)
            })
            .collect();
        noise.learn(&background);
        noise.next_block();
        let made: Vec<f32> = (0..500).flat_map(|_| noise.next_block()).collect();
        let ratio = power(&made) / power(&background);
        assert!((0.8..1.25).contains(&ratio), "{ratio}");
        // Every piece of 100 ms is as loud: nothing pulsates.
        for piece in made.chunks(4800) {
            let ratio = power(piece) / power(&background);
            assert!((0.6..1.6).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn nothing_is_invented_where_nothing_was_heard() {
        let mut noise = ComfortNoise::default();
        noise.learn(&[0.5; MIN_KEPT - 1]);
        assert_eq!(noise.next_block(), [0.0; HOP]);
    }
}
