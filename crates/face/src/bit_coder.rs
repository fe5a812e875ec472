//! Yes or no questions into bytes and back: an adaptive guess of each answer, and a range coder.

use std::borrow::Borrow;
use std::num::NonZeroU16;

use constriction::backends::Cursor;
use constriction::stream::model::{DecoderModel, EncoderModel, EntropyModel};
use constriction::stream::queue::{RangeDecoder, RangeEncoder};
use constriction::stream::{Decode, Encode};

/// Probabilities are multiples of `2^-15`.
const PRECISION: usize = 15;
/// One, as a probability.
const ONE: u16 = 1 << PRECISION;
/// No answer is thought less likely than this.
const LEAST: u16 = 16;

/// What a coded stream turned out not to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct InvalidCode;

/// How likely a yes is, in `2^-15`; never certain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance(u16);

impl EntropyModel<PRECISION> for Chance {
    type Symbol = bool;
    type Probability = u16;
}

impl Chance {
    /// A yes lies at the bottom of the range, a no above it.
    fn part(self, yes: bool) -> (u16, NonZeroU16) {
        let (at, wide) = if yes { (0, self.0) } else { (self.0, ONE - self.0) };
        (at, NonZeroU16::new(wide).unwrap_or(NonZeroU16::MIN))
    }
}

impl EncoderModel<PRECISION> for Chance {
    fn left_cumulative_and_probability(
        &self,
        symbol: impl Borrow<bool>,
    ) -> Option<(u16, NonZeroU16)> {
        Some(self.part(*symbol.borrow()))
    }
}

impl DecoderModel<PRECISION> for Chance {
    fn quantile_function(&self, quantile: u16) -> (bool, u16, NonZeroU16) {
        let yes = quantile < self.0;
        let (at, wide) = self.part(yes);
        (yes, at, wide)
    }
}

/// What was answered so far in one situation: a slow and a fast mean, integers only.
///
/// After `n` answers a mean moves by `2 / (2 n + 1)` of what it was off; `n` stops at 255 for the
/// slow one and at 24 for the fast one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guess {
    slow: u16,
    fast: u16,
    n: u8,
}

impl Guess {
    pub(crate) const NEW: Self = Self { slow: ONE, fast: ONE, n: 0 };

    /// The mean of several guesses.
    pub(crate) fn together<const N: usize>(guesses: [Self; N]) -> Chance {
        let sum: u32 = guesses.iter().map(|g| u32::from(g.slow) + u32::from(g.fast)).sum();
        // The means are in 2^-16.
        let mean = (sum / (4 * N as u32)) as u16;
        Chance(mean.clamp(LEAST, ONE - LEAST))
    }

    pub(crate) fn learn(&mut self, yes: bool) {
        let target = if yes { 65_535 } else { 0 };
        self.n = self.n.saturating_add(1);
        let toward = |mean: u16, n: u8| {
            let off = target - i32::from(mean);
            (i32::from(mean) + off * 2 / (2 * i32::from(n) + 1)) as u16
        };
        self.slow = toward(self.slow, self.n);
        self.fast = toward(self.fast, self.n.min(24));
    }
}

/// One walk over the syntax, executed by the writer and by the reader: the writer codes the answer
/// it is given and returns it, the reader ignores it and returns what it reads.
pub(crate) trait BitCoder {
    fn bit(&mut self, chance: Chance, yes: bool) -> Result<bool, InvalidCode>;

    /// An answer of which nothing is known.
    fn even(&mut self, yes: bool) -> Result<bool, InvalidCode> {
        self.bit(Chance(ONE / 2), yes)
    }
}

/// Codes answers into bytes.
pub(crate) struct BitWriter(RangeEncoder<u16, u64>);

impl BitWriter {
    pub(crate) fn new() -> Self {
        Self(RangeEncoder::new())
    }

    /// Words of the range coder, big-endian; zeros at the end are left out.
    pub(crate) fn finish(self) -> Vec<u8> {
        let Ok(words) = self.0.into_compressed();
        let mut bytes: Vec<u8> = words.iter().flat_map(|word: &u16| word.to_be_bytes()).collect();
        bytes.truncate(bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1));
        bytes
    }
}

impl BitCoder for BitWriter {
    fn bit(&mut self, chance: Chance, yes: bool) -> Result<bool, InvalidCode> {
        self.0.encode_symbol(yes, chance).map_err(|_| InvalidCode)?;
        Ok(yes)
    }
}

/// Reads answers back. Past the end the bytes go on as zeros.
pub(crate) struct BitReader(RangeDecoder<u16, u64, Cursor<u16, Vec<u16>>>);

impl BitReader {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let words: Vec<u16> = bytes
            .chunks(2)
            .map(|pair| u16::from(pair[0]) << 8 | u16::from(pair.get(1).copied().unwrap_or(0)))
            .collect();
        let Ok(coder) = RangeDecoder::from_compressed(words);
        Self(coder)
    }
}

impl BitCoder for BitReader {
    fn bit(&mut self, chance: Chance, _: bool) -> Result<bool, InvalidCode> {
        self.0.decode_symbol(chance).map_err(|_| InvalidCode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cost_of(answers: &[bool]) -> Vec<u8> {
        let (mut writer, mut guess) = (BitWriter::new(), Guess::NEW);
        for &yes in answers {
            writer.bit(Guess::together([guess]), yes).unwrap();
            guess.learn(yes);
        }
        writer.finish()
    }

    #[test]
    fn what_is_always_so_is_nearly_free() {
        assert!(cost_of(&vec![true; 20_000]).len() < 60);
        assert!(cost_of(&vec![false; 20_000]).len() < 60);
    }

    /// If this fails, face files of this version are read wrongly: fix the code, or raise the
    /// version.
    #[test]
    fn answers_have_exactly_these_bytes() {
        let answers: Vec<bool> = (0..40).map(|i| i % 5 == 0).collect();
        assert_eq!(cost_of(&answers), GOLDEN);
    }

    const GOLDEN: [u8; 6] = [123, 237, 210, 167, 19, 119];

    proptest! {
        #[test]
        fn what_was_written_is_read(answers in prop::collection::vec(any::<bool>(), 0..400)) {
            let bytes = cost_of(&answers);
            let (mut reader, mut guess) = (BitReader::new(&bytes), Guess::NEW);
            for &yes in &answers {
                prop_assert_eq!(reader.bit(Guess::together([guess]), false), Ok(yes));
                guess.learn(yes);
            }
        }
    }
}
