use std::collections::VecDeque;

/// Packets whose transit is remembered.
const MAX_TRANSITS: usize = 200;
/// Fraction of packets that shall arrive before they are due.
const QUANTILE: f64 = 0.97;
/// Fraction of packets that shall have arrived or be recoverable before they are due.
const RECOVERY_QUANTILE: f64 = 0.95;
/// Added to those quantiles, in samples at 48 kHz (10 ms): blocks are pulled every 10 ms.
const MARGIN: i64 = 480;
/// Largest delay above the fastest packet, in samples (1 s).
const MAX_DELAY: i64 = 48_000;
/// Largest delay that waits for the recovery of lost packets, in samples (300 ms).
const MAX_RECOVERY_DELAY: i64 = 14_400;
/// Packets from which on the quantile is trusted.
const MIN_TRANSITS: usize = 20;
/// Margin before that, in samples (30 ms).
const FIRST_MARGIN: i64 = 1440;

/// Chooses how late sound is played, from how unevenly its packets arrive.
///
/// The *transit* of a packet is its arrival on the local clock minus its timestamp, in samples at
/// 48 kHz. Its zero is arbitrary, because the two clocks have nothing in common; only differences
/// count.
#[derive(Default)]
pub(crate) struct DelayEstimator {
    /// Transits of the latest packets, and whether the packet was lost: then it is the arrival of
    /// the packet that repeats it, minus its timestamp.
    transits: VecDeque<(i64, bool)>,
    /// Transit of the fastest packet of late.
    fastest: i64,
    /// How much slower than the fastest packet the slowest are.
    jitter: i64,
    /// The same, counting lost packets.
    recovery: i64,
    min_delay: i64,
}

impl DelayEstimator {
    /// Takes the transit of a packet that arrived.
    pub(crate) fn insert(&mut self, transit: i64) {
        self.push(transit, false);
        let mut arrived: Vec<i64> =
            self.transits.iter().filter(|(_, lost)| !lost).map(|(transit, _)| *transit).collect();
        let mut all: Vec<i64> = self.transits.iter().map(|(transit, _)| *transit).collect();
        self.fastest = arrived.iter().copied().min().unwrap_or(transit);
        self.jitter = quantile(&mut arrived, QUANTILE) - self.fastest;
        self.recovery = quantile(&mut all, RECOVERY_QUANTILE) - self.fastest;
    }

    /// Takes the transit of a packet that was lost and came with a later one.
    pub(crate) fn insert_recovery(&mut self, transit: i64) {
        self.push(transit, true);
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
        let delay = self.jitter.max(self.recovery.min(MAX_RECOVERY_DELAY)) + margin;
        self.fastest + delay.clamp(self.min_delay, MAX_DELAY)
    }

    fn push(&mut self, transit: i64, is_lost: bool) {
        if self.transits.len() == MAX_TRANSITS {
            self.transits.pop_front();
        }
        self.transits.push_back((transit, is_lost));
    }
}

/// Returns the value that a fraction of `values` does not exceed.
fn quantile(values: &mut [i64], fraction: f64) -> i64 {
    let rank = (values.len().saturating_sub(1) as f64 * fraction).ceil() as usize;
    if values.is_empty() { 0 } else { *values.select_nth_unstable(rank).1 }
}
