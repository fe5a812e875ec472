use std::collections::VecDeque;

use crate::played::{BLOCK, SoundKind};

/// Sound that has been decoded and not yet played.
#[derive(Default)]
pub(crate) struct SoundQueue {
    samples: Vec<f32>,
    /// How the samples came to be: counts and kinds, in order.
    kinds: VecDeque<(usize, SoundKind)>,
}

impl SoundQueue {
    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    pub(crate) fn clear(&mut self) {
        self.samples.clear();
        self.kinds.clear();
    }

    pub(crate) fn append(&mut self, samples: &[f32], kind: SoundKind) {
        self.samples.extend(samples);
        match self.kinds.back_mut() {
            Some((n, last)) if *last == kind => *n += samples.len(),
            _ => self.kinds.push_back((samples.len(), kind)),
        }
    }

    /// Lets `change` shorten or lengthen the sound near its start, by the number of samples that
    /// it returns.
    pub(crate) fn stretch(&mut self, change: impl FnOnce(&mut Vec<f32>) -> usize) -> usize {
        let before = self.samples.len();
        let n = change(&mut self.samples);
        if self.samples.len() > before {
            if let Some((count, _)) = self.kinds.front_mut() {
                *count += n;
            }
        } else {
            self.take_kinds(n);
        }
        n
    }

    /// Takes the first block, filled up with silence, and the kind of its first sample.
    pub(crate) fn take_block(&mut self) -> ([f32; BLOCK], SoundKind) {
        let n = self.samples.len().min(BLOCK);
        let mut block = [0.0; BLOCK];
        for (sample, decoded) in block.iter_mut().zip(self.samples.drain(..n)) {
            *sample = if decoded.is_finite() { decoded.clamp(-1.0, 1.0) } else { 0.0 };
        }
        (block, self.take_kinds(n))
    }

    /// Removes `n` samples from the kinds and returns the first kind.
    fn take_kinds(&mut self, mut n: usize) -> SoundKind {
        let first = self.kinds.front().map_or_else(SoundKind::default, |(_, kind)| *kind);
        while n > 0
            && let Some((count, _)) = self.kinds.front_mut()
        {
            let taken = n.min(*count);
            *count -= taken;
            n -= taken;
            if *count == 0 {
                self.kinds.pop_front();
            }
        }
        first
    }
}
