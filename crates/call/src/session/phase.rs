use std::time::Instant;

use transport::{CheckWords, ResumeToken};
use types::PeerName;

use super::io::LinkId;
use crate::description::MAX_CANDIDATES;

/// Phase of a call.
///
/// ```text
/// Meeting ── a guest is let in ──> Connected ── 5 s of silence, or a standstill ──> Lost
///    ▲                                 ▲                                             │
///    │                                 └── arrivals again, or let in over a new link ┤
///    └── a kept link: the guest left or vanished ────────────────────────────────────┘
///
/// Ended <── goodbye or failure of the peer or of this end (from any), 60 s (from Lost)
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Nobody is let in. Links may be under construction, or a guest knocks.
    Meeting,
    /// The link in use carries the call.
    Connected {
        /// When this phase began.
        since: Instant,
    },
    /// The peer fell silent, or this process stood still. The link in use is kept, because its
    /// network may come back, while others are made. Another guest may knock meanwhile.
    Lost {
        /// When the peer was last connected, without the time for which this process stood still.
        since: Instant,
    },
    /// Nothing happens any more.
    Ended,
}

/// The other end of an exchange of signals, or of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Party {
    /// The one that was let in, or has let us in.
    Peer,
    /// Somebody with the invite who has not shown to be the peer: a guest, or another host.
    Newcomer,
}

/// State of one link.
#[derive(Debug)]
pub(super) struct LinkState {
    pub(super) id: LinkId,
    /// Whose link it is. That over which somebody is let in becomes the peer's.
    pub(super) party: Party,
    /// Number of the connection attempt that made it, the same at both ends; none once the peer
    /// was replaced by another one.
    pub(super) attempt: Option<u8>,
    /// When it was begun.
    pub(super) began: Instant,
    /// The offer it was made from, or made; none while the host is still making it.
    pub(super) offer: Option<String>,
    /// The answer that the guest has made; none at the host.
    pub(super) answer: Option<String>,
    /// Whether the host has accepted an answer.
    pub(super) is_answered: bool,
    /// Candidates of the peer that are still accepted.
    pub(super) candidates_left: usize,
    /// Whether its channels are open.
    pub(super) is_open: bool,
    pub(super) hellos: Hellos,
    /// Whether the peer has said that it has a sound track.
    pub(super) has_sound: bool,
    /// When something authenticated last arrived over it, once both ends have greeted each other.
    pub(super) last_life: Instant,
    /// When anything but a hello was last sent over it.
    pub(super) last_sent: Instant,
    /// Words of both certificates, once both descriptions are known.
    pub(super) check_words: Option<CheckWords>,
    /// When the peer's last offer of a face file was answered, and how many were.
    pub(super) offer_answered: Option<Instant>,
    pub(super) n_offers: u32,
}

/// The exchange of hellos over one link.
#[derive(Debug, Default)]
pub(super) struct Hellos {
    /// When ours was last sent.
    pub(super) sent: Option<Instant>,
    /// When the peer's was last answered.
    pub(super) answered: Option<Instant>,
    /// Whether the peer's has arrived.
    pub(super) is_received: bool,
    /// Whether the peer has said that ours has arrived.
    pub(super) is_heard: bool,
    /// The peer's name; may be empty.
    pub(super) name: PeerName,
    /// The token with which a guest asks to be let in again.
    pub(super) token: Option<ResumeToken>,
}

impl LinkState {
    pub(super) fn new(
        id: LinkId,
        party: Party,
        attempt: u8,
        began: Instant,
        offer: Option<String>,
    ) -> Self {
        Self {
            id,
            party,
            attempt: Some(attempt),
            began,
            offer,
            answer: None,
            is_answered: false,
            candidates_left: MAX_CANDIDATES,
            is_open: false,
            hellos: Hellos::default(),
            has_sound: false,
            last_life: began,
            last_sent: began,
            check_words: None,
            offer_answered: None,
            n_offers: 0,
        }
    }
}
