//! The range coder of `constriction`, with the shortest possible termination.

use constriction::backends::Cursor;
use constriction::stream::model::{ContiguousCategoricalEntropyModel, EncoderModel, UniformModel};
use constriction::stream::queue::{EncoderSituation, RangeDecoder, RangeEncoder};
use constriction::stream::{Decode, Encode};

/// Probabilities are multiples of `2^-PRECISION`.
pub(crate) const PRECISION: usize = 14;

/// The fixed-point distribution of one symbol.
pub(crate) type Table = ContiguousCategoricalEntropyModel<u16, Vec<u16>, PRECISION>;

/// The bytes are not a valid code, or a value is outside its table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct InvalidSymbol;

/// Writer or reader of symbols.
///
/// The writer codes the given `value` and returns it; the reader ignores it and returns the value
/// that it reads. The syntax is thus written once for both directions.
pub(crate) trait SymbolCoder {
    /// Codes a symbol of `table`, counted from 0.
    fn symbol(&mut self, table: &Table, value: usize) -> Result<usize, InvalidSymbol>;

    /// Codes `n <= 24` bits without a model, most significant first, in groups of up to eight.
    fn bits(&mut self, n: u32, value: u32) -> Result<u32, InvalidSymbol>;
}

/// Encodes symbols into bytes.
pub(crate) struct SymbolWriter {
    coder: RangeEncoder<u16, u64>,
}

impl SymbolWriter {
    pub(crate) fn new() -> Self {
        Self { coder: RangeEncoder::new() }
    }

    fn encode(
        &mut self,
        value: usize,
        model: impl EncoderModel<PRECISION, Symbol = usize, Probability = u16>,
    ) -> Result<(), InvalidSymbol> {
        self.coder.encode_symbol(value, model).map_err(|_| InvalidSymbol)
    }

    /// Returns the shortest bytes that, followed by zeros, lie in the final interval.
    ///
    /// The interval is `[low, low + range)`, where `low` has `length` bytes. Every multiple of
    /// `256^(length - k)` in it is a code of `k` bytes.
    pub(crate) fn finish(self) -> Vec<u8> {
        let (mut words, state, situation) = self.coder.into_raw_parts();
        if let EncoderSituation::Inverted(held_back, first) = situation {
            words.push(first);
            words.extend(std::iter::repeat_n(u16::MAX, held_back.get() - 1));
        }
        let mut low: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        low.extend(state.lower().to_be_bytes());
        let range = u128::from(state.range().get());
        // A carry may reach back further than 15 bytes; then the code is not shortened.
        for length in low.len().saturating_sub(15)..low.len() {
            let tail = low[length..].iter().fold(0_u128, |sum, &byte| sum << 8 | u128::from(byte));
            let distance = if tail == 0 { 0 } else { (1 << (8 * (low.len() - length))) - tail };
            if distance < range {
                let mut code = low[..length].to_vec();
                if distance == 0 || add_one(&mut code) {
                    return code;
                }
            }
        }
        low
    }
}

/// Adds one to a big-endian number; returns whether it did not overflow.
fn add_one(number: &mut [u8]) -> bool {
    for byte in number.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return true;
        }
    }
    false
}

impl SymbolCoder for SymbolWriter {
    fn symbol(&mut self, table: &Table, value: usize) -> Result<usize, InvalidSymbol> {
        self.encode(value, table)?;
        Ok(value)
    }

    fn bits(&mut self, n: u32, value: u32) -> Result<u32, InvalidSymbol> {
        for (width, shift) in groups(n) {
            let group = value >> shift & ((1 << width) - 1);
            self.encode(group as usize, UniformModel::<u16, PRECISION>::new(1 << width))?;
        }
        Ok(value)
    }
}

/// Decodes symbols from bytes, which are followed by implicit zeros.
pub(crate) struct SymbolReader {
    coder: RangeDecoder<u16, u64, Cursor<u16, Vec<u16>>>,
}

impl SymbolReader {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let words: Vec<u16> = bytes
            .chunks(2)
            .map(|pair| u16::from(pair[0]) << 8 | u16::from(pair.get(1).copied().unwrap_or(0)))
            .collect();
        let Ok(coder) = RangeDecoder::from_compressed(words);
        Self { coder }
    }
}

impl SymbolCoder for SymbolReader {
    fn symbol(&mut self, table: &Table, _: usize) -> Result<usize, InvalidSymbol> {
        self.coder.decode_symbol(table).map_err(|_| InvalidSymbol)
    }

    fn bits(&mut self, n: u32, _: u32) -> Result<u32, InvalidSymbol> {
        let mut value = 0;
        for (width, _) in groups(n) {
            let model = UniformModel::<u16, PRECISION>::new(1 << width);
            let group = self.coder.decode_symbol(model).map_err(|_| InvalidSymbol)?;
            value = value << width | group as u32;
        }
        Ok(value)
    }
}

/// Returns the widths and shifts of the groups of an `n`-bit number, most significant first.
fn groups(n: u32) -> impl Iterator<Item = (u32, u32)> {
    let mut left = n;
    std::iter::from_fn(move || {
        let width = left.min(8);
        left -= width;
        (width > 0).then_some((width, left))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(frequencies: &[u16]) -> Table {
        Table::from_nonzero_fixed_point_probabilities(frequencies, true).unwrap()
    }

    #[test]
    fn a_few_likely_symbols_take_no_bytes() {
        let mut writer = SymbolWriter::new();
        let table = table(&[16_000, 192]);
        for _ in 0..36 {
            writer.symbol(&table, 0).unwrap();
        }
        assert_eq!(writer.finish(), []);
    }

    proptest! {
        #[test]
        fn symbols_survive_and_take_at_most_a_byte_more_than_their_information(
            symbols in prop::collection::vec((0_usize..4, 0_u32..1 << 20), 0..60),
        ) {
            let table = table(&[8000, 4000, 300]);
            let mut writer = SymbolWriter::new();
            let mut bits = 0.0;
            for &(symbol, raw) in &symbols {
                writer.symbol(&table, symbol).unwrap();
                writer.bits(20, raw).unwrap();
                bits += 34.0 - f64::from([8000.0_f32, 4000.0, 300.0, 4084.0][symbol].log2());
            }
            let bytes = writer.finish();
            prop_assert!(bytes.len() as f64 * 8.0 < bits + 9.0);
            let mut reader = SymbolReader::new(&bytes);
            for &(symbol, raw) in &symbols {
                prop_assert_eq!(reader.symbol(&table, 0), Ok(symbol));
                prop_assert_eq!(reader.bits(20, 0), Ok(raw));
            }
        }
    }
}
