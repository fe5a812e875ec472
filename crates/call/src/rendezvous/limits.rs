//! Limits that keep strangers from using a service up. Time is an argument.

use std::collections::HashMap;
use std::time::Instant;

use super::address_group::AddressGroup;
use super::refusals::Refusal;

/// Addresses that are remembered at one time. Further ones are refused.
const MAX_ADDRESSES: usize = 65_536;
/// New addresses after which those without sockets and with a full budget are forgotten.
const CLEANING_INTERVAL: usize = 1024;

/// How many sockets a service takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Sockets at one time.
    pub(super) max_sockets: usize,
    /// Sockets at one time from one address.
    pub(super) max_sockets_per_address: usize,
    /// Sockets that an address may open at once; after that, `sockets_per_second`.
    pub(super) socket_burst: f64,
    /// Sockets per second that an address may open for ever.
    pub(super) sockets_per_second: f64,
}

impl Limits {
    /// Returns the limits of a public service. Many people may share an address.
    pub(super) fn public(max_sockets: usize) -> Self {
        Self {
            max_sockets,
            max_sockets_per_address: 64,
            socket_burst: 64.0,
            sockets_per_second: 2.0,
        }
    }

    /// Returns the limits of a service inside a host: a fixed small number of sockets, so that the
    /// call never lacks descriptors.
    pub(super) fn embedded() -> Self {
        Self {
            max_sockets: 32,
            max_sockets_per_address: 8,
            socket_burst: 16.0,
            sockets_per_second: 1.0,
        }
    }
}

/// An amount that refills steadily: a token bucket.
#[derive(Debug)]
pub(super) struct Budget {
    left: f64,
    burst: f64,
    per_second: f64,
    updated: Instant,
}

impl Budget {
    /// Creates a full budget of `burst`, which refills by `per_second`.
    pub(super) fn new(burst: f64, per_second: f64, now: Instant) -> Self {
        Self { left: burst, burst, per_second, updated: now }
    }

    /// Spends `amount`, if that much is left.
    pub(super) fn spend(&mut self, amount: f64, now: Instant) -> bool {
        self.refill(now);
        let is_enough = self.left >= amount;
        if is_enough {
            self.left -= amount;
        }
        is_enough
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.updated).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.burst);
        self.updated = now;
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left >= self.burst
    }
}

/// Open sockets, counted by address.
#[derive(Debug)]
pub(super) struct SocketTable {
    limits: Limits,
    n_sockets: usize,
    addresses: HashMap<AddressGroup, AddressState>,
    n_new_addresses: usize,
}

#[derive(Debug)]
struct AddressState {
    n_sockets: usize,
    budget: Budget,
}

impl SocketTable {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, n_sockets: 0, addresses: HashMap::new(), n_new_addresses: 0 }
    }

    /// Returns the number of open sockets.
    pub(super) fn n_sockets(&self) -> usize {
        self.n_sockets
    }

    /// Counts a new socket, or refuses it.
    pub(super) fn open(&mut self, address: AddressGroup, now: Instant) -> Result<(), Refusal> {
        if self.n_sockets >= self.limits.max_sockets {
            return Err(Refusal::Full);
        }
        let limits = self.limits;
        if !self.addresses.contains_key(&address) {
            self.n_new_addresses += 1;
            if self.n_new_addresses >= CLEANING_INTERVAL || self.addresses.len() >= MAX_ADDRESSES {
                self.forget_idle_addresses(now);
            }
            if self.addresses.len() >= MAX_ADDRESSES {
                return Err(Refusal::Full);
            }
        }
        let state = self.addresses.entry(address).or_insert_with(|| AddressState {
            n_sockets: 0,
            budget: Budget::new(limits.socket_burst, limits.sockets_per_second, now),
        });
        if state.n_sockets >= limits.max_sockets_per_address {
            return Err(Refusal::AddressSockets);
        }
        if !state.budget.spend(1.0, now) {
            return Err(Refusal::AddressRate);
        }
        state.n_sockets += 1;
        self.n_sockets += 1;
        Ok(())
    }

    /// Counts a socket that has closed.
    pub(super) fn close(&mut self, address: AddressGroup) {
        if let Some(state) = self.addresses.get_mut(&address) {
            state.n_sockets -= 1;
            self.n_sockets -= 1;
        }
    }

    fn forget_idle_addresses(&mut self, now: Instant) {
        self.n_new_addresses = 0;
        self.addresses.retain(|_, state| state.n_sockets > 0 || !state.budget.is_full(now));
        self.addresses.shrink_to(2 * self.addresses.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn address(text: &str) -> AddressGroup {
        AddressGroup::of(text.parse().unwrap())
    }

    #[test]
    fn a_budget_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut budget = Budget::new(3.0, 2.0, start);
        for _ in 0..3 {
            assert!(budget.spend(1.0, start));
        }
        assert!(!budget.spend(1.0, start));
        assert!(!budget.spend(1.0, start + Duration::from_millis(400)));
        assert!(budget.spend(1.0, start + Duration::from_millis(600)));
        let later = start + Duration::from_hours(1);
        assert!(budget.spend(3.0, later) && !budget.spend(0.5, later), "no more than the burst");
    }

    #[test]
    fn an_address_has_its_share_and_harms_no_other() {
        let now = Instant::now();
        let mut table = SocketTable::new(Limits::public(1000));
        let (greedy, modest) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..64 {
            assert_eq!(table.open(greedy, now), Ok(()));
        }
        assert_eq!(table.open(greedy, now), Err(Refusal::AddressSockets));
        assert_eq!(table.open(modest, now), Ok(()));
        table.close(greedy);
        assert_eq!(
            table.open(greedy, now),
            Err(Refusal::AddressRate),
            "64 at once, then 2 a second"
        );
        assert_eq!(table.open(greedy, now + Duration::from_secs(1)), Ok(()));
        assert_eq!(table.n_sockets(), 65);
    }

    #[test]
    fn all_addresses_together_have_a_limit() {
        let now = Instant::now();
        let mut table = SocketTable::new(Limits::public(3));
        for last in 1..=3 {
            assert_eq!(table.open(address(&format!("192.0.2.{last}")), now), Ok(()));
        }
        assert_eq!(table.open(address("192.0.2.9"), now), Err(Refusal::Full));
        table.close(address("192.0.2.1"));
        assert_eq!(table.open(address("192.0.2.9"), now), Ok(()));
    }

    #[test]
    fn addresses_that_have_left_are_forgotten() {
        let start = Instant::now();
        let mut table = SocketTable::new(Limits::public(1000));
        for i in 0..200_000_u32 {
            let now = start + Duration::from_millis(u64::from(i));
            let address = AddressGroup::of(std::net::Ipv4Addr::from_bits(i).into());
            assert_eq!(table.open(address, now), Ok(()));
            table.close(address);
        }
        // Half a second passes until a budget is full again, and they are forgotten by the thousand.
        assert!(table.addresses.len() <= 2 * CLEANING_INTERVAL, "{}", table.addresses.len());
    }
}
