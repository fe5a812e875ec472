use std::collections::VecDeque;

/// Packets whose time in the network is remembered.
const MAX_TRANSITS: usize = 200;
/// Fraction of packets that shall arrive before they are due.
const QUANTILE: f64 = 0.97;
/// Added to that quantile, in samples at 48 kHz (10 ms): blocks are pulled every 10 ms.
const MARGIN: i64 = 480;
/// Largest delay above the fastest packet, in samples (1 s).
const MAX_DELAY: i64 = 48_000;
/// Packets from which on the quantile is trusted. Before, there is some more margin.
const MIN_TRANSITS: usize = 20;
/// Margin before, in samples (30 ms).
const FIRST_MARGIN: i64 = 1440;

/// Chooses how late sound is played, from how unevenly its packets arrive.
///
/// The *transit* of a packet is its arrival on the local clock minus its timestamp. Its zero is
/// arbitrary, because the two clocks have nothing in common; only differences count.
#[derive(Default)]
pub(crate) struct DelayEstimator {
    /// Of the latest packets, in samples at 48 kHz.
    transits: VecDeque<i64>,
    fastest: i64,
    jitter: i64,
    min_delay: i64,
}

impl DelayEstimator {
    pub(crate) fn insert(&mut self, transit: i64) {
        if self.transits.len() == MAX_TRANSITS {
            self.transits.pop_front();
        }
        self.transits.push_back(transit);
        let mut sorted: Vec<i64> = self.transits.iter().copied().collect();
        let rank = ((sorted.len() - 1) as f64 * QUANTILE).ceil() as usize;
        let (_, quantile, _) = sorted.select_nth_unstable(rank);
        let quantile = *quantile;
        self.fastest = sorted.into_iter().min().unwrap_or(transit);
        self.jitter = quantile - self.fastest;
    }

    pub(crate) fn set_min(&mut self, delay: i64) {
        self.min_delay = delay.clamp(0, MAX_DELAY);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.transits.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.transits.clear();
    }

    /// Returns the transit of the fastest packet of late.
    pub(crate) fn fastest(&self) -> i64 {
        self.fastest
    }

    /// Returns the transit that a packet may have at most to be played in time.
    pub(crate) fn playout(&self) -> i64 {
        let margin = if self.transits.len() < MIN_TRANSITS { FIRST_MARGIN } else { MARGIN };
        self.fastest + (self.jitter + margin).clamp(self.min_delay, MAX_DELAY)
    }
}
