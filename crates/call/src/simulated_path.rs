use std::time::Duration;

use numerics::SplitMix64;

/// How packets get lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Each packet with this probability, 0..=1, independent of the others.
    Random(f64),
    /// All packets for `length` at the end of every `period`.
    Bursts {
        /// Time from one burst to the next.
        period: Duration,
        /// Duration of a burst.
        length: Duration,
    },
}

/// Properties of one direction of a network path. Jitter reorders packets.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Shortest time that a packet takes, in full milliseconds.
    pub latency: Duration,
    /// A packet takes up to this much longer, uniformly distributed.
    pub jitter: Duration,
    /// How packets get lost.
    pub loss: Loss,
    /// Seed of all randomness: the same seed gives every packet the same fate.
    pub seed: u64,
}

impl Path {
    /// Returns a path of 20 ms without jitter and loss.
    pub fn clean() -> Self {
        Self {
            latency: Duration::from_millis(20),
            jitter: Duration::ZERO,
            loss: Loss::Random(0.0),
            seed: 1,
        }
    }

    /// Returns the path with another loss.
    #[must_use]
    pub fn with_loss(self, loss: Loss) -> Self {
        Self { loss, ..self }
    }

    /// Returns the path with another jitter.
    #[must_use]
    pub fn with_jitter(self, jitter: Duration) -> Self {
        Self { jitter, ..self }
    }
}

/// Traffic that was sent over a path, lost packets included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PathStats {
    /// Packets sent.
    pub packets: usize,
    /// Their total size in bytes, without lower headers.
    pub bytes: usize,
}

/// Packets on their way over a [`Path`], on a virtual clock of milliseconds.
#[derive(Debug)]
pub struct SimulatedPath {
    path: Path,
    random: SplitMix64,
    /// Arrival times in milliseconds, and packets.
    in_flight: Vec<(u64, Vec<u8>)>,
    stats: PathStats,
}

impl SimulatedPath {
    /// Creates a path without packets.
    pub fn new(path: Path) -> Self {
        Self {
            path,
            random: SplitMix64::new(path.seed),
            in_flight: Vec::new(),
            stats: PathStats::default(),
        }
    }

    /// Sends a packet at `ms` milliseconds.
    pub fn send(&mut self, ms: u64, packet: Vec<u8>) {
        self.stats.bytes += packet.len();
        self.stats.packets += 1;
        let is_lost = match self.path.loss {
            Loss::Random(share) => self.random.uniform_f64() < share,
            Loss::Bursts { period, length } => {
                let period = period.as_millis().max(1) as u64;
                ms % period >= period.saturating_sub(length.as_millis() as u64)
            }
        };
        let jitter = self.random.uniform_f64() * self.path.jitter.as_millis() as f64;
        if !is_lost {
            let arrival = ms + self.path.latency.as_millis() as u64 + jitter as u64;
            self.in_flight.push((arrival, packet));
        }
    }

    /// Removes and returns the packets that have arrived by `ms` milliseconds, in order of
    /// arrival.
    pub fn arrived(&mut self, ms: u64) -> Vec<Vec<u8>> {
        let mut arrived: Vec<_> = self.in_flight.extract_if(.., |(at, _)| *at <= ms).collect();
        arrived.sort_by_key(|(at, _)| *at);
        arrived.into_iter().map(|(_, packet)| packet).collect()
    }

    /// Returns the traffic so far.
    pub fn stats(&self) -> PathStats {
        self.stats
    }
}
