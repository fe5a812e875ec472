//! Binary arithmetic coding: adaptive contexts, and the range coder of crate `constriction`.
//!
//! Context-adaptive binary coding as in CABAC (Marpe et al. 2003), with two adaptation rates for
//! each context as in H.266; the range coder is that of Martin 1979 as implemented by Bamler 2022
//! (arXiv:2201.01741).

use std::borrow::Borrow;
use std::num::NonZeroU16;

use constriction::backends::Cursor;
use constriction::stream::model::{DecoderModel, EncoderModel, EntropyModel};
use constriction::stream::queue::{RangeDecoder, RangeEncoder};
use constriction::stream::{Decode, Encode};

/// Probabilities are multiples of `2^-15`.
const PRECISION: usize = 15;
/// Probability one.
const ONE: u16 = 1 << PRECISION;
/// Smallest probability of a bin.
const MIN_PROBABILITY: u16 = 16;

/// The stream does not decode, or has more bins than are allowed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct InvalidCode;

/// Probability that a bin is one, in units of `2^-15`; never 0 or 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BinProbability(u16);

impl EntropyModel<PRECISION> for BinProbability {
    type Symbol = bool;
    type Probability = u16;
}

impl BinProbability {
    /// Returns start and width of a bin's part of the range: a one takes the lower part.
    fn part(self, bin: bool) -> (u16, NonZeroU16) {
        let (start, width) = if bin { (0, self.0) } else { (self.0, ONE - self.0) };
        (start, NonZeroU16::new(width).unwrap_or(NonZeroU16::MIN))
    }
}

impl EncoderModel<PRECISION> for BinProbability {
    fn left_cumulative_and_probability(
        &self,
        symbol: impl Borrow<bool>,
    ) -> Option<(u16, NonZeroU16)> {
        Some(self.part(*symbol.borrow()))
    }
}

impl DecoderModel<PRECISION> for BinProbability {
    fn quantile_function(&self, quantile: u16) -> (bool, u16, NonZeroU16) {
        let bin = quantile < self.0;
        let (start, width) = self.part(bin);
        (bin, start, width)
    }
}

/// Adaptive estimate of a bin's probability: a slow and a fast running mean, in integers.
///
/// After `n` bins a mean moves by `2 / (2 n + 1)` of its error; `n` stops at 255 for the slow mean
/// and at 24 for the fast one. Means are in units of `2^-16`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    slow: u16,
    fast: u16,
    n: u8,
}

impl Context {
    /// Context before any bin: probability one half.
    pub(crate) const NEW: Self = Self { slow: ONE, fast: ONE, n: 0 };

    /// Returns the mean probability of several contexts.
    pub(crate) fn mean<const N: usize>(contexts: [Self; N]) -> BinProbability {
        let sum: u32 = contexts.iter().map(|c| u32::from(c.slow) + u32::from(c.fast)).sum();
        let mean = (sum / (4 * N as u32)) as u16;
        BinProbability(mean.clamp(MIN_PROBABILITY, ONE - MIN_PROBABILITY))
    }

    /// Adapts the means to a bin.
    pub(crate) fn update(&mut self, bin: bool) {
        let target = if bin { 65_535 } else { 0 };
        self.n = self.n.saturating_add(1);
        let moved = |mean: u16, n: u8| {
            let error = target - i32::from(mean);
            (i32::from(mean) + error * 2 / (2 * i32::from(n) + 1)) as u16
        };
        self.slow = moved(self.slow, self.n);
        self.fast = moved(self.fast, self.n.min(24));
    }
}

/// Coder of bins, so that one traversal of the syntax serves writer and reader: the writer codes
/// the bin it is given and returns it, the reader ignores it and returns the bin it reads.
pub(crate) trait BinCoder {
    /// Codes a bin with the given probability of a one.
    fn bin(&mut self, probability: BinProbability, bin: bool) -> Result<bool, InvalidCode>;

    /// Codes a bin of probability one half.
    fn equiprobable(&mut self, bin: bool) -> Result<bool, InvalidCode> {
        self.bin(BinProbability(ONE / 2), bin)
    }
}

/// Encodes bins.
pub(crate) struct BinWriter(RangeEncoder<u16, u64>);

impl BinWriter {
    pub(crate) fn new() -> Self {
        Self(RangeEncoder::new())
    }

    /// Returns the words of the range coder, big-endian, without zero bytes at the end.
    pub(crate) fn finish(self) -> Vec<u8> {
        let Ok(words) = self.0.into_compressed();
        let mut bytes: Vec<u8> = words.iter().flat_map(|word: &u16| word.to_be_bytes()).collect();
        bytes.truncate(bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1));
        bytes
    }
}

impl BinCoder for BinWriter {
    fn bin(&mut self, probability: BinProbability, bin: bool) -> Result<bool, InvalidCode> {
        self.0.encode_symbol(bin, probability).map_err(|_| InvalidCode)?;
        Ok(bin)
    }
}

/// Decodes bins. The bytes continue as zeros past their end, so their number does not bound that of
/// the bins.
pub(crate) struct BinReader {
    coder: RangeDecoder<u16, u64, Cursor<u16, Vec<u16>>>,
    /// Number of bins that may still be decoded.
    n_left: u64,
}

impl BinReader {
    /// Returns a reader of at most `n_bins` bins.
    pub(crate) fn new(bytes: &[u8], n_bins: u64) -> Self {
        let words: Vec<u16> = bytes
            .chunks(2)
            .map(|pair| u16::from(pair[0]) << 8 | u16::from(pair.get(1).copied().unwrap_or(0)))
            .collect();
        let Ok(coder) = RangeDecoder::from_compressed(words);
        Self { coder, n_left: n_bins }
    }

    /// Returns the number of bins that may still be decoded.
    pub(crate) fn n_left(&self) -> u64 {
        self.n_left
    }
}

impl BinCoder for BinReader {
    fn bin(&mut self, probability: BinProbability, _: bool) -> Result<bool, InvalidCode> {
        self.n_left = self.n_left.checked_sub(1).ok_or(InvalidCode)?;
        self.coder.decode_symbol(probability).map_err(|_| InvalidCode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn coded(bins: &[bool]) -> Vec<u8> {
        let (mut writer, mut context) = (BinWriter::new(), Context::NEW);
        for &bin in bins {
            writer.bin(Context::mean([context]), bin).unwrap();
            context.update(bin);
        }
        writer.finish()
    }

    #[test]
    fn constant_bins_take_almost_no_bytes() {
        assert!(coded(&vec![true; 20_000]).len() < 60);
        assert!(coded(&vec![false; 20_000]).len() < 60);
    }

    /// If this fails, existing face files no longer decode: fix the code, or raise the version of
    /// the format.
    #[test]
    fn bins_have_exactly_these_bytes() {
        let bins: Vec<bool> = (0..40).map(|i| i % 5 == 0).collect();
        assert_eq!(coded(&bins), GOLDEN);
    }

    #[test]
    fn no_more_bins_are_read_than_allowed() {
        let mut reader = BinReader::new(&[], 2);
        assert!((0..2).all(|_| reader.equiprobable(false).is_ok()));
        assert_eq!((reader.n_left(), reader.equiprobable(false)), (0, Err(InvalidCode)));
    }

    const GOLDEN: [u8; 6] = [123, 237, 210, 167, 19, 119];

    proptest! {
        #[test]
        fn decoding_returns_the_encoded_bins(bins in prop::collection::vec(any::<bool>(), 0..400)) {
            let bytes = coded(&bins);
            let (mut reader, mut context) = (BinReader::new(&bytes, 400), Context::NEW);
            for &bin in &bins {
                prop_assert_eq!(reader.bin(Context::mean([context]), false), Ok(bin));
                context.update(bin);
            }
        }
    }
}
