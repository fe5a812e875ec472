use std::time::Instant;

use super::io::LinkId;

/// Phase of a call.
///
/// ```text
/// Waiting ── offer made or received ──> Connecting ── hello ──> Connected
///                                                                │     ▲
///                                                          silence     hello, or data again
///                                                                ▼     │
/// Ended <── goodbye, failure, 20 s of silence (from any) ──      Lost
/// ```
#[derive(Debug)]
pub(super) enum Phase {
    /// There is no link yet.
    Waiting {
        /// When the guest last announced itself; none if nobody announces.
        announced: Option<Instant>,
    },
    /// The first link is being set up.
    Connecting(LinkState),
    /// The peer's hello has arrived and both channels are open.
    Connected(LinkState),
    /// The peer fell silent, or the link is being replaced.
    Lost {
        /// The silent link, or the one that is to replace it.
        link: LinkState,
        /// When the guest last announced itself, or the loss or the new link began.
        announced: Instant,
    },
    /// Nothing happens any more.
    Ended,
}

impl Phase {
    /// Returns the current link, if there is one.
    pub(super) fn link(&self) -> Option<&LinkState> {
        match self {
            Self::Connecting(link) | Self::Connected(link) | Self::Lost { link, .. } => Some(link),
            Self::Waiting { .. } | Self::Ended => None,
        }
    }

    /// Returns the current link, if there is one.
    pub(super) fn link_mut(&mut self) -> Option<&mut LinkState> {
        match self {
            Self::Connecting(link) | Self::Connected(link) | Self::Lost { link, .. } => Some(link),
            Self::Waiting { .. } | Self::Ended => None,
        }
    }

    /// Returns whether the peer has never been connected.
    pub(super) fn is_first_contact(&self) -> bool {
        matches!(self, Self::Waiting { .. } | Self::Connecting(_))
    }
}

/// State of one link.
#[derive(Debug)]
pub(super) struct LinkState {
    pub(super) id: LinkId,
    /// When it was begun, or answered.
    pub(super) since: Instant,
    /// The offer it was made from, or made; none while the host is still making it.
    pub(super) offer: Option<String>,
    /// Whether both descriptions were exchanged, so that a path can be found.
    pub(super) is_answered: bool,
    pub(super) features_open: bool,
    pub(super) control_open: bool,
    pub(super) hellos: Hellos,
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
}

impl LinkState {
    pub(super) fn new(id: LinkId, since: Instant, offer: Option<String>) -> Self {
        Self {
            id,
            since,
            is_answered: offer.is_some(),
            offer,
            features_open: false,
            control_open: false,
            hellos: Hellos::default(),
            offer_answered: None,
            n_offers: 0,
        }
    }

    /// Returns whether both channels are open.
    pub(super) fn is_open(&self) -> bool {
        self.features_open && self.control_open
    }

    /// Returns whether features, sound and control messages may be sent.
    pub(super) fn is_ready(&self) -> bool {
        self.is_open() && self.hellos.is_received
    }
}
