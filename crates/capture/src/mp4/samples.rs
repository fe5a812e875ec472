//! Sample tables of MP4 files: where the samples of a track are, and when they are shown.

use crate::mp4::boxes::{ByteReader, be, child};
use crate::mp4::track::{MAX_SAMPLES, Mp4Sample};

/// Samples of a track, as its sample table lists them.
pub(crate) struct SampleTable {
    /// In decoding order.
    pub(crate) samples: Vec<Mp4Sample>,
    /// Number of the sample description that they refer to, from 1; `None` if they refer to several.
    pub(crate) description: Option<u32>,
}

/// Parses the sample table in an `stbl` box; `None` if it contradicts itself or the length of the file.
pub(crate) fn parse_samples(stbl: &[u8], file_length: u64) -> Option<SampleTable> {
    let sizes = Sizes::parse(stbl, file_length)?;
    let (mut samples, description) = place(stbl, &sizes)?;
    set_times(stbl, &mut samples)?;
    if let Some(stss) = child(stbl, *b"stss") {
        for sample in &mut samples {
            sample.is_key = false;
        }
        for number in stss.get(8..)?.chunks_exact(4) {
            if let Some(sample) = samples.get_mut((be(number) as usize).wrapping_sub(1)) {
                sample.is_key = true;
            }
        }
    }
    Some(SampleTable { samples, description })
}

/// Returns the duration of all samples that an `stts` box lists, in units of the track.
pub(crate) fn duration_of(stts: &[u8]) -> Option<i64> {
    let mut runs = stts.get(8..)?.chunks_exact(8);
    runs.try_fold(0_i64, |sum, run| {
        sum.checked_add((be(&run[..4]) * be(&run[4..])).try_into().ok()?)
    })
}

/// Sizes of samples: all the same, or a table of numbers of 4, 8, 16 or 32 bits.
struct Sizes<'a> {
    n_samples: usize,
    fixed: Option<u32>,
    table: &'a [u8],
    bits: usize,
}

impl<'a> Sizes<'a> {
    fn parse(stbl: &'a [u8], file_length: u64) -> Option<Self> {
        let (fixed, bits, mut reader) = if let Some(stsz) = child(stbl, *b"stsz") {
            let mut reader = ByteReader(stsz.get(4..)?);
            (Some(reader.u32()?).filter(|size| *size > 0), 32, reader)
        } else {
            let mut reader = ByteReader(child(stbl, *b"stz2")?.get(4..)?);
            let bits = reader.u32()? as usize & 0xFF;
            (None, Some(bits).filter(|bits| matches!(bits, 4 | 8 | 16))?, reader)
        };
        let n_samples = reader.u32()? as usize;
        let most = match fixed {
            Some(size) => usize::try_from(file_length / u64::from(size)).ok()?,
            None => reader.0.len() * 8 / bits,
        };
        let is_possible = n_samples <= most.min(MAX_SAMPLES);
        is_possible.then_some(Self { n_samples, fixed, table: reader.0, bits })
    }

    /// Returns the size of a sample, bytes.
    fn at(&self, sample_idx: usize) -> Option<u32> {
        if self.fixed.is_some() {
            return self.fixed;
        }
        if self.bits == 4 {
            let pair = *self.table.get(sample_idx / 2)?;
            let size = if sample_idx.is_multiple_of(2) { pair >> 4 } else { pair & 15 };
            return Some(size.into());
        }
        let width = self.bits / 8;
        self.table.get(sample_idx * width..(sample_idx + 1) * width).map(|bytes| be(bytes) as u32)
    }
}

/// Places the samples in the file by the chunks that hold them.
fn place(stbl: &[u8], sizes: &Sizes<'_>) -> Option<(Vec<Mp4Sample>, Option<u32>)> {
    let chunks: Vec<u64> = match child(stbl, *b"stco") {
        Some(stco) => stco.get(8..)?.chunks_exact(4).map(be).collect(),
        None => child(stbl, *b"co64")?.get(8..)?.chunks_exact(8).map(be).collect(),
    };
    // First chunk, samples of each chunk, sample description.
    let runs: Vec<[u32; 3]> = child(stbl, *b"stsc")?
        .get(8..)?
        .chunks_exact(12)
        .map(|run| [&run[..4], &run[4..8], &run[8..]].map(|number| be(number) as u32))
        .collect();
    let mut samples = Vec::new();
    let mut description = Some(1);
    let mut run = 0;
    'chunks: for (chunk_idx, chunk) in chunks.iter().enumerate() {
        while runs.get(run + 1).is_some_and(|r| r[0] as usize <= chunk_idx + 1) {
            run += 1;
        }
        let mut offset = *chunk;
        let [_, n_samples, number] = *runs.get(run)?;
        for _ in 0..n_samples {
            if samples.len() == sizes.n_samples {
                break 'chunks;
            }
            if samples.is_empty() {
                description = Some(number);
            } else if description != Some(number) {
                description = None;
            }
            let size = sizes.at(samples.len())?;
            samples.push(Mp4Sample { offset, size, is_key: true, shown_at: 0 });
            offset = offset.checked_add(u64::from(size))?;
        }
    }
    (samples.len() == sizes.n_samples).then_some((samples, description))
}

/// Sets the presentation times: decoding times and, in some tracks, their offsets.
fn set_times(stbl: &[u8], samples: &mut [Mp4Sample]) -> Option<()> {
    let mut time = 0_i64;
    let mut at = 0_usize;
    for run in child(stbl, *b"stts")?.get(8..)?.chunks_exact(8) {
        let (count, step) = (be(&run[..4]) as usize, be(&run[4..]) as i64);
        for sample in samples.iter_mut().skip(at).take(count) {
            sample.shown_at = time;
            time = time.checked_add(step)?;
        }
        at = at.saturating_add(count);
    }
    if at < samples.len() {
        return None;
    }
    let Some(ctts) = child(stbl, *b"ctts") else { return Some(()) };
    let mut at = 0_usize;
    for run in ctts.get(8..)?.chunks_exact(8) {
        // Version 0 is unsigned by the standard, but many writers store negative numbers in it.
        let (count, shift) = (be(&run[..4]) as usize, i64::from(be(&run[4..]) as i32));
        for sample in samples.iter_mut().skip(at).take(count) {
            sample.shown_at = sample.shown_at.checked_add(shift)?;
        }
        at = at.saturating_add(count);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
    }

    fn boxed(kind: &[u8], body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes(), kind, body].concat()
    }

    /// A table of four samples in two chunks with the given box of sizes.
    fn table(sizes: &[u8], descriptions: [u32; 2]) -> Vec<u8> {
        let [first, second] = descriptions;
        [
            sizes,
            &boxed(b"co64", &words(&[0, 2, 1, 0, 0, 500])),
            &boxed(b"stsc", &words(&[0, 2, 1, 3, first, 2, 1, second])),
            &boxed(b"stts", &words(&[0, 1, 4, 10])),
            &boxed(b"ctts", &words(&[0x0100_0000, 2, 1, 0, 3, -10_i32 as u32])),
            &boxed(b"stss", &words(&[0, 2, 1, 4])),
        ]
        .concat()
    }

    #[test]
    fn every_kind_of_size_table_and_negative_offsets_are_read() {
        let compact =
            |bits, table: &[u8]| boxed(b"stz2", &[&words(&[0, bits, 4])[..], table].concat());
        for (sizes, want) in [
            (boxed(b"stsz", &words(&[0, 7, 4])), [7, 7, 7, 7]),
            (boxed(b"stsz", &words(&[0, 0, 4, 1, 2, 3, 4])), [1, 2, 3, 4]),
            (compact(4, &[0x12, 0x34]), [1, 2, 3, 4]),
            (compact(8, &[1, 2, 3, 4]), [1, 2, 3, 4]),
            (compact(16, &[0, 1, 0, 2, 0, 3, 1, 4]), [1, 2, 3, 260]),
        ] {
            let table = parse_samples(&table(&sizes, [1, 1]), 10_000).unwrap();
            assert_eq!(table.description, Some(1));
            let got: Vec<u32> = table.samples.iter().map(|s| s.size).collect();
            assert_eq!(got, want);
            let large = 1 << 32;
            let offsets =
                [large, large + u64::from(want[0]), large + u64::from(want[0] + want[1]), 500];
            for (sample, offset) in table.samples.iter().zip(offsets) {
                assert_eq!(sample.offset, offset);
            }
            let times: Vec<_> = table.samples.iter().map(|s| (s.shown_at, s.is_key)).collect();
            assert_eq!(times, [(0, true), (0, false), (10, false), (20, true)]);
        }
    }

    #[test]
    fn samples_of_several_descriptions_are_noticed() {
        let sizes = boxed(b"stsz", &words(&[0, 7, 4]));
        for (descriptions, want) in [([2, 2], Some(2)), ([1, 2], None), ([2, 1], None)] {
            let table = parse_samples(&table(&sizes, descriptions), 10_000).unwrap();
            assert_eq!(table.description, want);
        }
        assert!(
            parse_samples(&table(&boxed(b"stz2", &words(&[0, 3, 4])), [1, 1]), 10_000).is_none()
        );
        assert!(parse_samples(&table(&sizes, [1, 1]), 27).is_none());
    }
}
