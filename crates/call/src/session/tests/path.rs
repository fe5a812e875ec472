//! A path through the simulated network: its conditions, the handshake that sets up a link, and what
//! is on its way.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::session::{Input, LinkId};

/// Datagrams of a handshake, sent by the guest and the host in turn: two of ICE, six of DTLS, four
/// of SCTP.
pub(super) const STEPS: usize = 12;
const DTLS_STEPS: std::ops::Range<usize> = 2..8;
const SCTP_STEPS: std::ops::Range<usize> = 8..STEPS;

/// Properties of the network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions {
    /// Time from one end to the other, over the network as over the rendezvous service.
    pub(super) latency: Duration,
    /// A datagram takes up to this much longer.
    pub(super) jitter: Duration,
    /// Share of datagrams that are lost.
    pub(super) loss: f64,
    /// Share of datagrams that arrive twice.
    pub(super) duplicates: f64,
    /// Whether datagrams of a DTLS handshake are repeated until they are answered. Without, they
    /// are repeated once, as by rtc-dtls 0.21.
    pub(super) repeats_dtls: bool,
}

impl Conditions {
    pub(super) fn clean() -> Self {
        Self {
            latency: Duration::from_millis(20),
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicates: 0.0,
            repeats_dtls: true,
        }
    }

    /// Returns when step `step` of a handshake is sent again after `n` times, if at all.
    pub(super) fn repeat_interval(&self, step: usize, n: u32) -> Option<Duration> {
        let (intervals_ms, most) = if DTLS_STEPS.contains(&step) {
            let own: (&[u64], _) = (&[1000], 1);
            if self.repeats_dtls { (&[250, 500, 750, 1000][..], 20) } else { own }
        } else if SCTP_STEPS.contains(&step) {
            (&[1000, 2000, 4000, 8000][..], 8)
        } else {
            (&[200][..], 150)
        };
        let interval = intervals_ms[(n as usize).min(intervals_ms.len() - 1)];
        (n < most).then(|| Duration::from_millis(interval))
    }
}

/// An end of a link: peer and number.
pub(super) type LinkEnd = (usize, LinkId);

/// A path between two link ends.
#[derive(Debug)]
pub(super) struct Connection {
    /// Host and guest.
    pub(super) ends: [LinkEnd; 2],
    pub(super) is_alive: bool,
    /// Steps of the handshake that have arrived.
    pub(super) n_steps: usize,
    /// Control messages that wait for the network, in order.
    pub(super) held_back: VecDeque<(LinkEnd, Bytes)>,
    /// When the last control message of each direction arrives, so that order is kept.
    pub(super) last_control: [Instant; 2],
}

/// Something on its way.
#[derive(Debug)]
pub(super) enum Arrival {
    Input(usize, Input),
    /// A step of the handshake of a connection.
    Step(usize, usize),
    /// A step is sent again, for this time, unless it was answered.
    Repeat(usize, usize, u32),
}

impl Connection {
    pub(super) fn is_of(&self, peer: usize) -> bool {
        self.ends.iter().any(|(index, _)| *index == peer)
    }
}
