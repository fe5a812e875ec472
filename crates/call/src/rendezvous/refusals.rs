//! Why a service closes a connection, and the log of abuse.

use std::time::{Duration, Instant};

use super::address_group::AddressGroup;

/// Interval at which one kind of abuse is logged.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Why a service refuses a connection, or closes one that did not end by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// All sockets are in use.
    Full,
    /// The process has no descriptors left.
    Descriptors,
    /// The address has too many sockets.
    AddressSockets,
    /// The address opens sockets too often.
    AddressRate,
    /// Request and proof did not arrive in time.
    SlowStart,
    /// Not a request for a room, or not a message of the protocol.
    BadRequest,
    /// A client of protocol 1.
    OtherVersion,
    /// The client does not prove the key of the room, or the room is not served here.
    BadProof,
    /// Too many messages or bytes.
    Flood,
    /// The client takes no messages.
    SlowReceiver,
    /// The client has fallen silent.
    Silent,
}

impl Refusal {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 11] = [
        Self::Full,
        Self::Descriptors,
        Self::AddressSockets,
        Self::AddressRate,
        Self::SlowStart,
        Self::BadRequest,
        Self::OtherVersion,
        Self::BadProof,
        Self::Flood,
        Self::SlowReceiver,
        Self::Silent,
    ];

    /// Returns the name in metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Descriptors => "descriptors",
            Self::AddressSockets => "address_sockets",
            Self::AddressRate => "address_rate",
            Self::SlowStart => "slow_start",
            Self::BadRequest => "bad_request",
            Self::OtherVersion => "other_version",
            Self::BadProof => "bad_proof",
            Self::Flood => "flood",
            Self::SlowReceiver => "slow_receiver",
            Self::Silent => "silent",
        }
    }

    /// Returns what the log says, or nothing if honest clients cause this every day.
    fn complaint(self) -> Option<&'static str> {
        match self {
            Self::Full => Some("all sockets are in use"),
            Self::Descriptors => Some("no descriptors are left; raise `ulimit -n`"),
            Self::AddressSockets => Some("too many sockets from one address"),
            Self::AddressRate => Some("an address opens sockets too often"),
            Self::SlowStart => Some("request or proof not sent in time"),
            Self::BadRequest => Some("not a request or message of the protocol"),
            Self::BadProof => Some("the proof does not match the room"),
            Self::Flood => Some("too many messages or bytes"),
            Self::SlowReceiver => Some("messages not taken in time"),
            Self::OtherVersion | Self::Silent => None,
        }
    }
}

/// Decides which refusals are logged: of each kind one line a minute, which counts the others.
#[derive(Debug, Default)]
pub(super) struct AbuseLog([Kind; Refusal::ALL.len()]);

#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    logged: Option<Instant>,
    n_unlogged: u64,
}

impl AbuseLog {
    /// Notes a refusal and returns the line to log, if one is due. The line names the address, no
    /// room.
    pub(super) fn note(
        &mut self,
        refusal: Refusal,
        address: Option<AddressGroup>,
        now: Instant,
    ) -> Option<String> {
        let complaint = refusal.complaint()?;
        let kind = &mut self.0[refusal as usize];
        kind.n_unlogged += 1;
        let is_early = |at| now.saturating_duration_since(at) < LOG_INTERVAL;
        if kind.logged.is_some_and(is_early) {
            return None;
        }
        kind.logged = Some(now);
        let n = std::mem::take(&mut kind.n_unlogged);
        let last = address.map(|address| format!(", last from {address}")).unwrap_or_default();
        Some(format!("refused: {complaint} ({n} since the last such line{last})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_number_and_label() {
        for (number, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, number);
        }
        let mut labels = Refusal::ALL.map(Refusal::label);
        labels.sort_unstable();
        assert!(labels.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_flood_is_one_line_a_minute() {
        let start = Instant::now();
        let address = Some(AddressGroup::of([192, 0, 2, 1].into()));
        let mut log = AbuseLog::default();
        let mut lines = Vec::new();
        for i in 0..180_000 {
            lines.extend(log.note(Refusal::Flood, address, start + Duration::from_millis(i)));
        }
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[1].contains("60000 since") && lines[1].contains("192.0.2.1"), "{lines:?}");
        assert!(
            log.note(Refusal::Full, None, start).is_some(),
            "another kind has lines of its own"
        );
        assert_eq!(
            log.note(Refusal::Silent, address, start),
            None,
            "honest clients fall silent too"
        );
    }
}
