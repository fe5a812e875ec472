use std::collections::VecDeque;

use crate::wire::unwrap_near;

/// Measures what share of the recent packets was lost, by their wrapped numbers.
#[derive(Debug)]
pub(crate) struct LossMeter {
    /// Bits of a number on the wire.
    bits: u32,
    /// Packets over which loss is measured.
    window: usize,
    newest: u64,
    recent: VecDeque<u64>,
    n_lost: u64,
    loss: f32,
}

impl LossMeter {
    pub(crate) fn new(bits: u32, window: usize) -> Self {
        Self { bits, window, newest: 0, recent: VecDeque::new(), n_lost: 0, loss: 0.0 }
    }

    /// Counts a packet that has arrived.
    pub(crate) fn count(&mut self, number: u64) {
        let number = if self.recent.is_empty() {
            number + (1 << self.bits)
        } else {
            unwrap_near(self.newest, number, self.bits)
        };
        if self.recent.is_empty() || number > self.newest {
            if !self.recent.is_empty() {
                self.n_lost += number - self.newest - 1;
            }
            self.newest = number;
        } else {
            self.n_lost = self.n_lost.saturating_sub(1);
        }
        self.recent.push_back(number);
        if self.recent.len() > self.window {
            self.recent.pop_front();
        }
        let first = self.recent.iter().min().copied().unwrap_or(number);
        let span = (self.newest - first + 1) as f32;
        self.loss = (1.0 - self.recent.len() as f32 / span).clamp(0.0, 1.0);
    }

    /// Returns the numbers skipped so far, less the packets that arrived later than a newer one. A
    /// duplicate also counts as late, and gaps of half the range of numbers are not seen whole.
    pub(crate) fn n_lost(&self) -> u64 {
        self.n_lost
    }

    /// Returns the recent loss, 0..=1: the fraction of missing numbers in the range of numbers spanned
    /// by the packets of the window, duplicates included.
    pub(crate) fn loss(&self) -> f32 {
        self.loss
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fourth_packet_missing_is_a_loss_of_a_quarter_across_the_wrap() {
        let mut meter = LossMeter::new(16, 32);
        for number in (65_000..66_000_u64).filter(|number| number % 4 != 0) {
            meter.count(number & 0xffff);
        }
        assert_eq!(meter.n_lost(), 249);
        assert!((meter.loss() - 0.25).abs() < 0.02, "{}", meter.loss());
    }

    #[test]
    fn a_late_packet_is_not_lost() {
        let mut meter = LossMeter::new(8, 64);
        for number in [254, 255, 1, 0, 2] {
            meter.count(number);
        }
        assert_eq!((meter.n_lost(), meter.loss()), (0, 0.0));
    }
}
