//! The boxes that MP4 files are made of (ISO/IEC 14496-12, section 4.2).

/// Reads a big-endian number.
pub(crate) fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, b| sum << 8 | u64::from(*b))
}

/// Iterator over the boxes in a slice; it ends at the first one that does not fit.
pub(crate) struct Boxes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Boxes<'a> {
    type Item = ([u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = ByteReader(self.0);
        let size = u64::from(reader.u32()?);
        let kind = reader.u32()?.to_be_bytes();
        let (size, header) = match size {
            0 => (self.0.len() as u64, 8),
            1 => (reader.u64()?, 16),
            size => (size, 8),
        };
        let size = usize::try_from(size).ok()?;
        let body = self.0.get(header..size)?;
        self.0 = &self.0[size..];
        Some((kind, body))
    }
}

pub(crate) fn child(bytes: &[u8], kind: [u8; 4]) -> Option<&[u8]> {
    Boxes(bytes).find(|(k, _)| *k == kind).map(|(_, body)| body)
}

/// Cursor that reads big-endian numbers from the front of a slice.
pub(crate) struct ByteReader<'a>(pub(crate) &'a [u8]);

impl ByteReader<'_> {
    pub(crate) fn skip(&mut self, n: usize) -> Option<()> {
        self.0 = self.0.get(n..)?;
        Some(())
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        let value = *self.0.first()?;
        self.skip(1)?;
        Some(value)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        let value = be(self.0.get(..4)?) as u32;
        self.skip(4)?;
        Some(value)
    }

    pub(crate) fn words<const N: usize>(&mut self) -> Option<[u32; N]> {
        let mut words = [0; N];
        for word in &mut words {
            *word = self.u32()?;
        }
        Some(words)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        let value = be(self.0.get(..8)?);
        self.skip(8)?;
        Some(value)
    }
}
